//! Are names of accounts and decimals of ledgers the same wherever they are shown, and do they survive what the log does?

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use walengine_tests::http::Http;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, Server, TestDir, run_command, text};

struct Bank {
    server: Server,
    dir: TestDir,
}

impl Bank {
    fn open(test: &str) -> Self {
        let dir = TestDir::new(test);
        let server = serve(&dir, "data");
        Self { server, dir }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run_command(Some(&self.server), self.dir.path(), arguments)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], why: &str) {
        let output = self.run(arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(why), "{arguments:?}: {}", text(&output));
    }

    /// Names and ids of all that are called so.
    fn called(&self, prefix: &str) -> Vec<(String, String)> {
        let rows = self.ok(&["account", "find", prefix, "--format", "json"]);
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let mut rows: Vec<_> = rows.map(|row| (field(&row, "name"), field(&row, "id"))).collect();
        rows.sort();
        rows
    }

    fn digest(&self) -> String {
        self.ok(&["digest", "--format", "csv"])
    }
}

fn serve(dir: &TestDir, data: &str) -> Server {
    Launch::new(dir.path())
        .data(&dir.path().join(data))
        .set("--http", "127.0.0.1:0")
        .set("--partitions", "2")
        .serve()
}

fn http(server: &Server) -> Http {
    Http::connect(server.http_url().strip_prefix("http://").unwrap().parse().unwrap())
}

#[test]
fn a_creation_that_was_cut_off_before_the_name_is_finished_by_the_same_command() {
    let bank = Bank::open("names-cut-off");
    let create = ["account", "create", "bob", "--ledger", "978"];
    let bare = json!({"id": "bob", "ledger": 978, "code": 1});
    assert_eq!(http(&bank.server).post("/api/v1/accounts", &bare).status, 201);
    assert_eq!(bank.called(""), []);
    assert!(text(&bank.run(&create)).contains("without a name: now it is called bob"));
    assert_eq!(bank.called("bob").len(), 1);
    assert!(text(&bank.run(&create)).contains("nothing was changed"));

    // A later name stays, and so does it if it was taken away.
    for (name, count) in [("Robert", 1), ("", 0)] {
        bank.ok(&["account", "name", "bob", name]);
        assert!(text(&bank.run(&create)).contains("nothing was changed"));
        assert_eq!((bank.called("bob").len(), bank.called("").len()), (0, count));
    }
    let other = [&create[..], &["--name", "Somebody"]].concat();
    bank.ok(&["account", "name", "bob", "Robert"]);
    bank.ok(&other);
    assert_eq!(bank.called("")[0].0, "Robert");
}

