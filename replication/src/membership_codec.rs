//! A membership as the body of a log entry. FORMAT.md, section 3, leaves its layout to this file.
//!
//! All numbers little-endian: u16 number of configurations; for each u16 number of voters and their
//! ids, u64, ascending; u16 number of nodes; for each id u64, ascending, u16 length of its peer
//! address and the address in UTF-8. If an operator has chosen one of the nodes to lead, its id, u64.
//! Nothing follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Member, Membership, NodeId};

/// Most nodes in a membership, voters and learners together.
pub const NODES_MAX: usize = 64;
/// Most configurations: two while voters change, three for a change during a change, otherwise one.
pub const CONFIGS_MAX: usize = 4;
/// Longest peer address in bytes: a host name of 253, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 259;

/// Encodes.
///
/// # Panics
/// If a limit of this module is exceeded. The code that changes memberships checks them.
pub fn encode(membership: &Membership) -> Vec<u8> {
    let mut bytes = Vec::new();
    let configs = membership.get_joint_config();
    assert!(configs.len() <= CONFIGS_MAX, "{} configurations", configs.len());
    put_count(&mut bytes, configs.len());
    for voters in configs {
        assert!(voters.len() <= NODES_MAX, "{} voters", voters.len());
        put_count(&mut bytes, voters.len());
        bytes.extend(voters.iter().flat_map(|id| id.to_le_bytes()));
    }
    let nodes: Vec<(&NodeId, &Member)> = membership.nodes().collect();
    assert!(nodes.len() <= NODES_MAX, "{} nodes", nodes.len());
    put_count(&mut bytes, nodes.len());
    for (id, member) in nodes {
        let address = member.peer_address.as_bytes();
        assert!(address.len() <= ADDRESS_BYTES_MAX, "address of {} bytes", address.len());
        bytes.extend_from_slice(&id.to_le_bytes());
        put_count(&mut bytes, address.len());
        bytes.extend_from_slice(address);
    }
    let mut chosen = membership.nodes().filter(|(_, member)| member.is_chosen);
    bytes.extend(chosen.next().into_iter().flat_map(|(id, _)| id.to_le_bytes()));
    assert!(chosen.next().is_none(), "two nodes are chosen to lead");
    bytes
}

/// Decodes. `None` unless the bytes are exactly what [`encode`] makes of a membership.
pub fn decode(bytes: &[u8]) -> Option<Membership> {
    let mut rest = bytes;
    let mut configs = Vec::new();
    for _ in 0..count(&mut rest, CONFIGS_MAX)? {
        let voters = count(&mut rest, NODES_MAX)?;
        let voters = (0..voters).map(|_| id(&mut rest)).collect::<Option<BTreeSet<_>>>()?;
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..count(&mut rest, NODES_MAX)? {
        let id = id(&mut rest)?;
        let length = count(&mut rest, ADDRESS_BYTES_MAX)?;
        let (address, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let peer_address = std::str::from_utf8(address).ok()?.to_owned();
        nodes.insert(id, Member { peer_address, is_chosen: false });
    }
    if !rest.is_empty() {
        nodes.get_mut(&id(&mut rest)?)?.is_chosen = true;
    }
    let membership = if configs.is_empty() && nodes.is_empty() {
        Membership::default()
    } else {
        Membership::new(configs, nodes).ok()?
    };
    (encode(&membership) == bytes).then_some(membership)
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX); // limits are far below
    bytes.extend_from_slice(&count.to_le_bytes());
}

fn count(rest: &mut &[u8], max: usize) -> Option<usize> {
    let (count, behind) = rest.split_first_chunk()?;
    *rest = behind;
    let count = usize::from(u16::from_le_bytes(*count));
    (count <= max).then_some(count)
}

fn id(rest: &mut &[u8]) -> Option<NodeId> {
    let (id, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memberships() -> Vec<Membership> {
        let node = |id: u64| (id, Member::at(format!("10.0.0.{id}:7451")));
        let nodes: BTreeMap<_, _> = (1..=5).map(node).collect();
        let voters = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        vec![
            Membership::default(),
            Membership::new(vec![voters(&[1, 2, 3])], nodes.clone()).unwrap(),
            Membership::new(vec![voters(&[1, 2, 3]), voters(&[2, 3, 4])], nodes).unwrap(),
        ]
    }

    #[test]
    fn a_membership_comes_back_as_it_was() {
        for membership in memberships() {
            assert_eq!(decode(&encode(&membership)), Some(membership));
        }
    }

    #[test]
    fn the_node_that_an_operator_chose_comes_back_and_old_bytes_have_none() {
        let member = |id: u64, is_chosen| (id, Member { is_chosen, ..Member::at("10.0.0.9:7451") });
        let voters = BTreeSet::from([1, 2, 3]);
        let with = |chosen: u64| {
            let nodes = (1..=3).map(|id| member(id, id == chosen)).collect::<BTreeMap<_, _>>();
            Membership::new(vec![voters.clone()], nodes).unwrap()
        };
        let (chosen, nobody) = (encode(&with(2)), encode(&with(0)));
        assert_eq!(decode(&chosen), Some(with(2)));
        assert_eq!(decode(&nobody), Some(with(0)));
        assert_eq!(chosen[..nobody.len()], nobody, "it stands behind what was there before");
        assert_eq!(decode(&[&nobody[..], &4_u64.to_le_bytes()].concat()), None, "no such node");
        assert_eq!(decode(&[&chosen[..], &[0]].concat()), None);
        assert_eq!(decode(&chosen[..chosen.len() - 1]), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        for membership in memberships() {
            let bytes = encode(&membership);
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), None, "cut at {length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode(&longer), None);
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x80;
                // A flip is another membership or none, never the same one.
                assert_ne!(decode(&flipped), Some(membership.clone()), "flipped at {at}");
            }
        }
    }
}
