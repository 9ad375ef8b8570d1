//! Goes on with what is left of a stopped node's data directory, for an operator who accepts what is
//! lost: the disks of a majority are gone for good, or a log is damaged and there is no copy of it.
//!
//! ```text
//!  examine   each partition from its first entry as far as it is whole ─ every verdict derived again
//!            ─ what its files know to be missing
//!  make      the same entries again ─ [`crate::rewrite`]
//! ```
//! The old directory is only read. The new one is of a new cluster, so that no member of the old one can
//! join it and bring back what others have gone on without.

use std::path::Path;

use futures_lite::future::block_on;
use walengine_net::entry::{EntryError, EntryKind, HEADER_BYTES};
use walengine_net::model::{PartitionId, Timestamp};
use walengine_replication::membership_codec;
use walengine_replication::types::{Membership, NodeId};

use crate::across::ties::{Fitting, Ties, fit};
use crate::audit::Order;
use crate::data_dir::of_partition;
use crate::executor::on_executor;
use crate::fatal::{Fatal, Reason};
use crate::ledger::Ledger;
use crate::limits::REPLAY_BYTES;
use crate::memory;
use crate::partition::restore::apply;
use crate::rewrite::directory::NewDirectory;
use crate::rewrite::writer::Writer;
use crate::rewrite::{Rewritten, cut};
use crate::storage::ids::Ids;
use crate::storage::layout::{Superblock, Tail};
use crate::storage::partition_dir;
use crate::storage::read_only_disk::ReadOnlyDisk;
use crate::storage::salvage::{End, Promises, Salvage};

/// What is left of a partition.
#[derive(Clone, Debug)]
pub struct Left {
    /// Which one.
    pub partition: PartitionId,
    /// Its log is whole up to here.
    pub tail: Tail,
    /// Why no further.
    pub end: Option<End>,
    /// What the files beside the log say of it.
    pub promises: Promises,
    /// The members of its group; `None` if it has none.
    pub members: Option<Membership>,
    /// Accounts that it comes to.
    pub accounts: u32,
    /// Ids that it comes to.
    pub ids: u64,
    /// Digest of that state.
    pub digest: [u8; 32],
    /// How it is tied to other partitions' logs.
    pub ties: Ties,
}

impl Left {
    /// The first and the last entry that are missing for certain: they were on this disk, or a majority
    /// or another member had them. There may be more.
    pub fn missing(&self) -> Option<(u64, u64)> {
        let others = self.promises.reached.values().copied().max().unwrap_or_default();
        let last = self.promises.index().max(others);
        (last > self.tail.index).then_some((self.tail.index + 1, last))
    }

    /// The first and the last entry that are kept although this node does not know them to be committed:
    /// perhaps nobody was ever told that they were.
    pub fn uncommitted(&self) -> Option<(u64, u64)> {
        let committed = self.promises.hard_state.map_or(0, |state| state.commit_index);
        let is_group = self.members.is_some();
        (is_group && committed < self.tail.index).then_some((committed + 1, self.tail.index))
    }

    /// The other voters, and where they were.
    pub fn others(&self, node: NodeId) -> Vec<(NodeId, String)> {
        let Some(members) = &self.members else { return Vec::new() };
        let of = |id: NodeId| members.get_node(&id).map(|member| member.peer_address.clone());
        let voters = members.voter_ids().filter(|id| *id != node);
        voters.map(|id| (id, of(id).unwrap_or_default())).collect()
    }
}

/// The new directory, and for whom.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where it is made.
    pub data: &'a Path,
    /// The peer address of its node, if that is to be the first of a new cluster.
    pub peer_address: Option<&'a str>,
    /// Length of a segment.
    pub segment_bytes: u64,
    /// Records up to this log time.
    pub to_time: Option<Timestamp>,
}

