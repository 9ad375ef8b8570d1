//! From a directory to a partition, for both kinds of node: the newest snapshot and the log behind
//! it; then what each kind adds.
//!
//! ```text
//!  both    snapshots listed ─ newest whole one restored ─ log recovered, torn tail cut
//!  alone     └─ log replayed, each verdict compared ─ vote for itself saved ─ blank entry durable ─ serves
//!  group     └─ a new node copies the log ─ openraft applies what is committed ─ serves
//! ```

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{EntryKind, EntryMeta};
use walengine_net::model::PartitionId;

use super::Partition;
use super::alone::Alone;
use super::ids_upkeep;
use super::importing::was_importing;
use super::mending::{EntrySource, NoSource, Patient};
use super::older_ids::OlderIds;
use super::replica::Replica;
use super::replica_id::ReplicaId;
use super::restore::{Restored, RunsRead, replay, restore};
use super::saved_filter;
use crate::data_dir::{log_config, of_partition, partition_failed};
use crate::fatal::{Fatal, Reason};
use crate::limits::{RECENT_KEYS_MAX, REPLAY_TELL_EVERY};
use crate::runtime::Runtime;
use crate::storage::Recovered;
use crate::storage::disk::Disk;
use crate::storage::error::{AppendError, OpenError, ReadError};
use crate::storage::layout::{HardState, Superblock};
use crate::storage::log::{Log, LogConfig};
use crate::storage::partition_dir;
use crate::storage::snapshot::SnapshotStore;

/// A partition's disk, opened: everything that it starts from.
pub struct OpenedPartition<D: Disk, R: Runtime> {
    /// Which replica it is.
    pub id: ReplicaId,
    /// Its log, recovered.
    pub log: Log<D, R>,
    /// How the log was opened.
    pub log_config: LogConfig,
    /// Its vote, as saved last.
    pub hard_state: HardState,
    /// The state at its newest snapshot.
    pub restored: Restored<D>,
    /// Its snapshots.
    pub store: SnapshotStore<D>,
    /// The executor.
    pub runtime: R,
    /// How many keys its ledger keeps in memory before the older ones go into a run.
    pub recent_keys_max: usize,
    superblock: Superblock,
    recovered: Recovered,
    started: Duration,
}

/// Opens the disk of a partition. Everything that its data directory promises must be there.
///
/// # Errors
/// Anything that is missing, damaged or of another cluster, by path.
pub async fn open<D: Disk, R: Runtime>(
    disk: D,
    runtime: R,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
    flush_inflight_max: usize,
) -> Result<OpenedPartition<D, R>, Fatal> {
    open_mended(disk, runtime, data, superblock, partition, flush_inflight_max, &NoSource).await
}

/// As [`open`]; what a replica's log has lost is taken from `source`.
///
/// # Errors
/// As [`open`]; damage that `source` does not mend.
pub async fn open_mended<D: Disk, R: Runtime>(
    disk: D,
    runtime: R,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
    flush_inflight_max: usize,
    source: &impl EntrySource,
) -> Result<OpenedPartition<D, R>, Fatal> {
    let started = runtime.elapsed();
    let dir = partition_dir(data, partition);
    let failed = |error| of_partition(partition, &partition_failed(&error, superblock));
    let store = SnapshotStore::open(disk.clone(), &dir).await.map_err(failed)?;
    let restored = restore_telling(&store, superblock, partition, &runtime, RunsRead::New).await?;
    let log_config = LogConfig { flush_inflight_max, ..log_config(superblock, partition) };
    let open = || {
        let (disk, runtime, dir) = (disk.clone(), runtime.clone(), dir.clone());
        Log::open(disk, runtime, dir, log_config.clone(), restored.from)
    };
    let opened = match open().await {
        Err(damage @ OpenError::Damaged { .. }) if superblock.replicated => {
            let (disk, runtime, dir, config) = (&disk, &runtime, &*dir, &log_config);
            let patient = Patient { disk, runtime, dir, config, partition };
            patient.mend(source, restored.from, damage).await.map_err(failed)?;
            open().await
        }
        opened => opened,
    };
    let opened = opened.map_err(failed)?;
    if opened.recovered.hard_state_slot_lost {
        // Normal after a power cut in the middle of a save; otherwise the newest vote may be lost.
        tracing::warn!(
            "partition {partition}: one of the two copies of its vote can't be read; the other one is used"
        );
    }
    let Superblock { cluster, node, .. } = *superblock;
    Ok(OpenedPartition {
        id: ReplicaId { cluster, partition, node },
        log: opened.log,
        log_config,
        hard_state: opened.hard_state,
        restored,
        store,
        runtime,
        recent_keys_max: RECENT_KEYS_MAX,
        superblock: *superblock,
        recovered: opened.recovered,
        started,
    })
}

