//! A partition that a Raft group keeps on several nodes: this node decides while it leads, and
//! applies while it follows.
//!
//! ```text
//!  leader    decide ─ seal ─ propose ─ push ─▶ openraft ─ append ─ flush ─┐
//!                                                 │                       ├─ majority: committed ─ apply
//!  follower                                       └─▶ append ─ flush ─────┘                          │
//!                                                                              settle ◀─ commit_own ─┘
//! ```

pub mod changes;
pub mod compare;
pub mod copying;
mod judge;
pub mod members;
pub mod opening;
mod proposals;
pub mod raft_apply;
pub mod raft_log;
pub mod reach;
mod recent;
pub mod sources;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openraft::alias::OneshotReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use walengine_net::message::Entries;
use walengine_replication::network::Peers;
use walengine_replication::reached::Reached;
use walengine_replication::runtime::within;
use walengine_replication::service;
use walengine_replication::transport::{
    AppendReceiver, NoAnswer, Request, Response, ResultSender, Transport, TransportError,
};
use walengine_replication::types::{Batch, LogId, NodeId, Types};

use super::Partition;
use super::commit::{Commit, Point};
use super::drafts::{DraftHead, Drafts};
use super::ids_upkeep;
use super::older_ids::{OlderIds, Wanted};
use super::replica::Replica;
use super::replica_id::ReplicaId;
use crate::agreed_clock::ClockAgreement;
use crate::ids::runs::Runs;
use crate::ledger::SnapshotCut;
use crate::limits::{
    APPEND_ENTRIES_MAX, CUT_LOOK_EVERY, FLUSH_PARALLEL_BYTES_MIN, MEND_WITHIN, PROPOSED_BYTES_MAX,
};
use crate::local::Notify;
use crate::refused::Refused;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::Tail;
use crate::storage::log::Log;
use crate::visible::Visible;
use judge::{Answered, Judge, Known};
pub use raft_apply::GroupRaft;
use raft_apply::{AppliedPoint, RaftApply};
use raft_log::RaftLog;

/// A partition that a group keeps.
pub type Group<D, R> = Partition<Consensus<D, R>>;

/// Timing of a group, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct GroupTiming {
    /// A leader shows itself this often.
    pub heartbeat_millis: u64,
    /// A follower that hears nothing of a leader for a time between these two stands for election.
    pub election_millis: (u64, u64),
}

/// Makes what this node decides final by replicating it to a majority. Lives on the partition's
/// shard core; not `Send`.
pub struct Consensus<D: Disk, R: Runtime> {
    id: ReplicaId,
    runtime: R,
    /// Shared with the partition, which decides on it, and with `apply`.
    replica: Rc<RefCell<Replica>>,
    apply: RaftApply,
    log: RaftLog<D, R>,
    raft: GroupRaft,
    /// How far the other members are known to have had the log.
    reached: Reached,
    /// Candidates that are being asked how far they have it.
    asking: RefCell<BTreeSet<NodeId>>,
    /// What peers may ask.
    judge: Rc<Judge<D, R>>,
    /// Sealed and not handed to openraft yet, in order. Invariant: all of the term in which this
    /// node leads; empty if it does not.
    proposals: RefCell<VecDeque<Batch>>,
    /// Handed to openraft, in order, with where it tells what became of them.
    handed: RefCell<VecDeque<(Batch, ProposalOutcome)>>,
    /// Something was handed to openraft, or this has closed.
    handed_changed: Notify,
    /// Leadership is about to move: nothing new is taken.
    is_pausing: Cell<bool>,
    is_closing: Cell<bool>,
    is_closed: Cell<bool>,
    /// Why consensus has stopped by itself, if it has. Never reset.
    failed: RefCell<Option<String>>,
    /// Why the others refuse this node, which was set back, if they do. Never reset.
    set_back: RefCell<Option<String>>,
    /// Once true, always true.
    has_caught_up: Cell<bool>,
}

/// Tells whether consensus took a batch.
type ProposalOutcome = OneshotReceiverOf<Types, ClientWriteResult<Types>>;

