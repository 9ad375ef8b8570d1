//! Do a bank's real transactions come to the balances that its own table gives?

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use walengine_net::client::blocking::Client;
use walengine_net::message::EventOutcome;
use walengine_net::model::{
    Account, AccountId, Amount, Book, Code, EventBytes, LedgerId, Transfer, Verdict,
};
use walengine_net::names::{account_id, event_id};
use walengine_tests::server::{Launch, TestDir};

const VARIABLE: &str = "WALENGINE_TEST_DATA";
const TRANSFERS: usize = 49_102;
const BOOK: Book = Book(203);

/// The rows of a table, without its head.
fn table(name: &str) -> Vec<Vec<String>> {
    let folder = std::env::var_os(VARIABLE).unwrap_or_else(|| {
        panic!("set {VARIABLE} to the folder with berka/ (a bank's transactions) in it")
    });
    let path = PathBuf::from(folder).join("berka").join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn account_of(name: &str, ledger: u32) -> EventBytes {
    let id = account_id(BOOK, name);
    Account { id, ledger: LedgerId(ledger), code: Code(1), ..Account::default() }.to_bytes()
}

fn transfer_of(row: &[String]) -> Transfer {
    Transfer {
        id: event_id(&row[0]),
        debit_account_id: account_id(BOOK, &row[1]),
        credit_account_id: account_id(BOOK, &row[2]),
        amount: Amount(row[3].parse().unwrap()),
        ledger: LedgerId(row[4].parse().unwrap()),
        code: Code(row[5].parse().unwrap()),
        ..Transfer::default()
    }
}

fn submit(client: &mut Client, events: &[EventBytes]) -> Vec<EventOutcome> {
    client.submit_all(events).unwrap().outcomes().collect()
}

fn balances_are_as_expected(client: &mut Client, expected: &[Vec<String>]) {
    let ids: Vec<AccountId> = expected.iter().map(|row| account_id(BOOK, &row[0])).collect();
    let mut accounts = Vec::new();
    for ids in ids.chunks(1000) {
        accounts.extend(client.lookup_accounts(ids, &[]).unwrap());
    }
    for (row, account) in expected.iter().zip(accounts) {
        let account = account.unwrap_or_else(|| panic!("there is no {}", row[0]));
        let found = [account.debits_posted.0, account.credits_posted.0];
        let expected: [u128; 2] = [row[1].parse().unwrap(), row[2].parse().unwrap()];
        assert_eq!(found, expected, "{}", row[0]);
        assert_eq!((account.debits_pending.0, account.credits_pending.0), (0, 0), "{}", row[0]);
    }
}

/// Everything was decided before, but for one event whose amount is another now.
fn repeats_change_nothing(client: &mut Client, transfers: &[Transfer], expected: &[Vec<String>]) {
    let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
    let outcomes = submit(client, &events);
    let repeats = outcomes.iter().filter(|outcome| outcome.verdict.is_ok() && !outcome.fresh);
    assert_eq!(repeats.count(), TRANSFERS);

    let mut changed = events;
    let victim = TRANSFERS / 3;
    let amount = Amount(transfers[victim].amount.0 + 1);
    changed[victim] = Transfer { amount, ..transfers[victim] }.to_bytes();
    let outcomes = submit(client, &changed);
    let odd: Vec<_> = (0..).zip(&outcomes).filter(|(_, found)| !found.verdict.is_ok()).collect();
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert_eq!((odd[0].0, odd[0].1.verdict), (victim, Verdict::IdReused));
    balances_are_as_expected(client, expected);
}

#[test]
fn a_banks_transactions_come_to_its_balances_once_and_survive_a_kill() {
    let (rows, expected) = (table("transfers.csv.gz"), table("expected_balances.csv.gz"));
    assert_eq!(rows.len(), TRANSFERS);
    let names: BTreeSet<(&str, u32)> = rows
        .iter()
        .flat_map(|row| [&row[1], &row[2]].map(|name| (name.as_str(), row[4].parse().unwrap())))
        .collect();
    let accounts: Vec<_> = names.iter().map(|(name, ledger)| account_of(name, *ledger)).collect();
    let transfers: Vec<_> = rows.iter().map(|row| transfer_of(row)).collect();
    let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();

    let dir = TestDir::new("berka");
    let launch = Launch::new(dir.path()).set("--partitions", "2").set("--snapshot-mib", "1");
    let mut server = launch.serve();
    let mut client = server.client();
    assert!(submit(&mut client, &accounts).iter().all(|outcome| outcome.verdict.is_ok()));
    let outcomes = submit(&mut client, &events);
    assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok() && outcome.fresh));
    balances_are_as_expected(&mut client, &expected);
    repeats_change_nothing(&mut client, &transfers, &expected);

    server.kill();
    server = launch.serve();
    let mut client = server.client();
    balances_are_as_expected(&mut client, &expected);
    repeats_change_nothing(&mut client, &transfers, &expected);
    server.stop();
}
