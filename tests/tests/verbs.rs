//! Do the verbs of the command line move money once, and tell exactly what was moved?

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use walengine_tests::server::{Launch, Server, TestDir, binary, run_command, text};

/// A server with two partitions: book 0 lives on the first, book 1 on the second.
struct Bank {
    server: Server,
    dir: TestDir,
}

impl Bank {
    fn open(test: &str) -> Self {
        let dir = TestDir::new(test);
        let server = Launch::new(dir.path()).set("--partitions", "2").serve();
        Self { server, dir }
    }

    fn run(&self, line: &str) -> Output {
        let arguments: Vec<&str> = line.split(' ').collect();
        run_command(Some(&self.server), self.dir.path(), &arguments)
    }

    /// What it prints on standard output; it ends well.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says on standard error when it ends with this code.
    fn fails(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Its rows as JSON.
    fn rows(&self, line: &str) -> Vec<Value> {
        let lines = self.ok(&format!("{line} --format json"));
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Balance, what is available, and what is reserved out and in.
    fn balance(&self, account: &str) -> [String; 4] {
        let rows = self.rows(&format!("balance {account}"));
        ["balance", "available", "reserved_out", "reserved_in"].map(|name| field(&rows[0], name))
    }
}

fn field(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("no {name} in {row}")).to_owned()
}

fn number(row: &Value, name: &str) -> i128 {
    let text = field(row, name);
    if text.is_empty() { 0 } else { text.parse().unwrap() }
}

#[test]
fn a_transfer_is_made_once_and_its_verdict_can_be_asked_for() {
    let mut bank = Bank::open("verbs-transfer");
    bank.ok("account create alice --ledger 978 --flags debits_must_not_exceed_credits");
    bank.ok("account create bob --ledger 978");
    bank.ok("account create cash --ledger 978");
    let said =
        text(&bank.run("account create alice --ledger 978 --flags debits_must_not_exceed_credits"));
    assert!(said.contains("existed before"), "{said}");
    // Cut off between its two events, it has no name; the same again gives it one, and takes none away.
    bank.ok("account name bob "); // an empty one
    bank.ok("account create 4711 --ledger 978");
    let said = text(&bank.run("account create 4711 --ledger 978 --name Hotel"));
    assert!(said.contains("now it is called Hotel"), "{said}");
    let said = text(&bank.run("account create 4711 --ledger 978 --name Inn"));
    assert!(said.contains("nothing was changed: it is called Hotel"), "{said}");
    let said = text(&bank.run("account create bob --ledger 978"));
    assert!(said.contains("nothing was changed"), "a name that was taken away stays away: {said}");
    let said = bank.fails("account create alice --ledger 840", 1);
    assert!(said.contains("exists with other fields"), "{said}");
    assert!(bank.ok("account alice").contains("978"));

    bank.ok("transfer cash alice 10.00 --scale 2 --id pay");
    let again = bank.run("transfer cash alice 10 --scale 2 --id pay");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("decided before"), "{}", text(&again));
    assert_eq!(bank.balance("alice"), ["1000", "1000", "0", "0"], "once");
    let said = bank.fails("transfer cash alice 11 --scale 2 --id pay", 1);
    assert!(said.contains("id_reused"), "{said}");
    let shown = bank.rows("transfer pay");
    assert_eq!(
        (field(&shown[0], "verdict"), field(&shown[0], "amount")),
        ("ok".into(), "1000".into())
    );

    // An id that is made here is printed before it is sent, and asks for the verdict.
    let made = bank.run("transfer alice bob 1 --code 7");
    let said = String::from_utf8(made.stderr).unwrap();
    let id = said.strip_prefix("id ").unwrap().trim();
    let shown = bank.rows(&format!("transfer {id}"));
    assert_eq!(
        (field(&shown[0], "code"), field(&shown[0], "kind")),
        ("7".into(), "transfer".into())
    );
    assert_eq!(bank.fails(&format!("transfer alice bob 2 --id {id}"), 1).lines().count(), 1);

