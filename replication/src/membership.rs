//! Which nodes a Raft group should have and who should lead it. Pure: no I/O, no clock.
//!
//! The leader of a group calls [`next_step`] about once a second and executes the step; the next
//! [`GroupView`] shows the result. Gossip proposes here and decides nothing: whatever the views
//! say, no step leaves the old or the new configuration without a majority of live voters
//! ([`keeps_quorum`]).
//!
//! What costs a vote or moves an address is never taken from gossip, where whoever has the key may say
//! anything. Whether a member lives is judged by what consensus itself hears of it ([`Contact`]). Whether it
//! leaves, where it is, and how its disk and memory are, the node itself has said on a connection that was
//! dialled to it ([`Confirmed`]). Gossip tells which nodes there are to ask.
//!
//! Rules; the first that applies counts:
//!
//! 1. No step while a change is under way, or when the leader is not a voter.
//! 2. A leader that is leaving transfers leadership to a voter that can take it. If it is the only
//!    voter, a learner is promoted first. A leader whose disk is full or stuck transfers leadership
//!    to a voter whose disk is in order, if there is one.
//! 3. A voter that has said that it leaves is replaced by a caught-up live learner. Without one it
//!    is removed; but while it is alive and a live learner is catching up, it stays.
//! 4. A voter that has not answered consensus for longer than `dead_after` is replaced by a caught-up
//!    live learner. So is one that does not answer, that gossip, too, has for dead, and at whose recorded
//!    address a learner answers that has greeted there under its own id: the disk was lost, and the voter
//!    does not come back. Without a learner it stays if the number of voters is odd: removing it would not
//!    let more nodes fail. If the number is even, it is removed, because then one more node may fail.
//! 5. A learner that has said that it leaves is removed.
//! 6. Caught-up live learners are promoted while there are fewer voters than `replicas`: two at a
//!    time if the number of voters is odd, one if it is even. So the number becomes odd and stays
//!    odd: an even number tolerates no more failures than the odd one below it, and loses its
//!    quorum sooner.
//! 7. A live node of the cluster that has greeted under its id at the address that gossip tells is added as
//!    a learner, unless it was a member before: on the loopback, and where it has proved that it belongs to the
//!    cluster ([`Policy::is_proven`]). Elsewhere an operator takes it in. If the group is full, a learner that has been dead for longer than `dead_after` makes room.
//! 8. A live member that has greeted at another address than the group's log has is recorded there.
//! 9. Leadership moves to the preferred voter once it has answered consensus for ten seconds without
//!    a break, is caught up, and its disk is neither full nor slow nor stuck. The preferred voter is
//!    the one that an operator chose; otherwise, for partition p, the voter at p modulo the number
//!    of voters, ascending by id ([`preferred`]).
//!
//! A new leader has no memory of what the last one heard: it waits for `dead_after` itself. The caller
//! introduces the members of its groups to gossip ([`crate::gossip::Gossip::introduce`]), so that they
//! are greeted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId};

use crate::gossip::{NodeCondition, NodeStanding, NodeView};
use crate::membership_codec::NODES_MAX;
use crate::types::NodeId;

/// A member that lacks at most this many entries counts as caught up: a second of small batches,
/// and few compared with those in flight.
pub const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// How long a voter must have answered without a break before leadership moves to it as the preferred
/// one.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How long a node must have been alive before the group's log takes its address over.
pub const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// What consensus hears of a member, on the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Time since its last answer; before the first one, since this leadership began.
    pub silent: Duration,
    /// How long it has answered without a break. `None`: it does not answer now.
    pub steady: Option<Duration>,
}

/// What a node has said of itself on a connection that was dialled to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Where it greeted under its own id.
    pub address: SocketAddr,
    /// It is about to leave for good, and has not started anew since it said so.
    pub is_leaving: bool,
    /// How its disk, memory and clock are.
    pub condition: NodeCondition,
}

