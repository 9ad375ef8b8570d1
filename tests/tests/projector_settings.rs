//! Does the projector work whatever is set for its role, its database or its server, and name the
//! cause where it can't?

use std::thread;
use std::time::Duration;

use walengine_net::model::PartitionId;
use walengine_tests::log_fold::Folded;
use walengine_tests::pooler;
use walengine_tests::postgres::OWNER;
use walengine_tests::projected_node::ProjectedNode;
use walengine_tests::projector::Projecting;
use walengine_tests::server::TestDir;

const PARTITION: PartitionId = PartitionId(0);
/// Exit code of [`walengine_net::cli::Reason::Postgres`].
const POSTGRES: i32 = 12;
/// Events of a load.
const EVENTS: usize = 300;

#[test]
fn settings_of_the_role_change_nothing() {
    let dir = TestDir::new("projector-settings");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_1300);
    for setting in [
        "quote_all_identifiers = on",
        "search_path = nowhere, public",
        "statement_timeout = '40ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '20ms'",
        "idle_session_timeout = '300ms'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "\"TimeZone\" = 'Asia/Kolkata'",
        "\"DateStyle\" = 'German, DMY'",
        "\"IntervalStyle\" = 'iso_8601'",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "array_nulls = off",
        "transform_null_equals = on",
        "row_security = off",
        "client_min_messages = debug1",
        "client_encoding = 'LATIN1'",
        "synchronous_commit = off",
    ] {
        setup.postgres.ask(&format!("BEGIN READ WRITE; ALTER ROLE {OWNER} SET {setting}; COMMIT"));
    }
    let mut projector = setup.projecting.spawn();
    setup.load(1, EVENTS);
    thread::sleep(Duration::from_secs(1)); // idle for longer than a session of the role may be
    setup.load(1, EVENTS);
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
    let folded = Folded::read(&mut setup.client);
    projector.wait_until_at(&setup.postgres, &folded.ends);
    setup.projecting.audit_finds_no_difference();
    for command in [&["rebuild"][..], &["status"], &["rebuild", "--from", "0-100"]] {
        let output = setup.projecting.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {said}");
    }
    setup.postgres.ask(&format!("BEGIN READ WRITE; ALTER ROLE {OWNER} RESET ALL; COMMIT"));
    folded.agrees_with(&setup.postgres);
    assert_eq!(projector.ended(), None, "{}", projector.log());
    projector.stop();
    setup.server.stop();
}

#[test]
fn a_read_only_database_and_a_missing_standby_are_named_while_they_are_waited_for() {
    let dir = TestDir::new("projector-standby");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_1301);
    let set = |name: &str, value: &str| {
        setup.postgres.ask(&format!("BEGIN READ WRITE; {name} {value}; COMMIT"));
    };
    set(&format!("ALTER DATABASE {OWNER} SET"), "default_transaction_read_only = on");
    let mut projector = setup.projecting.spawn();
    projector.wait_to_say("default_transaction_read_only is on (database)");
    set(&format!("ALTER DATABASE {OWNER} RESET"), "default_transaction_read_only");
    setup.comes_to_the_end(&mut projector);

    setup.postgres.ask("ALTER SYSTEM SET synchronous_standby_names = 'gone'");
    setup.postgres.ask("SELECT pg_reload_conf()");
    thread::sleep(Duration::from_millis(500));
    setup.load(1, EVENTS);
    projector.wait_to_say("a synchronous standby, and none answers");
    assert!(
        projector.log().contains("synchronous_standby_names (now 'gone')"),
        "{}",
        projector.log()
    );
    setup.postgres.ask("ALTER SYSTEM RESET synchronous_standby_names");
    setup.postgres.ask("SELECT pg_reload_conf()");
    setup.comes_to_the_end(&mut projector);
    projector.wait_to_say("and goes on");

    // A lock that somebody holds, and who that is.
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            setup
                .postgres
                .ask("BEGIN; LOCK TABLE walengine.transfers_p0000; SELECT pg_sleep(8); COMMIT")
        });
        thread::sleep(Duration::from_millis(500));
        setup.client.submit(PARTITION, &setup.mixed.batch(300)).unwrap();
        projector.wait_to_say("a lock that is held by session");
        held.join().unwrap();
    });
    assert!(projector.log().contains("(psql, user owner, active)"), "{}", projector.log());
    setup.comes_to_the_end(&mut projector);
    projector.stop();
    setup.server.stop();
}

#[test]
fn a_pooler_that_shares_sessions_is_named() {
    let dir = TestDir::new("projector-pooler");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_1302);
    let servers = setup.server.address().to_string();
    let address = pooler::start(setup.postgres.host().as_ref(), OWNER);
    let url = format!("postgres://{OWNER}@{address}/{OWNER}?sslmode=disable");
    let line = Projecting::new(dir.path(), &servers, &url).fails_with(POSTGRES);
    assert!(line.contains("pooler") && line.contains("pool_mode=session"), "{line}");
    assert!(!line.contains("by hand"), "{line}");
    let mut projector = setup.projecting.spawn();
    setup.load(1, EVENTS);
    setup.comes_to_the_end(&mut projector);
    projector.stop();
    setup.server.stop();
}
