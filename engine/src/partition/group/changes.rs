//! The members and the leader of a group: what this node knows of them, and how they are changed.
//! They change only through Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteRequest;
use walengine_net::model::Offset;
use walengine_replication::runtime::LocalInstant;
use walengine_replication::types::{Member, NodeId, Vote};

use super::Group;
use super::raft_log::log_id_of;
use crate::limits::{CONTACT_WITHIN_MIN, HAND_OVER_LOOK_EVERY, HAND_OVER_WITHIN};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// A group as this node sees it.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// The leader that this node knows of. A leader that has not heard a majority for a while does not
    /// count itself: others may have elected another.
    pub leader: Option<NodeId>,
    /// Newest term known here.
    pub term: u64,
    /// Every record below is committed, as far as this node knows.
    pub committed: Offset,
    /// Its members are being changed.
    pub is_changing: bool,
    /// Index of the newest entry of this node's log; 0 without any.
    pub last_index: u64,
    /// Voters, in order.
    pub voters: Vec<NodeId>,
    /// All members, with how much of the log each has. A leader knows that of all, others only their own.
    pub members: BTreeMap<NodeId, MemberProgress>,
    /// The voter that an operator chose to lead.
    pub chosen: Option<NodeId>,
}

/// A member, and how far it has the log.
#[derive(Clone, Debug)]
pub struct MemberProgress {
    /// Its address for peers.
    pub member: Member,
    /// Index of its newest entry that is the same as the leader's; `None` if this node does not know.
    pub matched_index: Option<u64>,
    /// How long ago it last answered consensus here; `None` if it has not in this leadership, or this
    /// node does not lead.
    pub answered: Option<Duration>,
}

impl<D: Disk, R: Runtime> Group<D, R> {
    /// The group as this node sees it.
    pub fn report(&self) -> GroupReport {
        let metrics = self.commit().raft().metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let me = self.id().node;
        // openraft counts entries from 0.
        let last_index = metrics.last_log_index.map_or(0, |index| index + 1);
        let of = |node: NodeId| match &metrics.replication {
            Some(_) if node == me => Some(last_index),
            Some(all) => {
                let matched = all.get(&node).copied().flatten();
                Some(matched.map_or(0, |id| id.index + 1))
            }
            None if node == me => Some(metrics.last_applied.map_or(0, |applied| applied.index + 1)),
            None => None,
        };
        let now = self.runtime().elapsed();
        let ago = |at: LocalInstant| now.saturating_sub(at.since_zero());
        let answered = |node: NodeId| match &metrics.heartbeat {
            Some(_) if node == me => Some(Duration::ZERO),
            Some(all) => all.get(&node).copied().flatten().map(|at| ago(at.into_inner())),
            None => None,
        };
        let members = membership.nodes().map(|(node, member)| {
            let (matched_index, answered) = (of(*node), answered(*node));
            (*node, MemberProgress { member: member.clone(), matched_index, answered })
        });
        let voters: Vec<_> = membership.voter_ids().collect();
        let is_cut_off = self.is_cut_off();
        let chosen = membership.nodes().find(|(_, member)| member.is_chosen).map(|(node, _)| node);
        let is_joint = membership.get_joint_config().len() > 1;
        let is_committed = metrics.membership_config == metrics.committed_membership_config;
        GroupReport {
            leader: metrics.current_leader.filter(|_| !is_cut_off),
            term: metrics.current_term,
            committed: self.visible_offset(),
            is_changing: is_joint || !is_committed,
            last_index,
            voters,
            members: members.collect(),
            chosen: chosen.copied(),
        }
    }

    /// This node takes itself for the leader, and has heard no majority for long.
    fn is_cut_off(&self) -> bool {
        let metrics = self.commit().raft().metrics();
        let metrics = metrics.borrow_watched();
        let me = self.id().node;
        let has_others =
            metrics.membership_config.membership().voter_ids().any(|voter| voter != me);
        let acked = metrics.last_quorum_acked.map(|at| at.into_inner().since_zero());
        let silent = acked.map(|acked| self.runtime().elapsed().saturating_sub(acked));
        metrics.current_leader == Some(me)
            && has_others
            && silent.is_some_and(|silent| silent > self.contact_within())
    }

    /// A member that has not answered for so long does not answer: four heartbeats may be lost, and two
    /// elections may have taken place.
    pub fn contact_within(&self) -> Duration {
        let election = Duration::from_millis(self.commit().raft().config().election_timeout_max);
        CONTACT_WITHIN_MIN.max(4 * election)
    }

