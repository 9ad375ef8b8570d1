//! Keeps from consensus what no honest peer asks ([`honest`] has the rules). What the rules need to know
//! is gathered here: for whom the members have voted, whom the leader has named to lead next, and what the
//! log holds. Lives on the partition's shard core; not `Send`.
//!
//! ```text
//!  peer ─▶ vote, transfer ─▶ judge ─▶ openraft
//!  peer ─▶ append ─▶ whose? ─▶ elected? ─▶ attaches where? ─▶ cuts nothing committed?
//!       ─▶ each entry follows? ─▶ openraft
//! ```

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::Stream;
use openraft::alias::LeaderIdOf;
use openraft::async_runtime::{MpscReceiver, WatchReceiver};
use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use walengine_net::entry::RecordsEnd;
use walengine_net::message::Entries;
use walengine_replication::honest::{self, Behind, Dishonest};
use walengine_replication::runtime::within;
use walengine_replication::transport::{AppendReceiver, Request};
use walengine_replication::types::{LogId, Member, NodeId, Types, Vote};

use super::raft_apply::GroupRaft;
use super::raft_log::{RaftLog, log_id_of};
use crate::agreed_clock::{ClockAgreement, latest};
use crate::limits::{DISHONEST_TOLD_EVERY, JUDGED_READ_BYTES, SUCCESSOR_WITHIN};
use crate::local::Notify;
use crate::partition::replica_id::ReplicaId;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::{HardState, Tail};

type Append = AppendEntriesRequest<Types>;

/// A peer's answer to a pre-vote; `None`: there is none.
pub(super) type Answered = Pin<Box<dyn Future<Output = Option<VoteResponse<Types>>>>>;
/// Asks a peer for a pre-vote.
pub(super) type Ask = Rc<dyn Fn(NodeId, Member, Request) -> Answered>;

/// See the module. Of one replica.
pub(super) struct Judge<D: Disk, R: Runtime> {
    pub id: ReplicaId,
    pub raft: GroupRaft,
    pub log: RaftLog<D, R>,
    pub runtime: R,
    pub ask: Ask,
    /// How long others have to say for whom they have voted.
    pub patience: Duration,
    pub known: Known,
}

/// What was heard of the group, and refused, since the start.
#[derive(Default)]
pub(super) struct Known {
    /// Whom the leader has named to lead next, and until when that counts.
    successor: Cell<Option<(NodeId, Duration)>>,
    refused: Cell<u64>,
    /// Requests of those who may be honest, which could not be proven.
    doubted: Cell<u64>,
    /// Why the last one was, and whose it was.
    last: RefCell<Option<String>>,
    told: Cell<Option<Duration>>,
    /// Who has asked for a vote, or for whom this node has voted, since somebody wanted to know.
    asked: Cell<Option<NodeId>>,
    /// What the voters' clocks agree on.
    pub clocks: Cell<ClockAgreement>,
}

impl<D: Disk, R: Runtime> Judge<D, R> {
    /// How many requests were refused, and why the last one was.
    pub fn refused(&self) -> (u64, Option<String>) {
        (self.known.refused.get(), self.known.last.borrow().clone())
    }

    /// Who has asked for a vote since the last call, if somebody has.
    pub fn take_asked(&self) -> Option<NodeId> {
        self.known.asked.take()
    }

    /// This leader wants `node` to lead next.
    pub fn name_successor(&self, node: NodeId) {
        self.known.successor.set(Some((node, self.runtime.elapsed() + SUCCESSOR_WITHIN)));
    }

