//! A partition that a Raft group keeps on several nodes: decides while it leads, applies while it
//! follows. Lives on the partition's shard; not `Send`.
//!
//! An outcome is told once the batch that holds it is committed. If leadership ends before, the
//! batch is taken back here and its outcome is unknown: it may still be committed by the next
//! leader. Whoever asks again by the same ids learns it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openraft::alias::OneshotReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use walengine_net::entry::{EntryKind, RecordHead};
use walengine_net::model::{EVENT_BYTES, EventBytes, Offset};
use walengine_replication::network::Peers;
use walengine_replication::runtime::within;
use walengine_replication::service;
use walengine_replication::transport::{
    AppendReceiver, Request, Response, ResultSender, Transport,
};
use walengine_replication::types::{Batch, LogId, NodeId, Types};

use super::replica::Replica;
use super::request::{BUSY, Counters, Identity, Refused, Taken};
use super::snapshots::Progress;
use super::waiters::{Answer, Waiters};
use crate::ledger::{Ledger, Outcomes};
use crate::limits::{CLOSE_WITHIN, PROPOSED_BYTES_MAX};
use crate::local::Notify;
use crate::planted::{Bug, is_planted};
use crate::raft_apply::RaftApply;
use crate::raft_log::RaftLog;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Entries that go to a follower in one request; each is a whole batch.
const APPEND_ENTRIES_MAX: u64 = 16;

/// A group's handle to consensus.
pub type GroupRaft = Raft<Types, RaftApply>;

/// Timing of a group, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct GroupTiming {
    /// A leader shows itself this often.
    pub heartbeat_millis: u64,
    /// A follower that hears nothing of a leader for a time between these two stands for election.
    pub election_millis: (u64, u64),
}

/// See the module. Clones are handles to the same partition.
pub struct Replicated<D: Disk, R: Runtime> {
    pub(super) inner: Rc<Inner<D, R>>,
}

impl<D: Disk, R: Runtime> Clone for Replicated<D, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

pub(super) struct Inner<D: Disk, R: Runtime> {
    pub(super) identity: Identity,
    pub(super) runtime: R,
    pub(super) replica: Rc<RefCell<Replica>>,
    pub(super) apply: RaftApply,
    pub(super) log: RaftLog<D, R>,
    pub(super) raft: GroupRaft,
    /// By offset.
    pub(super) waiters: Waiters,
    /// Sealed and not handed to consensus yet, in order.
    pub(super) proposals: RefCell<VecDeque<Batch>>,
    /// Handed to consensus, in order, with where it tells what came of them.
    pub(super) proposed: RefCell<VecDeque<(Batch, Told)>>,
    /// There is something to seal, or a reason to stop.
    pub(super) work: Notify,
    /// Something was handed to consensus.
    pub(super) handed: Notify,
    /// Committed state has moved, or this replica has stopped.
    pub(super) changed: Notify,
    full: Cell<bool>,
    pub(super) closing: Cell<bool>,
    pub(super) closed: Cell<bool>,
    /// Leadership is about to move: nothing new is taken.
    pub(super) pausing: Cell<bool>,
    /// Why consensus has stopped by itself, if it has.
    failed: RefCell<Option<String>>,
    caught_up: Cell<bool>,
    counters: Cell<Counters>,
    pub(super) snapshots: Progress,
}

/// Tells whether consensus took a batch.
pub(super) type Told = OneshotReceiverOf<Types, ClientWriteResult<Types>>;

/// How groups are run: see DESIGN section 7.
fn config(timing: GroupTiming) -> Config {
    Config {
        heartbeat_interval: timing.heartbeat_millis,
        election_timeout_min: timing.election_millis.0,
        election_timeout_max: timing.election_millis.1,
        max_payload_entries: APPEND_ENTRIES_MAX,
        // The whole log is kept, so nobody ever needs a snapshot to catch up.
        snapshot_policy: SnapshotPolicy::Never,
        // With it, a leader that lost its unflushed tail would lead again in the same term and give
        // the same log id to other bytes.
        enable_leader_restore: Some(is_planted(Bug::LeaderRestore)),
        enable_pre_vote: Some(true),
        // A leader that is heard and hears nobody falls silent, so that another can be elected.
        quorum_loss_probe_interval: Some(2 * timing.election_millis.1),
        ..Config::default()
    }
}

