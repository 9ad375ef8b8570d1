//! Is every acknowledged transfer in PostgreSQL exactly once, whoever is killed, and whenever?

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, Config};
use walengine_net::model::{EventBytes, PartitionId, event_id};
use walengine_tests::log_fold::Folded;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::nodes::Nodes;
use walengine_tests::postgres::{Postgres, Stop};
use walengine_tests::projector::{EndsLoad, Projecting, Projector};
use walengine_tests::server::Launch;
use walengine_tests::sim::Rng;

/// Percentage of the kills and events below; an acceptance run has all of them.
const VARIABLE: &str = "WALENGINE_PROJECTOR_KILLS_PERCENT";
const PERCENT_DEFAULT: u64 = 10;
const PROJECTOR_KILLS: u64 = 100;
const LEADER_KILLS: u64 = 30;
const POSTGRES_KILLS: u64 = 30;
const EVENTS: u64 = 1_000_000;
const BATCH_EVENTS: usize = 4_000;
const LOADERS: u64 = 2;
/// Longest pause between kills; the pauses are random.
const PAUSE_MILLIS_MAX: u64 = 300;
const DEADLINE: Duration = Duration::from_mins(1);
const ELECTION_MILLIS: &str = "300";
const PARTITION: PartitionId = PartitionId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Projector,
    Leader,
    Postgres,
}

fn client(addresses: &str) -> Client {
    let config = Config { deadline: DEADLINE, ..Config::new(addresses) };
    Client::connect(config).unwrap()
}

/// Limits the load, so that there is some at every kill and not much more altogether.
#[derive(Debug, Default)]
struct Pace {
    ends: AtomicBool,
    sent: AtomicU64,
    allowed: AtomicU64,
}

/// Sends batches until the load ends, each again until it is answered. Returns the accepted ids.
fn load(addresses: &str, seed: u64, pace: &Pace) -> Vec<u128> {
    let mut client = client(addresses);
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    let mut accepted = Vec::new();
    let accounts = mixed.accounts();
    submit(&mut client, &accounts);
    while !pace.ends.load(Ordering::Relaxed) {
        if pace.sent.load(Ordering::Relaxed) >= pace.allowed.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let events = mixed.batch(BATCH_EVENTS);
        let verdicts = submit(&mut client, &events);
        let ids = events.iter().zip(verdicts).filter(|(_, is_ok)| *is_ok);
        accepted.extend(ids.map(|(event, _)| event_id(event)));
        pace.sent.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
    accepted
}

fn submit(client: &mut Client, events: &[EventBytes]) -> Vec<bool> {
    let by = Instant::now() + 3 * DEADLINE;
    loop {
        match client.submit(PARTITION, events) {
            Ok(submitted) => {
                return submitted.outcomes().map(|outcome| outcome.verdict.is_ok()).collect();
            }
            Err(error @ (ClientError::Closed | ClientError::TooMany { .. })) => panic!("{error}"),
            Err(error) => assert!(Instant::now() < by, "{error}"),
        }
    }
}

fn kill(victim: Victim, rng: &mut Rng, nodes: &mut Nodes, world: &mut World) {
    match victim {
        Victim::Projector => {
            world.projector.kill();
            world.projector = world.projecting.spawn();
        }
        Victim::Leader => {
            let leader = nodes.leader();
            nodes.kill(leader);
            thread::sleep(Duration::from_millis(rng.below(200)));
            nodes.spawn(leader);
            nodes.wait_until_serving();
        }
        Victim::Postgres => {
            let how = if rng.percent(50) { Stop::Kill } else { Stop::Immediate };
            world.postgres.stop(how);
            thread::sleep(Duration::from_millis(rng.below(300)));
            world.postgres.serve();
        }
    }
}

struct World {
    postgres: Postgres,
    projecting: Projecting,
    projector: Projector,
}

#[test]
fn every_acknowledged_transfer_is_in_postgresql_once_whoever_is_killed() {
    let seed = 0x5eed_0600;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let configure = |launch: Launch| launch.set("--election-millis", ELECTION_MILLIS);
    let mut nodes = Nodes::start("projector-kill", 3, configure);
    let dir = nodes.dir();
    let addresses = nodes.addresses();
    let postgres = Postgres::start(&dir.join("pg"));
    let projecting = Projecting::new(&dir, &addresses, &postgres.url());
    let projector = projecting.spawn();
    let mut world = World { postgres, projecting, projector };
    let percent = std::env::var(VARIABLE).map_or(PERCENT_DEFAULT, |text| text.parse().unwrap());
    let part = |whole: u64| (whole * percent).div_ceil(100);
    let mut victims = Vec::new();
    for (victim, kills) in [
        (Victim::Projector, PROJECTOR_KILLS),
        (Victim::Leader, LEADER_KILLS),
        (Victim::Postgres, POSTGRES_KILLS),
    ] {
        victims.extend((0..part(kills)).map(|_| victim));
    }
    rng.shuffle(&mut victims);
    let started = Instant::now();
    let pace = Pace::default();
    let share = part(EVENTS).div_ceil(victims.len() as u64);
    let accepted: Vec<u128> = thread::scope(|scope| {
        let (addresses, pace) = (&addresses, &pace);
        let loader = |number| scope.spawn(move || load(addresses, seed + number, pace));
        let loaders: Vec<_> = (0..LOADERS).map(loader).collect();
        let ending = EndsLoad(&pace.ends);
        for victim in victims {
            println!("{:?}: {victim:?}", started.elapsed());
            pace.allowed.fetch_add(share, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(rng.below(PAUSE_MILLIS_MAX)));
            kill(victim, &mut rng, &mut nodes, &mut world);
            assert_eq!(world.projector.ended(), None, "{}", world.projector.log());
        }
        while pace.sent.load(Ordering::Relaxed) < part(EVENTS) {
            thread::sleep(Duration::from_millis(100));
        }
        drop(ending);
        loaders.into_iter().flat_map(|loader| loader.join().unwrap()).collect()
    });
    // Pending transfers with a timeout expire. Then the log does not change any more.
    thread::sleep(Duration::from_millis(2_500));
    let folded = Folded::read(&mut client(&addresses));
    println!(
        "{} events sent, {} acknowledged as accepted, {} transfers in the log, {} refused",
        pace.sent.load(Ordering::Relaxed),
        accepted.len(),
        folded.transfers(),
        folded.refused()
    );
    world.projector.wait_until_at(&world.postgres, &folded.ends);
    folded.agrees_with(&world.postgres);
    let there: HashSet<u128> = folded.ids().collect();
    let lost = accepted.iter().find(|id| !there.contains(id));
    assert_eq!(lost, None, "acknowledged and not in the log");
    println!("{}", world.projecting.audit_finds_no_difference());
    world.projector.stop();
    for node in 0..nodes.count() {
        nodes.server(node).stop();
    }
}
