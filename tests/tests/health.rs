//! Is a node's trouble noticed by the right ones, told, and led around?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::message::ReplicaRole;
use walengine_net::model::PartitionId;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::nodes::{Nodes, PEER_PORT};
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{run_command, text};

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The place of a node that joins.
const SPARE: usize = 3;

fn wait_until(nodes: &Nodes, what: &str, mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "{what}:\n{}", nodes.logs());
        thread::sleep(LOOK_EVERY);
    }
}

/// Runs a command on the servers at these addresses.
fn command(nodes: &Nodes, servers: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [arguments, &["--server", servers, "--timeout", "30"]].concat();
    let output = run_command(None, &nodes.dir(), &arguments);
    (output.status.code(), text(&output))
}

/// What `cluster` prints, asked at all nodes.
fn cluster(nodes: &Nodes) -> String {
    command(nodes, &nodes.addresses(), &["cluster"]).1
}

/// Has a node lead until told otherwise.
fn choose(nodes: &Nodes, node: usize) -> (Option<i32>, String) {
    let id = nodes.view(node).expect("it runs").node.to_string();
    command(nodes, &nodes.addresses(), &["cluster", "transfer", "--partition", "0", "--to", &id])
}

fn votes(nodes: &Nodes, id: u64) -> bool {
    let view = nodes.view(nodes.leader());
    view.is_some_and(|view| view.members.contains(&(id, ReplicaRole::Voter)))
}

/// The faults: with only UDP shut a healthy voter was replaced. With only TCP shut a dead one never
/// was, and leadership went back to it every second. What an operator had moved went back, too.
#[test]
fn who_answers_consensus_stays_who_does_not_is_replaced_and_leadership_stays_where_it_was_put() {
    // The key takes the spare in without an operator's word.
    let key = std::env::temp_dir().join(format!("walengine-health-{}", std::process::id()));
    std::fs::write(&key, [0x5a; 32]).unwrap();
    let mut nodes = Nodes::prepare("health-contact", 3, 1, |launch, _| {
        launch.set("--dead-after", "12").set("--key-file", key.to_str().unwrap())
    });
    nodes.form(3);
    nodes.spawn(SPARE);
    nodes.server(SPARE).wait_until_serving();
    let spare = nodes.view(SPARE).unwrap().node;
    wait_until(&nodes, "it never learns", || {
        let view = nodes.view(nodes.leader());
        view.is_some_and(|view| view.members.contains(&(spare, ReplicaRole::Learner)))
    });
    // Partition 0 prefers the voter with the lowest id: another is chosen.
    let ids: Vec<u64> = (0..3).map(|node| nodes.view(node).unwrap().node).collect();
    let chosen = (0..3).max_by_key(|node| ids[*node]).unwrap();
    let (code, said) = choose(&nodes, chosen);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(nodes.leader(), chosen);

    let followers: Vec<usize> = (0..3).filter(|node| *node != chosen).collect();
    let deaf_to_gossip = followers[0];
    nodes.network().shut(deaf_to_gossip, "udp", PEER_PORT);
    let told = format!("node {} answers over TCP and not over UDP", ids[deaf_to_gossip]);
    wait_until(&nodes, "nobody says that UDP is shut", || cluster(&nodes).contains(&told));
    assert!(nodes.log(chosen).contains(&told), "{}", nodes.log(chosen));
    // Longer than --dead-after: gossip has it for dead, and consensus knows better.
    thread::sleep(Duration::from_secs(8));
    assert!(votes(&nodes, ids[deaf_to_gossip]), "a healthy voter was replaced:\n{}", nodes.logs());
    assert_eq!(nodes.leader(), chosen, "what an operator moved went back:\n{}", nodes.logs());
    nodes.network().open(deaf_to_gossip);
    wait_until(&nodes, "it is not over", || !cluster(&nodes).contains(&told));

    nodes.network().shut(chosen, "tcp", PEER_PORT);
    let heir = nodes.leader_but(Some(chosen));
    let told = format!("node {} answers over UDP and not over TCP", ids[chosen]);
    let term = nodes.view(heir).unwrap().term;
    wait_until(&nodes, "nobody says that TCP is shut", || nodes.log(heir).contains(&told));
    wait_until(&nodes, "a dead voter is never replaced", || !votes(&nodes, ids[chosen]));
    let view = nodes.view(heir).unwrap();
    assert_eq!((view.leader, view.term), (ids[heir], term), "leadership moved:\n{}", nodes.logs());
    nodes.network().open(chosen);
    let told = format!("node {} is back, and no member any more", ids[chosen]);
    wait_until(&nodes, "nobody says that it is back", || cluster(&nodes).contains(&told));
    let told = format!("node {} is no member any more", ids[chosen]);
    wait_until(&nodes, "it does not say so itself", || nodes.log(chosen).contains(&told));
    std::fs::remove_file(&key).unwrap();
}

