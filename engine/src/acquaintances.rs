//! What the other nodes of the cluster have said of themselves on connections that this node has dialled to
//! them. What gossip says of nodes is only a reason to ask: what costs a vote, moves an address or sends a
//! client elsewhere is decided by this. Filled by one shard (`shard/asking.rs`), read by all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use walengine_net::model::Timestamp;
use walengine_replication::gossip::NodeCondition;
use walengine_replication::membership::Confirmed;
use walengine_replication::peer::About;
use walengine_replication::types::NodeId;

/// See the module.
#[derive(Debug, Default)]
pub struct Acquaintances(Mutex<BTreeMap<NodeId, Acquaintance>>);

/// A node that has answered.
#[derive(Clone, Debug)]
struct Acquaintance {
    confirmed: Confirmed,
    /// Where it takes clients. `None`: its version is too old to say anything, of its condition neither.
    client_address: Option<String>,
    at: Instant,
}

impl Acquaintances {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Acquaintance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has greeted under its id at this address, and has said this. `now` was this node's clock when it
    /// did.
    pub fn note(&self, node: NodeId, address: SocketAddr, about: Option<About>, now: Timestamp) {
        let condition =
            about.as_ref().map(|it| it.condition.seen(now, Duration::ZERO, Duration::ZERO));
        let condition = condition.unwrap_or_default();
        let is_leaving = about.as_ref().is_some_and(|about| about.is_leaving);
        let confirmed = Confirmed { address, is_leaving, condition };
        let client_address = about.map(|about| about.client_address);
        let answered = Acquaintance { confirmed, client_address, at: Instant::now() };
        self.nodes().insert(node, answered);
    }

    /// Forgets the nodes that nobody speaks of any more.
    pub fn keep(&self, is_known: impl Fn(NodeId) -> bool) {
        self.nodes().retain(|node, _| is_known(*node));
    }

    /// Where a node greeted under its id.
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.nodes().get(&node).map(|it| it.confirmed.address)
    }

    /// Where a node takes clients; empty if it has not said so.
    pub fn client_address(&self, node: NodeId) -> String {
        let nodes = self.nodes();
        let address = nodes.get(&node).and_then(|it| it.client_address.clone());
        address.unwrap_or_default()
    }

    /// How a node is, if it has said so within this time.
    pub fn condition(&self, node: NodeId, within: Duration) -> Option<NodeCondition> {
        let nodes = self.nodes();
        let answered = nodes.get(&node).filter(|it| it.at.elapsed() <= within)?;
        answered.client_address.as_ref().map(|_| answered.confirmed.condition)
    }

    /// The node has answered since this one was started.
    pub fn has_answered(&self, node: NodeId) -> bool {
        self.nodes().contains_key(&node)
    }

    /// The node has answered within this time.
    pub fn answers(&self, node: NodeId, within: Duration) -> bool {
        self.nodes().get(&node).is_some_and(|it| it.at.elapsed() <= within)
    }

    /// The node has said that it leaves, and nothing else since.
    pub fn leaves(&self, node: NodeId) -> bool {
        self.nodes().get(&node).is_some_and(|it| it.confirmed.is_leaving)
    }

    /// What every node has said last.
    pub fn confirmed(&self) -> BTreeMap<NodeId, Confirmed> {
        self.nodes().iter().map(|(node, it)| (*node, it.confirmed.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use walengine_replication::gossip::OwnCondition;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn what_a_node_has_said_last_counts_and_what_it_did_not_say_is_not_known() {
        let (known, at) = (Acquaintances::default(), "10.0.0.2:7451".parse().unwrap());
        assert_eq!(known.client_address(2), "");
        assert!(!known.answers(2, LONG) && !known.leaves(2));
        let clock = Timestamp(7_000_000_000);
        let condition = OwnCondition { is_full: true, clock, ..OwnCondition::default() };
        let client_address = "db2:7450".to_owned();
        let about = About { is_leaving: true, condition, client_address };
        known.note(2, at, Some(about.clone()), Timestamp(5_000_000_000));
        assert!(known.answers(2, LONG) && known.leaves(2) && known.address(2) == Some(at));
        assert!(!known.answers(2, Duration::ZERO) && known.condition(2, Duration::ZERO).is_none());
        assert_eq!(known.client_address(2), "db2:7450");
        let condition = known.condition(2, LONG).unwrap();
        assert!(condition.is_full && condition.clock_ahead_nanos == 2_000_000_000);
        // It has started again.
        known.note(2, at, Some(About { is_leaving: false, ..about }), clock);
        assert!(!known.leaves(2));
        known.note(3, at, None, clock);
        assert!(known.answers(3, LONG) && known.client_address(3).is_empty());
        assert_eq!(known.condition(3, LONG), None, "an earlier version");
        known.keep(|node| node == 3);
        assert_eq!(known.confirmed().into_keys().collect::<Vec<_>>(), [3]);
    }
}
