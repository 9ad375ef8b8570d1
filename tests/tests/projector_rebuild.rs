//! Can the tables be recreated while the old ones serve and the log grows, and can that be
//! interrupted?

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::PartitionId;
use walengine_tests::log_fold::Folded;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::postgres::{OWNER, Postgres};
use walengine_tests::projector::{EndsLoad, Projecting};
use walengine_tests::server::{Launch, TestDir};
use walengine_tests::sim::Rng;

const PARTITION: PartitionId = PartitionId(0);
/// Rebuilds that are killed before one is let finish.
const KILLS: u32 = 5;
/// Looks at the positions once the tables are replaced.
const LOOKS: u32 = 20;
const BATCH_EVENTS: usize = 500;
/// Batches before a rebuild that begins at a later position.
const BATCHES: usize = 30;

/// Sends batches until the load ends.
fn load(address: &str, seed: u64, ends: &AtomicBool) {
    let client = Client::connect(Config::new(address)).unwrap();
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    client.submit(PARTITION, &mixed.accounts()).unwrap();
    while !ends.load(Ordering::Relaxed) {
        client.submit(PARTITION, &mixed.batch(BATCH_EVENTS)).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
}

/// Checks that the table is never missing and never shows an older state than before.
fn watch(postgres: &Postgres, ends: &AtomicBool, looks: &AtomicU32) {
    let mut newest = 0;
    while !ends.load(Ordering::Relaxed) {
        let ask = "SELECT next_offset FROM walengine.positions";
        let found = postgres.ask_as(OWNER, ask).unwrap();
        let found: u64 = found.parse().expect("the position is there");
        assert!(found >= newest, "the position moved back from {newest} to {found}");
        newest = found;
        looks.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn tables_are_recreated_beside_live_ones_and_replace_them() {
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
    let (ends, looks) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let loader = scope.spawn(|| load(&address, seed, &ends));
        let watcher = scope.spawn(|| watch(&postgres, &ends, &looks));
        let ending = EndsLoad(&ends);
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
        // Somebody looks at what has replaced the tables, too.
        let by = Instant::now() + Duration::from_mins(2);
        let wanted = looks.load(Ordering::Relaxed) + LOOKS;
        while looks.load(Ordering::Relaxed) < wanted && !watcher.is_finished() {
            assert!(Instant::now() < by, "nobody can look any more");
            thread::sleep(Duration::from_millis(10));
        }
        drop(ending);
        loader.join().unwrap();
        watcher.join().unwrap();
    });
    assert_eq!(projector.ended(), None, "{}", projector.log());
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
    let folded = Folded::read(&mut server.client());
    projector.wait_until_at(&postgres, &folded.ends);
    folded.agrees_with(&postgres);
    projecting.audit_finds_no_difference();
    let cluster = server.client().info().cluster;
    let wait = format!("SELECT walengine.walengine_wait_for('{:032x}-0-0')", cluster.0);
    assert_eq!(postgres.ask(&wait), "t", "the function looks at the new tables");
    postgres.ask("DROP SCHEMA walengine_old CASCADE");
    assert_eq!(postgres.ask(&wait), "t", "nothing needs the old ones");
    projector.stop();
    server.stop();
}

#[test]
fn a_rebuild_from_a_later_position_keeps_what_stands_before_it_and_proves_it() {
    let seed = 0x5eed_0d01;
    println!("seed {seed:#x}");
    let dir = TestDir::new("projector-rebuild-from");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let address = server.address().to_string();
    let projecting = Projecting::new(dir.path(), &address, &postgres.url());
    let mut projector = projecting.spawn();
    let client = server.client();
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    client.submit(PARTITION, &mixed.accounts()).unwrap();
    for _ in 0..BATCHES {
        client.submit(PARTITION, &mixed.batch(BATCH_EVENTS)).unwrap();
    }
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
    let folded = Folded::read(&mut server.client());
    projector.wait_until_at(&postgres, &folded.ends);
    for switched in ["close", "reopen"] {
        let count =
            format!("SELECT count(*) FROM walengine.account_events WHERE kind = '{switched}'");
        assert_ne!(postgres.ask(&count), "0", "the load has all that accounts are summed up from");
    }
    let end = folded.ends[0];
    for part in [end / 9, end / 3, end / 2, end - 1] {
        let damage =
            "UPDATE walengine.transfers SET amount = amount + 1
              WHERE log_offset = (SELECT max(log_offset) FROM walengine.transfers);
             UPDATE walengine.accounts SET credits_posted = credits_posted + 1 WHERE log_offset = 3";
        postgres.ask(damage);
        assert!(!projecting.audit().0, "the damage is found");
        let newest = postgres.ask("SELECT max(log_offset) FROM walengine.transfers");
        let from = part.min(newest.parse().unwrap());
        let output = projecting.run(&["rebuild", "--from", &format!("0-{from}")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "from {from}: {error}");
        assert!(error.contains("kept the rows before"), "from {from}: {error}");
        folded.agrees_with(&postgres);
        assert!(projecting.audit().0, "from {from}");
    }
    // Kept rows are audited, too.
    let damage = "UPDATE walengine.transfers SET amount = amount + 1
                   WHERE log_offset = (SELECT min(log_offset) FROM walengine.transfers)";
    postgres.ask(damage);
    let output = projecting.run(&["rebuild", "--from", &format!("0-{}", end / 2)]);
    assert_ne!(output.status.code(), Some(0), "a kept row differs");
    assert!(!projecting.audit().0, "nothing was swapped");
    assert_eq!(projecting.run(&["rebuild", "--anew"]).status.code(), Some(0));
    folded.agrees_with(&postgres);
    // What is known of audits outlives the tables, and ends with that of the rebuild. The one that put nothing in place is no audit
    // of what is there.
    let outcomes = "SELECT string_agg(outcome, ' ' ORDER BY began_at) FROM walengine.audits";
    let mended = "different equal equal ".repeat(4);
    assert_eq!(postgres.ask(outcomes), format!("{mended}different equal"));
    for (from, says) in [("7-1", "there are 0 to 0"), ("0-99999999", "earlier"), ("x", "0-500000")]
    {
        let output = projecting.run(&["rebuild", "--anew", "--from", from]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(0));
        assert!(error.contains(says), "{from}: {error}");
    }
    projector.stop();
    server.stop();
}
