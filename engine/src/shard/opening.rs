//! From a directory to a partition that serves: newest snapshot, log behind it, a new term.

use std::path::Path;
use std::time::Duration;

use walengine_net::entry::{EntryKind, EntryMeta, access_events, access_records};
use walengine_net::message::Entries;
use walengine_net::model::PartitionId;

use super::partition::Partition;
use super::request::Identity;
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Disagreement, Ledger, RestoreError, Restorer};
use crate::raft_members::Members;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::OpenError;
use crate::storage::layout::{HardState, Superblock, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::partition_dir;
use crate::storage::snapshot::SnapshotStore;

/// Bytes of log that are read at a time while it is replayed.
const REPLAY_BYTES: usize = 4 << 20;
/// Bytes of one chunk of a snapshot's stream; see [`super::snapshots`].
pub const CHUNK_BYTES_MAX: usize = 16 << 20;

/// What was found, for the log line.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What the log was like.
    pub recovered: crate::storage::Recovered,
    /// Index that the snapshot stood for; 0 without one.
    pub snapshot_index: u64,
    /// Records that were replayed behind it.
    pub replayed: u64,
    /// How long it took.
    pub took: Duration,
}

/// Opens a partition: restores the newest snapshot that is whole, replays the log behind it while
/// deriving every verdict again, and begins a new term with a blank entry, which also bears witness
/// to what was recovered.
pub async fn open<D: Disk, R: Runtime>(
    disk: D,
    runtime: R,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
    flush_inflight_max: usize,
) -> Result<(Partition<D, R>, SnapshotStore<D>, Opening), Fatal> {
    let started = runtime.elapsed();
    let dir = partition_dir(data, partition);
    let failed = |error: OpenError| of_partition(partition, &open_failed(&error));
    disk.create_dir(&dir).await.map_err(OpenError::io("creating the partition")).map_err(failed)?;
    let store = SnapshotStore::open(disk.clone(), &dir).await.map_err(failed)?;
    let Restored { mut ledger, from, .. } = restore(&store, superblock, partition).await?;
    let config = LogConfig {
        segment_bytes: superblock.segment_bytes,
        create: true,
        flush_inflight_max,
        ..LogConfig::new(superblock.cluster, partition)
    };
    let opened = Log::open(disk, runtime.clone(), dir, config, from).await.map_err(failed)?;
    let first = ledger.next_offset();
    let replayed_bytes = replay(&opened.log, from.index, &mut ledger).await;
    let replayed_bytes = replayed_bytes.map_err(|f| of_partition(partition, &f))?;
    let replayed = ledger.next_offset().0 - first.0;
    let term = opened.hard_state.term + 1;
    let identity = Identity { cluster: superblock.cluster, partition, node: superblock.node };
    begin_term(&opened.log, identity, term).await.map_err(|f| of_partition(partition, &f))?;
    let took = runtime.elapsed().saturating_sub(started);
    let opening =
        Opening { recovered: opened.recovered, snapshot_index: from.index, replayed, took };
    let partition = Partition::new(identity, term, opened.log, ledger, replayed_bytes, runtime);
    Ok((partition, store, opening))
}

/// What a failure to open storage means for the process.
pub fn open_failed(error: &OpenError) -> Fatal {
    let reason = match error {
        OpenError::Missing(_) | OpenError::Version { .. } => Reason::DataDirectory,
        OpenError::File { .. } | OpenError::Damaged { .. } | OpenError::Incomplete(_) => {
            Reason::Damaged
        }
        _ => Reason::Disk,
    };
    let advice = match reason {
        Reason::Damaged => {
            "; nothing was changed: `walengine verify` lists all damage; restore this directory \
             from a copy, or rebuild it from a replica"
        }
        Reason::Disk => "; see the kernel log, and start again when the disk is well",
        _ => "",
    };
    Fatal::new(reason, format!("{error}{advice}"))
}

pub(super) fn of_partition(partition: PartitionId, fatal: &Fatal) -> Fatal {
    Fatal::new(fatal.reason, format!("partition {partition}: {}", fatal.message))
}

/// What a partition goes on from.
pub struct Restored {
    /// The state.
    pub ledger: Ledger,
    /// It is that behind this point of the log.
    pub from: Tail,
    /// The members of the partition's group there.
    pub members: Members,
}

/// The newest snapshot that is whole, or the empty state.
///
/// # Errors
/// The disk's, or a snapshot is of another cluster.
pub async fn restore<D: Disk>(
    store: &SnapshotStore<D>,
    superblock: &Superblock,
    partition: PartitionId,
) -> Result<Restored, Fatal> {
    let unread = |error| {
        Fatal::new(Reason::Disk, format!("partition {partition}: reading snapshots: {error}"))
    };
    for index in store.indexes().await.map_err(unread)?.into_iter().rev() {
        let path = store.path(index);
        match restore_one(store, index, superblock, partition).await {
            Ok(restored) => return Ok(restored),
            // The log still holds everything: slower, and right.
            Err(Unusable::Damaged(why)) => {
                let path = path.display();
                tracing::error!("snapshot {path} can't be used, passing it over: {why}");
            }
            Err(Unusable::Foreign) => {
                let message = format!("{} is of another cluster or partition", path.display());
                return Err(Fatal::new(Reason::DataDirectory, message));
            }
            Err(Unusable::Io(error)) => return Err(unread(error)),
        }
    }
    let ledger = Ledger::new(partition, superblock.partitions);
    Ok(Restored { ledger, from: Tail::default(), members: Members::default() })
}

