//! Does SQL show a bank's real transactions as the bank's own tables do? Asked through psql alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use walengine_net::model::Book;
use walengine_net::names;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, TestDir, run_command};

const VARIABLE: &str = "WALENGINE_TEST_DATA";
const TRANSFERS: usize = 49_102;
/// Hellers. The bank's amounts are rounded to tenths of a crown, its balances are sums of the exact
/// amounts, so each transaction adds at most half a tenth.
const ROUNDING: i128 = 5;
/// Percentage of accounts whose running balances must agree throughout.
const AGREEING_PERCENT: usize = 95;

fn data(name: &str) -> PathBuf {
    let folder = std::env::var_os(VARIABLE).unwrap_or_else(|| {
        panic!("set {VARIABLE} to the folder with berka/ (a bank's transactions) in it")
    });
    PathBuf::from(folder).join("berka").join(name)
}

fn unpacked(path: &Path) -> String {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    // The bank's file is Latin-1. Only codes are not ASCII, and they are not used.
    String::from_utf8_lossy(&bytes).into_owned()
}

fn uuid(id: u128) -> String {
    let digits = format!("{id:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

/// Hellers from crowns with a decimal point.
fn hellers(text: &str) -> i128 {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let part = format!("{part:0<2}");
    whole.parse::<i128>().unwrap() * 100 + sign * part[..2].parse::<i128>().unwrap()
}

fn balances_are_as_expected(postgres: &Postgres) {
    let found: HashMap<String, (String, String)> = postgres
        .rows("SELECT account_id, debits_posted, credits_posted FROM walengine.balances")
        .into_iter()
        .map(|row| (row[0].clone(), (row[1].clone(), row[2].clone())))
        .collect();
    let expected = unpacked(&data("expected_balances.csv.gz"));
    let mut checked = 0;
    for line in expected.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let id = uuid(names::account_id(Book(0), fields[0]).0);
        let wanted = (fields[1].to_owned(), fields[2].to_owned());
        assert_eq!(found.get(&id), Some(&wanted), "{}", fields[0]);
        checked += 1;
    }
    assert_eq!(checked, found.len(), "no other accounts");
}

/// Compares an account's statement with a fold of its rows.
fn a_statement_shows_the_running_balance(postgres: &Postgres) {
    let account = uuid(names::account_id(Book(0), "account:1005").0);
    let rows = postgres.rows(&format!(
        "SELECT log_offset, debit, credit, balance FROM walengine.account_statements
          WHERE account_id = '{account}' ORDER BY log_offset"
    ));
    assert!(rows.len() > 20, "a customer of more than a year: {}", rows.len());
    let mut balance = 0i128;
    for row in &rows {
        let numbers: Vec<i128> = row.iter().map(|number| number.parse().unwrap()).collect();
        balance += numbers[2] - numbers[1];
        assert_eq!(numbers[3], balance, "{row:?}");
    }
}

/// Compares the bank's column `balance` with the statement's. The file has dates without times, and
/// not in the bank's order, so the balance at the end of a day is compared with any balance of that
/// day.
fn running_balances_are_the_banks(postgres: &Postgres) {
    let statements = postgres.rows(
        "SELECT account_id, transfer_id, balance FROM walengine.account_statements
          ORDER BY account_id, log_offset",
    );
    let found: HashMap<(String, u128), i128> = statements
        .into_iter()
        .map(|row| {
            let id = u128::from_str_radix(&row[1].replace('-', ""), 16).unwrap();
            ((row[0].clone(), id), row[2].parse().unwrap())
        })
        .collect();
    assert_eq!(found.len(), 2 * TRANSFERS, "two sides each");
    // Our balance and the bank's by account and day, in the order of the file, which is that of the
    // log.
    let mut days = BTreeMap::<(String, String), Vec<(i128, i128)>>::new();
    for line in unpacked(&data("trans.asc.gz")).lines().skip(1) {
        let fields: Vec<&str> = line.split(';').map(|field| field.trim_matches('"')).collect();
        let account = format!("account:{}", fields[1]);
        let key = (uuid(names::account_id(Book(0), &account).0), names::id_of_text(fields[0]));
        let ours = *found.get(&key).unwrap_or_else(|| panic!("no row for {line}"));
        days.entry((account, fields[2].to_owned())).or_default().push((ours, hellers(fields[6])));
    }
    let mut agreeing = BTreeMap::<&str, (bool, i128)>::new();
    for ((account, _), rows) in &days {
        let (agrees, transactions) = agreeing.entry(account).or_insert((true, 0));
        *transactions += rows.len() as i128;
        let ours = rows.last().expect("a day has a row").0;
        let nearest = rows.iter().map(|(_, banks)| (ours - banks).abs()).min();
        *agrees &= nearest.is_some_and(|nearest| nearest <= ROUNDING * *transactions);
    }
    let count = agreeing.values().filter(|(agrees, _)| *agrees).count();
    println!("running balances agree for {count} of {} accounts", agreeing.len());
    assert!(count * 100 >= agreeing.len() * AGREEING_PERCENT, "{count} of {}", agreeing.len());
}

/// By time of business: a month's statement and the balance at a day, of several accounts, against a fold of the file.
fn months_and_days_are_those_of_the_file(postgres: &Postgres) {
    const MONTH: [&str; 2] = ["1993-11-01", "1993-12-01"];
    let text = unpacked(&data("transfers.csv.gz"));
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    for name in ["bank:cash", "account:1005", "account:576", "account:2378", "account:704"] {
        let account = uuid(names::account_id(Book(0), name).0);
        let (mut before, mut month) = (0i128, Vec::new());
        for row in &rows {
            let amount: i128 = row[3].parse().unwrap();
            let moved = i128::from(row[2] == name) * amount - i128::from(row[1] == name) * amount;
            if row[6] < MONTH[0] {
                before += moved;
            } else if row[6] < MONTH[1] && moved != 0 {
                month.push((row[6], uuid(names::id_of_text(row[0])), moved));
            }
        }
        // One day has the order of the file.
        month.sort_by_key(|(day, ..)| *day);
        let mut balance = before;
        let mut expected = Vec::new();
        for (day, id, moved) in month {
            balance += moved;
            expected.push(vec![day.to_owned(), id, moved.to_string(), balance.to_string()]);
        }
        let found = postgres.rows(&format!(
            "SELECT (booked_at AT TIME ZONE 'UTC')::date, transfer_id, credit - debit, balance
               FROM walengine.statement('{account}', '{}Z', '{}Z', 'booked')",
            MONTH[0], MONTH[1]
        ));
        assert_eq!(found, expected, "{name}");
        assert!(found.len() > 3, "{name}");
        for (day, expected) in [(MONTH[0], before), (MONTH[1], balance)] {
            let found = postgres.rows(&format!(
                "SELECT b.balance, (SELECT a.balance FROM walengine.balances_at('{day}Z', 'booked') a WHERE account_id = '{account}')
                   FROM walengine.balance_at('{account}', '{day}Z', 'booked') b"
            ));
            assert_eq!(found, [[expected.to_string(), expected.to_string()]], "{name} at {day}");
        }
    }
}

/// A wrong row in one of them alone is a difference of that table and of no other.
fn each_table_of_sums_is_audited(postgres: &Postgres, projecting: &Projecting) {
    let marks = "INSERT INTO walengine.account_marks SELECT partition, id, next_offset - 1, debits_posted, credits_posted, 0, 0
                   FROM walengine.accounts JOIN walengine.positions USING (partition) LIMIT 1";
    let all = "INSERT INTO walengine.balance_marks SELECT partition, next_offset, 0 FROM walengine.positions WHERE next_offset > 0";
    for (table, spoil, mend) in [
        (
            "daily_volumes",
            "UPDATE walengine.daily_volumes SET amount = amount + 1",
            "UPDATE walengine.daily_volumes SET amount = amount - 1",
        ),
        (
            "booked_sums",
            "UPDATE walengine.booked_sums SET debits = debits + 1",
            "UPDATE walengine.booked_sums SET debits = debits - 1",
        ),
        ("account_marks", marks, "DELETE FROM walengine.account_marks"),
        ("balance_marks", all, "DELETE FROM walengine.balance_marks"),
    ] {
        postgres.rows(spoil);
        let (is_equal, said) = projecting.audit();
        postgres.rows(mend);
        assert!(!is_equal, "{table}: {said}");
        let named = said.lines().filter(|line| line.starts_with("  "));
        let others: Vec<_> = named.filter(|line| !line.contains(table)).collect();
        assert!(said.contains(&format!("  {table}, ")) && others.is_empty(), "{table}: {said}");
    }
}

#[test]
fn sql_shows_a_banks_balances_and_statements() {
    let dir = TestDir::new("projector-bank");
    let postgres = Postgres::start(&dir.path().join("pg"));
    let mut server = Launch::new(dir.path()).set("--partitions", "2").serve();
    let address = server.address().to_string();
    let projecting = Projecting::new(dir.path(), &address, &postgres.url());
    let mut projector = projecting.spawn();
    let file = data("transfers.csv.gz");
    let arguments = ["import", file.to_str().unwrap(), "--create-accounts", "--time", "date"];
    let output = run_command(Some(&server), dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let client = server.client();
    let ends: Vec<u64> = client
        .info()
        .clone()
        .partitions()
        .map(|partition| client.list_accounts(partition, None, 1, &[]).unwrap().next_offset.0)
        .collect();
    projector.wait_until_at(&postgres, &ends);
    balances_are_as_expected(&postgres);
    a_statement_shows_the_running_balance(&postgres);
    running_balances_are_the_banks(&postgres);
    months_and_days_are_those_of_the_file(&postgres);
    each_table_of_sums_is_audited(&postgres, &projecting);
    projecting.audit_finds_no_difference();
    projector.stop();
    server.stop();
}
