//! A shard: one core, one executor, the partitions that live there and their connections.
//!
//! Shards share nothing. What crosses between them is a connection, once, on its way to the
//! partition that its first frame names.

pub mod admin;
mod compare;
pub mod connection;
mod copying;
pub mod drafts;
mod group_snapshot;
pub mod groups;
pub mod manage;
pub mod members;
pub mod opening;
pub mod outbox;
pub mod partition;
mod proposals;
pub mod reader;
pub mod reads;
pub mod replica;
pub mod replicated;
pub mod request;
pub mod served;
pub mod session;
pub mod snapshots;
pub mod status;
pub mod waiters;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use glommio::net::{AcceptedTcpStream, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use walengine_net::model::PartitionId;
use walengine_replication::gossip::NodeView;
use walengine_replication::membership::Policy;
use walengine_replication::received::Received;
use walengine_replication::runtime::within;
use walengine_replication::types::{Member, NodeId};

use crate::config::Config;
use crate::control::Order;
use crate::control::view::ClusterView;
use crate::fatal::{Fatal, Reason};
use crate::feed::published::Way;
use crate::feed::publisher::Publisher;
use crate::limits::{EXPIRE_EVERY, FRAME_WITHIN, LINGER, LOOK_EVERY};
use crate::node::Shared;
use crate::os;
use crate::runtime::Runtime;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::snapshot::SnapshotStore;
use connection::{Live, Stream, Timing};
use outbox::Outbox;
use served::Served;
use session::{Scratch, Session};
use status::NodeFacts;

pub use opening::open_failed;

/// Memory that an executor registers with the kernel; counts against memlock.
pub const IO_MEMORY_BYTES: usize = 256 << 10;
/// Depth of an executor's rings.
const RING_DEPTH: usize = 256;

type LocalPartition = partition::Partition<GlommioDisk, GlommioRuntime>;
type LocalPublisher = Publisher<GlommioDisk, GlommioRuntime>;
type LocalStore = SnapshotStore<GlommioDisk>;
type LocalNode = NodeFacts<GlommioDisk, GlommioRuntime>;

/// A connection on its way to the shard that owns its partition.
pub struct Handed {
    stream: AcceptedTcpStream,
    received: Vec<u8>,
    partition: PartitionId,
    port: Port,
}

/// Which port a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Clients,
    Peers,
}

/// What the control thread tells a shard.
#[derive(Clone, Debug)]
pub enum Command {
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

/// What a shard starts with.
pub struct ShardStart {
    /// Its number, which is its core too.
    pub shard: usize,
    /// Facts of the node.
    pub shared: Arc<Shared>,
    /// The socket that all shards accept clients from.
    pub listener: TcpListener,
    /// The socket that all shards accept peers from, in a cluster.
    pub peer_listener: Option<TcpListener>,
    /// What new groups begin with.
    pub beginning: Beginning,
    /// To the control thread of a node in a cluster.
    pub control: Option<flume::Sender<Order>>,
    /// To the feed, for each partition by number.
    pub feed: Vec<Way>,
    /// Connections from other shards.
    pub handed: flume::Receiver<Handed>,
    /// Ways to all shards, by number.
    pub others: Vec<flume::Sender<Handed>>,
    /// From the control thread.
    pub commands: flume::Receiver<Command>,
    /// To the control thread: ready, or why not.
    pub report: flume::Sender<Result<(), Fatal>>,
}

/// A running shard.
pub struct ShardThread {
    handle: std::thread::JoinHandle<Result<(), Fatal>>,
}

impl ShardThread {
    /// Waits for its end.
    pub fn join(self) -> Result<(), Fatal> {
        self.handle.join().unwrap_or_else(|_| {
            Err(Fatal::new(Reason::Disk, "a shard panicked; its message is above"))
        })
    }
}

/// Starts a shard on its core.
pub fn spawn(start: ShardStart) -> Result<ShardThread, Fatal> {
    let name = format!("shard-{}", start.shard);
    let handle = std::thread::Builder::new().name(name).spawn(move || run_thread(start));
    handle
        .map(|handle| ShardThread { handle })
        .map_err(|error| Fatal::new(Reason::Preflight, format!("cannot start a thread: {error}")))
}

fn run_thread(start: ShardStart) -> Result<(), Fatal> {
    let core = start.shared.config.first_core + start.shard;
    let report = start.report.clone();
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("shard-{}", start.shard))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spin_before_park(Duration::from_micros(start.shared.config.spin_micros))
        .make();
    let result = match executor {
        Ok(executor) => executor.run(within(GlommioRuntime::new(), run(start))),
        Err(error) => {
            let message = format!(
                "cannot start an io_uring executor on core {core} ({error}); if the core is not \
                 this process's to use, lower --cores"
            );
            Err(Fatal::new(Reason::Preflight, message))
        }
    };
    if let Err(fatal) = &result {
        // The control thread may be past listening; it gets the same from the join.
        let _ = report.send(Err(Fatal::new(fatal.reason, fatal.message.clone())));
    }
    result
}

