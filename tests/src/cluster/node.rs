//! The nodes of a simulated cluster: starts, crashes, pauses and harms them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use openraft::async_runtime::{Oneshot, OneshotSender, WatchReceiver};
use openraft::{AsyncRuntime, Config};
use walengine::ids::MergeSizes;
use walengine::partition::group::raft_apply::RaftApply;
use walengine::partition::group::raft_log::{RaftLog, log_id_of};
use walengine::partition::group::{Group, GroupTiming, join, raft_config, reach};
use walengine::partition::replica::Replica;
use walengine::partition::replica_id::ReplicaId;
use walengine::partition::restore::Restored;
use walengine::runtime::Runtime;
use walengine::storage::error::ReadError;
use walengine::storage::ids::Ids;
use walengine::storage::layout::Tail;
use walengine::storage::log::{Log, LogConfig};
use walengine_net::model::{Offset, PartitionId};
use walengine_replication::runtime::{LocalRuntime, within};
use walengine_replication::types::{Member, NodeId};

use super::buggy_disk::BuggyDisk;
use super::bugs::{self, Bug};
use super::media::Media;
use super::net::{SimNet, SimTransport};
use super::snapshot;
use crate::checked_partition::{DATA, config, dir};
use crate::sim::{Effect, OpClass, Rng, SimDisk, SimRuntime};

/// A partition of a simulated node.
pub type SimPartition = Group<BuggyDisk, SimRuntime>;

/// Timing of simulated groups.
pub(super) const TIMING: GroupTiming =
    GroupTiming { heartbeat_millis: 50, election_millis: (150, 300) };

/// A node that was started at least once.
struct Node {
    /// Of its newest life.
    runtime: SimRuntime,
    disk: SimDisk,
    partition: Option<SimPartition>,
    /// How far its wall clock is ahead of the others', from its next start on.
    wall_ahead_nanos: i64,
    /// Its log was found damaged at a start: it stays out.
    out: bool,
}

/// A partition, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub partition: PartitionId,
    /// Of all.
    pub partitions: u16,
}

impl Place {
    /// There are no others.
    pub const ONLY: Self = Self { partition: PartitionId(0), partitions: 1 };

    /// Its log's settings.
    pub(super) fn config(self) -> LogConfig {
        let (config, partition) = (config(), self.partition);
        LogConfig { ids: Ids { partition, ..config.ids }, ..config }
    }
}

/// What is done with each partition of a node that is started.
pub type Opened = Box<dyn Fn(NodeId, &SimPartition)>;

/// All nodes of a cluster.
pub struct Cluster {
    root: SimRuntime,
    /// Which partition it is.
    pub place: Place,
    opened: Option<Opened>,
    /// Between them.
    pub net: SimNet,
    /// What the nodes' disks hold.
    pub media: Rc<RefCell<Media>>,
    /// The bug that its nodes and clients have, if any.
    pub bug: Option<Bug>,
    /// Starts from a snapshot.
    pub restored: Cell<u64>,
    /// The node that lies, if one does.
    pub liar: Cell<Option<NodeId>>,
    rng: RefCell<Rng>,
    nodes: RefCell<BTreeMap<NodeId, Node>>,
    /// Were started on an older copy of their disks, or are taken for such, and must stop by themselves.
    set_back: RefCell<BTreeSet<NodeId>>,
}

impl Cluster {
    /// Nodes 1 to `count`, started, and made one group. `root` is no node's.
    ///
    /// # Panics
    /// If a node can't start on its healthy disk.
    pub async fn form(root: &SimRuntime, count: u64, seed: u64, bug: Option<Bug>) -> Rc<Self> {
        Self::form_one_of(root, count, seed, bug, Place::ONLY, None).await
    }

