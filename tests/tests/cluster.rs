//! Does a cluster lose, double or reorder nothing that was acknowledged, whatever fails?

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use walengine::runtime::Runtime;
use walengine::shard::replica::Replica;
use walengine_replication::runtime::within;
use walengine_replication::types::NodeId;
use walengine_tests::cluster::{Client, Cluster, NetFaults, Observer, Told};
use walengine_tests::seeds::{each_of, each_seed};
use walengine_tests::sim::{Order, Rng, SimExecutor, SimRuntime};

/// Polls of a whole run: far above what any seed needs.
const POLLS_MAX: u64 = 20_000_000;
/// How often the observer looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Faults stop after this much virtual time.
const FAULTS_LAST: Duration = Duration::from_secs(7);
/// Then the cluster must serve again within this time.
const SERVES_WITHIN: Duration = Duration::from_secs(20);

/// Tells the other process which seed to run.
const OTHER_PROCESS: &str = "WALENGINE_TEST_TRACE_OF";
/// Begins the line that it answers with.
const TRACE: &str = "trace";

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ran {
    trace: u64,
    crashes: u64,
    answers: u64,
    terms: usize,
    millis: u64,
}

fn run(seed: u64) -> Ran {
    let mut rng = Rng::new(seed);
    let executor = SimExecutor::new(rng.next_u64(), Order::Random);
    let root = executor.runtime();
    root.allow_polls(POLLS_MAX);
    let ran = executor
        .block_on(within(root.clone(), live(root.clone(), rng)))
        .expect("every wake-up arrives");
    let millis = root.elapsed().as_millis() as u64;
    Ran { trace: executor.trace(), millis, ..ran }
}

async fn live(root: SimRuntime, mut rng: Rng) -> Ran {
    let nodes = if rng.percent(70) { 3 } else { 5 };
    let cluster = Cluster::form(&root, nodes, rng.next_u64()).await;
    let told = Rc::new(RefCell::new(Told::default()));
    let observer = Rc::new(RefCell::new(Observer::default()));
    let ends = Rc::new(std::cell::Cell::new(false));

    let (watched, watcher, clock, stop) =
        (cluster.clone(), observer.clone(), root.clone(), ends.clone());
    root.spawn(async move {
        while !stop.get() {
            watcher.borrow_mut().look(&watched);
            clock.sleep(LOOK_EVERY).await;
        }
    });
    Client::new(&cluster, &root, rng.fork()).create_accounts(&told).await;
    let clients = Rc::new(std::cell::Cell::new(3));
    for _ in 0..clients.get() {
        let mut client = Client::new(&cluster, &root, rng.fork());
        let (told, stop, left) = (told.clone(), ends.clone(), clients.clone());
        let (clock, mut pace) = (root.clone(), rng.fork());
        root.spawn(async move {
            while !stop.get() {
                client.write(&told).await;
                clock.sleep(Duration::from_micros(pace.below(20_000))).await;
            }
            left.set(left.get() - 1);
        });
    }
    let crashes = torment(&cluster, &root, &mut rng, nodes).await;

    // Faults are over: the cluster must serve again, and come to one state.
    cluster.net.heal();
    cluster.net.set_faults(NetFaults::NONE);
    for id in cluster.ids() {
        cluster.spare(id);
        if cluster.is_down(id) {
            cluster.restart(id).await;
        }
    }
    let before = told.borrow().answers;
    let by = root.elapsed() + SERVES_WITHIN;
    while told.borrow().answers < before + 20 {
        assert!(root.elapsed() < by, "the cluster does not serve again: {}", describe(&cluster));
        root.sleep(LOOK_EVERY).await;
    }
    ends.set(true);
    while clients.get() > 0 {
        assert!(root.elapsed() < by, "a client is never answered: {}", describe(&cluster));
        root.sleep(LOOK_EVERY).await;
    }
    while !at_rest(&cluster) {
        assert!(root.elapsed() < by, "the cluster does not come to rest: {}", describe(&cluster));
        root.sleep(LOOK_EVERY).await;
    }
    let mut observer = observer.take();
    let told = told.take();
    observer.look_at_end(&cluster, &told).await;
    Ran { crashes, answers: told.answers, terms: observer.terms(), ..Ran::default() }
}

