//! How far other members of a group are known to have had the log on their disks: entries that were
//! committed when they had them, which an honest disk never loses again. A member that has less was set
//! back to an older copy of its directory; counted for a majority, it could cost what was acknowledged.
//! Lives on the group's shard.
//!
//! Only what is committed counts: entries behind it may be removed from an honest member's log.
//!
//! Beside that it says which nodes have no memory for more of the log, and are sent none.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::local::Notify;
use crate::types::{LogId, NodeId};

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
    /// Nodes that were found with less, and with how much.
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

    /// The node lacks the entry behind so many, says an answer to the leader of `term`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_conflict(&self, node: NodeId, term: u64, found: u64) -> Result<(), String> {
        let acknowledged = self.inner.acknowledged.borrow().get(&node).copied();
        if let Some((_, entries)) = acknowledged.filter(|(of, had)| *of == term && *had > found) {
            self.note(node, entries);
        }
        self.check_entries(node, found)
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

    /// The end of a node's log, as it has told.
    ///
    /// # Errors
    /// It was set back, in words for both nodes.
    pub fn check(&self, node: NodeId, last: Option<LogId>) -> Result<(), String> {
        self.check_entries(node, last.map_or(0, |last| last.index + 1))
    }

    /// The node has no more than so many entries.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_entries(&self, node: NodeId, found: u64) -> Result<(), String> {
        let known = self.of(node);
        if found >= known {
            self.inner.set_back.borrow_mut().remove(&node); // the right directory is there again
            return Ok(());
        }
        let why = format!(
            "node {node} lacks entry {} of the log, and had {known} entries on its disk: it was set back \
             to an older copy of its data directory, or its disk has lost them",
            found + 1
        );
        if self.inner.set_back.borrow_mut().insert(node, found).is_none() {
            tracing::error!(
                "{why}; it is refused: stop it, empty its data directory, and start it again: it copies \
                 itself from the others"
            );
        }
        Err(why)
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

    /// A peer refuses this node since it was set back.
    pub fn told(&self, why: String) {
        self.inner.told.borrow_mut().get_or_insert(why);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_had_more_is_refused_and_one_that_has_as_much_is_not() {
        let reached = Reached::default();
        assert_eq!(reached.check(7, None), Ok(()), "nothing is known of it");
        reached.note(7, 10);
        reached.note(7, 4); // what was seen later of an earlier moment
        assert_eq!(reached.of(7), 10);
        assert_eq!(reached.check_entries(7, 10), Ok(()));
        let why = reached.check_entries(7, 9).unwrap_err();
        assert!(why.contains("node 7 lacks entry 10 of the log, and had 10 entries"), "{why}");
        assert!(reached.admits(7).is_err());
        assert_eq!(reached.check_entries(7, 12), Ok(()));
        assert_eq!(reached.admits(7), Ok(()), "the right directory is there again");
        reached.acknowledged(7, 3, 20);
        assert_eq!(
            reached.check_conflict(7, 4, 15),
            Ok(()),
            "another leader may have removed them"
        );
        assert!(reached.check_conflict(7, 3, 15).is_err(), "nobody else has led in this term");
        reached.hold(BTreeSet::from([8]));
        assert!(reached.takes_entries(8).is_err() && reached.admits(8).is_ok(), "signs of life");
        reached.hold(BTreeSet::new());
        assert_eq!(reached.takes_entries(8), Ok(()));
        reached.keep(|node| node != 7);
        assert_eq!(reached.check_entries(7, 0), Ok(()), "its id may come no more");
    }
}
