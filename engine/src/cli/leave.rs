//! `leave`: takes a node out of its cluster for good. Says before what that costs the cluster.

use std::collections::BTreeMap;

use walengine_net::client::ClusterReport;
use walengine_net::message::{NodeHealth, ReplicaRole};
use walengine_net::model::PartitionId;
use walengine_net::say_aside;

use super::asking::Asking;
use super::cluster::{confirm, may_ask, told};
use crate::fatal::{Fatal, Reason};

/// Asks the server at --server to leave its cluster. It hands over its leaderships and replicas,
/// announces that it leaves, and stops. Without another node to take its place, its partitions go on
/// with fewer voters, which is said before; where they would be left without a majority, only --yes
/// makes it leave.
#[derive(Debug, clap::Args)]
pub struct LeaveArguments {
    /// Do not ask for confirmation, and leave even if that costs a majority
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Asks the server at the caller's address to leave.
pub fn run(arguments: &LeaveArguments) -> Result<(), Fatal> {
    let server = &arguments.asking.server;
    if server.contains(',') {
        let message = format!("one node leaves at a time: name it alone, not {server}");
        return Err(Fatal::new(Reason::Usage, message));
    }
    may_ask(arguments.yes)?;
    let client = arguments.asking.connect()?;
    let node = client.home_node()?;
    let costs = costs(&client.cluster_status()?, node);
    for warning in costs.iter().map(|(cost, partitions)| cost.in_words(node, partitions)) {
        say_aside!("warning: {warning}");
    }
    if !arguments.yes && costs.keys().any(Cost::is_a_majority) {
        let message = format!("node {node} stays: see above; if that is meant, add --yes");
        return Err(Fatal::new(Reason::Findings, message));
    }
    let question = format!("node {node} at {server} is to leave its cluster for good");
    confirm(arguments.yes, &question, node)?;
    told(&format!("node {node}"), &client.leave(node)?)
}

/// What a partition loses when a node leaves without another to take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    /// It goes on with so many voters and tolerates fewer failures than before.
    Failures { left: usize },
    /// It has no leader, so that nobody knows who would be left.
    NoLeader,
    /// So many voters are left, of which so many are alive: no majority.
    Majority { left: usize, alive: usize },
    /// Nobody else has its records.
    Everything,
}

impl Cost {
    fn is_a_majority(&self) -> bool {
        !matches!(self, Self::Failures { .. })
    }

    fn in_words(self, node: u64, partitions: &[PartitionId]) -> String {
        let list: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        let list = list.join(", ");
        let partitions = if partitions.len() == 1 { "partition" } else { "partitions" };
        match self {
            Self::Failures { left: 1 } => format!(
                "no other node is there to take its place: {partitions} {list} is left with one \
                 voter, and stops if that fails; start another node first to avoid it"
            ),
            Self::Failures { left } => format!(
                "no other node is there to take its place: {partitions} {list} goes on with {left} \
                 voters, and stops if {} fails; start another node first to avoid it",
                match (left - 1) / 2 {
                    0 => "one of them".to_owned(),
                    more => format!("more than {more} of them"),
                }
            ),
            Self::NoLeader => format!(
                "{partitions} {list} has no leader: whether a majority would be left is not known"
            ),
            Self::Majority { left, alive } => format!(
                "{partitions} {list} would have {left} voters of which {alive} are alive, no \
                 majority: it would take no writes until others are back"
            ),
            Self::Everything => format!(
                "node {node} is the last voter of {partitions} {list}: nobody else has these \
                 records, and nobody would serve them; to stop it for a while, end it with SIGTERM"
            ),
        }
    }
}

/// What it costs each partition if a node leaves. A partition that another node takes over whole is
/// left out.
fn costs(cluster: &ClusterReport, node: u64) -> BTreeMap<Cost, Vec<PartitionId>> {
    let mut costs: BTreeMap<Cost, Vec<PartitionId>> = BTreeMap::new();
    for (&partition, group) in &cluster.groups {
        let replicas = cluster.replicas.range((partition, 0)..=(partition, u64::MAX));
        let replicas: Vec<_> = replicas.map(|((_, of), replica)| (*of, replica.role)).collect();
        let cost = if group.leader.is_none() {
            Some(Cost::NoLeader)
        } else {
            let is_alive = |node| {
                let known = cluster.nodes.get(&node);
                known.is_some_and(|known| known.health == NodeHealth::Alive)
            };
            cost(&replicas, node, is_alive)
        };
        if let Some(cost) = cost {
            costs.entry(cost).or_default().push(partition);
        }
    }
    costs
}

