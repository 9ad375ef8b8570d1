//! Does a cluster keep what it has acknowledged, and find together again, when disks rot, are lost or set
//! back, when nodes move, and when one is started for something else than what is there?

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use walengine::storage::layout::{BLOCK_BYTES, HardStateSlot};
use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::entry::{EntryHeader, decode_entry};
use walengine_net::message::{AdminReply, AdminState, Leave, LeaveAnyway, ReplicaRole};
use walengine_tests::nodes::view_of;
use walengine_tests::server::{Launch, TestDir, run_command};
use walengine_tests::trio::{
    Ledger, PARTITION, Trio, copy_tree, flip, free_address, verify, wait_for,
};

/// Exit codes.
const DAMAGED: i32 = 6;
const SET_BACK: i32 = 19;

/// The newest slot of a node's hard state.
fn hard_state(data: &Path) -> HardStateSlot {
    let bytes = fs::read(data.join("p0000/hard-state")).unwrap();
    let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
    let slots = blocks.iter().filter_map(|block| HardStateSlot::from_block(block).ok());
    slots.max_by_key(|slot| slot.sequence).unwrap()
}

/// The entries of a node's segments: file, position, header.
fn entries(data: &Path) -> Vec<(PathBuf, u64, EntryHeader)> {
    let mut found = Vec::new();
    for file in fs::read_dir(data.join("p0000/segments")).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(BLOCK_BYTES) {
            if let Ok((header, _)) = decode_entry(&bytes[at..]) {
                found.push((path.clone(), at as u64, header));
            }
        }
    }
    found.sort_by_key(|(_, _, header)| header.meta.index);
    found
}