fn at_rest(cluster: &Cluster) -> bool {
    let ids = cluster.ids();
    let partitions = ids.iter().filter_map(|id| cluster.partition(*id));
    let tails: Vec<_> = partitions
        .map(|one| (one.log().log().last(), one.log().log().durable_index(), one.applied()))
        .collect();
    let same = tails.windows(2).all(|pair| pair[0] == pair[1]);
    let applied = |(tail, durable, applied): &(walengine::storage::layout::Tail, u64, _)| {
        tail.index == *durable && walengine::raft_log::log_id_of(tail) == *applied
    };
    tails.len() == ids.len() && same && tails.iter().all(applied)
}

/// Where each node is.
fn describe(cluster: &Cluster) -> String {
    let node = |id: NodeId| match cluster.partition(id) {
        None => format!("{id}: down"),
        Some(one) => {
            let (log, applied) = (one.log().log(), one.applied().map(|id| id.index));
            let (tail, durable) = (log.last(), log.durable_index());
            let metrics = one.raft().metrics();
            let metrics = metrics.borrow_watched();
            let (state, term, leader) =
                (metrics.state, metrics.current_term, metrics.current_leader);
            let (running, leads) = (&metrics.running_state, one.with_replica(Replica::leads));
            let stopped = log.stopped().map(|why| why.to_string());
            format!(
                "{id}: tail {} of term {}, durable {durable}, applied {applied:?}, {stopped:?}, \
                 {state:?} in {term} of {leader:?}, {running:?}, decides in {leads:?}",
                tail.index, tail.term
            )
        }
    };
    cluster.ids().into_iter().map(node).collect::<Vec<_>>().join("\n")
}

/// Crashes, pauses, cuts and a bad network, for a while. Returns the number of crashes.
async fn torment(cluster: &Cluster, root: &SimRuntime, rng: &mut Rng, nodes: u64) -> u64 {
    let mut crashes = 0;
    let until = root.elapsed() + FAULTS_LAST;
    while root.elapsed() < until {
        root.sleep(Duration::from_millis(rng.between(20, 400))).await;
        let id: NodeId = rng.between(1, nodes);
        for down in cluster.ids().into_iter().filter(|id| cluster.is_down(*id)) {
            if rng.percent(60) {
                cluster.restart(down).await;
            }
        }
        match rng.below(10) {
            0..=2 => {
                crashes += u64::from(!cluster.is_down(id));
                cluster.crash(id);
            }
            3 | 4 => {
                crashes += u64::from(!cluster.is_down(id));
                cluster.crash_at(id, rng.between(1, 60));
            }
            5 => cluster.pause(id, true),
            6 => cluster.ids().into_iter().for_each(|id| cluster.pause(id, false)),
            7 => {
                let other = rng.between(1, nodes);
                cluster.net.cut(id, other, true);
                if rng.percent(60) {
                    cluster.net.cut(other, id, true);
                }
            }
            8 => cluster.net.heal(),
            _ => cluster.net.set_faults(NetFaults {
                delay_micros: (20, rng.between(100, 20_000)),
                lost_per_mille: rng.below(100),
                doubled_per_mille: rng.below(100),
                broken_per_mille: rng.below(30),
            }),
        }
    }
    crashes
}

#[test]
fn nothing_acknowledged_is_lost_or_decided_twice() {
    let runs = each_seed("cluster::nothing_acknowledged", run);
    let sum = |of: fn(&Ran) -> u64| runs.iter().map(of).sum::<u64>();
    println!(
        "{} seeds: {} crashes, {} answers, {} terms, {} s simulated",
        runs.len(),
        sum(|ran| ran.crashes),
        sum(|ran| ran.answers),
        sum(|ran| ran.terms as u64),
        sum(|ran| ran.millis) / 1000,
    );
}

/// The other process runs this test for one seed; it prints the trace.
#[test]
fn same_seed_replays_the_same_run_in_another_process() {
    const SEEDS: u64 = 20;
    if let Ok(seed) = std::env::var(OTHER_PROCESS) {
        return println!("{TRACE} {:016x}", run(seed.parse().unwrap()).trace);
    }
    let traces = each_of("cluster::same_seed", SEEDS, |seed| {
        let here = run(seed).trace;
        let test = "cluster::same_seed_replays_the_same_run_in_another_process";
        let mut other = std::process::Command::new(std::env::current_exe().unwrap());
        other.args([test, "--exact", "--nocapture"]).env(OTHER_PROCESS, seed.to_string());
        let said = String::from_utf8(other.output().unwrap().stdout).unwrap();
        let there = said.lines().find_map(|line| line.split_once(TRACE)).map(|(_, hash)| hash);
        assert_eq!(there, Some(&*format!(" {here:016x}")), "{said}");
        here
    });
    assert!(traces.is_sorted_by(|before, after| before != after), "seeds differ");
}
