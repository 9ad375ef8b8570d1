//! Does a cluster of real nodes lose, repeat or reorder anything acknowledged, or show old state,
//! when nodes are killed, paused and cut off?

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::entry::HEADER_BYTES;
use walengine_net::frame::Kind;
use walengine_net::message::{Entries, ErrorCode, Freshness, LogPage, ReadLog};
use walengine_net::model::{Offset, PartitionId};
use walengine_tests::cluster_clients::{Crowd, ask_for};
use walengine_tests::linearizability::{self, Demand};
use walengine_tests::nodes::Nodes;
use walengine_tests::noted_writes::accounts_of;
use walengine_tests::server::{Launch, run_command};
use walengine_tests::sim::Rng;
use walengine_tests::wire::Wire;

const WRITERS: u64 = 6;
const READERS: u64 = 3;
/// Operations that must have been compared at least, in the three tests together.
const OPERATIONS_MIN: u64 = 200_000;
/// In milliseconds.
const ELECTION_MILLIS: u64 = 600;
const ELECTION: Duration = Duration::from_millis(ELECTION_MILLIS);
/// Writes that must be answered between two faults.
const ANSWERS_BETWEEN: u64 = 20;
/// How long a node that may be stale is given to answer.
const STALE_WITHIN: Duration = Duration::from_millis(1500);
const PAGE_BYTES: u32 = 1 << 20;
/// How long a node may take to reach what the others hold.
const APPLIED_WITHIN: Duration = Duration::from_mins(1);

/// One at a time: each test takes the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The fault that nodes suffer.
#[derive(Clone, Copy)]
enum Fault {
    Kill,
    Pause,
    Cut,
}

/// The parameters of a trial.
#[derive(Clone, Copy)]
struct Load {
    fault: Fault,
    /// Faults.
    cycles: u64,
    /// Operations that must have been compared.
    operations_min: u64,
}

/// A cluster under load and faults.
struct Trial<'a> {
    nodes: Nodes,
    crowd: &'a Crowd,
    rng: Rng,
    /// Faults so far, and operations that must be answered between two.
    faults: u64,
    operations_between: u64,
    /// When leaders were killed, on the crowd's clock.
    leader_kills: Vec<u64>,
    /// Stale leaders that were asked, and how many of them answered at all.
    stale_asked: u64,
    stale_answered: u64,
}

