//! Do a bank's real transactions come to the balances that its own table gives? By the command line.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
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
    let mut arguments = vec!["import", file.to_str().unwrap()];
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
    fs::write(&changed, lines.join("\n")).unwrap();
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
