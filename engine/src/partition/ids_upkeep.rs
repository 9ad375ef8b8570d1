//! Keeps the newest ids few: they go into runs, and runs are merged, in the background.

use std::io;
use std::time::Duration;

use walengine_net::model::Offset;

use super::Partition;
use super::commit::Commit;
use super::ledger_access::LedgerAccess;
use super::replica::Replica;
use crate::ledger::Ledger;
use crate::limits::{IDS_LOOK_EVERY, IDS_RETRY_AFTER};
use crate::runtime::Runtime;

impl<C: Commit> LedgerAccess for Partition<C> {
    fn with<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        self.inner.replica.borrow_mut().with_ledger(look)
    }
}

/// Begins to keep a partition's newest ids few, in the background.
pub(super) fn begin<C: Commit>(partition: &Partition<C>) {
    partition.spawn(flush);
    partition.spawn(merge);
}

/// Has old keys go into runs until the partition ends.
async fn flush<C: Commit>(partition: Partition<C>) {
    while !partition.is_ending() {
        let waits = match flush_if_due(&partition).await {
            Ok(()) => {
                save_if_due(&partition);
                IDS_LOOK_EVERY
            }
            Err(error) => {
                partition.older_ids().rest();
                tracing::warn!(
                    "partition {}: ids can't go from memory to disk; they stay in memory, and this is \
                     tried again: {error}",
                    partition.id().partition
                );
                IDS_RETRY_AFTER
            }
        };
        partition.runtime().sleep(waits).await;
    }
}

impl<C: Commit> Partition<C> {
    fn is_flush_due(&self, below: Offset) -> bool {
        // While the disk is nearly full, too: a follower goes on then, and memory must not grow with its log, of
        // which runs are a tenth.
        self.with_ledger(|ledger| self.older_ids().is_flush_due(ledger, below))
            && !self.log().no_room()
    }

    /// There are far more ids in memory than are kept, and they will soon go into runs.
    pub(super) fn has_many_ids(&self) -> bool {
        self.with_ledger(|ledger| self.older_ids().has_many(ledger))
            && self.is_flush_due(self.with_replica(Replica::committed))
    }

    /// So many ids are in memory that no more are taken before some have gone into a run, which they can.
    pub(super) fn has_most_ids(&self) -> bool {
        self.with_ledger(|ledger| self.older_ids().has_most(ledger))
            && self.is_flush_due(self.with_replica(Replica::committed))
    }
}

async fn flush_if_due<C: Commit>(partition: &Partition<C>) -> io::Result<()> {
    let (older, progress) = (partition.older_ids(), partition.snapshot_progress());
    let below = partition.with_replica(Replica::committed);
    // A snapshot that is being written reads them first.
    if !partition.is_flush_due(below) || progress.holds_ids.replace(true) {
        return Ok(());
    }
    let flushed = older.flush(partition, below).await;
    progress.holds_ids.set(false);
    partition.changed().notify_all(); // writes may wait for that
    flushed
}

/// Has runs merged until the partition ends: beside the flushes, which a long merge must not hold up. Removes
/// what a crash has left, and while the disk is full, what merges have.
async fn merge<C: Commit>(partition: Partition<C>) {
    let mut prunes_at = Some(Duration::ZERO);
    while !partition.is_ending() {
        let mut waits = IDS_LOOK_EVERY;
        let now = partition.runtime().elapsed();
        if prunes_at.is_some_and(|at| now >= at) {
            match prune(&partition).await {
                Ok(true) => prunes_at = partition.is_full().then_some(now + IDS_RETRY_AFTER),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        "partition {}: files of ids that nobody needs can't be removed; this is tried again: \
                         {error}",
                        partition.id().partition
                    );
                    prunes_at = Some(now + IDS_RETRY_AFTER);
                }
            }
        } else if prunes_at.is_none() && partition.is_full() {
            prunes_at = Some(now);
        }
        if !partition.is_full() {
            match partition.older_ids().merge(&partition).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        "partition {}: runs of ids can't be merged; they serve as they are: {error}",
                        partition.id().partition
                    );
                    if error.kind() == io::ErrorKind::InvalidData {
                        partition.older_ids().distrust(partition.id()).await;
                    }
                    waits = IDS_RETRY_AFTER;
                }
            }
        }
        partition.runtime().sleep(waits).await;
    }
}

/// Has the filter saved if it should be, beside the flushes, which go on.
fn save_if_due<C: Commit>(partition: &Partition<C>) {
    if partition.is_full() {
        return;
    }
    let Some(runs) = partition.older_ids().begin_saving(partition) else { return };
    partition.spawn(|partition| async move {
        let saved = partition.older_ids().save_filter(partition.id(), &runs, &partition).await;
        if let Err(error) = saved {
            tracing::warn!(
                "partition {}: the filter over old ids can't be saved; a start reads the runs themselves: \
                 {error}",
                partition.id().partition
            );
        }
    });
}

/// Removes files that nobody needs. False while a snapshot is being written, which may need them.
async fn prune<C: Commit>(partition: &Partition<C>) -> io::Result<bool> {
    let progress = partition.snapshot_progress();
    if progress.is_under_way.replace(true) {
        return Ok(false);
    }
    let pruned = async {
        partition.runs().prune().await?;
        partition.older_ids().prune_saved().await
    };
    let pruned = pruned.await;
    progress.is_under_way.set(false);
    pruned.map(|()| true)
}
