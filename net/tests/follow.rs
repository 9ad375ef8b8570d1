//! Does a client find the leader, and go to another node when one fails? Over real sockets, with
//! both faces.

mod fake;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use fake::{Fake, Health, PARTITIONS};
use walengine_net::client::{
    ClientError, ClusterReport, Config, NodeReport, ReadFrom, Submitted, blocking,
    tokio as on_tokio,
};
use walengine_net::message::{IdNamespace, NodeHealth};
use walengine_net::model::{
    Account, AccountId, Amount, Code, EventId, LedgerId, Offset, PartitionId, Transfer, Verdict,
};

const HOME: PartitionId = PartitionId(0);
const SOON: Duration = Duration::from_mins(1);

/// Either client, used in the same way.
enum Face {
    Blocking(blocking::Client),
    Tokio(tokio::runtime::Runtime, on_tokio::Client),
}

impl Face {
    /// Runs a test with both, one after the other.
    fn each(test: impl Fn(fn(Config) -> Self)) {
        test(|config| Self::Blocking(blocking::Client::connect(config).unwrap()));
        test(|config| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            let client = runtime.block_on(on_tokio::Client::connect(config)).unwrap();
            Self::Tokio(runtime, client)
        });
    }

    /// Lets time pass while the client may do anything.
    fn pause(&mut self, pause: Duration) {
        match self {
            Self::Blocking(_) => std::thread::sleep(pause),
            Self::Tokio(runtime, _) => runtime.block_on(async { tokio::time::sleep(pause).await }),
        }
    }

    fn submit(&mut self, id: u128) -> Result<Submitted, ClientError> {
        let transfer = Transfer {
            id: EventId(id),
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(5),
            ledger: LedgerId(203),
            code: Code(1),
            ..Transfer::default()
        };
        let events = [transfer.to_bytes()];
        match self {
            Self::Blocking(client) => client.submit(HOME, &events),
            Self::Tokio(runtime, client) => runtime.block_on(client.submit(HOME, &events)),
        }
    }

    fn knows(&mut self, read_from: ReadFrom, id: u128) -> Result<bool, ClientError> {
        let ids = [EventId(id)];
        let found = match self {
            Self::Blocking(client) => client.reading(read_from).lookup_transfers(&ids, &[]),
            Self::Tokio(runtime, client) => {
                runtime.block_on(client.reading(read_from).lookup_transfers(&ids, &[]))
            }
        };
        Ok(found?[0].is_some())
    }

    fn create_account(&mut self, id: u128) {
        let accounts = [Account { id: AccountId(id), ..Account::default() }];
        let created = match self {
            Self::Blocking(client) => client.create_accounts(&accounts),
            Self::Tokio(runtime, client) => runtime.block_on(client.create_accounts(&accounts)),
        };
        assert!(created.unwrap().all_ok());
    }

    fn has_account(&mut self, read_from: ReadFrom, id: u128) -> bool {
        let ids = [AccountId(id)];
        let found = match self {
            Self::Blocking(client) => client.reading(read_from).lookup_accounts(&ids, &[]),
            Self::Tokio(runtime, client) => {
                runtime.block_on(client.reading(read_from).lookup_accounts(&ids, &[]))
            }
        };
        found.unwrap()[0].is_some()
    }

    fn has_verdict(&mut self, read_from: ReadFrom, id: u128) -> bool {
        let found = match self {
            Self::Blocking(client) => {
                client.reading(read_from).status(IdNamespace::Event, &[id], &[])
            }
            Self::Tokio(runtime, client) => {
                let client = client.reading(read_from);
                runtime.block_on(client.status(IdNamespace::Event, &[id], &[]))
            }
        };
        found.unwrap()[0].is_some()
    }

    /// Reads from a single partition.
    fn list(&mut self) {
        let page = match self {
            Self::Blocking(client) => client.list_accounts(HOME, None, 10, &[]),
            Self::Tokio(runtime, client) => {
                runtime.block_on(client.list_accounts(HOME, None, 10, &[]))
            }
        };
        page.unwrap();
    }

    fn status(&mut self, id: u128) -> Option<Verdict> {
        let read = match self {
            Self::Blocking(client) => {
                let client = client.reading(ReadFrom::Linearizable);
                client.status(IdNamespace::Event, &[id], &[])
            }
            Self::Tokio(runtime, client) => {
                let client = client.reading(ReadFrom::Linearizable);
                runtime.block_on(client.status(IdNamespace::Event, &[id], &[]))
            }
        };
        read.unwrap()[0].map(|decided| decided.verdict)
    }

    fn cluster(&mut self) -> ClusterReport {
        match self {
            Self::Blocking(client) => client.cluster_status().unwrap(),
            Self::Tokio(runtime, client) => runtime.block_on(client.cluster_status()).unwrap(),
        }
    }

    /// Follows the log from its end on, which does not grow, and looks at the end.
    fn idle<T>(&mut self, wait: Duration, look: impl Fn() -> T) -> T {
        let end = Offset(1);
        let page = match self {
            _ if wait.is_zero() => Ok(None),
            Self::Blocking(client) => client.subscribe(HOME, end).next_within(wait),
            Self::Tokio(runtime, client) => {
                let mut log = client.subscribe(HOME, end);
                runtime.block_on(log.next_within(wait))
            }
        };
        assert!(page.unwrap().is_none(), "the log does not grow");
        look()
    }

    /// The next page of the log from `from` on, through a subscription that is then dropped.
    fn page(&mut self, from: u64) -> u64 {
        let next = match self {
            Self::Blocking(client) => {
                let mut log = client.subscribe(HOME, Offset(from));
                log.next_within(Duration::from_secs(20)).unwrap().unwrap().next_offset
            }
            Self::Tokio(runtime, client) => {
                let mut log = client.subscribe(HOME, Offset(from));
                runtime.block_on(log.next()).unwrap().next_offset
            }
        };
        next.0
    }
}