/// Reads a partition of the data directory `data`, which no process may be changing. `tell` hears of the
/// bytes that were read.
///
/// # Errors
/// This program derives other verdicts than the log holds, or the memory does not suffice. What is lost is
/// no error.
pub fn examine(
    data: &Path,
    superblock: &Superblock,
    partition: PartitionId,
    mut tell: impl FnMut(u64),
) -> Result<Left, Fatal> {
    let mut salvage = open(data, superblock, partition);
    let mut ledger = Ledger::new(partition, superblock.partitions);
    let mut ties = Ties::new(partition, superblock.partitions);
    let (mut members, mut unweighed_bytes) = (None, 0);
    while let Some((header, bytes)) = block_on(salvage.next()) {
        unweighed_bytes += bytes.len();
        if unweighed_bytes >= REPLAY_BYTES {
            unweighed_bytes = 0;
            memory::require_room()?;
        }
        tell(bytes.len() as u64);
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if header.meta.kind == EntryKind::Membership {
            members = membership_codec::decode(body).or(members);
        }
        apply(&mut ledger, &header, body).map_err(|fatal| of_partition(partition, &fatal))?;
        ledger.release(ledger.next_offset());
        let taken = ties.take_entry(&header, body, header.meta.records);
        taken.map_err(|error| unreadable(partition, &error))?;
    }
    Ok(Left {
        partition,
        tail: salvage.tail(),
        end: salvage.end().cloned(),
        promises: salvage.promises().clone(),
        members: members.filter(|_| superblock.replicated),
        accounts: ledger.accounts_len(),
        ids: ledger.ids_len(),
        digest: ledger.digest(),
        ties,
    })
}

/// Up to which log time what is left of the partitions fits, if it does not to its ends: parts of transfers between
/// them are lost.
///
/// # Errors
/// An entry can't be read.
pub fn fitting(
    data: &Path,
    superblock: &Superblock,
    left: &[Left],
) -> Result<Option<Timestamp>, Fatal> {
    let ties: Vec<Ties> = left.iter().map(|one| one.ties.clone()).collect();
    if fit(&ties).is_ok() {
        return Ok(None);
    }
    let ends: Vec<u64> = left.iter().map(|one| one.tail.next_offset.0).collect();
    let mut fitting = Fitting::new(&ties, &ends);
    for Left { partition, .. } in left {
        let mut salvage = open(data, superblock, *partition);
        while let Some((header, bytes)) = block_on(salvage.next()) {
            let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
            let taken = fitting.take_entry(*partition, &header, body);
            taken.map_err(|error| unreadable(*partition, &error))?;
        }
    }
    Ok(fitting.time())
}

fn unreadable(partition: PartitionId, error: &EntryError) -> Fatal {
    of_partition(partition, &Fatal::new(Reason::Damaged, error.to_string()))
}

/// Makes the new directory of what was examined. `tell` hears of the bytes that were read.
///
/// # Errors
/// The new directory is not empty: nothing was changed. The old one is not what it was, or the disk's:
/// the new one can be made again.
pub fn make(
    data: &Path,
    superblock: &Superblock,
    left: &[Left],
    wanted: &Wanted<'_>,
    mut tell: impl FnMut(u64),
) -> Result<(Superblock, Vec<Rewritten>), Fatal> {
    let Wanted { peer_address, segment_bytes, .. } = *wanted;
    let (count, is_group) = (superblock.partitions, peer_address.is_some());
    let order = Order::new("recover")
        .with("from", data.display().to_string())
        .with("source_cluster", format!("{:032x}", superblock.cluster.0))
        .with("peer_address", peer_address);
    let directory = NewDirectory::begin(wanted.data, count, segment_bytes, is_group, order)?;
    let mut made = Vec::new();
    for one in left {
        let write = async {
            let (mut salvage, mut is_cut) = (open(data, superblock, one.partition), false);
            let mut writer = Writer::begin(&directory, one.partition, peer_address).await?;
            while let Some((header, bytes)) = salvage.next().await {
                tell(bytes.len() as u64);
                let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
                if is_cut {
                    continue; // how far it goes is looked at all the same
                }
                let time = wanted.to_time.map_or(u64::MAX, |time| time.0);
                let records = cut::wanted(&header, body, u64::MAX, time);
                let records = records.map_err(|error| unreadable(one.partition, &error))?;
                is_cut = records < header.meta.records;
                writer.write_first(&header, body, records).await?;
            }
            if salvage.tail() != one.tail {
                let message = format!(
                    "{} is not what it was a moment ago, or can't be read any more: run it again",
                    data.display()
                );
                return Err(of_partition(one.partition, &Fatal::new(Reason::Disk, message)));
            }
            writer.finish().await
        };
        made.push(on_executor(write)??);
    }
    let new = directory.superblock();
    directory.finish(superblock.cluster, &made)?;
    Ok((new, made))
}

fn open(data: &Path, superblock: &Superblock, partition: PartitionId) -> Salvage<ReadOnlyDisk> {
    let ids = Ids { cluster: superblock.cluster, partition };
    let (disk, dir) = (ReadOnlyDisk::new(data), partition_dir(data, partition));
    block_on(Salvage::open(disk, &dir, ids, superblock.segment_bytes))
}
