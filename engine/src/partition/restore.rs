//! The state of a partition from its disk: the newest snapshot that is whole, and the log behind it.

use std::cell::RefCell;
use std::path::PathBuf;

use walengine_net::entry::{EntryHeader, EntryMeta};
use walengine_net::message::Entries;
use walengine_net::model::PartitionId;

use super::apply::{ApplyError, apply_body, unknown_in};
use super::chunks::Chunks;
use super::group::members::Members;
use super::older_ids::{OlderIds, Wanted};
use super::saved_filter;
use crate::fatal::{Fatal, Reason};
use crate::ids::RunRange;
use crate::ids::filter::Filter;
use crate::ids::runs::{Runs, RunsError};
use crate::ledger::{Ledger, RestoreError, Restorer};
use crate::limits::{
    FILTER_KEY_BYTES_MAX, LOOK_UP_AGAIN_AFTER, LOOK_UP_RECORDS_MAX, LOOK_UP_TRIES_MAX,
    MANY_FILTER_KEYS, MANY_KEYS_BYTES_MAX, NOTED_HASHES_MAX, REPLAY_BYTES, REPLAY_TELL_EVERY,
    SNAPSHOT_CHUNK_BYTES_MAX, START_RUNS_MAX,
};
use crate::memory;
use crate::planted::{self, Planted};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::ids::Ids;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::log::Log;
use crate::storage::snapshot::SnapshotStore;
use crate::storage::under_way::UnderWay;

/// What a partition goes on from.
pub struct Restored<D: Disk> {
    /// The state.
    pub ledger: Ledger,
    /// The runs that hold its older ids.
    pub runs: Runs<D>,
    /// It is that behind this point of the log.
    pub from: Tail,
    /// The members of the partition's group there.
    pub members: Members,
    /// Newer snapshots that can't be used, with the reason. The log holds everything that they hold:
    /// slower, and right.
    pub skipped: Vec<(PathBuf, String)>,
    /// What is wrong with runs of ids that they name. They are made again from the log.
    pub bad_runs: Vec<String>,
}

/// Whether runs of ids are read again when a partition is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsRead {
    /// Those that a saved filter knows are not.
    New,
    /// All are read and checked.
    All,
}

/// The newest snapshot that is whole, or the empty state. `progress` hears, now and then, how many ids of how
/// many have been read from runs; it is the place to let others run.
///
/// # Errors
/// The disk's, or a snapshot is of another cluster.
pub async fn restore<D: Disk>(
    store: &SnapshotStore<D>,
    superblock: &Superblock,
    partition: PartitionId,
    reads: RunsRead,
    mut progress: impl AsyncFnMut(u64, u64),
) -> Result<Restored<D>, Fatal> {
    let unread = |error| {
        Fatal::new(Reason::Disk, format!("partition {partition}: reading snapshots: {error}"))
    };
    let (mut skipped, mut bad_runs) = (Vec::new(), Vec::new());
    let indexes = store.indexes().await.map_err(unread)?;
    for &index in indexes.iter().rev() {
        let path = store.path(index);
        match restore_one(store, index, superblock, partition, reads, &mut progress).await {
            Ok(restored) => {
                note_named(store, &indexes, superblock, partition, &restored.runs).await;
                return Ok(Restored { skipped, bad_runs, ..restored });
            }
            Err(Unusable::Damaged(why)) => skipped.push((path, why)),
            Err(Unusable::Run(why)) => {
                bad_runs.push(why.clone());
                skipped.push((path, why));
            }
            Err(Unusable::Foreign) => {
                let message = format!("{} is of another cluster or partition", path.display());
                return Err(Fatal::new(Reason::DataDirectory, message));
            }
            Err(Unusable::Io(error)) => return Err(unread(error)),
            Err(Unusable::TooLarge(fatal)) => return Err(fatal),
        }
    }
    let mut ledger = Ledger::new(partition, superblock.partitions);
    let runs =
        open_runs(store, superblock, &mut ledger, reads, &mut progress).await.map_err(|error| {
            match error {
                Unusable::Io(error) => unread(error),
                Unusable::Damaged(_)
                | Unusable::Run(_)
                | Unusable::Foreign
                | Unusable::TooLarge(_) => {
                    unreachable!("an empty ledger has no runs")
                }
            }
        })?;
    note_named(store, &indexes, superblock, partition, &runs).await;
    let (from, members) = (Tail::default(), Members::default());
    Ok(Restored { ledger, runs, from, members, skipped, bad_runs })
}