/// How groups are run: the configuration that every group on a node gets.
pub fn raft_config(timing: GroupTiming) -> Config {
    Config {
        heartbeat_interval: timing.heartbeat_millis,
        election_timeout_min: timing.election_millis.0,
        election_timeout_max: timing.election_millis.1,
        max_payload_entries: APPEND_ENTRIES_MAX,
        // The whole log is kept, so no replica ever needs a snapshot to catch up.
        snapshot_policy: SnapshotPolicy::Never,
        // With it, a leader that lost its unflushed tail would lead again in the same term and give
        // the same log id to other bytes.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        // A leader that is heard but hears no other node falls silent, so that another can be elected.
        quorum_loss_probe_interval: Some(2 * timing.election_millis.1),
        ..Config::default()
    }
}

/// Joins a recovered log to its group, on the state that `apply` begins with and the log goes on
/// from. `config` is [`raft_config`]'s. The executor must be entered.
///
/// # Errors
/// What contradicts itself in log and hard state, in words.
pub async fn join<D: Disk, R: Runtime>(
    id: ReplicaId,
    log: RaftLog<D, R>,
    apply: RaftApply,
    runs: Runs<D>,
    runtime: R,
    transport: impl Transport,
    config: Config,
) -> Result<Group<D, R>, String> {
    let older = OlderIds::new(runs, log.log().clone(), runtime.clone()).mended_by(log.mender());
    // A start that can't go on fails: a node that has begun waits for those that it can be mended from.
    let within = Rc::new(Cell::new(Some(MEND_WITHIN)));
    let (looks_up, waits) = (older.clone(), within.clone());
    let apply = apply.looking_up_by(Rc::new(move |wanted: Vec<Wanted>| {
        let (older, within) = (looks_up.clone(), waits.get());
        Box::pin(async move { older.look_up_patiently(id, &wanted, within).await })
    }));
    let replica = apply.replica().clone();
    let config = config.validate().map_err(|error| error.to_string())?;
    let reached = Reached::default();
    let remembered = log.log().read_reached().await.map_err(|error| error.to_string())?;
    for (node, entries) in remembered {
        reached.note(node, entries);
    }
    let asks = transport.clone();
    let hears = reached.clone();
    let ask = move |node, member, request| -> Answered {
        let call = asks.call(node, member, request);
        let reached = hears.clone();
        Box::pin(async move {
            match call.await {
                Ok(Response::PreVote(answer)) => Some(answer),
                Err(TransportError::SetBack(by, why)) => {
                    reached.told(by, &why);
                    None
                }
                _ => None,
            }
        })
    };
    let peers = Peers { node: id.node, transport, reached: reached.clone() };
    let patience = Duration::from_millis(config.election_timeout_min);
    let raft = Raft::new(id.node, Arc::new(config), peers, log.clone(), apply.clone()).await;
    let raft = raft.map_err(|error| error.to_string())?;
    within.set(None);
    let judge = Judge {
        id,
        raft: raft.clone(),
        log: log.clone(),
        runtime: runtime.clone(),
        ask: Rc::new(ask),
        patience,
        known: Known::default(),
    };
    let consensus = Consensus {
        id,
        judge: Rc::new(judge),
        runtime,
        replica: replica.clone(),
        apply,
        log,
        raft,
        reached,
        asking: RefCell::default(),
        proposals: RefCell::default(),
        handed: RefCell::default(),
        handed_changed: Notify::new(),
        is_pausing: Cell::new(false),
        is_closing: Cell::new(false),
        is_closed: Cell::new(false),
        failed: RefCell::default(),
        set_back: RefCell::default(),
        has_caught_up: Cell::new(false),
    };
    let group = Partition::start(id, consensus, replica, older);
    ids_upkeep::begin(&group);
    group.spawn(|group| async move { group.commit().watch_leadership().await });
    group.spawn(|group| async move { group.commit().stop_with_log().await });
    group.spawn(|group| async move { group.commit().hear().await });
    group.spawn(|group| async move { group.give_way().await });
    Ok(group)
}

impl<D: Disk, R: Runtime> Consensus<D, R> {
    /// What the voters' clocks agree on: an entry far ahead of them is refused.
    pub fn note_clocks(&self, clocks: ClockAgreement) {
        self.judge.known.clocks.set(clocks);
    }

    /// openraft's handle to this group.
    pub fn raft(&self) -> &GroupRaft {
        &self.raft
    }

    /// The state machine of this node.
    pub fn machine(&self) -> &RaftApply {
        &self.apply
    }

    /// Newest entry that this node has applied.
    pub fn applied(&self) -> Option<LogId> {
        self.apply.applied()
    }