    /// As [`Self::form`], as one of several partitions; `opened` is called with each node that is started.
    ///
    /// # Panics
    /// As [`Self::form`].
    pub async fn form_one_of(
        root: &SimRuntime,
        count: u64,
        seed: u64,
        bug: Option<Bug>,
        place: Place,
        opened: Option<Opened>,
    ) -> Rc<Self> {
        let mut rng = Rng::new(seed);
        let net = SimNet::new(root, rng.next_u64());
        let (root, media, rng) = (root.clone(), Rc::default(), RefCell::new(rng));
        let restored = Cell::default();
        let (nodes, set_back) = (RefCell::default(), RefCell::default());
        let liar = Cell::default();
        let cluster =
            Self { root, place, opened, net, media, bug, restored, liar, rng, nodes, set_back };
        for id in 1..=count {
            let runtime = cluster.root.node();
            let disk = SimDisk::new(&runtime, cluster.rng.borrow_mut().next_u64());
            disk.install_dir(Path::new(DATA));
            let node = Node { runtime, disk, partition: None, wall_ahead_nanos: 0, out: false };
            cluster.nodes.borrow_mut().insert(id, node);
            cluster.open(id).await;
        }
        let members: BTreeMap<NodeId, Member> =
            (1..=count).map(|id| (id, Member::at(format!("node-{id}")))).collect();
        let first = cluster.partition(1).expect("it was just started");
        let runtime = cluster.nodes.borrow()[&1].runtime.clone();
        let formed =
            within(runtime, async move { first.commit().raft().initialize(members).await });
        formed.await.expect("a new group");
        Rc::new(cluster)
    }

