//! The nodes of a simulated cluster: started, crashed, paused and started again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use openraft::AsyncRuntime;
use openraft::async_runtime::{Oneshot, OneshotSender};
use walengine::ledger::Ledger;
use walengine::raft_log::RaftLog;
use walengine::runtime::Runtime;
use walengine::shard::replicated::{GroupTiming, Replicated};
use walengine::shard::request::Identity;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine_net::model::PartitionId;
use walengine_replication::runtime::{LocalRuntime, within};
use walengine_replication::types::{Member, NodeId};

use super::net::SimNet;
use crate::partition::{DATA, config, dir};
use crate::sim::{Rng, SimDisk, SimRuntime};

/// A partition of a simulated node.
pub type SimPartition = Replicated<SimDisk, SimRuntime>;

/// Timing of simulated groups.
const TIMING: GroupTiming = GroupTiming { heartbeat_millis: 50, election_millis: (150, 300) };

/// A node that was started at least once.
struct Node {
    /// Of its newest life.
    runtime: SimRuntime,
    disk: SimDisk,
    partition: Option<SimPartition>,
}

/// All nodes of a cluster.
pub struct Cluster {
    root: SimRuntime,
    /// Between them.
    pub net: SimNet,
    rng: RefCell<Rng>,
    nodes: RefCell<BTreeMap<NodeId, Node>>,
}

impl Cluster {
    /// Nodes 1 to `nodes`, started, and made one group. `root` is no node's.
    ///
    /// # Panics
    /// If a node can't start on its healthy disk.
    pub async fn form(root: &SimRuntime, nodes: u64, seed: u64) -> Rc<Self> {
        let mut rng = Rng::new(seed);
        let net = SimNet::new(root, rng.next_u64());
        let nodes_empty = RefCell::default();
        let cluster = Self { root: root.clone(), net, rng: RefCell::new(rng), nodes: nodes_empty };
        for id in 1..=nodes {
            let runtime = root.node();
            let disk = SimDisk::new(&runtime, cluster.rng.borrow_mut().next_u64());
            disk.install_dir(Path::new(DATA));
            let node = Node { runtime, disk, partition: None };
            cluster.nodes.borrow_mut().insert(id, node);
            cluster.open(id).await;
        }
        let members: BTreeMap<NodeId, Member> =
            (1..=nodes).map(|id| (id, Member { peer_address: format!("node-{id}") })).collect();
        let first = cluster.partition(1).expect("it was just started");
        let runtime = cluster.nodes.borrow()[&1].runtime.clone();
        let formed = within(runtime, async move { first.raft().initialize(members).await });
        formed.await.expect("a new group");
        Rc::new(cluster)
    }

    /// Ids of all nodes.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.borrow().keys().copied().collect()
    }

    /// A node's partition, if the node is alive.
    pub fn partition(&self, id: NodeId) -> Option<SimPartition> {
        let nodes = self.nodes.borrow();
        let node = nodes.get(&id)?;
        if node.runtime.halted() { None } else { node.partition.clone() }
    }

    /// A node's executor.
    pub fn runtime(&self, id: NodeId) -> SimRuntime {
        self.nodes.borrow()[&id].runtime.clone()
    }

    /// The node loses power at the `nth` boundary of its disk's operations from now.
    pub fn crash_at(&self, id: NodeId, nth: u64) {
        self.nodes.borrow()[&id].disk.crash_at(nth);
    }

    /// The node goes on and loses power no more by itself.
    pub fn spare(&self, id: NodeId) {
        self.pause(id, false);
        self.nodes.borrow()[&id].disk.crash_never();
    }

    /// The node has lost power, or loses it now.
    pub fn crash(&self, id: NodeId) {
        let partition = {
            let mut nodes = self.nodes.borrow_mut();
            let Some(node) = nodes.get_mut(&id) else { return };
            node.runtime.halt();
            node.partition.take()
        };
        self.net.detach(id);
        drop(partition);
        self.root.bury();
    }

    /// The node stands still, or goes on.
    pub fn pause(&self, id: NodeId, paused: bool) {
        self.nodes.borrow()[&id].runtime.pause(paused);
    }

    /// The node is without power.
    pub fn is_down(&self, id: NodeId) -> bool {
        self.nodes.borrow()[&id].runtime.halted()
    }

    /// Starts a node that is down, on what its disk has kept.
    ///
    /// # Panics
    /// If it can't: what a crash leaves must always be good to start from.
    pub async fn restart(&self, id: NodeId) {
        self.crash(id);
        let seed = self.rng.borrow_mut().next_u64();
        {
            let mut nodes = self.nodes.borrow_mut();
            let node = nodes.get_mut(&id).expect("it was there");
            node.runtime = self.root.node();
            node.disk = node.disk.crash(&node.runtime, seed);
        }
        self.open(id).await;
    }

    async fn open(&self, id: NodeId) {
        let (runtime, disk) = {
            let nodes = self.nodes.borrow();
            (nodes[&id].runtime.clone(), nodes[&id].disk.clone())
        };
        let transport = self.net.transport(id);
        let (sender, opened) = <LocalRuntime as AsyncRuntime>::Oneshot::channel();
        let life = runtime.clone();
        let open = async move {
            let config = LogConfig { entries_on_blocks: true, ..config() };
            let log = Log::open(disk, life.clone(), dir(), config.clone(), Tail::default()).await;
            let log = log.unwrap_or_else(|error| panic!("node {id} can't open its log: {error}"));
            let log = RaftLog::new(id, log.log, &config, life.clone(), &Tail::default());
            let empty = Ledger::new(PartitionId(0), 1);
            let (cluster, partition) = (config.cluster, PartitionId(0));
            let identity = Identity { cluster, partition, node: id };
            let opened = Replicated::open(identity, log, empty, life, transport, TIMING).await;
            let partition = opened.unwrap_or_else(|why| panic!("node {id} can't start: {why}"));
            let _ = sender.send(partition);
        };
        runtime.spawn(within(runtime.clone(), open));
        let Ok(partition) = opened.await else { return }; // it lost power meanwhile
        self.net.attach(id, runtime, partition.clone());
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id) {
            node.partition = Some(partition);
        }
    }
}