/// The fault: the last entry of an idle replica had no witness. With one flipped byte it was cut as a
/// torn tail on two nodes, and what it held was gone on all three.
#[test]
fn a_last_entry_that_rots_on_two_idle_nodes_is_told_and_taken_from_the_third() {
    let mut trio = Trio::form("edges-idle", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(20);
    let is_recorded = |node: usize| {
        let last = entries(&trio.data(node)).last().unwrap().2.meta.index;
        let state = hard_state(&trio.data(node)).state;
        (state.commit_index, state.durable_index) == (last, last)
    };
    let all = || (0..3).all(is_recorded);
    wait_for("idle nodes do not record where they are", all, || trio.logs());
    (0..3).for_each(|node| trio.kill(node));
    for node in [0, 2] {
        let (path, at, header) = entries(&trio.data(node)).pop().unwrap();
        flip(&path, at + header.entry_bytes() as u64 - 3);
        let output = verify(&trio.data(node));
        assert_eq!(output.status.code(), Some(DAMAGED), "{output:?}");
    }
    (0..3).for_each(|node| trio.spawn(node, false));
    trio.wait_until_serving();
    for node in [0, 2] {
        assert!(trio.log(node).contains("the log is damaged in "), "{}", trio.log(node));
        assert!(trio.log(node).contains("was taken from node "), "{}", trio.log(node));
    }
    ledger.check(&trio);
    ledger.write(5);
    (0..3).for_each(|node| trio.stop(node));
    for node in 0..3 {
        let output = verify(&trio.data(node));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// The fault: closed segments were never read again, so that rot was found when its last other copy
/// was gone.
#[test]
fn rot_in_what_nobody_reads_is_found_and_mended_from_another_node() {
    let mut trio = Trio::form("edges-rot", &[("--scrub-mib", "1024"), ("--snapshot-mib", "1")]);
    let mut ledger = Ledger::of(&trio);
    ledger.write_large(12, 8000); // more than a segment
    let node = (trio.leader() + 1) % 3;
    trio.stop(node); // with a snapshot: the next start does not read what is before it
    let entries = entries(&trio.data(node));
    let (path, at, header) = &entries[5];
    assert_ne!(path, &entries.last().unwrap().0, "its segment is closed");
    let before = fs::read(path).unwrap();
    flip(path, at + header.entry_bytes() as u64 - 3);
    trio.spawn(node, false);
    trio.wait_until_serving();
    let is_mended = || trio.log(node).contains("the entry was taken from node ");
    wait_for("nobody finds it", is_mended, || trio.logs());
    let index = header.meta.index;
    assert!(trio.log(node).contains(&format!("entry {index}:")), "{}", trio.log(node));
    let after = fs::read(path).unwrap();
    let same = *at as usize + 8..*at as usize + header.entry_bytes();
    let body = same.start + 120..same.end;
    assert_eq!(after[body.clone()], before[body], "the bytes are what they were");
    ledger.check(&trio);
    trio.stop(node);
    let output = verify(&trio.data(node));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A start looks for the last entry of each segment, and mends that before it serves.
    let in_it = entries.iter().filter(|(other, ..)| other == path);
    let (_, at, header) = in_it.max_by_key(|(_, _, header)| header.meta.index).unwrap();
    flip(path, at + 40);
    let output = verify(&trio.data(node));
    assert_eq!(output.status.code(), Some(DAMAGED), "{output:?}");
    trio.spawn(node, false);
    trio.wait_until_serving();
    let told = format!("entry {} was taken from node ", header.meta.index);
    assert!(trio.log(node).contains(&told), "{}", trio.log(node));
    trio.stop(node);
    let output = verify(&trio.data(node));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The fault: a node on an older copy of its directory was counted as if it had what it had acknowledged.
#[test]
fn a_node_on_an_older_copy_of_its_directory_is_refused_and_told_what_to_do() {
    let mut trio = Trio::form("edges-copy", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(10);
    let node = (trio.leader() + 1) % 3;
    trio.stop(node);
    let copy = trio.dir.path().join("copy");
    copy_tree(&trio.data(node), &copy);
    trio.spawn(node, false);
    trio.wait_until_serving();
    ledger.write(20);
    let last = || entries(&trio.data(node)).last().unwrap().2.meta.index;
    let reached = || trio.view(trio.leader()).is_some() && last() >= 30;
    wait_for("it has everything", reached, || trio.logs());
    thread::sleep(Duration::from_secs(2)); // the leader looks once a second
    trio.stop(node);
    fs::remove_dir_all(trio.data(node)).unwrap();
    copy_tree(&copy, &trio.data(node));
    trio.spawn(node, false);
    let told = || trio.log(node).contains("it was set back to an older copy of its data directory");
    wait_for("it is not told", told, || trio.logs());
    assert!(trio.log(node).contains("empty its data directory"), "{}", trio.log(node));
    let others = (0..3).filter(|other| *other != node);
    let refused = others.filter(|other| trio.log(*other).contains("it is refused")).count();
    assert!(refused > 0, "{}", trio.logs());
    let ended = trio.wait(node);
    assert_eq!(ended.code(), Some(SET_BACK), "{}", trio.log(node));
    ledger.write(5);
    // As advised.
    trio.kill(node);
    fs::remove_dir_all(trio.data(node)).unwrap();
    trio.spawn(node, false);
    trio.wait_until_serving();
    ledger.check(&trio);
}

/// The fault: a follower under a tighter limit than its leader took all that it was sent, until the kernel
/// killed it, and again after each start.
#[test]
fn a_follower_whose_memory_ends_is_sent_no_more_and_catches_up_with_more_of_it() {
    let mut trio = Trio::form("edges-memory", &[]);
    let mut ledger = Ledger::of(&trio);
    let node = (trio.leader() + 1) % 3;
    trio.stop(node);
    trio.spawn_with(node, "--memory-mib", "80");
    trio.wait_until_serving();
    let number = |trio: &Trio, at: usize, name: &str| {
        let client = Client::connect(Config::new(trio.clients[at].to_string())).unwrap();
        let numbers = client.server_status(PARTITION).unwrap().numbers;
        numbers.into_iter().find(|(_, found, _)| found == name).unwrap().2
    };
    let mut rounds = 0;
    while !trio.log(node).contains("of memory are left: writes are refused") {
        assert!(rounds < 200, "its memory never ends:\n{}", trio.logs());
        rounds += 1;
        ledger.write_accounts(1, 8190);
    }
    let said = || {
        let leader = trio.clients[trio.leader()].to_string();
        let output = run_command(None, trio.dir.path(), &["cluster", "--server", &leader]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = || said().contains("has nearly used up its memory: it is sent no records");
    wait_for("nobody says so", told, said);
    // Gossip may say so before the leader has heard it from the node itself, which is when it stops.
    let behind =
        |trio: &Trio| number(trio, trio.leader(), "last_index") - number(trio, node, "last_index");
    while behind(&trio) < 5 {
        assert!(rounds < 400, "it is sent all the same:\n{}", trio.logs());
        rounds += 1;
        ledger.write_accounts(1, 8190);
    }
    let before = number(&trio, node, "last_index");
    ledger.write_accounts(60, 8190);
    let behind = behind(&trio);
    // What was on its way still came.
    assert!(behind >= 50, "it is sent more: {behind} behind, {before} before\n{}", trio.logs());
    let still = trio.view(trio.leader()).unwrap();
    let id = trio.view(node).expect("it answers").node;
    assert!(still.members.contains(&(id, ReplicaRole::Voter)), "{still:?}");
    // As advised.
    trio.stop(node);
    trio.spawn(node, false);
    trio.wait_until_serving();
    let has_all =
        || number(&trio, node, "last_index") == number(&trio, trio.leader(), "last_index");
    wait_for("it does not catch up", has_all, || trio.logs());
    ledger.write(3);
}

/// The fault: only the command line asked what leaving costs. A raw request took the last voter out, and
/// nobody had its records.
#[test]
fn a_server_does_not_leave_at_the_cost_of_a_majority_whoever_says_so() {
    let dir = TestDir::new("edges-leave");
    let (client, peer) = (free_address(), free_address());
    let launch = Launch::new(dir.path())
        .set("--listen", &client.to_string())
        .set("--peer-listen", &peer.to_string())
        .set("--expect", "1")
        .set("--partitions", "2");
    let mut server = launch.serve();
    let led = || view_of(client, None).is_some_and(|view| view.leader == view.node);
    wait_for("it does not lead", led, || server.log());
    let node = view_of(client, None).unwrap().node;
    let mut said = String::new();
    let refused = || {
        let reply = server.wire(0).call(&Leave { node }).unwrap();
        let reply = reply.open::<AdminReply<'_>>();
        assert_eq!(reply.state(), AdminState::Refused, "{}", server.log());
        said = reply.message.to_string();
        said.contains("is the last voter of partitions 0, 1")
    };
    wait_for("it does not say why", refused, || server.log());
    let output =
        run_command(None, dir.path(), &["leave", "--server", &client.to_string(), "--yes"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() != Some(0) && told.contains("is the last voter"), "{told}");
    let reply = server.wire(0).call(&LeaveAnyway { node }).unwrap();
    let reply = reply.open::<AdminReply<'_>>();
    assert_eq!(reply.state(), AdminState::Refused, "{}", reply.message);
    assert!(view_of(client, None).is_some_and(|view| view.leader == node), "{}", server.log());
    // The line with the outcome is not waited for by the answer.
    let read_trail = || fs::read_to_string(dir.path().join("data/audit.jsonl")).unwrap();
    let is_told = |line: &str| line.contains("leave_anyway") && line.contains("refused");
    wait_for("its outcome is missing", || read_trail().lines().any(is_told), || server.log());
    server.kill();
    let trail = read_trail();
    let lines = trail.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines: Vec<_> = lines.collect();
    let has = |order: &str, outcome: &str| {
        let is_one =
            |line: &&serde_json::Value| line["order"] == order && line["outcome"] == outcome;
        let line =
            lines.iter().find(is_one).unwrap_or_else(|| panic!("{order} {outcome}:\n{trail}"));
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert_eq!(line["arguments"]["node"], node);
    };
    for (order, outcome) in [
        ("leave", "ordered"),
        ("leave", "refused"),
        ("leave_anyway", "ordered"),
        ("leave_anyway", "refused"),
    ] {
        has(order, outcome);
    }
    let output = run_command(None, dir.path(), &["verify", "data"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The fault: a node was shown at its new address and dialled at the old one.
#[test]
fn nodes_that_move_are_dialled_where_they_are() {
    let mut trio = Trio::form("edges-move", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(10);
    // One moves; the others know the old address.
    let node = (trio.leader() + 1) % 3;
    trio.stop(node);
    let old = trio.peers[node];
    (trio.peers[node], trio.clients[node]) = (free_address(), free_address());
    trio.spawn(node, false);
    trio.wait_until_serving();
    ledger.write(10);
    let (id, new) = (trio.view(node).unwrap().node, trio.peers[node].to_string());
    let catches_up = || {
        let leader = trio.leader();
        let view = trio.view(leader).unwrap();
        let is_there = view.nodes.iter().any(|(other, _, at)| (*other, at) == (id, &new));
        let last = |at: usize| entries(&trio.data(at)).last().unwrap().2.meta.index;
        is_there && last(node) == last(leader)
    };
    wait_for("it lags", catches_up, || trio.logs());
    let recorded = || (0..3).any(|at| trio.log(at).contains(&format!("node {id} is at {new} now")));
    wait_for("the group does not take note", recorded, || trio.logs());
    assert_ne!(new, old.to_string());
    // All move.
    (0..3).for_each(|node| trio.stop(node));
    for node in 0..3 {
        (trio.peers[node], trio.clients[node]) = (free_address(), free_address());
    }
    (0..3).for_each(|node| trio.spawn(node, false));
    trio.wait_until_serving();
    ledger.check(&trio);
    ledger.write(10);
}

/// The fault: a disk that was lost and came back empty waited for `--dead-after`, with two voters left.
#[test]
fn a_lost_disk_at_the_same_address_takes_its_dead_voters_place_at_once() {
    let mut trio = Trio::form("edges-lost", &[]);
    let mut ledger = Ledger::of(&trio);
    ledger.write(10);
    let node = (trio.leader() + 1) % 3;
    let old = trio.view(node).unwrap().node;
    trio.kill(node);
    fs::remove_dir_all(trio.data(node)).unwrap();
    // With the same flags as before it is told how to come back.
    trio.spawn(node, true);
    let told = || trio.log(node).contains("also after a lost disk, start without --expect");
    wait_for("it is not told how to come back", told, || trio.logs());
    trio.stop(node);
    assert!(!trio.data(node).join("superblock").exists(), "{}", trio.log(node));
    trio.spawn(node, false);
    trio.wait_until_serving();
    let new = trio.view(node).unwrap().node;
    let replaced = || {
        let members = trio.view(trio.leader()).unwrap().members;
        members.contains(&(new, ReplicaRole::Voter)) && members.iter().all(|(id, _)| *id != old)
    };
    wait_for("the lost disk keeps its vote", replaced, || trio.logs());
    ledger.check(&trio);
}

/// Nodes with different keys do not hear each other; each said nothing of it.
#[test]
fn different_keys_are_named_on_both_sides() {
    let dir = TestDir::new("edges-keys");
    let (one, other) = (free_address(), free_address());
    let start = |name: &str, own: SocketAddr, seed: SocketAddr, byte: u8| {
        let home = dir.path().join(name);
        fs::create_dir_all(&home).unwrap();
        let key = home.join("key");
        fs::write(&key, [byte; 32]).unwrap();
        std::process::Command::new("chmod").args(["600", key.to_str().unwrap()]).status().unwrap();
        Launch::new(&home)
            .set("--listen", &free_address().to_string())
            .set("--peer-listen", &own.to_string())
            .set("--join", &seed.to_string())
            .set("--expect", "2")
            .set("--key-file", key.to_str().unwrap())
            .spawn()
    };
    let elsewhere = free_address();
    // Only one names the other.
    let (first, second) = (start("one", one, elsewhere, 1), start("other", other, one, 2));
    let told = |log: &str, at: SocketAddr| {
        log.contains(&format!("{at} speaks to this node with another key"))
    };
    let both = || told(&first.log(), other) && told(&second.log(), one);
    wait_for("the keys are not named", both, || first.log() + &second.log());
    // A key that both have ends it, while they run: here in another form, and in the second place.
    let line = |byte: u8| format!("{byte:02x}").repeat(32) + "\n";
    fs::write(dir.path().join("one/key"), line(1) + &line(2)).unwrap();
    fs::write(dir.path().join("other/key"), line(2) + &line(1)).unwrap();
    let forms = |log: String| log.contains("forms cluster");
    let formed = || forms(first.log()) && forms(second.log());
    wait_for("they do not hear each other", formed, || first.log() + &second.log());
}
