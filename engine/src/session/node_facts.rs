//! What the sessions of a shard know of their node. Lives on the shard's core; not `Send`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use walengine_net::model::PartitionId;
use walengine_replication::tcp::accept::Refusals;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::NodeId;

use crate::cluster_view::ClusterView;
use crate::node_state::NodeState;
use crate::partition::Partition;
use crate::partition::commit::Commit;

/// See the module.
pub struct NodeFacts<C: Commit> {
    /// What all shards share.
    pub state: Arc<NodeState>,
    /// This shard's partitions.
    pub partitions: Vec<Partition<C>>,
    /// Their connections to peers, in the same order; none on a node that serves alone.
    pub dialers: Vec<Dialer<C::Runtime>>,
    /// The cluster as it was last heard of.
    pub cluster: RefCell<Arc<ClusterView>>,
    /// Connections open on this shard.
    pub connections: Cell<usize>,
    /// What this shard has refused of peers.
    pub refusals: Rc<Refusals>,
}

impl<C: Commit> NodeFacts<C> {
    /// Of a shard with these partitions, without connections yet.
    pub fn new(
        state: Arc<NodeState>,
        partitions: Vec<Partition<C>>,
        dialers: Vec<Dialer<C::Runtime>>,
    ) -> Self {
        Self {
            state,
            partitions,
            dialers,
            cluster: RefCell::default(),
            connections: Cell::new(0),
            refusals: Rc::default(),
        }
    }

    /// Place of a partition among those of this shard.
    pub fn place_of(&self, partition: PartitionId) -> Option<usize> {
        self.partitions.iter().position(|one| one.id().partition == partition)
    }

    /// Where a node takes clients; empty if that is not known.
    pub fn client_address(&self, node: NodeId) -> String {
        self.cluster.borrow().client_address(node).to_owned()
    }
}
