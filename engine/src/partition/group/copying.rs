//! How a new replica gets the log of its partition. Before it joins the group it copies the committed
//! entries of another replica, as they stand on disk there. On the way it derives the state and
//! compares every verdict and every chain hash, so that it has to believe nothing.
//!
//! Consensus sends the entries that it has not copied when this ends.

use std::time::Duration;

use futures_lite::future::zip;
use openraft::async_runtime::WatchReceiver;
use walengine_net::entry::{EntryHeader, EntryKind};
use walengine_net::message::Entries;
use walengine_net::model::PartitionId;
use walengine_replication::gossip::{NodeStanding, NodeView};
use walengine_replication::membership_codec;
use walengine_replication::peer::limits::READ_BYTES_MAX;
use walengine_replication::peer::{LogPage, LogRead};
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::{Member, Vote};

use super::Group;
use super::raft_log::log_id_of;
use crate::fatal::{Fatal, Reason};
use crate::limits::{
    COPY_NEAR_ENTRIES_MAX, COPY_PAGES_AHEAD_MAX, COPY_RETRY_AFTER, COPY_ROUNDS_MAX, COPY_TELL_EVERY,
};
use crate::partition::older_ids::OlderIds;
use crate::partition::replica_id::ReplicaId;
use crate::partition::restore::{Restored, apply_looking_up, keep_few, look_up_all};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::{AppendError, ReadError};
use crate::storage::layout::{HardState, Tail};
use crate::storage::log::Log;

/// Committed entries of this replica's log, for a new replica that copies them.
///
/// # Errors
/// The disk's, or the entries are damaged here.
pub async fn page<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    read: LogRead,
) -> Result<LogPage, ReadError> {
    let log = group.log();
    let applied = group.commit().applied().map_or(0, |id| id.index + 1);
    let committed = applied.min(log.durable_index());
    let vote = group.commit().raft().metrics().borrow_watched().vote;
    let mut entries = Vec::new();
    if (log.first_index()..=committed).contains(&read.from) {
        entries = log.read(read.from, (read.bytes_max as usize).min(READ_BYTES_MAX)).await?;
        let headers = Entries::new(&entries).map_while(|entry| Some(entry.ok()?.0));
        let given = headers.take_while(|header| header.meta.index <= committed);
        let bytes = given.map(|header| header.entry_bytes()).sum();
        entries.truncate(bytes);
    }
    Ok(LogPage { vote, committed, entries: entries.into() })
}

/// Copies the log into `log`, which is empty, and gives the state behind what it has copied.
///
/// # Errors
/// This node's disk failed, or it can't derive what is in the log.
pub async fn copy<D: Disk, R: Runtime>(
    dialer: &Dialer<R>,
    sources: &[NodeView],
    log: &Log<D, R>,
    runtime: &R,
    id: ReplicaId,
    restored: Restored<D>,
) -> Result<Restored<D>, Fatal> {
    let partition = id.partition;
    let (started, last_vote) = (runtime.elapsed(), None);
    let (log, runtime) = (log.clone(), runtime.clone());
    let older = OlderIds::new(restored.runs.clone(), log.clone(), runtime.clone());
    let mut copy =
        Copy { log, runtime, id, restored, older, last_vote, started, told: started, bytes: 0 };
    for _ in 0..COPY_ROUNDS_MAX {
        for source in in_order(sources, partition) {
            match copy.copy_from(dialer, source).await {
                Ok(()) => return copy.finish().await,
                Err(Failed::There(why)) => {
                    tracing::debug!("partition {partition}: copying from {}: {why}", source.node);
                }
                Err(Failed::Here(fatal)) => return Err(fatal),
            }
        }
        copy.runtime.sleep(COPY_RETRY_AFTER).await;
    }
    tracing::warn!("partition {partition}: no node gives its log to copy; consensus will send it");
    copy.finish().await
}

