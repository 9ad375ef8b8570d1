//! Requests of operators, and the cluster as this node sees it.

use std::collections::BTreeSet;
use std::rc::Rc;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{
    AdminReply, AdminState, ClusterStatusReply, GroupRow, NO_NODE, NodeHealth, NodeRow,
    ReplicaRole, ReplicaRow,
};
use walengine_net::model::PartitionId;
use walengine_replication::types::NodeId;

use super::manage::preferred;
use super::members::GroupReport;
use super::outbox::Outbox;
use super::request::Refused;
use super::served::Served;
use super::session::SERVER_VERSION;
use super::status::NodeFacts;
use crate::control::view::health_of;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Answers [`Kind::ClusterStatus`]: of this shard's partitions all that is known here, of the
/// others who leads them.
pub fn cluster_status<D: Disk, R: Runtime>(
    node: &Rc<NodeFacts<D, R>>,
    outbox: &Outbox,
    head: FrameHead,
) {
    let shared = &node.shared;
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
            node: shared.superblock.node,
            state: NodeHealth::Alive as u8,
            cores: shared.config.cores as u16,
            free_bytes: shared.free_bytes.load(std::sync::atomic::Ordering::Relaxed),
            heard_seconds: shared.started.elapsed().as_secs(),
            client_address: "",
            peer_address: "",
            version: SERVER_VERSION,
        });
    }
    let (mut groups, mut replicas) = (Vec::new(), Vec::new());
    for partition in (0..shared.superblock.partitions).map(PartitionId) {
        let here = node.partitions.iter().find(|one| one.identity().partition == partition);
        let leader = cluster.leader(partition);
        let mut row = GroupRow {
            partition: partition.0,
            leader: leader.map_or(NO_NODE, |(node, _)| node),
            term: leader.map_or(0, |(_, term)| term),
            committed_offset: 0,
            is_changing: 0,
        };
        match here {
            Some(Served::Alone(alone)) => {
                row.leader = alone.identity().node;
                row.term = alone.term();
                row.committed_offset = alone.durable_offset().0;
            }
            Some(Served::Group(group)) => {
                let report = group.report();
                row.leader = report.leader.unwrap_or(NO_NODE);
                row.term = report.term;
                row.committed_offset = report.committed.0;
                row.is_changing = u8::from(report.is_changing);
                replicas.extend(replica_rows(partition, &report));
            }
            None => {}
        }
        groups.push(row);
    }
    let reply = ClusterStatusReply {
        cluster: shared.superblock.cluster.0,
        node: shared.superblock.node,
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
pub enum Order {
    /// Lead no more; `None`: the voter that the partition prefers shall lead.
    Transfer(Option<NodeId>),
    /// Take a node out of the group.
    Remove(NodeId),
}

/// Carries out an order and answers it.
pub async fn obey<D: Disk, R: Runtime>(
    partition: Served<D, R>,
    node: Rc<NodeFacts<D, R>>,
    outbox: Rc<Outbox>,
    kind: Kind,
    head: FrameHead,
    order: Order,
) {
    let Served::Group(group) = &partition else {
        let message = "this node serves alone: there is nobody to take its place";
        return outbox.put(kind, head, &AdminReply::new(AdminState::Refused, message));
    };
    if !group.leads() {
        return node.put_refused(&outbox, head, &Refused::NotLeader(group.leader()));
    }
    let report = group.report();
    let (state, message) = match order {
        Order::Transfer(to) => {
            let id = group.identity().partition;
            let to = to.or_else(|| preferred(id, &report.voters));
            match to {
                Some(to) if to == group.identity().node => {
                    (AdminState::Unchanged, "it leads already".to_owned())
                }
                Some(to) if report.voters.contains(&to) => {
                    if group.hand_over(Some(to)).await {
                        (AdminState::Done, String::new())
                    } else {
                        let why = "the other node did not take over in time; it is as it was";
                        (AdminState::Refused, why.to_owned())
                    }
                }
                _ => (AdminState::Refused, "that node is no voter of the partition".to_owned()),
            }
        }
        Order::Remove(removed) => {
            let alive = |id: NodeId| node.cluster.borrow().is_alive(id);
            match removal(&report, removed, alive) {
                Err(why) => (AdminState::Refused, why),
                Ok(Removal::Nothing) => {
                    (AdminState::Unchanged, "it is not in the group".to_owned())
                }
                Ok(removal) => {
                    if removed == group.identity().node {
                        // It leads: somebody else must, to take it out.
                        group.hand_over(None).await;
                        let refused = Refused::NotLeader(group.leader());
                        return node.put_refused(&outbox, head, &refused);
                    }
                    let changed = match removal {
                        Removal::Voter(left) => group.set_voters(left).await,
                        _ => group.remove_learner(removed).await,
                    };
                    match changed {
                        Ok(()) => (AdminState::Done, String::new()),
                        Err(why) => (AdminState::Refused, why),
                    }
                }
            }
        }
    };
    outbox.put(kind, head, &AdminReply::new(state, &message));
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
    use crate::shard::members::Progress;

    fn group(voters: &[NodeId], learners: &[NodeId]) -> GroupReport {
        let progress = Progress { member: Member::default(), matched_index: Some(1) };
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
