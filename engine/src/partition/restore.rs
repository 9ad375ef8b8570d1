//! The state of a partition from its disk: the newest snapshot that is whole, and the log behind it.

use std::path::PathBuf;

use walengine_net::entry::{EntryHeader, EntryMeta};
use walengine_net::message::Entries;
use walengine_net::model::PartitionId;

use super::apply::{ApplyError, apply_body};
use super::group::members::Members;
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Ledger, RestoreError, Restorer};
use crate::limits::{REPLAY_BYTES, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::memory;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::log::Log;
use crate::storage::snapshot::SnapshotStore;

/// What a partition goes on from.
pub struct Restored {
    /// The state.
    pub ledger: Ledger,
    /// It is that behind this point of the log.
    pub from: Tail,
    /// The members of the partition's group there.
    pub members: Members,
    /// Newer snapshots that can't be used, with the reason. The log holds everything that they hold:
    /// slower, and right.
    pub skipped: Vec<(PathBuf, String)>,
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
    let mut skipped = Vec::new();
    for index in store.indexes().await.map_err(unread)?.into_iter().rev() {
        let path = store.path(index);
        match restore_one(store, index, superblock, partition).await {
            Ok(restored) => return Ok(Restored { skipped, ..restored }),
            Err(Unusable::Damaged(why)) => skipped.push((path, why)),
            Err(Unusable::Foreign) => {
                let message = format!("{} is of another cluster or partition", path.display());
                return Err(Fatal::new(Reason::DataDirectory, message));
            }
            Err(Unusable::Io(error)) => return Err(unread(error)),
            Err(Unusable::TooLarge(fatal)) => return Err(fatal),
        }
    }
    let ledger = Ledger::new(partition, superblock.partitions);
    Ok(Restored { ledger, from: Tail::default(), members: Members::default(), skipped })
}

/// Why a snapshot gives no ledger.
enum Unusable {
    Damaged(String),
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
) -> Result<Restored, Unusable> {
    let mut snapshot = store.read(index).await?;
    let meta = *snapshot.meta();
    if meta.cluster != superblock.cluster || meta.partition != partition {
        return Err(Unusable::Foreign);
    }
    let mut restorer = Restorer::new(partition, superblock.partitions);
    let mut members = (!superblock.replicated).then(Members::default);
    let mut pending: Vec<u8> = Vec::new();
    let mut is_weighed = false;
    while let Some(bytes) = snapshot.next_chunk().await? {
        memory::require_room().map_err(Unusable::TooLarge)?;
        pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = pending[at..].first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > SNAPSHOT_CHUNK_BYTES_MAX {
                return Err(Unusable::Damaged(format!("a chunk of {length} bytes")));
            }
            let Some(chunk) = pending.get(at + 4..at + 4 + length) else { break };
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
    let members = members.unwrap_or_default();
    Ok(Restored { ledger, from: meta.applied, members, skipped: Vec::new() })
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
) -> Result<u64, Fatal> {
    let (mut next, mut replayed_bytes) = (index + 1, 0);
    while next <= log.last().index {
        memory::require_room()?;
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
