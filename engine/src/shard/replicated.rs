//! A partition that a Raft group keeps on several nodes: decides while it leads, applies while it
//! follows. Lives on the partition's shard; not `Send`.
//!
//! An outcome is told once the batch that holds it is committed. If leadership ends before, the
//! batch is taken back here and its outcome is unknown: it may still be committed by the next
//! leader. Whoever asks again by the same ids learns it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::impls::ProgressResponder;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::LeaderId;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use walengine_net::model::{EventBytes, Offset};
use walengine_replication::network::Peers;
use walengine_replication::runtime::within;
use walengine_replication::service;
use walengine_replication::transport::{
    AppendReceiver, Request, Response, ResultSender, Transport,
};
use walengine_replication::types::{Batch, LogId, NodeId, Types};

use super::replica::Replica;
use crate::ledger::{Ledger, Outcomes};
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

/// Why a request has no outcome from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// This node does not lead; nothing was done. It last heard of this leader.
    NotLeader(Option<NodeId>),
    /// Leadership ended before the outcome was known: ask for it by the same ids.
    Unknown,
    /// This replica has stopped. The text says why.
    Stopped(String),
}

/// See the module. Clones are handles to the same partition.
pub struct Replicated<D: Disk, R: Runtime> {
    inner: Rc<Inner<D, R>>,
}

impl<D: Disk, R: Runtime> Clone for Replicated<D, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<D: Disk, R: Runtime> {
    node: NodeId,
    runtime: R,
    replica: Rc<RefCell<Replica>>,
    apply: RaftApply,
    log: RaftLog<D, R>,
    raft: GroupRaft,
    /// Decided and not handed to consensus yet, in order.
    proposals: RefCell<VecDeque<Batch>>,
    work: Notify,
}

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
        ..Config::default()
    }
}

impl<D: Disk, R: Runtime> Replicated<D, R> {
    /// Joins a recovered log to its group. The executor must be entered.
    ///
    /// # Errors
    /// What contradicts itself in log and hard state, in words.
    pub async fn open(
        node: NodeId,
        log: RaftLog<D, R>,
        empty: Ledger,
        runtime: R,
        transport: impl Transport,
        timing: GroupTiming,
    ) -> Result<Self, String> {
        let apply = RaftApply::new(Rc::new(RefCell::new(Replica::new(empty))));
        Self::open_with(node, log, apply, runtime, transport, timing).await
    }

