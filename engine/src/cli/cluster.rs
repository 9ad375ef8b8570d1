//! `cluster`: nodes and leaders, and how to change them.

use std::io::{self, BufRead, IsTerminal};

use walengine_net::cli;
use walengine_net::client::blocking::Client;
use walengine_net::client::{AdminOutcome, ClusterReport, NodeReport, Trouble};
use walengine_net::message::{AdminState, NodeHealth, ReplicaRole};
use walengine_net::model::PartitionId;
use walengine_net::say;

use super::asking::Asking;
use super::output::{Format, Output, write_table};
use super::sizes::{bytes, duration};
use crate::fatal::{Fatal, Reason};

/// One set of columns for nodes, partitions and replicas. Columns that do not apply are empty.
const COLUMNS: &[(&str, usize)] = &[
    ("row", 9),
    ("node", 6),
    ("partition", 9),
    ("health", 7),
    ("heard_seconds", 13),
    ("cores", 5),
    ("free_bytes", 14),
    ("version", 8),
    ("client_address", 21),
    ("peer_address", 21),
    ("leader", 6),
    ("term", 6),
    ("committed_offset", 16),
    ("is_changing", 11),
    ("role", 7),
    ("lag_entries", 11),
    ("trouble", 0),
];
const NODE_HEADING: [&str; 10] =
    ["node", "health", "for", "leads", "lag", "cores", "free", "version", "clients", "peers"];
const PARTITION_HEADING: [&str; 5] = ["partition", "leader", "term", "committed", "replicas"];

/// Nodes with their health, and partitions with their leaders.
///
/// Lag is in log entries; an entry is a batch. Only a partition's leader knows it, so without a
/// leader it is missing. The exit code is 1 if a partition has no leader.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  walengine cluster\n  \
    walengine cluster transfer --partition 0 --to 2\n  walengine cluster remove 3")]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Move the leadership of a partition to another node
    Transfer(TransferArguments),
    /// Remove a node that will not return from all partitions
    Remove(RemoveArguments),
    /// Take a node into all partitions where nothing else proves that it belongs to the cluster
    Admit(AdmitArguments),
}

/// The partition is served without a gap. The node named with --to leads from then on, whenever it
/// can: after an outage, leadership returns to it. Without --to that ends, and the partition is led by
/// the node that it prefers by its number.
#[derive(Debug, clap::Args)]
struct TransferArguments {
    /// Partition whose leadership moves
    #[arg(long, value_name = "N")]
    partition: u16,

    /// Id of the new leader [default: the one that the partition prefers]
    #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,

    #[command(flatten)]
    asking: Asking,
}

/// Its replicas no longer count and its data is not used again. The same machine can return as a
/// new node with an empty directory. A partition refuses if no majority would remain.
#[derive(Debug, clap::Args)]
struct RemoveArguments {
    /// Id of the node
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,

    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Where gossip has no key, nobody can tell a new node from a stranger: one that is not on this machine
/// waits until an operator says that it belongs to the cluster. It learns then, and votes when its vote is
/// needed.
#[derive(Debug, clap::Args)]
struct AdmitArguments {
    /// Id of the node, as `walengine cluster` shows it
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,

    #[command(flatten)]
    asking: Asking,
}

/// Prints the cluster, or changes it.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    match &arguments.action {
        None => show(&arguments.asking),
        Some(Action::Transfer(arguments)) => transfer(arguments),
        Some(Action::Remove(arguments)) => remove(arguments),
        Some(Action::Admit(arguments)) => admit(arguments),
    }
}

fn show(asking: &Asking) -> Result<(), Fatal> {
    let client = asking.connect()?;
    let cluster = client.cluster_status()?;
    if asking.format == Format::Text {
        let id = client.info().cluster.0;
        say!("cluster {id:032x}");
        say!("");
        write_table(&NODE_HEADING, &node_table(&cluster))?;
        say!("");
        write_table(&PARTITION_HEADING, &partition_table(&cluster))?;
        if !cluster.troubles.is_empty() {
            say!("");
            write_table(&["trouble"], &trouble_table(&cluster))?;
        }
    } else {
        let mut output = Output::new(asking.format, COLUMNS)?;
        for row in flat_rows(&cluster) {
            output.row(&row)?;
        }
        output.flush()?;
    }
    let led = |partition: &PartitionId| {
        cluster.groups.get(partition).is_some_and(|group| group.leader.is_some())
    };
    let idle: Vec<String> = client
        .info()
        .partitions()
        .filter(|partition| !led(partition))
        .map(|partition| partition.to_string())
        .collect();
    if idle.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no leader is known of partition {}: writes there wait until a majority of its voters is \
         alive",
        idle.join(", ")
    );
    Err(Fatal::new(Reason::Findings, message))
}

