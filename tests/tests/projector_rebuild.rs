//! Can the tables be made anew while the old ones serve and the log grows, and can that be interrupted?

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::PartitionId;
use walengine_tests::folded::Folded;
use walengine_tests::mixed::Mixed;
use walengine_tests::postgres::{OWNER, Postgres};
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, TestDir};
use walengine_tests::sim::Rng;

const PARTITION: PartitionId = PartitionId(0);
/// Rebuilds that are killed before one may finish.
const KILLS: u32 = 5;
const BATCH_EVENTS: usize = 500;

/// Loads until it is told to end.
fn load(address: &str, seed: u64, ends: &AtomicBool) {
    let mut client = Client::connect(Config::new(address)).unwrap();
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    client.submit(PARTITION, &mixed.accounts()).unwrap();
    while !ends.load(Ordering::Relaxed) {
        client.submit(PARTITION, &mixed.batch(BATCH_EVENTS)).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
}

/// Never a table that is missing, and never an older state than before.
fn watch(postgres: &Postgres, ends: &AtomicBool) -> u32 {
    let (mut newest, mut asked) = (0, 0);
    while !ends.load(Ordering::Relaxed) {
        let ask = "SELECT next_offset FROM walengine.positions";
        let found = postgres.ask_as(OWNER, ask).unwrap();
        let found: u64 = found.parse().expect("the position is there");
        assert!(found >= newest, "the position moved back from {newest} to {found}");
        newest = found;
        asked += 1;
    }
    asked
}

#[test]
fn tables_are_made_anew_beside_live_ones_and_put_in_their_place() {
    let seed = 0x5eed_0d00;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let dir = TestDir::new("projector-rebuild");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let address = server.address().to_string();
    let projecting = Projecting::new(dir.path(), &address, &postgres.url());
    let mut projector = projecting.spawn();
    projector.wait_to_say("projecting 1 partitions");
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let loader = scope.spawn(|| load(&address, seed, &ends));
        let watcher = scope.spawn(|| watch(&postgres, &ends));
        let ending = Ending(&ends);
        thread::sleep(Duration::from_secs(2));
        let damage = "UPDATE walengine.accounts SET credits_posted = credits_posted + 1
                       WHERE log_offset = 3";
        postgres.ask(damage);
        assert!(!projecting.audit().0, "the damage is found");
        for _ in 0..KILLS {
            let mut rebuild = projecting.spawn_command("rebuild");
            thread::sleep(Duration::from_millis(rng.between(50, 700)));
            rebuild.kill();
        }
        let output = projecting.run(&["rebuild"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{error}");
        thread::sleep(Duration::from_millis(500));
        drop(ending);
        loader.join().unwrap();
        assert!(watcher.join().unwrap() > 20, "somebody looked");
    });
    assert_eq!(projector.ended(), None, "{}", projector.log());
    thread::sleep(Duration::from_millis(2_500)); // what is due expires
    let folded = Folded::read(&mut server.client());
    projector.wait_until_at(&postgres, &folded.ends);
    folded.agrees_with(&postgres);
    let (equal, said) = projecting.audit();
    assert!(equal, "{said}");
    let cluster = server.client().info().cluster;
    let wait = format!("SELECT walengine.walengine_wait_for('{:032x}-0-0')", cluster.0);
    assert_eq!(postgres.ask(&wait), "t", "the function looks at the new tables");
    postgres.ask("DROP SCHEMA walengine_old CASCADE");
    assert_eq!(postgres.ask(&wait), "t", "nothing needs the old ones");
    projector.stop();
    server.stop();
}

/// Ends the load, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