    /// As [`Self::open`], on a state that is not empty: that of a snapshot, which the log goes on from.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(
        node: NodeId,
        log: RaftLog<D, R>,
        apply: RaftApply,
        runtime: R,
        transport: impl Transport,
        timing: GroupTiming,
    ) -> Result<Self, String> {
        let replica = apply.replica().clone();
        let config = config(timing).validate().map_err(|error| error.to_string())?;
        let peers = Peers { node, transport };
        let raft = Raft::new(node, Arc::new(config), peers, log.clone(), apply.clone()).await;
        let raft = raft.map_err(|error| error.to_string())?;
        let proposals = RefCell::default();
        let work = Notify::new();
        let inner = Inner { node, runtime, replica, apply, log, raft, proposals, work };
        let partition = Self { inner: Rc::new(inner) };
        let (watching, proposing) = (partition.clone(), partition.clone());
        let runtime = &partition.inner.runtime;
        let watching = async move { watching.watch_leadership().await };
        runtime.spawn(within(runtime.clone(), watching));
        let failing = partition.clone();
        let failing = async move { failing.stop_with_log().await };
        runtime.spawn(within(runtime.clone(), failing));
        let proposing = async move { proposing.propose().await };
        runtime.spawn(within(runtime.clone(), proposing));
        Ok(partition)
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

    /// Why this replica has stopped for good: it does not agree with the log.
    pub fn stopped(&self) -> Option<String> {
        self.inner.apply.stopped()
    }

    /// Looks at the replica; only what is below [`Replica::committed`] may be told to anyone.
    pub fn with_replica<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.inner.replica.borrow())
    }

    /// Decides events and completes when their outcomes are committed.
    pub async fn submit(&self, events: &[EventBytes]) -> Result<Outcomes, Unserved> {
        let inner = &*self.inner;
        let mut outcomes = Outcomes::new();
        let (counts_from, undone) = {
            let mut replica = inner.replica.borrow_mut();
            let now = inner.runtime.now();
            let decided = replica.decide_events(inner.node, events, now, &mut outcomes);
            let Some(proposal) = decided else { return Err(self.not_leader()) };
            if let Some(batch) = proposal.batch {
                inner.proposals.borrow_mut().push_back(batch);
            }
            (proposal.counts_from, replica.undone())
        };
        inner.work.notify_all();
        self.wait_committed(counts_from, undone).await?;
        Ok(outcomes)
    }

    async fn wait_committed(&self, offset: Offset, undone: u64) -> Result<(), Unserved> {
        let inner = &*self.inner;
        loop {
            let (applied, work) = (inner.apply.changed(), inner.work.changed());
            let applied = applied.changed();
            if let Some(why) = inner.apply.stopped() {
                return Err(Unserved::Stopped(why));
            }
            {
                let replica = inner.replica.borrow();
                if replica.undone() != undone {
                    return Err(Unserved::Unknown);
                }
                if replica.committed() >= offset {
                    return Ok(());
                }
            }
            futures_lite::future::or(applied, work).await;
        }
    }

    /// Completes when this node has applied everything that was committed anywhere before the call:
    /// what it tells then is linearizable.
    pub async fn read_barrier(&self) -> Result<(), Unserved> {
        if is_planted(Bug::StaleLeaderRead) && self.inner.replica.borrow().leads().is_some() {
            return Ok(());
        }
        let barrier = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        barrier.map(|_| ()).map_err(|_| self.not_leader())
    }

    fn not_leader(&self) -> Unserved {
        let inner = &*self.inner;
        let disk = || inner.log.log().stopped().map(|why| why.to_string());
        if let Some(why) = inner.apply.stopped().or_else(disk) {
            return Unserved::Stopped(why);
        }
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        match &metrics.running_state {
            Ok(()) => Unserved::NotLeader(metrics.current_leader),
            Err(why) => Unserved::Stopped(why.to_string()),
        }
    }

    /// A disk error ends consensus here at once, and not when something is to be written next: a
    /// leader that can't write must not keep others from leading.
    async fn stop_with_log(&self) {
        self.inner.log.log().wait_stopped().await;
        let _ = self.inner.raft.shutdown().await;
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

    /// Hands batches to consensus in the order in which they were decided, each in its own term or
    /// not at all.
    async fn propose(&self) {
        let inner = &*self.inner;
        loop {
            let work = inner.work.changed();
            let next = inner.proposals.borrow_mut().pop_front();
            let Some(batch) = next else {
                work.await;
                continue;
            };
            let leader = LeaderId::new(batch.term, inner.node).to_committed();
            let (responder, told) = ProgressResponder::complete_only();
            let write = inner.raft.write(batch.clone()).with_leader(leader).responder(responder);
            if write.await.is_err() {
                return; // consensus has stopped; its metrics say so, too
            }
            let partition = self.clone();
            let refused = async move {
                // Leadership has ended, or its lease: in the same term others may be taken again.
                if let Ok(Err(_)) = told.await {
                    partition.refused(&batch);
                }
            };
            inner.runtime.spawn(within(inner.runtime.clone(), refused));
        }
    }

    fn refused(&self, batch: &Batch) {
        let inner = &*self.inner;
        let mut replica = inner.replica.borrow_mut();
        let undone = replica.undone();
        replica.refused(batch);
        if replica.undone() != undone {
            // All of them were decided behind it.
            inner.proposals.borrow_mut().clear();
        }
        drop(replica);
        inner.work.notify_all();
    }
}
