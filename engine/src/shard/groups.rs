//! The Raft groups of a shard: how they are opened, and how peers reach them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use walengine_net::model::PartitionId;
use walengine_replication::gossip::NodeStanding;
use walengine_replication::peer::{LogPage, LogRead, Refusal, frame};
use walengine_replication::received::Received;
use walengine_replication::runtime::within;
use walengine_replication::tcp::accept::{self, Answering};
use walengine_replication::tcp::{PeerIdentity, dial::Dialer};
use walengine_replication::transport::{AppendReceiver, Request, Response, ResultSender};
use walengine_replication::types::NodeId;

use super::copying;
use super::opening::{Restored, of_partition, open_failed, restore};
use super::replica::Replica;
use super::replicated::{GroupTiming, Replicated};
use super::request::Identity;
use super::{Handed, LocalNode, Port, Shard, ShardStart};
use crate::fatal::{Fatal, Reason};
use crate::limits::FRAME_WITHIN;
use crate::node::Shared;
use crate::raft_apply::RaftApply;
use crate::raft_log::{RaftLog, log_id_of};
use crate::runtime::Runtime;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::disk::Disk as _;
use crate::storage::error::OpenError;
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::partition_dir;
use crate::storage::snapshot::SnapshotStore;

/// A leader shows itself this many times in an election timeout.
const HEARTBEATS: u64 = 10;

/// A group on this shard.
pub type LocalGroup = Replicated<GlommioDisk, GlommioRuntime>;

/// A group and its way to peers.
#[derive(Clone)]
pub struct Joined {
    /// The group.
    pub group: LocalGroup,
    /// Its connections to peers.
    pub dialer: Dialer<GlommioRuntime>,
    /// Its snapshots.
    pub store: SnapshotStore<GlommioDisk>,
}

/// How the log of a replicated partition is written.
pub fn log_config(superblock: &Superblock, partition: PartitionId) -> LogConfig {
    LogConfig {
        segment_bytes: superblock.segment_bytes,
        entries_on_blocks: true,
        ..LogConfig::new(superblock.cluster, partition)
    }
}

/// Creates the empty logs of a new node; again, if a crash came before all was done.
///
/// # Errors
/// As opening a log.
pub async fn format(
    disk: &GlommioDisk,
    data: &std::path::Path,
    superblock: &Superblock,
) -> Result<(), OpenError> {
    for number in 0..superblock.partitions {
        let partition = PartitionId(number);
        let dir = partition_dir(data, partition);
        disk.create_dir(&dir).await.map_err(OpenError::io("creating the partition"))?;
        let config = LogConfig { create: true, ..log_config(superblock, partition) };
        let runtime = GlommioRuntime::new();
        let opened = Log::open(disk.clone(), runtime, dir, config, Tail::default()).await?;
        let closed = opened.log.close().await;
        closed.map_err(|error| {
            OpenError::io("creating the log")(std::io::Error::other(error.to_string()))
        })?;
    }
    Ok(())
}

/// Opens this shard's partitions and joins them to their groups. The executor must be entered.
pub async fn open(start: &ShardStart, runtime: GlommioRuntime) -> Result<Vec<Joined>, Fatal> {
    let Shared { config, superblock, .. } = &*start.shared;
    let disk = GlommioDisk::new(&config.data);
    let Some(cluster) = &config.cluster else {
        return Err(Fatal::new(
            Reason::DataDirectory,
            "this data directory is of a cluster's node: give it --peer-listen and --join",
        ));
    };
    let millis = cluster.election.as_millis() as u64;
    let timing = GroupTiming {
        heartbeat_millis: (millis / HEARTBEATS).max(1),
        // A follower stands this long after its leader's lease has run out, which is as long as the
        // greater of the two: within the setting, and not before three quarters of it.
        election_millis: (millis / 4, millis / 2),
    };
    let mut joined = Vec::new();
    for number in (start.shard..usize::from(superblock.partitions)).step_by(config.cores) {
        let partition = PartitionId(number as u16);
        let started = runtime.elapsed();
        let log_config = LogConfig {
            flush_inflight_max: config.flush_inflight_max,
            ..log_config(superblock, partition)
        };
        let dir = partition_dir(&config.data, partition);
        let store = SnapshotStore::open(disk.clone(), &dir).await;
        let store = store.map_err(|error| of_partition(partition, &cannot_open(&error)))?;
        let Restored { ledger, from, members } = restore(&store, superblock, partition).await?;
        let opened = Log::open(disk.clone(), runtime, dir, log_config.clone(), from).await;
        let opened = opened.map_err(|error| of_partition(partition, &cannot_open(&error)))?;
        let (node, cluster) = (superblock.node, superblock.cluster);
        let is_new = opened.log.last().index == 0 && opened.hard_state.voted_for.is_none();
        let partitions = superblock.partitions;
        let dialer = Dialer::new(PeerIdentity { cluster, node, partition, partitions }, runtime);
        let identity = Identity { cluster, partition, node };
        let mut restored = Restored { ledger, from, members };
        if is_new && !start.beginning.sources.is_empty() {
            let sources = &start.beginning.sources;
            let copied = copying::copy(&dialer, sources, &opened.log, &runtime, identity, restored);
            restored = copied.await.map_err(|fatal| of_partition(partition, &fatal))?;
        }
        let Restored { ledger, from, members } = restored;
        let log = RaftLog::new(node, opened.log, &log_config, runtime, &Tail::default());
        let replica = Rc::new(RefCell::new(Replica::new(node, ledger)));
        let apply = RaftApply::restored(replica, log_id_of(&from), members);
        let group = Replicated::open(identity, log, apply, runtime, dialer.clone(), timing).await;
        let group =
            group.map_err(|why| of_partition(partition, &Fatal::new(Reason::Damaged, why)))?;
        if is_new && !start.beginning.founders.is_empty() {
            let founded = group.raft().initialize((*start.beginning.founders).clone()).await;
            founded.map_err(|error| {
                of_partition(partition, &Fatal::new(Reason::Damaged, error.to_string()))
            })?;
        }
        let took = runtime.elapsed().saturating_sub(started);
        tracing::info!(
            "partition {partition}: snapshot at entry {}, {} entries behind it, {} bytes of torn tail \
             cut, in {:.2} s",
            from.index,
            group.log().log().last().index - from.index,
            opened.recovered.cut_bytes,
            took.as_secs_f64()
        );
        joined.push(Joined { group, dialer, store });
    }
    Ok(joined)
}