    /// Ids of all nodes.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.borrow().keys().copied().collect()
    }

    /// Ids of the nodes whose log was not found damaged.
    pub fn ids_in(&self) -> Vec<NodeId> {
        let nodes = self.nodes.borrow();
        nodes.iter().filter(|(_, node)| !node.out).map(|(id, _)| *id).collect()
    }

    /// Nodes that are a majority of all.
    pub fn quorum(&self) -> usize {
        self.nodes.borrow().len() / 2 + 1
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

    /// The node goes on, has room, and neither loses power nor meets errors any more by itself.
    pub fn spare(&self, id: NodeId) {
        self.pause(id, false);
        self.make_room(id);
        let disk = &self.nodes.borrow()[&id].disk;
        disk.crash_never();
        disk.plan_nothing();
    }

    /// One of the next operations of the node's disk fails; of a write, anything may have landed.
    pub fn fail(&self, id: NodeId, class: OpClass, nth: u64) {
        self.nodes.borrow()[&id].disk.plan(class, nth, Effect::Eio);
    }

    /// Operations of the node's disk take so many times as long.
    pub fn slow_down(&self, id: NodeId, times: u32) {
        self.nodes.borrow()[&id].disk.set_faults(|faults| faults.latency_times = times);
    }

    /// A node that leads, of those alive.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |id: &NodeId| {
            self.partition(*id).is_some_and(|one| one.with_replica(Replica::leads).is_some())
        };
        self.ids().into_iter().find(leads)
    }

    /// The node's disk takes only so many bytes more.
    pub fn fill(&self, id: NodeId, left_bytes: u64) {
        let disk = &self.nodes.borrow()[&id].disk;
        let bytes = disk.used_bytes() + left_bytes;
        disk.set_faults(|faults| faults.capacity_bytes = bytes);
    }

    /// The node's disk has room again, and the node is told.
    pub fn make_room(&self, id: NodeId) {
        self.nodes.borrow()[&id].disk.set_faults(|faults| faults.capacity_bytes = u64::MAX);
        if let Some(partition) = self.partition(id) {
            partition.log().prepare_again();
        }
    }

    /// Flips a bit in what the node's log knows to be durable and the cluster has committed.
    pub fn flip(&self, id: NodeId, rng: &mut Rng) -> bool {
        let disk = self.nodes.borrow()[&id].disk.clone();
        self.media.borrow_mut().flip(id, &disk, rng).is_some()
    }

    /// Flips a bit in the newest entry on the node's disk.
    pub fn flip_last(&self, id: NodeId, rng: &mut Rng) {
        let disk = self.nodes.borrow()[&id].disk.clone();
        self.media.borrow_mut().flip_last(id, &disk, rng);
    }

    /// Looks at what the nodes' disks hold.
    ///
    /// # Panics
    /// If it contradicts what was there before, or what others have.
    pub fn look_at_media(&self) {
        let mut media = self.media.borrow_mut();
        for (id, node) in &*self.nodes.borrow() {
            media.look(*id, &node.disk);
        }
    }

    /// A client was told of the record at `offset`.
    ///
    /// # Panics
    /// If it is not durable on a majority of the disks.
    pub fn assert_durable(&self, offset: Offset) {
        self.look_at_media();
        let (copies, quorum) = (self.media.borrow().copies(offset), self.quorum());
        assert!(copies >= quorum, "offset {offset} was acknowledged and is on {copies} disks only");
    }

    /// The node's disk or log has failed, so consensus must have stopped there.
    pub fn has_failed(&self, id: NodeId) -> bool {
        self.partition(id).is_some_and(|partition| {
            let metrics = partition.commit().raft().metrics();
            let failed = metrics.borrow_watched().running_state.is_err();
            failed || partition.log().stopped().is_some()
        })
    }

    /// Begins to write a snapshot of a node.
    pub fn snapshot(&self, id: NodeId) {
        let Some(partition) = self.partition(id) else { return };
        let bug = self.bug;
        let (runtime, disk) = {
            let nodes = self.nodes.borrow();
            (nodes[&id].runtime.clone(), nodes[&id].disk.clone())
        };
        let written = async move {
            // Without it the node starts from the one before.
            let _ = snapshot::write(&partition, BuggyDisk::new(disk, bug)).await;
        };
        runtime.spawn(within(runtime.clone(), written));
    }

    /// The node's wall clock is wrong from its next start on.
    pub fn set_wall(&self, id: NodeId, ahead_nanos: i64) {
        self.nodes.borrow_mut().get_mut(&id).expect("it was there").wall_ahead_nanos = ahead_nanos;
    }

    /// Each living node hears the clocks of all, as gossip tells them.
    pub fn tell_clocks(&self) {
        let clocks = self.ids().into_iter().map(|id| (id, self.runtime(id).now().0.cast_signed()));
        let clocks: Vec<_> = clocks.filter(|(id, _)| !self.is_down(*id)).collect();
        for (id, own) in &clocks {
            if let Some(partition) = self.partition(*id) {
                let ahead: Vec<_> = clocks.iter().map(|(_, clock)| clock - own).collect();
                partition.hear_clocks(self.nodes.borrow().len(), &ahead);
            }
        }
    }

    /// The node that leads gives leadership to this one.
    pub fn hand_over(&self, to: NodeId) {
        let Some(from) = self.leader().filter(|from| *from != to) else { return };
        let (partition, runtime) = (self.partition(from).expect("it leads"), self.runtime(from));
        let handing = async move {
            partition.hand_over(Some(to)).await; // or another time
        };
        runtime.spawn(within(runtime.clone(), handing));
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

    /// Starts a node again, on what its disk has kept. If the test has damaged its log behind the
    /// snapshot that it starts from, it must say so, and stays out.
    ///
    /// # Panics
    /// If it can't start: what a crash leaves must always be good to start from. Or if it can,
    /// although it must not.
    pub async fn restart(&self, id: NodeId) {
        if self.nodes.borrow()[&id].out {
            return;
        }
        self.crash(id);
        let seed = self.rng.borrow_mut().next_u64();
        {
            let mut nodes = self.nodes.borrow_mut();
            let node = nodes.get_mut(&id).expect("it was there");
            node.runtime = self.root.node();
            node.runtime.set_own_wall(node.wall_ahead_nanos);
            node.disk = node.disk.crash(&node.runtime, seed);
        }
        self.open(id).await;
    }

    /// What the node's disk holds now, after a power loss.
    pub fn copy_of(&self, id: NodeId) -> SimDisk {
        self.crash(id);
        let seed = self.rng.borrow_mut().next_u64();
        let nodes = self.nodes.borrow();
        let kept = nodes[&id].disk.crash(&self.root.node(), seed);
        kept.copy(&self.root.node())
    }

    /// Starts a node on an older copy of its disk.
    pub async fn set_back(&self, id: NodeId, copy: &SimDisk) {
        self.crash(id);
        self.may_stop(id);
        self.media.borrow_mut().forget(id);
        {
            let mut nodes = self.nodes.borrow_mut();
            let node = nodes.get_mut(&id).expect("it was there");
            node.runtime = self.root.node();
            node.disk = copy.copy(&node.runtime);
        }
        self.open(id).await;
    }

    /// The node has to be taken for one that was set back.
    pub fn may_stop(&self, id: NodeId) {
        self.set_back.borrow_mut().insert(id);
    }

    /// The node was started on an older copy of its disk: what holds for all others does not for it.
    pub fn is_set_back(&self, id: NodeId) -> bool {
        self.set_back.borrow().contains(&id)
    }

    /// Checks that the node serves none of the entries that the test has damaged, and takes it out.
    ///
    /// # Panics
    /// If it does.
    pub async fn retire(&self, id: NodeId) {
        let Some(partition) = self.partition(id) else { return self.take_out(id) };
        let rotten = self.media.borrow().rotten(id);
        let runtime = self.runtime(id);
        let (sender, given) = <LocalRuntime as AsyncRuntime>::Oneshot::channel();
        let asked = async move {
            let log = partition.log();
            for index in rotten {
                let read = log.read(index, 1).await;
                let refused = matches!(read, Err(ReadError::Corrupt { .. }));
                assert!(refused, "node {id} gives out its damaged entry {index}");
            }
            let _ = sender.send(());
        };
        runtime.spawn(within(runtime.clone(), asked));
        given.await.expect("it has power");
        self.take_out(id);
    }

    /// The node stays out from now on.
    pub fn take_out(&self, id: NodeId) {
        self.crash(id);
        self.nodes.borrow_mut().get_mut(&id).expect("it was there").out = true;
    }

    async fn open(&self, id: NodeId) {
        let (runtime, disk) = {
            let nodes = self.nodes.borrow();
            (nodes[&id].runtime.clone(), nodes[&id].disk.clone())
        };
        let (transport, place) = (self.net.transport(id), self.place);
        let (sender, opened) = <LocalRuntime as AsyncRuntime>::Oneshot::channel();
        if self.bug == Some(Bug::MidLogCut) {
            bugs::cut_at_first_bad_entry(&disk);
        }
        let (life, disk) = (runtime.clone(), BuggyDisk::new(disk, self.bug));
        let restores_leader = self.bug == Some(Bug::LeaderRestore);
        let raft = Config { enable_leader_restore: Some(restores_leader), ..raft_config(TIMING) };
        let open = async move {
            let _ = sender.send(start(id, place, life, disk, transport, raft).await);
        };
        runtime.spawn(within(runtime.clone(), open));
        let Ok(opened) = opened.await else { return }; // it lost power meanwhile
        let rotten = self.media.borrow().rotten(id);
        let partition = match opened {
            Ok((partition, from)) => {
                self.restored.set(self.restored.get() + u64::from(from.index > 0));
                let found = rotten.iter().all(|index| *index <= from.index);
                assert!(
                    found,
                    "node {id} starts from {} on a log damaged at {rotten:?}",
                    from.index
                );
                partition
            }
            Err(why) => {
                let named = why.contains("the log is damaged in ");
                assert!(named && !rotten.is_empty(), "node {id} can't start: {why}");
                return self.take_out(id);
            }
        };
        self.net.attach(id, runtime, partition.clone());
        if let Some(opened) = &self.opened {
            opened(id, &partition);
        }
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id) {
            node.partition = Some(partition);
        }
    }
}