/// A group as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The cluster. Nodes of another cluster, or of none, do not count.
    pub cluster: ClusterId,
    /// Which group.
    pub partition: PartitionId,
    /// The leader, which asks.
    pub me: NodeId,
    /// Its term.
    pub term: u64,
    /// Voters of the effective configuration.
    pub voters: BTreeSet<NodeId>,
    /// Members that do not vote.
    pub learners: BTreeSet<NodeId>,
    /// All members that were ever removed. Their ids are not added again. They are kept with the
    /// group's state, so that every later leader has them.
    pub removed: BTreeSet<NodeId>,
    /// A change of the membership is under way: joint, or not committed yet.
    pub changing: bool,
    /// Where the group's log says that its members are.
    pub addresses: BTreeMap<NodeId, SocketAddr>,
    /// Highest index that each other member is known to hold. Absent if not known.
    pub matched: BTreeMap<NodeId, u64>,
    /// Last index of the leader's log.
    pub last: u64,
    /// Highest committed index.
    pub committed: u64,
    /// What consensus hears of each other member. Absent: nothing yet.
    pub contact: BTreeMap<NodeId, Contact>,
    /// What other nodes have said of themselves to this one. Absent: nothing yet.
    pub confirmed: BTreeMap<NodeId, Confirmed>,
    /// The voter that an operator chose to lead.
    pub chosen: Option<NodeId>,
    /// The leader's own disk takes no writes: it is full or stuck.
    pub must_give_way: bool,
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Wanted voters of a group: 3 or 5. An even number counts as the odd one below it.
    pub replicas: usize,
    /// How long a voter must be dead before another node replaces it.
    pub dead_after: Duration,
    /// Whoever gossips or greets has proved that it belongs to the cluster, by its key or its certificate.
    pub is_proven: bool,
    /// A member that has not answered consensus for so long does not answer: several heartbeats.
    pub contact_within: Duration,
}

/// One change. It is executed only in the leader's own term, so that an earlier leader's step can't
/// change what a later leader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node starts to receive the log.
    AddLearner {
        /// Which.
        node: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// Learners become voters.
    Promote {
        /// All voters from then on.
        voters: BTreeSet<NodeId>,
    },
    /// A voter is removed from the group; a learner may replace it.
    Replace {
        /// All voters from then on.
        voters: BTreeSet<NodeId>,
    },
    /// A learner is removed from the group.
    RemoveLearner(NodeId),
    /// A member is at another address than the group's log says.
    Move {
        /// Which.
        node: NodeId,
        /// Where it is now.
        address: SocketAddr,
    },
    /// Leadership moves to another voter.
    TransferLeadership {
        /// Which.
        to: NodeId,
    },
}

/// The voter that should lead a partition: the one that an operator chose, if it votes. Otherwise one
/// by the partition's number, so that leaders are spread.
pub fn preferred(
    partition: PartitionId,
    voters: &BTreeSet<NodeId>,
    chosen: Option<NodeId>,
) -> Option<NodeId> {
    if let Some(chosen) = chosen.filter(|node| voters.contains(node)) {
        return Some(chosen);
    }
    let place = usize::from(partition.0) % voters.len().max(1);
    voters.iter().nth(place).copied()
}

/// True if a majority of `old` and a majority of `new` are in `live`.
pub fn keeps_quorum(
    old: &BTreeSet<NodeId>,
    new: &BTreeSet<NodeId>,
    live: &BTreeSet<NodeId>,
) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| 2 * voters.intersection(live).count() > voters.len();
    majority(old) && majority(new)
}

/// Living nodes of the cluster that nothing proves to belong to it: an operator may take them in.
pub fn waiting(
    group: &GroupView,
    nodes: &[NodeView],
    policy: &Policy,
) -> Vec<(NodeId, SocketAddr)> {
    let decision = Decision::new(group, nodes, policy, Duration::ZERO);
    let strangers = decision.nodes.values().filter(|view| decision.is_new(view));
    strangers
        .filter(|view| !decision.is_proven(view))
        .map(|it| (it.node, it.peer_address))
        .collect()
}

/// The next step, if there is one. `now` is on the same clock as the views' `since`.
pub fn next_step(
    group: &GroupView,
    nodes: &[NodeView],
    policy: &Policy,
    now: Duration,
) -> Option<Step> {
    if group.changing || !group.voters.contains(&group.me) {
        return None;
    }
    let decision = Decision::new(group, nodes, policy, now);
    let step = decision
        .hand_over()
        .or_else(|| decision.let_go())
        .or_else(|| decision.replace_dead())
        .or_else(|| decision.remove_learner())
        .or_else(|| decision.promote())
        .or_else(|| decision.add_learner())
        .or_else(|| decision.follow_address())
        .or_else(|| decision.place_leader());
    if let Some(Step::Promote { voters } | Step::Replace { voters }) = &step {
        assert!(keeps_quorum(&group.voters, voters, &decision.live), "{step:?} costs the quorum");
    }
    step
}

struct Decision<'a> {
    group: &'a GroupView,
    nodes: BTreeMap<NodeId, &'a NodeView>,
    policy: &'a Policy,
    now: Duration,
    /// The leader, the members that answer consensus, and the other nodes that are alive to gossip.
    live: BTreeSet<NodeId>,
    /// The nodes that have said that they leave; of those that are no members, also those of which it is said.
    going: BTreeSet<NodeId>,
    /// Caught-up live learners that are not leaving, ascending.
    ready: Vec<NodeId>,
}

