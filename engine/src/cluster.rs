//! What this node knows of the others, as gossip tells it. Made by the control thread; every shard
//! has its own handle to the newest.

use std::net::SocketAddr;

use walengine_net::message::NodeHealth;
use walengine_net::model::PartitionId;
use walengine_replication::types::NodeId;

/// The nodes of the cluster, this one included. Never changed: a newer one takes its place.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// By id.
    pub nodes: Vec<ClusterNode>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    /// Its id.
    pub node: NodeId,
    /// How it is.
    pub health: NodeHealth,
    /// For how many seconds.
    pub since_seconds: u64,
    /// Where it takes clients; empty if not heard yet.
    pub client_address: String,
    /// Where it takes peers and gossip.
    pub peer_address: SocketAddr,
    /// Its cores.
    pub cores: u16,
    /// Name and version of its program.
    pub version: String,
    /// Bytes free for its data.
    pub free_bytes: u64,
    /// Partitions that it leads, with their terms.
    pub leads: Vec<(PartitionId, u64)>,
}

impl ClusterView {
    /// A node by its id.
    pub fn node(&self, node: NodeId) -> Option<&ClusterNode> {
        self.nodes.iter().find(|facts| facts.node == node)
    }

    /// Who leads a partition, and in which term, as gossip has it.
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, u64)> {
        let claims = self.nodes.iter().filter(|one| one.health != NodeHealth::Dead);
        let claims = claims.flat_map(|one| one.leads.iter().map(move |claim| (one.node, claim)));
        let of_partition = claims.filter(|(_, (led, _))| *led == partition);
        of_partition.map(|(node, (_, term))| (node, *term)).max_by_key(|(_, term)| *term)
    }
}
