//! Administration: the status of servers and of the cluster, leaders and members.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::TROUBLE;
use crate::message::{
    AdminReply, AdminState, AdmitNode, ArchivedClusterStatusReply, ClusterStatus,
    ClusterStatusReply, Leave, Message, NO_NODE, NO_PARTITION, NodeHealth, RemoveNode, ReplicaRole,
    ServerStatus, ServerStatusReply, TransferLeadership, open,
};
use crate::model::{Offset, PartitionId};

use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo};
use super::{Plan, call, first};

/// Status of a server. Rows without a partition are about the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// Numbers, with their units in their names.
    pub numbers: Vec<(Option<PartitionId>, String, u64)>,
    /// Texts.
    pub texts: Vec<(Option<PartitionId>, String, String)>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its id.
    pub node: u64,
    /// Its health.
    pub health: NodeHealth,
    /// Seconds in that state.
    pub heard_seconds: u64,
    /// Cores that it serves on.
    pub cores: u16,
    /// Free space of its data directory's file system.
    pub free_bytes: u64,
    /// Where it serves clients.
    pub client_address: String,
    /// Where it serves its peers.
    pub peer_address: String,
    /// Its program's version.
    pub version: String,
}

/// The group of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// The leader; `None` if not known.
    pub leader: Option<u64>,
    /// The newest term known.
    pub term: u64,
    /// Everything below is committed.
    pub committed_offset: Offset,
    /// Its membership is being changed.
    pub is_changing: bool,
}

/// A replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// Its role.
    pub role: ReplicaRole,
    /// Log entries that it is not known to have.
    pub lag_entries: u64,
}

/// Something that a person should look at, as a node tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// The partition that it is about; `None`: the whole node or cluster.
    pub partition: Option<PartitionId>,
    /// What it is, for people.
    pub text: String,
}

/// What one node knows of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The node that answered.
    pub node: u64,
    report: ClusterReport,
}

/// The cluster, merged from the views of several nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// The nodes, by id.
    pub nodes: BTreeMap<u64, NodeReport>,
    /// The groups.
    pub groups: BTreeMap<PartitionId, GroupReport>,
    /// The replicas, by partition and node.
    pub replicas: BTreeMap<(PartitionId, u64), ReplicaReport>,
    /// What a person should look at, each once.
    pub troubles: BTreeSet<Trouble>,
}

/// Result of an administrative request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminOutcome {
    /// What happened.
    pub state: AdminState,
    /// Details for people; may be empty.
    pub message: String,
}

impl From<&ArchivedClusterStatusReply<'static>> for ClusterView {
    fn from(reply: &ArchivedClusterStatusReply<'static>) -> Self {
        let mut report = ClusterReport::default();
        for row in reply.nodes.iter() {
            let node = NodeReport {
                node: row.node.to_native(),
                health: row.health(),
                heard_seconds: row.heard_seconds.to_native(),
                cores: row.cores.to_native(),
                free_bytes: row.free_bytes.to_native(),
                client_address: row.client_address.to_string(),
                peer_address: row.peer_address.to_string(),
                version: row.version.to_string(),
            };
            report.nodes.insert(node.node, node);
        }
        for row in reply.groups.iter() {
            let group = GroupReport {
                leader: Some(row.leader.to_native()).filter(|&leader| leader != NO_NODE),
                term: row.term.to_native(),
                committed_offset: Offset(row.committed_offset.to_native()),
                is_changing: row.is_changing == 1,
            };
            report.groups.insert(PartitionId(row.partition.to_native()), group);
        }
        for row in reply.replicas.iter() {
            let (matched, last) = (row.matched_index.to_native(), row.last_index.to_native());
            let replica =
                ReplicaReport { role: row.role(), lag_entries: last.saturating_sub(matched) };
            let partition = PartitionId(row.partition.to_native());
            report.replicas.insert((partition, row.node.to_native()), replica);
        }
        Self { node: reply.node.to_native(), report }
    }
}

impl ClusterView {
    /// What the same node says that a person should look at.
    pub fn set_troubles(&mut self, troubles: Vec<Trouble>) {
        self.report.troubles.extend(troubles);
    }

    /// It leads the group by its own account.
    fn leads(&self, group: &GroupReport) -> bool {
        group.leader == Some(self.node)
    }

    /// It takes most voters of a partition for alive. One that does not is cut off, and others may have
    /// elected another leader.
    fn sees_majority(&self, partition: PartitionId) -> bool {
        let replicas = self.report.replicas.range((partition, 0)..=(partition, u64::MAX));
        let voters = replicas.filter(|(_, replica)| replica.role == ReplicaRole::Voter);
        let mut voters: Vec<u64> = voters.map(|((_, voter), _)| *voter).collect();
        if voters.is_empty() {
            voters.extend(self.report.nodes.keys());
        }
        let is_alive = |voter: &&u64| {
            let node = self.report.nodes.get(*voter);
            node.is_some_and(|node| node.health <= NodeHealth::Suspect)
        };
        2 * voters.iter().filter(is_alive).count() > voters.len()
    }
}

