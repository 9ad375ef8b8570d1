//! How far other members of a group are known to have had the log on their disks: entries that were
//! committed when they had them, which an honest disk never loses again. A member that has less was set
//! back to an older copy of its directory; counted for a majority, it could cost what was acknowledged.
//! Lives on the group's shard.
//!
//! Only what is committed counts: entries behind it may be removed from an honest member's log.
//!
//! What a node says travels on several connections, and each of them may be held up: what arrives last need
//! not have been said last. So a node is condemned only by an answer to a question that was sent after it
//! had said that it has more. Anything else that names less is not counted, and the node is asked anew.
//!
//! Beside that it says which nodes have no memory for more of the log, and are sent none.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::local::Notify;
use crate::types::{LogId, NodeId};

/// A question to a node: how much of the log the node was known to have had when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    node: NodeId,
    had: u64,
}

/// See the module. Clones are the same.
#[derive(Clone, Default)]
pub struct Reached {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By node: so many entries. Never less.
    entries: RefCell<BTreeMap<NodeId, u64>>,
    /// By node: what it has acknowledged to this leader, and in which term. In that term nobody can have
    /// removed it.
    acknowledged: RefCell<BTreeMap<NodeId, (u64, u64)>>,
    /// Nodes whose answers have shown that they have less, and how much.
    set_back: RefCell<BTreeMap<NodeId, u64>>,
    /// Nodes that are sent no entries for now.
    held: RefCell<BTreeSet<NodeId>>,
    /// A peer has said that this node was set back.
    told: RefCell<Option<String>>,
    changed: Notify,
}

impl Reached {
    /// The node has had so many entries, all of them committed, on its disk.
    pub fn note(&self, node: NodeId, entries: u64) {
        let mut known = self.inner.entries.borrow_mut();
        let most = known.entry(node).or_default();
        *most = (*most).max(entries);
    }

    /// The node has acknowledged so many entries to this leader in `term`: they are on its disk.
    pub fn acknowledged(&self, node: NodeId, term: u64, entries: u64) {
        let mut all = self.inner.acknowledged.borrow_mut();
        let known = all.entry(node).or_default();
        *known = (*known).max((term, entries));
    }

    /// To be called before a question is sent to the node, or a stream of them is opened: its answers are
    /// checked with what this gives.
    pub fn asks(&self, node: NodeId) -> Asked {
        Asked { node, had: self.of(node) }
    }

    /// The node lacks the entry behind so many, says an answer to the leader of `term`. What it has
    /// acknowledged to this leader was heard before, since streams keep their order.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_conflict(&self, asked: Asked, term: u64, found: u64) -> Result<(), String> {
        let Asked { node, mut had } = asked;
        let acknowledged = self.inner.acknowledged.borrow().get(&node).copied();
        if let Some((_, entries)) = acknowledged.filter(|(of, had)| *of == term && *had > found) {
            self.note(node, entries);
            had = had.max(entries);
        }
        self.check_entries(Asked { node, had }, found)
    }

    /// So many entries the node is known to have had.
    pub fn of(&self, node: NodeId) -> u64 {
        self.inner.entries.borrow().get(&node).copied().unwrap_or(0)
    }

    /// All that is known.
    pub fn all(&self) -> BTreeMap<NodeId, u64> {
        self.inner.entries.borrow().clone()
    }

    /// Forgets nodes that are members no more.
    pub fn keep(&self, is_kept: impl Fn(NodeId) -> bool) {
        self.inner.entries.borrow_mut().retain(|&node, _| is_kept(node));
    }

    /// The end of the node's log, as an answer tells it.
    ///
    /// # Errors
    /// The answer does not count: the node was set back, in words for both nodes, or has said that it has
    /// more while the answer was under way.
    pub fn check(&self, asked: Asked, last: Option<LogId>) -> Result<(), String> {
        self.check_entries(asked, entries(last))
    }

    /// An answer has shown that the node has no more than so many entries.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_entries(&self, asked: Asked, found: u64) -> Result<(), String> {
        let Asked { node, had } = asked;
        if self.has_as_much(node, found) {
            return Ok(());
        }
        if found >= had {
            return Err(format!(
                "node {node} has said that it has {} entries, and an answer names {found}: which of both \
                 was said first is not known",
                self.of(node)
            ));
        }
        let why = self.lacks(node, found);
        if self.inner.set_back.borrow_mut().insert(node, found).is_none() {
            tracing::error!(
                "{why}; it is refused: stop it, empty its data directory, and start it again: it copies \
                 itself from the others"
            );
        }
        Err(why)
    }

    /// The end of the node's log, as a request of it tells it: `false` if the node is known to have had
    /// more. It may have sent the request before it had, so it has to be asked.
    ///
    /// # Errors
    /// An answer has shown already that the node was set back; in words for both nodes.
    pub fn check_request(&self, node: NodeId, last: Option<LogId>) -> Result<bool, String> {
        let found = entries(last);
        if self.has_as_much(node, found) {
            return Ok(true);
        }
        match self.admits(node) {
            Ok(()) => Ok(false),
            Err(_) => Err(self.lacks(node, found)),
        }
    }

    fn has_as_much(&self, node: NodeId, found: u64) -> bool {
        let has = found >= self.of(node);
        if has {
            self.inner.set_back.borrow_mut().remove(&node); // the right directory is there again
        }
        has
    }

    fn lacks(&self, node: NodeId, found: u64) -> String {
        let known = self.of(node);
        format!(
            "node {node} lacks entry {} of the log, and had {known} entries on its disk: it was set back \
             to an older copy of its data directory, or its disk has lost them",
            found + 1
        )
    }

    /// Nothing is sent to a node that was set back, not even a sign of life: so it stands for election,
    /// and is told.
    ///
    /// # Errors
    /// It was.
    pub fn admits(&self, node: NodeId) -> Result<(), String> {
        match self.inner.set_back.borrow().get(&node) {
            Some(_) => Err(format!("node {node} was set back to an older copy of its directory")),
            None => Ok(()),
        }
    }

    /// These nodes have no memory for more entries: they are sent signs of life only, so that they stay
    /// followers, and are not killed by their system with what they have.
    pub fn hold(&self, nodes: BTreeSet<NodeId>) {
        self.inner.held.replace(nodes);
    }

    /// Whether entries may be sent to a node.
    ///
    /// # Errors
    /// Why not.
    pub fn takes_entries(&self, node: NodeId) -> Result<(), String> {
        if self.inner.held.borrow().contains(&node) {
            return Err(format!("node {node} has nearly used up its memory"));
        }
        self.admits(node)
    }

    /// The peer `by` refuses this node since it was set back.
    pub fn told(&self, by: NodeId, why: &str) {
        let why = || format!("node {by} refuses this one: {why}");
        self.inner.told.borrow_mut().get_or_insert_with(why);
        self.inner.changed.notify_all();
    }

    /// Completes when a peer has said that this node was set back.
    pub async fn was_set_back(&self) -> String {
        loop {
            let changed = self.inner.changed.changed();
            if let Some(why) = self.inner.told.borrow().clone() {
                return why;
            }
            changed.await;
        }
    }
}

