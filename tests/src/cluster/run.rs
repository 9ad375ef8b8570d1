//! One run of a simulated cluster: clients write and read while everything fails; then the faults
//! stop, and the cluster must serve again and come to one state.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use walengine::partition::replica::Replica;
use walengine::runtime::Runtime;
use walengine_replication::runtime::within;
use walengine_replication::types::NodeId;

use super::bugs::Bug;
use super::liar::lie;
use super::torment::{Counts, Profile, torment};
use super::{Client, Cluster, NetFaults, Observer, Told};
use crate::sim::{Order, Rng, SimExecutor, SimRuntime};

/// Polls of a whole run: far above what any seed needs.
const POLLS_MAX: u64 = 20_000_000;
/// How often the observer looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often one client reads that does not write.
const READ_EVERY: Duration = Duration::from_millis(30);
/// Longest pause of a client between two batches.
const PAUSE_MICROS_MAX: u64 = 50_000;
/// Clients that write all the time in a general run.
const CLIENTS: u64 = 3;
/// When faults are over, the cluster must serve so many batches of a client and come to rest within
/// [`SERVES_WITHIN`].
const BATCHES_AT_END: u64 = 3;
/// A disk that is spared has answered by then whatever it was asked before.
const FAULTS_END_WITHIN: Duration = Duration::from_millis(200);
/// See [`BATCHES_AT_END`].
const SERVES_WITHIN: Duration = Duration::from_secs(20);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Hash over everything that happened.
    pub trace: u64,
    /// Nodes of the cluster.
    pub nodes: u64,
    /// What was done to them.
    pub counts: Counts,
    /// Nodes that stayed out with a damaged log.
    pub out: u64,
    /// Logs that failed with their disk.
    pub failures: u64,
    /// Logs that had no room for another segment.
    pub stalls: u64,
    /// Starts from a snapshot.
    pub restored: u64,
    /// Requests of peers that were not believed, in the last lives of the nodes.
    pub lies: u64,
    /// Events that were answered, repeats included.
    pub answers: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Terms in which a node decided.
    pub terms: usize,
    /// Virtual time.
    pub millis: u64,
}

/// Who works with a cluster while it is harmed.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Nodes; `None`: 3, 5 or 7, as the seed says.
    pub nodes: Option<u64>,
    /// Clients that write all the time.
    pub clients: u64,
    /// They and another read linearizably, too.
    pub reads: bool,
    /// What is wrong with the cluster.
    pub bug: Option<Bug>,
}

/// Runs a cluster whose every fault follows from `seed`.
///
/// # Panics
/// If a promise is broken; the message says which.
pub fn run(seed: u64, profile: Profile) -> Ran {
    run_with(None, seed, profile)
}

/// As [`run`], and one of the nodes lies to the others all the time.
///
/// # Panics
/// As [`run`].
pub fn run_with_liar(seed: u64, profile: Profile) -> Ran {
    let scene = Scene { nodes: None, clients: CLIENTS, reads: true, bug: None };
    play(seed, scene, async |cluster, root, mut rng| {
        let ids = cluster.ids();
        let liar = ids[rng.index(ids.len())];
        cluster.liar.set(Some(liar));
        let own = rng.fork();
        let lies = async {
            lie(cluster, liar, root, own).await;
            unreachable!("it lies for ever")
        };
        futures_lite::future::or(torment(cluster, root, &mut rng, profile), lies).await
    })
}

/// Runs a cluster that has a bug.
///
/// # Panics
/// As [`run`].
pub fn run_with(bug: Option<Bug>, seed: u64, profile: Profile) -> Ran {
    let scene = Scene { nodes: None, clients: CLIENTS, reads: true, bug };
    play(seed, scene, async |cluster, root, mut rng| {
        torment(cluster, root, &mut rng, profile).await
    })
}

/// Runs a cluster to which `harm` does what follows from `seed`.
///
/// # Panics
/// As [`run`].
pub fn play(
    seed: u64,
    scene: Scene,
    harm: impl AsyncFnOnce(&Cluster, &SimRuntime, Rng) -> Counts,
) -> Ran {
    #[cfg(feature = "planted")]
    super::bugs::plant_in_engine(scene.bug);
    let mut rng = Rng::new(seed);
    let executor = SimExecutor::new(rng.next_u64(), Order::Random);
    let root = executor.runtime();
    root.allow_polls(POLLS_MAX);
    let ran = executor
        .block_on(within(root.clone(), live(root.clone(), rng, scene, harm)))
        .expect("every wake-up arrives");
    let millis = root.elapsed().as_millis() as u64;
    Ran { trace: executor.trace(), millis, ..ran }
}

