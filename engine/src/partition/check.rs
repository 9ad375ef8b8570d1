//! Checks a partition's directory without changing it: the answer of `verify`.
//!
//! ```text
//!  as the start   newest usable snapshot ─ hard state, snapshot and segments against each other
//!  beyond it      every entry from the first on ─ each verdict derived again ─ the snapshot's state
//!                 against the one that the log gives ─ each run of ids against the log (check_ids.rs)
//! ```
//! The first line is the start's own code ([`restore`], [`verify::scan`]), so that what passes here can be
//! started, and what the start refuses is refused here. What only the second line finds is told as that:
//! [`Checked::starts`].

use std::io;
use std::path::{Path, PathBuf};

use walengine_net::entry::decode_entry;
use walengine_net::model::PartitionId;

use super::check_ids::CheckedIds;
use super::restore::{self, RunsRead, restore};
use crate::across::ties::Ties;
use crate::data_dir::{log_config, of_partition, open_failed};
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Ledger, LedgerTotals};
use crate::limits::{CHECKED_KEYS_MAX, REPLAY_BYTES};
use crate::memory;
use crate::storage::disk::Disk;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::shown::Shown;
use crate::storage::snapshot::SnapshotStore;
use crate::storage::{partition_dir, verify};

/// What was found in a partition's directory.
pub struct Checked {
    /// Its log.
    pub log: verify::Report,
    /// The point of the snapshot that a start would use.
    pub snapshot: Tail,
    /// Newer snapshots that can't be used, with the reason. The log has everything that they have.
    pub skipped: Vec<(PathBuf, String)>,
    /// Accounts that the log comes to.
    pub accounts: u32,
    /// Ids that the log comes to.
    pub ids: u64,
    /// The most keys of them that were in memory at a time.
    pub keys_held_max: usize,
    /// How it is tied to other partitions' logs.
    pub ties: Ties,
    /// Digest of that state; `None` if its verdicts can't be derived again.
    pub digest: Option<[u8; 32]>,
    /// What is wrong, the start's own reason first.
    pub complaints: Vec<Fatal>,
    /// A start goes on all the same: what is wrong stands where it does not look, in front of the
    /// snapshot that it begins with. Consensus looks at a few entries there, to learn which terms there
    /// were: a group's node takes them from the others, and waits for them.
    pub starts: bool,
}

/// Checks one partition of the data directory `data`.
///
/// # Errors
/// Its files can't be compared at all: one that everything depends on is missing, damaged or another's.
pub async fn check<D: Disk>(
    disk: D,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
) -> Result<Checked, Fatal> {
    check_keeping(disk, data, superblock, partition, CHECKED_KEYS_MAX).await
}

/// As [`check`], with the ids of so many records in memory at a time, as far as runs have them.
///
/// # Errors
/// As [`check`].
pub async fn check_keeping<D: Disk>(
    disk: D,
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
    records_max: u64,
) -> Result<Checked, Fatal> {
    let dir = partition_dir(data, partition);
    let store = SnapshotStore::read_only(disk.clone(), &dir);
    let restored = restore(&store, superblock, partition, RunsRead::All, async |_, _| {}).await?;
    let (snapshot, skipped, bad_runs) = (restored.from, restored.skipped, restored.bad_runs);
    let wanted = restored.ledger.digest();
    drop(restored.ledger); // two states at once would be twice the memory
    let unread = |error: io::Error| {
        Fatal::new(Reason::Disk, format!("partition {partition}: looking up ids: {error}"))
    };
    let shown = Shown::new(disk.clone(), dir.clone(), superblock.segment_bytes);
    let mut ids = CheckedIds::new(restored.runs, shown, records_max).await.map_err(unread)?;
    let mut ledger = Ledger::new(partition, superblock.partitions);
    let mut ties = Ties::new(partition, superblock.partitions);
    let (mut disagreement, mut found) = (None, None);
    if snapshot.index == 0 {
        found = Some(ledger.digest());
    }
    // What contradicts is an entry that a start decides again, too.
    let mut is_replayed = false;
    let mut unweighed_bytes = 0;
    let visit = |entry: verify::Checked<'_>| {
        unweighed_bytes += entry.bytes.len();
        if unweighed_bytes >= REPLAY_BYTES && disagreement.is_none() {
            unweighed_bytes = 0;
            if let Err(fatal) = memory::require_room() {
                // Checksums and chain are checked to the end all the same.
                ledger = Ledger::new(partition, superblock.partitions);
                is_replayed = true; // a start may do with less; nobody has tried
                disagreement = Some(fatal);
            }
        }
        if disagreement.is_none()
            && let Ok((header, body)) = decode_entry(entry.bytes)
            && let Err(fatal) = ids
                .prepare(&mut ledger, &entry, body)
                .map_err(unread)
                .and_then(|()| restore::apply(&mut ledger, &header, body))
                .and_then(|()| {
                    let taken = ties.take_entry(&header, body, header.meta.records);
                    taken.map_err(|error| Fatal::new(Reason::Damaged, error.to_string()))
                })
        {
            is_replayed = header.meta.index > snapshot.index;
            disagreement = Some(fatal);
        }
        ledger.release(ledger.next_offset());
        if disagreement.is_none() {
            ids.keep_few(&mut ledger);
        }
        if entry.header.meta.index == snapshot.index && disagreement.is_none() {
            found = Some(ledger.digest());
        }
    };
    let config = log_config(superblock, partition);
    let scanned = verify::scan(disk, &dir, &config, snapshot, visit).await;
    let log = scanned.map_err(|error| of_partition(partition, &open_failed(&error)))?;
    let mut complaints = Vec::new();
    let mut complain = |reason, why: String| {
        complaints.push(Fatal::new(reason, format!("partition {partition}: {why}")));
    };
    if let Some(why) = &log.refused {
        complain(Reason::Damaged, format!("it can't be started: {why}"));
    }
    for (place, why) in &log.damage {
        let why = format!("damage in {place}: {why}");
        if !log.refused.as_ref().is_some_and(|refused| why.contains(refused)) {
            complain(Reason::Damaged, why);
        }
    }
    let keys_held_max = ids.held_max();
    let wrong_runs = if disagreement.is_none() && log.damage.is_empty() {
        ids.complaints(&mut ledger)
    } else {
        Vec::new()
    };
    for why in bad_runs {
        complain(
            Reason::Damaged,
            format!("damage in ids: {why}; a start makes it again from the log"),
        );
    }
    let runs_are_right = wrong_runs.is_empty();
    for why in wrong_runs {
        complain(Reason::Disagreement, why);
    }
    let digest = disagreement.is_none().then(|| ledger.digest());
    if let Some(fatal) = disagreement {
        complain(fatal.reason, fatal.message);
    } else if log.damage.is_empty() && found.is_some_and(|found| found != wanted) {
        let why =
            format!("the snapshot at entry {} holds another state than the log", snapshot.index);
        complain(Reason::Disagreement, why);
    }
    if !ledger.totals().values().all(LedgerTotals::balanced) {
        complain(Reason::Disagreement, "debits and credits differ".to_owned());
    }
    let (accounts, ids) = (ledger.accounts_len(), ledger.ids_len());
    let starts = log.refused.is_none() && !is_replayed && runs_are_right;
    Ok(Checked {
        log,
        snapshot,
        skipped,
        accounts,
        ids,
        keys_held_max,
        ties,
        digest,
        complaints,
        starts,
    })
}