    /// Answers the peer `from`.
    ///
    /// # Errors
    /// The group has stopped here; the candidate has less of the log than it is known to have had, or it is
    /// not known yet whether it has; or no honest peer asks this.
    pub async fn answer(&self, from: NodeId, mut request: Request) -> Result<Response, NoAnswer> {
        self.judge.pass(from, &mut request).await.map_err(NoAnswer::Dishonest)?;
        if let Request::Vote(vote) | Request::PreVote(vote) = &request {
            let candidate = vote.vote.leader_id.voted_for;
            if !self.is_whole(candidate, vote.last_log_id).await.map_err(NoAnswer::SetBack)? {
                return self.put_off(&request);
            }
        }
        service::answer(&self.raft, request).await.map_err(NoAnswer::Stopped)
    }

    /// Takes a stream of appends from the peer `from`.
    ///
    /// # Errors
    /// It ended with one that no honest leader sends.
    pub async fn take_appends(
        &self,
        from: NodeId,
        requests: AppendReceiver,
        results: ResultSender,
    ) -> Result<(), NoAnswer> {
        let refused = Rc::new(RefCell::new(None));
        let passed = self.judge.passed(from, requests, refused.clone());
        service::take_appends(&self.raft, passed, results).await;
        let why = refused.take();
        why.map_or(Ok(()), |why| Err(NoAnswer::Dishonest(why)))
    }

    /// How many requests of peers were refused because no honest one makes them, since the start, and why
    /// the last one was.
    pub fn dishonest_requests(&self) -> (u64, Option<String>) {
        self.judge.refused()
    }

    /// This replica must not serve any more: requests that wait for consensus end with the same reason.
    async fn stop(&self, why: String) {
        self.apply.stop(why);
        let _ = self.raft.shutdown().await;
    }

    /// A disk error ends consensus here at once, and not when something is to be written next: a
    /// leader that can't write must not keep others from leading.
    async fn stop_with_log(&self) {
        self.log.log().wait_stopped().await;
        let _ = self.raft.shutdown().await; // its callers see the log's error
    }

    /// Lets the replica decide while this node leads: from when the first entry of its term is
    /// applied, and with it all before, until leadership ends.
    async fn watch_leadership(&self) {
        let mut metrics = self.raft.metrics();
        loop {
            let applied = self.apply.changed();
            let applied = applied.changed();
            self.look_at_leadership();
            let gone = async { metrics.changed().await.is_err() };
            let moved = async {
                applied.await;
                false
            };
            if futures_lite::future::or(gone, moved).await {
                let state = metrics.borrow_watched().running_state.clone();
                if let (false, Err(why)) = (self.is_closing.get(), state) {
                    self.failed.replace(Some(why.to_string()));
                }
                self.replica.borrow_mut().follow();
                self.apply.changed().notify_all();
                return;
            }
        }
    }

    fn look_at_leadership(&self) {
        let term = self.raft.as_leader().ok().map(|leader| leader.leader_id().term);
        let applied_term = self.apply.applied().map(|id| id.leader_id.term);
        let mut replica = self.replica.borrow_mut();
        if replica.leads() == term {
            return;
        }
        let led = replica.leads();
        if term.is_some() && applied_term == term {
            replica.lead(term.unwrap_or_default());
        } else {
            replica.follow();
        }
        self.proposals.borrow_mut().retain(|batch| Some(batch.term) == term);
        if replica.leads() != led {
            drop(replica);
            self.apply.changed().notify_all();
        }
    }
}

impl<D: Disk, R: Runtime> Commit for Consensus<D, R> {
    type Disk = D;
    type Runtime = R;

    fn log(&self) -> &Log<D, R> {
        self.log.log()
    }

    /// One small batch on its way at a time gathers what arrives meanwhile; large ones go side by
    /// side.
    fn wants_batch(&self, replica: &Replica) -> bool {
        let open_bytes = replica.open().body_bytes();
        let is_idle = replica.decided() == 0;
        self.proposals.borrow().is_empty() && (is_idle || open_bytes >= FLUSH_PARALLEL_BYTES_MIN)
    }

    fn has_room(&self, replica: &Replica) -> bool {
        !self.is_pausing.get() && replica.decided_bytes() < PROPOSED_BYTES_MAX
    }

