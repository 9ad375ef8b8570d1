//! Requests of operators, and the cluster as this node sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{
    AdminState, ClusterStatusReply, GroupRow, NO_NODE, NodeHealth, NodeRow, ReplicaRole, ReplicaRow,
};
use walengine_net::model::PartitionId;
use walengine_replication::gossip::NodeCondition;
use walengine_replication::membership::{CAUGHT_UP_ENTRIES, preferred};
use walengine_replication::membership_codec::NODES_MAX;
use walengine_replication::types::{Member, NodeId};

use super::node_facts::NodeFacts;
use crate::acquaintances::Acquaintances;
use crate::cluster_view::health_of;
use crate::connection::outbox::Outbox;
use crate::limits::{CONTACT_WITHIN_MIN, SAID_WITHIN};
use crate::partition::Partition;
use crate::partition::alone::Alone;
use crate::partition::commit::Commit;
use crate::partition::group::changes::GroupReport;
use crate::partition::group::{Consensus, Group};
use crate::refused::Refused;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::version::SERVER_VERSION;

/// Answers [`Kind::ClusterStatus`]: of this shard's partitions all that is known here, of the
/// others who leads them.
pub fn cluster_status<C: Operated>(node: &NodeFacts<C>, outbox: &Outbox, head: FrameHead) {
    let state = &*node.state;
    let cluster = node.cluster.borrow().clone();
    let addresses = cluster.nodes.iter();
    let addresses = addresses.map(|it| (it.peer_address.to_string(), node.client_address(it.node)));
    let addresses: Vec<_> = addresses.collect();
    let now = cluster.now();
    let answering = answering(node);
    let rows = cluster.nodes.iter().zip(&addresses);
    let rows = rows.map(|(one, (peer_address, client_address))| {
        let meta = one.meta.as_ref();
        NodeRow {
            node: one.node,
            state: match health_of(one) {
                // Its datagrams do not come through; consensus knows better.
                NodeHealth::Suspect | NodeHealth::Dead if answering.contains(&one.node) => {
                    NodeHealth::Alive as u8
                }
                health => health as u8,
            },
            cores: meta.map_or(0, |meta| meta.cores),
            free_bytes: meta.map_or(0, |meta| meta.free_bytes),
            heard_seconds: now.saturating_sub(one.since).as_secs(),
            client_address,
            peer_address,
            version: meta.map_or("", |meta| &meta.version),
        }
    });
    let mut nodes: Vec<_> = rows.collect();
    if nodes.is_empty() {
        nodes.push(NodeRow {
            node: state.superblock.node,
            state: NodeHealth::Alive as u8,
            cores: state.config.cores as u16,
            free_bytes: state.free_bytes.load(std::sync::atomic::Ordering::Relaxed),
            heard_seconds: state.started.elapsed().as_secs(),
            client_address: "",
            peer_address: "",
            version: SERVER_VERSION,
        });
    }
    let (mut groups, mut replicas) = (Vec::new(), Vec::new());
    for partition in (0..state.superblock.partitions).map(PartitionId) {
        let leader = cluster.leader(partition);
        let mut row = GroupRow {
            partition: partition.0,
            leader: leader.map_or(NO_NODE, |(node, _)| node),
            term: leader.map_or(0, |(_, term)| term),
            committed_offset: 0,
            is_changing: 0,
        };
        if let Some(place) = node.place_of(partition) {
            let report = C::report(&node.partitions[place]);
            row.leader = report.leader.unwrap_or(NO_NODE);
            row.term = report.term;
            row.committed_offset = report.committed.0;
            row.is_changing = u8::from(report.is_changing);
            replicas.extend(replica_rows(partition, &report));
        }
        groups.push(row);
    }
    let reply = ClusterStatusReply {
        cluster: state.superblock.cluster.0,
        node: state.superblock.node,
        nodes: &nodes,
        groups: &groups,
        replicas: &replicas,
    };
    outbox.put(Kind::ClusterStatusReply, head, &reply);
}

/// Nodes that answer consensus, in any group that this shard leads.
fn answering<C: Operated>(node: &NodeFacts<C>) -> BTreeSet<NodeId> {
    let mut answering = BTreeSet::new();
    for report in node.partitions.iter().map(C::report) {
        let is_recent = |ago: Duration| ago <= CONTACT_WITHIN_MIN;
        let members = report.members.iter();
        let members = members.filter(|(_, progress)| progress.answered.is_some_and(is_recent));
        answering.extend(members.map(|(member, _)| *member));
    }
    answering
}