/// openraft counts entries from 0.
fn entries(last: Option<LogId>) -> u64 {
    last.map_or(0, |last| last.index.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId as _;

    use super::*;

    fn end(entries: u64) -> Option<LogId> {
        entries.checked_sub(1).map(|index| LogId::new(LeaderId::new(1, 1).to_committed(), index))
    }

    #[test]
    fn a_node_that_had_more_is_refused_and_one_that_has_as_much_is_not() {
        let reached = Reached::default();
        let check = |found| reached.check_entries(reached.asks(7), found);
        assert_eq!(reached.check(reached.asks(7), None), Ok(()), "nothing is known of it");
        reached.note(7, 10);
        reached.note(7, 4); // what was seen later of an earlier moment
        assert_eq!(reached.of(7), 10);
        assert_eq!(check(10), Ok(()));
        let why = check(9).unwrap_err();
        assert!(why.contains("node 7 lacks entry 10 of the log, and had 10 entries"), "{why}");
        assert!(reached.admits(7).is_err());
        assert_eq!(check(12), Ok(()));
        assert_eq!(reached.admits(7), Ok(()), "the right directory is there again");
        reached.acknowledged(7, 3, 20);
        assert_eq!(
            reached.check_conflict(reached.asks(7), 4, 15),
            Ok(()),
            "another leader may have removed them"
        );
        let conflict = reached.check_conflict(reached.asks(7), 3, 15);
        assert!(conflict.is_err(), "nobody else has led in this term");
        assert!(reached.admits(7).is_err());
        reached.hold(BTreeSet::from([8]));
        assert!(reached.takes_entries(8).is_err() && reached.admits(8).is_ok(), "signs of life");
        reached.hold(BTreeSet::new());
        assert_eq!(reached.takes_entries(8), Ok(()));
        reached.keep(|node| node != 7);
        assert_eq!(check(0), Ok(()), "its id may come no more");
    }

    /// The fault: a request for a vote that was held up for a second was held against what the node had said
    /// meanwhile on another connection, and a healthy node had to empty its directory.
    #[test]
    fn what_a_node_may_have_said_before_it_had_more_is_not_counted_and_does_not_condemn_it() {
        let reached = Reached::default();
        reached.note(7, 10);
        let asked = reached.asks(7);
        reached.note(7, 12); // while the question is under way
        assert_eq!(reached.check_request(7, end(11)), Ok(false), "it has to be asked");
        assert!(reached.check(asked, end(11)).is_err(), "not counted");
        assert!(reached.check_conflict(asked, 1, 10).is_err(), "not counted");
        assert_eq!(reached.admits(7), Ok(()), "nor condemned");
        assert!(reached.check(asked, end(9)).is_err(), "less than it had said when it was asked");
        assert!(reached.admits(7).is_err());
        reached.check_request(7, end(11)).unwrap_err();
        assert_eq!(reached.check_request(7, end(12)), Ok(true));
        assert_eq!(reached.admits(7), Ok(()));
        assert!(reached.check(reached.asks(7), end(11)).is_err());
        assert!(reached.admits(7).is_err(), "it was asked after it had said so");
    }
}