/// Settings with the addresses of these nodes.
fn config(nodes: &[&Fake]) -> Config {
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
    Config { deadline: Duration::from_secs(20), ..Config::new(addresses.join(",")) }
}

fn set_leader(nodes: &[Fake], leader: Option<usize>) {
    nodes[0].state.lock().unwrap().leader = leader;
}

fn set_health(nodes: &[Fake], health: Health) {
    for node in nodes {
        node.node(|node| node.health = health);
    }
}

/// Reads until a follower has answered.
fn until_others_are_known(client: &mut Face, nodes: &[Fake]) {
    let by = Instant::now() + Duration::from_secs(20);
    while reads(nodes)[1..].iter().all(|&reads| reads == 0) {
        assert!(client.knows(ReadFrom::Any, 1).unwrap());
        assert!(Instant::now() < by, "no follower was ever asked");
    }
}

fn writes(nodes: &[Fake]) -> Vec<usize> {
    nodes.iter().map(|node| node.node(|node| node.writes)).collect()
}

fn reads(nodes: &[Fake]) -> Vec<usize> {
    nodes.iter().map(|node| node.node(|node| node.reads)).collect()
}

fn connections(nodes: &[Fake]) -> Vec<usize> {
    nodes.iter().map(|node| node.node(|node| node.connections)).collect()
}

#[test]
fn a_write_through_a_follower_goes_to_the_leader() {
    Face::each(|connect| {
        for knows_cluster in [true, false] {
            let nodes = Fake::cluster(3);
            nodes[2].node(|node| node.is_old = !knows_cluster);
            let mut client = connect(config(&[&nodes[2]]));
            for id in 1..=5 {
                assert!(client.submit(id).unwrap().all_ok());
            }
            assert_eq!(writes(&nodes), [5, 0, 0]);
            assert_eq!(client.status(3), Some(Verdict::Ok));
            assert!(client.knows(ReadFrom::Linearizable, 5).unwrap());
            let others = reads(&nodes)[1..].iter().sum::<usize>();
            assert_eq!(others, 0, "linearizable reads are the leader's");
        }
    });
}

#[test]
fn a_leader_that_moves_is_followed_without_an_error() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[1]]));
        for id in 1..=30u128 {
            set_leader(&nodes, Some((id / 3 % 3) as usize));
            assert!(client.submit(id).unwrap().all_ok());
        }
        assert_eq!(nodes[0].state.lock().unwrap().decided(), 30);
    });
}