fn replica_rows(
    partition: PartitionId,
    report: &GroupReport,
) -> impl Iterator<Item = ReplicaRow> + use<'_> {
    report.members.iter().filter_map(move |(&node, progress)| {
        let is_voter = report.voters.contains(&node);
        let role = if is_voter { ReplicaRole::Voter } else { ReplicaRole::Learner };
        Some(ReplicaRow {
            partition: partition.0,
            node,
            role: role as u8,
            matched_index: progress.matched_index?,
            last_index: report.last_index,
        })
    })
}

/// What an operator asks of the leader of a partition.
#[derive(Clone, Copy, Debug)]
pub enum GroupOrder {
    /// Lead no more; `None`: the voter that the partition prefers shall lead.
    Transfer(Option<NodeId>),
    /// Take a node out of the group.
    Remove(NodeId),
    /// Take a node into the group.
    Admit(NodeId),
}

/// What became of an order, and why, for people.
pub type Obeyed = (AdminState, String);

/// What an operator sees of a partition, and has done to it.
pub trait Operated: Commit + Sized {
    /// The partition as this node sees it.
    fn report(partition: &Partition<Self>) -> GroupReport;

    /// Carries out an order. `known` tells how the other nodes are.
    ///
    /// # Errors
    /// Another node leads.
    fn obey(
        partition: &Partition<Self>,
        order: GroupOrder,
        known: &Acquaintances,
    ) -> impl Future<Output = Result<Obeyed, Refused>>;
}

impl<D: Disk, R: Runtime> Operated for Alone<D, R> {
    fn report(partition: &Partition<Self>) -> GroupReport {
        GroupReport {
            leader: partition.leader(),
            term: partition.term(),
            committed: partition.visible_offset(),
            is_changing: false,
            last_index: partition.log().last().index,
            voters: Vec::new(),
            members: BTreeMap::new(),
            chosen: None,
        }
    }

    async fn obey(
        _: &Partition<Self>,
        _: GroupOrder,
        _: &Acquaintances,
    ) -> Result<Obeyed, Refused> {
        let message = "this node serves alone: there is nobody to take its place";
        Ok((AdminState::Refused, message.to_owned()))
    }
}

impl<D: Disk, R: Runtime> Operated for Consensus<D, R> {
    fn report(group: &Group<D, R>) -> GroupReport {
        Group::report(group)
    }

    async fn obey(
        group: &Group<D, R>,
        order: GroupOrder,
        known: &Acquaintances,
    ) -> Result<Obeyed, Refused> {
        if !group.leads() {
            return Err(Refused::NotLeader(group.leader()));
        }
        match order {
            GroupOrder::Transfer(to) => Ok(transfer(group, to, known).await),
            GroupOrder::Remove(node) => remove(group, node).await,
            GroupOrder::Admit(node) => Ok(admit(group, node, known).await),
        }
    }
}

/// Moves leadership, and keeps it there: the voter that an operator names is the one that leads from
/// then on, whenever it can. Without a name that ends, and the voter leads that the partition prefers
/// by its number.
async fn transfer<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    to: Option<NodeId>,
    known: &Acquaintances,
) -> Obeyed {
    let (report, me) = (Group::report(group), group.id().node);
    let voters = report.voters.iter().copied().collect();
    let Some(heir) = to.or_else(|| preferred(group.id().partition, &voters, None)) else {
        return (AdminState::Refused, "the group has no voters".to_owned());
    };
    if let Err(why) = can_lead(&report, heir, me, known, group.contact_within()) {
        return (AdminState::Refused, why);
    }
    if let Err(why) = group.choose(to).await {
        return (AdminState::Refused, why);
    }
    let stays = match to {
        Some(_) => "it leads whenever it can until told otherwise: `cluster transfer` without --to",
        None => "",
    };
    if heir == me {
        let unchanged = to == report.chosen;
        let state = if unchanged { AdminState::Unchanged } else { AdminState::Done };
        return (state, format!("it leads already{}{stays}", if to.is_some() { "; " } else { "" }));
    }
    if group.hand_over(Some(heir)).await {
        return (AdminState::Done, stays.to_owned());
    }
    // Only this leader can take back what it noted.
    let undone = group.choose(report.chosen).await;
    let message = match undone {
        Ok(()) => format!("node {heir} did not take over in time; it is as it was"),
        Err(why) => format!("node {heir} did not take over in time, and may yet: {why}"),
    };
    (AdminState::Refused, message)
}

