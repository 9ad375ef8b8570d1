//! Snapshots of a partition's ledger, taken in the background so that a restart is quick.
//!
//! The state at one entry is cut without copying, and written piece by piece while the partition
//! goes on; it counts once that entry is durable. The stream is the ledger's chunks, each behind its
//! length (u32, little-endian).

use std::io;
use std::time::Duration;

use super::partition::Partition;
use crate::ledger::{Ledger, SnapshotCut};
use crate::limits::{SNAPSHOT_PIECE_BYTES, SNAPSHOTS_KEPT};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::{SnapshotMeta, Tail};
use crate::storage::snapshot::{SnapshotStore, SnapshotWriter};

/// How often it is looked whether a snapshot is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure, the next attempt waits this long.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Pause between two pieces, so that a snapshot takes a small share of the core and the disk.
const PIECE_PAUSE: Duration = Duration::from_micros(500);

/// An idle or stopping partition takes one after this share of the log that makes one due.
const IDLE_SHARE: u64 = 8;

/// The state of a partition at one entry.
pub struct Cut {
    /// The ledger's part.
    pub state: SnapshotCut,
    /// The entry.
    pub applied: Tail,
    /// Bytes of entries up to it that were appended or replayed in this run.
    pub appended_bytes: u64,
}

/// Takes snapshots when they are due, until the partition stops. One is due when as much log was
/// written as `every_bytes`, or as the last snapshot was large, whichever is more: what is written
/// twice stays in proportion. In a pause of the writes it is due earlier.
pub async fn run<D: Disk, R: Runtime>(
    partition: Partition<D, R>,
    store: SnapshotStore<D>,
    every_bytes: u64,
) {
    let runtime = partition.runtime().clone();
    let mut last_bytes = 0;
    let mut seen_index = 0;
    loop {
        runtime.sleep(LOOK_EVERY).await;
        if partition.stopped().is_some() || partition.is_closing() {
            return; // whoever closes it takes the last one
        }
        let index = partition.tail_index();
        let idle = std::mem::replace(&mut seen_index, index) == index;
        let due_bytes = if idle { every_bytes / IDLE_SHARE } else { every_bytes.max(last_bytes) };
        if partition.since_snapshot_bytes() < due_bytes || partition.is_full() {
            continue;
        }
        match take(&partition, &store).await {
            Ok(Some(bytes)) => last_bytes = bytes,
            Ok(None) => {} // undone or stopped meanwhile: the next look decides
            Err(error) => {
                tracing::warn!("a snapshot could not be written; the log has everything: {error}");
                runtime.sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Takes one after a clean stop, so that the next start is quick; not if little was written. One
/// that is under way comes to its end first.
pub async fn take_last<D: Disk, R: Runtime>(
    partition: &Partition<D, R>,
    store: &SnapshotStore<D>,
    every_bytes: u64,
) {
    while partition.is_snapshotting() {
        partition.runtime().sleep(PIECE_PAUSE).await;
    }
    let due = partition.since_snapshot_bytes() >= every_bytes / IDLE_SHARE;
    if due
        && !partition.is_full()
        && partition.stopped().is_none()
        && let Err(error) = take(partition, store).await
    {
        tracing::warn!("no snapshot at the stop; the log has everything: {error}");
    }
}

/// Takes one snapshot. Its size in bytes, or `None` if its state will not be committed.
async fn take<D: Disk, R: Runtime>(
    partition: &Partition<D, R>,
    store: &SnapshotStore<D>,
) -> io::Result<Option<u64>> {
    let Some(mut cut) = partition.snapshot_begins() else { return Ok(None) };
    let result = write(partition, store, &mut cut).await;
    partition.snapshot_ends(matches!(result, Ok(Some(_))).then_some(&cut));
    result
}

async fn write<D: Disk, R: Runtime>(
    partition: &Partition<D, R>,
    store: &SnapshotStore<D>,
    cut: &mut Cut,
) -> io::Result<Option<u64>> {
    let identity = partition.identity();
    let meta = SnapshotMeta {
        cluster: identity.cluster,
        partition: identity.partition,
        created: partition.runtime().now(),
        applied: cut.applied,
    };
    let bytes_max = partition.with_ledger(state_bytes_max);
    let mut writer = store.create(&meta, bytes_max).await?;
    let written = write_all(partition, &mut cut.state, &mut writer).await;
    match written {
        Ok(Some(bytes)) if is_committed(partition, cut.applied).await => {
            writer.finish().await?;
            store.prune(SNAPSHOTS_KEPT).await?;
            Ok(Some(bytes))
        }
        Ok(_) => writer.abort().await.map(|()| None),
        Err(error) => {
            writer.abort().await?;
            Err(error)
        }
    }
}

async fn write_all<D: Disk, R: Runtime>(
    partition: &Partition<D, R>,
    cut: &mut SnapshotCut,
    writer: &mut SnapshotWriter<D>,
) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    while let Some(chunk) =
        partition.with_ledger(|ledger| cut.next_chunk(ledger, SNAPSHOT_PIECE_BYTES))
    {
        writer.write(&(chunk.len() as u32).to_le_bytes()).await?;
        writer.write(&chunk).await?;
        bytes += 4 + chunk.len() as u64;
        partition.runtime().sleep(PIECE_PAUSE).await;
    }
    Ok(cut.is_complete().then_some(bytes))
}

async fn is_committed<D: Disk, R: Runtime>(partition: &Partition<D, R>, applied: Tail) -> bool {
    partition.log().wait_durable(applied.index).await.is_ok()
}

/// Upper bound for a snapshot's stream in bytes.
fn state_bytes_max(ledger: &Ledger) -> u64 {
    const ACCOUNT_BYTES: u64 = 128;
    const PENDING_BYTES: u64 = 64;
    const ID_BYTES: u64 = 32;
    let items = u64::from(ledger.accounts_len()) * ACCOUNT_BYTES
        + ledger.pendings_len() as u64 * PENDING_BYTES
        + ledger.ids_len() as u64 * ID_BYTES;
    // Headers of chunks, which are never less than half full, and room for the few that are.
    items + items / 256 + (4 << 20)
}
