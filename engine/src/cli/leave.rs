//! `leave`: takes a node out of its cluster for good. Says before what that costs the cluster.

use std::collections::BTreeMap;

use walengine_net::client::ClusterReport;
use walengine_net::message::NodeHealth;
use walengine_net::model::PartitionId;
use walengine_net::say_aside;

use super::asking::Asking;
use super::cluster::{confirm, may_ask, told};
use crate::fatal::{Fatal, Reason};
use crate::leave_cost::{self, Cost};

/// Ask a server to leave its cluster
///
/// Asks the server at --server to leave its cluster. It hands over its leaderships and replicas,
/// announces that it leaves, and stops. Without another node to take its place, its partitions go on
/// with fewer voters, which is said before; where they would be left without a majority, it stays.
#[derive(Debug, clap::Args)]
pub struct LeaveArguments {
    /// Do not ask for confirmation
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
    if costs.keys().any(Cost::is_a_majority) {
        let message = format!(
            "node {node} stays: see above; bring nodes back or start others first, or end it for a \
             while with SIGTERM"
        );
        return Err(Fatal::new(Reason::Findings, message));
    }
    let question = format!("node {node} at {server} is to leave its cluster for good");
    confirm(arguments.yes, &question, node)?;
    told(&format!("node {node}"), &client.leave(node)?)
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
            leave_cost::cost(&replicas, node, is_alive)
        };
        if let Some(cost) = cost {
            costs.entry(cost).or_default().push(partition);
        }
    }
    costs
}