/// Nodes and net hold each other: without this, each simulation would keep all its disks in memory.
impl Drop for Cluster {
    fn drop(&mut self) {
        self.ids().into_iter().for_each(|id| self.net.detach(id));
    }
}

/// Keys that a node keeps in memory: few, so that most are looked up on disk.
const RECENT_KEYS_MAX: usize = 200;
/// So small that they are merged often.
const MERGE_SIZES: MergeSizes = MergeSizes { group_runs: 3, small_entries: 150 };

/// The partition, and where in the log it started from; or in words why it can't start.
async fn start(
    id: NodeId,
    place: Place,
    runtime: SimRuntime,
    disk: BuggyDisk,
    transport: SimTransport,
    raft: Config,
) -> Result<(SimPartition, Tail), String> {
    let Restored { ledger, runs, from, members, .. } =
        snapshot::newest(id, place, disk.clone()).await?;
    let config = LogConfig { entries_on_blocks: true, ..place.config() };
    let log = Log::open(disk, runtime.clone(), dir(), config.clone(), from).await;
    let log = log.map_err(|error| error.to_string())?.log;
    let log = RaftLog::new(id, log, &config, runtime.clone(), &Tail::default());
    log.recall_committed(&from).await.map_err(|error| error.to_string())?;
    let replica = Rc::new(RefCell::new(Replica::new(ledger)));
    let apply = RaftApply::restored(replica, log_id_of(&from), members);
    let Ids { cluster, partition } = config.ids;
    let replica_id = ReplicaId { cluster, partition, node: id };
    let partition = join(replica_id, log, apply, runs, runtime, transport, raft).await?;
    partition.older_ids().set_recent_max(RECENT_KEYS_MAX);
    partition.runs().set_merge_sizes(MERGE_SIZES);
    reach::begin(&partition);
    Ok((partition, from))
}