/// Writes until it is told to stop. Returns the errors.
fn write_on(nodes: &Nodes, ends: &AtomicBool, written: &AtomicU64) -> Vec<String> {
    let config = Config { deadline: PATIENCE, ..Config::new(nodes.addresses()) };
    let client = Client::connect(config).unwrap();
    let accounts = accounts_of(PartitionId(0), 1);
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let mut writer = Writer::new(11, &accounts);
    let mut failed = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        match client.submit(PartitionId(0), &[writer.transfer().to_bytes()]) {
            Ok(_) => {
                written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => failed.push(error.to_string()),
        }
        thread::sleep(Duration::from_millis(2));
    }
    failed
}

/// The faults: a leader whose disk was full refused writes while its followers had room; a transfer to
/// it was undone within a second. A disk that hung was not told, and its leader went on leading.
#[test]
fn a_leader_whose_disk_is_full_or_stuck_gives_way_and_no_write_is_refused() {
    const FULL: usize = 1;
    const STUCK: usize = 2;
    let mut nodes = Nodes::prepare("health-disk", 3, 0, |launch, _| launch);
    let disks = [FULL, STUCK].map(|node| {
        let disk = LoopDisk::new(&nodes.dir().join(format!("node{node}")), 256);
        nodes.set_data(node, &disk.path().join("data"));
        disk
    });
    nodes.form(3);
    let (ends, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let moves_on = |nodes: &Nodes, what: &str| {
        let before = written.load(Ordering::Relaxed);
        wait_until(nodes, what, || written.load(Ordering::Relaxed) > before + 20);
    };
    let nodes_of = &nodes;
    let failed = thread::scope(|scope| {
        let writing = scope.spawn(|| write_on(nodes_of, &ends, &written));
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(choose(nodes_of, FULL).0, Some(0), "{}", nodes_of.logs());
            moves_on(nodes_of, "nothing is written");
            disks[0].fill(4 << 20);
            nodes_of.leader_but(Some(FULL));
            moves_on(nodes_of, "nothing is written beside a full disk");
            let (code, said) = choose(nodes_of, FULL);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("is full") && said.contains("nothing was changed"), "{said}");
            assert!(cluster(nodes_of).contains("is full"), "{}", cluster(nodes_of));
            disks[0].make_room();

            assert_eq!(choose(nodes_of, STUCK).0, Some(0), "{}", nodes_of.logs());
            moves_on(nodes_of, "nothing is written");
            disks[1].hang();
            nodes_of.leader_but(Some(STUCK));
            moves_on(nodes_of, "nothing is written beside a stuck disk");
            assert!(nodes_of.log(STUCK).contains("disk stuck"), "{}", nodes_of.log(STUCK));
            assert!(cluster(nodes_of).contains("is stuck"), "{}", cluster(nodes_of));
            disks[1].move_again();
            wait_until(nodes_of, "it does not go on", || {
                nodes_of.log(STUCK).contains("the disk moves again")
            });
        }));
        ends.store(true, Ordering::Relaxed);
        let _ = disks[1].try_to_move_again(); // or the servers could not be killed
        let failed = writing.join().unwrap();
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
        failed
    });
    assert!(failed.is_empty(), "{failed:?}\n{}", nodes.logs());
    drop(nodes); // its servers, before their disks
}