/// Notes which runs the snapshots name, whether they can be used or not: none of their files goes before they
/// do. What can't be read is noted as such.
async fn note_named<D: Disk>(
    store: &SnapshotStore<D>,
    indexes: &[u64],
    superblock: &Superblock,
    partition: PartitionId,
    runs: &Runs<D>,
) {
    for &index in indexes {
        runs.named().note(index, runs_of(store, index, superblock, partition).await.ok());
    }
}

/// The runs that a snapshot names. Reads no more of it than that.
async fn runs_of<D: Disk>(
    store: &SnapshotStore<D>,
    index: u64,
    superblock: &Superblock,
    partition: PartitionId,
) -> Result<Vec<RunRange>, Unusable> {
    let mut chunks = Chunks::new(store.read(index).await?, SNAPSHOT_CHUNK_BYTES_MAX);
    let mut restorer = Restorer::new(partition, superblock.partitions);
    let mut is_members = superblock.replicated;
    while let Some(chunk) = chunks.next().await? {
        if !std::mem::take(&mut is_members) {
            restorer.push(chunk)?;
        }
        if let Some(runs) = restorer.runs() {
            return Ok(runs.to_vec());
        }
    }
    Err(Unusable::Damaged("it ends before it says its runs".to_owned()))
}

/// Why a snapshot gives no ledger.
enum Unusable {
    Damaged(String),
    /// It is whole itself, and one of its runs is not, or can't be read now. Its files stay.
    Run(String),
    Foreign,
    Io(std::io::Error),
    /// There is no memory for it.
    TooLarge(Fatal),
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
    reads: RunsRead,
    progress: &mut impl AsyncFnMut(u64, u64),
) -> Result<Restored<D>, Unusable> {
    let snapshot = store.read(index).await?;
    let meta = *snapshot.meta();
    if meta.cluster != superblock.cluster || meta.partition != partition {
        return Err(Unusable::Foreign);
    }
    let mut restorer = Restorer::new(partition, superblock.partitions);
    let mut members = (!superblock.replicated).then(Members::default);
    let mut chunks = Chunks::new(snapshot, SNAPSHOT_CHUNK_BYTES_MAX);
    let mut is_weighed = false;
    while let Some(chunk) = chunks.next().await? {
        memory::require_room().map_err(Unusable::TooLarge)?;
        if members.is_some() {
            restorer.push(chunk)?;
            if !is_weighed {
                memory::require_room_for(restorer.bytes_least()).map_err(Unusable::TooLarge)?;
                is_weighed = true;
            }
        } else {
            let found = Members::decode(chunk);
            let damaged = || Unusable::Damaged("its members can't be read".to_owned());
            members = Some(found.ok_or_else(damaged)?);
        }
    }
    let mut ledger = restorer.finish()?;
    if ledger.next_offset() != meta.applied.next_offset {
        return Err(Unusable::Damaged("its state is not that of its log position".to_owned()));
    }
    let members = members.unwrap_or_default();
    let runs = open_runs(store, superblock, &mut ledger, reads, progress).await?;
    Ok(Restored {
        ledger,
        runs,
        from: meta.applied,
        members,
        skipped: Vec::new(),
        bad_runs: Vec::new(),
    })
}

