//! Snapshots of a partition's ledger, taken in the background so that a restart is quick.
//!
//! The state at one entry is cut without copying, and written piece by piece while the partition
//! goes on; it counts once that entry is durable, and in a group committed. The stream is what FORMAT.md,
//! section 6, says.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use super::request::Identity;
use crate::ledger::{Ledger, SnapshotCut};
use crate::limits::{SNAPSHOT_PIECE_BYTES, SNAPSHOTS_KEPT};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::{SnapshotMeta, Tail};
use crate::storage::log::Log;
use crate::storage::snapshot::{SnapshotStore, SnapshotWriter};

/// How often it is looked whether a snapshot is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure, the next attempt waits this long.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Pause between two pieces, so that a snapshot takes a small share of the core and the disk.
const PIECE_PAUSE: Duration = Duration::from_micros(500);

/// An idle or stopping partition takes one after this share of the log that makes one due.
const IDLE_SHARE: u64 = 8;

/// A partition whose state is written out while it goes on.
pub trait Snapshotting {
    /// Where its log is.
    type Disk: Disk;
    /// Its executor.
    type Runtime: Runtime;

    /// Whose state it is.
    fn identity(&self) -> Identity;
    /// Its executor.
    fn runtime(&self) -> &Self::Runtime;
    /// Its log.
    fn log(&self) -> &Log<Self::Disk, Self::Runtime>;
    /// Looks at the state at the tail.
    fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T;
    /// It has stopped or is about to: whoever closes it takes the last snapshot.
    fn ends(&self) -> bool;
    /// There is no room for a snapshot.
    fn is_full(&self) -> bool;
    /// What was written so far.
    fn progress(&self) -> &Progress;
    /// Bytes of entries that were written in this run.
    fn written_bytes(&self) -> u64;
    /// Cuts the state at an entry; `None` if it is undone before it is known which entry that is.
    fn cut(&self) -> impl Future<Output = Option<Cut>>;
}

/// How far a partition's snapshots are.
#[derive(Debug, Default)]
pub struct Progress {
    under_way: Cell<bool>,
    /// What [`Snapshotting::written_bytes`] was at the newest one.
    snapshot_bytes: Cell<u64>,
}

/// The state of a partition at one entry.
pub struct Cut {
    /// Who the members of its group are there; empty without one.
    pub members: Vec<u8>,
    /// The ledger's part.
    pub state: SnapshotCut,
    /// The entry.
    pub applied: Tail,
    /// [`Snapshotting::written_bytes`] up to it.
    pub written_bytes: u64,
}

/// Takes snapshots when they are due, until the partition stops. One is due when as much log was
/// written as `every_bytes`, or as the last snapshot was large, whichever is more: what is written
/// twice stays in proportion. In a pause of the writes it is due earlier.
pub async fn run<S: Snapshotting>(partition: S, store: SnapshotStore<S::Disk>, every_bytes: u64) {
    let mut last_bytes = 0;
    let mut seen_bytes = 0;
    loop {
        partition.runtime().sleep(LOOK_EVERY).await;
        if partition.ends() {
            return;
        }
        let written_bytes = partition.written_bytes();
        let idle = std::mem::replace(&mut seen_bytes, written_bytes) == written_bytes;
        let due_bytes = if idle { every_bytes / IDLE_SHARE } else { every_bytes.max(last_bytes) };
        if since_last(&partition) < due_bytes || partition.is_full() {
            continue;
        }
        match take(&partition, &store).await {
            Ok(Some(bytes)) => last_bytes = bytes,
            Ok(None) => {} // undone or stopped meanwhile: the next look decides
            Err(error) => {
                tracing::warn!("a snapshot could not be written; the log has everything: {error}");
                partition.runtime().sleep(AGAIN_AFTER).await;
            }
        }
    }
}

fn since_last(partition: &impl Snapshotting) -> u64 {
    partition.written_bytes() - partition.progress().snapshot_bytes.get()
}

/// Takes one at a clean stop, so that the next start is quick; not if little was written. One that
/// is under way comes to its end first.
pub async fn take_last<S: Snapshotting>(
    partition: &S,
    store: &SnapshotStore<S::Disk>,
    every_bytes: u64,
) {
    while partition.progress().under_way.get() {
        partition.runtime().sleep(PIECE_PAUSE).await;
    }
    let due = since_last(partition) >= every_bytes / IDLE_SHARE;
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
pub async fn take<S: Snapshotting>(
    partition: &S,
    store: &SnapshotStore<S::Disk>,
) -> io::Result<Option<u64>> {
    let progress = partition.progress();
    if progress.under_way.replace(true) {
        return Ok(None);
    }
    let written = async {
        let Some(mut cut) = partition.cut().await else { return Ok(None) };
        let bytes = write(partition, store, &mut cut).await?;
        if bytes.is_some() {
            progress.snapshot_bytes.set(cut.written_bytes);
        }
        Ok(bytes)
    };
    let written = written.await;
    progress.under_way.set(false);
    written
}

async fn write<S: Snapshotting>(
    partition: &S,
    store: &SnapshotStore<S::Disk>,
    cut: &mut Cut,
) -> io::Result<Option<u64>> {
    let identity = partition.identity();
    let meta = SnapshotMeta {
        cluster: identity.cluster,
        partition: identity.partition,
        created: partition.runtime().now(),
        applied: cut.applied,
    };
    let bytes_max = partition.with_ledger(state_bytes_max) + cut.members.len() as u64;
    let mut writer = store.create(&meta, bytes_max).await?;
    match write_all(partition, cut, &mut writer).await {
        Ok(Some(bytes)) if partition.log().wait_durable(cut.applied.index).await.is_ok() => {
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

async fn write_all<S: Snapshotting>(
    partition: &S,
    cut: &mut Cut,
    writer: &mut SnapshotWriter<S::Disk>,
) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    if !cut.members.is_empty() {
        bytes += write_chunk(&cut.members, writer).await?;
    }
    while let Some(chunk) =
        partition.with_ledger(|ledger| cut.state.next_chunk(ledger, SNAPSHOT_PIECE_BYTES))
    {
        bytes += write_chunk(&chunk, writer).await?;
        partition.runtime().sleep(PIECE_PAUSE).await;
    }
    Ok(cut.state.is_complete().then_some(bytes))
}

async fn write_chunk<D: Disk>(chunk: &[u8], writer: &mut SnapshotWriter<D>) -> io::Result<u64> {
    writer.write(&(chunk.len() as u32).to_le_bytes()).await?;
    writer.write(chunk).await?;
    Ok(4 + chunk.len() as u64)
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