/// Followers first: a leader has enough to do.
fn in_order(sources: &[NodeView], partition: PartitionId) -> Vec<&NodeView> {
    let alive = |view: &&NodeView| view.standing == NodeStanding::Alive;
    let mut sources: Vec<_> = sources.iter().filter(alive).collect();
    let leads =
        |view: &NodeView| view.meta.as_ref().is_some_and(|meta| meta.led.contains_key(&partition));
    sources.sort_by_key(|view| leads(view));
    sources
}

/// Why a copy did not go on.
enum Failed {
    /// The other node gives nothing that can be used.
    There(String),
    /// This node can't go on.
    Here(Fatal),
}

/// Reads pages until the source has hardly any more.
async fn read_all<R: Runtime>(
    dialer: &Dialer<R>,
    source: &NodeView,
    first: u64,
    pages: flume::Sender<LogPage>,
) -> Result<(), Failed> {
    let member = Member::at(source.peer_address.to_string());
    let mut from = first;
    loop {
        let read = LogRead { from, bytes_max: READ_BYTES_MAX as u32 };
        let page = dialer.read_log(source.node, member.clone(), read).await;
        let page = page.map_err(|error| Failed::There(error.to_string()))?;
        let last = last_index(&page).unwrap_or(from - 1);
        let ends = page.committed.saturating_sub(last) <= COPY_NEAR_ENTRIES_MAX;
        if last < from && !ends {
            return Err(Failed::There("it has less than it said".to_owned()));
        }
        from = last + 1;
        let is_taken = pages.send_async(page).await.is_ok(); // or the receiver says why not
        if ends || !is_taken {
            return Ok(());
        }
    }
}

struct Copy<D: Disk, R: Runtime> {
    log: Log<D, R>,
    runtime: R,
    id: ReplicaId,
    restored: Restored<D>,
    older: OlderIds<D, R>,
    /// The newest leader's vote that is saved.
    last_vote: Option<Vote>,
    started: Duration,
    told: Duration,
    bytes: u64,
}

impl<D: Disk, R: Runtime> Copy<D, R> {
    async fn copy_from(&mut self, dialer: &Dialer<R>, source: &NodeView) -> Result<(), Failed> {
        let first = self.log.last().index + 1;
        let (pages, taken) = flume::bounded(COPY_PAGES_AHEAD_MAX);
        // Pages come while those before them are taken.
        let taking = async {
            let taken = taken; // gone when this ends, which ends the reading
            while let Ok(page) = taken.recv_async().await {
                self.take(&page).await?;
                self.tell(source, page.committed);
            }
            Ok(())
        };
        // What was begun with a page is finished, whatever becomes of the source: an entry is in the log and in
        // the ledger, or in neither.
        let (read, taken) = zip(read_all(dialer, source, first, pages), taking).await;
        taken.and(read)
    }

    async fn take(&mut self, page: &LogPage) -> Result<(), Failed> {
        self.follow(page.vote).await?;
        let whole = Entries::new(&page.entries).map_while(Result::ok);
        look_up_all(&mut self.restored.ledger, &self.older, whole).await;
        for entry in Entries::new(&page.entries) {
            let (header, body) = entry.map_err(|error| Failed::There(error.to_string()))?;
            self.append(&header, body).await?;
            self.apply(&header, body).await.map_err(Failed::Here)?;
            self.bytes += header.entry_bytes() as u64;
            self.runtime.yield_now().await;
        }
        self.log.flush();
        let ledger = &mut self.restored.ledger;
        ledger.release(ledger.next_offset());
        keep_few(ledger, &self.older).await;
        Ok(())
    }

    /// Takes entries as from this leader: its vote is saved before the first of them.
    async fn follow(&mut self, vote: Vote) -> Result<(), Failed> {
        if !vote.committed {
            // In an election. What was committed before is in the term of an earlier leader.
            return match self.last_vote {
                Some(_) => Ok(()),
                None => Err(Failed::There("it knows no leader".to_owned())),
            };
        }
        if self.last_vote.is_some_and(|last| last.leader_id.term >= vote.leader_id.term) {
            return Ok(());
        }
        let state = HardState {
            term: vote.leader_id.term,
            voted_for: Some(vote.leader_id.voted_for),
            vote_committed: true,
            commit_index: 0,
            durable_index: 0, // the log saves its own
        };
        self.log.save_hard_state(state).await.map_err(|error| Failed::Here(stopped(&error)))?;
        self.last_vote = Some(vote);
        Ok(())
    }