fn node_table(cluster: &ClusterReport) -> Vec<Vec<String>> {
    let row = |node: &NodeReport| {
        let leads = cluster.groups.values().filter(|group| group.leader == Some(node.node));
        let lag = cluster.replicas.iter().filter(|((_, of), _)| *of == node.node);
        let lag = lag.map(|(_, replica)| replica.lag_entries).max();
        vec![
            node.node.to_string(),
            node.health.name().to_owned(),
            duration(node.heard_seconds),
            leads.count().to_string(),
            lag.map_or("-".to_owned(), |lag| lag.to_string()),
            node.cores.to_string(),
            bytes(node.free_bytes),
            node.version.clone(),
            shown(&node.client_address),
            shown(&node.peer_address),
        ]
    };
    cluster.nodes.values().map(row).collect()
}

fn partition_table(cluster: &ClusterReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (&partition, group) in &cluster.groups {
        let mut replicas = Vec::new();
        for ((_, node), replica) in cluster.replicas.range((partition, 0)..=(partition, u64::MAX)) {
            let mut text = node.to_string();
            if replica.role == ReplicaRole::Learner {
                text.push_str(" learner");
            }
            if replica.lag_entries > 0 {
                text = format!("{text} (-{})", replica.lag_entries);
            }
            replicas.push(text);
        }
        let mut replicas = replicas.join(", ");
        if group.is_changing {
            replicas.push_str(", changing");
        }
        rows.push(vec![
            partition.to_string(),
            group.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            group.term.to_string(),
            group.committed_offset.to_string(),
            replicas,
        ]);
    }
    rows
}

fn trouble_table(cluster: &ClusterReport) -> Vec<Vec<String>> {
    let row = |trouble: &Trouble| match trouble.partition {
        Some(partition) => vec![format!("partition {partition}: {}", trouble.text)],
        None => vec![trouble.text.clone()],
    };
    cluster.troubles.iter().map(row).collect()
}

/// Nodes, partitions and replicas, one JSON object a line.
pub(super) fn flat_json(cluster: &ClusterReport) -> String {
    let line = |row: Vec<String>| {
        let cells = COLUMNS.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        let object = cells.map(|((name, _), cell)| ((*name).to_owned(), cell.into()));
        format!("{}\n", serde_json::Value::Object(object.collect()))
    };
    flat_rows(cluster).into_iter().map(line).collect()
}

fn flat_rows(cluster: &ClusterReport) -> Vec<Vec<String>> {
    let row = |values: &[(&str, String)]| -> Vec<String> {
        let value = |column: &str| values.iter().find(|(name, _)| *name == column);
        COLUMNS
            .iter()
            .map(|(name, _)| value(name).map_or(String::new(), |one| one.1.clone()))
            .collect()
    };
    let mut rows = Vec::new();
    for node in cluster.nodes.values() {
        rows.push(row(&[
            ("row", "node".to_owned()),
            ("node", node.node.to_string()),
            ("health", node.health.name().to_owned()),
            ("heard_seconds", node.heard_seconds.to_string()),
            ("cores", node.cores.to_string()),
            ("free_bytes", node.free_bytes.to_string()),
            ("version", node.version.clone()),
            ("client_address", node.client_address.clone()),
            ("peer_address", node.peer_address.clone()),
        ]));
    }
    for (partition, group) in &cluster.groups {
        rows.push(row(&[
            ("row", "partition".to_owned()),
            ("partition", partition.to_string()),
            ("leader", group.leader.map_or(String::new(), |leader| leader.to_string())),
            ("term", group.term.to_string()),
            ("committed_offset", group.committed_offset.to_string()),
            ("is_changing", u8::from(group.is_changing).to_string()),
        ]));
    }
    for ((partition, node), replica) in &cluster.replicas {
        rows.push(row(&[
            ("row", "replica".to_owned()),
            ("node", node.to_string()),
            ("partition", partition.to_string()),
            ("role", replica.role.name().to_owned()),
            ("lag_entries", replica.lag_entries.to_string()),
        ]));
    }
    for trouble in &cluster.troubles {
        let partition = trouble.partition.map(|partition| partition.to_string());
        rows.push(row(&[
            ("row", "trouble".to_owned()),
            ("partition", partition.unwrap_or_default()),
            ("trouble", trouble.text.clone()),
        ]));
    }
    rows
}