/// The same for one partition with a leader.
fn cost(
    replicas: &[(u64, ReplicaRole)],
    node: u64,
    is_alive: impl Fn(u64) -> bool,
) -> Option<Cost> {
    let voters = replicas.iter().filter(|(_, role)| *role == ReplicaRole::Voter);
    let voters: Vec<u64> = voters.map(|(voter, _)| *voter).collect();
    if !voters.contains(&node) {
        return None;
    }
    let has_spare = replicas
        .iter()
        .any(|(other, role)| *role == ReplicaRole::Learner && *other != node && is_alive(*other));
    let others: Vec<u64> = voters.iter().copied().filter(|voter| *voter != node).collect();
    let alive = others.iter().filter(|voter| is_alive(**voter)).count();
    let (left, before) = (others.len(), voters.len());
    // While it is there the node counts towards the old majority, as a spare does towards the new one.
    let keeps_old = 2 * (alive + 1) > before;
    if has_spare && keeps_old {
        return None;
    }
    match left {
        0 => Some(Cost::Everything),
        _ if !keeps_old || 2 * alive <= left => Some(Cost::Majority { left, alive }),
        _ if (left - 1) / 2 < (before - 1) / 2 || left == 1 => Some(Cost::Failures { left }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u64], learners: &[u64], dead: &[u64], leaves: u64) -> Option<Cost> {
        let voters = voters.iter().map(|node| (*node, ReplicaRole::Voter));
        let learners = learners.iter().map(|node| (*node, ReplicaRole::Learner));
        let replicas: Vec<_> = voters.chain(learners).collect();
        cost(&replicas, leaves, |node| !dead.contains(&node))
    }

    #[test]
    fn what_leaving_costs() {
        let failures = |left| Some(Cost::Failures { left });
        assert_eq!(of(&[1, 2, 3], &[4], &[], 3), None, "another takes its place");
        assert_eq!(of(&[1, 2, 3], &[4], &[], 4), None, "it only learns");
        assert_eq!(of(&[1, 2, 3], &[], &[], 3), failures(2));
        assert_eq!(of(&[1, 2, 3], &[4], &[4], 3), failures(2), "the spare is dead");
        assert_eq!(of(&[1, 2, 3, 4], &[], &[], 3), None, "three tolerate as many failures as four");
        assert_eq!(of(&[1, 2, 3, 4, 5], &[], &[], 3), failures(4));
        assert_eq!(of(&[1, 2], &[], &[], 2), failures(1));
        assert_eq!(of(&[1, 2, 3], &[], &[1], 3), Some(Cost::Majority { left: 2, alive: 1 }));
        assert_eq!(of(&[1, 2], &[], &[1], 2), Some(Cost::Majority { left: 1, alive: 0 }));
        assert_eq!(of(&[1, 2, 3], &[4], &[1, 2], 3), Some(Cost::Majority { left: 2, alive: 0 }));
        assert_eq!(of(&[1], &[], &[], 1), Some(Cost::Everything));
        assert_eq!(of(&[1], &[2], &[2], 1), Some(Cost::Everything));
        assert_eq!(of(&[1], &[2], &[], 1), None);
    }

    #[test]
    fn a_warning_says_what_stops_it() {
        let words = |cost: Cost| cost.in_words(3, &[PartitionId(0), PartitionId(2)]);
        assert!(words(Cost::Failures { left: 2 }).contains("0, 2 goes on with 2 voters"));
        assert!(words(Cost::Failures { left: 2 }).contains("stops if one of them fails"));
        assert!(words(Cost::Failures { left: 4 }).contains("stops if more than 1 of them fails"));
        assert!(words(Cost::Everything).contains("node 3 is the last voter of partitions 0, 2"));
        assert!(!Cost::Failures { left: 2 }.is_a_majority());
        assert!(Cost::NoLeader.is_a_majority() && Cost::Everything.is_a_majority());
    }
}
