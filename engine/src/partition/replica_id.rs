//! Which replica of which partition this is.

use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::types::NodeId;

/// Which replica this is. Fixed for the life of its data directory.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaId {
    /// The cluster.
    pub cluster: ClusterId,
    /// The partition.
    pub partition: PartitionId,
    /// This node.
    pub node: NodeId,
}
