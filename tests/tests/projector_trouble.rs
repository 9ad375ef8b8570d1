//! Does the projector wait for failures that pass, and explain those that don't? Nothing may be
//! lost, and no transaction may be left half done, whatever PostgreSQL or the log does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::frame::{FrameHead, HEADER_BYTES, Kind, RequestId, encode_as};
use walengine_net::message::{HelloReply, LogPage};
use walengine_net::model::PartitionId;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::network::Network;
use walengine_tests::postgres::{OWNER, Postgres, Stop};
use walengine_tests::projected_node::ProjectedNode;
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, Server, TestDir};

const PARTITION: PartitionId = PartitionId(0);
const MIB: u64 = 1 << 20;
/// Most growth of the projector's memory while PostgreSQL is away.
const HELD_BYTES_MAX: u64 = 128 * MIB;
/// Exit codes; see projector/src/fatal.rs.
const POSTGRES: i32 = 12;
const SCHEMA: i32 = 13;
const OTHER_LOG: i32 = 14;
const DAMAGED_FEED: i32 = 15;
const SERVER: i32 = 9;

fn said(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn a_postgresql_that_is_away_is_waited_for_with_bounded_memory() {
    let dir = TestDir::new("projector-away");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_0700, 2, 1_000);
    let before = projector.resident_bytes();
    setup.postgres.stop(Stop::Fast);
    // 75 MiB of events, far more than the projector may hold.
    setup.load(75, 8_000);
    thread::sleep(Duration::from_secs(2));
    let held = projector.resident_bytes().saturating_sub(before);
    println!("{} MiB held while PostgreSQL is away", held / MIB);
    assert!(held < HELD_BYTES_MAX, "{} MiB held", held / MIB);
    assert_eq!(said(&projector.log(), "trying again"), 1, "said once: {}", projector.log());
    setup.postgres.serve();
    setup.comes_to_the_end(&mut projector);
    assert_eq!(said(&projector.log(), "works again"), 1, "{}", projector.log());
    setup.projecting.audit_finds_no_difference();
    setup.stop(&mut projector);
}

#[test]
fn a_read_only_postgresql_is_waited_for() {
    let dir = TestDir::new("projector-read-only");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_0800, 2, 500);
    setup.postgres.ask("ALTER SYSTEM SET default_transaction_read_only = on");
    setup.postgres.ask("SELECT pg_reload_conf()");
    thread::sleep(Duration::from_millis(300));
    setup.load(2, 500);
    projector.wait_to_say("read-only transaction");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(said(&projector.log(), "trying again"), 1, "said once: {}", projector.log());
    setup.postgres.ask("ALTER SYSTEM RESET default_transaction_read_only");
    setup.postgres.ask("SELECT pg_reload_conf()");
    setup.comes_to_the_end(&mut projector);
    setup.stop(&mut projector);
}

#[test]
fn a_full_disk_of_postgresql_is_waited_for() {
    let dir = TestDir::new("projector-full_disk");
    let mut disk = LoopDisk::new(dir.path(), 300);
    fs::create_dir(disk.path().join("pg")).unwrap();
    let postgres = Postgres::start_in(&dir.path().join("pg"), &disk.path().join("pg/data"));
    let mut setup = ProjectedNode::with(&dir, 0x5eed_0900, postgres);
    // With a small write-ahead log the tables fill the disk first: a full write-ahead log ends the
    // server.
    setup.postgres.ask("ALTER SYSTEM SET max_wal_size = '64MB'");
    let mut projector = setup.projecting.spawn();
    setup.load(2, 500);
    setup.comes_to_the_end(&mut projector);
    disk.fill(0);
    setup.load(40, 4_000);
    projector.wait_to_say("trying again");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(projector.ended(), None, "{}", projector.log());
    disk.make_room();
    // A server that could not write its write-ahead log has ended, and is restarted as a supervisor
    // would.
    if setup.postgres.ask_as(OWNER, "SELECT 1").is_err() {
        setup.postgres.stop_if_it_runs();
        setup.postgres.serve();
    }
    setup.comes_to_the_end(&mut projector);
    projector.stop();
    setup.server.stop();
    setup.postgres.stop(Stop::Fast);
    disk.unmount();
}