    let said = bank.fails("transfer alice bob 100000", 1);
    assert!(said.contains("exceeds_credits"), "{said}");
    let said = bank.fails("transfer alice nobody 1", 1);
    assert!(said.contains("nothing was sent") && said.contains("nobody"), "{said}");
    let rows = bank.rows("transfer alice bob 100000 --balancing --id all");
    assert_eq!(field(&rows[0], "amount"), "999");
    assert_eq!(bank.balance("alice")[0], "0");
    for wrong in [
        "transfer alice bob",
        "transfer alice bob 1.5",
        "transfer alice bob 1 --expires 2h",
        "transfer pay --code 3",
    ] {
        bank.fails(wrong, 2);
    }
    let short = bank
        .ok("transfer all")
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .nth(5)
        .unwrap()
        .to_owned();
    assert!(short.contains('…'), "{short}");
    assert!(bank.fails(&format!("transfer {short}"), 2).contains("--full"));
    bank.server.stop();
}

#[test]
fn a_reservation_is_posted_voided_or_expires() {
    let mut bank = Bank::open("verbs-pending");
    for account in ["alice", "hotel"] {
        bank.ok(&format!("account create {account}"));
    }
    bank.ok("pending alice hotel 100 --id stay --expires 2h");
    assert_eq!(bank.balance("alice"), ["0", "0", "100", "0"]);
    assert_eq!(bank.balance("hotel"), ["0", "0", "0", "100"]);
    let rows = bank.rows("post stay 60 --id end");
    assert_eq!(field(&rows[0], "amount"), "60");
    assert_eq!(bank.balance("hotel"), ["60", "60", "0", "0"]);
    assert!(bank.fails("post stay", 1).contains("pending_already_posted"));
    assert!(bank.fails("void end", 1).contains("is no reservation"));
    bank.ok("transfer alice hotel 7 --pending --id other");
    let rows = bank.rows("void other");
    assert_eq!(field(&rows[0], "amount"), "7", "what was released");
    assert_eq!(bank.balance("alice"), ["-60", "0", "0", "0"]);
    bank.ok("pending alice hotel 9 --id short --expires 1");
    bank.ok("transfer alice hotel 9 --pending --id whole");
    assert_eq!(field(&bank.rows("post whole")[0], "amount"), "9", "all of it");
    bank.server.stop();
}

/// The rows of a statement, each with its stripe: they go on from one to the next, and end at `balance`.
fn check(rows: &[Value], partition: &str, balance: i128) {
    let its: Vec<&Value> = rows.iter().filter(|row| field(row, "partition") == partition).collect();
    let mut sum = 0;
    for row in &its {
        sum += number(row, "credit") - number(row, "debit");
        assert_eq!(number(row, "balance"), sum, "{row}");
    }
    assert_eq!(sum, balance, "{its:?}");
}

