//! Snapshots of a partition's ledger, taken in the background so that a restart is quick.
//!
//! The state at one entry is cut without copying, and written piece by piece while the partition
//! goes on. The file gets its name last: a snapshot is never ahead of what is final.
//!
//! ```text
//!  ids are few ─ seal ─ cut ─ entry committed ─ pieces written
//!    ─ entry durable here ─ file synced ─ renamed ─ older pruned
//! ```
//!
//! Ids that are in runs are not written again: the snapshot says which runs, and their files stay for as
//! long as a snapshot that is kept refers to them.
//!
//! The stream is what FORMAT.md, section 6, says.

use std::io;

use super::Partition;
use super::chunks::write_chunk;
use super::commit::{Commit, Point};
use super::replica_id::ReplicaId;
use crate::ledger::{Ledger, SnapshotCut};
use crate::limits::{
    SNAPSHOT_DUE_EVERY, SNAPSHOT_FLUSHES_WITHIN, SNAPSHOT_IDLE_SHARE, SNAPSHOT_PIECE_BYTES,
    SNAPSHOT_PIECE_PAUSE, SNAPSHOT_RETRY_AFTER, SNAPSHOTS_KEPT,
};
use crate::runtime::Runtime;
use crate::storage::layout::SnapshotMeta;
use crate::storage::snapshot::{SnapshotStore, SnapshotWriter};

/// The state of a partition at one committed entry.
struct Cut<C: Commit> {
    /// The ledger's part.
    state: SnapshotCut,
    /// The entry.
    point: Point,
    /// [`Commit::written_bytes`] up to it.
    written_bytes: u64,
    /// Until the newest ids are written.
    ids: Option<HeldIds<C>>,
}

/// As long as this is there, no id goes from memory into a run.
struct HeldIds<C: Commit>(Partition<C>);

impl<C: Commit> HeldIds<C> {
    /// Waits for the end of what takes ids away, and, if there are many, until they are few: they are written
    /// while none can go.
    async fn hold(partition: &Partition<C>) -> Self {
        let runtime = partition.runtime();
        let by = runtime.elapsed() + SNAPSHOT_FLUSHES_WITHIN;
        let comes_too_early =
            || !partition.is_ending() && partition.has_many_ids() && runtime.elapsed() < by;
        while comes_too_early() || partition.snapshot_progress().holds_ids.replace(true) {
            runtime.sleep(SNAPSHOT_PIECE_PAUSE).await;
        }
        Self(partition.clone())
    }
}

impl<C: Commit> Drop for HeldIds<C> {
    fn drop(&mut self) {
        self.0.snapshot_progress().holds_ids.set(false);
    }
}

/// Takes snapshots when they are due, until the partition stops. One is due when as much log was
/// written as `every_bytes`, or as the last snapshot was large, whichever is more: what is written
/// twice stays in proportion. In a pause of the writes it is due earlier.
pub async fn run<C: Commit>(
    partition: Partition<C>,
    store: SnapshotStore<C::Disk>,
    every_bytes: u64,
) {
    let mut last_bytes = 0;
    let mut seen_bytes = 0;
    loop {
        partition.runtime().sleep(SNAPSHOT_DUE_EVERY).await;
        if partition.is_ending() {
            return;
        }
        let written_bytes = partition.commit().written_bytes();
        let idle = std::mem::replace(&mut seen_bytes, written_bytes) == written_bytes;
        let due_bytes =
            if idle { every_bytes / SNAPSHOT_IDLE_SHARE } else { every_bytes.max(last_bytes) };
        if since_last(&partition) < due_bytes || partition.is_full() {
            continue;
        }
        match take(&partition, &store).await {
            Ok(Some(bytes)) => last_bytes = bytes,
            Ok(None) => {} // undone or stopped meanwhile: the next look decides
            Err(error) => {
                tracing::warn!("a snapshot could not be written; the log has everything: {error}");
                partition.runtime().sleep(SNAPSHOT_RETRY_AFTER).await;
            }
        }
    }
}

fn since_last<C: Commit>(partition: &Partition<C>) -> u64 {
    partition.commit().written_bytes() - partition.snapshot_progress().snapshot_bytes.get()
}