    /// Judges a single request, and makes an ordinary vote of one whose candidate nobody has named.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn pass(&self, from: NodeId, request: &mut Request) -> Result<(), String> {
        let judged = match request {
            Request::Vote(vote) | Request::PreVote(vote) => {
                self.known.asked.set(Some(from));
                if vote.leadership_transfer && !self.is_successor(from) {
                    vote.leadership_transfer = false;
                    self.doubt(from, &"the leader is not heard to have named it to lead next");
                }
                honest::candidate(from, &vote.vote, self.own().term)
            }
            Request::TransferLeader(transfer) => {
                let leader = transfer.from_leader();
                let judged = honest::leader(from, leader, self.own().term);
                if judged.is_ok() && self.raft.metrics().borrow_watched().vote == *leader {
                    self.name_successor(*transfer.to_node_id());
                }
                judged
            }
            Request::Append(append) => self.append(&mut Behind::default(), from, append).await,
        };
        judged.map_err(|why| self.refuse(from, &why))
    }

    /// The appends of a stream, up to one that is refused; `refused` then says why.
    pub fn passed(
        self: &Rc<Self>,
        from: NodeId,
        requests: AppendReceiver,
        refused: Rc<RefCell<Option<String>>>,
    ) -> impl Stream<Item = Append> + 'static {
        let state = (self.clone(), requests, Behind::default(), refused);
        futures_lite::stream::unfold(
            state,
            move |(judge, mut requests, mut behind, refused)| async move {
                let mut append = requests.recv().await?;
                if let Err(why) = judge.append(&mut behind, from, &mut append).await {
                    refused.replace(Some(judge.refuse(from, &why)));
                    return None;
                }
                Some((append, (judge, requests, behind, refused)))
            },
        )
    }

    /// Counts a refusal, and gives the reason in words.
    fn refuse(&self, from: NodeId, why: &Dishonest) -> String {
        if let Dishonest::NotElected { .. } = why {
            self.doubt(from, why); // perhaps nobody could be asked in time
        } else {
            self.known.refused.set(self.known.refused.get() + 1);
            self.known.last.replace(Some(format!("node {from}: {why}")));
            self.tell(from, why);
        }
        why.to_string()
    }

    /// An honest one may say this, and is held up by it for a moment.
    fn doubt(&self, from: NodeId, why: &dyn std::fmt::Display) {
        self.known.doubted.set(self.known.doubted.get() + 1);
        self.tell(from, why);
    }

    fn tell(&self, from: NodeId, why: &dyn std::fmt::Display) {
        let (now, known) = (self.runtime.elapsed(), &self.known);
        if known.told.get().is_none_or(|told| now.saturating_sub(told) >= DISHONEST_TOLD_EVERY) {
            known.told.set(Some(now));
            tracing::error!(
                "partition {}: node {from} is not believed: {why}; nothing was changed (since the start, \
                 {} requests that no honest node makes, and {} of one that may be honest)",
                self.id.partition,
                known.refused.get(),
                known.doubted.get()
            );
        }
    }

    /// The newest vote of this node.
    fn own(&self) -> HardState {
        self.log.log().hard_state()
    }

    fn is_successor(&self, node: NodeId) -> bool {
        let now = self.runtime.elapsed();
        self.known.successor.get().is_some_and(|(named, until)| named == node && now < until)
    }

    /// `behind` is where the last append with entries ends; afterwards, where this one does if it has any. One without,
    /// a sign of life, names what this node is known to have, and comes between those that go on far behind that.
    async fn append(
        &self,
        behind: &mut Behind,
        from: NodeId,
        append: &mut Append,
    ) -> Result<(), Dishonest> {
        let (own, leader) = (self.own(), append.vote.leader_id);
        honest::leader(from, &append.vote, own.term)?;
        if leader.term < own.term {
            empty(append); // openraft tells it who leads now
            return Ok(());
        }
        // A leader that this node has voted for may have been elected, and so has one that was believed
        // before: openraft saves whom it follows. Of another one a majority must say so.
        let has_vote = (own.term, own.voted_for) == (leader.term, Some(from));
        if !has_vote && !self.is_elected(leader).await {
            return Err(Dishonest::NotElected { term: leader.term });
        }
        let (committed, mut read) = (self.log.log().committed_index(), VecDeque::new());
        let prev = append.prev_log_id;
        let Some(mut at) = self.attach(behind, prev, committed, &mut read).await? else {
            // openraft answers that the entry before is missing or another; nothing is to be stored. If that entry
            // has come by then on another way, its answer is where this log ends, and the leader sends the rest again.
            empty(append);
            *behind = Behind::default();
            return Ok(());
        };
        for entry in &append.entries {
            let index = entry.log_id.index.saturating_add(1);
            // What can't be read here is judged like what is new.
            let own = if index > committed { None } else { self.entry(index, &mut read).await };
            at = match own {
                Some(own) if own.id != Some(entry.log_id) => {
                    return Err(Dishonest::Committed(index));
                }
                Some(own) => own,
                None => {
                    let (clocks, last) = (self.known.clocks.get(), at.records.timestamp);
                    if let Some(latest) = latest(clocks, self.runtime.now(), last) {
                        honest::in_time(entry, latest)?;
                    }
                    at.with(entry, &append.vote)?
                }
            };
        }
        if let Some(committed) = append.leader_commit {
            at.may_be_committed(&committed)?;
        }
        if !append.entries.is_empty() {
            *behind = at;
        }
        Ok(())
    }

    /// Asks a member where its log ends now. `None`: it does not answer in time, or is no member.
    pub async fn end_of(&self, node: NodeId) -> Option<Option<LogId>> {
        let member = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&node).cloned()
        };
        let asked = (self.ask)(node, member?, self.question());
        let late = async {
            self.runtime.sleep(self.patience).await;
            None
        };
        futures_lite::future::or(asked, late).await.map(|answer| answer.last_log_id)
    }

    /// It changes nothing at a peer; the answer says for whom that one has voted, and where its log ends.
    fn question(&self) -> Request {
        let own = Vote::new(self.own().term, self.id.node);
        Request::PreVote(VoteRequest::new(own, log_id_of(&self.log.log().last())))
    }

    /// Asks the other voters for their votes, until a majority has voted for `leader`, all have answered
    /// or time is up. A node without a log knows no voters, and has to believe whoever sends it one.
    async fn is_elected(&self, leader: LeaderIdOf<Types>) -> bool {
        let membership = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().clone()
        };
        let configs = membership.get_joint_config().clone();
        if configs.is_empty() {
            // Right after a start, openraft has not told yet what the log says.
            return self.log.log().last().index == 0;
        }
        // It says so itself.
        let yes = Rc::new(RefCell::new(BTreeSet::from([leader.voted_for])));
        let is_majority = |voters: &BTreeSet<NodeId>| {
            voters.intersection(&yes.borrow()).count() > voters.len() / 2
        };
        let is_elected = || configs.iter().all(is_majority);
        let (answered, open) = (Notify::new(), Rc::new(Cell::new(0)));
        let is_asked = |voter: &NodeId| ![self.id.node, leader.voted_for].contains(voter);
        for voter in membership.voter_ids().filter(is_asked) {
            let Some(member) = membership.get_node(&voter).cloned() else { continue };
            let asked = (self.ask)(voter, member, self.question());
            let (yes, answered, open) = (yes.clone(), answered.clone(), open.clone());
            open.set(open.get() + 1);
            self.runtime.spawn(within(self.runtime.clone(), async move {
                if asked.await.is_some_and(|answer| answer.vote.leader_id == leader) {
                    yes.borrow_mut().insert(voter);
                }
                open.set(open.get() - 1);
                answered.notify_all();
            }));
        }
        let answers = async {
            loop {
                let changed = answered.changed();
                if is_elected() || open.get() == 0 {
                    return;
                }
                changed.await;
            }
        };
        futures_lite::future::or(answers, self.runtime.sleep(self.patience)).await;
        is_elected()
    }

    /// The point that an append attaches to; `None` if this log does not have it.
    async fn attach(
        &self,
        behind: &Behind,
        prev: Option<LogId>,
        committed: u64,
        read: &mut VecDeque<(u64, Behind)>,
    ) -> Result<Option<Behind>, Dishonest> {
        if prev == behind.id {
            return Ok(Some(*behind));
        }
        let Some(prev) = prev else { return Ok(Some(Behind::default())) };
        let index = prev.index.saturating_add(1);
        let own = self.entry(index, read).await;
        match own {
            Some(own) if own.id == Some(prev) => Ok(Some(own)),
            Some(_) if index <= committed => Err(Dishonest::Committed(index)),
            _ => Ok(None),
        }
    }

    /// The end of an entry of this log; `None` if it is not there, or can't be read. `read` has the ends of those
    /// that were read last. A leader that has just been elected asks for what is old, a few entries at a time: read
    /// from the disk one by one, they would take so many times as long.
    async fn entry(&self, index: u64, read: &mut VecDeque<(u64, Behind)>) -> Option<Behind> {
        let log = self.log.log();
        match index.cmp(&log.last().index) {
            Ordering::Equal => return Some(behind(&log.last())),
            Ordering::Greater => return None,
            Ordering::Less => {}
        }
        let at = |read: &VecDeque<(u64, Behind)>| read.front().map(|(index, _)| *index);
        while at(read).is_some_and(|first| first < index) {
            read.pop_front();
        }
        if at(read) != Some(index) {
            let bytes = match log.read(index, JUDGED_READ_BYTES).await {
                Ok(bytes) => bytes,
                // One behind it may be at fault.
                Err(_) => log.read(index, 1).await.ok()?,
            };
            let headers = Entries::new(&bytes).map_while(Result::ok).map(|(header, _)| header);
            *read = headers.map(|header| (header.meta.index, behind(&Tail::of(&header)))).collect();
        }
        read.front().filter(|(first, _)| *first == index).map(|(_, end)| *end)
    }
}

fn behind(tail: &Tail) -> Behind {
    let Tail { next_offset, timestamp, .. } = *tail;
    Behind { id: log_id_of(tail), records: RecordsEnd { next_offset, timestamp } }
}

/// Leaves of an append only whose it is, and what it attaches to.
fn empty(append: &mut Append) {
    append.entries.clear();
    append.leader_commit = None;
}
