//! Forms a cluster exactly once from N nodes that have none.
//!
//! The lowest node id of exactly N nodes that see each other asks all of them, itself first, for a
//! promise. A node holds at most one, durably, from before it says so until the founder lets it go.
//! Only when all N have promised does the founder make the decision durable; then it tells them.
//! So two clusters with a common member cannot both be formed: that member's promise would have
//! been given twice. Until it has decided, the founder may give up: it makes that durable first,
//! and never decides for that cluster afterwards; only then does it let the others go.
//! Every question is repeated until it is answered, so loss and repetition of datagrams change
//! nothing. A founder that is lost for good before it has decided holds up those that promised it:
//! no other node can know that it did not decide. Messages: GOSSIP.md, section 7.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use walengine_net::model::ClusterId;

use super::forming_message::{FormingMessage, RefusedBecause};
use super::limits::{
    FORMING_BACKOFF, FORMING_PATIENCE, FORMING_PERIOD, FORMING_SETTLE, FOUNDERS_MAX,
};
use super::output::Warning;
use super::promise::{Founding, FoundingMember, Promise, PromiseState};
use crate::types::NodeId;

/// A node in sight that wants to form a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub member: FoundingMember,
    pub expect: usize,
    pub partitions: u16,
}

/// What forming wants done.
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
    /// Set once; then nothing but answers.
    cluster: Option<ClusterId>,
    /// Durable: promised or formed. A released promise is none.
    held: Option<Promise>,
    /// Given to the caller, not durable yet. Until then nothing else changes.
    saving: Option<Promise>,
    /// As founder: who has promised, or, once decided, who knows.
    answered: BTreeSet<NodeId>,
    attempt_since: Duration,
    next_ask: Duration,
    ask_period: Duration,
    not_before: Duration,
    /// Who was in sight, and since when.
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
            // A data directory of a cluster says more than any promise.
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
        // The caller may have stopped between the decision and what it does about it.
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

    /// Neither bound by a promise nor about to be.
    pub(super) fn is_free(&self) -> bool {
        self.held.is_none() && self.saving.is_none()
    }

    /// What binds this node is about that cluster.
    pub(super) fn is_about(&self, cluster: ClusterId) -> bool {
        let bound = self.held.iter().chain(&self.saving);
        bound.into_iter().any(|promise| promise.founding.cluster == cluster)
    }

    /// This node is of a cluster now, by joining it.
    pub(super) fn joined(&mut self, cluster: ClusterId) {
        assert!(self.is_free(), "joined {cluster} while bound by a promise");
        self.cluster = Some(cluster);
    }

    /// When there is something to do by time alone.
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
                // Somebody who is lost for good is not asked every half second for ever.
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

    /// Whether those in sight are exactly the right ones and it is for this node to found.
    fn look(&mut self, candidates: &[Candidate], now: Duration) {
        let Some(expect) = self.expect else { return };
        let warning = self.wrong(candidates, expect);
        if warning != self.warned {
            self.warned.clone_from(&warning);
            self.events.extend(warning.clone().map(FormingEvent::Warn));
        }
        let nodes: BTreeSet<NodeId> = candidates.iter().map(|each| each.member.node).collect();
        if nodes != self.sight.0 {
            self.sight = (nodes, now);
        }
        let settled = now.saturating_sub(self.sight.1) >= FORMING_SETTLE;
        let mine = self.sight.0.first() == Some(&self.me);
        if warning.is_some()
            || candidates.len() != expect
            || !settled
            || !mine
            || now < self.not_before
            || self.partitions == 0
        {
            return;
        }
        let mut members: Vec<_> = candidates.iter().map(|each| each.member.clone()).collect();
        members.sort_by_key(|member| member.node);
        let founding =
            Founding { cluster: self.new_cluster(now), partitions: self.partitions, members };
        self.save(Promise { state: PromiseState::Promised, founding });
    }

    fn wrong(&self, candidates: &[Candidate], expect: usize) -> Option<Warning> {
        for Candidate { member, expect: theirs, partitions } in candidates {
            if *theirs != expect {
                return Some(Warning::OtherExpect { node: member.node, expect: *theirs });
            }
            if *partitions != self.partitions {
                return Some(Warning::OtherPartitions {
                    node: member.node,
                    partitions: *partitions,
                });
            }
        }
        let found = candidates.len();
        let most = expect.min(FOUNDERS_MAX);
        (found > most).then_some(Warning::TooManyCandidates { expect, found })
    }

    /// A name that no attempt had before, of this node or another, even with an equal seed.
    fn new_cluster(&mut self, now: Duration) -> ClusterId {
        let mut hasher = blake3::Hasher::new_derive_key("walengine gossip 1 cluster id");
        hasher.update(&self.me.to_le_bytes()).update(&self.salt.to_le_bytes());
        hasher.update(&self.rng.random::<u128>().to_le_bytes());
        hasher.update(&now.as_nanos().to_le_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        ClusterId(u128::from_le_bytes(bytes).max(1))
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
            return; // it will be asked again
        }
        match message {
            FormingMessage::Request(founding) => {
                self.requested(from, address, founding, candidates);
            }
            FormingMessage::Promised(cluster) => self.promised(from, cluster),
            FormingMessage::Refused { cluster, because } => {
                if self.undecided(cluster) {
                    let founding = self.held.as_ref().map(|held| &held.founding);
                    if founding.is_some_and(|it| it.members.iter().any(|m| m.node == from)) {
                        self.events.push_back(FormingEvent::Warn(Warning::Refused {
                            node: from,
                            because,
                        }));
                        self.give_up(now);
                    }
                }
            }
            FormingMessage::Release(cluster) => {
                if let Some(held) = &self.held
                    && held.founding.cluster == cluster
                    && held.state == PromiseState::Promised
                    && held.founder() == from
                    && from != self.me
                {
                    let state = PromiseState::Released;
                    self.save(Promise { state, founding: held.founding.clone() });
                }
            }
            FormingMessage::Inquire { cluster, founder } => {
                if self.cluster == Some(cluster) {
                    self.send(from, address, FormingMessage::Commit(cluster));
                } else if founder == self.me && !self.holds(cluster) {
                    // It is not durable here, so it was never decided and never will be.
                    self.send(from, address, FormingMessage::Release(cluster));
                }
            }
            FormingMessage::Commit(cluster) => {
                self.heard_formed(cluster);
                if self.cluster == Some(cluster) {
                    self.send(from, address, FormingMessage::Committed(cluster));
                }
            }
            FormingMessage::Committed(cluster) => {
                if self.cluster == Some(cluster) {
                    self.answered.insert(from);
                }
            }
        }
    }

    /// A member of a cluster has spoken. If this node has promised to form it, it is formed.
    pub(super) fn heard_formed(&mut self, cluster: ClusterId) {
        if self.saving.is_none()
            && let Some(held) = &self.held
            && held.founding.cluster == cluster
            && held.state == PromiseState::Promised
        {
            self.save(Promise { state: PromiseState::Formed, founding: held.founding.clone() });
        }
    }

    fn holds(&self, cluster: ClusterId) -> bool {
        self.held.as_ref().is_some_and(|held| held.founding.cluster == cluster)
    }

    /// This node founds that cluster and has not decided.
    fn undecided(&self, cluster: ClusterId) -> bool {
        self.held.as_ref().is_some_and(|held| {
            held.founding.cluster == cluster
                && held.founder() == self.me
                && held.state == PromiseState::Promised
        })
    }

    fn requested(
        &mut self,
        from: NodeId,
        address: SocketAddr,
        founding: Founding,
        candidates: &[Candidate],
    ) {
        let cluster = founding.cluster;
        let answer = match (&self.held, self.cluster) {
            (_, Some(known)) if known == cluster => FormingMessage::Commit(cluster),
            (_, Some(_)) => {
                FormingMessage::Refused { cluster, because: RefusedBecause::HasCluster }
            }
            (Some(held), None) if held.founding == founding => FormingMessage::Promised(cluster),
            (Some(_), None) => {
                FormingMessage::Refused { cluster, because: RefusedBecause::Promised }
            }
            (None, None) => match self.objection(from, &founding, candidates) {
                Some(because) => FormingMessage::Refused { cluster, because },
                None => return self.save(Promise { state: PromiseState::Promised, founding }),
            },
        };
        self.send(from, address, answer);
    }

    fn objection(
        &self,
        from: NodeId,
        founding: &Founding,
        candidates: &[Candidate],
    ) -> Option<RefusedBecause> {
        let members = &founding.members;
        let is_me = |member: &FoundingMember| {
            member.node == self.me && member.peer_address == self.peer_address
        };
        let outsider = |each: &Candidate| !members.iter().any(|m| m.node == each.member.node);
        if self.expect != Some(members.len()) {
            Some(RefusedBecause::OtherExpect)
        } else if self.partitions != founding.partitions {
            Some(RefusedBecause::OtherPartitions)
        } else if members.first().map(|member| member.node) != Some(from)
            || !members.iter().any(is_me)
            || candidates.iter().any(outsider)
        {
            Some(RefusedBecause::OtherMembers)
        } else {
            None
        }
    }

    fn promised(&mut self, from: NodeId, cluster: ClusterId) {
        if !self.undecided(cluster) {
            return;
        }
        let Some(held) = &self.held else { return };
        if !held.founding.members.iter().any(|member| member.node == from) {
            return;
        }
        self.answered.insert(from);
        self.decide_if_all();
    }

    fn decide_if_all(&mut self) {
        let Some(held) = &self.held else { return };
        if held.founding.members.iter().all(|member| self.answered.contains(&member.node)) {
            self.save(Promise { state: PromiseState::Formed, founding: held.founding.clone() });
        }
    }

    /// As founder, before the decision.
    fn give_up(&mut self, now: Duration) {
        let Some(held) = &self.held else { return };
        assert!(held.state == PromiseState::Promised, "gave up what was decided");
        let backoff = FORMING_BACKOFF.as_millis() as u64;
        let pause = Duration::from_millis(self.rng.random_range(backoff..=3 * backoff));
        self.not_before = now + pause;
        self.save(Promise { state: PromiseState::Released, founding: held.founding.clone() });
    }

    fn save(&mut self, promise: Promise) {
        assert!(self.saving.is_none(), "two promises are being saved");
        assert!(self.cluster.is_none(), "a promise where there is a cluster");
        self.saving = Some(promise.clone());
        self.events.push_back(FormingEvent::Save(promise));
    }

    /// What was to be saved is durable.
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
                    self.decide_if_all(); // it may be the only one
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
                self.cluster = Some(cluster);
                self.events.push_back(FormingEvent::Formed(promise.founding.clone()));
                self.held = Some(promise);
                FormingMessage::Committed(cluster)
            }
        };
        if founder != self.me
            && let Some(address) = founder_address
        {
            self.next_ask = now + FORMING_PERIOD; // the answer comes first
            self.send(founder, address, answer);
        }
    }

    fn send(&mut self, to: NodeId, address: SocketAddr, message: FormingMessage) {
        self.events.push_back(FormingEvent::Send { to, address, message });
    }
}