/// The faults: `cluster` asked at a leader that was cut off showed it as leader and the living as dead;
/// a look-up from a lagging follower said that a transfer had never been decided; `leave` said nothing
/// of what it cost; `cluster remove` without a leader ended with 0.
#[test]
fn what_commands_say_is_so_in_the_whole_cluster() {
    let mut nodes = Nodes::start("health-views", 3, |launch| launch);
    let address = |node: usize| nodes.address(node).to_string();
    let ids: Vec<u64> = (0..3).map(|node| nodes.view(node).unwrap().node).collect();

    // A follower hears nothing, and does not know what is written meanwhile.
    let leader = nodes.leader();
    let lags = (leader + 1) % 3;
    nodes.deafen(lags);
    let rows = "id,debit_account,credit_account,amount,ledger,code\nt1,alice,bob,5,1,1\n";
    std::fs::write(nodes.dir().join("rows.csv"), rows).unwrap();
    let import = ["import", "rows.csv", "--create-accounts"];
    let (code, said) = command(&nodes, &address(leader), &import);
    assert_eq!(code, Some(0), "{said}");
    for _ in 0..4 {
        let servers = [address(lags), address(leader)].join(",");
        for (arguments, rows) in [
            (&["transfer", "t1"][..], 1),
            (&["account", "alice"], 1),
            (&["log"], 5),
            (&["accounts"], 2),
        ] {
            let (code, said) = command(&nodes, &servers, arguments);
            // The heading comes first.
            assert_eq!((code, said.lines().count()), (Some(0), rows + 1), "{arguments:?}: {said}");
        }
        let (code, said) = command(&nodes, &servers, &["transfer", "t9"]);
        assert!(code == Some(1) && said.contains("was ever decided"), "{said}");
    }
    nodes.heal();

    let old = nodes.leader();
    nodes.isolate(old);
    let new = nodes.leader_but(Some(old));
    for servers in [address(old), nodes.addresses()] {
        wait_until(&nodes, "the old leader is shown", || {
            let (code, said) = command(&nodes, &servers, &["cluster", "--format", "csv"]);
            let leads = said.lines().any(|line| {
                let fields: Vec<_> = line.split(',').collect();
                fields[0] == "partition" && fields[10] == ids[new].to_string()
            });
            let alive = said
                .lines()
                .filter(|line| line.starts_with("node,"))
                .filter(|line| line.contains(",alive,"));
            code == Some(0) && leads && alive.count() >= 2
        });
    }
    nodes.heal();
    wait_until(&nodes, "they do not find each other", || {
        let said = command(&nodes, &nodes.addresses(), &["cluster", "--format", "csv"]).1;
        said.lines().filter(|line| line.contains(",alive,")).count() == 3
    });

    // Without a spare it is said what leaving costs; it takes place all the same.
    let leaves = (new + 1) % 3;
    wait_until(&nodes, "it does not leave", || {
        let (code, said) = command(&nodes, &address(leaves), &["leave", "--yes"]);
        assert!(said.contains("goes on with 2 voters"), "{code:?}: {said}");
        // It may not have heard yet that the one that was cut off is back, or who leads now.
        assert!(code == Some(0) || said.contains("nothing was changed"), "{code:?}: {said}");
        code == Some(0)
    });
    assert!(nodes.server(leaves).wait().success(), "{}", nodes.log(leaves));
    wait_until(&nodes, "it is still a member", || !votes(&nodes, ids[leaves]));
    nodes.kill(leaves); // it has ended; its place is empty now
    let dead = (0..3).find(|node| *node != leaves && *node != nodes.leader()).unwrap();
    let last = 3 - leaves - dead;
    nodes.kill(dead);
    let (gone, asked) = (ids[dead].to_string(), nodes.address(last).to_string());
    // Nobody knows how long it takes until the leader notices: only then is there none.
    wait_until(&nodes, "a leader without a majority", || {
        let (code, said) = command(&nodes, &asked, &["cluster", "remove", &gone, "--yes"]);
        assert_ne!(code, Some(0), "{said}");
        said.contains("has no leader")
    });
    let (code, said) = command(&nodes, &asked, &["cluster"]);
    assert!(code == Some(1) && said.contains("no leader is known of partition 0"), "{said}");
}