async fn live(
    root: SimRuntime,
    mut rng: Rng,
    scene: Scene,
    harm: impl AsyncFnOnce(&Cluster, &SimRuntime, Rng) -> Counts,
) -> Ran {
    let drawn = [3, 3, 3, 3, 3, 3, 5, 5, 5, 7][rng.index(10)];
    let nodes = scene.nodes.unwrap_or(drawn);
    let cluster = Cluster::form(&root, nodes, rng.next_u64(), scene.bug).await;
    let told = Rc::new(RefCell::new(Told::default()));
    let observer = Rc::new(RefCell::new(Observer::default()));
    let ends = Rc::new(Cell::new(false));

    let (watched, watcher, clock, stop) =
        (cluster.clone(), observer.clone(), root.clone(), ends.clone());
    root.spawn(async move {
        while !stop.get() {
            watcher.borrow_mut().look(&watched);
            clock.sleep(LOOK_EVERY).await;
        }
    });
    Client::new(&cluster, &root, rng.fork()).create_accounts(&told).await;
    let clients = Rc::new(Cell::new(scene.clients));
    for _ in 0..scene.clients {
        let mut client = Client::new(&cluster, &root, rng.fork());
        let (told, stop, left) = (told.clone(), ends.clone(), clients.clone());
        let (clock, mut pace) = (root.clone(), rng.fork());
        root.spawn(async move {
            while !stop.get() {
                client.write(&told).await;
                if scene.reads && pace.percent(20) {
                    client.read(&told).await;
                }
                clock.sleep(Duration::from_micros(pace.below(PAUSE_MICROS_MAX))).await;
            }
            left.set(left.get() - 1);
        });
    }
    let mut reader = Client::new(&cluster, &root, rng.fork());
    let (reads, stop, clock) = (told.clone(), ends.clone(), root.clone());
    root.spawn(async move {
        while scene.reads && !stop.get() {
            reader.read(&reads).await;
            clock.sleep(READ_EVERY).await;
        }
    });
    let counts = harm(&cluster, &root, rng.fork()).await;

    // Faults are over: the cluster must serve again, and come to one state.
    end_faults(&cluster, &root).await;
    let mut last = Client::new(&cluster, &root, rng.fork());
    let serves = Rc::new(Cell::new(false));
    let (told_last, served) = (told.clone(), serves.clone());
    root.spawn(async move {
        for _ in 0..BATCHES_AT_END {
            last.write(&told_last).await;
        }
        served.set(true);
    });
    let by = root.elapsed() + SERVES_WITHIN;
    while !serves.get() {
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
    let Told { answers, reads, .. } = told;
    let (terms, out) = (observer.terms(), nodes - cluster.ids_in().len() as u64);
    let Observer { failures, stalls, .. } = observer;
    let partitions = cluster.ids().into_iter().filter_map(|id| cluster.partition(id));
    let lies = partitions.map(|one| one.commit().dishonest_requests().0).sum();
    let restored = cluster.restored.get();
    Ran {
        nodes,
        counts,
        out,
        failures,
        stalls,
        restored,
        lies,
        answers,
        reads,
        terms,
        ..Ran::default()
    }
}

/// Ends all faults, and starts again what they have stopped.
pub async fn end_faults(cluster: &Cluster, root: &SimRuntime) {
    cluster.net.heal();
    cluster.net.set_faults(NetFaults::NONE);
    for id in cluster.ids() {
        cluster.spare(id);
    }
    root.sleep(FAULTS_END_WITHIN).await; // what was under way may still fail
    for id in cluster.ids() {
        let rotten = !cluster.media.borrow().rotten(id).is_empty();
        if cluster.is_down(id) || cluster.has_failed(id) || rotten {
            cluster.restart(id).await;
        }
        if rotten {
            cluster.retire(id).await;
        }
    }
}

/// Nothing is in flight, and all nodes have the same.
pub fn at_rest(cluster: &Cluster) -> bool {
    let ids = cluster.ids_in();
    let partitions = ids.iter().filter_map(|id| cluster.partition(*id));
    let tails: Vec<_> = partitions
        .map(|one| (one.log().last(), one.log().durable_index(), one.commit().applied()))
        .collect();
    let same = tails.windows(2).all(|pair| pair[0] == pair[1]);
    let applied = |(tail, durable, applied): &(walengine::storage::layout::Tail, u64, _)| {
        tail.index == *durable && walengine::partition::group::raft_log::log_id_of(tail) == *applied
    };
    tails.len() == ids.len() && same && tails.iter().all(applied)
}

/// Where each node is.
pub fn describe(cluster: &Cluster) -> String {
    let node = |id: NodeId| match cluster.partition(id) {
        None => format!("{id}: down"),
        Some(one) => {
            let (log, applied) = (one.log(), one.commit().applied().map(|id| id.index));
            let (tail, durable) = (log.last(), log.durable_index());
            let metrics = one.commit().raft().metrics();
            let metrics = metrics.borrow_watched();
            let (state, term, leader) =
                (metrics.state, metrics.current_term, metrics.current_leader);
            let (running, leads) = (&metrics.running_state, one.with_replica(Replica::leads));
            let stopped = log.stopped().map(|why| why.to_string());
            let now = cluster.runtime(id).elapsed();
            let acked = metrics.last_quorum_acked.map(|at| at.into_inner().since_zero());
            let (matched, acked) = (&metrics.replication, acked.map(|at| now.saturating_sub(at)));
            let (decided, is_busy) = (one.with_replica(Replica::decided), one.is_busy());
            format!(
                "{id}: tail {} of term {}, durable {durable}, applied {applied:?}, {stopped:?}, \
                 {state:?} in {term} of {leader:?}, {running:?}, decides in {leads:?}, {decided} batches on \
                 their way, busy: {is_busy}, others have {matched:?}, heard a majority {acked:?} ago",
                tail.index, tail.term
            )
        }
    };
    cluster.ids().into_iter().map(node).collect::<Vec<_>>().join("\n")
}