/// What the tasks of a shard share.
struct Shard {
    node: Rc<LocalNode>,
    groups: Vec<groups::Joined>,
    others: Vec<flume::Sender<Handed>>,
    control: Option<flume::Sender<Order>>,
    number: usize,
    scratch: Rc<RefCell<Scratch>>,
    runtime: GlommioRuntime,
    live: RefCell<Live>,
    /// For each of the partitions.
    publishers: Vec<Rc<LocalPublisher>>,
    /// Groups here that will go on with this node, at the last look.
    named: Cell<usize>,
}

async fn run(mut start: ShardStart) -> Result<(), Fatal> {
    let runtime = GlommioRuntime::new();
    let (mut partitions, mut stores, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let served = if start.shared.superblock.replicated {
        groups = groups::open(&start, runtime).await?;
        groups.iter().map(|joined| Served::Group(joined.group.clone())).collect()
    } else {
        (partitions, stores) = open_partitions(&start, &runtime).await?;
        partitions.iter().cloned().map(Served::Alone).collect()
    };
    let node = NodeFacts {
        shared: start.shared.clone(),
        partitions: served,
        dialers: groups.iter().map(|joined| joined.dialer.clone()).collect(),
        cluster: RefCell::default(),
        connections: Cell::new(0),
        refusals: Rc::default(),
    };
    let publishers = publishers(&node.partitions, &start.feed, &runtime);
    let shard = Rc::new(Shard {
        node: Rc::new(node),
        publishers,
        groups,
        others: start.others,
        control: start.control,
        number: start.shard,
        scratch: Rc::default(),
        runtime,
        live: RefCell::default(),
        named: Cell::new(0),
    });
    for joined in &shard.groups {
        joined.group.spawn(|group| {
            let (node, control) = (shard.node.clone(), shard.control.clone());
            let policy = policy(&shard.node.shared.config);
            manage::run(group, node, policy, control)
        });
        let (store, every_bytes) = (joined.store.clone(), shard.node.shared.config.snapshot_bytes);
        joined.group.spawn(|group| snapshots::run(group, store, every_bytes));
        let dialer = joined.dialer.clone();
        joined.group.spawn(|group| compare::run(group, dialer));
    }
    let mut tasks = vec![glommio::spawn_local(take_handed(shard.clone(), start.handed))];
    if let Some(listener) = start.peer_listener.take() {
        let accepting = groups::accept_peers(shard.clone(), os::glommio_listener(listener));
        tasks.push(glommio::spawn_local(accepting));
    }
    // The control thread may have given up on another shard's failure; the command tells.
    let _ = start.report.send(Ok(()));
    let mut listener = Some(start.listener);
    loop {
        match start.commands.recv_async().await {
            Ok(Command::Serve) => {
                let Some(listener) = listener.take() else { continue };
                let accepting = accept(shard.clone(), os::glommio_listener(listener));
                tasks.push(glommio::spawn_local(accepting));
                tasks.push(glommio::spawn_local(look_around(shard.clone())));
            }
            Ok(Command::Cluster(view)) => drop(shard.node.cluster.replace(view)),
            Ok(Command::Stop) | Err(_) => break,
        }
    }
    let every_bytes = shard.node.shared.config.snapshot_bytes;
    for joined in &shard.groups {
        joined.group.hand_over(None).await;
        snapshots::take_last(&joined.group, &joined.store, every_bytes).await;
    }
    for task in tasks {
        task.cancel().await;
    }
    let result = stop(&shard).await;
    for (partition, store) in partitions.iter().zip(&stores) {
        snapshots::take_last(partition, store, every_bytes).await;
    }
    result
}

/// What tells the feed of these partitions.
fn publishers(
    partitions: &[Served<GlommioDisk, GlommioRuntime>],
    ways: &[Way],
    runtime: &GlommioRuntime,
) -> Vec<Rc<LocalPublisher>> {
    let publisher = |partition: &Served<_, _>| {
        let way = ways[usize::from(partition.identity().partition.0)].clone();
        let publisher = Rc::new(Publisher::new(partition.clone(), way));
        runtime.spawn(publisher.clone().run());
        publisher
    };
    partitions.iter().map(publisher).collect()
}

/// What the operator wants of groups.
fn policy(config: &Config) -> Policy {
    let dead_after = config.cluster.as_ref().map_or(Duration::MAX, |cluster| cluster.dead_after);
    let replicas = config.cluster.as_ref().map_or(1, |cluster| cluster.replicas);
    Policy { replicas, dead_after }
}

async fn open_partitions(
    start: &ShardStart,
    runtime: &GlommioRuntime,
) -> Result<(Vec<LocalPartition>, Vec<LocalStore>), Fatal> {
    let Shared { config, superblock, .. } = &*start.shared;
    let disk = GlommioDisk::new(&config.data);
    let (mut partitions, mut stores) = (Vec::new(), Vec::new());
    for number in (start.shard..usize::from(superblock.partitions)).step_by(config.cores) {
        let id = PartitionId(number as u16);
        let (partition, store, opening) = opening::open(
            disk.clone(),
            *runtime,
            &config.data,
            superblock,
            id,
            config.flush_inflight_max,
        )
        .await?;
        tracing::info!(
            "partition {id}: snapshot at entry {}, {} records replayed behind it, {} bytes of torn \
             tail cut, in {:.2} s",
            opening.snapshot_index,
            opening.replayed,
            opening.recovered.cut_bytes,
            opening.took.as_secs_f64()
        );
        let running = partition.clone();
        runtime.spawn(async move { running.run().await });
        let idle = partition.clone();
        runtime.spawn(async move { idle.watch_idle().await });
        runtime.spawn(snapshots::run(partition.clone(), store.clone(), config.snapshot_bytes));
        partitions.push(partition);
        stores.push(store);
    }
    Ok((partitions, stores))
}

async fn accept(shard: Rc<Shard>, listener: glommio::net::TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others may close meanwhile.
                tracing::warn!("cannot accept a connection: {error}");
                shard.runtime.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let node = &shard.node;
        if node.connections.get() >= node.shared.config.connections_max {
            drop(stream); // the client sees the connection close and backs off
            continue;
        }
        let (greeted, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move {
            let late = async {
                greeted.runtime.sleep(FRAME_WITHIN).await;
            };
            futures_lite::future::or(greet(&greeted, stream), late).await;
        });
    }
}