/// Opens the runs that a ledger names, and gives it their keys' hashes: as far as they were saved, and from the
/// runs themselves, which are read and checked then.
async fn open_runs<D: Disk>(
    store: &SnapshotStore<D>,
    superblock: &Superblock,
    ledger: &mut Ledger,
    reads: RunsRead,
    progress: &mut impl AsyncFnMut(u64, u64),
) -> Result<Runs<D>, Unusable> {
    let (disk, dir) = (store.disk().clone(), store.partition_dir());
    let (list, partition) = (ledger.runs().to_vec(), ledger.partition());
    let mut known = Vec::new();
    let keys = ledger.ids_len().saturating_sub(ledger.recent_len() as u64);
    if !list.is_empty() {
        let each = if keys < MANY_FILTER_KEYS { FILTER_KEY_BYTES_MAX } else { MANY_KEYS_BYTES_MAX };
        let room = memory::require_room_for(keys.saturating_mul(each));
        room.map_err(Unusable::TooLarge)?;
        let ids = Ids { cluster: superblock.cluster, partition };
        let saved = match reads {
            RunsRead::New => saved_filter::load(&disk, dir, ids, ledger.runs_end()).await,
            RunsRead::All => None,
        };
        match saved {
            Some(saved) => {
                ledger.set_filter(saved.filter);
                known = saved.known;
            }
            None => ledger.make_room_for_older(keys),
        }
    }
    let ids = (superblock.cluster, partition);
    let runs = loop {
        // Many at a time: where each goes is loaded while those before it are noted.
        let mut hashes = Vec::with_capacity(NOTED_HASHES_MAX);
        let note = |hash| {
            hashes.push(hash);
            if hashes.len() == NOTED_HASHES_MAX {
                note_older(ledger, &mut hashes);
            }
        };
        // Ends of reservations are keys, too, which nobody has counted.
        let progress = async |read: u64| progress(read, keys.max(read)).await;
        let opened = Runs::open(disk.clone(), dir, ids, &list, &known, note, progress).await;
        note_older(ledger, &mut hashes);
        match opened {
            Err(error @ RunsError::KnownOthers) => {
                tracing::warn!("partition {partition}: the runs of ids are read: {error}");
                if let Err(error) = saved_filter::remove_all(&disk, dir).await {
                    tracing::warn!("partition {partition}: the filter of others stays: {error}");
                }
                known.clear();
                ledger.set_filter(Filter::default());
                ledger.make_room_for_older(keys);
            }
            opened => break opened.map_err(|error| Unusable::Run(error.to_string()))?,
        }
    };
    for meta in runs.metas() {
        ledger.note_older_id_max(meta.id_high);
    }
    Ok(runs)
}

fn note_older(ledger: &mut Ledger, hashes: &mut Vec<u64>) {
    if !planted::has(Planted::OpenedNotInFilter) {
        ledger.note_older(hashes.iter().copied());
    }
    hashes.clear();
}

/// Applies every entry behind `index`, comparing each verdict with the logged one. Gives the bytes of
/// those entries.
///
/// # Errors
/// An entry is damaged, or this program derives another verdict.
pub async fn replay<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    index: u64,
    ledger: &mut Ledger,
    older: &OlderIds<D, R>,
) -> Result<u64, Fatal> {
    let (mut next, mut replayed_bytes) = (index + 1, 0);
    let mut told = older.runtime().elapsed();
    let begin_reading = |from| {
        let log = log.clone();
        UnderWay::begin(async move { log.read(from, REPLAY_BYTES).await })
    };
    let mut coming = None;
    while next <= log.last().index {
        memory::require_room()?;
        let reading = match coming.take() {
            Some(reading) => reading,
            None => begin_reading(next).await,
        };
        let bytes = reading.end().await.map_err(|error| {
            Fatal::new(Reason::Damaged, format!("replaying entry {next}: {error}"))
        })?;
        let entries: Vec<_> = Entries::new(&bytes).collect::<Result<_, _>>().map_err(|error| {
            Fatal::new(Reason::Damaged, format!("replaying entries from {next} on: {error}"))
        })?;
        next += entries.len() as u64;
        if next <= log.last().index {
            coming = Some(begin_reading(next).await);
        }
        replayed_bytes += bytes.len() as u64;
        look_up_all(ledger, older, entries.iter().copied()).await;
        for (header, body) in &entries {
            apply_looking_up(ledger, older, header, body).await?;
        }
        ledger.release(ledger.next_offset());
        keep_few(ledger, older).await;
        let now = older.runtime().elapsed();
        if now.saturating_sub(told) >= REPLAY_TELL_EVERY {
            told = now;
            let (partition, done, all) =
                (ledger.partition(), next - index - 1, log.last().index - index);
            let percent = done * 100 / all.max(1);
            tracing::info!(
                "partition {partition}: deriving the state behind the snapshot from the log: entry {done} of \
                 {all} ({percent} %)"
            );
        }
    }
    ledger.release(ledger.next_offset());
    Ok(replayed_bytes)
}