#[test]
fn a_statement_has_every_movement_with_the_balance_after_it() {
    let mut bank = Bank::open("verbs-statement");
    bank.ok("account create alice");
    bank.ok("account create bob");
    bank.ok("account create carol --book 1");
    bank.ok("account create fees --striped");
    for line in [
        "transfer alice bob 10",
        "transfer alice carol 25 --to-book 1 --id sent",
        "transfer carol bob 5 --from-book 1 --id back",
        "transfer alice fees 3 --to-book striped",
        "transfer carol fees 4 --from-book 1 --to-book striped",
        "pending alice carol 40 --to-book 1 --id held",
        "post held 30 --id ended",
        "pending bob alice 50 --id voided",
        "void voided",
        "pending carol alice 6 --from-book 1 --id open",
        "transfer fees alice 1 --from-book striped",
    ] {
        bank.ok(line);
    }
    let statement = |line: &str| bank.rows(&format!("statement {line}"));
    let alice = statement("alice");
    check(&alice, "0", -67);
    assert_eq!(alice.len(), 5, "reservations move nothing: {alice:?}");
    let ids: Vec<String> = alice.iter().map(|row| field(row, "id")).collect();
    let of = |name: &str| field(&bank.rows(&format!("transfer {name}"))[0], "id");
    assert_eq!((&ids[1], &ids[3]), (&of("sent"), &of("ended")));
    check(&statement("bob"), "0", 15);
    check(&statement("carol --book 1"), "1", 46);
    let fees = statement("fees --book striped");
    check(&fees, "0", 2);
    check(&fees, "1", 4);
    assert_eq!(bank.balance("fees --book striped")[0], "6");

    // Its parts are parts of the whole.
    assert_eq!(statement("alice --newest 2"), alice[3..]);
    let [second, fourth] = [1, 3].map(|place| field(&alice[place], "time"));
    assert_eq!(statement(&format!("alice --from {second} --to {fourth}")), alice[1..3]);
    assert_eq!(statement("alice --to -1h"), Vec::<Value>::new());
    let said = text(&bank.run("statement carol --book 1"));
    assert!(
        said.contains("partition 1, offsets ") && said.contains("reserved out 6, in 0"),
        "{said}"
    );
    assert!(bank.fails("statement dave", 1).contains("no account dave"));
    bank.server.stop();
}

#[test]
fn the_log_is_read_in_words_from_any_time() {
    let mut bank = Bank::open("verbs-log");
    bank.ok("account create alice");
    bank.ok("account create bob");
    bank.ok("pending alice bob 5 --id held");
    bank.ok("void held");
    let said = bank.ok("log");
    for words in ["new account", "reserve", "void", "T", "Z  "] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let rows = bank.rows("log");
    assert_eq!(rows.len(), 6, "two accounts with their names, a reservation and its end");
    let (third, time) = (field(&rows[2], "offset"), field(&rows[2], "timestamp"));
    assert!(time.parse::<u64>().is_ok(), "exact nanoseconds: {time}");
    let all = bank.ok("log --format csv --from -1h");
    assert_eq!(all.lines().count(), 7);
    assert_eq!(bank.rows("log --from -1h --to -30m").len(), 0);
    assert_eq!(bank.rows(&format!("log --from {third}")), rows[2..]);
    assert_eq!(bank.rows(&format!("log --to {third}")), rows[..2]);
    // A number is an offset, though a time may be meant; one to begin at later would leave out what comes until then.
    let said = text(&bank.run("log --from 1700000000"));
    assert!(said.contains("offset 1700000000 is past the end of partition 0"), "{said}");
    let end = rows.len();
    assert!(!text(&bank.run(&format!("log --from {end}"))).contains("past the end"));
    let refused = bank.fails(&format!("log --follow --from {}", end + 1), 1);
    assert!(refused.contains("past the end") && refused.contains("leave out"), "{refused}");
    let shown = bank.ok("statement alice --format csv").lines().count();
    assert_eq!(shown, 1, "nothing was moved");
    bank.server.stop();
}

#[test]
fn operators_learn_whether_it_is_ready_and_what_it_takes() {
    let mut bank = Bank::open("verbs-operators");
    let rows = bank.rows("health");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| field(row, "ready") == "yes"), "{rows:?}");
    bank.fails("health --server 127.0.0.1:1", 9);
    bank.ok("account create alice");
    let rows = bank.rows("capacity");
    let of = |name: &str| {
        let row = rows.iter().find(|row| field(row, "name") == name).unwrap();
        field(row, "value")
    };
    assert!(of("free_bytes").parse::<u64>().unwrap() >= of("usable_bytes").parse().unwrap());
    assert!(of("log_bytes_per_record").parse::<f64>().unwrap() >= 128.0, "{rows:?}");
    assert_eq!(of("days_left"), "", "it was started just now");
    assert!(text(&bank.run("capacity")).contains("--measure takes the rate of now"));
    let rows = bank.rows("watch --count 1");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| field(row, "leader") != "none"), "{rows:?}");

    let pages = bank.dir.path().join("man");
    fs::create_dir(&pages).unwrap();
    bank.ok("man man");
    assert!(pages.join("walengine-transfer.1").exists());
    assert!(bank.ok("completions bash").contains("statement"));
    bank.server.stop();
}

