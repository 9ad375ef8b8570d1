//! Does a cluster with certificates serve as one without, and does it follow when they change?

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::message::ServerStatus;
use walengine_net::model::{Offset, PartitionId};
use walengine_tests::credentials::Credentials;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, Server, TestDir, run_command, text};
use walengine_tests::trio::{PARTITION, Trio, free_address, verify, wait_for};
use walengine_tests::wire::Wire;

const PATIENCE: Duration = Duration::from_mins(1);
const RENEWED: &str = "new certificates are in use";

/// Waits until the log of each node has a line so often.
fn said(trio: &Trio, line: &str, times: usize) {
    let is_said = || (0..3).all(|node| trio.log(node).matches(line).count() >= times);
    wait_for(line, is_said, || trio.logs());
}

/// Ends the writers, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_write_fails_while_certificates_and_the_policy_are_renewed() {
    let trio = Trio::form_secured("secured-renewed", &[]);
    let credentials = trio.credentials.clone().unwrap();
    let accounts = accounts_of(PARTITION, 1);
    assert!(trio.client().create_accounts(&accounts).unwrap().all_ok());
    let (ends, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _ends = Ends(&ends);
        for seed in 0..2 {
            let (trio, accounts, ends, written) = (&trio, &accounts, &ends, &written);
            scope.spawn(move || {
                let (client, mut writer) = (trio.client(), Writer::new(seed, accounts));
                while !ends.load(Ordering::Relaxed) {
                    let events: Vec<_> = (0..50).map(|_| writer.transfer().to_bytes()).collect();
                    let sent = Instant::now();
                    let submitted = client.submit(PARTITION, &events);
                    let submitted = submitted.unwrap_or_else(|error| {
                        panic!("after {:?}: {error}\n{}", sent.elapsed(), trio.logs())
                    });
                    assert!(submitted.outcomes().all(|outcome| outcome.offset.is_some()));
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let goes_on = |what: &str| {
            let wanted = written.load(Ordering::Relaxed) + 20;
            let is_so = || written.load(Ordering::Relaxed) >= wanted;
            wait_for(what, is_so, || trio.logs());
        };
        goes_on("it writes");
        credentials.cert("node 1 2 3 --renew");
        credentials.cert("client payments --renew");
        said(&trio, RENEWED, 1);
        goes_on("with renewed certificates");
        // Another authority takes the place of the first: both are believed for a while.
        let old = fs::read_to_string(credentials.of("ca").join("ca.pem")).unwrap();
        let next = Credentials::make(&trio.dir.path().join("next"));
        let new = fs::read_to_string(next.of("ca").join("ca.pem")).unwrap();
        let all = ["node-1", "node-2", "node-3", "client-payments", "admin-ops"];
        for who in all {
            fs::write(credentials.of(who).join("ca.pem"), format!("{old}{new}")).unwrap();
        }
        said(&trio, RENEWED, 2);
        for who in all {
            for file in ["identity.key", "identity.pem"] {
                fs::copy(next.of(who).join(file), credentials.of(who).join(file)).unwrap();
            }
        }
        said(&trio, RENEWED, 3);
        goes_on("with both authorities");
        for who in all {
            fs::write(credentials.of(who).join("ca.pem"), &new).unwrap();
        }
        said(&trio, RENEWED, 4);
        goes_on("with the new authority alone");
    });
    let old = Wire::secured(trio.clients[0], 0, &credentials.open("admin-ops"));
    assert!(old.is_ok(), "{:?}", old.err());
    let refused =
        Client::connect(credentials.config("client-reports", &trio.clients[0].to_string()));
    let refused = refused.err().expect("its authority is believed no more").to_string();
    assert!(refused.contains("no secured connection"), "{refused}");
    for node in 0..3 {
        assert!(trio.log(node).lines().all(|line| !line.contains(" ERROR ")), "{}", trio.log(node));
    }
}

#[test]
fn who_is_revoked_is_gone_and_the_others_stay() {
    let mut trio = Trio::form_secured("secured-revoked", &[]);
    let credentials = trio.credentials.clone().unwrap();
    let accounts = accounts_of(PARTITION, 1);
    let client = trio.client();
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let mut wires: Vec<_> = (0..3)
        .map(|node| {
            Wire::secured(trio.clients[node], 0, &credentials.open("client-reports")).unwrap()
        })
        .collect();
    let reports = Client::connect(trio.config("client-reports")).unwrap();
    let mut follows = reports.subscribe(PARTITION, Offset(0));
    let page = follows.next().unwrap();
    assert_eq!(page.next_offset.0, accounts.len() as u64);
    credentials.cert("revoke certs/client-reports");
    for wire in &mut wires {
        wire.wait_at_most(PATIENCE).unwrap();
        assert!(wire.until_closed().is_empty());
    }
    let mut writer = Writer::new(1, &accounts);
    let mut write = || {
        let events = [writer.transfer().to_bytes()];
        assert!(
            client.submit(PARTITION, &events).unwrap().outcomes().next().unwrap().offset.is_some()
        );
    };
    write();
    // It knows itself; a thief would not look at the list.
    let own = Config::new("").secured(&credentials.of("client-reports")).err().unwrap();
    assert!(own.to_string().contains("was revoked"), "{own}");
    fs::remove_file(credentials.of("client-reports").join("revoked.pem")).unwrap();
    let refused = Client::connect(trio.config("client-reports")).err().expect("it is revoked");
    assert!(refused.to_string().contains("CertificateRevoked"), "{refused}");
    let is_gone = || {
        let page = follows.next_within(Duration::from_millis(100));
        page.is_err() || follows.trouble().is_some()
    };
    wait_for("its subscription goes on", is_gone, || trio.logs());

    // A node: the others go on without it, and it comes back with a new certificate.
    let leader = trio.leader();
    let gone = (0..3).find(|node| *node != leader).unwrap();
    credentials.cert(&format!("revoke certs/node-{}", gone + 1));
    let others: Vec<_> = (0..3).filter(|node| *node != gone).collect();
    let told = "was revoked";
    wait_for(
        "nobody ends its connections",
        || others.iter().any(|node| trio.log(*node).contains(told)),
        || trio.logs(),
    );
    write();
    credentials.cert(&format!("node {} --renew", gone + 1));
    said(&trio, RENEWED, 1);
    trio.wait_until_serving();
    write();
    for node in 0..3 {
        trio.stop(node);
        let verified = verify(&trio.data(node));
        assert!(verified.status.success(), "{}", text(&verified));
    }
}

#[test]
fn a_lone_node_with_certificates_serves_all_that_one_without_does() {
    let dir = TestDir::new("secured-lone");
    let credentials = Credentials::make(dir.path());
    let tls = |who: &str| credentials.of(who).to_str().unwrap().to_owned();
    let launch = || {
        let launch = Launch::new(dir.path()).set("--cores", "2").set("--partitions", "2");
        launch.set("--listen", &free_address().to_string())
    };
    // Whose certificate it is, before anything is made.
    let wrong = launch().set("--tls", &tls("client-payments")).fails();
    assert!(text(&wrong).contains("a server needs a node's certificate"), "{}", text(&wrong));
    let nothing = launch().set("--tls", "nowhere").fails();
    assert!(text(&nothing).contains("nowhere/ca.pem"), "{}", text(&nothing));
    assert_eq!((wrong.status.code(), nothing.status.code()), (Some(2), Some(2)));
    assert!(!dir.path().join("data").exists());

    let mut server = launch().set("--tls", &tls("node-2")).serve();
    let (at, who) = (server.address(), credentials.open("client-payments"));
    // Each connection is served where its partition is, whichever core has accepted it.
    let mut wires: Vec<_> = (0..8).map(|n| Wire::secured(at, n % 2, &who).unwrap()).collect();
    for wire in &mut wires {
        wire.call(&ServerStatus::default())
            .unwrap()
            .open::<walengine_net::message::ServerStatusReply<'_>>();
    }
    let config = credentials.config("client-payments", &at.to_string());
    let client = Client::connect(config).unwrap();
    for partition in [PartitionId(0), PartitionId(1)] {
        let accounts = accounts_of(partition, 2);
        assert!(client.create_accounts(&accounts).unwrap().all_ok());
        let mut writer = Writer::new(9, &accounts);
        // Frames that fill a connection both ways.
        for _ in 0..3 {
            let events: Vec<_> = (0..8190).map(|_| writer.transfer().to_bytes()).collect();
            assert_eq!(client.submit(partition, &events).unwrap().outcomes().count(), 8190);
        }
        let (mut follows, mut seen) = (client.subscribe(partition, Offset(0)), 0);
        while seen < accounts.len() as u64 + 3 * 8190 {
            seen = follows.next().unwrap().next_offset.0;
        }
        // The connection is the feed's by now, and answers other requests all the same.
        assert!(client.submit(partition, &[writer.transfer().to_bytes()]).unwrap().all_ok());
        assert!(follows.next().unwrap().next_offset.0 > seen);
    }
    let command = |arguments: &[&str], who: Option<&str>| {
        let mut all = arguments.to_vec();
        let dir_of = who.map(tls);
        all.extend(dir_of.iter().flat_map(|dir| ["--tls", dir.as_str()]));
        run_command(Some(&server), dir.path(), &all)
    };
    for arguments in
        [&["status"][..], &["digest"], &["export", "out"], &["log", "--partition", "1"]]
    {
        let output = command(arguments, Some("admin-ops"));
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    let without = text(&command(&["status"], None));
    assert!(without.contains("forbidden") && without.contains("--tls DIR"), "{without}");
    let status = text(&command(&["status"], Some("client-reports")));
    assert!(status.contains("secured by certificates"), "{status}");

    credentials.cert("node 2 --renew --days 3");
    // Within its first second it is three whole days.
    let expires = |days| format!("the certificate of node 2 expires in {days} days");
    let ends_soon = || [2, 3].into_iter().any(|days| server.log().contains(&expires(days)));
    wait_for("nobody complains", ends_soon, || server.log());
    let status = text(&command(&["status"], Some("client-reports")));
    assert!(status.contains("node_2_certificate"), "{status}");
    // Changes are written down before they count, with a digest of what was taken up.
    fs::write(credentials.of("node-2").join("policy.toml"), "# nobody may do anything\n").unwrap();
    wait_for("the policy stays", || server.log().contains("is in force: 0 rules"), || server.log());
    let trail = fs::read_to_string(dir.path().join("data/audit.jsonl")).unwrap();
    for order in ["certificates", "policy"] {
        let line = format!("\"order\":\"{order}\",\"arguments\":{{\"blake3\":\"");
        assert_eq!(trail.matches(&line).count(), 1, "{trail}");
    }

    server.stop();
    let other = launch().set("--tls", &tls("node-3")).fails();
    assert_eq!(other.status.code(), Some(5));
    assert!(text(&other).contains("is of node 2"), "{}", text(&other));
    let plain: Server = launch().serve();
    let confused = credentials.config("client-payments", &plain.address().to_string());
    let confused = Client::connect(Config { deadline: PATIENCE, ..confused }).err().unwrap();
    assert!(confused.to_string().contains("speaks no TLS"), "{confused}");
}