#[test]
fn a_name_and_a_scale_are_shown_wherever_the_account_is_and_taken_as_shown() {
    let mut bank = Bank::open("names");
    let postgres = Postgres::start(&bank.dir.path().join("pg"));
    bank.ok(&["account", "create", "alice", "--ledger", "978"]);
    bank.ok(&["account", "create", "4711", "--ledger", "978", "--name", "Hotel \"Bohemia\", Ltd"]);
    bank.ok(&["account", "create", "far", "--ledger", "978", "--book", "1", "--name", "Über"]);
    bank.ok(&["account", "create", "fees", "--ledger", "978", "--striped", "--name", "Fees"]);
    bank.ok(&["transfer", "4711", "alice", "50000"]); // before: in minor units
    bank.ok(&["ledger", "describe", "978", "EUR", "--scale", "2"]);
    bank.ok(&["transfer", "alice", "4711", "12.34", "--id", "t1"]);
    bank.ok(&["transfer", "alice", "4711", "12", "--id", "t2"]);
    bank.ok(&["transfer", "alice", "fees", "1", "--scale", "0", "--to-book", "striped"]);
    bank.refused(&["transfer", "alice", "4711", "1.234"], "decimals");
    bank.ok(&["pending", "alice", "4711", "7.5", "--id", "p1"]);
    bank.refused(&["post", "p1", "7.51"], "pending_amount_exceeded");
    bank.ok(&["post", "p1", "2.25"]);
    bank.refused(&["ledger", "describe", "978", "EUR", "--scale", "3"], "ledger_scale_differs");
    bank.refused(&["account", "name", "nobody", "x"], "name_account_not_found");

    let balance = bank.ok(&["balance", "alice", "--format", "csv"]);
    // 500.00 - 12.34 - 12.00 - 0.01 - 2.25
    assert!(balance.lines().nth(1).unwrap().starts_with("alice,47340,47340,0,0,978,"));
    let statement = bank.ok(&["statement", "alice"]);
    assert!(statement.contains("Hotel \"Bohemi") && statement.contains("473.40"), "{statement}");
    let log = bank.ok(&["log"]);
    assert!(log.contains("12.34") && log.contains("\"EUR\""), "{log}");
    assert!(bank.ok(&["accounts"]).contains("Über"));

    // A second name is an event, too; an empty one takes it away.
    bank.ok(&["account", "name", "far", "Far away", "--book", "1", "--id", "n1"]);
    bank.ok(&["account", "name", "far", "Far away", "--book", "1", "--id", "n1"]);
    bank.refused(&["account", "name", "far", "x", "--book", "1", "--id", "n1"], "id_reused");
    assert_eq!(bank.called("über"), []);
    assert_eq!(bank.called("FAR").len(), 1);

    let mut asked = http(&bank.server);
    let anna = asked.get("/api/v1/accounts/alice").json();
    assert_eq!(
        (anna["name"].as_str(), anna["credits_posted"].as_str()),
        (Some("alice"), Some("50000"))
    );
    assert_eq!(anna["credits_posted_decimal"], "500.00", "{anna}");
    let found = asked.get("/api/v1/accounts?name=HOTEL").json();
    assert_eq!(found["accounts"][0]["name"], "Hotel \"Bohemia\", Ltd", "{found}");
    let send = |id: &str, amount: &str, decimal: &str| {
        json!({"id": id, "debit_account": "alice", "credit_account": "4711", "ledger": 978, "code": 1,
               amount: decimal})
    };
    assert_eq!(asked.post("/api/v1/transfers", &send("h1", "amount_decimal", "3.40")).status, 201);
    assert_eq!(
        asked.post("/api/v1/transfers", &send("h1", "amount", "340")).status,
        200,
        "the same"
    );
    for wrong in ["3.401", "3,4", "-1", "", "1e2"] {
        let answer = asked.post("/api/v1/transfers", &send("h2", "amount_decimal", wrong));
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (400, Some("malformed")),
            "{wrong}"
        );
    }
    let other = json!({"id": "h2", "debit_account": "alice", "credit_account": "4711", "ledger": 840,
                       "code": 1, "amount_decimal": "1.00"});
    assert_eq!(
        asked.post("/api/v1/transfers", &other).status,
        400,
        "that ledger was not described"
    );
    let shown = asked.get("/api/v1/transfers/h1").json();
    assert_eq!(shown["event"]["amount_decimal"], "3.40", "{shown}");
    // Beside the log's records names stand where they are asked for, and the rest is the same.
    let log = |asked: &mut Http, path: &str| {
        let page = asked.get(&format!("/api/v1/log/0{path}")).json();
        page["records"].as_array().unwrap().clone()
    };
    let plain = log(&mut asked, "");
    let mut named = log(&mut asked, "?names=true");
    let of = |of: &str| {
        let record = named.iter().find(|record| record[of]["amount"] == "225").unwrap();
        ["debit_account_name", "credit_account_name"].map(|name| record[of][name].clone())
    };
    assert_eq!(of("effective"), [json!("alice"), json!("Hotel \"Bohemia\", Ltd")]);
    let mut newest = log(&mut asked, "/newest?names=true");
    newest.reverse();
    assert_eq!(named, newest);
    let mut following = http(&bank.server);
    following
        .send(b"GET /api/v1/log/0/stream?from=0&names=true HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let streamed = std::iter::repeat_with(|| following.line());
    let streamed = streamed.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let streamed: Vec<Value> =
        streamed.take(named.len()).map(|data| serde_json::from_str(&data).unwrap()).collect();
    assert_eq!(streamed, named);
    for record in &mut named {
        for part in ["event", "effective"] {
            if let Some(fields) = record.get_mut(part).and_then(Value::as_object_mut) {
                let is_account = fields.get("type").is_some_and(|kind| kind == "account");
                fields.retain(|name, _| {
                    !(name.ends_with("account_name") || is_account && name == "name")
                });
            }
        }
    }
    assert_eq!(plain, named);

    let renamed = json!({"id": "n2", "name": "Alice Ånger"});
    let put = |asked: &mut Http, body: &Value| {
        asked.ask("PUT", "/api/v1/accounts/alice/name", &[], Some(&body.to_string())).status
    };
    assert_eq!(put(&mut asked, &renamed), 201);
    let unseen = json!({"id": "n3", "name": "a\u{202e}b"});
    assert_eq!(put(&mut asked, &unseen), 400);

    // SQL, and its audit.
    let projecting =
        Projecting::new(bank.dir.path(), &bank.server.address().to_string(), &postgres.url());
    let mut projector = projecting.spawn();
    projector.wait_until_at(&postgres, &[bank.end(0), bank.end(1)]);
    let names = postgres.ask(
        "SELECT string_agg(name, '|' ORDER BY name COLLATE \"C\") FROM walengine.account_names",
    );
    assert_eq!(names.replace('"', ""), "Alice Ånger|Far away|Fees|Hotel Bohemia, Ltd");
    let row =
        "SELECT name, balance, ledger_name FROM walengine.named_balances WHERE name LIKE 'Alice%'";
    assert_eq!(postgres.ask(row), "Alice Ånger,470.00,EUR");
    assert_eq!(postgres.ask("SELECT ledger || name || scale FROM walengine.ledgers"), "978EUR2");
    assert!(projecting.audit().0);
    postgres.ask("UPDATE walengine.account_events SET name = 'Mallory' WHERE name = 'Alice Ånger'");
    assert!(!projecting.audit().0, "a name that was changed by hand is found");
    projector.stop();

    // A start from the log, from a snapshot, and an export into another cluster have the same.
    let (names, digest) = (bank.called(""), bank.digest());
    assert_eq!(names.len(), 4);
    bank.server.kill();
    bank.server = serve(&bank.dir, "data");
    assert_eq!((bank.called(""), bank.digest()), (names.clone(), digest.clone()));
    bank.server.stop();
    bank.server = serve(&bank.dir, "data");
    assert_eq!((bank.called(""), bank.digest()), (names.clone(), digest.clone()));
    bank.ok(&["export", "all.walexport"]);
    bank.server.stop();
    bank.server = serve(&bank.dir, "other");
    bank.ok(&["import", "all.walexport"]);
    assert_eq!((bank.called(""), bank.digest()), (names, digest));
}