    async fn append(&self, header: &EntryHeader, body: &[u8]) -> Result<(), Failed> {
        let meta = &header.meta;
        let ReplicaId { cluster, partition, .. } = self.id;
        if meta.cluster != cluster || meta.partition != partition {
            return Err(Failed::There("its entries are of another partition".to_owned()));
        }
        if self.last_vote.is_none_or(|vote| vote.leader_id.term < meta.term) {
            return Err(Failed::There("its entries are newer than its leader".to_owned()));
        }
        self.log.last().with(header).map_err(|why| Failed::There(why.to_owned()))?;
        let own = loop {
            let changed = self.log.changed().changed();
            match self.log.append(meta, body) {
                Ok(own) => break own,
                Err(AppendError::Backlog(_) | AppendError::Full) => {
                    self.log.flush();
                    changed.await;
                }
                Err(error) => return Err(Failed::Here(stopped(&error))),
            }
        };
        if own.chain != header.chain {
            let message = format!(
                "entry {} that was copied has a chain hash that does not follow from those before \
                 it: run `walengine verify` where it came from, empty this data directory, and \
                 start again",
                meta.index
            );
            return Err(Failed::Here(Fatal::new(Reason::Disagreement, message)));
        }
        Ok(())
    }

    async fn apply(&mut self, header: &EntryHeader, body: &[u8]) -> Result<(), Fatal> {
        if header.meta.kind == EntryKind::Membership {
            let index = header.meta.index;
            let malformed = || Fatal::new(Reason::Damaged, format!("entry {index}: no membership"));
            let membership = membership_codec::decode(body).ok_or_else(malformed)?;
            if let Some(log_id) = log_id_of(&Tail::of(header)) {
                self.restored.members.change(log_id, &membership);
            }
        }
        apply_looking_up(&mut self.restored.ledger, &self.older, header, body).await
    }

    fn tell(&mut self, source: &NodeView, committed: u64) {
        let now = self.runtime.elapsed();
        if now.saturating_sub(self.told) < COPY_TELL_EVERY {
            return;
        }
        self.told = now;
        let index = self.log.last().index;
        tracing::info!(
            "partition {}: copying from node {}: entry {index} of {committed} ({} %), {} MiB, {} MiB/s",
            self.id.partition,
            source.node,
            index * 100 / committed.max(1),
            self.bytes >> 20,
            self.rate()
        );
    }

    /// MiB/s since the beginning.
    fn rate(&self) -> u64 {
        let millis = self.runtime.elapsed().saturating_sub(self.started).as_millis() as u64;
        (self.bytes >> 10) * 1000 / 1024 / millis.max(1)
    }

    async fn finish(mut self) -> Result<Restored<D>, Fatal> {
        let last = self.log.last();
        if last.index > 0 {
            self.log.flush();
            self.log.wait_durable(last.index).await.map_err(|error| stopped(&error))?;
            self.log.note_committed(last.index); // nothing else was copied
            self.log.mark_idle().await.map_err(|error| stopped(&error))?;
            tracing::info!(
                "partition {}: copied {} entries, {} MiB, at {} MiB/s",
                self.id.partition,
                last.index,
                self.bytes >> 20,
                self.rate()
            );
        }
        self.restored.from = last;
        Ok(self.restored)
    }
}

fn last_index(page: &LogPage) -> Option<u64> {
    let headers = Entries::new(&page.entries).map_while(|entry| Some(entry.ok()?.0));
    headers.last().map(|header| header.meta.index)
}

fn stopped(error: &dyn std::fmt::Display) -> Fatal {
    Fatal::new(Reason::Disk, error.to_string())
}
