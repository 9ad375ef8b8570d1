//! Forms a cluster exactly once from N nodes that have none.
//!
//! The node with the lowest id of exactly N nodes that see each other is the founder. It asks all
//! of them, itself first, for a promise, and decides once all N have promised. What is durable
//! before what is sent:
//!
//! ```text
//! founder                                          member
//!
//! save Promised
//!   durable
//! Request ---------------------------------------> has no promise and no cluster, agrees:
//!                                                  save Promised
//!                                                    durable
//!   <--------------------------------------------- Promised
//! all N promised:
//! save Formed               <- the decision
//!   durable
//! tell the caller: Formed
//! Commit ----------------------------------------> save Formed
//!                                                    durable
//!                                                  tell the caller: Formed
//!   <--------------------------------------------- Committed
//! caller: empty logs of all partitions, then the superblock, on each node by itself
//!
//! somebody refuses, or ten seconds pass, before the decision:
//! save Released
//!   durable
//! Release ---------------------------------------> save Released
//!                                                    durable: free for another promise
//! ```
//!
//! - Two clusters with a common member cannot both be formed: that member would have had to give
//!   its promise twice, and a node holds at most one.
//! - A founder that has given up can never decide for that cluster again, because giving up is
//!   durable before anybody is released.
//! - Every request is repeated until it is answered, so lost and repeated datagrams change nothing.
//! - After a crash a node goes on from the last promise that was durable. The caller is told
//!   `Formed` again until its superblock names the cluster: it is written last, so formatting that
//!   was interrupted starts over.
//! - A founder that is lost for good before its decision got out blocks those that promised: no
//!   other node can know that it did not decide.
//!
//! Messages: GOSSIP.md, section 7. The founder's part is in `founder.rs`, a member's in
//! `member.rs`.

mod founder;
mod member;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use walengine_net::model::ClusterId;

use super::forming_message::FormingMessage;
use super::limits::{FORMING_PATIENCE, FORMING_PERIOD};
use super::output::Warning;
use super::promise::{Founding, FoundingMember, Promise, PromiseState};
use crate::types::NodeId;

/// A node, alive in this node's view, that wants to form a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub member: FoundingMember,
    pub expect: usize,
    pub partitions: u16,
}

/// What the caller has to do, in this order.
#[derive(Debug)]
pub(super) enum FormingEvent {
    Send { to: NodeId, address: SocketAddr, message: FormingMessage },
    Save(Promise),
    Formed(Founding),
    Warn(Warning),
}

/// One node's part in forming.
pub(super) struct Forming {
    me: NodeId,
    peer_address: SocketAddr,
    expect: Option<usize>,
    partitions: u16,
    /// Set once and never changed. From then on this node only answers.
    cluster: Option<ClusterId>,
    /// The durable promise. Invariant: promised or formed, never released.
    held: Option<Promise>,
    /// Handed to the caller, not durable yet. Invariant: while it is set, nothing else changes.
    saving: Option<Promise>,
    /// On the founder: who has promised; after the decision: who has made it durable. Invariant:
    /// this node, and members of `held`.
    answered: BTreeSet<NodeId>,
    attempt_since: Duration,
    next_ask: Duration,
    ask_period: Duration,
    not_before: Duration,
    /// The candidates when they last changed, and when that was.
    sight: (BTreeSet<NodeId>, Duration),
    warned: Option<Warning>,
    rng: SmallRng,
    salt: u64,
    events: VecDeque<FormingEvent>,
}

/// What a node knows at construction.
pub(super) struct FormingStart {
    pub me: NodeId,
    pub peer_address: SocketAddr,
    pub expect: Option<usize>,
    pub partitions: u16,
    pub cluster: Option<ClusterId>,
    pub promise: Option<Promise>,
    pub seed: u64,
    pub boot: u64,
    pub now: Duration,
}