impl Bank {
    /// Next offset of a partition.
    fn end(&self, partition: u16) -> u64 {
        let client = self.server.client();
        let partition = walengine_net::model::PartitionId(partition);
        client.state_digest(partition).unwrap().next_offset.0
    }
}

/// Rows of a program's format: each column by its name.
fn rows(printed: &str, format: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = printed.lines();
    if format == "json" {
        return lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let names = cells(lines.next().unwrap());
    lines.map(|line| names.iter().cloned().zip(cells(line)).collect()).collect()
}

/// `transfer` and `balance` had decimals under the names under which others had minor units: whoever took one for the
/// other was wrong by a hundred.
#[test]
fn every_verb_gives_programs_minor_units_and_decimals_beside_them() {
    let bank = Bank::open("names-units");
    let of_account = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"];
    bank.ok(&["ledger", "describe", "978", "EUR", "--scale", "2"]);
    bank.ok(&["account", "create", "bob", "--ledger", "978"]);
    for plain in ["carl", "dora"] {
        bank.ok(&["account", "create", plain, "--ledger", "5"]);
    }
    bank.ok(&["transfer", "carl", "dora", "1230", "--id", "plain"]);
    let verbs: [(&str, &[&str], Option<&str>); 13] = [
        ("account create eve --ledger 978", &of_account, None),
        ("transfer bob eve 12.30 --id t1", &["amount"], Some("1230 12.30")),
        ("pending bob eve 5.25 --id p1", &["amount"], Some("525 5.25")),
        ("post p1 2.5 --id e1", &["amount"], Some("250 2.50")),
        ("pending bob eve 0.07 --id p2", &["amount"], Some("7 0.07")),
        ("void p2 --id e2", &["amount"], Some("7 0.07")),
        ("transfer t1", &["amount", "sent_amount"], Some("1230 12.30")),
        ("transfer plain", &["amount", "sent_amount"], Some("1230 ")),
        ("balance bob carl", &["balance", "available", "reserved_out", "reserved_in"], None),
        ("account bob", &of_account, None),
        ("accounts", &of_account, None),
        ("statement bob", &["debit", "credit", "balance"], None),
        ("log", &["amount", "sent_amount"], None),
    ];
    for (line, amounts, expected) in verbs {
        for format in ["json", "csv"] {
            let words: Vec<&str> = line.split(' ').chain(["--format", format]).collect();
            let rows = rows(&bank.ok(&words), format);
            assert!(!rows.is_empty(), "{line}");
            for row in &rows {
                let ledger = row.get("ledger").map_or("978", String::as_str);
                let decimals = row.keys().filter(|name| name.ends_with("_decimal")).count();
                assert_eq!(decimals, amounts.len(), "{line} {format}: {row:?}");
                for (name, cell) in row {
                    if amounts.contains(&name.as_str()) {
                        let decimal = &row[&format!("{name}_decimal")];
                        assert_eq!(*decimal, in_decimals(cell, ledger), "{line} {format}: {name}");
                    }
                    let is_decimal = cell.contains('.') && cell.parse::<f64>().is_ok();
                    let may_be = name.ends_with("_decimal");
                    assert!(may_be || !is_decimal, "{line} {format}: {name} is {cell}");
                }
                if let Some(expected) = expected {
                    let both = format!("{} {}", row["amount"], row["amount_decimal"]);
                    assert_eq!(both, expected, "{line} {format}");
                }
            }
        }
    }
    let people = bank.ok(&["balance", "bob"]);
    assert!(people.contains("-14.80") && !people.contains("decimal"), "{people}");
}

/// What stands beside minor units of the described ledger, and of any other.
fn in_decimals(units: &str, ledger: &str) -> String {
    if ledger != "978" || units.is_empty() {
        return String::new();
    }
    let units: i64 = units.parse().unwrap();
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", units.abs() / 100, units.abs() % 100)
}

#[test]
fn an_import_keeps_the_names_of_its_file_and_undoes_no_later_one() {
    let bank = Bank::open("names-import");
    let rows = "id,debit_account,credit_account,amount,ledger,code\n1,Anna Novak,shop,5,1,1\n2,shop,4711,1,1,1\n";
    fs::write(bank.dir.path().join("a.csv"), rows).unwrap();
    let import = |file: &str| {
        let printed = bank.ok(&["import", file, "--create-accounts", "--format", "json"]);
        serde_json::from_str::<Value>(&printed).unwrap()["accounts_named"].as_u64().unwrap()
    };
    assert_eq!(import("a.csv"), 2, "a number is no name");
    let names = |bank: &Bank| {
        bank.called("").into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(",")
    };
    assert_eq!(names(&bank), "Anna Novak,shop");
    bank.ok(&["account", "name", "shop", "Corner shop"]);
    bank.ok(&["account", "name", "Anna Novak", ""]);
    assert_eq!(import("a.csv"), 0);
    assert_eq!(names(&bank), "Corner shop");
    // One who gave accounts their ids elsewhere has names for them, too.
    let long = "x".repeat(81);
    let rows = format!("id,debit_account,credit_account,amount,ledger,code\n3,{long},Zoe,5,1,1\n");
    fs::write(bank.dir.path().join("b.csv"), rows).unwrap();
    assert_eq!(import("b.csv"), 1, "what is too long for a name is left out");
    assert_eq!(names(&bank), "Corner shop,Zoe");
}
