//! Snapshots of a simulated node's state on its own disk, which it starts from again.

use std::io;
use std::path::Path;

use walengine::partition::restore::{Restored, RunsRead, restore};
use walengine::partition::snapshots;
use walengine::runtime::Runtime;
use walengine::storage::disk::Disk;
use walengine::storage::layout::Superblock;
use walengine::storage::snapshot::SnapshotStore;
use walengine_replication::types::NodeId;

use super::buggy_disk::BuggyDisk;
use super::node::{Place, SimPartition};
use crate::checked_partition::{DATA, SEGMENT_BYTES, dir};

/// Writes the state of a node; nothing, if one is being written, or the state is taken back.
pub async fn write(partition: &SimPartition, disk: BuggyDisk) -> io::Result<()> {
    let store = open(disk).await?;
    snapshots::take(partition, &store).await.map(drop)
}

/// What a node starts from: its newest snapshot, or nothing.
///
/// # Panics
/// If a snapshot is there and can't be read: nothing damages them here.
pub async fn newest(
    node: NodeId,
    place: Place,
    disk: BuggyDisk,
) -> Result<Restored<BuggyDisk>, String> {
    let created = disk.runtime().now();
    let superblock = Superblock {
        cluster: place.config().ids.cluster,
        node,
        partitions: place.partitions,
        segment_bytes: SEGMENT_BYTES,
        created,
        replicated: true,
        logs_created: false,
    };
    let store = open(disk).await.map_err(|error| error.to_string())?;
    let newest = store.indexes().await.map_err(|error| error.to_string())?.pop();
    let restored =
        restore(&store, &superblock, place.partition, RunsRead::New, async |_, _| {}).await;
    let restored = restored.map_err(|fatal| fatal.message)?;
    assert_eq!(restored.from.index, newest.unwrap_or_default(), "a damaged snapshot");
    Ok(restored)
}

async fn open(disk: BuggyDisk) -> io::Result<SnapshotStore<BuggyDisk>> {
    disk.create_dir(&dir()).await?;
    disk.sync_dir(Path::new(DATA)).await?;
    SnapshotStore::open(disk, &dir()).await.map_err(io::Error::other)
}
