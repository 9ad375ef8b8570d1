//! Do statements, refusals and reservations by HTTP tell all of a log that is read backwards, once, in pages?

use std::net::SocketAddr;

use serde_json::{Value, json};
use walengine_net::model::{
    AccountId, Amount, Code, EventId, LedgerId, PartitionId, Transfer, TransferFlags,
};
use walengine_tests::http::Http;
use walengine_tests::server::{Launch, Server, TestDir};

/// Accounts of two books, which are on two partitions.
const TILL: &str = "00000001-0000-0000-0000-000000000001";
const SHOP: &str = "00000001-0000-0000-0000-000000000002";

fn transfer(id: &str, debit: &str, credit: &str, amount: u64) -> Value {
    json!({"type": "transfer", "id": id, "debit_account": debit, "credit_account": credit,
        "amount": amount.to_string(), "ledger": 7, "code": 1})
}

fn with(mut event: Value, more: &Value) -> Value {
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn account(id: &str) -> Value {
    json!({"type": "account", "id": id, "ledger": 7, "code": 1})
}

/// A server with two partitions, and an account on the one where the others are not.
fn bank(dir: &TestDir) -> (Server, Http, String) {
    let server = Launch::new(dir.path()).set("--http", "127.0.0.1:0").set("--cores", "2").serve();
    let address: SocketAddr = server.http_url().trim_start_matches("http://").parse().unwrap();
    let mut http = Http::connect(address);
    let home = |http: &mut Http, id: &str| {
        let created = http.post("/api/v1/accounts", &json!({"id": id, "ledger": 7, "code": 1}));
        assert_eq!(created.status, 201, "{}", created.body);
        let status = http.get(&format!("/api/v1/status/{id}?of=account"));
        status.json()["partition"].as_u64().unwrap()
    };
    let here = home(&mut http, TILL);
    let far = (2..40).map(|book| format!("{book:08x}-0000-0000-0000-000000000001"));
    let far = far.into_iter().find(|id| home(&mut http, id) != here).unwrap();
    (server, http, far)
}

fn send(http: &mut Http, events: &[Value]) {
    let answer = http.post("/api/v1/events", &json!({ "events": events }));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// All pages of a path, of this key.
fn pages(http: &mut Http, path: &str, key: &str) -> Vec<Value> {
    let (mut found, mut before) = (Vec::new(), String::new());
    loop {
        let answer = http.get(&format!("{path}{before}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page = answer.json();
        found.extend(page[key].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { return found };
        before = format!("&before={next}");
    }
}

fn number(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_statement_in_pages_has_every_row_once_and_its_balances_run_over_partitions() {
    let dir = TestDir::new("http-backwards");
    let (_server, mut http, far) = bank(&dir);
    let mut events = vec![account(SHOP)];
    let pending = json!({"flags": ["pending"]});
    for n in 0..30_u64 {
        let there = if n % 3 == 0 { far.as_str() } else { SHOP };
        events.push(transfer(&format!("out {n}"), TILL, there, 10 + n));
        events.push(transfer(&format!("back {n}"), there, TILL, 1 + n));
        events.push(with(transfer(&format!("held {n}"), TILL, there, 100), &pending));
    }
    send(&mut http, &events);
    let ends: Vec<Value> = (0..30)
        .filter(|n| n % 2 == 0)
        .map(|n| {
            let flag = if n % 4 == 0 { "post_pending" } else { "void_pending" };
            let amount = if n % 4 == 0 { "40" } else { "0" };
            json!({"type": "transfer", "id": format!("end {n}"), "pending_id": format!("held {n}"),
                "debit_account": TILL, "amount": amount, "flags": [flag]})
        })
        .collect();
    send(&mut http, &ends);

    for (id, rows_of) in [(TILL, 30 + 30 + 8), (SHOP, 20 + 20 + 5), (far.as_str(), 10 + 10 + 3)] {
        // What is between partitions arrives a moment later.
        let account = loop {
            let account = http.get(&format!("/api/v1/accounts/{id}")).json();
            let rows =
                pages(&mut http, &format!("/api/v1/accounts/{id}/statement?limit=7"), "rows");
            if rows.len() == rows_of {
                break (account, rows);
            }
            assert!(rows.len() < rows_of, "{id}: {rows:#?}");
        };
        let (account, rows) = account;
        let balance = number(&account["credits_posted"]) - number(&account["debits_posted"]);
        assert_eq!(number(&rows[0]["balance"]), balance, "{id}");
        for (at, row) in rows.iter().enumerate() {
            let before = rows.get(at + 1).map_or(0, |row| number(&row["balance"]));
            let moved = number(&row["credit"]) - number(&row["debit"]);
            assert_eq!(number(&row["balance"]), before + moved, "{id}, row {at}");
        }
        assert!(rows.windows(2).all(|two| number(&two[0]["offset"]) > number(&two[1]["offset"])));
    }

    // Every other reservation is open still, at home alone.
    let open: usize = (0..2)
        .map(|partition| {
            let answer = http.get(&format!("/api/v1/reservations?partition={partition}")).json();
            assert_eq!(answer["complete"], true);
            answer["found"].as_u64().unwrap() as usize
        })
        .sum();
    assert_eq!(open, 15);
}

/// However much was written since, and the oldest of however many.
#[test]
fn an_old_reservation_is_listed_before_all_that_are_younger() {
    let dir = TestDir::new("http-old-reservation");
    let (server, mut http, far) = bank(&dir);
    let pending = json!({"flags": ["pending"], "timeout_seconds": 3600});
    send(&mut http, &[account(SHOP), with(transfer("oldest", TILL, &far, 70), &pending)]);
    let client = server.client();
    let home = http.get("/api/v1/status/oldest").json();
    let partition = PartitionId(home["partition"].as_u64().unwrap() as u16);
    let till = AccountId(u128::from_str_radix(&TILL.replace('-', ""), 16).unwrap());
    let event = |id: u128, flags| Transfer {
        id: EventId(id),
        debit_account_id: till,
        credit_account_id: AccountId(till.0 + 1),
        amount: Amount(1),
        ledger: LedgerId(7),
        code: Code(1),
        flags,
        ..Transfer::default()
    };
    for batch in 0..10_u128 {
        let flags = |n| if n < 60 { TransferFlags::PENDING } else { TransferFlags::default() };
        let events: Vec<_> =
            (0..8000).map(|n| event(1 << 100 | batch << 20 | n, flags(n)).to_bytes()).collect();
        let verdicts = client.submit(partition, &events).unwrap();
        assert!(verdicts.outcomes.iter().all(|one| one.verdict.is_ok()));
    }
    let path = format!("/api/v1/reservations?partition={}", partition.0);
    let answer = http.get(&path).json();
    assert_eq!((&answer["found"], &answer["complete"]), (&json!(601), &json!(true)));
    let listed = answer["reservations"].as_array().unwrap();
    assert_eq!(listed.len(), 500);
    let first = &listed[0];
    assert_eq!((&first["credit_account"], &first["amount"]), (&json!(far), &json!("70")));
    assert_eq!(first["offset"], home["offset"]);
    assert!(first["expires"].as_str().unwrap() > first["time"].as_str().unwrap(), "{first}");
    let offsets: Vec<i128> = listed.iter().map(|one| number(&one["offset"])).collect();
    assert!(offsets.is_sorted(), "oldest first");
    assert!(listed[1..].iter().all(|one| one["time"].is_string() && one["expires"].is_null()));
    // What has ended is none.
    let end = json!({"type": "transfer", "id": "end", "pending_id": "oldest",
        "debit_account": TILL, "amount": "0", "flags": ["void_pending"]});
    send(&mut http, &[end]);
    let answer = http.get(&path).json();
    assert_eq!(answer["found"], 600);
    assert_ne!(answer["reservations"][0]["offset"], home["offset"]);
}

#[test]
fn refusals_in_pages_are_all_that_was_refused_and_nothing_else() {
    let dir = TestDir::new("http-refused");
    let (_server, mut http, far) = bank(&dir);
    let limited = json!({"flags": ["debits_must_not_exceed_credits"]});
    let mut events = vec![with(account(SHOP), &limited)];
    for n in 0..25 {
        events.push(transfer(&format!("too much {n}"), SHOP, TILL, 5));
        events.push(transfer(&format!("good {n}"), TILL, &far, 5));
    }
    send(&mut http, &events);
    let home = http.get("/api/v1/status/too%20much%200").json()["partition"].as_u64().unwrap();
    let path = format!("/api/v1/log/{home}/newest?refused=true&limit=4");
    let found = pages(&mut http, &path, "records");
    let refused = found.iter().filter(|record| record["verdict"] == "exceeds_credits").count();
    assert_eq!(refused, 25, "{found:#?}");
    assert!(found.iter().all(|record| record["verdict"] != "ok"));
    let all = pages(&mut http, &format!("/api/v1/log/{home}/newest?limit=9"), "records");
    let offsets: Vec<i128> = all.iter().map(|record| number(&record["offset"])).collect();
    let expected: Vec<i128> = (0..offsets.len() as i128).rev().collect();
    assert_eq!(offsets, expected, "every record once, newest first");
}

#[test]
fn what_is_no_place_of_a_statement_is_refused_and_so_is_too_much_at_once() {
    let dir = TestDir::new("http-places");
    let (_server, mut http, _) = bank(&dir);
    for query in ["limit=0", "limit=501", "before=x", "before=1-2", "before=999999-0-0", "bogus=1"]
    {
        let answer = http.get(&format!("/api/v1/accounts/{TILL}/statement?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
    assert_eq!(http.get("/api/v1/accounts/nobody/statement").status, 404);
    assert_eq!(http.get("/api/v1/log/9/newest").status, 404);
    assert_eq!(http.get("/api/v1/projector").json()["state"], "unknown");
    assert_eq!(http.get("/api/v1/rights").json()["write"], true);
}