impl Trial<'_> {
    /// All nodes are there and writes are answered.
    fn settle(&mut self) {
        self.nodes.heal();
        for node in 0..self.nodes.count() {
            if !self.nodes.runs(node) {
                self.nodes.spawn(node);
            }
        }
        self.nodes.wait_until_serving();
        self.faults += 1;
        let wanted = self.faults * self.operations_between;
        self.crowd.wait_for_operations(wanted, || self.nodes.logs());
        self.crowd.wait_for_answers(ANSWERS_BETWEEN, || self.nodes.logs());
        thread::sleep(Duration::from_millis(self.rng.between(20, 200)));
    }

    /// The leader and any follower in turn.
    fn victim(&mut self, cycle: u64) -> (usize, bool) {
        let leader = self.nodes.leader();
        if cycle.is_multiple_of(2) {
            return (leader, true);
        }
        let others = self.nodes.count() - 1;
        ((leader + 1 + self.rng.index(others)) % self.nodes.count(), false)
    }

    fn suffer(&mut self, fault: Fault, cycle: u64) {
        match fault {
            Fault::Kill => self.kill(cycle),
            Fault::Pause => self.pause(cycle),
            Fault::Cut => self.cut(cycle),
        }
    }

    fn kill(&mut self, cycle: u64) {
        let (victim, leads) = self.victim(cycle);
        if leads {
            self.leader_kills.push(self.crowd.now());
        }
        self.nodes.kill(victim);
        self.crowd.wait_for_answers(ANSWERS_BETWEEN, || self.nodes.logs());
        if cycle.is_multiple_of(5) {
            // Killed again during recovery, at any point of it.
            self.nodes.spawn(victim);
            thread::sleep(Duration::from_millis(self.rng.below(300)));
            self.nodes.kill(victim);
        }
        self.settle();
    }

    fn pause(&mut self, cycle: u64) {
        let (victim, leads) = self.victim(cycle);
        let mut wire =
            Wire::greeted_within(self.nodes.address(victim), 0, None, STALE_WITHIN).unwrap();
        self.nodes.pause(victim);
        if leads {
            self.nodes.leader_but(Some(victim));
        } else {
            thread::sleep(3 * ELECTION);
        }
        self.crowd.wait_for_answers(ANSWERS_BETWEEN, || self.nodes.logs());
        // The question waits for it when it wakes, before anybody has told it anything.
        let known = self.crowd.told();
        let asked = thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&mut wire));
            thread::sleep(Duration::from_millis(5));
            self.nodes.resume(victim);
            asked.join().unwrap()
        });
        self.not_stale(victim, known, asked);
        self.settle();
    }

    fn cut(&mut self, cycle: u64) {
        let (victim, leads) = self.victim(cycle);
        let mut wire =
            Wire::greeted_within(self.nodes.address(victim), 0, None, STALE_WITHIN).unwrap();
        let way = cycle / 2 % 3;
        println!("cut {cycle}: node {victim}, leads {leads}, way {way}");
        match way {
            0 => self.nodes.isolate(victim),
            1 => self.nodes.mute(victim),
            _ => self.nodes.deafen(victim),
        }
        // A leader that is deaf but not mute still sends heartbeats: nobody stands for election
        // until it notices that nobody answers.
        if leads {
            self.nodes.leader_but(Some(victim));
        } else {
            thread::sleep(3 * ELECTION);
        }
        self.crowd.wait_for_answers(ANSWERS_BETWEEN, || self.nodes.logs());
        let known = self.crowd.told();
        let asked = ask(&mut wire);
        self.not_stale(victim, known, asked);
        self.settle();
    }

    /// Checks what a node answered that was asked after `known` was acknowledged.
    fn not_stale(&mut self, node: usize, known: Offset, asked: Option<Offset>) {
        self.stale_asked += 1;
        if let Some(shown) = asked {
            self.stale_answered += 1;
            assert!(shown >= known, "node {node} shows {shown}, {known} was acknowledged before");
        }
    }
}

/// Asks for a linearizable read: what it shows, if it is answered.
fn ask(wire: &mut Wire) -> Option<Offset> {
    let account = accounts_of(PartitionId(0), 1)[0].id;
    let answer = ask_for(wire, Demand::Linearizable, &[], &[account]).ok()??;
    Some(answer.0)
}