/// Whether leadership can move to a node.
///
/// # Errors
/// Why it can't, in words.
fn can_lead(
    report: &GroupReport,
    node: NodeId,
    me: NodeId,
    known: &Acquaintances,
    within: Duration,
) -> Result<(), String> {
    if !report.voters.contains(&node) {
        let voters: Vec<_> = report.voters.iter().map(ToString::to_string).collect();
        return Err(format!("node {node} is no voter of the partition; {} are", voters.join(", ")));
    }
    if node == me {
        return Ok(());
    }
    let progress = report.members.get(&node);
    if progress.and_then(|progress| progress.answered).is_none_or(|ago| ago > within) {
        return Err(format!("node {node} does not answer the partition's leader"));
    }
    let matched = progress.and_then(|progress| progress.matched_index).unwrap_or(0);
    let lag = report.last_index.saturating_sub(matched);
    if lag > CAUGHT_UP_ENTRIES {
        return Err(format!("node {node} lacks {lag} entries: ask again when it has caught up"));
    }
    let condition = known.condition(node, SAID_WITHIN).unwrap_or_default();
    let trouble = match condition {
        NodeCondition { is_stuck: true, .. } => "the disk is stuck, or was a moment ago",
        NodeCondition { is_full: true, .. } => {
            "the disk is full, or was a moment ago: make room there first"
        }
        NodeCondition { is_slow: true, .. } => "the disk is slow, or was a moment ago",
        NodeCondition { is_short_of_memory: true, .. } => {
            "memory is nearly used up: allow more there first"
        }
        _ => return Ok(()),
    };
    Err(format!("node {node} can't: {trouble}; leadership would come back at once"))
}

async fn remove<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    removed: NodeId,
) -> Result<Obeyed, Refused> {
    let report = Group::report(group);
    // Whatever gossip says: consensus knows which of its members answer.
    let is_alive = |node: NodeId| {
        let progress = report.members.get(&node);
        progress
            .and_then(|progress| progress.answered)
            .is_some_and(|ago| ago <= group.contact_within())
    };
    let removal = match removal(&report, removed, is_alive) {
        Err(why) => return Ok((AdminState::Refused, why)),
        Ok(Removal::Nothing) => {
            return Ok((AdminState::Unchanged, "it is not in the group".to_owned()));
        }
        Ok(removal) => removal,
    };
    if removed == group.id().node {
        // It leads: somebody else must, to take it out.
        group.hand_over(None).await;
        return Err(Refused::NotLeader(group.leader()));
    }
    let changed = match removal {
        Removal::Voter(left) => group.set_voters(left).await,
        _ => group.remove_learner(removed).await,
    };
    Ok(match changed {
        Ok(()) => (AdminState::Done, String::new()),
        Err(why) => (AdminState::Refused, why),
    })
}

/// Takes a node in where it has greeted this one: from then on the group's log has it.
async fn admit<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    node: NodeId,
    known: &Acquaintances,
) -> Obeyed {
    let report = Group::report(group);
    let found = known.answers(node, SAID_WITHIN).then(|| known.address(node)).flatten();
    match admission(&report, node, &group.removed_members(), found) {
        Err(why) => (AdminState::Refused, why),
        Ok(None) => (AdminState::Unchanged, "it is in the group already".to_owned()),
        Ok(Some(at)) => match group.add_learner(node, Member::at(at.to_string())).await {
            Ok(()) => (AdminState::Done, format!("it is at {at}, and learns")),
            Err(why) => (AdminState::Refused, why),
        },
    }
}

