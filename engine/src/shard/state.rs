//! What the tasks of a shard share. Lives on the shard's core; not `Send`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use walengine_replication::budget::Budget;

use super::handed::HandedConnection;
use super::host::Hosted;
use super::operators::Operators;
use super::publisher::Publisher;
use crate::connection::timing::LiveConnections;
use crate::fatal::Fatal;
use crate::orders::ControlOrder;
use crate::runtime_glommio::GlommioRuntime;
use crate::session::Scratch;
use crate::session::node_facts::NodeFacts;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::snapshot::SnapshotStore;

/// See the module.
pub(super) struct Shard<C: Hosted> {
    pub node: Rc<NodeFacts<C>>,
    /// Snapshots of the partitions, in the order of `node.partitions`.
    pub stores: Vec<SnapshotStore<GlommioDisk>>,
    /// What tells the feed of them, in the same order.
    pub publishers: Vec<Rc<Publisher<C>>>,
    pub others: Vec<flume::Sender<HandedConnection>>,
    pub control: Option<flume::Sender<ControlOrder>>,
    pub number: usize,
    /// To the main thread: why the process must end.
    pub report: flume::Sender<Result<(), Fatal>>,
    pub scratch: Rc<RefCell<Scratch>>,
    pub runtime: GlommioRuntime,
    pub live: RefCell<LiveConnections>,
    /// What the clients' connections may hold.
    pub budget: Budget,
    /// What the peers' may.
    pub peers_budget: Budget,
    /// Open connections of peers.
    pub peers: Rc<Cell<usize>>,
    /// Places beyond the limit of connections.
    pub operators: Operators,
    /// This shard's share of [`crate::node_state::NodeState::groups_kept`].
    pub groups_kept: Cell<usize>,
}