impl<'a> Decision<'a> {
    fn new(group: &'a GroupView, nodes: &'a [NodeView], policy: &'a Policy, now: Duration) -> Self {
        let of_cluster = nodes.iter().filter(|view| {
            // The cluster of a member that was introduced and never heard is not known.
            let member = group.voters.contains(&view.node) || group.learners.contains(&view.node);
            view.cluster == Some(group.cluster) || (member && view.cluster.is_none())
        });
        let nodes: BTreeMap<_, _> = of_cluster.map(|view| (view.node, view)).collect();
        let with = |is: &dyn Fn(&NodeView) -> bool| -> BTreeSet<NodeId> {
            nodes.values().filter(|view| is(view)).map(|view| view.node).collect()
        };
        let is_member =
            |node: &NodeId| group.voters.contains(node) || group.learners.contains(node);
        let mut live = with(&|view| {
            let is_alive = view.standing == NodeStanding::Alive;
            is_alive && view.cluster == Some(group.cluster) && !is_member(&view.node)
        });
        let answering = group.contact.iter().filter(|(_, contact)| contact.steady.is_some());
        live.extend(answering.map(|(node, _)| *node).filter(is_member));
        live.insert(group.me);
        let mut going = with(&|view| {
            let leaves = view.standing == NodeStanding::Left
                || view.meta.as_ref().is_some_and(|it| it.leaving);
            leaves && (view.node == group.me || !is_member(&view.node))
        });
        let confirmed = group.confirmed.iter().filter(|(_, confirmed)| confirmed.is_leaving);
        going.extend(confirmed.map(|(node, _)| *node));
        let mut decision = Self { group, nodes, policy, now, live, going, ready: Vec::new() };
        let ready = |node: &NodeId| {
            decision.live.contains(node)
                && !decision.going.contains(node)
                && decision.is_caught_up(*node)
        };
        decision.ready = group.learners.iter().copied().filter(ready).collect();
        decision
    }

    fn is_caught_up(&self, node: NodeId) -> bool {
        let matched = self.group.matched.get(&node);
        matched.is_some_and(|matched| self.group.last.saturating_sub(*matched) <= CAUGHT_UP_ENTRIES)
    }

    /// How long a member has not answered; `None` if it does, or has not been silent for long.
    fn dead_for(&self, node: NodeId) -> Option<Duration> {
        let contact = self.group.contact.get(&node).copied().unwrap_or_default();
        let answers = contact.steady.is_some() || contact.silent <= self.policy.contact_within;
        (!answers).then_some(contact.silent)
    }

    fn is_long_dead(&self, node: NodeId) -> bool {
        let Some(dead) = self.dead_for(node) else { return false };
        dead > self.policy.dead_after || self.is_taken_over(node)
    }

    /// Its disk takes writes, as far as is known.
    fn is_fit(&self, node: NodeId) -> bool {
        self.group.confirmed.get(&node).is_none_or(|it| it.condition.is_fit())
    }

    /// Where the node has greeted this one under its id.
    fn found_at(&self, node: NodeId) -> Option<SocketAddr> {
        self.group.confirmed.get(&node).map(|confirmed| confirmed.address)
    }

    /// A learner answers where the group's log has a voter that does not: that one's disk was lost or
    /// emptied, and it does not come back. Gossip, too, has it for dead.
    fn is_taken_over(&self, dead: NodeId) -> bool {
        let is_dead = self.nodes.get(&dead).is_some_and(|view| view.standing == NodeStanding::Dead);
        let Some(recorded) = self.group.addresses.get(&dead).filter(|_| is_dead) else {
            return false;
        };
        let mut heirs = self.group.learners.iter().filter(|&&node| self.live.contains(&node));
        heirs.any(|&heir| self.found_at(heir) == Some(*recorded))
    }

    /// Returns the voters if the configuration may be changed to them.
    fn allowed(&self, voters: BTreeSet<NodeId>) -> Option<BTreeSet<NodeId>> {
        keeps_quorum(&self.group.voters, &voters, &self.live).then_some(voters)
    }

    /// The voters without `out` and with `into`.
    fn voters(&self, out: Option<NodeId>, into: &[NodeId]) -> BTreeSet<NodeId> {
        let stay = self.group.voters.iter().copied().filter(|&node| Some(node) != out);
        stay.chain(into.iter().copied()).collect()
    }

    fn hand_over(&self) -> Option<Step> {
        let group = self.group;
        let is_going = self.going.contains(&group.me);
        if !is_going && !group.must_give_way {
            return None;
        }
        let can_lead = |node: &NodeId| {
            *node != group.me
                && self.live.contains(node)
                && !self.going.contains(node)
                && self.is_caught_up(*node)
        };
        let heirs = || group.voters.iter().copied().filter(can_lead);
        let fit = || heirs().filter(|node| self.is_fit(*node));
        let preferred = preferred(group.partition, &group.voters, group.chosen);
        let heir = fit().find(|node| Some(*node) == preferred).or_else(|| fit().next());
        let heir = heir.or_else(|| heirs().next().filter(|_| is_going));
        if let Some(to) = heir {
            return Some(Step::TransferLeadership { to });
        }
        if is_going && group.voters.len() == 1 {
            let voters = self.allowed(self.voters(None, self.ready.get(..1)?))?;
            return Some(Step::Promote { voters });
        }
        None
    }