/// Where to take a node in that answers at `found`; `None` if it is in the group.
///
/// # Errors
/// Why it must not be taken in, in words.
fn admission(
    report: &GroupReport,
    node: NodeId,
    removed: &BTreeSet<NodeId>,
    found: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, String> {
    if report.members.contains_key(&node) {
        return Ok(None);
    }
    if removed.contains(&node) {
        return Err(format!(
            "node {node} was a member once: its id is not used again; empty its data directory, and \
             start it as a new node"
        ));
    }
    if report.is_changing {
        return Err("the group is changing already: ask again in a moment".to_owned());
    }
    if report.members.len() >= NODES_MAX {
        return Err(format!("the group has {NODES_MAX} nodes already: remove one first"));
    }
    found.map(Some).ok_or_else(|| {
        format!("node {node} does not answer this leader: start it with this cluster in --join")
    })
}

/// What removing a node takes.
#[derive(Debug, PartialEq, Eq)]
enum Removal {
    /// It is not in the group.
    Nothing,
    /// It learns, and has no vote.
    Learner,
    /// It votes; these are left.
    Voter(BTreeSet<NodeId>),
}

/// What removing a node takes.
///
/// # Errors
/// Why it must not be removed, in words.
fn removal(
    report: &GroupReport,
    removed: NodeId,
    alive: impl Fn(NodeId) -> bool,
) -> Result<Removal, String> {
    if report.is_changing {
        return Err("the group is changing already: ask again in a moment".to_owned());
    }
    if !report.members.contains_key(&removed) {
        return Ok(Removal::Nothing);
    }
    if !report.voters.contains(&removed) {
        return Ok(Removal::Learner);
    }
    let mut left: BTreeSet<_> = report.voters.iter().copied().collect();
    left.remove(&removed);
    let living = left.iter().filter(|&&node| alive(node)).count();
    let is_majority = |of: usize| living > of / 2;
    if left.is_empty() || !is_majority(left.len()) || !is_majority(report.voters.len()) {
        return Err(format!(
            "of {} voters {living} others are alive: without this one no majority would be sure; \
             bring nodes back, or add some, first",
            report.voters.len()
        ));
    }
    Ok(Removal::Voter(left))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use walengine_net::model::Offset;

    use super::*;
    use crate::partition::group::changes::MemberProgress;

    fn group(voters: &[NodeId], learners: &[NodeId]) -> GroupReport {
        let answered = Some(Duration::ZERO);
        let progress =
            MemberProgress { member: Member::default(), matched_index: Some(1), answered };
        let members = voters.iter().chain(learners).map(|node| (*node, progress.clone()));
        GroupReport {
            leader: voters.first().copied(),
            term: 1,
            committed: Offset(0),
            is_changing: false,
            last_index: 1,
            voters: voters.to_vec(),
            members: members.collect::<BTreeMap<_, _>>(),
            chosen: None,
        }
    }

    #[test]
    fn a_node_is_admitted_where_it_answers_and_never_again_once_it_was_removed() {
        let three = group(&[1, 2, 3], &[4]);
        let (none, at) = (BTreeSet::new(), "10.0.0.5:7451".parse().unwrap());
        assert_eq!(admission(&three, 5, &none, Some(at)), Ok(Some(at)));
        for member in [3, 4] {
            assert_eq!(admission(&three, member, &none, Some(at)), Ok(None));
        }
        assert!(admission(&three, 5, &none, None).unwrap_err().contains("does not answer"));
        let removed = BTreeSet::from([5]);
        assert!(admission(&three, 5, &removed, Some(at)).unwrap_err().contains("not used again"));
        let changing = GroupReport { is_changing: true, ..three };
        assert!(admission(&changing, 5, &none, Some(at)).is_err());
        let full = group(&[1, 2, 3], &(4..=NODES_MAX as u64).collect::<Vec<_>>());
        assert!(admission(&full, 99, &none, Some(at)).is_err());
    }

    #[test]
    fn a_removal_never_leaves_less_than_a_majority() {
        let three = group(&[1, 2, 3], &[4]);
        let all = |_| true;
        assert_eq!(removal(&three, 3, all), Ok(Removal::Voter(BTreeSet::from([1, 2]))));
        assert_eq!(removal(&three, 4, all), Ok(Removal::Learner));
        assert_eq!(removal(&three, 5, all), Ok(Removal::Nothing));
        assert!(removal(&three, 3, |node| node != 2).is_err(), "1 alone is not sure of 1 and 2");
        assert!(removal(&group(&[1], &[]), 1, all).is_err(), "nobody would be left");
        let changing = GroupReport { is_changing: true, ..three };
        assert!(removal(&changing, 3, all).is_err());
    }
}