#[test]
fn a_support_bundle_holds_what_helps_and_nothing_secret() {
    let mut bank = Bank::open("verbs-bundle");
    let holder = "Anna-Novakova";
    bank.ok(&format!("account create {holder}"));
    bank.ok("account create shop");
    let id = format!("salary-of-{holder}");
    bank.ok(&format!("transfer shop {holder} 987654321 --id {id}"));
    let secret = "hunter2";
    let key = "00ff".repeat(16);
    let settings =
        format!("cores = 1\nkey_file = \"/etc/{secret}\"\npassword = \"{secret}\" # {secret}\n");
    fs::write(bank.dir.path().join("settings.toml"), settings).unwrap();
    let log = format!("{}postgres://u:{secret}@h/d\nkey {key}\n", bank.server.log());
    fs::write(bank.dir.path().join("server.log"), log).unwrap();
    bank.ok("support-bundle out.tar.gz --config settings.toml --data data --log server.log");
    bank.fails("support-bundle out.tar.gz", 11); // replaces nothing

    let packed = fs::File::open(bank.dir.path().join("out.tar.gz")).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let all = String::from_utf8_lossy(&bytes);
    let account = field(&bank.rows(&format!("account {holder}"))[0], "id");
    for secret in [secret, &key, holder, &id, "987654321", &account] {
        assert!(!all.contains(secret), "{secret} is in the bundle");
    }
    for name in
        ["version.txt", "cluster.jsonl", "digest.txt", "settings.json", "files.csv", "missing.txt"]
    {
        assert!(all.contains(&format!("walengine-support/{name}")), "no {name}");
    }
    for kept in ["records_since_start", "serving on ", "p0001/", "\"cores\": 1"] {
        assert!(all.contains(kept), "no {kept}");
    }
    // It is made without a server, too, and says what is missing.
    let output = bank.run("support-bundle alone.tar.gz --server 127.0.0.1:1");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("left out: "), "{}", text(&output));
    bank.server.stop();
}

#[test]
fn lines_of_verbs_are_carried_out_until_one_fails() {
    let mut bank = Bank::open("verbs-repl");
    let repl = |lines: &str| {
        let mut command = Command::new(binary());
        command.arg("repl").args(["--server", &bank.server.address().to_string()]);
        command.env("XDG_STATE_HOME", bank.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = repl(
        "account create \"Anna Novak\"\naccount create bob\n\n\
                       transfer \"Anna Novak\" bob 5\nbalance bob --format csv\nexit\nbalance nobody\n",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("bob,5,5,0,0,1,"), "{}", text(&output));
    let output = repl("transfer bob nobody 5\ntransfer bob \"Anna Novak\" 5\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(bank.balance("bob")[0], "5", "nothing after the line that failed");
    assert_eq!(repl("restore a b\n").status.code(), Some(2));
    bank.server.stop();
}

#[test]
fn log_lines_are_json_if_that_is_wanted() {
    let dir = TestDir::new("verbs-log-format");
    let mut server = Launch::new(dir.path()).set("--log-format", "json").serve();
    server.signal_term();
    assert_eq!(server.wait().code(), Some(0));
    for line in server.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["message"].is_string() && line["level"] == "INFO", "{line}");
    }
    fs::write(dir.path().join("settings.toml"), "log_level = \"loud\"\n").unwrap();
    let said = Launch::new(dir.path())
        .set("--config", &dir.path().join("settings.toml").display().to_string())
        .fails();
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    assert!(text(&said).contains("is not one of error, warn"), "{}", text(&said));
}