impl Forming {
    pub(super) fn new(start: FormingStart) -> Self {
        let mut held = start.promise.filter(|promise| promise.state != PromiseState::Released);
        if let Some(cluster) = start.cluster {
            // The data directory outweighs the promise.
            held = held
                .filter(|promise| promise.founding.cluster == cluster)
                .map(|promise| Promise { state: PromiseState::Formed, ..promise });
        }
        let mut forming = Self {
            me: start.me,
            peer_address: start.peer_address,
            expect: start.expect,
            partitions: start.partitions,
            cluster: start.cluster,
            held,
            saving: None,
            answered: BTreeSet::from([start.me]),
            attempt_since: start.now,
            next_ask: start.now,
            ask_period: FORMING_PERIOD,
            not_before: start.now,
            sight: (BTreeSet::new(), start.now),
            warned: None,
            rng: SmallRng::seed_from_u64(start.seed ^ start.boot.rotate_left(32)),
            salt: start.boot,
            events: VecDeque::new(),
        };
        // The process may have ended after the decision and before the caller had formatted.
        if forming.cluster.is_none()
            && let Some(held) = &forming.held
            && held.state == PromiseState::Formed
        {
            forming.cluster = Some(held.founding.cluster);
            forming.events.push_back(FormingEvent::Formed(held.founding.clone()));
        }
        forming
    }

    pub(super) fn next_event(&mut self) -> Option<FormingEvent> {
        self.events.pop_front()
    }

    /// No promise binds this node, and none is being saved.
    pub(super) fn is_free(&self) -> bool {
        self.held.is_none() && self.saving.is_none()
    }

    /// A promise about that cluster binds this node, or is being saved.
    pub(super) fn is_about(&self, cluster: ClusterId) -> bool {
        let bound = self.held.iter().chain(&self.saving);
        bound.into_iter().any(|promise| promise.founding.cluster == cluster)
    }

    /// This node has joined a cluster.
    pub(super) fn joined(&mut self, cluster: ClusterId) {
        assert!(self.is_free(), "joined {cluster} while bound by a promise");
        assert!(self.cluster.is_none(), "joined {cluster} from another cluster");
        self.cluster = Some(cluster);
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        match (&self.held, &self.saving) {
            (_, Some(_)) => None,
            (Some(held), None) if held.state == PromiseState::Formed => {
                let done = self.answered.len() == held.founding.members.len();
                (held.founder() == self.me && !done).then_some(self.next_ask)
            }
            (Some(_), None) => Some(self.next_ask),
            (None, None) => {
                let waits = self.cluster.is_none() && self.expect.is_some();
                waits.then_some(self.next_ask.max(self.not_before))
            }
        }
    }

    pub(super) fn tick(&mut self, candidates: &[Candidate], now: Duration) {
        if self.saving.is_some() {
            return;
        }
        match self.held.clone() {
            Some(held) if now >= self.next_ask => {
                self.next_ask = now + self.ask_period;
                self.ask(&held, now);
            }
            None if self.cluster.is_none() && now >= self.next_ask => {
                self.next_ask = now + FORMING_PERIOD;
                self.look(candidates, now);
            }
            _ => {}
        }
    }

    /// Repeats what a held promise asks of the others.
    fn ask(&mut self, held: &Promise, now: Duration) {
        let cluster = held.founding.cluster;
        let founder = held.founder() == self.me;
        let message = match held.state {
            PromiseState::Promised if founder => {
                if now.saturating_sub(self.attempt_since) > FORMING_PATIENCE {
                    return self.give_up(now);
                }
                FormingMessage::Request(held.founding.clone())
            }
            PromiseState::Promised => FormingMessage::Inquire { cluster, founder: held.founder() },
            PromiseState::Formed if founder => {
                // A member that is lost for good is asked ever more rarely.
                self.ask_period = (self.ask_period * 2).min(20 * FORMING_PERIOD);
                FormingMessage::Commit(cluster)
            }
            PromiseState::Formed | PromiseState::Released => return,
        };
        for member in &held.founding.members {
            let known = founder && self.answered.contains(&member.node);
            if member.node != self.me && !known {
                self.send(member.node, member.peer_address, message.clone());
            }
        }
    }

