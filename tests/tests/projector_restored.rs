//! After a log was restored from an older copy: does a rebuild say why, end, and hold no lock that
//! anybody waits for without a bound?

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::model::PartitionId;
use walengine_tests::log_fold::Folded;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, Server, TestDir, run_command};

const PARTITION: PartitionId = PartitionId(0);
/// Exit code of [`walengine_net::cli::Reason::OtherLog`].
const OTHER_LOG: i32 = 14;
/// How long a wait with a shorter bound may take in all, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn load(server: &Server, mixed: &mut Mixed, batches: usize) {
    let client = server.client();
    for _ in 0..batches {
        client.submit(PARTITION, &mixed.batch(300)).unwrap();
    }
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
}

#[test]
fn a_rebuild_from_an_older_or_another_log_ends_and_says_why() {
    let dir = TestDir::new("projector-restored");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let launch = Launch::new(dir.path()).set("--partitions", "1");
    let mut server = launch.serve();
    let mut mixed = Mixed::new(0x5eed_1400, PARTITION, 1);
    server.client().submit(PARTITION, &mixed.accounts()).unwrap();
    load(&server, &mut mixed, 2);
    server.stop();
    let kept = dir.path().join("kept");
    copy(&dir.path().join("data"), &kept);
    let mut server = launch.serve();
    let projecting = |server: &Server| {
        Projecting::new(dir.path(), &server.address().to_string(), &postgres.url())
    };
    let mut projector = projecting(&server).spawn();
    load(&server, &mut mixed, 2);
    let before = Folded::read(&mut server.client());
    projector.wait_until_at(&postgres, &before.ends);
    projector.stop();
    server.stop();

    // The older copy. What the projector advises is what works.
    let home = dir.path().join("restored");
    fs::create_dir(&home).unwrap();
    let mut server = Launch::new(&home).data(&kept).set("--partitions", "1").serve();
    let older = Folded::read(&mut server.client());
    let line = projecting(&server).fails_with(OTHER_LOG);
    assert!(line.contains("run `walengine-projector rebuild`"), "{line}");
    let cluster = server.client().info().cluster.0;
    let wait = format!(
        "SELECT walengine.walengine_wait_for('{cluster:032x}-0-{}', '2 seconds')",
        before.ends[0]
    );
    let output = thread::scope(|scope| {
        let rebuild = scope.spawn(|| projecting(&server).run(&["rebuild"]));
        while !rebuild.is_finished() {
            let begun = Instant::now();
            assert_eq!(postgres.ask(&wait), "f");
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        }
        rebuild.join().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (was, is) = (before.ends[0], older.ends[0]);
    assert!(said.contains(&format!("at position {was}, the log ends at {is}")), "{said}");
    assert!(
        said.contains("restored from an older copy") && said.contains("walengine_old"),
        "{said}"
    );
    older.agrees_with(&postgres);
    let kept = postgres.ask("SELECT count(*) FROM walengine_old.transfers_p0000");
    assert_eq!(kept, before.transfers().to_string(), "what the log has lost is still there");
    let mut projector = projecting(&server).spawn();
    load(&server, &mut mixed, 1);
    let folded = Folded::read(&mut server.client());
    projector.wait_until_at(&postgres, &folded.ends);
    projector.stop();

    // Somebody reads for long: the rebuild says who, lets others read, and goes on afterwards. They read
    // while he does, because he goes on until they have.
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            postgres.ask(
                "BEGIN; SELECT count(*) FROM walengine.transfers;
                 DO $$ BEGIN
                     FOR i IN 1..600 LOOP
                         EXIT WHEN EXISTS (SELECT FROM pg_class WHERE relname = 'enough');
                         PERFORM pg_sleep(0.1);
                     END LOOP;
                 END $$; COMMIT",
            )
        });
        thread::sleep(Duration::from_millis(300));
        let log = dir.path().join("rebuild.log");
        let mut rebuild = projecting(&server).log_to(&log).spawn_command("rebuild");
        rebuild.wait_to_say("held by session");
        let read = "SET lock_timeout = '25s'; SELECT count(*) > 0 FROM walengine.transfers";
        assert_eq!(postgres.ask(read), "t");
        postgres.ask("CREATE TABLE public.enough ()");
        reader.join().unwrap();
        rebuild.wait_to_say("has the new tables");
        assert!(rebuild.log().contains("(psql, user owner, active)"), "{}", rebuild.log());
    });
    server.stop();

    // A log with another id may be anybody's, unless it is said that it is not.
    let home = dir.path().join("other");
    fs::create_dir(&home).unwrap();
    let mut other = Launch::new(&home).set("--partitions", "1").serve();
    let mut mixed = Mixed::new(0x5eed_1401, PARTITION, 1);
    other.client().submit(PARTITION, &mixed.accounts()).unwrap();
    load(&other, &mut mixed, 1);
    let line = projecting(&other).fails_with(OTHER_LOG);
    assert!(line.contains("`walengine-projector rebuild --other-cluster`"), "{line}");
    let output = projecting(&other).run(&["rebuild"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(OTHER_LOG), "{said}");
    assert!(said.contains("--other-cluster") && said.contains("nothing was changed"), "{said}");
    let output = projecting(&other).run(&["rebuild", "--other-cluster"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let mut projector = projecting(&other).log_to(&dir.path().join("other.log")).spawn();
    load(&other, &mut mixed, 1);
    let folded = Folded::read(&mut other.client());
    projector.wait_until_at(&postgres, &folded.ends);
    folded.agrees_with(&postgres);
    projecting(&other).audit_finds_no_difference();
    projector.stop();
    other.stop();
}

/// Runs a command of walengine, which must succeed.
fn run(server: Option<&Server>, dir: &Path, arguments: &[&str]) {
    let output = run_command(server, dir, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
}

#[test]
fn a_projector_that_meets_a_restored_backup_says_what_to_do_and_that_works() {
    let dir = TestDir::new("projector-backup");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let projecting = |server: &Server| {
        Projecting::new(dir.path(), &server.address().to_string(), &postgres.url())
    };
    let mut mixed = Mixed::new(0x5eed_1402, PARTITION, 1);
    server.client().submit(PARTITION, &mixed.accounts()).unwrap();
    load(&server, &mut mixed, 2);
    run(Some(&server), dir.path(), &["backup", "backup"]);
    load(&server, &mut mixed, 1); // the restore loses these
    let mut projector = projecting(&server).spawn();
    projector.wait_until_at(&postgres, &Folded::read(&mut server.client()).ends);
    projector.stop();
    server.stop();

    run(None, dir.path(), &["restore", "backup", "restored", "--segment-mib", "8"]);
    let restored = Launch::new(dir.path()).data(&dir.path().join("restored")).serve();
    let line = projecting(&restored).fails_with(OTHER_LOG);
    assert!(line.contains("`walengine-projector rebuild --other-cluster`"), "{line}");
    let output = projecting(&restored).run(&["rebuild", "--other-cluster"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let mut projector = projecting(&restored).log_to(&dir.path().join("restored.log")).spawn();
    load(&restored, &mut mixed, 1);
    let folded = Folded::read(&mut restored.client());
    projector.wait_until_at(&postgres, &folded.ends);
    folded.agrees_with(&postgres);
    projecting(&restored).audit_finds_no_difference();
    projector.stop();
}