impl<D: Disk, R: Runtime> Replicated<D, R> {
    /// Joins a recovered log to its group, on the state that `apply` begins with and the log goes on
    /// from. The executor must be entered.
    ///
    /// # Errors
    /// What contradicts itself in log and hard state, in words.
    pub async fn open(
        identity: Identity,
        log: RaftLog<D, R>,
        apply: RaftApply,
        runtime: R,
        transport: impl Transport,
        timing: GroupTiming,
    ) -> Result<Self, String> {
        let (node, replica) = (identity.node, apply.replica().clone());
        let config = config(timing).validate().map_err(|error| error.to_string())?;
        let peers = Peers { node, transport };
        let raft = Raft::new(node, Arc::new(config), peers, log.clone(), apply.clone()).await;
        let raft = raft.map_err(|error| error.to_string())?;
        let inner = Inner {
            identity,
            runtime,
            replica,
            apply,
            log,
            raft,
            waiters: Waiters::default(),
            proposals: RefCell::default(),
            proposed: RefCell::default(),
            work: Notify::new(),
            handed: Notify::new(),
            changed: Notify::new(),
            full: Cell::new(false),
            closing: Cell::new(false),
            closed: Cell::new(false),
            pausing: Cell::new(false),
            failed: RefCell::default(),
            caught_up: Cell::new(false),
            counters: Cell::default(),
            snapshots: Progress::default(),
        };
        let partition = Self { inner: Rc::new(inner) };
        partition.spawn(|partition| async move { partition.watch_leadership().await });
        partition.spawn(|partition| async move { partition.stop_with_log().await });
        partition.spawn(|partition| async move { partition.run().await });
        partition.spawn(|partition| async move { partition.hear().await });
        Ok(partition)
    }

