//! What the threads of a node tell each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::gossip::{Founding, GossipKeys, NodeView};
use walengine_replication::types::{Member, NodeId};

use crate::cluster_view::ClusterView;
use crate::fatal::Fatal;
use crate::node_state::NodeState;

/// What the control thread is told, by the main thread and by shards.
#[derive(Debug)]
pub enum ControlOrder {
    /// The shards run: tell them of the cluster, and the cluster of them.
    Serve(Arc<NodeState>, Vec<flume::Sender<ShardOrder>>),
    /// A shard leads these of its partitions, with their terms.
    Leads(usize, Vec<(PartitionId, u64)>),
    /// A group has this member, at this peer address.
    Introduce(NodeId, SocketAddr),
    /// Tell which nodes are known.
    TellNodes(flume::Sender<Vec<NodeView>>),
    /// Gossip is sealed with other keys from now on.
    Keys(GossipKeys),
    /// Tell the cluster that this node leaves, and end.
    Leave,
    /// End.
    Stop,
}

/// What the control thread tells the main thread while there is no cluster yet.
#[derive(Debug)]
pub enum ClusterEvent {
    /// A new cluster was formed, with this node in it.
    Formed(Founding),
    /// This node belongs to this cluster of so many partitions from now on, beside these nodes.
    Joined(ClusterId, u16, Vec<NodeView>),
    /// Gossip can't go on.
    Failed(Fatal),
}

/// What the main thread and the control thread tell a shard.
#[derive(Clone, Debug)]
pub enum ShardOrder {
    /// Every shard has its partitions: take connections.
    Serve,
    /// The cluster looks different.
    Cluster(Arc<ClusterView>),
    /// Finish what is in flight and end.
    Stop,
}

/// What a node that has just come into its cluster begins its groups with. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The voters of a new cluster's groups; empty if others see to that.
    pub founders: Arc<BTreeMap<NodeId, Member>>,
    /// Nodes of a cluster that was there before, whose logs are copied; there may be more.
    pub sources: Arc<Vec<NodeView>>,
}