    pub(super) fn handle(
        &mut self,
        from: NodeId,
        address: SocketAddr,
        message: FormingMessage,
        candidates: &[Candidate],
        now: Duration,
    ) {
        if self.saving.is_some() {
            return; // the sender repeats it
        }
        match message {
            FormingMessage::Request(founding) => {
                self.requested(from, address, founding, candidates);
            }
            FormingMessage::Promised(cluster) => self.promised(from, cluster),
            FormingMessage::Refused { cluster, because } => {
                self.refused(from, cluster, because, now);
            }
            FormingMessage::Release(cluster) => self.released(from, cluster),
            FormingMessage::Inquire { cluster, founder } => {
                self.inquired(from, address, cluster, founder);
            }
            FormingMessage::Commit(cluster) => {
                self.heard_formed(cluster);
                if self.cluster == Some(cluster) {
                    self.send(from, address, FormingMessage::Committed(cluster));
                }
            }
            FormingMessage::Committed(cluster) => {
                if self.cluster == Some(cluster) && self.is_member(from) {
                    self.answered.insert(from);
                }
            }
        }
    }

    fn holds(&self, cluster: ClusterId) -> bool {
        self.held.as_ref().is_some_and(|held| held.founding.cluster == cluster)
    }

    /// A founding member of the cluster that the held promise is about.
    fn is_member(&self, node: NodeId) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.founding.members.iter().any(|member| member.node == node))
    }

    /// This node is the founder of that cluster and has not decided.
    fn undecided(&self, cluster: ClusterId) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.founding.cluster == cluster
                && held.founder() == self.me
                && held.state == PromiseState::Promised
        })
    }

    fn save(&mut self, promise: Promise) {
        assert!(self.saving.is_none(), "two promises are being saved");
        if let Some(held) = &self.held {
            assert!(held.founding == promise.founding, "a second promise beside {held:?}");
            assert!(held.state == PromiseState::Promised, "{held:?} is decided");
        } else {
            assert!(promise.state == PromiseState::Promised, "{promise:?} without a promise");
        }
        assert!(self.cluster.is_none(), "a promise where there is a cluster");
        self.saving = Some(promise.clone());
        self.events.push_back(FormingEvent::Save(promise));
    }

    /// The promise of [`FormingEvent::Save`] is durable.
    pub(super) fn saved(&mut self, now: Duration) {
        let Some(promise) = self.saving.take() else { return };
        let (founder, cluster) = (promise.founder(), promise.founding.cluster);
        let founder_address = promise.founding.members.first().map(|member| member.peer_address);
        (self.next_ask, self.ask_period) = (now, FORMING_PERIOD);
        self.answered = BTreeSet::from([self.me]);
        let answer = match promise.state {
            PromiseState::Promised => {
                self.attempt_since = now;
                self.held = Some(promise);
                if founder == self.me {
                    self.decide_if_all(); // the founder may be the only member
                }
                FormingMessage::Promised(cluster)
            }
            PromiseState::Released => {
                self.held = None;
                self.sight = (BTreeSet::new(), now);
                if founder == self.me {
                    for member in &promise.founding.members {
                        if member.node != self.me {
                            let release = FormingMessage::Release(cluster);
                            self.send(member.node, member.peer_address, release);
                        }
                    }
                }
                return;
            }
            PromiseState::Formed => {
                assert!(self.cluster.is_none(), "formed {cluster} from within another cluster");
                self.cluster = Some(cluster);
                self.events.push_back(FormingEvent::Formed(promise.founding.clone()));
                self.held = Some(promise);
                FormingMessage::Committed(cluster)
            }
        };
        if founder != self.me
            && let Some(address) = founder_address
        {
            self.next_ask = now + FORMING_PERIOD; // send the answer before any inquiry
            self.send(founder, address, answer);
        }
    }

    fn send(&mut self, to: NodeId, address: SocketAddr, message: FormingMessage) {
        self.events.push_back(FormingEvent::Send { to, address, message });
    }
}
