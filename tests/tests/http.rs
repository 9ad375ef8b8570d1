//! Does HTTP do what the client library does, and is whatever makes no sense answered with a typed problem?

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use walengine_tests::credentials::Credentials;
use walengine_tests::http::Http;
use walengine_tests::server::{Launch, Server, TestDir, text};

/// A server that takes HTTP.
fn serve(dir: &TestDir) -> Server {
    Launch::new(dir.path()).set("--http", "127.0.0.1:0").set("--partitions", "2").serve()
}

fn address(server: &Server) -> SocketAddr {
    server.http_url().strip_prefix("http://").unwrap().parse().unwrap()
}

fn account(id: &str) -> Value {
    json!({"id": id, "ledger": 1, "code": 1})
}

fn transfer(id: &str, amount: &str) -> Value {
    json!({"id": id, "debit_account": "till", "credit_account": "anna", "amount": amount, "ledger": 1, "code": 7})
}

#[test]
fn a_transfer_moves_once_and_is_seen_with_its_token() {
    let dir = TestDir::new("http-transfer");
    let server = serve(&dir);
    let mut http = Http::connect(address(&server));
    for id in ["till", "anna"] {
        let created = http.post("/api/v1/accounts", &account(id));
        assert_eq!(
            (created.status, created.json()["verdict"].as_str()),
            (201, Some("ok")),
            "{created:?}"
        );
        assert_eq!(http.post("/api/v1/accounts", &account(id)).status, 200, "a repeat");
    }
    let first =
        http.post("/api/v1/transfers", &transfer("rent-1", "340282366920938463463374607431768211"));
    assert_eq!(first.status, 201, "{first:?}");
    let token = first.header("walengine-token").unwrap().to_owned();
    assert!(first.json()["time"].as_str().unwrap().ends_with('Z'));

    let again =
        http.post("/api/v1/transfers", &transfer("rent-1", "340282366920938463463374607431768211"));
    assert_eq!((again.status, again.json()["repeat"].as_bool()), (200, Some(true)), "{again:?}");
    let other = http.post("/api/v1/transfers", &transfer("rent-1", "1"));
    assert_eq!(
        (other.status, other.json()["verdict"].as_str()),
        (409, Some("id_reused")),
        "{other:?}"
    );

    let with_token = [format!("Walengine-Token: {token}")];
    let with_token: Vec<&str> = with_token.iter().map(String::as_str).collect();
    let anna = http.ask("GET", "/api/v1/accounts/anna", &with_token, None);
    assert_eq!(anna.json()["credits_posted"], "340282366920938463463374607431768211", "{anna:?}");
    let seen = http.ask("GET", "/api/v1/transfers/rent-1", &with_token, None).json();
    assert_eq!(seen["event"]["amount"], "340282366920938463463374607431768211", "{seen}");
    assert_eq!(seen["event"]["credit_account"], anna.json()["id"], "{seen}");
    let status = http.ask("GET", "/api/v1/status/rent-1", &with_token, None).json();
    assert_eq!((&status["verdict"], &status["offset"]), (&seen["verdict"], &seen["offset"]));
    let status = http.ask("GET", "/api/v1/status/anna?of=account", &with_token, None);
    assert_eq!(status.json()["verdict"], "ok", "{status:?}");
    for path in ["/api/v1/accounts/nobody", "/api/v1/transfers/never", "/api/v1/status/never"] {
        let missing = http.get(path);
        assert_eq!(
            (missing.status, missing.json()["code"].as_str()),
            (404, Some("not_found")),
            "{path}"
        );
    }
}