fn cannot_open(error: &OpenError) -> Fatal {
    if let OpenError::Missing(path) = error {
        let message = format!(
            "{} is missing: this node is a known member, and starting without its log could undo \
             what it has promised; restore it, or empty the whole data directory, so that it comes \
             back as a new node",
            path.display()
        );
        return Fatal::new(Reason::DataDirectory, message);
    }
    open_failed(error)
}

/// What peers of a group may ask of it.
#[derive(Clone)]
struct Gate {
    group: LocalGroup,
    node: Rc<LocalNode>,
}

impl Answering for Gate {
    fn answer(&self, request: Request) -> impl Future<Output = Result<Response, String>> + 'static {
        let group = self.group.clone();
        async move { group.answer(request).await }
    }

    fn take_appends(
        &self,
        requests: AppendReceiver,
        results: ResultSender,
    ) -> impl Future<Output = ()> + 'static {
        let group = self.group.clone();
        async move { group.take_appends(requests, results).await }
    }

    fn read_log(&self, read: LogRead) -> impl Future<Output = Result<LogPage, String>> + 'static {
        let group = self.group.clone();
        async move { copying::page(&group, read).await.map_err(|error| error.to_string()) }
    }

    /// Members may, and whom this node, which may be behind, knows as a node of the cluster.
    fn admits(&self, node: NodeId) -> Result<(), Refusal> {
        let known = self.node.cluster.borrow().node(node).map(|view| view.standing);
        let has_left = known == Some(NodeStanding::Left);
        let is_member = self.group.is_member(node);
        if is_member || known.is_some() && !has_left || self.group.knows_no_members() {
            Ok(())
        } else {
            Err(Refusal::NotMember)
        }
    }
}

/// Takes connections of peers until it is cancelled.
pub(super) async fn accept_peers(shard: Rc<Shard>, listener: TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others may close meanwhile.
                tracing::warn!("cannot accept a peer: {error}");
                shard.runtime.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (greeted, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move {
            let late = async {
                greeted.runtime.sleep(FRAME_WITHIN).await;
            };
            futures_lite::future::or(greet(&greeted, stream), late).await;
        });
    }
}

/// Finds out which partition a peer is for, and serves it there.
async fn greet(shard: &Rc<Shard>, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true); // slower without, and right
    let mut received = Received::default();
    let partition = loop {
        match frame::peek_hello(received.filled()) {
            Ok(Some(hello)) => break hello.head.partition,
            // Whoever serves it says what is wrong with it.
            Err(_) => break PartitionId(shard.number as u16),
            Ok(None) => {}
        }
        match received.fill(&mut stream, 0).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let partitions = shard.node.shared.superblock.partitions;
    let partition = if partition.0 < partitions { partition } else { PartitionId(0) };
    let owner = shard.node.shared.shard_of(partition);
    if owner == shard.number {
        serve(shard, stream, received, partition);
    } else {
        let (stream, received) = (stream.into_accepted(), received.into_filled());
        // A full queue: the peer sees the connection close and comes again.
        let handed = Handed { stream, received, partition, port: Port::Peers };
        let _ = shard.others[owner].try_send(handed);
    }
}

/// Serves a peer in the background.
pub(super) fn serve(
    shard: &Rc<Shard>,
    stream: TcpStream,
    received: Received,
    partition: PartitionId,
) {
    let found = shard.groups.iter().find(|joined| joined.group.identity().partition == partition);
    let Some(joined) = found else { return };
    let Identity { cluster, node, .. } = joined.group.identity();
    let partitions = shard.node.shared.superblock.partitions;
    let identity = PeerIdentity { cluster, node, partition, partitions };
    let gate = Gate { group: joined.group.clone(), node: shard.node.clone() };
    let (runtime, refusals) = (shard.runtime, shard.node.refusals.clone());
    let served = accept::serve(stream, received, identity, gate, runtime, refusals);
    runtime.spawn(within(runtime, served));
}
