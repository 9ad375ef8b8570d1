//! The log of a partition as openraft's log. Lives on the partition's shard; one of two places that
//! implement openraft's storage, beside [`super::raft_apply`].
//!
//! An event is written once: what openraft appends is the entry on disk. openraft counts entries
//! from 0, the log from 1. Vote and entries keep their order: a vote is saved when everything
//! appended before it is durable, and openraft appends nothing before the save has ended.
//!
//! openraft refuses a leader's write while its lease has expired, and may take the next one, which
//! this leader had decided on top of the refused one. Such a batch does not follow the log. The
//! leader writes a blank entry in its place, and its replica has taken the batch back.
//!
//! ```text
//!  append(entries)   staged ─ flush begins ─────────────── durable ─ callback: counts for the quorum
//!  save_vote(vote)              waits for all of that ──────┴─ slot written ─ durable ─ returns
//!  append(newer)                                                                        └─ staged ...
//!  apply             only what openraft says is committed; an entry may be applied before it is
//!                    durable here, when a majority of other nodes has it
//! ```
//!
//! A purge hides entries from openraft and removes none: what is committed stays.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::LeaderId;
use openraft::{EntryPayload, OptionalSend};
use walengine_net::entry::{EntryHeader, EntryKind, EntryMeta};
use walengine_net::message::Entries;
use walengine_replication::membership_codec;
use walengine_replication::types::{Batch, Entry, LogId, NodeId, Types, Vote};

use super::recent::RecentEntries;
use crate::limits::RAFT_READ_BYTES_MAX;
use crate::partition::mending::{Mender, mended};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::{AppendError, ReadError};
use crate::storage::layout::{HardState, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::truncate::TruncateError;

/// See the module. Clones are the same log.
pub struct RaftLog<D: Disk, R: Runtime> {
    node: NodeId,
    log: Log<D, R>,
    runtime: R,
    ids: (walengine_net::model::ClusterId, walengine_net::model::PartitionId),
    state: Rc<RefCell<State>>,
    recent: Rc<RefCell<RecentEntries>>,
    /// Mends an entry that can't be read.
    mender: Option<Mender>,
}

#[derive(Clone, Copy, Default)]
struct State {
    purged: Option<LogId>,
    committed: Option<LogId>,
}

impl<D: Disk, R: Runtime> Clone for RaftLog<D, R> {
    fn clone(&self) -> Self {
        let Self { node, log, runtime, ids, state, recent, mender } = self;
        let mender = mender.clone();
        let (log, runtime, state) = (log.clone(), runtime.clone(), state.clone());
        Self { node: *node, log, runtime, ids: *ids, state, recent: recent.clone(), mender }
    }
}

/// openraft's id of the entry at the end of a tail; `None` before the first entry.
pub fn log_id_of(tail: &Tail) -> Option<LogId> {
    let index = tail.index.checked_sub(1)?;
    Some(log_id(tail.term, index))
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, NodeId::default()).to_committed(), index)
}

/// Index in our log of the entry that openraft calls `index`.
fn ours(index: u64) -> u64 {
    index.saturating_add(1)
}

impl<D: Disk, R: Runtime> RaftLog<D, R> {
    /// For a log of this node that was opened with `config`. Entries that it holds are durable.
    ///
    /// `first_before` is what its first entry follows; `Tail::default()` if it begins at the
    /// beginning.
    pub fn new(
        node: NodeId,
        log: Log<D, R>,
        config: &LogConfig,
        runtime: R,
        first_before: &Tail,
    ) -> Self {
        let purged = log_id_of(first_before);
        let state = Rc::new(RefCell::new(State { purged, committed: None }));
        let (ids, recent) = ((config.ids.cluster, config.ids.partition), Rc::default());
        Self { node, log, runtime, ids, state, recent, mender: None }
    }

    /// See [`Self::mended_by`].
    pub fn mender(&self) -> Option<Mender> {
        self.mender.clone()
    }

    /// Bytes of the entries that are kept in memory.
    pub fn recent_bytes(&self) -> usize {
        self.recent.borrow().bytes()
    }