/// The newest state on disk; tells how far it is, and what can't be used.
async fn restore_telling<D: Disk, R: Runtime>(
    store: &SnapshotStore<D>,
    superblock: &Superblock,
    partition: PartitionId,
    runtime: &R,
    reads: RunsRead,
) -> Result<Restored<D>, Fatal> {
    let mut told = runtime.elapsed();
    let progress = async |read: u64, of: u64| {
        let now = runtime.elapsed();
        if now.saturating_sub(told) >= REPLAY_TELL_EVERY {
            told = now;
            let percent = read * 100 / of.max(1);
            tracing::info!(
                "partition {partition}: reading the ids on disk: {read} of about {of} ({percent} %)"
            );
        }
        runtime.yield_now().await;
    };
    let restored = restore(store, superblock, partition, reads, progress).await?;
    let runs_end = restored.ledger.runs_end();
    let cleared = saved_filter::remove_ahead(store.disk(), store.partition_dir(), runs_end).await;
    cleared.map_err(|error| {
        let message =
            format!("partition {partition}: removing saved filters of another state: {error}");
        Fatal::new(Reason::Disk, message)
    })?;
    for (path, why) in &restored.skipped {
        let path = path.display();
        tracing::error!("snapshot {path} can't be used, passing it over: {why}");
    }
    Ok(restored)
}

impl<D: Disk, R: Runtime> OpenedPartition<D, R> {
    /// Nothing was ever written to its log, and it has not voted.
    pub fn is_new(&self) -> bool {
        self.log.last().index == 0 && self.hard_state.voted_for.is_none()
    }

    /// Says what was found, for operators; `behind` is what follows the snapshot.
    pub fn log_opening(&self, behind: &str) {
        tracing::info!(
            "partition {}: snapshot at entry {}, {behind} behind it, {} bytes of torn tail cut, in \
             {:.2} s",
            self.id.partition,
            self.restored.from.index,
            self.recovered.cut_bytes,
            self.runtime.elapsed().saturating_sub(self.started).as_secs_f64()
        );
    }

    fn older_ids(&self) -> OlderIds<D, R> {
        let (runs, log) = (self.restored.runs.clone(), self.log.clone());
        let older = OlderIds::new(runs, log, self.runtime.clone());
        older.set_recent_max(self.recent_keys_max);
        older
    }

    async fn replay(&mut self, older: &OlderIds<D, R>) -> Result<u64, Fatal> {
        let Restored { ledger, from, .. } = &mut self.restored;
        replay(&self.log, from.index, ledger, older).await
    }

    /// Serves it alone: replays the log behind the snapshot while deriving every verdict again, and
    /// begins a new term with a blank entry, which also bears witness to what was recovered.
    ///
    /// # Errors
    /// The log is damaged, this program derives another verdict, or the disk fails.
    pub async fn serve_alone(mut self) -> Result<Partition<Alone<D, R>>, Fatal> {
        let id = self.id;
        let failed = |fatal: Fatal| of_partition(id.partition, &fatal);
        let (mut older, mut first) = (self.older_ids(), self.restored.ledger.next_offset());
        let mut replayed = self.replay(&older).await;
        if let Err(fatal) = &replayed
            && older.runs().is_distrusted()
        {
            tracing::error!(
                "partition {}: {fatal}; all runs of ids are read now, and made again from the log where that is \
                 necessary",
                id.partition
            );
            let (sizes, reads) = (older.runs().merge_sizes(), RunsRead::All);
            let Self { store, superblock, runtime, .. } = &self;
            let restored = restore_telling(store, superblock, id.partition, runtime, reads).await;
            self.restored = restored.map_err(failed)?;
            (older, first) = (self.older_ids(), self.restored.ledger.next_offset());
            older.runs().set_merge_sizes(sizes);
            replayed = self.replay(&older).await;
        }
        let replayed_bytes = replayed.map_err(failed)?;
        let ledger = &self.restored.ledger;
        let next_offset = ledger.next_offset();
        let is_amid_import = was_importing(&self.log, next_offset).await;
        let is_amid_import = is_amid_import.map_err(|error| failed(unreadable(&error)))?;
        let term = self.hard_state.term + 1;
        begin_term(&self.log, id, term).await.map_err(failed)?;
        self.log_opening(&format!("{} records replayed", next_offset.0 - first.0));
        let Self { log, restored, runtime, .. } = self;
        let alone = Alone::new(id, term, log, next_offset, replayed_bytes, runtime);
        let mut replica = Replica::new(restored.ledger).amid_import(is_amid_import);
        replica.lead(term);
        let partition = Partition::start(id, alone, Rc::new(RefCell::new(replica)), older);
        ids_upkeep::begin(&partition);
        Ok(partition)
    }
}

/// The newest entry can't be read again.
pub(super) fn unreadable(error: &ReadError) -> Fatal {
    Fatal::new(Reason::Damaged, format!("reading the newest entry: {error}"))
}

/// Votes for this node alone, and writes the first entry of its term.
async fn begin_term<D: Disk, R: Runtime>(
    log: &Log<D, R>,
    id: ReplicaId,
    term: u64,
) -> Result<(), Fatal> {
    let ReplicaId { cluster, partition, node } = id;
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
    loop {
        let changed = log.changed();
        let changed = changed.changed();
        match log.append(&meta, &[]) {
            Ok(_) => break,
            // The disk is full to the last block. What the log holds is shown all the same; once there is
            // room, the first write is the first entry of the term.
            Err(AppendError::Full) if log.no_room() => return Ok(()),
            Err(AppendError::Full) => changed.await,
            Err(error) => return Err(stopped(&error)),
        }
    }
    log.flush();
    log.wait_durable(meta.index).await.map_err(|error| stopped(&error))
}
