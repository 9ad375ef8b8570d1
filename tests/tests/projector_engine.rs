//! Does everybody see whether the engine lives, how far its log reaches, and how far PostgreSQL is
//! behind it?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::model::PartitionId;
use walengine_tests::metric_names::{PROJECTOR, dashboard, rules, shown, used};
use walengine_tests::mixed_events::Mixed;
use walengine_tests::postgres::{Postgres, Stop};
use walengine_tests::projector::{Projecting, Projector};
use walengine_tests::server::{Launch, TestDir};

const PARTITION: PartitionId = PartitionId(0);
const PATIENCE: Duration = Duration::from_mins(1);
/// Exit code of [`walengine_net::cli::Reason::Server`].
const SERVER: i32 = 9;

fn metrics_address(projector: &mut Projector) -> SocketAddr {
    projector.wait_to_say("metrics on http://");
    let log = projector.log();
    let (_, behind) = log.split_once("metrics on http://").unwrap();
    behind.split('/').next().unwrap().parse().unwrap()
}

/// The value of a metric of partition 0.
fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = page(address);
    sample(&text, &format!("{name}{{partition=\"0\"}}"))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The value of a sample, if there is one.
fn sample(page: &str, name: &str) -> Option<f64> {
    let begin = format!("walengine_projector_{name} ");
    page.lines().find_map(|line| line.strip_prefix(&begin)).map(|value| value.parse().unwrap())
}