/// Looks up at once what is unknown in all of these entries, unless it is very much. What is not is left for
/// [`apply_looking_up`].
pub async fn look_up_all<D: Disk, R: Runtime>(
    ledger: &mut Ledger,
    older: &OlderIds<D, R>,
    entries: impl Iterator<Item = (EntryHeader, &[u8])>,
) {
    let unknown = entries.flat_map(|(header, body)| unknown_in(ledger, header.meta.kind, body));
    let unknown: Vec<Wanted> = unknown.take(LOOK_UP_RECORDS_MAX).collect();
    let version = ledger.facts_version();
    if !unknown.is_empty()
        && let Ok(found) = older.look_up(&unknown).await
    {
        ledger.learn(version, found);
    }
}

/// As [`apply`]; what must be looked up before is.
///
/// # Errors
/// As of [`apply`]; what must be looked up can't be read.
pub async fn apply_looking_up<D: Disk, R: Runtime>(
    ledger: &mut Ledger,
    older: &OlderIds<D, R>,
    header: &EntryHeader,
    body: &[u8],
) -> Result<(), Fatal> {
    // What is learned may take the place of what was known before: it is asked until nothing is missing.
    loop {
        let unknown = unknown_in(ledger, header.meta.kind, body);
        if unknown.is_empty() {
            break;
        }
        let (version, index) = (ledger.facts_version(), header.meta.index);
        let mut tries = 1;
        let found = loop {
            match older.look_up(&unknown).await {
                Ok(found) => break found,
                // A disk that fails once may well not fail again.
                Err(error) if tries < LOOK_UP_TRIES_MAX => {
                    tracing::warn!(
                        "entry {index}: looking up its ids, which is tried again: {error}"
                    );
                    tries += 1;
                    older.runtime().sleep(LOOK_UP_AGAIN_AFTER).await;
                }
                Err(error) => {
                    if let Err(error) = older.distrust_runs().await {
                        tracing::warn!(
                            "what spares a start reading the runs of ids stays: {error}"
                        );
                    }
                    let message = format!(
                        "entry {index}: looking up its ids: {error}; start this node again, which makes runs \
                         of ids that can't be read again from the log"
                    );
                    return Err(Fatal::new(Reason::Damaged, message));
                }
            }
        };
        ledger.learn(version, found);
    }
    apply(ledger, header, body)
}

/// Has the newest ids go into runs, and runs merged, if they are many. All that the ledger holds is committed. If
/// the disk refuses, they stay in memory for the time being, which [`memory::require_room`] bounds: a node
/// whose disk is full still starts.
pub async fn keep_few<D: Disk, R: Runtime>(ledger: &mut Ledger, older: &OlderIds<D, R>) {
    let (below, partition) = (ledger.next_offset(), ledger.partition());
    // Each run costs a start several waits for the disk.
    let is_worth_it = older.has_many(ledger) || memory::require_room().is_err();
    if !is_worth_it || !older.is_flush_due(ledger, below) {
        return;
    }
    let ledger = RefCell::new(ledger);
    let kept = async {
        older.flush(&ledger, below).await?;
        while older.runs().len() > START_RUNS_MAX && older.merge(&ledger).await? {}
        Ok::<_, std::io::Error>(())
    };
    if let Err(error) = kept.await {
        older.rest();
        tracing::warn!(
            "partition {partition}: ids can't go from memory to disk; they stay in memory, and this is tried \
             again: {error}"
        );
    }
}

/// Applies one entry to a ledger, deriving its verdicts again.
///
/// # Errors
/// The body is malformed, or this program derives another verdict.
pub fn apply(ledger: &mut Ledger, header: &EntryHeader, body: &[u8]) -> Result<(), Fatal> {
    let EntryMeta { kind, base_offset, timestamp, index, .. } = header.meta;
    apply_body(ledger, kind, base_offset, timestamp, body).map_err(|error| match error {
        ApplyError::Malformed(_) => Fatal::new(Reason::Damaged, format!("entry {index}: {error}")),
        ApplyError::Disagreement(why) => {
            let message = format!("entry {index}: the log and this program disagree: {why}");
            Fatal::new(Reason::Disagreement, message)
        }
    })
}