#[test]
fn the_key_of_a_request_is_the_id_of_its_transfer() {
    let dir = TestDir::new("http-key");
    let server = serve(&dir);
    let mut http = Http::connect(address(&server));
    for id in ["till", "anna"] {
        http.post("/api/v1/accounts", &account(id));
    }
    let mut body = transfer("x", "5");
    body.as_object_mut().unwrap().remove("id");
    let keyed = |http: &mut Http, key: &str, body: &Value| {
        http.ask(
            "POST",
            "/api/v1/transfers",
            &[&format!("Idempotency-Key: {key}")],
            Some(&body.to_string()),
        )
    };
    let (first, again) = (keyed(&mut http, "order 17", &body), keyed(&mut http, "order 17", &body));
    assert_eq!((first.status, again.status), (201, 200), "{first:?} {again:?}");
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(http.get("/api/v1/transfers/order%2017").status, 200);
    let both = keyed(&mut http, "order 18", &transfer("order 19", "5"));
    assert_eq!((both.status, both.json()["code"].as_str()), (409, Some("key_differs")), "{both:?}");
    let quoted = keyed(&mut http, "\"order 17\"", &body);
    assert_eq!((quoted.status, quoted.json()["id"].clone()), (200, first.json()["id"].clone()));
    // Without either it could not be sent again safely.
    let without = http.post("/api/v1/transfers", &body);
    assert_eq!(
        (without.status, without.json()["pointer"].as_str()),
        (400, Some("/id")),
        "{without:?}"
    );
    assert_eq!(http.get("/api/v1/accounts/anna").json()["credits_posted"], "5");
}

#[test]
fn a_batch_has_chains_and_pages_have_all_of_it() {
    let dir = TestDir::new("http-batch");
    let server = serve(&dir);
    let mut http = Http::connect(address(&server));
    let event = |kind: &str, mut event: Value, linked: bool| {
        event["type"] = json!(kind);
        event["linked"] = json!(linked);
        event
    };
    let mut limited = account("anna");
    limited["flags"] = json!(["debits_must_not_exceed_credits"]);
    let guard = json!({"id": "guard", "account": "anna", "available_to_debit": "100"});
    let back = json!({"id": "back", "debit_account": "anna", "credit_account": "till", "amount": "60", "ledger": 1, "code": 1});
    let pending = json!({"id": "hold", "debit_account": "anna", "credit_account": "till", "amount": "40", "ledger": 1, "code": 1,
        "flags": ["pending"], "timeout_seconds": 3600, "user_data_64": "18446744073709551615"});
    let events = json!({"events": [
        event("account", account("till"), false),
        event("account", limited, false),
        event("transfer", transfer("pay", "100"), false),
        event("guard", guard, true),
        event("transfer", back.clone(), false),
        event("guard", json!({"id": "guard 2", "account": "anna", "available_to_debit": "100"}), true),
        event("transfer", json!({"id": "back 2", "debit_account": "anna", "credit_account": "till", "amount": "1", "ledger": 1, "code": 1}), false),
        event("transfer", pending, false),
        event("transfer", json!({"id": "release", "pending_id": "hold", "flags": ["void_pending"],
            "debit_account": "anna", "credit_account": "till"}), false),
        event("close", json!({"id": "closed", "account": "anna"}), false),
    ]});
    let answer = http.post("/api/v1/events", &events);
    assert_eq!(answer.status, 200, "{answer:?}");
    let outcomes = answer.json()["outcomes"].clone();
    let verdicts: Vec<&str> = outcomes
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| outcome["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(
        verdicts,
        [
            "ok",
            "ok",
            "ok",
            "ok",
            "ok",
            "guard_balance_too_low",
            "linked_event_failed",
            "ok",
            "ok",
            "ok"
        ]
    );

    let accounts = http.post("/api/v1/accounts/lookup", &json!({"ids": ["anna", "nobody"]})).json();
    assert_eq!(accounts["accounts"][0]["debits_posted"], "60");
    assert_eq!(
        accounts["accounts"][0]["flags"],
        json!(["debits_must_not_exceed_credits", "closed"])
    );
    assert!(accounts["accounts"][1].is_null());
    let found = http.post("/api/v1/transfers/lookup", &json!({"ids": ["hold", "never"]})).json();
    assert_eq!(found["transfers"][0]["event"]["user_data_64"], "18446744073709551615");
    assert!(found["transfers"][1].is_null());

    // Book 0 lives on one of the two partitions; pages of three have every record once.
    let mut offsets = Vec::new();
    let mut kinds = Vec::new();
    for partition in 0..2 {
        let mut from = "0".to_owned();
        loop {
            let page = http.get(&format!("/api/v1/log/{partition}?from={from}&limit=3")).json();
            let records = page["records"].as_array().unwrap();
            if records.is_empty() {
                break;
            }
            for record in records {
                offsets.push(record["offset"].as_str().unwrap().parse::<u64>().unwrap());
                kinds.push(record["event"]["type"].as_str().unwrap_or("none").to_owned());
            }
            page["next"].as_str().unwrap().clone_into(&mut from);
        }
    }
    assert_eq!(offsets, (0..10).collect::<Vec<u64>>());
    assert_eq!(kinds.iter().filter(|kind| *kind == "guard").count(), 2, "{kinds:?}");
    let listed: usize = (0..2)
        .map(|partition| http.get(&format!("/api/v1/accounts?partition={partition}")).json())
        .map(|page| page["accounts"].as_array().unwrap().len())
        .sum();
    assert_eq!(listed, 2);
    let cluster = http.get("/api/v1/cluster").json();
    assert_eq!(cluster["partitions"].as_array().unwrap().len(), 2, "{cluster}");
}

