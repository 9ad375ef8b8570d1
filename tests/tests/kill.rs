//! Does a `kill -9` under load, again and again, lose, repeat or reorder anything acknowledged?

use std::thread;
use std::time::Duration;

use walengine_net::message::SubmitReply;
use walengine_net::model::PartitionId;
use walengine_tests::crash_witness::Witness;
use walengine_tests::noted_writes::{Told, Writer, accounts_of, write_until_broken};
use walengine_tests::server::{Launch, Server, TestDir};
use walengine_tests::sim::Rng;

const CYCLES: u64 = 100;
const PARTITIONS: u16 = 2;
/// Clients of each partition.
const CLIENTS: u64 = 2;
/// Longest time from the first request to the kill.
const LOAD_MICROS_MAX: u64 = 30_000;
/// Once in so many cycles the whole history is compared, not only its new part.
const CHECK_ALL_EVERY: u64 = 50;

/// Creates the accounts of each partition, and tells the witness.
pub fn create_accounts(server: &Server, partitions: u16) -> Vec<Told> {
    let create = |number| {
        let partition = PartitionId(number);
        let accounts = accounts_of(partition, partitions);
        let events: Vec<_> = accounts.iter().map(walengine_net::model::Account::to_bytes).collect();
        let submit = walengine_net::message::Submit { events: &events };
        let reply = server.wire(number).call(&submit).unwrap();
        let outcomes: Vec<_> = reply.open::<SubmitReply<'_>>().outcomes().collect();
        assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok()), "{outcomes:?}");
        Told { partition, answered: vec![(events, outcomes)], ..Told::default() }
    };
    (0..partitions).map(create).collect()
}

/// Loads a server until `end` has ended it; returns what the clients were told.
pub fn load(server: &mut Server, rng: &mut Rng, end: impl FnOnce(&mut Server)) -> Vec<Told> {
    let address = server.address();
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..PARTITIONS {
            for _ in 0..CLIENTS {
                let partition = PartitionId(number);
                let accounts = accounts_of(partition, PARTITIONS);
                let writer = Writer::new(rng.next_u64(), &accounts);
                clients.push(
                    scope.spawn(move || write_until_broken(address, partition, writer, || true)),
                );
            }
        }
        thread::sleep(Duration::from_micros(rng.below(LOAD_MICROS_MAX)));
        end(server);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// Settings for crashes of all kinds: two partitions, small segments, frequent snapshots.
pub fn launch(dir: &std::path::Path) -> Launch {
    Launch::new(dir).set("--partitions", "2").set("--snapshot-mib", "1")
}

#[test]
fn nothing_acknowledged_is_lost_repeated_or_reordered_by_a_hundred_kills() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let dir = TestDir::new("kill");
    let launch = launch(dir.path());
    let mut witness = Witness::new(PARTITIONS);
    let mut server = launch.serve();
    let mut told = create_accounts(&server, PARTITIONS);
    for cycle in 1..=CYCLES {
        told.extend(load(&mut server, &mut rng, Server::kill));
        if rng.percent(20) {
            // Killed again during recovery, at any point of it.
            let mut half = launch.spawn();
            thread::sleep(Duration::from_micros(rng.below(40_000)));
            half.kill();
        }
        server = launch.serve();
        witness.check(&server, &told);
        told.clear();
        if cycle % CHECK_ALL_EVERY == 0 {
            witness.check_all(&server);
        }
    }
    println!("{}", witness.summary());
    assert!(witness.acknowledged() > 100 * CYCLES, "there was load: {}", witness.summary());
    server.stop();
}
