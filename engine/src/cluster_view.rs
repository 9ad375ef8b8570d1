//! What this node knows of the others, as gossip tells it. Made by the control thread; every shard
//! has its own handle to the newest.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use walengine_net::message::NodeHealth;
use walengine_net::model::PartitionId;
use walengine_replication::gossip::{NodeStanding, NodeView};
use walengine_replication::types::NodeId;

/// The nodes of the cluster, this one included. Never changed: a newer one takes its place.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Ascending by id.
    pub nodes: Vec<NodeView>,
    /// Nodes whose id was lately used from two addresses.
    pub twins: Vec<Twin>,
    /// It was said that another node has this one's id. It stays so.
    pub is_id_claimed: bool,
    /// When this was so, on gossip's clock.
    pub at: Duration,
    /// The same moment on the machine's.
    pub taken: Instant,
}

/// A node whose id is used from two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Which.
    pub node: NodeId,
    /// Where it is known to be.
    pub known: SocketAddr,
    /// Where its id is used, too.
    pub claimed_by: SocketAddr,
}

impl Default for ClusterView {
    fn default() -> Self {
        let (nodes, twins) = (Vec::new(), Vec::new());
        Self { nodes, twins, is_id_claimed: false, at: Duration::ZERO, taken: Instant::now() }
    }
}

impl ClusterView {
    /// Now, on gossip's clock.
    pub fn now(&self) -> Duration {
        self.at + self.taken.elapsed()
    }

    /// A node by its id.
    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|view| view.node == node)
    }

    /// Another node than this is alive, and its disk takes writes as far as is known.
    pub fn has_fit_node_but(&self, but: NodeId) -> bool {
        self.nodes.iter().any(|view| {
            let is_fit = view.condition.is_none_or(|condition| condition.is_fit());
            view.node != but && view.standing == NodeStanding::Alive && is_fit
        })
    }

    /// The leader of a partition and its term, as gossip has it.
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, u64)> {
        let claim = |view: &NodeView| {
            let term = *view.meta.as_ref()?.led.get(&partition)?;
            Some((view.node, term))
        };
        let living = self.nodes.iter().filter(|view| health_of(view) != NodeHealth::Dead);
        living.filter_map(claim).max_by_key(|(_, term)| *term)
    }
}

/// How a node is, in the words that clients know.
pub fn health_of(view: &NodeView) -> NodeHealth {
    match view.standing {
        NodeStanding::Alive => NodeHealth::Alive,
        NodeStanding::Suspect => NodeHealth::Suspect,
        NodeStanding::Dead => NodeHealth::Dead,
        NodeStanding::Left => NodeHealth::Left,
    }
}