impl ClusterReport {
    /// The leader of a partition, if it is known and not dead.
    fn leader_of(&self, partition: PartitionId) -> Option<u64> {
        let leader = self.groups.get(&partition)?.leader?;
        let is_there = |node: &NodeReport| node.health <= NodeHealth::Suspect;
        self.nodes.get(&leader).is_none_or(is_there).then_some(leader)
    }
}

/// Merges several views. The newest term of a group counts, and in it a view that knows the leader.
/// Its replicas are taken from the leader, which alone knows their progress. Nodes are taken from the
/// view of the node that leads most; then from the one that sees most nodes alive: one that is cut off
/// takes the living for dead.
pub fn merge_views(views: &[ClusterView]) -> ClusterReport {
    let mut merged = ClusterReport::default();
    let rank = |group: &GroupReport, teller: u64| {
        (group.term, group.leader == Some(teller), group.leader.is_some(), group.committed_offset)
    };
    let mut tellers: BTreeMap<PartitionId, u64> = BTreeMap::new();
    for view in views {
        merged.troubles.extend(view.report.troubles.iter().cloned());
        for (&partition, &group) in &view.report.groups {
            let known = merged.groups.get(&partition).zip(tellers.get(&partition));
            if known.is_none_or(|(known, &teller)| rank(&group, view.node) > rank(known, teller)) {
                merged.groups.insert(partition, group);
                tellers.insert(partition, view.node);
            }
        }
    }
    let leads = |view: &ClusterView, partition: &PartitionId| {
        merged.groups.get(partition).is_some_and(|group| group.leader == Some(view.node))
            && tellers.get(partition) == Some(&view.node)
    };
    let mut replicas = BTreeMap::new();
    for (&partition, teller) in &tellers {
        let leader = views.iter().find(|view| view.node == *teller && leads(view, &partition));
        for view in views.iter().filter(|view| leader.is_none_or(|leader| leader.node == view.node))
        {
            let its = (partition, 0)..=(partition, u64::MAX);
            for (&key, &replica) in view.report.replicas.range(its) {
                replicas.entry(key).or_insert(replica);
            }
        }
    }
    merged.replicas = replicas;
    let weight = |view: &ClusterView| {
        let leads = merged.groups.values().filter(|group| view.leads(group)).count();
        let alive = view.report.nodes.values().filter(|node| node.health == NodeHealth::Alive);
        (leads, alive.count())
    };
    let mut by_weight: Vec<_> = views.iter().collect();
    by_weight.sort_by_key(|view| std::cmp::Reverse(weight(view)));
    let mut nodes = BTreeMap::new();
    for view in by_weight {
        for (&id, node) in &view.report.nodes {
            nodes.entry(id).or_insert_with(|| node.clone());
        }
    }
    merged.nodes = nodes;
    merged
}

/// Whether the leader of a partition has been asked, and says so itself.
fn is_told(merged: &ClusterReport, views: &[ClusterView], partition: PartitionId) -> bool {
    let group = merged.groups.get(&partition);
    group.and_then(|group| group.leader).is_some_and(|leader| {
        let says_so = |view: &ClusterView| {
            let group = view.report.groups.get(&partition);
            view.node == leader
                && group.is_some_and(|group| view.leads(group))
                && view.sees_majority(partition)
        };
        views.iter().any(says_so)
    })
}

/// Partitions whose leader is alive and is not among `views`.
pub fn unasked_leaders(views: &[ClusterView]) -> Vec<PartitionId> {
    let merged = merge_views(views);
    let is_unasked = |partition: &PartitionId| {
        merged.leader_of(*partition).is_some() && !is_told(&merged, views, *partition)
    };
    merged.groups.keys().copied().filter(is_unasked).collect()
}

/// Most nodes that are asked because a leader is not known otherwise.
const UNASKED_NODES_MAX: usize = 16;
/// Most questions to them.
const UNASKED_ROUTES_MAX: usize = 256;

/// Nodes that have not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unasked {
    /// Their ids and addresses.
    pub nodes: Vec<(u64, String)>,
    /// What to ask of them.
    pub routes: Vec<(PartitionId, Route)>,
}