    /// With other replicas that have what this one's disk has lost.
    #[must_use]
    pub fn mended_by(mut self, mender: Mender) -> Self {
        self.mender = Some(mender);
        self
    }

    /// Entries from `from_index` on. What has rotted is mended, if that can be done.
    async fn read_mended(&self, from_index: u64, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        mended(self.mender.as_ref(), async || self.log.read(from_index, bytes_max).await).await
    }

    /// Tells openraft, when it starts, how far the log was committed: as the hard state says, or the
    /// snapshot at `from`, which holds nothing else.
    ///
    /// # Errors
    /// The entry can't be read.
    pub async fn recall_committed(&self, from: &Tail) -> io::Result<()> {
        self.log.note_committed(from.index);
        let committed = self.log.committed_index();
        if committed == 0 || committed < self.log.first_index() {
            return Ok(());
        }
        let bytes = self.read_mended(committed, 1).await.map_err(failed)?;
        let entry = Entries::new(&bytes).next().ok_or_else(|| invalid("no entry was read"))?;
        let (header, _) = entry.map_err(|error| invalid(&error.to_string()))?;
        self.state.borrow_mut().committed = log_id_of(&Tail::of(&header));
        Ok(())
    }

    /// The log below.
    pub fn log(&self) -> &Log<D, R> {
        &self.log
    }

