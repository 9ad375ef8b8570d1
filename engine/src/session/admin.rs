//! Requests of operators, and the cluster as this node sees it.

use std::collections::{BTreeMap, BTreeSet};

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{
    AdminReply, AdminState, ClusterStatusReply, GroupRow, NO_NODE, NodeHealth, NodeRow,
    ReplicaRole, ReplicaRow,
};
use walengine_net::model::PartitionId;
use walengine_replication::types::NodeId;

use super::node_facts::NodeFacts;
use super::replies::Replies;
use crate::cluster_view::health_of;
use crate::connection::outbox::Outbox;
use crate::partition::Partition;
use crate::partition::alone::Alone;
use crate::partition::commit::Commit;
use crate::partition::group::changes::{GroupReport, preferred};
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
    let addresses: Vec<_> = cluster.nodes.iter().map(|one| one.peer_address.to_string()).collect();
    let now = cluster.now();
    let rows = cluster.nodes.iter().zip(&addresses).map(|(one, peer_address)| {
        let meta = one.meta.as_ref();
        NodeRow {
            node: one.node,
            state: health_of(one) as u8,
            cores: meta.map_or(0, |meta| meta.cores),
            free_bytes: meta.map_or(0, |meta| meta.free_bytes),
            heard_seconds: now.saturating_sub(one.since).as_secs(),
            client_address: meta.map_or("", |meta| &meta.client_address),
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
}

/// What became of an order, and why, for people.
pub type Obeyed = (AdminState, String);

/// What an operator sees of a partition, and has done to it.
pub trait Operated: Commit + Sized {
    /// The partition as this node sees it.
    fn report(partition: &Partition<Self>) -> GroupReport;

    /// Carries out an order. `is_alive` tells which nodes answer.
    ///
    /// # Errors
    /// Another node leads.
    fn obey(
        partition: &Partition<Self>,
        order: GroupOrder,
        is_alive: impl Fn(NodeId) -> bool,
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
        }
    }

    async fn obey(
        _: &Partition<Self>,
        _: GroupOrder,
        _: impl Fn(NodeId) -> bool,
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
        is_alive: impl Fn(NodeId) -> bool,
    ) -> Result<Obeyed, Refused> {
        if !group.leads() {
            return Err(Refused::NotLeader(group.leader()));
        }
        match order {
            GroupOrder::Transfer(to) => Ok(transfer(group, to).await),
            GroupOrder::Remove(node) => remove(group, node, is_alive).await,
        }
    }
}

/// Carries out an order and answers it.
pub async fn obey<C: Operated>(
    replies: &Replies<C>,
    kind: Kind,
    head: FrameHead,
    order: GroupOrder,
) {
    let Replies { partition, node, outbox } = replies;
    match C::obey(partition, order, |id| node.cluster.borrow().is_alive(id)).await {
        Ok((state, message)) => outbox.put(kind, head, &AdminReply::new(state, &message)),
        Err(refused) => replies.put_refused(head, &refused),
    }
}

async fn transfer<D: Disk, R: Runtime>(group: &Group<D, R>, to: Option<NodeId>) -> Obeyed {
    let (report, id) = (Group::report(group), group.id());
    let (state, message) = match to.or_else(|| preferred(id.partition, &report.voters)) {
        Some(to) if to == id.node => (AdminState::Unchanged, "it leads already"),
        Some(to) if !report.voters.contains(&to) => {
            (AdminState::Refused, "that node is no voter of the partition")
        }
        None => (AdminState::Refused, "that node is no voter of the partition"),
        Some(to) if group.hand_over(Some(to)).await => (AdminState::Done, ""),
        Some(_) => {
            (AdminState::Refused, "the other node did not take over in time; it is as it was")
        }
    };
    (state, message.to_owned())
}

async fn remove<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    removed: NodeId,
    is_alive: impl Fn(NodeId) -> bool,
) -> Result<Obeyed, Refused> {
    let removal = match removal(&Group::report(group), removed, is_alive) {
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

    use walengine_net::model::Offset;
    use walengine_replication::types::Member;

    use super::*;
    use crate::partition::group::changes::MemberProgress;

    fn group(voters: &[NodeId], learners: &[NodeId]) -> GroupReport {
        let progress = MemberProgress { member: Member::default(), matched_index: Some(1) };
        let members = voters.iter().chain(learners).map(|node| (*node, progress.clone()));
        GroupReport {
            leader: voters.first().copied(),
            term: 1,
            committed: Offset(0),
            is_changing: false,
            last_index: 1,
            voters: voters.to_vec(),
            members: members.collect::<BTreeMap<_, _>>(),
        }
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

    #[test]
    fn partitions_prefer_voters_in_turn() {
        let leads = |partition| preferred(PartitionId(partition), &[9, 4, 7]);
        assert_eq!([0, 1, 2, 3].map(leads), [4, 7, 9, 4].map(Some));
        assert_eq!(preferred(PartitionId(0), &[]), None);
    }
}