    fn propose(
        &self,
        term: u64,
        head: &DraftHead,
        draft: &Drafts,
    ) -> Result<Option<Batch>, Refused> {
        let DraftHead { kind, base_offset, timestamp, records, .. } = *head;
        let body = Rc::from(&draft.encode(rkyv::util::AlignedVec::new())[..]);
        let leader_node = self.id.node;
        let batch = Batch { kind, term, leader_node, base_offset, records, timestamp, body };
        self.proposals.borrow_mut().push_back(batch.clone());
        Ok(Some(batch))
    }

    /// openraft is handed batches by [`Commit::push`].
    fn flush(&self) {}

    async fn push(&self) -> bool {
        let next = self.proposals.borrow_mut().pop_front();
        match next {
            Some(batch) => self.hand_to_openraft(batch).await,
            None => false,
        }
    }

    fn committed(&self) -> Visible {
        // openraft counts entries from 0, the log from 1.
        let index = self.apply.applied().map_or(0, |entry| entry.index + 1);
        Visible { index, next_offset: self.replica.borrow().committed() }
    }

    /// Applying has moved it.
    fn settle(&self, _replica: &mut Replica) {}

    fn changed(&self) -> Notify {
        self.apply.changed()
    }

    fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }

    fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    fn is_readable(&self) -> bool {
        if !self.has_caught_up.get() {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let applied = metrics.last_applied;
            let has_caught_up = metrics.current_leader.is_some()
                && applied.is_some()
                && applied >= metrics.cluster_committed;
            self.has_caught_up.set(has_caught_up);
        }
        self.has_caught_up.get()
    }

    /// The next leader may not have it.
    fn answers_at_word(&self) -> bool {
        false
    }

    async fn barrier(&self) -> Result<(), Refused> {
        let barrier = self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        let refused =
            |_| self.stopped().unwrap_or_else(|| Refused::NotLeader(Commit::leader(self)));
        barrier.map(|_| ()).map_err(refused)
    }

    /// What this leader has decided and not seen committed is in the cut. If it is taken back, so is
    /// the cut, whatever another leader puts in its place.
    async fn point_of(&self, cut: &SnapshotCut) -> Option<Point> {
        self.apply.await_offset(cut.next_offset());
        let AppliedPoint { applied, members } = loop {
            let changed = self.apply.changed();
            let changed = changed.changed();
            if !cut.holds(self.replica.borrow().ledger()) || self.stopped().is_some() {
                return None;
            }
            if let Some(point) = self.apply.reached() {
                break point;
            }
            futures_lite::future::or(changed, self.runtime.sleep(CUT_LOOK_EVERY)).await;
        };
        let bytes = self.log.log().read(applied.index + 1, 1).await.ok()?;
        let (header, _) = Entries::new(&bytes).next()?.ok()?;
        let applied = Tail::of(&header);
        assert!(applied.next_offset == cut.next_offset(), "{applied:?} at another offset");
        Some(Point { applied, members: members.encode() })
    }

    fn written_bytes(&self) -> u64 {
        self.apply.applied_bytes()
    }

    /// Its disk failed, or it does not agree with the log, or consensus ended by itself.
    fn newest_bytes(&self) -> usize {
        self.log.recent_bytes()
    }

    fn stopped(&self) -> Option<Refused> {
        let disagrees = self.apply.stopped();
        let failed = || self.log.log().stopped().map(|reason| reason.to_string());
        let consensus = || self.failed.borrow().clone();
        disagrees.or_else(failed).or_else(consensus).map(Refused::Stopped)
    }

    /// Leaves the group for good. The next leader may still commit what is not committed yet.
    async fn can_not_look_up(&self, why: String) {
        self.stop(why).await;
    }

    async fn close(&self, _is_finished: bool) -> Result<(), Refused> {
        self.is_closing.set(true);
        let stopped = self.stopped();
        let ended = self.raft.shutdown().await;
        self.is_closed.set(true);
        self.replica.borrow_mut().follow();
        self.handed_changed.notify_all();
        // A memory only: the next start can do without.
        let _ = self.log.log().save_reached(self.reached.all()).await;
        // A log that is well is marked also when this replica may not serve: what it holds is held.
        let closed = self.log.log().clone().close().await;
        if let Some(refused) = stopped {
            return Err(refused);
        }
        ended.map_err(|error| Refused::Stopped(error.to_string()))?;
        closed.map_err(|error| Refused::Stopped(error.to_string()))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.runtime.spawn(within(self.runtime.clone(), task));
    }

    fn runtime(&self) -> &R {
        &self.runtime
    }
}
