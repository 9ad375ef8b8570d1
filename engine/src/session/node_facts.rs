//! What the sessions of a shard know of their node. Lives on the shard's core; not `Send`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
use crate::trouble::Trouble;

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
    /// What is wrong in the groups, for each of `partitions`; empty until it was looked at.
    pub troubles: RefCell<BTreeMap<PartitionId, Vec<Trouble>>>,
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
        let refusals = Refusals { turned_away: state.turned_away.clone(), ..Refusals::default() };
        Self {
            state,
            partitions,
            dialers,
            cluster: RefCell::default(),
            troubles: RefCell::default(),
            connections: Cell::new(0),
            refusals: Rc::new(refusals),
        }
    }

    /// Place of a partition among those of this shard.
    pub fn place_of(&self, partition: PartitionId) -> Option<usize> {
        self.partitions.iter().position(|one| one.id().partition == partition)
    }

    /// The node that leads a partition as gossip has it, if that is another one.
    pub fn leader_but_this(&self, partition: PartitionId) -> Option<NodeId> {
        let leader = self.cluster.borrow().leader(partition).map(|(leader, _)| leader);
        leader.filter(|leader| *leader != self.state.superblock.node)
    }

    /// Where a node takes clients, as it has said itself to this one; empty if that is not known. Clients are
    /// sent nowhere else.
    pub fn client_address(&self, node: NodeId) -> String {
        if node == self.state.superblock.node {
            return self.state.client_address.clone();
        }
        self.state.acquaintances.client_address(node)
    }
}
