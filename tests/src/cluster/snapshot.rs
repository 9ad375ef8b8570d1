//! Snapshots of a simulated node's state on its own disk, which it starts from again.

use std::io;
use std::path::Path;

use openraft::RaftSnapshotBuilder;
use walengine::ledger::Ledger;
use walengine::raft_log::log_id_of;
use walengine::runtime::Runtime;
use walengine::storage::layout::{SnapshotMeta, Tail};
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::model::PartitionId;
use walengine_replication::membership_codec;
use walengine_replication::types::{LogId, RaftSnapshotMeta, StoredMembership};

use super::node::SimPartition;
use crate::partition::{DATA, config, dir, unframe};
use crate::sim::SimDisk;

/// Snapshots that are kept.
const KEPT: usize = 2;

/// State of a node at a point in its log.
pub struct Start {
    /// The log goes on behind it.
    pub from: Tail,
    /// What consensus is told of it; `None` for the empty state.
    pub meta: Option<RaftSnapshotMeta>,
    /// The state.
    pub ledger: Ledger,
}

/// Writes what a node has applied; `tail` gives the log's end behind an entry, if that is durable.
pub async fn write(
    partition: &SimPartition,
    disk: SimDisk,
    tail: impl Fn(LogId) -> Option<Tail>,
) -> io::Result<()> {
    let mut machine = partition.machine().clone();
    let snapshot = machine.build_snapshot().await?;
    let Some(applied) = snapshot.meta.last_log_id.and_then(tail) else { return Ok(()) };
    let membership = &snapshot.meta.last_membership;
    let id = membership.log_id().map_or(Tail::default(), |id| Tail {
        index: id.index + 1,
        term: id.leader_id.term,
        ..Tail::default()
    });
    let mut first = [id.term.to_le_bytes(), id.index.to_le_bytes()].concat();
    first.extend(membership_codec::encode(membership.membership()));
    let mut data = Vec::new();
    for chunk in std::iter::once(&first).chain(snapshot.snapshot.iter()) {
        data.extend((chunk.len() as u32).to_le_bytes());
        data.extend_from_slice(chunk);
    }
    let config = config();
    let created = disk.runtime().now();
    let (cluster, partition) = (config.cluster, config.partition);
    let store = open(disk).await?;
    let meta = SnapshotMeta { cluster, partition, created, applied };
    let mut writer = store.create(&meta, data.len() as u64).await?;
    writer.write(&data).await?;
    writer.finish().await?;
    store.prune(KEPT).await
}

/// What a node starts from: its newest snapshot, or nothing.
pub async fn newest(disk: SimDisk) -> io::Result<Start> {
    let newest = open(disk).await?.newest().await?;
    assert!(newest.skipped.is_empty(), "damaged snapshots: {:?}", newest.skipped);
    let Some(mut reader) = newest.snapshot else {
        let ledger = Ledger::new(PartitionId(0), 1);
        return Ok(Start { from: Tail::default(), meta: None, ledger });
    };
    let from = reader.meta().applied;
    let mut data = Vec::new();
    while let Some(chunk) = reader.next_chunk().await? {
        data.extend_from_slice(chunk);
    }
    let chunks = unframe(&data);
    let (first, chunks) = chunks.split_first().expect("the first one is always there");
    let (term, rest) = first.split_first_chunk().expect("a term");
    let (index, membership) = rest.split_first_chunk().expect("an index");
    let (term, index) = (u64::from_le_bytes(*term), u64::from_le_bytes(*index));
    let membership = membership_codec::decode(membership).expect("a membership");
    let id = log_id_of(&Tail { index, term, ..Tail::default() });
    let last_membership = StoredMembership::new(id, membership);
    let meta = RaftSnapshotMeta { last_log_id: log_id_of(&from), last_membership };
    let ledger = Ledger::restore(PartitionId(0), 1, chunks).expect("a whole snapshot");
    Ok(Start { from, meta: Some(meta), ledger })
}

async fn open(disk: SimDisk) -> io::Result<SnapshotStore<SimDisk>> {
    use walengine::storage::disk::Disk;
    disk.create_dir(&dir()).await?;
    disk.sync_dir(Path::new(DATA)).await?;
    SnapshotStore::open(disk, &dir()).await.map_err(io::Error::other)
}
