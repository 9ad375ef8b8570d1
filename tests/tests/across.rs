//! Do transfers between partitions move money once, whole, and through everything that can go wrong?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountId, Amount, Close, CloseFlags, Code, EventId, LedgerId, Transfer,
    TransferFlags, Verdict,
};
use walengine_net::partition::of_account;
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

/// One for a few seconds, or until it is ended.
fn reservation(random: &mut Rng, accounts: &[AccountId]) -> Transfer {
    let timeout_seconds = [0, 30, 60][random.index(3)];
    let flags = TransferFlags::PENDING;
    Transfer { flags, timeout_seconds, ..transfer(random, accounts) }
}

fn end(random: &mut Rng, reserved: &Transfer) -> Transfer {
    let posts = random.percent(60);
    let Transfer { debit_account_id, credit_account_id, .. } = *reserved;
    Transfer {
        id: EventId(random.next_u128()),
        debit_account_id,
        credit_account_id,
        pending_id: reserved.id,
        amount: Amount(if posts { reserved.amount.0.div_ceil(2) } else { 0 }),
        flags: if posts { TransferFlags::POST_PENDING } else { TransferFlags::VOID_PENDING },
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
        let from = (sum(|one| one.debits_posted.0), sum(|one| one.debits_pending.0));
        let to = (sum(|one| one.credits_posted.0), sum(|one| one.credits_pending.0));
        if from == to {
            break;
        }
        assert!(Instant::now() < by, "moved and reserved: {from:?} from accounts, {to:?} to them");
        thread::sleep(Duration::from_millis(20));
    }
    let events: Vec<_> = acknowledged.iter().map(Transfer::to_bytes).collect();
    let again = client.submit_all(&events).unwrap();
    let are_there = again.outcomes().all(|one| one.verdict == Verdict::Ok && !one.fresh);
    assert!(are_there, "something acknowledged is not there");
    server.stop();
}

/// Home asks nobody to void a reservation, or to let it expire. A posting needs the other partition's word, and that may
/// be that the account is closed: then the reservation stands.
#[test]
fn a_reservation_between_partitions_is_posted_voided_or_expires() {
    let seed = 0x5eed_ac06;
    println!("seed {seed:#x}");
    let mut random = Rng::new(seed);
    let dir = TestDir::new("across-reservations");
    let launch = Launch::new(dir.path()).set("--cores", "2");
    let mut server = launch.serve();
    let client = server.client();
    let accounts = create_accounts(&client, &mut random);
    let lives = |id: &AccountId| of_account(*id, 2).0;
    let debit_account_id = *accounts.iter().find(|id| lives(id) == 0).unwrap();
    let credit_account_id = *accounts.iter().find(|id| lives(id) == 1).unwrap();
    let mut reserve = |timeout_seconds| {
        let flags = TransferFlags::PENDING;
        let any = reservation(&mut random, &accounts);
        let amount = Amount(100);
        Transfer { debit_account_id, credit_account_id, amount, flags, timeout_seconds, ..any }
    };
    let verdict = |client: &Client, transfer: &Transfer| {
        client.submit_all(&[transfer.to_bytes()]).unwrap().outcomes().next().unwrap().verdict
    };
    let balances = |client: &Client| {
        let found = client.lookup_accounts(&[debit_account_id, credit_account_id], &[]).unwrap();
        let [debit, credit] = [0, 1].map(|side| found[side].unwrap());
        let from = (debit.debits_pending.0, debit.debits_posted.0);
        (from, (credit.credits_pending.0, credit.credits_posted.0))
    };
    let [whole, part, voided, expires, closed] = [0, 0, 0, 1, 0].map(&mut reserve);
    for transfer in [&whole, &part, &voided, &expires, &closed] {
        assert_eq!(verdict(&client, transfer), Verdict::Ok);
    }
    assert_eq!(balances(&client), ((500, 0), (500, 0)));
    let mut next = 1u128 << 100;
    let mut end = |reserved: &Transfer, flags, amount| {
        next += 1;
        let (id, amount) = (EventId(next), Amount(amount));
        Transfer { id, flags, amount, pending_id: reserved.id, timeout_seconds: 0, ..*reserved }
    };
    let (post, void) = (TransferFlags::POST_PENDING, TransferFlags::VOID_PENDING);
    let posted = end(&whole, post, 0);
    assert_eq!(verdict(&client, &posted), Verdict::Ok);
    assert_eq!(balances(&client), ((400, 100), (400, 100)));
    assert_eq!(verdict(&client, &end(&whole, post, 0)), Verdict::PendingAlreadyPosted);
    assert_eq!(verdict(&client, &end(&part, post, 101)), Verdict::PendingAmountExceeded);
    assert_eq!(verdict(&client, &end(&part, post, 30)), Verdict::Ok);
    assert_eq!(balances(&client), ((300, 130), (300, 130)));
    assert_eq!(verdict(&client, &end(&voided, void, 0)), Verdict::Ok);
    assert_eq!(verdict(&client, &end(&voided, post, 0)), Verdict::PendingAlreadyVoided);
    let wrong = Transfer { credit_account_id: accounts[19], ..end(&closed, post, 0) };
    assert_eq!(verdict(&client, &wrong), Verdict::PendingCreditAccountDiffers);
    let by = Instant::now() + Duration::from_secs(20);
    while balances(&client) != ((100, 130), (100, 130)) {
        assert!(Instant::now() < by, "{:?}", balances(&client));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(verdict(&client, &end(&expires, post, 0)), Verdict::PendingExpired);
    let close = |flags, id| {
        let close = Close { id: EventId(id), account_id: credit_account_id, flags };
        client.submit_all(&[close.to_bytes()]).unwrap().all_ok()
    };
    assert!(close(CloseFlags::default(), 1 << 90));
    let refused = end(&closed, post, 0);
    assert_eq!(verdict(&client, &refused), Verdict::CreditAccountClosed);
    assert_eq!(balances(&client), ((100, 130), (100, 130)));
    assert!(close(CloseFlags::REOPEN, (1 << 90) + 1));
    assert_eq!(verdict(&client, &refused), Verdict::CreditAccountClosed, "for ever");
    server.kill();
    let server = launch.serve();
    let client = server.client();
    assert_eq!(verdict(&client, &end(&closed, post, 0)), Verdict::Ok);
    assert_eq!(balances(&client), ((0, 230), (0, 230)));
    for (transfer, expected) in [(&posted, Verdict::Ok), (&refused, Verdict::CreditAccountClosed)] {
        assert_eq!(verdict(&client, transfer), expected, "a repeat");
    }
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
                    let batch: Vec<_> = (0..400).map(|_| transfer(&mut random, accounts)).collect();
                    let reserved: Vec<_> =
                        (0..100).map(|_| reservation(&mut random, accounts)).collect();
                    let posted: Vec<_> =
                        reserved[..80].iter().map(|it| end(&mut random, it)).collect();
                    for transfers in [batch, reserved, posted] {
                        let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
                        assert!(client.submit_all(&events).unwrap().all_ok());
                    }
                }
            })
        };
        let loads: Vec<_> = (0..4).map(|_| load(random.fork())).collect();
        let client = server.client();
        for round in 0..3 {
            let reserved: Vec<_> = (0..50).map(|_| reservation(&mut random, &accounts)).collect();
            let ended: Vec<_> = reserved[..30].iter().map(|it| end(&mut random, it)).collect();
            let before = [reserved, ended].concat();
            for part in [&before[..50], &before[50..]] {
                let events: Vec<_> = part.iter().map(Transfer::to_bytes).collect();
                assert!(client.submit_all(&events).unwrap().all_ok());
            }
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
