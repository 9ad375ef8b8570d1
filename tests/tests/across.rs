//! Do transfers between partitions move money once, whole, and through everything that can go wrong?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountId, Amount, Code, EventId, LedgerId, Transfer, Verdict,
};
use walengine_tests::server::{Launch, TestDir, run_command, text};
use walengine_tests::sim::Rng;

const ACCOUNTS: usize = 20;
const TRANSFERS: usize = 1000;
const LEDGER: LedgerId = LedgerId(840);

fn create_accounts(client: &Client, random: &mut Rng) -> Vec<AccountId> {
    let new = |_| Account {
        id: AccountId(random.next_u128()),
        ledger: LEDGER,
        code: Code(1),
        ..Account::default()
    };
    let accounts: Vec<Account> = (0..ACCOUNTS).map(new).collect();
    let events: Vec<_> = accounts.iter().map(Account::to_bytes).collect();
    assert!(client.submit_all(&events).unwrap().all_ok());
    accounts.iter().map(|account| account.id).collect()
}

/// Between any two of these accounts.
fn transfer(random: &mut Rng, accounts: &[AccountId]) -> Transfer {
    let debit = random.index(accounts.len());
    let credit = (debit + 1 + random.index(accounts.len() - 1)) % accounts.len();
    Transfer {
        id: EventId(random.next_u128()),
        debit_account_id: accounts[debit],
        credit_account_id: accounts[credit],
        amount: Amount(1 + u128::from(random.below(100))),
        ledger: LEDGER,
        code: Code(1),
        ..Transfer::default()
    }
}

/// The trouble that this was made for: of these, 325 were refused, and more with more cores.
#[test]
fn accounts_with_ordinary_ids_pay_each_other_wherever_they_live() {
    let seed = 0x5eed_ac05;
    println!("seed {seed:#x}");
    let mut random = Rng::new(seed);
    let dir = TestDir::new("across");
    let launch = Launch::new(dir.path()).set("--cores", "2");
    let mut server = launch.serve();
    let client = server.client();
    let accounts = create_accounts(&client, &mut random);
    let mut expected: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
    let transfers: Vec<Transfer> =
        (0..TRANSFERS).map(|_| transfer(&mut random, &accounts)).collect();
    for Transfer { debit_account_id, credit_account_id, amount, .. } in &transfers {
        expected.entry(*debit_account_id).or_default().0 += amount.0;
        expected.entry(*credit_account_id).or_default().1 += amount.0;
    }
    let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
    let first = client.submit_all(&events).unwrap();
    let refused: Vec<_> = first.outcomes().filter(|one| !one.verdict.is_ok()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let check = |client: &Client| {
        let found = client.lookup_accounts(&accounts, &[]).unwrap();
        for (id, account) in accounts.iter().zip(found) {
            let account = account.unwrap();
            let (debits, credits) = expected.get(id).copied().unwrap_or_default();
            assert_eq!((account.debits_posted.0, account.credits_posted.0), (debits, credits));
            assert_eq!((account.debits_pending.0, account.credits_pending.0), (0, 0));
        }
    };
    check(&client);
    let again = client.submit_all(&events).unwrap();
    assert!(again.outcomes().all(|one| one.verdict == Verdict::Ok && !one.fresh));
    server.kill();
    let server = launch.serve();
    let client = server.client();
    check(&client);
    let again = client.submit_all(&events).unwrap();
    assert!(again.outcomes().all(|one| one.verdict == Verdict::Ok && !one.fresh));
    check(&client);
}

/// Runs a command that must succeed; what it said.
fn said(dir: &Path, arguments: &[&str]) -> String {
    let output = run_command(None, dir, arguments);
    let said = text(&output);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Serves a copy: what was acknowledged before it was taken is there, and once nothing is under way any more, no
/// money was made or lost.
fn is_whole(dir: &Path, data: &Path, accounts: &[AccountId], acknowledged: &[Transfer]) {
    let mut server = Launch::new(dir).data(data).set("--cores", "2").serve();
    let client = server.client();
    let by = Instant::now() + Duration::from_secs(20);
    loop {
        let found = client.lookup_accounts(accounts, &[]).unwrap();
        let found: Vec<Account> = found.into_iter().map(Option::unwrap).collect();
        let sum = |of: fn(&Account) -> u128| found.iter().map(of).sum::<u128>();
        let reserved = sum(|one| one.debits_pending.0 + one.credits_pending.0);
        let (debits, credits) = (sum(|one| one.debits_posted.0), sum(|one| one.credits_posted.0));
        if (reserved, debits) == (0, credits) {
            break;
        }
        assert!(Instant::now() < by, "{reserved} reserved, {debits} debited, {credits} credited");
        thread::sleep(Duration::from_millis(20));
    }
    let events: Vec<_> = acknowledged.iter().map(Transfer::to_bytes).collect();
    let again = client.submit_all(&events).unwrap();
    let are_there = again.outcomes().all(|one| one.verdict == Verdict::Ok && !one.fresh);
    assert!(are_there, "something acknowledged is not there");
    server.stop();
}

/// The logs of partitions are copied one after the other, while money moves between them: each copy must be of one
/// moment all the same.
#[test]
fn what_is_copied_while_money_moves_between_partitions_fits() {
    let seed = 0x5eed_c0b1;
    println!("seed {seed:#x}");
    let mut random = Rng::new(seed);
    let dir = TestDir::new("across-copies");
    let mut server = Launch::new(dir.path()).set("--cores", "2").serve();
    let address = server.address().to_string();
    let accounts = create_accounts(&server.client(), &mut random);
    let ends = AtomicBool::new(false);
    let mut copies = Vec::new();
    thread::scope(|scope| {
        let load = |mut random: Rng| {
            let (client, accounts, ends) = (server.client(), &accounts, &ends);
            scope.spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let batch = (0..500).map(|_| transfer(&mut random, accounts).to_bytes());
                    assert!(client.submit_all(&batch.collect::<Vec<_>>()).unwrap().all_ok());
                }
            })
        };
        let loads: Vec<_> = (0..4).map(|_| load(random.fork())).collect();
        let client = server.client();
        for round in 0..3 {
            let before: Vec<_> = (0..50).map(|_| transfer(&mut random, &accounts)).collect();
            let events: Vec<_> = before.iter().map(Transfer::to_bytes).collect();
            assert!(client.submit_all(&events).unwrap().all_ok());
            let (backup, export) = (format!("backup-{round}"), format!("export-{round}"));
            said(dir.path(), &["backup", &backup, "--server", &address]);
            said(dir.path(), &["export", &export, "--server", &address]);
            copies.push((backup, export, before));
        }
        ends.store(true, Ordering::Relaxed);
        for load in loads {
            load.join().unwrap();
        }
    });
    server.stop();
    for (backup, export, before) in copies {
        let data = dir.path().join("restored");
        println!("{}", said(dir.path(), &["restore", &backup, "restored", "--segment-mib", "8"]));
        is_whole(dir.path(), &data, &accounts, &before);
        assert!(said(dir.path(), &["verify", "restored"]).contains("whole: 2 partitions"));
        std::fs::remove_dir_all(&data).unwrap();
        let data = dir.path().join("imported");
        let mut target = Launch::new(dir.path()).data(&data).set("--cores", "2").serve();
        let address = target.address().to_string();
        said(dir.path(), &["import", &export, "--server", &address]);
        target.stop();
        is_whole(dir.path(), &data, &accounts, &before);
        std::fs::remove_dir_all(&data).unwrap();
    }
}