/// A node's entries with records below `end`. Later entries may differ from node to node: a new
/// leader may have written there before the next node is asked.
pub fn log_of(nodes: &Nodes, node: usize, end: Offset) -> Vec<u8> {
    let mut wire = nodes.wire(node);
    let (mut log, mut from) = (Vec::new(), Offset(0));
    let by = Instant::now() + APPLIED_WITHIN;
    while from < end {
        let at_least = Freshness::AtLeast(Offset(end.0 - 1)).number();
        let read = ReadLog { at_least, from: from.0, bytes_max: PAGE_BYTES };
        let reply = wire.call(&read).unwrap();
        if reply.error() == Some(ErrorCode::NotYet) {
            // It was killed a moment ago, and is replaying its log.
            assert!(Instant::now() < by, "node {node} never reaches {end}:\n{}", nodes.log(node));
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        assert_eq!(reply.kind, Kind::LogPage, "node {node}: {:?}", reply.error());
        let page = reply.open::<LogPage<'_>>();
        assert!(page.next_offset.to_native() > from.0, "node {node}: a page without records");
        log.extend_from_slice(&page.entries);
        from = Offset(page.next_offset.to_native());
    }
    let below =
        Entries::new(&log).map(Result::unwrap).take_while(|(it, _)| it.meta.base_offset < end);
    let bytes = below.map(|(_, body)| HEADER_BYTES + body.len()).sum();
    log.truncate(bytes);
    log
}

/// Replicas hold the same entries, but for the durable index in each.
pub fn logs_are_equal(logs: &[Vec<u8>]) -> usize {
    let entries = |log: &[u8]| -> Vec<_> {
        let entries = Entries::new(log).map(|entry| {
            let (header, body) = entry.unwrap();
            (header.meta, header.chain, body.len(), crc32c::crc32c(body))
        });
        entries.collect()
    };
    let first = entries(&logs[0]);
    for (node, log) in logs.iter().enumerate().skip(1) {
        let other = entries(log);
        for (one, other) in first.iter().zip(&other) {
            assert_eq!(one, other, "nodes 0 and {node} differ");
        }
        assert_eq!(first.len(), other.len(), "nodes 0 and {node}");
    }
    first.len()
}

/// Loads a cluster, harms it again and again, and compares everything that clients were told with
/// the replicas' logs.
fn try_out(test: &str, seed: u64, load: Load) {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("seed {seed:#x}");
    let configure = |launch: Launch| launch.set("--election-millis", &ELECTION_MILLIS.to_string());
    let nodes = Nodes::start(test, 3, configure);
    let addresses = (0..3).map(|node| nodes.address(node)).collect();
    let crowd = Crowd::new(addresses, accounts_of(PartitionId(0), 1));
    let created = crowd.create_accounts();
    let (trial, mut notes) = thread::scope(|scope| {
        let clients = crowd.start(scope, WRITERS, READERS, seed);
        let mut trial = Trial {
            nodes,
            crowd: &crowd,
            rng: Rng::new(seed),
            faults: 0,
            operations_between: load.operations_min / load.cycles + 1,
            leader_kills: Vec::new(),
            stale_asked: 0,
            stale_answered: 0,
        };
        // Clients must end whether the trial fails or not, or it would hang instead of failing.
        let tried = std::panic::catch_unwind(AssertUnwindSafe(|| {
            (0..load.cycles).for_each(|cycle| trial.suffer(load.fault, cycle));
        }));
        crowd.end();
        if tried.is_err() {
            trial.nodes.heal();
        }
        let notes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
        (trial, notes.into_iter().map(Result::unwrap).collect::<Vec<_>>())
    });
    notes.push(created);
    let Trial { mut nodes, leader_kills, stale_asked, stale_answered, .. } = trial;
    let end = crowd.told();
    let logs: Vec<_> = (0..3).map(|node| log_of(&nodes, node, end)).collect();
    let entries = logs_are_equal(&logs);
    let checked = linearizability::check(&logs[0], &notes);
    println!("{checked:?}, {} operations; {entries} entries, {end} records", checked.operations());
    println!("{stale_asked} nodes asked that might be stale, {stale_answered} answered");
    if !leader_kills.is_empty() {
        failover(&linearizability::resumed_after(&notes, &leader_kills));
    }
    assert!(checked.operations() >= load.operations_min, "too little was done: {checked:?}");
    for node in 0..3 {
        nodes.server(node).stop();
        let data = nodes.dir().join(format!("node{node}/data"));
        let output = run_command(None, &nodes.dir(), &["verify", data.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "node {node}: {said}");
    }
    drop(alone);
}

#[test]
fn nothing_acknowledged_is_lost_repeated_or_hidden_by_sixty_kills() {
    let load = Load { fault: Fault::Kill, cycles: 60, operations_min: OPERATIONS_MIN / 2 };
    try_out("replicas-kill", 0x5eed_0301, load);
}

#[test]
fn nothing_acknowledged_is_lost_repeated_or_hidden_by_twenty_pauses() {
    let load = Load { fault: Fault::Pause, cycles: 20, operations_min: OPERATIONS_MIN / 4 };
    try_out("replicas-pause", 0x5eed_0302, load);
}

#[test]
fn nothing_acknowledged_is_lost_repeated_or_hidden_by_twenty_partitions() {
    let load = Load { fault: Fault::Cut, cycles: 20, operations_min: OPERATIONS_MIN / 4 };
    try_out("replicas-cut", 0x5eed_0303, load);
}

/// Prints how long writes took to resume after their leader's death.
fn failover(nanos: &[u64]) {
    let mut hundredths: Vec<u64> =
        nanos.iter().map(|nanos| nanos / 10_000 / ELECTION_MILLIS).collect();
    hundredths.sort_unstable();
    let at = |percent: usize| {
        let found = hundredths[(hundredths.len() - 1) * percent / 100];
        format!("{}.{:02}", found / 100, found % 100)
    };
    println!(
        "writes resumed after the leader's death, in election timeouts of {ELECTION_MILLIS} ms: \
         median {}, p99 {}, max {} of {}",
        at(50),
        at(99),
        at(100),
        hundredths.len()
    );
}