/// Finds out which partition a connection is for, and serves it there.
async fn greet(shard: &Rc<Shard>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("no TCP_NODELAY: {error}");
    }
    let mut stream = Stream::new(stream);
    let mut received = Received::default();
    let Some(partition) = stream.first_partition(&mut received).await else { return };
    let partitions = shard.node.shared.superblock.partitions;
    if partition.0 >= partitions {
        return stream.refuse_partition(partition, partitions).await;
    }
    let owner = shard.node.shared.shard_of(partition);
    if owner == shard.number {
        let (served, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move { serve(&served, stream, received, partition).await });
    } else {
        let stream = stream.into_inner().into_accepted();
        let received = received.into_filled();
        let handed = Handed { stream, received, partition, port: Port::Clients };
        // A full queue: the client sees the connection close and comes again.
        let _ = shard.others[owner].try_send(handed);
    }
}

async fn take_handed(shard: Rc<Shard>, handed: flume::Receiver<Handed>) {
    while let Ok(Handed { stream, received, partition, port }) = handed.recv_async().await {
        if port == Port::Peers {
            let received = Received::from_bytes(received);
            groups::serve(&shard, stream.bind_to_executor(), received, partition);
            continue;
        }
        let (served, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move {
            let stream = Stream::new(stream.bind_to_executor());
            serve(&served, stream, Received::from_bytes(received), partition).await;
        });
    }
}

