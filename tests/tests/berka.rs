//! Do a bank's real transactions come to the balances in its own table? By the command line.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use walengine_net::limits::LOOKUP_IDS_MAX;
use walengine_net::message::{
    Freshness, ListAccounts, ListAccountsReply, LookupAccounts, LookupAccountsReply,
};
use walengine_net::model::{Account, Book, Offset};
use walengine_net::names;
use walengine_tests::nodes::Nodes;
use walengine_tests::server::{Launch, Server, TestDir, run_command};

const VARIABLE: &str = "WALENGINE_TEST_DATA";
const TRANSFERS: usize = 49_102;
/// Columns of `walengine accounts --format csv`.
const BALANCES: [usize; 4] = [3, 4, 5, 6];

fn data(name: &str) -> PathBuf {
    let folder = std::env::var_os(VARIABLE).unwrap_or_else(|| {
        panic!("set {VARIABLE} to the folder with berka/ (a bank's transactions) in it")
    });
    PathBuf::from(folder).join("berka").join(name)
}

fn unpacked(path: &Path) -> String {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// Imports a file: the exit code and the summary's numbers by name.
fn import(server: &Server, dir: &Path, file: &Path, more: &[&str]) -> (i32, Vec<(String, u64)>) {
    // The bank's file has the day of each transfer, which a ledger has no use for.
    let mut arguments = vec!["import", file.to_str().unwrap(), "--ignore-columns"];
    arguments.extend(more);
    let output = run_command(Some(server), dir, &arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = said.lines().filter_map(|line| {
        let (name, number) = line.trim().rsplit_once("  ")?;
        Some((name.trim().to_owned(), number.trim().parse().ok()?))
    });
    (output.status.code().unwrap(), numbers.collect())
}

fn number(summary: &[(String, u64)], name: &str) -> u64 {
    let found = summary.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {summary:?}")).1
}

/// Every account has exactly what the table says, and nothing pending.
fn balances_are_as_expected(server: &Server, dir: &Path) {
    let expected = data("expected_balances.csv.gz");
    let arguments = ["accounts", "--format", "csv", "--from", expected.to_str().unwrap()];
    let output = run_command(Some(server), dir, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected = unpacked(&expected);
    assert_eq!(printed.lines().count(), expected.lines().count());
    for (found, expected) in printed.lines().zip(expected.lines()).skip(1) {
        let found: Vec<&str> = found.split(',').collect();
        let expected: Vec<&str> = expected.split(',').collect();
        assert_eq!(found[0], expected[0]);
        let found = BALANCES.map(|column| found[column]);
        assert_eq!(found, ["0", expected[1], "0", expected[2]], "{}", expected[0]);
    }
}

/// The same file again is all repeats; with one amount changed, one id is reused.
fn repeats_change_nothing(server: &Server, dir: &Path) {
    let (code, summary) = import(server, dir, &data("transfers.csv.gz"), &[]);
    assert_eq!((code, number(&summary, "repeats")), (0, TRANSFERS as u64), "{summary:?}");

    let transfers = unpacked(&data("transfers.csv.gz"));
    let mut lines: Vec<String> = transfers.lines().map(str::to_owned).collect();
    let victim = &mut lines[TRANSFERS / 3];
    let mut fields: Vec<&str> = victim.split(',').collect();
    let amount = format!("{}1", fields[3]);
    fields[3] = &amount;
    *victim = fields.join(",");
    let changed = dir.join("changed.csv");
    fs::write(&changed, lines.join("\n") + "\n").unwrap();
    let (code, summary) = import(server, dir, &changed, &[]);
    assert_eq!(code, 1, "{summary:?}");
    assert_eq!(number(&summary, "repeats"), TRANSFERS as u64 - 1, "{summary:?}");
    assert_eq!((number(&summary, "refused"), number(&summary, "id_reused")), (1, 1));
    balances_are_as_expected(server, dir);
}

#[test]
fn a_banks_transactions_come_to_its_balances_once_and_survive_a_kill() {
    let dir = TestDir::new("berka");
    let launch = Launch::new(dir.path()).set("--partitions", "2").set("--snapshot-mib", "1");
    let mut server = launch.serve();
    let file = data("transfers.csv.gz");
    let (code, summary) = import(&server, dir.path(), &file, &["--create-accounts"]);
    assert_eq!((code, number(&summary, "accepted")), (0, TRANSFERS as u64), "{summary:?}");
    balances_are_as_expected(&server, dir.path());
    repeats_change_nothing(&server, dir.path());

    server.kill();
    server = launch.serve();
    balances_are_as_expected(&server, dir.path());
    repeats_change_nothing(&server, dir.path());
    server.stop();
}

/// Rows of one file: about as many as the import sends at once.
const PART_ROWS: usize = 7000;
/// Pause between files, so that there is time to kill leaders.
const PART_EVERY: Duration = Duration::from_millis(150);
/// Records in the log at which the leader is killed.
const KILL_AT: [u64; 2] = [9000, 30_000];
const ELECTION_MILLIS: &str = "600";
const PATIENCE: Duration = Duration::from_mins(1);

/// Imports the bank's file in parts, one after the other.
fn import_parts(dir: &Path, address: &str, text: &str) {
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.split_inclusive('\n').collect();
    for rows in rows.chunks(PART_ROWS) {
        fs::write(dir.join("part.csv"), format!("{header}\n{}", rows.concat())).unwrap();
        let mut command = Command::new(walengine_tests::server::binary());
        command.args(["import", "part.csv", "--create-accounts", "--ignore-columns"]);
        let output = command.args(["--server", address]).current_dir(dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{said}");
        assert_eq!(output.status.code(), Some(0), "{said}{error}");
        thread::sleep(PART_EVERY);
    }
}

/// The offset that a node's own state reaches.
fn reaches(nodes: &Nodes, node: usize, freshness: Freshness) -> Option<u64> {
    let list = ListAccounts { at_least: freshness.number(), after: 0, limit: 1 };
    let reply = nodes.wire(node).call(&list).ok()?;
    let refused = reply.error().is_some();
    (!refused).then(|| reply.open::<ListAccountsReply<'_>>().next_offset.to_native())
}

/// This node's own state has the balances of the table.
fn node_has_expected_balances(nodes: &Nodes, node: usize, end: u64) {
    let expected = unpacked(&data("expected_balances.csv.gz"));
    let rows: Vec<Vec<&str>> =
        expected.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let at_least = Freshness::AtLeast(Offset(end - 1)).number();
    let mut wire = nodes.wire(node);
    for rows in rows.chunks(LOOKUP_IDS_MAX) {
        let ids: Vec<u128> = rows.iter().map(|row| names::account_id(Book(0), row[0]).0).collect();
        let reply = wire.call(&LookupAccounts { at_least, ids: &ids }).unwrap();
        let found: Vec<_> = reply.open::<LookupAccountsReply<'_>>().accounts().collect();
        assert_eq!(found.len(), rows.len(), "node {node} has all accounts");
        for (row, (_, bytes)) in rows.iter().zip(found) {
            let account = Account::from_bytes(bytes);
            let pending = (account.debits_pending.0, account.credits_pending.0);
            assert_eq!(pending, (0, 0), "{} at node {node}", row[0]);
            let posted = [account.debits_posted.0, account.credits_posted.0];
            assert_eq!(posted.map(|amount| amount.to_string()), [row[1], row[2]], "{}", row[0]);
        }
    }
}

#[test]
fn a_cluster_comes_to_those_balances_on_every_node_while_its_leader_is_killed_twice() {
    let configure = |launch: Launch| launch.set("--election-millis", ELECTION_MILLIS);
    let mut nodes = Nodes::start("berka-cluster", 3, configure);
    let text = unpacked(&data("transfers.csv.gz"));
    let follower = (nodes.leader() + 1) % nodes.count();
    let (dir, address) = (nodes.dir(), nodes.address(follower).to_string());
    thread::scope(|scope| {
        let import = scope.spawn(|| import_parts(&dir, &address, &text));
        for (at, by) in KILL_AT.map(|at| (at, Instant::now() + PATIENCE)) {
            let leader = loop {
                assert!(Instant::now() < by, "the import does not get to {at}:\n{}", nodes.logs());
                let leader = nodes.leader();
                if reaches(&nodes, leader, Freshness::Any) >= Some(at) {
                    break leader;
                }
            };
            assert!(!import.is_finished(), "the import was too quick to be disturbed at {at}");
            println!("node {leader} leads and is killed");
            nodes.kill(leader);
            nodes.spawn(leader);
            nodes.wait_until_serving();
        }
        assert!(import.join().is_ok(), "an import failed:\n{}", nodes.logs());
    });
    let leader = nodes.leader();
    let end = reaches(&nodes, leader, Freshness::Linearizable).expect("the leader reads");
    for node in 0..nodes.count() {
        node_has_expected_balances(&nodes, node, end);
    }
    for node in 0..nodes.count() {
        nodes.server(node).stop();
    }
}
