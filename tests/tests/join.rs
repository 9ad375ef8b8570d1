//! Does a node that joins a cluster get the whole log, and can it take a dead voter's place?

use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::message::ReplicaRole;
use walengine_net::model::{Offset, PartitionId};
use walengine_tests::nodes::Nodes;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{run_command, text};

use crate::replicas::{log_of, logs_are_equal};

const PATIENCE: Duration = Duration::from_mins(1);
/// Batches that are there before the fourth node.
const BATCHES: usize = 400;
/// The place of the node that joins.
const NEW: usize = 3;

/// Waits until the leader's view satisfies `wanted`.
fn wait_until(nodes: &Nodes, what: &str, wanted: impl Fn(&[(u64, ReplicaRole)]) -> bool) {
    let by = Instant::now() + PATIENCE;
    while !nodes.view(nodes.leader()).is_some_and(|view| wanted(&view.members)) {
        assert!(Instant::now() < by, "{what}:\n{}", nodes.logs());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_node_copies_the_log_and_takes_a_dead_voters_place() {
    let mut nodes = Nodes::prepare("join", 3, 1, |launch, _| launch.set("--dead-after", "2"));
    nodes.form(3);
    let config = Config { deadline: PATIENCE, ..Config::new(nodes.addresses()) };
    let client = Client::connect(config).unwrap();
    let accounts = accounts_of(PartitionId(0), 1);
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let mut writer = Writer::new(7, &accounts);
    let mut write = |batches: usize| {
        let mut end = Offset(0);
        for _ in 0..batches {
            let submitted = client.submit(PartitionId(0), &writer.batch()).unwrap();
            let newest = submitted.outcomes().filter_map(|outcome| outcome.offset).max();
            end = end.max(newest.expect("everything is well-formed").plus(1));
        }
        end
    };
    let before = write(BATCHES);

    nodes.spawn(NEW);
    nodes.server(NEW).wait_until_serving();
    assert!(nodes.log(NEW).contains("partition 0: copied "), "{}", nodes.log(NEW));
    let new = nodes.view(NEW).unwrap().node;
    // Nothing proves that it belongs to the cluster: it waits for an operator's word.
    let (servers, id) = (nodes.addresses(), new.to_string());
    let ask = |what: &[&str]| {
        let arguments = [what, &["--server", &servers]].concat();
        text(&run_command(None, &nodes.dir(), &arguments))
    };
    let by = Instant::now() + PATIENCE;
    while !ask(&["cluster"]).contains(&format!("walengine cluster admit {id}")) {
        assert!(Instant::now() < by, "nobody says that it waits:\n{}", nodes.logs());
    }
    let members = nodes.view(nodes.leader()).unwrap().members;
    assert!(members.iter().all(|(node, _)| *node != new), "nobody has admitted it: {members:?}");
    let said = ask(&["cluster", "admit", &id]);
    assert!(said.contains("partition 0: done"), "{said}");
    wait_until(&nodes, "it never learns", |members| members.contains(&(new, ReplicaRole::Learner)));
    let logs: Vec<_> = (0..=NEW).map(|node| log_of(&nodes, node, before)).collect();
    // A batch of nothing but repeats makes no entry.
    assert!(logs_are_equal(&logs) > BATCHES / 2);

    let victim = (nodes.leader() + 1) % 3;
    let dead = nodes.view(victim).unwrap().node;
    nodes.kill(victim);
    wait_until(&nodes, "it never takes the dead node's place", |members| {
        members.contains(&(new, ReplicaRole::Voter)) && members.iter().all(|(id, _)| *id != dead)
    });
    // One of the first three is left: without the new node's vote nothing is committed.
    let other = (0..3).find(|node| *node != victim && *node != nodes.leader()).unwrap();
    nodes.kill(other);
    let end = write(20);
    let leader = nodes.leader();
    let left: Vec<_> = (0..=NEW).filter(|node| nodes.runs(*node)).collect();
    assert_eq!(left.len(), 2, "the leader, {leader}, and the new one");
    let logs: Vec<_> = left.iter().map(|node| log_of(&nodes, *node, end)).collect();
    assert!(logs_are_equal(&logs) > BATCHES / 2);

    // It leaves: there are two voters, so nothing is lost, and it says goodbye.
    let address = nodes.address(NEW).to_string();
    nodes.spawn(other);
    nodes.server(other).wait_until_serving();
    let left = run_command(None, &nodes.dir(), &["leave", "--yes", "--server", &address]);
    assert_eq!(left.status.code(), Some(0), "{left:?}\n{}", nodes.log(NEW));
    assert!(nodes.server(NEW).wait().success(), "{}", nodes.log(NEW));
    let gone = (0..3).find(|node| nodes.runs(*node)).unwrap();
    let by = Instant::now() + PATIENCE;
    while nodes.view(gone).is_none_or(|view| view.members.iter().any(|(id, _)| *id == new)) {
        assert!(Instant::now() < by, "it is still a member:\n{}", nodes.logs());
        thread::sleep(Duration::from_millis(50));
    }
    write(20);
    let data = nodes.dir().join(format!("node{NEW}/data"));
    let output = run_command(None, &nodes.dir(), &["verify", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