    fn let_go(&self) -> Option<Step> {
        let me = self.group.me;
        let out = self.group.voters.iter().find(|&&node| node != me && self.going.contains(&node));
        let out = *out?;
        if let Some(learner) = self.ready.first() {
            let voters = self.allowed(self.voters(Some(out), &[*learner]))?;
            return Some(Step::Replace { voters });
        }
        let catching_up = |node: &NodeId| self.live.contains(node) && !self.going.contains(node);
        if self.live.contains(&out) && self.group.learners.iter().any(catching_up) {
            return None;
        }
        let voters = self.allowed(self.voters(Some(out), &[]))?;
        Some(Step::Replace { voters })
    }

    fn replace_dead(&self) -> Option<Step> {
        let others = self.group.voters.iter().copied().filter(|&node| node != self.group.me);
        let dead = others.filter(|&node| self.is_long_dead(node));
        let out = dead.max_by_key(|node| self.dead_for(*node))?;
        let into = self.ready.get(..1).unwrap_or_default();
        if into.is_empty() && !self.group.voters.len().is_multiple_of(2) {
            return None;
        }
        let voters = self.allowed(self.voters(Some(out), into))?;
        Some(Step::Replace { voters })
    }

    fn remove_learner(&self) -> Option<Step> {
        let group = self.group;
        let gone = group.learners.iter().copied().find(|node| self.going.contains(node))?;
        self.allowed(group.voters.clone())?;
        Some(Step::RemoveLearner(gone))
    }

    fn promote(&self) -> Option<Step> {
        let count = self.group.voters.len();
        let wanted = self.policy.replicas.saturating_sub(1) / 2 * 2 + 1; // odd
        if count >= wanted {
            return None;
        }
        let more = if count.is_multiple_of(2) { 1 } else { 2 };
        let voters = self.allowed(self.voters(None, self.ready.get(..more)?))?;
        Some(Step::Promote { voters })
    }

    /// It could be taken in: it lives, has greeted where gossip has it, and was no member before.
    fn is_new(&self, view: &NodeView) -> bool {
        let (group, node) = (self.group, &view.node);
        self.live.contains(node)
            && !self.going.contains(node)
            && !group.voters.contains(node)
            && !group.learners.contains(node)
            && !group.removed.contains(node)
            && self.found_at(*node) == Some(view.peer_address)
    }

    fn is_proven(&self, view: &NodeView) -> bool {
        self.policy.is_proven || view.peer_address.ip().is_loopback()
    }

    fn add_learner(&self) -> Option<Step> {
        let group = self.group;
        let mut fresh = self.nodes.values().filter(|view| self.is_new(view));
        let fresh = fresh.find(|view| self.is_proven(view))?;
        self.allowed(group.voters.clone())?;
        if group.voters.len() + group.learners.len() < NODES_MAX {
            return Some(Step::AddLearner { node: fresh.node, address: fresh.peer_address });
        }
        let dead = group.learners.iter().copied().filter(|&node| self.is_long_dead(node));
        dead.max_by_key(|node| self.dead_for(*node)).map(Step::RemoveLearner)
    }

    /// The address where a member has greeted, and of which gossip has told for a while, if the log has
    /// another.
    fn follow_address(&self) -> Option<Step> {
        let moved = self.group.addresses.iter().find_map(|(&node, &recorded)| {
            let view = self.nodes.get(&node)?;
            let is_settled = node == self.group.me
                || view.standing == NodeStanding::Alive
                    && self.live.contains(&node)
                    && self.found_at(node) == Some(view.peer_address)
                    && self.now.saturating_sub(view.since) >= SETTLED_AFTER;
            let is_elsewhere = view.peer_address != recorded && !self.going.contains(&node);
            (is_settled && is_elsewhere).then_some((node, view.peer_address))
        });
        let (node, address) = moved?;
        self.allowed(self.group.voters.clone())?;
        Some(Step::Move { node, address })
    }

    fn place_leader(&self) -> Option<Step> {
        let group = self.group;
        let preferred = preferred(group.partition, &group.voters, group.chosen)?;
        let steady = group.contact.get(&preferred).and_then(|contact| contact.steady);
        let can = preferred != group.me
            && self.live.contains(&preferred)
            && !self.going.contains(&preferred)
            && self.is_caught_up(preferred)
            && self.is_fit(preferred)
            && steady.is_some_and(|steady| steady >= STABLE_AFTER);
        can.then_some(Step::TransferLeadership { to: preferred })
    }
}

#[cfg(test)]
mod tests;