/// Takes one at a clean stop, so that the next start is quick; not if little was written. One that
/// is under way comes to its end first.
pub async fn take_last<C: Commit>(
    partition: &Partition<C>,
    store: &SnapshotStore<C::Disk>,
    every_bytes: u64,
) {
    while partition.snapshot_progress().is_under_way.get() {
        partition.runtime().sleep(SNAPSHOT_PIECE_PAUSE).await;
    }
    let due = since_last(partition) >= every_bytes / SNAPSHOT_IDLE_SHARE;
    if due
        && !partition.is_full()
        && partition.log().stopped().is_none()
        && let Err(error) = take(partition, store).await
    {
        tracing::warn!("no snapshot at the stop; the log has everything: {error}");
    }
}

/// Takes one snapshot. Its size in bytes, or `None` if its state will not be committed, or one is
/// under way.
pub async fn take<C: Commit>(
    partition: &Partition<C>,
    store: &SnapshotStore<C::Disk>,
) -> io::Result<Option<u64>> {
    let progress = partition.snapshot_progress();
    if progress.is_under_way.replace(true) {
        return Ok(None);
    }
    let written = async {
        let ids = HeldIds::hold(partition).await;
        let Some(mut cut) = cut(partition, ids).await else { return Ok(None) };
        let bytes = write(partition, store, &mut cut).await?;
        if let Some(bytes) = bytes {
            progress.snapshot_bytes.set(cut.written_bytes);
            progress.taken.set(progress.taken.get() + 1);
            progress.taken_bytes.set(progress.taken_bytes.get() + bytes);
        }
        Ok(bytes)
    };
    let written = written.await;
    progress.is_under_way.set(false);
    written
}

/// Cuts the state at the tail. It counts once the entry there is committed; `None` if it is taken
/// back, or can't be sealed.
async fn cut<C: Commit>(partition: &Partition<C>, ids: HeldIds<C>) -> Option<Cut<C>> {
    let state = partition.cut_at_tail()?;
    let point = partition.commit().point_of(&state).await?;
    let written_bytes = partition.commit().written_bytes();
    Some(Cut { state, point, written_bytes, ids: Some(ids) })
}

async fn write<C: Commit>(
    partition: &Partition<C>,
    store: &SnapshotStore<C::Disk>,
    cut: &mut Cut<C>,
) -> io::Result<Option<u64>> {
    let ReplicaId { cluster, partition: number, .. } = partition.id();
    let meta = SnapshotMeta {
        cluster,
        partition: number,
        created: partition.runtime().now(),
        applied: cut.point.applied,
    };
    let bytes_max = partition.with_ledger(state_bytes_max) + cut.point.members.len() as u64;
    let mut writer = store.create(&meta, bytes_max).await?;
    match write_all(partition, cut, &mut writer).await {
        Ok(Some(bytes)) if partition.log().wait_durable(cut.point.applied.index).await.is_ok() => {
            let (index, runs) = (cut.point.applied.index, cut.state.runs());
            let named = partition.runs().named();
            named.begin(index, runs);
            writer.finish().await?;
            named.note(index, Some(runs.to_vec()));
            store.prune(SNAPSHOTS_KEPT).await?;
            named.keep(&store.indexes().await?);
            partition.runs().prune().await?;
            partition.older_ids().prune_saved().await?;
            Ok(Some(bytes))
        }
        Ok(_) => writer.abort().await.map(|()| None),
        Err(error) => {
            writer.abort().await?;
            Err(error)
        }
    }
}

async fn write_all<C: Commit>(
    partition: &Partition<C>,
    cut: &mut Cut<C>,
    writer: &mut SnapshotWriter<C::Disk>,
) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    if !cut.point.members.is_empty() {
        bytes += write_chunk(&cut.point.members, writer).await?;
    }
    while let Some(chunk) =
        partition.with_ledger(|ledger| cut.state.next_chunk(ledger, SNAPSHOT_PIECE_BYTES))
    {
        if !cut.state.reads_ids() {
            cut.ids = None;
        }
        bytes += write_chunk(&chunk, writer).await?;
        if cut.ids.is_some() && partition.has_most_ids() {
            partition.runtime().yield_now().await; // writes wait for it
        } else {
            partition.runtime().sleep(SNAPSHOT_PIECE_PAUSE).await;
        }
    }
    Ok(cut.state.is_complete().then_some(bytes))
}

/// Upper bound for a snapshot's stream in bytes.
fn state_bytes_max(ledger: &Ledger) -> u64 {
    let items = ledger.snapshot_item_bytes();
    // Headers of chunks, which are never less than half full, and room for the few that are.
    items + items / 256 + (4 << 20)
}