#[test]
fn a_leader_that_dies_with_the_request_costs_a_pause_and_one_verdict() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[0], &nodes[1], &nodes[2]]));
        client.submit(1).unwrap();
        nodes[0].mischief(|mischief| mischief.die = 1);
        let elects = nodes.clone();
        let election = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(400));
            set_leader(&elects, Some(2));
        });
        let started = Instant::now();
        let submitted = client.submit(2).unwrap();
        let outcome = submitted.outcomes().next().unwrap();
        assert_eq!((outcome.verdict, outcome.offset), (Verdict::Ok, Some(Offset(1))));
        assert!(!outcome.fresh, "the dead leader had decided it");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        election.join().unwrap();
        assert_eq!(nodes[0].state.lock().unwrap().decided(), 2);
        assert_eq!(writes(&nodes), [2, 0, 1]);
    });
}

#[test]
fn a_lost_leadership_is_cleared_up_with_the_same_ids() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[1]]));
        nodes[0].mischief(|mischief| mischief.lose_leadership = 2);
        let submitted = client.submit(7).unwrap();
        assert!(!submitted.outcomes().next().unwrap().fresh);
        assert_eq!(writes(&nodes), [1, 1, 1]);
        assert_eq!(nodes[0].state.lock().unwrap().decided(), 1);
    });
}

#[test]
fn a_silent_leader_is_left_for_the_next() {
    for health in [Health::Mute, Health::Stuck] {
        Face::each(|connect| {
            let nodes = Fake::cluster(3);
            let mut client = connect(config(&[&nodes[0]]));
            client.submit(1).unwrap();
            until_others_are_known(&mut client, &nodes);
            nodes[0].node(|node| node.health = health);
            set_leader(&nodes, Some(1));
            let started = Instant::now();
            client.submit(2).unwrap();
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(5), "{health:?}: {waited:?}");
            assert_eq!(writes(&nodes)[1], 1);
        });
    }
}

#[test]
fn circles_of_redirects_end_at_the_deadline_with_who_was_asked() {
    Face::each(|connect| {
        let nodes = Fake::cluster(2);
        set_leader(&nodes, None);
        for (node, other) in [(0, 1), (1, 0)] {
            let hint = Some(nodes[other].address.to_string());
            nodes[node].node(|node| (node.hint, node.is_old) = (hint, true));
        }
        let config = Config { deadline: Duration::from_millis(1500), ..config(&[&nodes[0]]) };
        let mut client = connect(config);
        let started = Instant::now();
        let error = client.submit(1).unwrap_err();
        let ClientError::NoLeader { partition, waited, .. } = &error else { panic!("{error}") };
        assert_eq!(*partition, HOME);
        assert!(*waited >= Duration::from_secs(1), "{waited:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let text = error.to_string();
        assert!(text.contains("no leader of partition 0") && text.lines().count() == 1, "{text}");
        let attempts: usize = connections(&nodes).iter().sum();
        assert!((4..30).contains(&attempts), "{attempts} connections");
    });
}

#[test]
fn without_a_leader_nothing_is_changed_and_that_is_told() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let seeds = [&nodes[0], &nodes[1], &nodes[2]];
        let config = Config { deadline: Duration::from_secs(1), ..config(&seeds) };
        let mut client = connect(config);
        client.submit(7).unwrap();
        set_leader(&nodes, None);
        let error = client.submit(1).unwrap_err();
        assert!(matches!(error, ClientError::NoLeader { .. }), "{error}");
        assert!(client.knows(ReadFrom::Any, 7).unwrap(), "followers answer all the same");
        let error = client.knows(ReadFrom::Any, 1).unwrap_err();
        assert!(matches!(error, ClientError::NoLeader { .. }), "nobody can be sure: {error}");
    });
}