    async fn append_one(&self, mut entry: Entry) -> io::Result<()> {
        let index = ours(entry.log_id.index);
        let last = self.log.last();
        if index != last.index + 1 {
            // Behind a snapshot, the first entry follows what the snapshot holds.
            if self.log.first_index() <= last.index {
                return Err(invalid(&format!("entry {index} appended behind {}", last.index)));
            }
            let before = Tail { index: index - 1, ..last };
            self.log.begin_after(before).await.map_err(failed)?;
        }
        let last = self.log.last();
        let term = entry.log_id.leader_id.term;
        if let EntryPayload::Normal(batch) = &entry.payload
            && batch.base_offset != last.next_offset
            && self.leads_in(term)
        {
            entry.payload = EntryPayload::Blank;
        }
        let membership;
        let (cluster, partition) = self.ids;
        let empty = |kind| EntryMeta {
            cluster,
            partition,
            kind,
            term,
            leader_node: 0, // a committed leader is known by its term alone
            index,
            base_offset: last.next_offset,
            records: 0,
            timestamp: last.timestamp,
        };
        let (meta, body) = match &entry.payload {
            EntryPayload::Blank => (empty(EntryKind::Blank), &[][..]),
            EntryPayload::Membership(members) => {
                membership = membership_codec::encode(members);
                (empty(EntryKind::Membership), &membership[..])
            }
            EntryPayload::Normal(batch) => {
                if batch.term != term {
                    let message = format!("a batch decided in term {} in term {term}", batch.term);
                    return Err(invalid(&message));
                }
                let meta = EntryMeta {
                    kind: batch.kind,
                    leader_node: batch.leader_node,
                    base_offset: batch.base_offset,
                    records: batch.records,
                    timestamp: batch.timestamp,
                    ..empty(batch.kind)
                };
                (meta, &batch.body[..])
            }
        };
        if term < last.term || meta.base_offset != last.next_offset {
            return Err(invalid(&format!(
                "entry {index} does not follow the one before: {meta:?}"
            )));
        }
        loop {
            let changed = self.log.changed().changed();
            match self.log.append(&meta, body) {
                Ok(_) => break,
                // The writes in flight, or the operator, will make room.
                Err(AppendError::Backlog(_) | AppendError::Full) => {
                    self.log.flush();
                    changed.await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.recent.borrow_mut().push(entry);
        Ok(())
    }

    /// Only this node can have led in this term.
    fn leads_in(&self, term: u64) -> bool {
        let hard = self.log.hard_state();
        hard.term == term && hard.voted_for == Some(self.node)
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let purged = self.state.borrow().purged;
        let from = purged.map_or(from, |purged| from.max(purged.index + 1));
        if let Some(entries) = self.recent.borrow().range(from, to, bytes_max) {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut next = from;
        let mut read_bytes = 0;
        while next < to && ours(next) <= self.log.last().index && read_bytes < bytes_max {
            let bytes = match self.read_mended(ours(next), RAFT_READ_BYTES_MAX.min(bytes_max)).await
            {
                Ok(bytes) => bytes,
                // A truncation, or before the first entry: openraft looks at what it gets.
                Err(ReadError::NoEntry { first, .. }) if ours(next) < first => {
                    next = first - 1;
                    continue;
                }
                Err(ReadError::NoEntry { .. }) => break,
                Err(error) => return Err(failed(error)),
            };
            read_bytes += bytes.len();
            for entry in Entries::new(&bytes) {
                let (header, body) = entry.map_err(|error| invalid(&error.to_string()))?;
                if header.meta.index > to {
                    break;
                }
                entries.push(entry_of(&header, body)?);
                next += 1;
            }
        }
        Ok(entries)
    }
}

/// An entry of the log as openraft's.
///
/// # Errors
/// `InvalidData` if a membership is malformed.
pub fn entry_of(header: &EntryHeader, body: &[u8]) -> io::Result<Entry> {
    let EntryMeta { kind, term, leader_node, index, base_offset, records, timestamp, .. } =
        header.meta;
    let payload = match kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Membership => {
            let membership = membership_codec::decode(body);
            EntryPayload::Membership(membership.ok_or_else(|| invalid("a malformed membership"))?)
        }
        EntryKind::Events | EntryKind::Records => EntryPayload::Normal(Batch {
            kind,
            term,
            leader_node,
            base_offset,
            records,
            timestamp,
            body: body.into(),
        }),
    };
    Ok(Entry { log_id: log_id(term, index - 1), payload })
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<D: Disk, R: Runtime> RaftLogReader<Types> for RaftLog<D, R> {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, RAFT_READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let HardState { term, voted_for, vote_committed, .. } = self.log.hard_state();
        Ok(voted_for
            .map(|node| Vote { leader_id: LeaderId::new(term, node), committed: vote_committed }))
    }
}

impl<D: Disk, R: Runtime> RaftLogStorage<Types> for RaftLog<D, R> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let last_purged_log_id = self.state.borrow().purged;
        let last_log_id = log_id_of(&self.log.last()).max(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.flush();
        self.log.wait_durable(self.log.last().index).await.map_err(failed)?;
        let state = HardState {
            term: vote.leader_id.term,
            voted_for: Some(vote.leader_id.voted_for),
            vote_committed: vote.committed,
            commit_index: 0, // the log saves its own
            durable_index: 0,
        };
        self.log.save_hard_state(state).await.map_err(failed)
    }

    /// Kept in memory, and written with the next vote or when the partition falls idle: a flush of its
    /// own for each batch would cost as much as the batch.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.note_committed(committed.map_or(0, |id| ours(id.index)));
        self.state.borrow_mut().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.state.borrow().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        for entry in entries {
            self.append_one(entry).await?;
        }
        self.log.flush();
        let (log, last) = (self.log.clone(), self.log.last().index);
        self.runtime.spawn(async move {
            let durable = log.wait_durable(last).await;
            callback.io_completed(durable.map_err(failed));
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let index = last_log_id.map_or(0, |id| ours(id.index));
        let index = index.max(self.log.first_index() - 1);
        let cut = self.log.truncate_after(index).await;
        if let Err(error @ TruncateError::Committed { .. }) = &cut {
            tracing::error!(
                "partition {}: the leader of term {} has another history: {error}; this node stops \
                 serving the partition: keep its data directory, which holds what was acknowledged and \
                 is missing there, and find out which node was set back to an older copy",
                self.ids.1,
                self.log.hard_state().term
            );
        }
        cut.map_err(failed)?;
        self.recent.borrow_mut().cut(index); // ours is one more
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let last = self.log.last();
        if ours(upto.index) > last.index {
            // A snapshot is ahead of the log: the log goes on behind it.
            let before = Tail { index: ours(upto.index), term: upto.leader_id.term, ..last };
            self.recent.borrow_mut().cut(0);
            self.log.begin_after(before).await.map_err(failed)?;
        }
        let purged = &mut self.state.borrow_mut().purged;
        *purged = (*purged).max(Some(upto));
        Ok(())
    }
}