    /// Runs a task of this partition in the background, with its executor entered.
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Self) -> F) {
        let runtime = &self.inner.runtime;
        runtime.spawn(within(runtime.clone(), task(self.clone())));
    }

    /// Whose replica this is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// Its executor.
    pub fn runtime(&self) -> &R {
        &self.inner.runtime
    }

    /// Consensus of this group.
    pub fn raft(&self) -> &GroupRaft {
        &self.inner.raft
    }

    /// The log of this node.
    pub fn log(&self) -> &RaftLog<D, R> {
        &self.inner.log
    }

    /// The state machine of this node.
    pub fn machine(&self) -> &RaftApply {
        &self.inner.apply
    }

    /// Newest entry that this node has applied.
    pub fn applied(&self) -> Option<LogId> {
        self.inner.apply.applied()
    }

    /// Looks at the replica; only what is below [`Replica::committed`] may be told to anyone.
    pub fn with_replica<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.inner.replica.borrow())
    }

    /// Looks at the state at the tail. What it shows may be told to anyone only by
    /// [`Self::when_committed`] of the tail.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(self.inner.replica.borrow().ledger())
    }

    /// Everything below this offset is committed and applied.
    pub fn committed_offset(&self) -> Offset {
        self.inner.replica.borrow().committed()
    }

    /// Wakes whenever committed state has moved, or this replica has stopped.
    pub fn changed(&self) -> Notify {
        self.inner.changed.clone()
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        self.inner.counters.get()
    }

    /// Writes are refused for want of room, or taken again.
    pub fn set_full(&self, full: bool) {
        self.inner.full.set(full);
        let log = self.inner.log.log();
        if !full && log.no_room() {
            log.prepare_again();
        }
    }

    /// Writes are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.inner.full.get() || self.inner.log.log().no_room()
    }

    /// The leader that this node last heard of, itself included.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.raft.metrics().borrow_watched().current_leader
    }

    /// Newest term that this node knows of.
    pub fn term(&self) -> u64 {
        self.inner.raft.metrics().borrow_watched().current_term
    }

    /// This node decides.
    pub fn leads(&self) -> bool {
        self.inner.replica.borrow().leads().is_some()
    }

    /// The state may be read: this node has once, since its start, applied everything that it knew
    /// to be committed anywhere.
    pub fn is_readable(&self) -> bool {
        let inner = &*self.inner;
        if !inner.caught_up.get() {
            let metrics = inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            let applied = metrics.last_applied;
            let caught_up = metrics.current_leader.is_some()
                && applied.is_some()
                && applied >= metrics.cluster_committed;
            inner.caught_up.set(caught_up);
        }
        inner.caught_up.get()
    }

    /// Decides events in order; one outcome each is appended to `outcomes`. They may be told when
    /// the tail is committed.
    pub fn submit(&self, events: &[EventBytes], outcomes: &mut Outcomes) -> Result<Taken, Refused> {
        let inner = &*self.inner;
        // An accepted post needs its resolution beside it.
        self.admit(EntryKind::Events, std::mem::size_of_val(events) * 2)?;
        let now = inner.runtime.now();
        let taken = inner.replica.borrow_mut().decide_events(events, now, outcomes);
        inner.work.notify_all();
        taken.ok_or_else(|| self.not_leader())
    }

    /// Decides opaque records in order, as [`Self::submit`] does events.
    pub fn append_records(
        &self,
        heads: &[RecordHead],
        blob: &[u8],
        outcomes: &mut Outcomes,
    ) -> Result<Taken, Refused> {
        let inner = &*self.inner;
        self.admit(EntryKind::Records, std::mem::size_of_val(heads) + blob.len())?;
        let now = inner.runtime.now();
        let taken = inner.replica.borrow_mut().decide_records(heads, blob, now, outcomes);
        inner.work.notify_all();
        taken.ok_or_else(|| self.not_leader())
    }

    /// Ends reservations whose time is over, if this node leads.
    pub fn expire(&self) {
        let inner = &*self.inner;
        let now = inner.runtime.now();
        let due = self.with_ledger(|ledger| ledger.next_expiry().is_some_and(|at| at <= now));
        if due
            && self.admit(EntryKind::Events, EVENT_BYTES).is_ok()
            && inner.replica.borrow_mut().expire(now)
        {
            inner.work.notify_all();
        }
    }

    /// Calls `answer` when everything decided so far is committed; at once if it is already.
    /// `bytes` is what the answer holds in memory.
    pub fn when_committed(&self, bytes: usize, answer: Answer) {
        let inner = &*self.inner;
        self.settle();
        if let Some(refused) = self.stopped() {
            return answer(Err(&refused));
        }
        let (tail, committed) = {
            let replica = inner.replica.borrow();
            (replica.ledger().next_offset(), replica.committed())
        };
        if tail <= committed {
            return answer(Ok(()));
        }
        inner.waiters.push(tail.0, bytes, answer);
    }

    /// Checks bounds and makes place in the draft before anything is decided.
    fn admit(&self, kind: EntryKind, bytes: usize) -> Result<(), Refused> {
        let inner = &*self.inner;
        self.settle();
        if let Some(refused) = self.stopped() {
            return Err(refused);
        }
        if !self.leads() {
            return Err(self.not_leader());
        }
        if inner.closing.get() {
            return Err(Refused::ShuttingDown);
        }
        if self.is_full() {
            self.count(|counters| counters.refused_full += 1);
            return Err(Refused::StorageFull);
        }
        if self.is_busy() {
            return Err(BUSY);
        }
        let mut replica = inner.replica.borrow_mut();
        if !replica.open().takes(kind, bytes) {
            inner.proposals.borrow_mut().extend(replica.seal());
        }
        Ok(())
    }

    /// Leadership is on its way elsewhere, or too much is not committed yet.
    pub fn is_busy(&self) -> bool {
        let inner = &*self.inner;
        inner.pausing.get()
            || inner.waiters.is_full()
            || inner.replica.borrow().decided_bytes() >= PROPOSED_BYTES_MAX
    }

    /// Tells everybody whose place was reached, or cut off.
    pub(super) fn settle(&self) {
        let inner = &*self.inner;
        let (cut, committed) = {
            let mut replica = inner.replica.borrow_mut();
            (replica.take_cut(), replica.committed())
        };
        if let Some(cut) = cut {
            inner.waiters.lost_behind(cut.0, &Refused::LeadershipLost);
        }
        inner.waiters.reached(committed.0);
        if let Some(stopped) = self.stopped() {
            inner.waiters.lost(&stopped);
        }
    }

    /// Completes when this node has applied everything that was committed anywhere before the call:
    /// what it tells then is linearizable.
    pub async fn read_barrier(&self) -> Result<(), Refused> {
        if is_planted(Bug::StaleLeaderRead) && self.inner.replica.borrow().leads().is_some() {
            return Ok(());
        }
        let barrier = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        barrier.map(|_| ()).map_err(|_| self.not_leader())
    }

    fn not_leader(&self) -> Refused {
        self.stopped().unwrap_or_else(|| Refused::NotLeader(self.leader()))
    }

    /// A disk error ends consensus here at once, and not when something is to be written next: a
    /// leader that can't write must not keep others from leading.
    async fn stop_with_log(&self) {
        self.inner.log.log().wait_stopped().await;
        let _ = self.inner.raft.shutdown().await;
    }

    /// Why this replica has stopped for good: its disk failed, or it does not agree with the log.
    pub fn stopped(&self) -> Option<Refused> {
        let disagrees = self.inner.apply.stopped();
        let failed = || self.inner.log.log().stopped().map(|reason| reason.to_string());
        let consensus = || self.inner.failed.borrow().clone();
        disagrees.or_else(failed).or_else(consensus).map(Refused::Stopped)
    }

    /// Answers a peer.
    pub async fn answer(&self, request: Request) -> Result<Response, String> {
        service::answer(&self.inner.raft, request).await
    }

    /// Takes a stream of appends from a leader.
    pub async fn take_appends(&self, requests: AppendReceiver, results: ResultSender) {
        service::take_appends(&self.inner.raft, requests, results).await;
    }

    /// Lets the replica decide while this node leads: from when the first entry of its term is
    /// applied, and with it all before, until leadership ends.
    async fn watch_leadership(&self) {
        let inner = &*self.inner;
        let mut metrics = inner.raft.metrics();
        loop {
            let applied = inner.apply.changed();
            let applied = applied.changed();
            self.look_at_leadership();
            let gone = async { metrics.changed().await.is_err() };
            let moved = async {
                applied.await;
                false
            };
            if futures_lite::future::or(gone, moved).await {
                let state = metrics.borrow_watched().running_state.clone();
                if let (false, Err(why)) = (inner.closing.get(), state) {
                    inner.failed.replace(Some(why.to_string()));
                }
                inner.replica.borrow_mut().follow();
                inner.work.notify_all();
                return;
            }
        }
    }

    fn look_at_leadership(&self) {
        let inner = &*self.inner;
        let term = inner.raft.as_leader().ok().map(|leader| leader.leader_id().term);
        let applied_term = inner.apply.applied().map(|id| id.leader_id.term);
        let mut replica = inner.replica.borrow_mut();
        if replica.leads() == term {
            return;
        }
        if term.is_some() && applied_term == term {
            replica.lead(term.unwrap_or_default());
        } else {
            replica.follow();
        }
        drop(replica);
        inner.proposals.borrow_mut().retain(|batch| Some(batch.term) == term);
        inner.work.notify_all();
    }

    /// Takes nothing more, waits until what was decided is committed, leaves the group and closes
    /// the log.
    pub async fn close(&self) -> Result<(), Refused> {
        let inner = &*self.inner;
        inner.closing.set(true);
        inner.work.notify_all();
        let deadline = inner.runtime.elapsed() + CLOSE_WITHIN;
        while self.leads() && !inner.waiters.is_empty() && inner.runtime.elapsed() < deadline {
            inner.runtime.sleep(Duration::from_millis(1)).await;
        }
        let stopped = self.stopped();
        let ended = inner.raft.shutdown().await;
        inner.closed.set(true);
        inner.replica.borrow_mut().follow();
        self.settle();
        inner.work.notify_all();
        inner.handed.notify_all();
        if let Some(refused) = stopped {
            return Err(refused);
        }
        ended.map_err(|error| Refused::Stopped(error.to_string()))?;
        let closed = inner.log.log().clone().close().await;
        closed.map_err(|error| Refused::Stopped(error.to_string()))
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.inner.counters.get();
        change(&mut counters);
        self.inner.counters.set(counters);
    }
}