fn page(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Whether a metric of partition 0 is 1.
fn is(address: SocketAddr, name: &str) -> bool {
    metric(address, name) > 0.5
}

fn float(offset: u64) -> f64 {
    f64::from(u32::try_from(offset).unwrap())
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let by = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < by, "{what} does not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

fn code(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The columns of the only partition in the answer of `status`.
fn columns(stdout: &str) -> Vec<(String, String)> {
    let mut lines = stdout.lines();
    let words = |line: Option<&str>| -> Vec<String> {
        // The state may be two words.
        let line = line.unwrap_or_default().replace("gone ", "gone-").replace("no answer", "none");
        line.split_whitespace().map(str::to_owned).collect()
    };
    let (names, values) = (words(lines.next()), words(lines.next()));
    names.into_iter().zip(values).collect()
}

fn column(stdout: &str, name: &str) -> String {
    let all = columns(stdout);
    let found = all.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {stdout}")).1.clone()
}

#[test]
fn a_dead_engine_is_told_once_and_shown_until_it_is_back() {
    let dir = TestDir::new("projector-engine");
    let mut postgres = Postgres::start(&dir.path().join("pg"));
    let launch = Launch::new(dir.path()).set("--partitions", "1");
    let mut server = launch.serve();
    let address = server.address();
    let projecting = Projecting::new(dir.path(), &address.to_string(), &postgres.url());
    let client = server.client();
    let mut mixed = Mixed::new(0x5eed_1200, PARTITION, 1);
    client.submit(PARTITION, &mixed.accounts()).unwrap();
    let mut projector = projecting.clone().set("--metrics", "127.0.0.1:0").spawn();
    let metrics = metrics_address(&mut projector);
    let end =
        |client: &Client| client.list_accounts(PARTITION, None, 1, &[]).unwrap().next_offset.0;
    // Before the position is known, it is not shown.
    wait_for("the end", || {
        let next = sample(&page(metrics), "next_offset{partition=\"0\"}");
        next.is_some_and(|next| next >= float(end(&client)))
    });

    // Rules and dashboard name nothing else.
    let shown = shown(&page(metrics));
    for file in [rules(), dashboard()] {
        let used = used(&file);
        let of_projector = used.iter().filter(|name| name.starts_with(PROJECTOR));
        let missing: Vec<_> = of_projector.filter(|name| !shown.contains(*name)).collect();
        assert!(missing.is_empty(), "{} names what no page has: {missing:?}", file.display());
    }

    // With PostgreSQL away, the lag is what the log has more.
    postgres.stop(Stop::Fast);
    client.submit(PARTITION, &mixed.batch(300)).unwrap();
    wait_for("the lag", || metric(metrics, "lag_records") > 50.0);
    wait_for("the state", || !is(metrics, "postgres_connected"));
    assert!(is(metrics, "engine_connected"));
    wait_for("the time", || metric(metrics, "lag_seconds") > 1.0);
    postgres.serve();
    thread::sleep(Duration::from_millis(2_500)); // pending transfers expire
    wait_for("the end", || metric(metrics, "next_offset") >= float(end(&client)));
    assert!(is(metrics, "postgres_connected"));
    wait_for("a note", || {
        !postgres.ask("SELECT FROM walengine.log_ends").is_empty()
            || postgres.ask("SELECT count(*) FROM walengine.log_ends") == "1"
    });
    let known = end(&client);
    wait_for("the end in the notes", || {
        postgres.ask("SELECT log_end FROM walengine.log_ends") == known.to_string()
    });
    let (status, out, error) = code(&projecting.run(&["status"]));
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(column(&out, "engine"), "connected");
    assert_eq!(
        (column(&out, "lag_records"), column(&out, "lag_seconds")),
        ("0".into(), "0.000".into())
    );

    server.kill();
    projector.wait_to_say("the engine is gone");
    wait_for("the state", || !is(metrics, "engine_connected"));
    wait_for("the age", || metric(metrics, "log_end_age_seconds") > 2.0);
    assert!(metric(metrics, "retries_total") >= 1.0);
    assert!((metric(metrics, "log_end") - float(known)).abs() < 0.5);
    assert!(metric(metrics, "lag_records") < 0.5);
    assert!(metric(metrics, "lag_seconds").abs() < f64::EPSILON, "idle time is no lag");
    let log = projector.log();
    let line = log.lines().find(|line| line.contains("the engine is gone")).unwrap();
    assert!(
        line.contains(&format!("ended at {known}")) && line.contains("lag 0 records"),
        "{line}"
    );
    wait_for("a note", || {
        postgres.ask("SELECT gone_since IS NOT NULL FROM walengine.log_ends") == "t"
    });
    let (status, out, error) = code(&projecting.run(&["status"]));
    assert_eq!(status, Some(SERVER), "{out}{error}");
    assert!(
        error.contains("no answer from walengine") && error.contains(&address.to_string()),
        "{error}"
    );
    assert_eq!(column(&out, "position"), known.to_string());
    assert_eq!(column(&out, "log_end"), known.to_string(), "as last known");
    assert!(column(&out, "engine").starts_with("gone-"), "{out}");
    assert!(column(&out, "end_age_s").parse::<f64>().unwrap() > 1.0, "{out}");

    let mut server = Launch::new(dir.path()).set("--listen", &address.to_string()).serve();
    projector.wait_to_say("the engine is back");
    wait_for("the state", || is(metrics, "engine_connected"));
    let client = server.client();
    client.submit(PARTITION, &mixed.batch(300)).unwrap();
    assert!(end(&client) > known);
    wait_for("the end", || metric(metrics, "next_offset") >= float(end(&client)));
    // Nothing was written for a while before that, which is no lag.
    assert!(metric(metrics, "lag_seconds") < 5.0);
    for what in ["the engine is gone", "the engine is back"] {
        let count = projector.log().lines().filter(|line| line.contains(what)).count();
        assert_eq!(count, 1, "{what}: {}", projector.log());
    }
    projector.stop();
    server.stop();
}

#[test]
fn metrics_are_there_before_anybody_answers() {
    let dir = TestDir::new("projector-start");
    let mut postgres = Postgres::start(&dir.path().join("pg"));
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let address = server.address().to_string();
    let projecting =
        Projecting::new(dir.path(), &address, &postgres.url()).set("--metrics", "127.0.0.1:0");

    // A server that takes connections and says nothing, and a new database.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = silent.try_clone().unwrap();
    thread::spawn(move || held.incoming().collect::<Vec<_>>());
    let silent = silent.local_addr().unwrap().to_string();
    let with_silent = Projecting::new(dir.path(), &silent, &postgres.url())
        .set("--metrics", "127.0.0.1:0")
        .log_to(&dir.path().join("silent.log"));
    let mut projector = with_silent.spawn();
    let metrics = metrics_address(&mut projector);
    assert_eq!(sample(&page(metrics), "engine_connected"), Some(0.0));
    wait_for("PostgreSQL", || sample(&page(metrics), "postgres_connected") == Some(1.0));
    projector.stop();

    // An earlier run leaves what it knows.
    let client = server.client();
    let mixed = Mixed::new(0x5eed_1201, PARTITION, 1);
    client.submit(PARTITION, &mixed.accounts()).unwrap();
    let end = client.list_accounts(PARTITION, None, 1, &[]).unwrap().next_offset.0;
    let mut projector = projecting.clone().log_to(&dir.path().join("before.log")).spawn();
    projector.wait_until_at(&postgres, &[end]);
    wait_for("a note", || {
        postgres.ask("SELECT sum(log_end) FROM walengine.log_ends") == end.to_string()
    });
    projector.stop();
    // As if the projector had been that far behind.
    postgres.ask(
        "UPDATE walengine.log_ends SET log_end = log_end + 7, seen_at = now() - interval '1 hour'",
    );
    server.kill();
    let status = Projecting::new(dir.path(), &address, &postgres.url());
    let (code, out, error) = code(&status.run(&["status"]));
    assert_eq!(code, Some(SERVER), "{out}{error}");
    let log_end = (column(&out, "log_end"), column(&out, "lag_records"));
    assert_eq!(log_end, ((end + 7).to_string(), "7".to_owned()), "as last known: {out}");
    let mut projector = projecting.clone().spawn();
    let metrics = metrics_address(&mut projector);
    wait_for("what is known", || {
        sample(&page(metrics), "lag_records{partition=\"0\"}") == Some(7.0)
    });
    assert!(!is(metrics, "engine_connected"));
    assert!((metric(metrics, "log_end") - float(end + 7)).abs() < 0.5);
    assert!(metric(metrics, "log_end_age_seconds") >= 3600.0);
    assert!(metric(metrics, "lag_seconds") > 0.0);
    assert!(is(metrics, "postgres_connected"));
    wait_for("an attempt", || metric(metrics, "retries_total") >= 1.0);
    postgres.stop(Stop::Fast);
    wait_for("PostgreSQL's end", || !is(metrics, "postgres_connected"));

    // The engine comes first: its end is known, the position is not made up.
    projector.kill();
    let mut server = Launch::new(dir.path()).set("--listen", &address).serve();
    let mut projector = projecting.clone().log_to(&dir.path().join("after.log")).spawn();
    let metrics = metrics_address(&mut projector);
    wait_for("the engine", || {
        sample(&page(metrics), "engine_connected{partition=\"0\"}") == Some(1.0)
    });
    assert!(metric(metrics, "log_end") >= float(end));
    let text = page(metrics);
    assert_eq!(sample(&text, "lag_records{partition=\"0\"}"), None, "{text}");
    assert!(!is(metrics, "postgres_connected"));
    postgres.serve();
    wait_for("the lag", || sample(&page(metrics), "lag_records{partition=\"0\"}") == Some(0.0));
    assert!(is(metrics, "postgres_connected"));
    projector.stop();
    server.stop();
}

#[test]
fn status_ends_when_nobody_answers() {
    let dir = TestDir::new("projector-status");
    let postgres = Postgres::start(&dir.path().join("pg"));
    // Accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = silent.try_clone().unwrap();
    thread::spawn(move || held.incoming().collect::<Vec<_>>());
    for address in [silent.local_addr().unwrap().to_string(), "127.0.0.1:1".to_owned()] {
        let projecting = Projecting::new(dir.path(), &address, &postgres.url());
        let (status, _, error) = code(&projecting.run(&["status"]));
        assert_eq!(status, Some(SERVER), "{error}");
        assert!(error.contains(&address), "{error}");
    }
}
