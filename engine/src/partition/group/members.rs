//! The members of a group at one point of its log, and its former members.

use std::collections::BTreeSet;

use walengine_replication::membership_codec;
use walengine_replication::types::{LogId, Membership, NodeId, StoredMembership};

use super::raft_log::log_id_of;
use crate::storage::layout::Tail;

/// See the module. Follows from the log alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The newest membership.
    pub stored: StoredMembership,
    /// Former members.
    pub removed: BTreeSet<NodeId>,
}

impl Members {
    /// The entry `log_id` is this membership.
    pub fn change(&mut self, log_id: LogId, membership: &Membership) {
        let before = self.stored.nodes().map(|(node, _)| *node);
        self.removed.extend(before);
        for (node, _) in membership.nodes() {
            self.removed.remove(node);
        }
        self.stored = StoredMembership::new(Some(log_id), membership.clone());
    }

    /// As bytes: FORMAT.md, section 6.
    pub fn encode(&self) -> Vec<u8> {
        let id = self.stored.log_id();
        let (term, index) = id.map_or((0, 0), |id| (id.leader_id.term, id.index + 1));
        let removed = self.removed.len() as u64;
        let mut bytes = [term, index, removed].map(u64::to_le_bytes).concat();
        bytes.extend(self.removed.iter().flat_map(|node| node.to_le_bytes()));
        bytes.extend(membership_codec::encode(self.stored.membership()));
        bytes
    }

    /// `None` unless the bytes are exactly what [`Self::encode`] makes of members.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut word = || {
            let (word, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(u64::from_le_bytes(*word))
        };
        let (term, index, removed) = (word()?, word()?, word()?);
        let removed = (0..removed).map(|_| word()).collect::<Option<BTreeSet<_>>>()?;
        let membership = membership_codec::decode(rest)?;
        let id = log_id_of(&Tail { index, term, ..Tail::default() });
        let members = Self { stored: StoredMembership::new(id, membership), removed };
        (members.encode() == bytes).then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use walengine_replication::types::Member;

    use super::*;

    fn membership(nodes: &[u64]) -> Membership {
        let member = |id: u64| (id, Member::at(format!("10.0.0.{id}:7550")));
        let all: BTreeMap<_, _> = nodes.iter().copied().map(member).collect();
        Membership::new(vec![nodes.iter().copied().collect()], all).unwrap()
    }

    fn id(index: u64) -> LogId {
        log_id_of(&Tail { index: index + 1, term: 3, ..Tail::default() }).unwrap()
    }

    #[test]
    fn who_left_is_remembered_until_it_is_back() {
        let mut members = Members::default();
        members.change(id(1), &membership(&[1, 2, 3]));
        members.change(id(5), &membership(&[2, 3, 4]));
        assert_eq!(members.removed, BTreeSet::from([1]));
        members.change(id(9), &membership(&[1, 2, 3]));
        assert_eq!(members.removed, BTreeSet::from([4]));
    }

    #[test]
    fn members_come_back_as_they_were_and_other_bytes_are_refused() {
        let mut members = Members::default();
        assert_eq!(Members::decode(&members.encode()), Some(members.clone()));
        members.change(id(1), &membership(&[1, 2, 3]));
        members.change(id(5), &membership(&[2, 3, 4]));
        let bytes = members.encode();
        assert_eq!(Members::decode(&bytes), Some(members.clone()));
        for length in 0..bytes.len() {
            assert_eq!(Members::decode(&bytes[..length]), None, "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            assert_ne!(Members::decode(&flipped), Some(members.clone()), "flipped at {at}");
        }
    }
}
