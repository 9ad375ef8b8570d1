//! Do Kafka's consumers read the log as it is, wait for what comes, and go on where they had committed?

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountFlags, Amount, Code, EventId, PartitionId, Transfer, TransferFlags,
};
use walengine_tests::between::{LEDGER, account_of, between};
use walengine_tests::credentials::Credentials;
use walengine_tests::http::Http;
use walengine_tests::server::{Launch, Server, TestDir, run_command, text};
use walengine_tests::trio::Trio;

const PATIENCE: Duration = Duration::from_mins(1);

/// Where a server takes consumers.
fn kafka(server: &Server) -> String {
    let log = server.log();
    let (_, behind) = log.split_once("Kafka consumers on ").expect("it takes consumers");
    behind.split_whitespace().next().unwrap_or_default().to_owned()
}

fn launch(dir: &TestDir) -> Launch {
    Launch::new(dir.path())
        .set("--http", "127.0.0.1:0")
        .set("--kafka", "127.0.0.1:0")
        .set("--partitions", "2")
}

fn http(server: &Server) -> Http {
    Http::connect(server.http_url().strip_prefix("http://").unwrap().parse().unwrap())
}

/// Has a server decide something of every kind.
fn decide_everything(server: &Server, dir: &TestDir) {
    let client = server.client();
    let (till, anna) = (account_of(2, 0, 1), account_of(2, 0, 2));
    let (far, limited) = (account_of(2, 1, 1), account_of(2, 1, 2));
    let account =
        |id, flags| Account { id, ledger: LEDGER, code: Code(1), flags, ..Account::default() };
    let none = AccountFlags::default();
    let accounts = [
        account(till, none),
        account(anna, none),
        account(far, none),
        account(limited, AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
    ];
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let pending =
        Transfer { flags: TransferFlags::PENDING, timeout_seconds: 1, ..between(4, till, anna, 7) };
    let transfers = [
        between(1, till, anna, 1000),
        between(2, till, far, 30),      // arrives in the other partition
        between(3, limited, far, 5000), // exceeds_credits
        Transfer { amount: Amount(u128::from(u64::MAX)), ..between(5, far, till, 1) },
        pending,
    ];
    let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
    client.submit_all(&events).unwrap();
    client.append_records(PartitionId(1), &[(EventId(60), b"bytes \xff\n\0")], None).unwrap();
    let describe = ["ledger", "describe", "840", "USD", "--scale", "2"];
    let said = run_command(Some(server), dir.path(), &describe);
    assert!(said.status.success(), "{}", text(&said));
}

/// Records of both partitions as HTTP shows them, by partition and offset.
fn by_http(http: &mut Http) -> Vec<(u16, Value)> {
    [of_partition(http, 0), of_partition(http, 1)].concat()
}

fn of_partition(http: &mut Http, partition: u16) -> Vec<(u16, Value)> {
    let page = http.get(&format!("/api/v1/log/{partition}?limit=1000")).json();
    let records = page["records"].as_array().unwrap().iter();
    records.map(|one| (partition, one.clone())).collect()
}

fn kcat(server: &str, more: &[&str]) -> Output {
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-b", server, "-t", "walengine", "-e", "-X", "reconnect.backoff.ms=10"]);
    kcat.args(more).output().expect("Debian's package kcat has it")
}

const EVERYTHING: [&str; 4] = ["-o", "beginning", "-f", "%p %o %T %h %s\\n"];

/// Lines of kcat by partition and offset.
fn lines(output: &Output) -> Vec<(u16, Value)> {
    assert!(output.status.success(), "{}", text(output));
    let errors = String::from_utf8_lossy(&output.stderr);
    // Where one of several servers is gone, that is said, and no harm.
    let is_harmless = |line: &str| {
        let harmless = ["% Reached end of topic", "Connection refused"];
        line.is_empty() || harmless.iter().any(|part| line.contains(part))
    };
    assert!(errors.lines().all(is_harmless), "kcat complains:\n{errors}");
    let mut found = Vec::new();
    for line in String::from_utf8(output.stdout.clone()).unwrap().lines() {
        let [partition, offset, millis, headers, value] =
            line.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(value["offset"], offset, "{line}");
        let expected =
            format!("kind={},verdict={}", text_of(&value["kind"]), text_of(&value["verdict"]));
        assert_eq!(headers, expected, "{line}");
        assert_eq!(millis.parse::<i64>().unwrap(), millis_of(&value), "{line}");
        found.push((partition.parse().unwrap(), value));
    }
    found.sort_by_key(|(partition, value)| {
        (*partition, text_of(&value["offset"]).parse::<u64>().unwrap())
    });
    found
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A record's time in whole milliseconds.
fn millis_of(record: &Value) -> i64 {
    let time = text_of(&record["time"]);
    let said = Command::new("date").args(["-u", "-d", time, "+%s%3N"]).output().unwrap();
    text(&said).trim().parse().unwrap()
}

/// What the consumer in Python has found.
fn python(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka.sh");
    Command::new(script).args(arguments).output().unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// Records of the consumer in Python by partition and offset; whatever is told twice is the same.
fn rows(output: &Output) -> Vec<(u16, Value)> {
    let rows = json_of(output);
    let mut rows: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let (value, headers) = (&row[5], &row[4]);
            assert_eq!(row[1].to_string(), text_of(&value["offset"]), "{row}");
            assert_eq!(row[3], value["id"], "{row}");
            assert_eq!(
                *headers,
                json!({"kind": value["kind"], "verdict": value["verdict"]}),
                "{row}"
            );
            (row[0].as_u64().unwrap() as u16, value.clone())
        })
        .collect();
    rows.sort_by_key(|(partition, value)| {
        (*partition, text_of(&value["offset"]).parse::<u64>().unwrap())
    });
    rows
}

/// A request for the first records of a partition, which waits half a minute for them.
fn fetch(partition: u8) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend([0, 1, 0, 4]); // Fetch, version 4
    body.extend(7_i32.to_be_bytes());
    body.extend([0, 4]);
    body.extend(b"test");
    for number in [-1, 30_000, 1, 1 << 20] {
        body.extend(i32::to_be_bytes(number));
    }
    body.push(0);
    body.extend([0, 0, 0, 1, 0, 9]);
    body.extend(b"walengine");
    body.extend([0, 0, 0, 1, 0, 0, 0, partition]);
    body.extend(0_i64.to_be_bytes());
    body.extend((1_i32 << 20).to_be_bytes());
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(kafka(server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for a line of the metrics.
fn metric(http: &mut Http, line: &str) {
    let by = Instant::now() + PATIENCE;
    loop {
        let page = http.get("/metrics").body;
        if page.lines().any(|one| one == line) {
            return;
        }
        assert!(Instant::now() < by, "{line} is not in\n{page}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn consumers_read_what_http_shows_and_go_on_after_a_kill() {
    let dir = TestDir::new("kafka");
    let mut server = launch(&dir).serve();
    decide_everything(&server, &dir);
    let mut pages = http(&server);
    let by = Instant::now() + PATIENCE;
    let expected = loop {
        let records = by_http(&mut pages);
        let kinds: BTreeSet<&str> = records.iter().map(|(_, one)| text_of(&one["kind"])).collect();
        // The words of arrivals have been answered once the last kind is there.
        if kinds == BTreeSet::from(["event", "expiry", "arrival", "word", "mail", "opaque"]) {
            break records;
        }
        assert!(Instant::now() < by, "only {kinds:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(expected.iter().any(|(_, one)| one["verdict"] == "exceeds_credits"), "{expected:?}");

    let server_at = kafka(&server);
    let read = lines(&kcat(&server_at, &EVERYTHING));
    assert_eq!(read, expected);
    // Answers that end between records, of which each is larger than what is wanted.
    let small = ["-X", "fetch.message.max.bytes=300"];
    assert_eq!(lines(&kcat(&server_at, &[&EVERYTHING[..], &small].concat())), expected);
    assert_eq!(rows(&python(&[&server_at, "first"])), expected);

    server.kill();
    let server = launch(&dir).serve();
    let again = json_of(&python(&[&kafka(&server), "again"]));
    assert_eq!(again["positions"], json!([1, 2]), "{again}");
    assert_eq!(again["notes"], json!(["a note", ""]), "{again}");
    let first = again["first"].as_object().unwrap();
    assert!(!first.is_empty(), "{again}");
    for (partition, offset) in first {
        assert_eq!(*offset, json!(partition.parse::<u64>().unwrap() + 1), "{again}");
    }
    assert_eq!(lines(&kcat(&kafka(&server), &EVERYTHING)), expected);
}

#[test]
fn a_fetch_at_the_end_is_answered_when_a_record_comes() {
    let dir = TestDir::new("kafka-wait");
    let server = launch(&dir).serve();
    let mut pages = http(&server);
    // The first ones wait for the other partition, where nothing comes.
    let (mut longest, mut longer, mut waits) =
        (connect(&server), connect(&server), connect(&server));
    longest.write_all(&fetch(1)).unwrap();
    metric(&mut pages, "walengine_kafka_requests_total{api=\"fetch\"} 1");
    longer.write_all(&fetch(1)).unwrap();
    metric(&mut pages, "walengine_kafka_requests_total{api=\"fetch\"} 2");
    waits.write_all(&fetch(0)).unwrap();
    metric(&mut pages, "walengine_kafka_requests_total{api=\"fetch\"} 3");
    metric(&mut pages, "walengine_kafka_connections 3");
    let account =
        Account { id: account_of(2, 0, 1), ledger: LEDGER, code: Code(1), ..Account::default() };
    assert!(server.client().create_accounts(&[account]).unwrap().all_ok());
    let mut length = [0; 4];
    waits.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    waits.read_exact(&mut answer).unwrap();
    // One that was not woken would have come when its time was over, and so after the others.
    let still_waits = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).map_err(|error| error.kind()) == Err(ErrorKind::WouldBlock)
    };
    assert!(still_waits(&longer), "nothing has woken the request");
    let bytes = String::from_utf8_lossy(&answer);
    assert!(bytes.contains("\"kind\":\"event\""), "{bytes}");

    // What is no request ends its connection and no other.
    for bytes in
        [&[0x7f, 0xff, 0xff, 0xff][..], &[0, 0, 0, 4, 0, 99, 0, 0], b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut hostile = connect(&server);
        hostile.write_all(bytes).unwrap();
        assert_eq!(hostile.read(&mut [0; 16]).unwrap_or(0), 0, "{bytes:?} is answered");
    }
    metric(&mut pages, "walengine_kafka_connections_refused_total{reason=\"malformed\"} 3");
    waits.write_all(&fetch(0)).unwrap();
    waits.read_exact(&mut length).unwrap();

    // Who has gone is not waited for, or the one that has waited longest would have been answered first.
    drop(longer);
    metric(&mut pages, "walengine_kafka_connections 2");
    assert!(still_waits(&longest), "one that has gone has kept its place");
    // Who is silent makes room for others.
    let silent: Vec<_> = (0..70).map(|_| connect(&server)).collect();
    assert_eq!(lines(&kcat(&kafka(&server), &EVERYTHING)), by_http(&mut pages));
    drop(silent);
}

#[test]
fn each_node_of_a_cluster_shows_the_log_and_none_keeps_groups() {
    let flags = [("--http", "127.0.0.1:0"), ("--kafka", "127.0.0.1:0")];
    let mut trio = Trio::form("kafka-cluster", &flags);
    let client = trio.client();
    let account = |number| Account {
        id: account_of(1, 0, number),
        ledger: LEDGER,
        code: Code(1),
        ..Account::default()
    };
    for number in 1..=20 {
        assert!(client.create_accounts(&[account(number)]).unwrap().all_ok());
    }
    let leader = trio.leader();
    let expected = of_partition(&mut http(trio.server(leader)), 0);
    assert_eq!(expected.len(), 20);
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let addresses = [leader, one, other].map(|node| kafka(trio.server(node)));
    for address in &addresses {
        comes_to_show(address, &expected);
    }
    let group =
        Command::new("kcat").args(["-b", &addresses[1], "-G", "books", "walengine"]).output();
    let group = group.unwrap();
    assert!(!group.status.success() && group.stdout.is_empty(), "{}", text(&group));
    assert!(text(&group).contains("keeps no offsets of groups"), "{}", text(&group));

    // A consumer that can't reach one of its servers takes another, which has all of it.
    trio.kill(leader);
    assert!(client.create_accounts(&[account(21)]).unwrap().all_ok());
    let leader = trio.leader();
    let expected = of_partition(&mut http(trio.server(leader)), 0);
    assert_eq!(expected.len(), 21);
    let follower = if leader == one { other } else { one };
    let servers = format!("{},{}", addresses[0], kafka(trio.server(follower)));
    comes_to_show(&servers, &expected);
}

/// A follower has all of the log, a moment after its leader, and never anything else.
fn comes_to_show(servers: &str, expected: &[(u16, Value)]) {
    let by = Instant::now() + PATIENCE;
    loop {
        let read = lines(&kcat(servers, &EVERYTHING));
        if read == expected {
            return;
        }
        assert!(expected.starts_with(&read) && Instant::now() < by, "{servers} has only {read:?}");
    }
}

/// Settings of kcat for who has a certificate, and believes an authority.
fn secured(ca: &Path, who: &Path) -> Vec<String> {
    let file = |name: &str| who.join(name).to_str().unwrap().to_owned();
    let settings = [
        "security.protocol=ssl".to_owned(),
        format!("ssl.ca.location={}", ca.join("ca.pem").display()),
        format!("ssl.certificate.location={}", file("identity.pem")),
        format!("ssl.key.location={}", file("identity.key")),
    ];
    settings.into_iter().flat_map(|one| ["-X".to_owned(), one]).collect()
}

#[test]
fn a_certificate_reads_as_far_as_the_policy_lets_it() {
    let dir = TestDir::new("kafka-tls");
    let certificates = dir.path().join("credentials");
    std::fs::create_dir(&certificates).unwrap();
    let credentials = Credentials::at(&certificates);
    for command in ["ca --cluster bank", "client reports payments", "admin ops"] {
        credentials.cert(command);
    }
    let policy = "[[allow]]\nwho = [\"client/payments\", \"admin/ops\"]\nmay = [\"write\", \"read\"]\nbooks = \"all\"\n\
                  ledgers = \"all\"\n\n[[allow]]\nwho = [\"client/reports\"]\nmay = [\"read-log\"]\n";
    std::fs::write(certificates.join("certs/ca/policy.toml"), policy).unwrap();
    credentials.cert("node 1");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let strangers = Credentials::make(&elsewhere);

    let node = credentials.of("node-1");
    let server = launch(&dir).set("--tls", node.to_str().unwrap()).serve();
    let config = credentials.config("client-payments", &server.address().to_string());
    let client = Client::connect(config).unwrap();
    let account =
        Account { id: account_of(2, 0, 1), ledger: LEDGER, code: Code(1), ..Account::default() };
    assert!(client.create_accounts(&[account]).unwrap().all_ok());

    let server_at = kafka(&server);
    let ca = credentials.of("client-reports");
    let ask = |who: PathBuf| {
        let settings = secured(&ca, &who);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        kcat(&server_at, &[&EVERYTHING[..], &settings].concat())
    };
    let reports = credentials.of("client-reports");
    let read = lines(&ask(reports.clone()));
    assert_eq!(read.len(), 1, "{read:?}");
    assert_eq!(rows(&python(&[&server_at, "secured", reports.to_str().unwrap()])), read);
    // One may write and not read the log, one is somebody of another cluster, and one proves nothing. kcat tries for a
    // while, so they come at once.
    let (forbidden, stranger, plain) = std::thread::scope(|scope| {
        let forbidden = scope.spawn(|| ask(credentials.of("client-payments")));
        let stranger = scope.spawn(|| ask(strangers.of("client-reports")));
        let plain = scope.spawn(|| kcat(&server_at, &EVERYTHING));
        (forbidden.join().unwrap(), stranger.join().unwrap(), plain.join().unwrap())
    });
    for (said, why) in [
        (forbidden, "Topic authorization failed"),
        (stranger, "unknown ca"),
        (plain, "Disconnected"),
    ] {
        assert!(said.stdout.is_empty() && !said.status.success(), "{}", text(&said));
        assert!(text(&said).contains(why), "{}", text(&said));
    }
}