async fn serve(shard: &Rc<Shard>, stream: Stream, received: Received, partition: PartitionId) {
    let node = &shard.node;
    let found = node.partitions.iter().position(|one| one.identity().partition == partition);
    let Some(number) = found else { return };
    let (partition, publisher) = (node.partitions[number].clone(), &shard.publishers[number]);
    let outbox = Rc::new(Outbox::default());
    let timing = Rc::new(Timing::default());
    shard.live.borrow_mut().add(&outbox, &timing);
    let session = Session::new(partition, node.clone(), outbox.clone(), shard.scratch.clone());
    node.connections.set(node.connections.get() + 1);
    stream.serve(received, session, publisher, outbox, timing, shard.runtime).await;
    node.connections.set(node.connections.get() - 1);
}

/// Now and then: free space, due reservations, connections that take too long.
async fn look_around(shard: Rc<Shard>) {
    let mut expired = Duration::ZERO;
    loop {
        let full = shard.node.shared.full.load(Ordering::Relaxed);
        for partition in &shard.node.partitions {
            if partition.is_full() != full {
                partition.set_full(full);
            }
            partition.expire();
        }
        let now = shard.runtime.elapsed();
        if now.saturating_sub(expired) >= LOOK_EVERY {
            expired = now;
            shard.live.borrow_mut().end_overdue(now);
        }
        tell_leads(&shard);
        let named = shard.groups.iter().filter(|joined| joined.group.is_named()).count();
        let before = shard.named.replace(named);
        // Wraps around: the sum over all shards is right.
        let of_node = &shard.node.shared.named_by;
        of_node.fetch_add(named.wrapping_sub(before), Ordering::Relaxed);
        shard.runtime.sleep(EXPIRE_EVERY).await;
    }
}

/// Tells the control thread what this shard leads. If its queue is full, next time.
fn tell_leads(shard: &Shard) {
    let Some(control) = &shard.control else { return };
    let leads = shard.groups.iter().filter(|joined| joined.group.leads());
    let leads = leads.map(|joined| (joined.group.identity().partition, joined.group.term()));
    let _ = control.try_send(Order::Leads(shard.number, leads.collect()));
}

/// Finishes what is in flight: first the partitions, then the answers.
async fn stop(shard: &Shard) -> Result<(), Fatal> {
    let mut result = Ok(());
    for partition in &shard.node.partitions {
        if let Err(refused) = partition.close().await {
            let id = partition.identity().partition;
            let message = format!("partition {id} did not stop cleanly: {refused:?}");
            result = Err(Fatal::new(Reason::Disk, message));
        }
    }
    shard.publishers.iter().for_each(|publisher| publisher.publish());
    for joined in &shard.groups {
        joined.dialer.close();
    }
    let deadline = shard.runtime.elapsed() + LINGER;
    while shard.live.borrow().is_busy() && shard.runtime.elapsed() < deadline {
        shard.runtime.sleep(Duration::from_millis(1)).await;
    }
    result
}