    /// Notes for every later leader that an operator chose this voter to lead, or nobody.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn choose(&self, chosen: Option<NodeId>) -> Result<(), String> {
        let changed: BTreeMap<NodeId, Member> = {
            let metrics = self.commit().raft().metrics();
            let metrics = metrics.borrow_watched();
            let nodes = metrics.membership_config.membership().nodes();
            let nodes = nodes.filter(|(node, member)| member.is_chosen != (Some(**node) == chosen));
            let change = |(node, member): (&NodeId, &Member)| {
                (*node, Member { is_chosen: !member.is_chosen, ..member.clone() })
            };
            nodes.map(change).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        // Only the note changes: the addresses stay as they are.
        let change = ChangeMembers::SetNodes(changed);
        let changed = self.commit().raft.change_membership(change, false).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Former members.
    pub fn removed_members(&self) -> BTreeSet<NodeId> {
        self.commit().apply.removed()
    }

    /// The newest membership of the group keeps this node. A node that is taken out hears of the change
    /// that begins its removal, and seldom of the one that ends it.
    pub fn is_named(&self) -> bool {
        let me = self.id().node;
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        let votes = configs.last().is_some_and(|voters| voters.contains(&me));
        let learns = configs.iter().all(|voters| !voters.contains(&me));
        votes || learns && membership.get_node(&me).is_some()
    }

    /// Takes a node into the group: it learns, and has no vote.
    ///
    /// # Errors
    /// In words; whether anything was changed shows later.
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<(), String> {
        let added = self.commit().raft.add_learner(node, member, false).await;
        added.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Records that a member is at another address.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn set_address(&self, node: NodeId, address: SocketAddr) -> Result<(), String> {
        let known = {
            let metrics = self.commit().raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&node).cloned()
        };
        let Some(known) = known else { return Err(format!("node {node} is no member any more")) };
        // What an operator chose stays.
        let member = Member { peer_address: address.to_string(), ..known };
        let moved = ChangeMembers::SetNodes(BTreeMap::from([(node, member)]));
        let changed = self.commit().raft.change_membership(moved, true).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Makes these the voters; each must be a member already. A former voter leaves the group.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), String> {
        let changed = self.commit().raft.change_membership(voters, false).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Takes a learner out of the group.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), String> {
        let removal = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
        let removed = self.commit().raft.change_membership(removal, false).await;
        removed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The node is a member, as far as this node knows.
    pub fn is_member(&self, node: NodeId) -> bool {
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node).is_some()
    }

    /// This node does not know any member of the group yet.
    pub fn knows_no_members(&self) -> bool {
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().nodes().next().is_none()
    }

    /// Gives leadership to another voter: to `to`, or to one that has the most of the log. Meanwhile new
    /// writes are refused as busy, and earlier ones are finished. True if this node leads no more.
    pub async fn hand_over(&self, to: Option<NodeId>) -> bool {
        if !self.leads() {
            return true;
        }
        let Some(to) = to.or_else(|| self.most_advanced()) else { return false };
        let (consensus, runtime) = (self.commit(), self.runtime());
        consensus.is_pausing.set(true);
        let mut waited = Duration::ZERO;
        // Who lacks an entry can't be elected, and once asked to hand over openraft takes no writes any more.
        while self.leads() && waited < HAND_OVER_WITHIN && !(self.is_finished() && self.has_all(to))
        {
            runtime.sleep(HAND_OVER_LOOK_EVERY).await;
            waited += HAND_OVER_LOOK_EVERY;
        }
        let mut asked = false;
        if self.leads() && waited < HAND_OVER_WITHIN {
            consensus.judge.name_successor(to);
            asked = consensus.raft.trigger().transfer_leader(to).await.is_ok();
        }
        while asked && self.leads() && waited < HAND_OVER_WITHIN {
            runtime.sleep(HAND_OVER_LOOK_EVERY).await;
            waited += HAND_OVER_LOOK_EVERY;
        }
        let leads_no_more = !self.leads();
        if asked && !leads_no_more {
            self.step_down(to).await;
        }
        consensus.is_pausing.set(false);
        leads_no_more
    }

    /// Ends a leadership that those who are there do not believe in, until the partition ends: a leader whose electors
    /// have died can't prove to another node, which had voted for somebody else, that it was elected. That node takes
    /// nothing from it, and can't be elected itself if it has less of the log. In the next term it can vote for this one.
    pub(super) async fn give_way(self) {
        let mut unheard_before = None;
        while !self.is_ending() {
            self.runtime().sleep(self.contact_within()).await;
            let unheard = self.term_without_majority();
            // Since the look before, which is as long as a majority may be silent.
            let is_unheard = unheard.is_some() && unheard == unheard_before;
            unheard_before = unheard;
            let asked = self.commit().judge.take_asked();
            if let Some(node) = asked.filter(|_| is_unheard || self.is_cut_off()) {
                tracing::warn!(
                    "partition {}: this leader hears no majority, and node {node} asks for votes: there is a new \
                     election",
                    self.id().partition
                );
                self.step_down(node).await;
            }
        }
    }

    /// The term that this node takes itself for the leader of, if no majority has answered it in that yet.
    fn term_without_majority(&self) -> Option<u64> {
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.current_leader == Some(self.id().node);
        (leads && metrics.last_quorum_acked.is_none()).then_some(metrics.current_term)
    }

    /// The node has all entries that this leader has.
    fn has_all(&self, node: NodeId) -> bool {
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched =
            metrics.replication.as_ref().and_then(|all| all.get(&node).copied().flatten());
        matched.map(|id| id.index) == metrics.last_log_index
    }

    /// Ends a leadership that was to be handed over and was not taken: openraft would keep it for as long as nobody
    /// else is elected, without heartbeats and without writes. This node votes for the successor in the next
    /// term, as if that one had asked, with this log; whoever can be elected is, this node among them.
    async fn step_down(&self, successor: NodeId) {
        let consensus = self.commit();
        let term = consensus.raft.metrics().borrow_watched().current_term;
        let last = log_id_of(&consensus.judge.log.log().last());
        let mut request = VoteRequest::new(Vote::new(term + 1, successor), last);
        request.leadership_transfer = true;
        if let Err(error) = consensus.raft.vote(request).await {
            tracing::warn!("partition {}: it leads on: {error}", self.id().partition);
        }
    }

    /// Another voter that has as much of the log as any.
    fn most_advanced(&self) -> Option<NodeId> {
        let metrics = self.commit().raft.metrics();
        let metrics = metrics.borrow_watched();
        let me = self.id().node;
        let voters: Vec<_> = metrics.membership_config.membership().voter_ids().collect();
        let progress = metrics.replication.as_ref()?.iter();
        let others = progress.filter(|(node, _)| **node != me && voters.contains(*node));
        others.max_by_key(|(_, matched)| **matched).map(|(node, _)| *node)
    }
}
