//! The founder's part: whether to found, asking for promises, deciding, giving up.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use walengine_net::model::ClusterId;

use super::super::forming_message::RefusedBecause;
use super::super::limits::{FORMING_BACKOFF, FORMING_SETTLE, FOUNDERS_MAX};
use super::super::output::Warning;
use super::super::promise::{Founding, Promise, PromiseState};
use super::{Candidate, Forming, FormingEvent};
use crate::types::NodeId;

impl Forming {
    /// Founds if the candidates are exactly the expected ones and this node has the lowest id.
    pub(super) fn look(&mut self, candidates: &[Candidate], now: Duration) {
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

    /// Why these candidates can't form a cluster, if something is wrong with them.
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

    /// An id that no attempt of this node or another had before, even with an equal seed.
    fn new_cluster(&mut self, now: Duration) -> ClusterId {
        let mut hasher = blake3::Hasher::new_derive_key("walengine gossip 1 cluster id");
        hasher.update(&self.me.to_le_bytes()).update(&self.salt.to_le_bytes());
        hasher.update(&self.rng.random::<u128>().to_le_bytes());
        hasher.update(&now.as_nanos().to_le_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        ClusterId(u128::from_le_bytes(bytes).max(1))
    }

    /// A member's promise is durable.
    pub(super) fn promised(&mut self, from: NodeId, cluster: ClusterId) {
        if self.undecided(cluster) && self.is_member(from) {
            self.answered.insert(from);
            self.decide_if_all();
        }
    }

    /// A member does not promise.
    pub(super) fn refused(
        &mut self,
        from: NodeId,
        cluster: ClusterId,
        because: RefusedBecause,
        now: Duration,
    ) {
        if self.undecided(cluster) && self.is_member(from) {
            let warning = Warning::Refused { node: from, because };
            self.events.push_back(FormingEvent::Warn(warning));
            self.give_up(now);
        }
    }

    /// The decision: every member has promised.
    pub(super) fn decide_if_all(&mut self) {
        let Some(held) = &self.held else { return };
        if held.founding.members.iter().all(|member| self.answered.contains(&member.node)) {
            self.save(Promise { state: PromiseState::Formed, founding: held.founding.clone() });
        }
    }

    /// Gives an attempt up that is not decided, and pauses before the next one.
    pub(super) fn give_up(&mut self, now: Duration) {
        let Some(held) = &self.held else { return };
        assert!(held.state == PromiseState::Promised, "gave up what was decided");
        let backoff = FORMING_BACKOFF.as_millis() as u64;
        let pause = Duration::from_millis(self.rng.random_range(backoff..=3 * backoff));
        self.not_before = now + pause;
        self.save(Promise { state: PromiseState::Released, founding: held.founding.clone() });
    }
}