/// The fault: a look-up right after an import was answered by a follower that lagged, and said that
/// the transfer had never been decided.
#[test]
fn what_a_follower_does_not_know_is_asked_of_the_leader() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[0], &nodes[1], &nodes[2]]));
        client.submit(1).unwrap();
        client.create_account(5);
        for node in &nodes[1..] {
            node.node(|node| node.is_behind = true);
        }
        for read_from in [ReadFrom::Any, ReadFrom::Leader, ReadFrom::Linearizable] {
            for _ in 0..6 {
                assert!(client.knows(read_from, 1).unwrap(), "{read_from:?}");
                assert!(!client.knows(read_from, 9).unwrap(), "{read_from:?}");
                assert!(client.has_account(read_from, 5), "{read_from:?}");
                assert!(client.has_verdict(read_from, 1), "{read_from:?}");
            }
        }
    });
}

/// The fault: asked at a leader that was cut off, `cluster` showed it as the leader, and the living as
/// dead.
#[test]
fn a_leader_that_is_cut_off_is_outvoted_by_the_highest_term() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        set_leader(&nodes, Some(1));
        nodes[0].node(|node| node.cut_off_in = Some(1));
        // Whether it is named first, last or alone: the others are found by what it knows.
        for seeds in [&[0, 1, 2][..], &[2, 0], &[0]] {
            let seeds: Vec<_> = seeds.iter().map(|seed| &nodes[*seed]).collect();
            let mut client = connect(config(&seeds));
            let report = client.cluster();
            let leaders = report.groups.values().map(|group| group.leader);
            assert!(leaders.clone().all(|leader| leader == Some(2)), "{report:?}");
            let alive = |node: &&NodeReport| node.health == NodeHealth::Alive;
            assert_eq!(report.nodes.values().filter(alive).count(), 3, "{report:?}");
        }
    });
}

#[test]
fn when_all_are_down_there_is_no_storm_of_connections() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let seeds = [&nodes[0], &nodes[1], &nodes[2]];
        let config = Config { deadline: Duration::from_secs(3), ..config(&seeds) };
        let mut client = connect(config);
        client.submit(1).unwrap();
        set_health(&nodes, Health::Down);
        std::thread::sleep(Duration::from_millis(100));
        let before: usize = connections(&nodes).iter().sum();
        let error = client.submit(2).unwrap_err();
        assert!(matches!(
            error,
            ClientError::OutcomeUnknown { .. } | ClientError::Unreachable { .. }
        ));
        let attempts = connections(&nodes).iter().sum::<usize>() - before;
        // Pauses double from 10 ms to a second: about eight in the first second, then two each.
        assert!((3..=16).contains(&attempts), "{attempts} connections in three seconds");
        client.pause(Duration::from_secs(3));
        let later = connections(&nodes).iter().sum::<usize>() - before;
        assert!(later <= attempts + 2, "nobody waits, and {} more", later - attempts);
        set_health(&nodes, Health::Well);
        assert!(client.submit(3).unwrap().all_ok(), "it comes back");
    });
}

#[test]
fn plain_reads_take_turns_among_the_followers() {
    Face::each(|connect| {
        let nodes = Fake::cluster(4);
        let mut client = connect(config(&[&nodes[0]]));
        client.submit(1).unwrap();
        until_others_are_known(&mut client, &nodes);
        let before = reads(&nodes);
        for _ in 0..300 {
            client.list();
        }
        let after = reads(&nodes);
        let grown: Vec<_> =
            after.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_eq!(grown.iter().sum::<usize>(), 300);
        assert_eq!(grown[0], 0, "the leader has enough to do");
        assert!(grown[1..].iter().all(|&reads| reads >= 90), "{grown:?}");
    });
}