#[test]
fn connections_that_are_cut_lose_nothing_and_a_second_projector_waits_its_turn() {
    let dir = TestDir::new("projector-second");
    let (mut setup, mut first) = ProjectedNode::projected(&dir, 0x5eed_0a00, 2, 500);
    let other = setup.projecting.clone().log_to(&dir.path().join("second.log"));
    let mut second = other.set("--metrics", "127.0.0.1:0").spawn();
    second.wait_to_say("another projector writes partition 0");
    // It is connected and stands by, which is no trouble, and knows how far the first one is.
    second.wait_to_show("standby{partition=\"0\"} 1");
    second.wait_to_show(&format!("next_offset{{partition=\"0\"}} {}", setup.end()));
    let page = second.page();
    for sample in ["postgres_connected{partition=\"0\"} 1", "retries_total{partition=\"0\"} 0"] {
        assert!(page.contains(sample), "{sample}: {page}");
    }
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'walengine-projector'";
    for _ in 0..30 {
        setup.load(1, 400);
        setup.postgres.ask(cut);
    }
    let end = setup.end();
    first.wait_until_at(&setup.postgres, &[end]);
    // Both still run, whichever of them writes, and the tables are right.
    assert_eq!((first.ended(), second.ended()), (None, None), "{}{}", first.log(), second.log());
    first.kill();
    setup.load(3, 400);
    setup.comes_to_the_end(&mut second);
    second.wait_to_show("standby{partition=\"0\"} 0");
    setup.projecting.audit_finds_no_difference();
    setup.stop(&mut second);
}

#[test]
fn a_projector_whose_host_vanished_gives_its_turn_to_another() {
    let dir = TestDir::new("projector-vanished");
    let network = Network::new(1);
    let mut postgres = Postgres::start(&dir.path().join("pg"));
    let url = postgres.serve_on(network.host());
    let mut setup = ProjectedNode::at(network.host(), &dir, 0x5eed_0f00, postgres);
    let servers = setup.server.address().to_string();
    let far = Projecting::new(dir.path(), &servers, &url).inside(&network.namespace(0));
    let mut first = far.log_to(&dir.path().join("far.log")).spawn();
    first.wait_to_say("projecting 1 partitions");
    setup.load(2, 500);
    let end = setup.end();
    first.wait_until_at(&setup.postgres, &[end]);
    let mut second = setup.projecting.spawn();
    second.wait_to_say("another projector writes partition 0");
    setup.load(5, 500);
    network.unplug(0);
    // PostgreSQL does not see its end.
    first.kill();
    setup.comes_to_the_end(&mut second);
    setup.projecting.audit_finds_no_difference();
    setup.stop(&mut second);
}

#[test]
fn a_lasting_failure_ends_in_one_line_that_says_what_to_do() {
    let dir = TestDir::new("projector-lasting");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_0b00);
    let servers = setup.server.address().to_string();
    let with = |postgres: &str| Projecting::new(dir.path(), &servers, postgres);

    setup
        .postgres
        .ask("CREATE ROLE guest LOGIN PASSWORD 'right'; GRANT CREATE ON DATABASE owner TO guest");
    let rules = setup.postgres.data().join("pg_hba.conf");
    let old = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("local all guest scram-sha-256\n{old}")).unwrap();
    setup.postgres.ask("SELECT pg_reload_conf()");
    thread::sleep(Duration::from_millis(300));
    let guest = with(&setup.postgres.url_of("guest", OWNER));
    let line = guest.clone().variable("PGPASSWORD", "wrong").fails_with(POSTGRES);
    assert!(line.contains("refuses the login") && line.contains("--password-file"), "{line}");
    let line = guest.variable("HOME", "/nonexistent").fails_with(POSTGRES);
    assert!(line.contains("asks for what is not set") && line.contains("PGPASSWORD"), "{line}");

    let line = with(&setup.postgres.url_of(OWNER, "nowhere")).fails_with(POSTGRES);
    assert!(line.contains("nowhere") && line.contains("createdb"), "{line}");

    setup.postgres.ask("CREATE ROLE poor LOGIN");
    let line = with(&setup.postgres.url_of("poor", OWNER)).fails_with(POSTGRES);
    assert!(line.contains("permission denied") && line.contains("CREATE"), "{line}");

    let mut projector = setup.projecting.spawn();
    setup.load(3, 500);
    setup.comes_to_the_end(&mut projector);
    projector.stop();

    let versions = "walengine.schema_versions";
    setup.postgres.ask(&format!("INSERT INTO {versions} VALUES (99, 'the future')"));
    let line = setup.projecting.fails_with(SCHEMA);
    assert!(line.contains("version 99") && line.contains("newer walengine-projector"), "{line}");
    setup.postgres.ask(&format!("DELETE FROM {versions} WHERE version = 99"));

    setup.postgres.ask("ALTER TABLE walengine.transfers RENAME COLUMN amount TO sum");
    let line = setup.projecting.fails_with(SCHEMA);
    assert!(line.contains("column amount") && line.contains("changed by hand"), "{line}");
    setup.postgres.ask("ALTER TABLE walengine.transfers RENAME COLUMN sum TO amount");

    setup.postgres.ask("ALTER TABLE walengine.accounts_p0000 RENAME TO gone");
    let line = setup.projecting.fails_with(SCHEMA);
    assert!(line.contains("accounts_p0000") && line.contains("missing"), "{line}");
    setup.postgres.ask("ALTER TABLE walengine.gone RENAME TO accounts_p0000");

    // Also while it runs, and without half a transaction.
    let mut projector = setup.projecting.spawn();
    projector.wait_to_say("projecting 1 partitions");
    setup
        .postgres
        .ask("ALTER TABLE walengine.refused_events ADD COLUMN more text NOT NULL DEFAULT 'x'");
    setup.postgres.ask("ALTER TABLE walengine.refused_events ALTER COLUMN more DROP DEFAULT");
    let before = setup.postgres.ask("SELECT next_offset FROM walengine.positions");
    let rows = setup.postgres.ask("SELECT count(*) FROM walengine.transfers");
    setup.load(1, 500);
    let by = Instant::now() + Duration::from_secs(20);
    while projector.ended().is_none() && Instant::now() < by {
        thread::sleep(Duration::from_millis(20));
    }
    let log = projector.log();
    assert_eq!(projector.ended().and_then(|status| status.code()), Some(SCHEMA), "{log}");
    assert!(log.lines().last().unwrap().contains("changed by hand"), "{log}");
    assert_eq!(setup.postgres.ask("SELECT next_offset FROM walengine.positions"), before);
    assert_eq!(setup.postgres.ask("SELECT count(*) FROM walengine.transfers"), rows);
    setup.postgres.ask("ALTER TABLE walengine.refused_events DROP COLUMN more");
    let mut projector = setup.projecting.spawn();
    setup.comes_to_the_end(&mut projector);
    setup.stop(&mut projector);
}