#[test]
fn whatever_makes_no_sense_gets_a_typed_problem() {
    let dir = TestDir::new("http-problems");
    let server = serve(&dir);
    let address = address(&server);
    let mut slow = Http::connect(address);
    slow.send(format!("POST /api/v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{").as_bytes());

    let post = |path: &str, headers: &[&str], body: &str| {
        Http::connect(address).ask("POST", path, headers, Some(body))
    };
    // What is announced is refused before it is sent.
    let announced = |bytes: usize| {
        let mut http = Http::connect(address);
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {bytes}\r\n\r\n"
        );
        http.send(head.as_bytes());
        http.answer()
    };
    let many = format!(
        "{{\"events\":[{}]}}",
        vec![r#"{"type":"close","id":"c","account":"a"}"#; 8191].join(",")
    );
    let to = "/api/v1/transfers";
    let cases = [
        (post(to, &[], "{"), 400, "malformed", ""),
        (post(to, &[], ""), 400, "malformed", ""),
        (post(to, &[], "{} {}"), 400, "malformed", ""),
        (post(to, &[], "[]"), 400, "malformed", "an object"),
        // By the place of its fields: no document says what that would be.
        (
            post(
                to,
                &[],
                r#"["transfer","p","till","anna",null,"7",1,1,[],null,0,"0","0",0,false]"#,
            ),
            400,
            "malformed",
            "an object",
        ),
        (post("/api/v1/accounts", &[], r#"["account","p",1,1]"#), 400, "malformed", "an object"),
        (
            post("/api/v1/events", &[], r#"{"events": [["close", {"id": "c", "account": "a"}]]}"#),
            400,
            "malformed",
            "an object",
        ),
        (post(to, &["Content-Encoding: gzip"], "{}"), 415, "media_type", "gzip"),
        (
            post(to, &["Content-Type: application/json; charset=utf-16"], "{}"),
            415,
            "media_type",
            "utf-16",
        ),
        (
            post(to, &["Idempotency-Key: a", "Idempotency-Key: b"], "{}"),
            400,
            "malformed",
            "more than once",
        ),
        (post(to, &[], r#"{"amount": 9007199254740993}"#), 400, "malformed", "2^53"),
        (post(to, &[], r#"{"amount": "1.5"}"#), 400, "malformed", "no such number"),
        (post(to, &[], r#"{"amount": "-1"}"#), 400, "malformed", "no such number"),
        (
            post(to, &[], r#"{"amount": "340282366920938463463374607431768211456"}"#),
            400,
            "malformed",
            "no such number",
        ),
        (post(to, &[], r#"{"ledger": "1"}"#), 400, "malformed", "a whole number"),
        (post(to, &[], r#"{"ledger": 4294967296}"#), 400, "malformed", "32 bits"),
        (post(to, &[], r#"{"amout": "1"}"#), 400, "malformed", "amout"),
        (post(to, &[], r#"{"id": ""}"#), 400, "malformed", "not empty"),
        (post(to, &[], r#"{"flags": ["gathering"]}"#), 400, "malformed", "gathering"),
        (post(to, &[], r#"{"id": "x", "linked": true}"#), 400, "malformed", "/api/v1/events"),
        (
            post(to, &[], r#"{"id": "p", "pending_id": "q", "flags": ["post_pending"]}"#),
            400,
            "unroutable",
            "names no account",
        ),
        (post(to, &["Content-Type: text/plain"], "{}"), 415, "media_type", "application/json"),
        (
            post(to, &["Content-Type: application/json", "Content-Type: text/plain"], "{}"),
            400,
            "malformed",
            "more than once",
        ),
        (
            post(to, &["Content-Encoding: identity", "Content-Encoding: gzip"], "{}"),
            400,
            "malformed",
            "more than once",
        ),
        (post(to, &["Host: evil.example"], "{}"), 421, "misdirected", "--http-names"),
        (
            post(to, &["Host: localhost", "Host: evil.example"], "{}"),
            421,
            "misdirected",
            "--http-names",
        ),
        (
            post("/api/v1/accounts", &[], r#"{"id": "x", "ledger": 1, "code": 1, "linked": true}"#),
            400,
            "malformed",
            "/api/v1/events",
        ),
        (
            post("/api/v1/events", &[], r#"{"events": [{"type": "transfer"}]}"#),
            400,
            "malformed",
            "has an id",
        ),
        (post("/api/v1/events", &[], &many), 400, "malformed", "8190"),
        (announced(5 << 20), 413, "too_large", "4 MiB"),
        (post("/api/v1/nothing", &[], "{}"), 404, "no_such_path", "openapi.json"),
        (Http::connect(address).get("/api/v1/log/9"), 404, "not_found", "2"),
        (Http::connect(address).get("/api/v1/log/x"), 400, "malformed", ""),
        (Http::connect(address).get("/api/v1/log/0?from=-1"), 400, "malformed", ""),
        (Http::connect(address).get("/api/v1/log/0?form=1"), 400, "malformed", "form"),
        (Http::connect(address).get("/api/v1/accounts?limit=0"), 400, "malformed", "limit"),
        (Http::connect(address).get("/api/v1/accounts/a?lmit=1"), 400, "malformed", "lmit"),
        (Http::connect(address).get("/api/v1/cluster?x"), 400, "malformed", "x"),
        (post("/api/v1/transfers?dry_run=true", &[], "{}"), 400, "malformed", "dry_run"),
        (
            Http::connect(address)
                .get("/api/v1/accounts/%7B550e8400-e29b-41d4-a716-446655440000%7D"),
            400,
            "malformed",
            "the UUID alone",
        ),
        (
            post(to, &[], r#"{"id": "urn:uuid:550e8400-e29b-41d4-a716-446655440000"}"#),
            400,
            "malformed",
            "the UUID alone",
        ),
        (
            Http::connect(address).ask("GET", "/api/v1/accounts/a", &["Walengine-Token: x"], None),
            400,
            "malformed",
            "token",
        ),
        (
            Http::connect(address).ask(
                "GET",
                "/api/v1/accounts/a",
                &[&format!("Walengine-Token: {:032x}-0-1", 1)],
                None,
            ),
            409,
            "wrong_cluster",
            "cluster",
        ),
        (
            Http::connect(address).ask(
                "GET",
                "/api/v1/accounts/a",
                &["Walengine-Token:", &format!("Walengine-Token: {:032x}-0-1", 1)],
                None,
            ),
            409,
            "wrong_cluster",
            "cluster",
        ),
        (
            Http::connect(address).ask(
                "GET",
                "/api/v1/accounts/a",
                &["Walengine-Read: newest"],
                None,
            ),
            400,
            "malformed",
            "linearizable",
        ),
        (
            Http::connect(address).ask("DELETE", "/api/v1/accounts/a", &[], None),
            405,
            "method_not_allowed",
            "DELETE",
        ),
    ];
    for (answer, status, code, detail) in &cases {
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (*status, Some(*code)), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        assert_eq!(problem["status"], *status);
        assert_eq!(problem["may_have_changed"], false);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{detail}: {answer:?}");
    }
    let home = Http::connect(address).get("/");
    assert_eq!((home.status, home.header("location")), (307, Some("/console")), "{home:?}");
    let allowed = cases.last().unwrap().0.header("allow").unwrap_or_default();
    assert!(allowed.contains("GET"), "{allowed}");
    let mut nameless = Http::connect(address);
    nameless.send(b"GET /api/v1/cluster HTTP/1.0\r\n\r\n");
    assert_eq!(nameless.answer().status, 421);
    // No request is remembered by the connection before it, and none has cost the server its life.
    assert_eq!(Http::connect(address).get("/health/live").body, "live\n");
    let late = slow.answer();
    assert_eq!((late.status, late.json()["code"].as_str()), (408, Some("too_slow")), "{late:?}");
}

/// A pool of another program has every place, and asks nothing: what watches the node is answered all the same.
#[test]
fn those_that_ask_nothing_make_room_for_those_that_ask() {
    let dir = TestDir::new("http-places");
    let server = serve(&dir);
    let address = address(&server);
    let mut kept = Http::connect(address);
    assert_eq!(kept.get("/health/live").status, 200);
    // One is at work, and is not sent away: its body comes after the others have left.
    let mut at_work = Http::connect(address);
    let body = account("till").to_string();
    let head = format!(
        "POST /api/v1/accounts HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    at_work.send(head.as_bytes());
    let silent: Vec<Http> = (0..300).map(|_| Http::connect(address)).collect();
    assert_eq!(Http::connect(address).get("/health/live").status, 200);
    at_work.send(body.as_bytes());
    assert_eq!(at_work.answer().status, 201);
    drop(silent);
}

/// The most memory that the process has had, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Bodies that many send at once have a bound together, in bytes and in what becomes of them.
#[test]
fn huge_bodies_of_many_have_a_bound_together() {
    let dir = TestDir::new("http-huge");
    let server = serve(&dir);
    let address = address(&server);
    let before = peak_bytes(&server);
    let events = vec![r#"{"type":"transfer","id":"x"}"#; 140_000].join(",");
    let body = format!("{{\"events\":[{events}]}}");
    assert!((3 << 20..4 << 20).contains(&body.len()), "{}", body.len());
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let one = || {
            let mut http = Http::connect(address);
            http.send(head.as_bytes());
            // One that finds no room is told so before it is sent whole, and the connection is closed.
            if http.try_send(body.as_bytes()).is_err() {
                return 503;
            }
            http.answer().status
        };
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [400, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&400), "somebody is heard: {statuses:?}");
    let grown = peak_bytes(&server).saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes for 40 bodies of nearly 4 MiB");
}

/// The id and the record of the next event.
fn next(reader: &mut Http) -> (u64, Value) {
    let (mut id, mut data) = (None, None);
    loop {
        let line = reader.line();
        if let Some(found) = line.strip_prefix("id: ") {
            id = found.parse().ok();
        } else if let Some(found) = line.strip_prefix("data: ") {
            data = serde_json::from_str(found).ok();
        } else if line.is_empty()
            && let (Some(id), Some(data)) = (id, data.take())
        {
            return (id, data);
        }
    }
}

#[test]
fn a_reader_follows_the_log_and_resumes_where_it_was() {
    let dir = TestDir::new("http-stream");
    let server = Launch::new(dir.path()).set("--http", "127.0.0.1:0").serve();
    let address = address(&server);
    let mut http = Http::connect(address);
    for id in ["till", "anna"] {
        http.post("/api/v1/accounts", &account(id));
    }
    let follow = |headers: &str, path: &str| {
        let mut reader = Http::connect(address);
        reader.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n").as_bytes());
        let (status, headers) = reader.head();
        assert_eq!(status, 200);
        assert!(
            headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())),
            "{headers:?}"
        );
        reader
    };
    let mut all = follow("", "/api/v1/log/0/stream?from=0");
    let mut new = follow("", "/api/v1/log/0/stream");
    assert_eq!(next(&mut all).0, 0);
    assert_eq!(next(&mut all).1["event"]["type"], "account");
    http.post("/api/v1/transfers", &transfer("one", "1"));
    http.post("/api/v1/transfers", &transfer("two", "2"));
    for reader in [&mut all, &mut new] {
        let (id, record) = next(reader);
        assert_eq!((id, &record["event"]["amount"]), (2, &json!("1")));
    }
    let mut resumed = follow("Last-Event-ID: 2\r\n", "/api/v1/log/0/stream?from=0");
    assert_eq!(next(&mut resumed).0, 3);

    // Of a log that was restored to an earlier time a reader would miss what comes below the offset that it knows.
    let mut at_the_end = follow("Last-Event-ID: 3\r\n", "/api/v1/log/0/stream");
    for (header, query) in [(&[][..], "?from=5"), (&["Last-Event-ID: 4"], "")] {
        let path = format!("/api/v1/log/0/stream{query}");
        let answer = Http::connect(address).ask("GET", &path, header, None);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (416, Some("past_the_end")));
    }
    let page = http.get("/api/v1/log/0?from=99999999").json();
    assert_eq!((&page["records"], &page["durable"]), (&json!([]), &json!("4")));
    http.post("/api/v1/transfers", &transfer("three", "3"));
    assert_eq!(next(&mut at_the_end).0, 4);
}

#[test]
fn a_node_says_when_it_is_ready_and_a_port_that_is_taken_is_named() {
    let dir = TestDir::new("http-ready");
    let server = serve(&dir);
    let address = address(&server);
    let ready_by = Instant::now() + Duration::from_secs(30);
    while Http::connect(address).get("/health/ready").status != 200 {
        assert!(Instant::now() < ready_by, "{}", server.log());
    }
    let other = TestDir::new("http-taken");
    let failed = Launch::new(other.path()).set("--http", &address.to_string()).fails();
    assert_eq!(failed.status.code(), Some(8), "{failed:?}");
    assert!(text(&failed).contains("name another with --http"), "{}", text(&failed));
    let typo = Launch::new(other.path()).set("--http", "7480").fails();
    assert_eq!(typo.status.code(), Some(2), "{typo:?}");
    // Whoever waits for its cluster lives, and is not ready.
    let alone = TestDir::new("http-waits");
    let waits = Launch::new(alone.path())
        .set("--http", "127.0.0.1:0")
        .set("--peer-listen", "127.0.0.1:0")
        .set("--join", "127.0.0.1:1")
        .set("--expect", "3");
    let waits = waits.spawn();
    let by = Instant::now() + Duration::from_secs(30);
    while !waits.log().contains("HTTP on http://") {
        assert!(Instant::now() < by, "{}", waits.log());
    }
    let mut http = Http::connect(self::address(&waits));
    assert_eq!(http.get("/health/live").status, 200);
    let ready = http.get("/health/ready");
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (503, Some(false)), "{ready:?}");
    assert_eq!(http.get("/api/v1/accounts/a").json()["code"], "not_ready");
}

/// With certificates, HTTP asks for one, and its caller may do what the policy gives to it, at any node's leader.
#[test]
fn whoever_has_a_certificate_may_do_by_http_what_the_policy_gives_it() {
    let dir = TestDir::new("http-tls");
    let credentials = Credentials::make(&dir.path().join("credentials"));
    let policy = "[[allow]]\nwho = \"client/payments\"\nmay = [\"write\", \"read\"]\nbooks = \"all\"\nledgers = [1]\n\
                  [[allow]]\nwho = \"client/reports\"\nmay = \"read\"\nbooks = \"all\"\nledgers = \"all\"\n";
    std::fs::write(credentials.of("node-1").join("policy.toml"), policy).unwrap();
    let server = Launch::new(dir.path())
        .set("--http", "127.0.0.1:0")
        .set("--tls", credentials.of("node-1").to_str().unwrap())
        .serve();
    let url = server.http_url();
    assert!(url.starts_with("https://"), "{url}");
    let asked = |who: Option<&str>, path: &str, body: Option<&Value>| {
        let authority = credentials.of("client-payments").join("ca.pem");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(authority);
        if let Some(who) = who {
            let own = credentials.of(who);
            curl.arg("--cert").arg(own.join("identity.pem"));
            curl.arg("--key").arg(own.join("identity.key"));
        }
        if let Some(body) = body {
            curl.args(["--header", "Content-Type: application/json", "--data", &body.to_string()]);
        }
        let output = curl.arg(format!("{url}{path}")).output().expect("curl is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (status.parse::<u16>().unwrap_or(0), body.to_owned())
    };
    for id in ["till", "anna"] {
        let created = asked(Some("client-payments"), "/api/v1/accounts", Some(&account(id)));
        assert_eq!(created.0, 201, "{created:?}");
    }
    let paid = asked(Some("client-payments"), "/api/v1/transfers", Some(&transfer("one", "1")));
    assert_eq!(paid.0, 201, "{paid:?}");
    // Another ledger is not for payments, and nothing is for writing by reports.
    let mut elsewhere = account("elsewhere");
    elsewhere["ledger"] = json!(2);
    let refused = asked(Some("client-payments"), "/api/v1/accounts", Some(&elsewhere));
    assert_eq!(refused.0, 403, "{refused:?}");
    let refused = asked(Some("client-reports"), "/api/v1/transfers", Some(&transfer("two", "1")));
    assert!(refused.0 == 403 && refused.1.contains("forbidden"), "{refused:?}");
    let seen = asked(Some("client-reports"), "/api/v1/accounts/anna", None);
    assert!(seen.0 == 200 && seen.1.contains("\"credits_posted\":\"1\""), "{seen:?}");
    let log = asked(Some("client-reports"), "/api/v1/log/0", None);
    assert!(log.0 == 403 && log.1.contains("read-log"), "{log:?}");
    // The node's own certificate is nobody's.
    let node = asked(Some("node-1"), "/api/v1/accounts/anna", None);
    assert_eq!(node.0, 403, "{node:?}");
    assert_eq!(
        asked(None, "/api/v1/accounts/anna", None).0,
        0,
        "nobody without a certificate is answered"
    );
}

/// What shards publish of themselves is on the page of a real server, soon after it has happened.
#[test]
fn the_page_for_prometheus_tells_what_has_happened() {
    let dir = TestDir::new("http-metrics");
    let server = serve(&dir);
    let mut http = Http::connect(address(&server));
    for id in ["till", "anna"] {
        http.post("/api/v1/accounts", &account(id));
    }
    for number in 0..5 {
        http.post("/api/v1/transfers", &transfer(&format!("t{number}"), "1"));
    }
    let of = |page: &str, name: &str| -> u64 {
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.split_once("} "));
        lines.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    };
    let by = Instant::now() + Duration::from_secs(30);
    loop {
        let page = http.get("/metrics");
        assert!(
            page.header("content-type").unwrap().starts_with("application/openmetrics-text"),
            "{page:?}"
        );
        if of(&page.body, "walengine_records_total{") == 7 {
            assert_eq!(of(&page.body, "walengine_answer_seconds_count{"), 7, "{}", page.body);
            assert!(page.body.ends_with("# EOF\n"));
            return;
        }
        assert!(Instant::now() < by, "{}", page.body);
        std::thread::sleep(Duration::from_millis(50));
    }
}