/// Why a snapshot gives no ledger.
enum Unusable {
    Damaged(String),
    Foreign,
    Io(std::io::Error),
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<RestoreError> for Unusable {
    fn from(error: RestoreError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Reads a snapshot once: it is checked while it is restored, and only a whole one gives a ledger.
async fn restore_one<D: Disk>(
    store: &SnapshotStore<D>,
    index: u64,
    superblock: &Superblock,
    partition: PartitionId,
) -> Result<Restored, Unusable> {
    let mut snapshot = store.read(index).await?;
    let meta = *snapshot.meta();
    if meta.cluster != superblock.cluster || meta.partition != partition {
        return Err(Unusable::Foreign);
    }
    let mut restorer = Restorer::new(partition, superblock.partitions);
    let mut members = (!superblock.replicated).then(Members::default);
    let mut pending: Vec<u8> = Vec::new();
    while let Some(bytes) = snapshot.next_chunk().await? {
        pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = pending[at..].first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > CHUNK_BYTES_MAX {
                return Err(Unusable::Damaged(format!("a chunk of {length} bytes")));
            }
            let Some(chunk) = pending.get(at + 4..at + 4 + length) else { break };
            if members.is_some() {
                restorer.push(chunk)?;
            } else {
                let found = Members::decode(chunk);
                let damaged = || Unusable::Damaged("its members can't be read".to_owned());
                members = Some(found.ok_or_else(damaged)?);
            }
            at += 4 + length;
        }
        pending.drain(..at);
    }
    if !pending.is_empty() {
        return Err(Unusable::Damaged("it ends inside a chunk".to_owned()));
    }
    let ledger = restorer.finish()?;
    if ledger.next_offset() != meta.applied.next_offset {
        return Err(Unusable::Damaged("its state is not that of its log position".to_owned()));
    }
    Ok(Restored { ledger, from: meta.applied, members: members.unwrap_or_default() })
}

/// Applies every entry behind `index`, comparing each verdict with the logged one; their bytes.
async fn replay<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    index: u64,
    ledger: &mut Ledger,
) -> Result<u64, Fatal> {
    let (mut next, mut replayed_bytes) = (index + 1, 0);
    while next <= log.last().index {
        let bytes = log.read(next, REPLAY_BYTES).await.map_err(|error| {
            Fatal::new(Reason::Damaged, format!("replaying entry {next}: {error}"))
        })?;
        replayed_bytes += bytes.len() as u64;
        for entry in Entries::new(&bytes) {
            let (header, body) = entry.map_err(|error| {
                Fatal::new(Reason::Damaged, format!("replaying entry {next}: {error}"))
            })?;
            apply(ledger, &header, body)?;
            next += 1;
        }
    }
    ledger.release(ledger.next_offset());
    Ok(replayed_bytes)
}

/// Applies one entry to a ledger, deriving its verdicts again.
pub fn apply(
    ledger: &mut Ledger,
    header: &walengine_net::entry::EntryHeader,
    body: &[u8],
) -> Result<(), Fatal> {
    let meta = &header.meta;
    let malformed =
        |error| Fatal::new(Reason::Damaged, format!("entry {} can't be read: {error}", meta.index));
    let differs = |error: Disagreement| {
        let message = format!("entry {}: the log and this program disagree: {error}", meta.index);
        Fatal::new(Reason::Disagreement, message)
    };
    match meta.kind {
        EntryKind::Events => {
            let body = access_events(body).map_err(malformed)?;
            ledger.apply_events(meta.base_offset, meta.timestamp, body).map_err(differs)
        }
        EntryKind::Records => {
            let body = access_records(body).map_err(malformed)?;
            ledger.apply_records(meta.base_offset, meta.timestamp, body).map_err(differs)
        }
        EntryKind::Blank | EntryKind::Membership => Ok(()),
    }
}

/// Votes for this node alone, and writes the first entry of its term.
async fn begin_term<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    identity: Identity,
    term: u64,
) -> Result<(), Fatal> {
    let Identity { cluster, partition, node } = identity;
    let stopped = |error: &dyn std::fmt::Display| Fatal::new(Reason::Disk, error.to_string());
    let last = log.last();
    let state = HardState {
        term,
        voted_for: Some(node),
        vote_committed: true,
        commit_index: last.index,
        durable_index: log.durable_index(),
    };
    log.save_hard_state(state).await.map_err(|error| stopped(&error))?;
    let meta = EntryMeta {
        cluster,
        partition,
        kind: EntryKind::Blank,
        term,
        leader_node: node,
        index: last.index + 1,
        base_offset: last.next_offset,
        records: 0,
        timestamp: last.timestamp,
    };
    log.append(&meta, &[]).map_err(|error| stopped(&error))?;
    log.flush();
    log.wait_durable(meta.index).await.map_err(|error| stopped(&error))
}