fn transfer(arguments: &TransferArguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let partition = PartitionId(arguments.partition);
    let partitions = client.info().partitions;
    if partition.0 >= partitions {
        let message = format!("there is no partition {partition}: the cluster has {partitions}");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let outcome = client.transfer_leadership(partition, arguments.to)?;
    told(&format!("partition {partition}"), &outcome)
}

/// Asks every partition, even if one refuses.
fn admit(arguments: &AdmitArguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect()?;
    let mut failed = Ok(());
    for partition in client.info().partitions() {
        let outcome = client.admit_node(partition, arguments.node).map_err(Fatal::from);
        let outcome = outcome.and_then(|outcome| told(&format!("partition {partition}"), &outcome));
        failed = failed.and(outcome);
    }
    failed
}

fn remove(arguments: &RemoveArguments) -> Result<(), Fatal> {
    let node = arguments.node;
    may_ask(arguments.yes)?;
    let client = arguments.asking.connect()?;
    let cluster = client.cluster_status()?;
    let of_node = cluster.replicas.keys().filter(|(_, of)| *of == node);
    let partitions: Vec<PartitionId> = of_node.map(|(partition, _)| *partition).collect();
    let (leaderless, partitions): (Vec<_>, Vec<_>) = {
        // Only a leader knows all members: of a partition without one nothing is known.
        let has_leader = |partition: &PartitionId| {
            cluster.groups.get(partition).is_some_and(|group| group.leader.is_some())
        };
        let leaderless = client.info().partitions().filter(|one| !has_leader(one));
        (leaderless.collect(), partitions.into_iter().filter(has_leader).collect())
    };
    let known = cluster.nodes.get(&node);
    if known.is_none() && partitions.is_empty() && leaderless.is_empty() {
        let message = format!("there is no node {node}: `walengine cluster` shows who is there");
        return Err(Fatal::new(Reason::Findings, message));
    }
    if partitions.is_empty() {
        without_leader(node, &leaderless)?;
        say!("node {node}: it is in no partition: there is nothing to do");
        return Ok(());
    }
    let state = known.map_or("not known to the others".to_owned(), |known| {
        let is_alive = known.health <= NodeHealth::Suspect;
        let advice = if is_alive { "; it should rather `walengine leave`" } else { "" };
        format!("{} for {}{advice}", known.health.name(), duration(known.heard_seconds))
    });
    let question = format!(
        "node {node} is {state}. It is to be removed from {} partitions; its data will not be \
         used again",
        partitions.len()
    );
    confirm(arguments.yes, &question, node)?;
    remove_from(&client, node, &partitions).and(without_leader(node, &leaderless))
}

/// Fails if a partition has no leader: nobody can remove a node from it.
fn without_leader(node: u64, leaderless: &[PartitionId]) -> Result<(), Fatal> {
    if leaderless.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = leaderless.iter().map(ToString::to_string).collect();
    let message = format!(
        "partition {} has no leader, so node {node} can't be removed from it and nothing was changed \
         there: bring back a majority of its voters first; `walengine cluster` shows who is there",
        list.join(", ")
    );
    Err(Fatal::new(Reason::Findings, message))
}

/// Asks one partition after the other, even if one refuses.
fn remove_from(client: &Client, node: u64, from: &[PartitionId]) -> Result<(), Fatal> {
    let mut failed = Ok(());
    for &partition in from {
        let outcome = client.remove_node(partition, node).map_err(Fatal::from);
        let outcome = outcome.and_then(|outcome| told(&format!("partition {partition}"), &outcome));
        failed = failed.and(outcome);
    }
    failed
}

/// Prints the result of a request. A refusal is an error.
pub(super) fn told(what: &str, outcome: &AdminOutcome) -> Result<(), Fatal> {
    let state = match outcome.state {
        AdminState::Done => "done",
        AdminState::Started => "under way, see `walengine cluster`",
        AdminState::Unchanged => "was so already",
        AdminState::Refused => {
            let message = format!("{what}: refused, nothing was changed: {}", outcome.message);
            return Err(Fatal::new(Reason::Findings, message));
        }
    };
    match outcome.message.as_str() {
        "" => say!("{what}: {state}"),
        message => say!("{what}: {state} ({message})"),
    }
    Ok(())
}

/// Fails, before a server is asked, if there is no terminal to confirm on.
pub(super) fn may_ask(yes: bool) -> Result<(), Fatal> {
    if yes || io::stdin().is_terminal() {
        return Ok(());
    }
    let message = "this asks before it does harm, and there is no terminal to ask on: add --yes";
    Err(Fatal::new(Reason::Usage, message))
}

pub(super) fn confirm(yes: bool, question: &str, node: u64) -> Result<(), Fatal> {
    if yes {
        return Ok(());
    }
    cli::ask(&format!("{question}.\nType the node's id to go on: "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && is_confirmed(&answer, node) {
        return Ok(());
    }
    let message = format!("that is not {node}; nothing was changed");
    Err(Fatal::new(Reason::Interrupted, message))
}

fn is_confirmed(answer: &str, node: u64) -> bool {
    answer.trim() == node.to_string()
}

fn shown(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_id_confirms() {
        assert!(is_confirmed("3\n", 3) && is_confirmed(" 3 ", 3));
        for answer in ["", "\n", "y\n", "yes\n", "33\n", "03\n", "2\n"] {
            assert!(!is_confirmed(answer, 3), "{answer:?}");
        }
    }
}