#[test]
fn a_follower_that_fails_is_avoided_and_comes_back() {
    for health in [Health::Down, Health::Mute] {
        Face::each(|connect| {
            let nodes = Fake::cluster(3);
            let mut client = connect(config(&[&nodes[0], &nodes[1], &nodes[2]]));
            client.submit(1).unwrap();
            for _ in 0..20 {
                assert!(client.knows(ReadFrom::Any, 1).unwrap());
            }
            assert!(reads(&nodes)[1] > 0 && reads(&nodes)[2] > 0, "{:?}", reads(&nodes));
            nodes[1].node(|node| node.health = health);
            let (before, started) = (connections(&nodes)[1], Instant::now());
            while started.elapsed() < Duration::from_secs(2) {
                assert!(client.knows(ReadFrom::Any, 1).unwrap());
                std::thread::sleep(Duration::from_millis(2));
            }
            let attempts = connections(&nodes)[1] - before;
            assert!(attempts <= 12, "{health:?}: asked {attempts} times");
            nodes[1].node(|node| (node.health, node.reads) = (Health::Well, 0));
            let by = Instant::now() + Duration::from_secs(30);
            while reads(&nodes)[1] == 0 {
                assert!(client.knows(ReadFrom::Any, 1).unwrap());
                assert!(Instant::now() < by, "{health:?}: it never came back");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    }
}

#[test]
fn the_first_address_that_answers_is_enough() {
    Face::each(|connect| {
        let nodes = Fake::cluster(2);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config::new(format!("{free}, {},", nodes[1].address));
        for _ in 0..8 {
            assert!(connect(config.clone()).submit(1).unwrap().all_ok());
        }
    });
}

#[test]
fn the_cluster_is_told_by_any_node() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[2]]));
        let cluster = client.cluster();
        assert_eq!(cluster.nodes.len(), 3);
        assert_eq!(cluster.groups.len(), usize::from(PARTITIONS));
        assert!(cluster.groups.values().all(|group| group.leader == Some(1)));
    });
}

#[test]
fn a_subscription_is_a_followers_and_survives_it() {
    Face::each(|connect| {
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[0], &nodes[1], &nodes[2]]));
        client.submit(1).unwrap();
        let before = reads(&nodes)[0];
        assert_eq!(client.page(0), 1);
        assert_eq!(reads(&nodes)[0], before, "the leader was not asked");
        nodes[1].node(|node| node.health = Health::Down);
        client.submit(2).unwrap();
        for _ in 0..6 {
            assert_eq!(client.page(1), 2);
        }
    });
}

/// The fault: what was to be repeated after a while was put in and not sent before something else
/// happened on the connection. A lone writer that was told to come back waited for its deadline.
#[test]
fn a_lone_writer_that_is_told_to_come_back_does() {
    Face::each(|connect| {
        let nodes = Fake::cluster(1);
        nodes[0].mischief(|mischief| (mischief.busy, mischief.busy_millis) = (3, 50));
        let mut client = connect(Config { deadline: SOON, ..config(&[&nodes[0]]) });
        let started = Instant::now();
        client.submit(1).unwrap();
        assert!(started.elapsed() < SOON / 2, "{:?}", started.elapsed());
    });
}

/// The fault: the question whether a silent server is still there was put in and not sent, and so the
/// server of every idle subscription counted as gone.
#[test]
fn an_idle_subscription_stays_where_it_is() {
    Face::each(|connect| {
        // With one follower it would go on over the leader's connection, which is there.
        let nodes = Fake::cluster(3);
        let mut client = connect(config(&[&nodes[0], &nodes[1], &nodes[2]]));
        client.submit(1).unwrap();
        let before = client.idle(Duration::ZERO, || connections(&nodes));
        let after = client.idle(Duration::from_secs(9), || connections(&nodes));
        assert_eq!(after.iter().sum::<usize>(), before.iter().sum::<usize>() + 1, "{after:?}");
    });
}

#[test]
fn all_partitions_are_asked_at_once() {
    Face::each(|connect| {
        let nodes = Fake::cluster(1);
        let mut client = connect(config(&[&nodes[0]]));
        // Nobody is answered before the last partition has been asked.
        let together = Arc::new(Barrier::new(usize::from(PARTITIONS)));
        nodes[0].node(|node| node.together = Some(together));
        assert!(!client.knows(ReadFrom::Any, 1).unwrap());
        // What was not found is asked again, in the same way.
        assert_eq!(reads(&nodes), [2 * usize::from(PARTITIONS)]);
    });
}

#[test]
fn a_subscription_that_is_dropped_ends_at_the_server_too() {
    Face::each(|connect| {
        let nodes = Fake::cluster(1);
        let mut client = connect(config(&[&nodes[0]]));
        client.submit(1).unwrap();
        assert_eq!(client.page(0), 1);
        // The log does not grow, so the server can't find out by sending a page.
        assert_eq!(client.status(1), Some(Verdict::Ok));
        assert_eq!(nodes[0].node(|node| node.unsubscribed), 1);
    });
}