#[test]
fn another_log_is_not_taken_for_the_one_that_the_database_is_derived_from() {
    let dir = TestDir::new("projector-other-log");
    let (mut setup, mut projector) = ProjectedNode::projected(&dir, 0x5eed_0c00, 3, 500);
    setup.server.stop();
    let kept = dir.path().join("kept");
    copy(&dir.path().join("data"), &kept);
    setup.server = Launch::new(dir.path()).set("--partitions", "1").serve();
    setup.client = setup.server.client();
    projector.stop();
    let servers = |server: &Server| server.address().to_string();
    let from =
        |server: &Server| Projecting::new(dir.path(), &servers(server), &setup.postgres.url());
    let mut projector = from(&setup.server).spawn();
    let batch = setup.mixed.batch(500);
    setup.client.submit(PARTITION, &batch).unwrap();
    let end = setup.client.list_accounts(PARTITION, None, 1, &[]).unwrap().next_offset.0;
    projector.wait_until_at(&setup.postgres, &[end]);
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
    projector.stop();

    // The log was restored from an older copy.
    let home = dir.path().join("restored");
    fs::create_dir(&home).unwrap();
    let restored = Launch::new(&home).data(&kept).set("--partitions", "1");
    let mut server = restored.serve();
    let line = from(&server).fails_with(OTHER_LOG);
    assert!(line.contains("restored") && line.contains("rebuild"), "{line}");

    // The log has grown past the database's position, with another history.
    let client = server.client();
    let mut mixed = Mixed::new(0x5eed_0c01, PARTITION, 1);
    for _ in 0..4 {
        client.submit(PARTITION, &mixed.batch(500)).unwrap();
    }
    let line = from(&server).fails_with(OTHER_LOG);
    assert!(line.contains("history") && line.contains("rebuild"), "{line}");
    server.stop();

    let home = dir.path().join("stranger");
    fs::create_dir(&home).unwrap();
    let mut stranger = Launch::new(&home).set("--partitions", "1").serve();
    let line = from(&stranger).fails_with(OTHER_LOG);
    assert!(line.contains("derived from cluster") && line.contains("--server"), "{line}");
    stranger.stop();
    setup.server.stop();
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Starts a false server, which answers a greeting and sends these bytes as its log.
fn false_server(entries: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let entries = entries.clone();
            thread::spawn(move || {
                let mut header = [0; HEADER_BYTES];
                while stream.read_exact(&mut header).is_ok() {
                    let number =
                        |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
                    let mut body = vec![0; number(24) as usize];
                    stream.read_exact(&mut body).unwrap();
                    let kind = u16::from_le_bytes(header[10..12].try_into().unwrap());
                    let request = u64::from_le_bytes(header[16..24].try_into().unwrap());
                    let head = FrameHead {
                        request: RequestId(request),
                        partition: PARTITION,
                        deadline_millis: 0,
                    };
                    let mut out = Vec::new();
                    let page = LogPage { next_offset: 5, durable_offset: 5, entries: &entries };
                    let encoded = match kind {
                        1 => encode_as(&mut out, Kind::HelloReply, head, &hello()),
                        8 => encode_as(&mut out, Kind::LogPage, head, &page),
                        9 => encode_as(&mut out, Kind::Feed, head, &page),
                        _ => continue,
                    };
                    assert!(encoded.is_ok());
                    if stream.write_all(&out).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn hello() -> HelloReply<'static> {
    HelloReply {
        cluster: 7,
        node: 1,
        next_offset: 5,
        durable_offset: 5,
        partitions: 1,
        is_leader: 1,
        body_bytes_max: 1 << 20,
        events_max: 8190,
        inflight_max: 1024,
        server_version: "false",
        leader: "",
    }
}

#[test]
fn garbage_on_the_feed_is_reported_and_none_of_it_is_written() {
    let dir = TestDir::new("projector-garbage");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let garbage: Vec<u8> = (0..400u32).map(|number| (number * 37 % 251) as u8).collect();
    let address = false_server(garbage).to_string();
    let line = Projecting::new(dir.path(), &address, &postgres.url()).fails_with(DAMAGED_FEED);
    assert!(line.contains("does not continue the log") && line.contains("verify"), "{line}");
    assert_eq!(postgres.ask("SELECT next_offset FROM walengine.positions"), "0");
    assert_eq!(postgres.ask("SELECT count(*) FROM walengine.transfers"), "0");

    // Another protocol altogether.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&[0x55; 4096]);
        }
    });
    let line = Projecting::new(dir.path(), &address, &postgres.url()).fails_with(SERVER);
    assert!(line.contains("does not speak walengine's protocol"), "{line}");
}

#[test]
fn tls_is_spoken_and_the_servers_certificate_is_verified() {
    let dir = TestDir::new("projector-tls");
    let mut setup = ProjectedNode::start(&dir, 0x5eed_0e00);
    setup.postgres.ask("CREATE ROLE ledger LOGIN PASSWORD 'se cret'");
    setup.postgres.ask("CREATE DATABASE ledger OWNER ledger");
    let (port, authority) = setup.postgres.serve_tls("ledger");
    let password = dir.path().join("password");
    fs::write(&password, "se cret\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let servers = setup.server.address().to_string();
    let with = |host: &str, more: &str| {
        let url = format!("postgres://ledger@{host}:{port}/ledger?{more}");
        Projecting::new(dir.path(), &servers, &url)
            .set("--password-file", password.to_str().unwrap())
    };
    let authority = format!("sslrootcert={}", authority.display());
    let verified = with("localhost", &format!("sslmode=verify-full&{authority}"));
    let mut projector = verified.spawn();
    projector.wait_to_say("projecting 1 partitions");
    setup.load(2, 100);
    let end = setup.end();
    let token = format!("{:032x}-0-{}", setup.client.info().cluster.0, end - 1);
    let waited = verified.run(&["wait-for", &token]);
    assert_eq!(waited.status.code(), Some(0), "{}", String::from_utf8_lossy(&waited.stderr));
    let stranger = verified.run(&["wait-for", "1-0-1"]);
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert_eq!(stranger.status.code(), Some(OTHER_LOG), "{said}");
    assert!(said.contains("the token is of cluster"), "{said}");
    projector.stop();

    let other_name = with("127.0.0.1", &format!("sslmode=verify-full&{authority}"));
    let line = other_name.fails_with(POSTGRES);
    assert!(line.contains("no TLS") && line.contains("not valid for name"), "{line}");
    let line = with("localhost", "sslmode=verify-full&sslrootcert=system").fails_with(POSTGRES);
    assert!(line.contains("no TLS") && line.contains("UnknownIssuer"), "{line}");
    let line = with("localhost", "sslmode=disable").fails_with(POSTGRES);
    assert!(line.contains("no encryption"), "{line}");
    let mut projector = with("127.0.0.1", &format!("sslmode=verify-ca&{authority}"))
        .log_to(&dir.path().join("verify-ca.log"))
        .spawn();
    projector.wait_to_say("projecting 1 partitions");
    setup.stop(&mut projector);
}
