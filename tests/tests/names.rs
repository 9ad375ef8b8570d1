//! Are names of accounts and decimals of ledgers the same wherever they are shown, and do they survive what the log does?

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
    assert!(balance.lines().nth(1).unwrap().starts_with("alice,473.40,473.40,0.00,0.00,978,"));
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