/// Whom to ask, and what, if a partition has no leader that says so itself.
pub fn unasked_nodes(views: &[ClusterView]) -> Unasked {
    let merged = merge_views(views);
    let partitions = merged.groups.keys().copied();
    let open: Vec<_> = partitions.filter(|one| !is_told(&merged, views, *one)).collect();
    let is_unasked = |node: &&NodeReport| {
        let has_answered = views.iter().any(|view| view.node == node.node);
        !has_answered && !node.client_address.is_empty() && node.health != NodeHealth::Left
    };
    let nodes = merged.nodes.values().filter(is_unasked).take(UNASKED_NODES_MAX);
    let nodes: Vec<_> = nodes.map(|node| (node.node, node.client_address.clone())).collect();
    let to =
        |partition: PartitionId| nodes.iter().map(move |(id, _)| (partition, Route::Node(*id)));
    let routes = open.into_iter().flat_map(to).take(UNASKED_ROUTES_MAX).collect();
    Unasked { nodes, routes }
}

fn view(answer: &[u8]) -> Result<ClusterView, ClientError> {
    Ok(ClusterView::from(open::<ClusterStatusReply>(answer)?))
}

/// Every partition at every one of so many addresses that the caller named: each shard of a node
/// knows its own partitions.
pub fn named_routes(info: &ClusterInfo, addresses: usize) -> Vec<(PartitionId, Route)> {
    let named = |partition| {
        (0..addresses.min(usize::from(u8::MAX))).map(move |at| (partition, Route::Named(at as u8)))
    };
    info.partitions().flat_map(named).collect()
}

/// The cluster as a node knows it.
pub fn view_of(partition: PartitionId, route: Route) -> Result<Plan<ClusterView>, ClientError> {
    let request = call(partition, route, &ClusterStatus::default())?;
    Ok(Plan::new(vec![request], |answers| view(first(&answers)?)))
}

/// What a node says that a person should look at.
pub fn troubles_of(
    partition: PartitionId,
    route: Route,
) -> Result<Plan<Vec<Trouble>>, ClientError> {
    let request = call(partition, route, &ServerStatus::default())?;
    Ok(Plan::new(vec![request], |answers| {
        let report = server_report(first(&answers)?)?;
        let troubles = report.texts.into_iter().filter(|(_, name, _)| name.starts_with(TROUBLE));
        Ok(troubles.map(|(partition, _, text)| Trouble { partition, text }).collect())
    }))
}

/// The id of the caller's node.
pub fn home_node() -> Result<Plan<u64>, ClientError> {
    let request = call(PartitionId(0), Route::Home, &ClusterStatus::default())?;
    Ok(Plan::new(vec![request], |answers| Ok(view(first(&answers)?)?.node)))
}

fn administer<M: Message>(
    partition: PartitionId,
    route: Route,
    message: &M,
) -> Result<Plan<AdminOutcome>, ClientError> {
    Ok(Plan::new(vec![call(partition, route, message)?], |answers| {
        let reply = open::<AdminReply>(first(&answers)?)?;
        Ok(AdminOutcome { state: reply.state(), message: reply.message.to_string() })
    }))
}

/// Asks the partition's leader to hand leadership to `to`, or to the node that it prefers.
pub fn transfer_leadership(
    partition: PartitionId,
    to: Option<u64>,
) -> Result<Plan<AdminOutcome>, ClientError> {
    let to = to.unwrap_or(NO_NODE);
    administer(partition, Route::Leader, &TransferLeadership { to })
}

/// Asks the partition's leader to remove a node's replica from the group.
pub fn remove_node(partition: PartitionId, node: u64) -> Result<Plan<AdminOutcome>, ClientError> {
    administer(partition, Route::Leader, &RemoveNode { node })
}

/// Asks the node at the caller's address to leave the cluster. Refused if its id is not `node`, or if it
/// would cost a partition its majority.
pub fn leave(node: u64) -> Result<Plan<AdminOutcome>, ClientError> {
    administer(PartitionId(0), Route::Home, &Leave { node })
}

/// Asks the partition's leader to take a node into the group.
pub fn admit_node(partition: PartitionId, node: u64) -> Result<Plan<AdminOutcome>, ClientError> {
    administer(partition, Route::Leader, &AdmitNode { node })
}

/// Status of the server, from the shard that serves `partition`.
pub fn server_status(partition: PartitionId) -> Result<Plan<ServerReport>, ClientError> {
    let request = call(partition, Route::Home, &ServerStatus::default())?;
    Ok(Plan::new(vec![request], |answers| server_report(first(&answers)?)))
}

fn server_report(answer: &[u8]) -> Result<ServerReport, ClientError> {
    let reply = open::<ServerStatusReply>(answer)?;
    let about = |number: u16| (number != NO_PARTITION).then_some(PartitionId(number));
    let mut report = ServerReport::default();
    for row in reply.numbers.iter() {
        let partition = about(row.partition.to_native());
        report.numbers.push((partition, row.name.to_string(), row.value.to_native()));
    }
    for row in reply.texts.iter() {
        let partition = about(row.partition.to_native());
        report.texts.push((partition, row.name.to_string(), row.text.to_string()));
    }
    Ok(report)
}
