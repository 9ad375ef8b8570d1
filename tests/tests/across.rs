//! Do transfers between partitions move money once, whole, and through everything that can go wrong?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{Chain, Config};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, Code, Event, EventId, Guard,
    GuardFlags, Transfer, TransferFlags, Verdict,
};
use walengine_net::partition::of_account;
use walengine_tests::between::{LEDGER, account_of, between};
use walengine_tests::server::{Launch, TestDir, run_command, text};
use walengine_tests::sim::Rng;

const ACCOUNTS: usize = 20;
const TRANSFERS: usize = 1000;

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

/// Books of two partitions.
fn account_in(partition: u16, number: u128) -> AccountId {
    account_of(2, partition, number)
}

/// A chain takes effect whole or not at all, wherever its accounts live, and has one verdict for each event.
#[test]
fn a_chain_between_partitions_is_decided_as_a_whole() {
    let dir = TestDir::new("across-chain");
    let launch = Launch::new(dir.path()).set("--cores", "2");
    let mut server = launch.serve();
    let client = server.client();
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let new = |(partition, number, flags)| Account {
        id: account_in(partition, number),
        ledger: LEDGER,
        code: Code(1),
        flags,
        ..Account::default()
    };
    let none = AccountFlags::default();
    let kinds = [(0, 1, limited), (0, 2, none), (1, 1, limited), (1, 2, none)];
    let events: Vec<_> = kinds.map(new).map(|account| account.to_bytes()).into();
    assert!(client.submit_all(&events).unwrap().all_ok());
    let [alice, bank, bob, fees] = [(0, 1), (0, 2), (1, 1), (1, 2)].map(|(p, n)| account_in(p, n));
    let verdicts = |chain: Chain| -> Vec<Verdict> {
        client.submit_all(&chain.events()).unwrap().outcomes().map(|one| one.verdict).collect()
    };
    let posted = |id: AccountId| {
        let account = client.lookup_accounts(&[id], &[]).unwrap()[0].unwrap();
        assert_eq!((account.debits_pending.0, account.credits_pending.0), (0, 0), "{account:?}");
        (account.debits_posted.0, account.credits_posted.0)
    };
    // Money that comes in a chain may be spent in it: Alice has none before.
    let paid = Chain::new()
        .transfer(between(1, bank, alice, 100))
        .transfer(between(2, alice, bob, 90))
        .transfer(between(3, alice, fees, 10));
    assert_eq!(verdicts(paid.clone()), [Verdict::Ok; 3]);
    assert_eq!([posted(alice), posted(bob), posted(fees)], [(100, 100), (0, 90), (0, 10)]);
    // Home refuses, and nothing is sent.
    let broke =
        Chain::new().transfer(between(4, bank, fees, 5)).transfer(between(5, alice, bob, 1));
    assert_eq!(verdicts(broke), [Verdict::LinkedEventFailed, Verdict::ExceedsCredits]);
    // The other partition refuses: Bob has no more than 90, and what Alice was paid is taken back.
    let refused = Chain::new()
        .transfer(between(6, bank, alice, 7))
        .transfer(between(7, bob, fees, 60))
        .transfer(between(8, bob, bank, 60));
    let failed = Verdict::LinkedEventFailed;
    assert_eq!(verdicts(refused.clone()), [failed, failed, Verdict::ExceedsCredits]);
    assert_eq!([posted(alice), posted(bob), posted(fees)], [(100, 100), (0, 90), (0, 10)]);
    // A guard is checked where its account lives, which then has the last word.
    let version = client.lookup_accounts(&[bob], &[]).unwrap()[0].unwrap().version;
    let guard = |id, version| Guard {
        id: EventId(id),
        account_id: bob,
        version,
        flags: GuardFlags::VERSION,
        ..Guard::default()
    };
    let guarded = |id, version| {
        Chain::new().guard(guard(id, version)).transfer(between(id + 1, bob, bank, 20))
    };
    assert_eq!(verdicts(guarded(10, version)), [Verdict::Ok; 2]);
    assert_eq!(verdicts(guarded(20, version)), [Verdict::GuardVersionDiffers, failed]);
    // A reservation, and its end with a payment elsewhere.
    let pending = Transfer { flags: TransferFlags::PENDING, ..between(30, bank, alice, 40) };
    assert_eq!(verdicts(Chain::new().transfer(pending)), [Verdict::Ok]);
    let flags = TransferFlags::POST_PENDING;
    let post = Transfer {
        id: EventId(31),
        debit_account_id: bank,
        pending_id: EventId(30),
        amount: Amount(30),
        flags,
        ..Transfer::default()
    };
    let posts = Chain::new().transfer(post).transfer(between(32, alice, bob, 30));
    assert_eq!(verdicts(posts), [Verdict::Ok; 2]);
    // What would need more than that has a verdict of its own.
    let account = new((1, 9, none));
    let opens = Chain::new().event(Event::Account(account)).transfer(between(40, bank, bob, 1));
    assert_eq!(verdicts(opens), [Verdict::CannotSpan, Verdict::LinkedEventMalformed]);
    let two = Chain::new()
        .guard(guard(41, 0))
        .guard(Guard { id: EventId(42), account_id: alice, ..guard(42, 0) })
        .transfer(between(43, alice, bob, 1));
    let malformed = Verdict::LinkedEventMalformed;
    assert_eq!(verdicts(two), [malformed, Verdict::GuardElsewhere, malformed]);
    let check = || {
        assert_eq!([posted(alice), posted(bob)], [(130, 130), (20, 120)]);
        assert_eq!([posted(bank), posted(fees)], [(130, 20), (0, 10)]);
    };
    check();
    // Each repeat has the one verdict, also behind a crash.
    for crashes in [false, true] {
        if crashes {
            server.kill();
            server = launch.serve();
        }
        let client = server.client();
        let again = client.submit_all(&paid.events()).unwrap();
        assert!(again.outcomes().all(|one| one.verdict.is_ok() && !one.fresh));
        let again = client.submit_all(&refused.events()).unwrap();
        let again: Vec<_> = again.outcomes().map(|one| (one.verdict, one.fresh)).collect();
        assert_eq!(
            again,
            [failed, failed, Verdict::ExceedsCredits].map(|verdict| (verdict, false))
        );
    }
}

/// A chain over three partitions is handed on from one to the next, and each of them may refuse it.
#[test]
fn a_chain_over_three_partitions_is_decided_as_a_whole() {
    let dir = TestDir::new("across-three");
    let launch = Launch::new(dir.path()).set("--cores", "2").set("--partitions", "3");
    let mut server = launch.serve();
    let client = server.client();
    let [alice, bob, carol] = [0, 1, 2].map(|partition| account_of(3, partition, 1));
    let bank = account_of(3, 0, 2);
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let new = |(id, flags)| {
        Account { id, ledger: LEDGER, code: Code(1), flags, ..Account::default() }.to_bytes()
    };
    let none = AccountFlags::default();
    let kinds = [(alice, limited), (bob, limited), (carol, limited), (bank, none)];
    assert!(client.submit_all(&kinds.map(new)).unwrap().all_ok());
    let verdicts = |client: &Client, chain: &Chain| -> Vec<Verdict> {
        client.submit_all(&chain.events()).unwrap().outcomes().map(|one| one.verdict).collect()
    };
    let posted = |client: &Client| {
        let found = client.lookup_accounts(&[alice, bob, carol], &[]).unwrap();
        found.into_iter().flatten().map(|account| {
            assert_eq!(account.debits_pending, Amount(0), "{account:?}");
            (account.debits_posted.0, account.credits_posted.0, account.credits_pending.0)
        })
    };
    // Money that comes in a chain may be spent in it, at each stop: nobody but the bank has any before.
    let paid = Chain::new()
        .transfer(between(1, bank, bob, 100))
        .transfer(between(2, bob, carol, 60))
        .transfer(between(3, carol, alice, 25));
    assert_eq!(verdicts(&client, &paid), [Verdict::Ok; 3]);
    let after = [(0, 25, 0), (60, 100, 0), (25, 60, 0)];
    assert!(posted(&client).eq(after));
    // Home refuses, then the one in between, then the last one.
    let failed = Verdict::LinkedEventFailed;
    let refused = |id: u128, amounts: [u128; 3], culprit: usize| {
        let chain = Chain::new()
            .transfer(between(id, alice, bob, amounts[0]))
            .transfer(between(id + 1, bob, carol, amounts[1]))
            .transfer(between(id + 2, carol, alice, amounts[2]));
        let mut expected = [failed; 3];
        expected[culprit] = Verdict::ExceedsCredits;
        (chain, expected)
    };
    let refusals =
        [refused(10, [26, 1, 1], 0), refused(20, [5, 46, 1], 1), refused(30, [5, 45, 81], 2)];
    for (chain, expected) in &refusals {
        assert_eq!(verdicts(&client, chain), expected);
        assert!(posted(&client).eq(after), "nothing has moved, and nothing is reserved");
    }
    // A guard of the last one, and a reservation for the one in between, which is posted without the last one.
    let version = client.lookup_accounts(&[carol], &[]).unwrap()[0].unwrap().version;
    let guard = Guard {
        id: EventId(40),
        account_id: carol,
        version,
        flags: GuardFlags::VERSION,
        ..Guard::default()
    };
    let flags = TransferFlags::PENDING;
    let reserves = Chain::new()
        .guard(guard)
        .transfer(Transfer { flags, ..between(41, bank, bob, 40) })
        .transfer(between(42, bob, carol, 5));
    assert_eq!(verdicts(&client, &reserves), [Verdict::Ok; 3]);
    assert!(posted(&client).eq([(0, 25, 0), (65, 100, 40), (25, 65, 0)]));
    let stale = Chain::new()
        .guard(Guard { id: EventId(50), ..guard })
        .transfer(between(51, bank, bob, 1))
        .transfer(between(52, bob, carol, 1));
    assert_eq!(verdicts(&client, &stale), [Verdict::GuardVersionDiffers, failed, failed]);
    let (pending_id, flags) = (EventId(41), TransferFlags::POST_PENDING);
    let post = Transfer { pending_id, flags, ..between(43, bank, bob, 30) };
    assert_eq!(verdicts(&client, &Chain::new().transfer(post)), [Verdict::Ok]);
    let after = [(0, 25, 0), (65, 130, 0), (25, 65, 0)];
    assert!(posted(&client).eq(after));
    // Each repeat has the one verdict, also behind a crash.
    for crashes in [false, true] {
        if crashes {
            server.kill();
            server = launch.serve();
        }
        let client = server.client();
        assert_eq!(verdicts(&client, &paid), [Verdict::Ok; 3]);
        for (chain, expected) in &refusals {
            assert_eq!(verdicts(&client, chain), expected);
        }
        assert!(posted(&client).eq(after));
    }
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
    let mut server = Launch::new(dir.path()).set("--cores", "2").set("--partitions", "3").serve();
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
                    let chain = |_| {
                        let three = (0..3).map(|_| transfer(&mut random, accounts));
                        three.fold(Chain::new(), Chain::transfer).events()
                    };
                    let events = (0..50).flat_map(chain).collect::<Vec<_>>();
                    assert!(client.submit_all(&events).unwrap().all_ok());
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
        assert!(said(dir.path(), &["verify", "restored"]).contains("whole: 3 partitions"));
        std::fs::remove_dir_all(&data).unwrap();
        let data = dir.path().join("imported");
        let mut target = Launch::new(dir.path())
            .data(&data)
            .set("--cores", "2")
            .set("--partitions", "3")
            .serve();
        let address = target.address().to_string();
        said(dir.path(), &["import", &export, "--server", &address]);
        target.stop();
        is_whole(dir.path(), &data, &accounts, &before);
        std::fs::remove_dir_all(&data).unwrap();
    }
}

/// A node alone answers when the word is there, which may be lost with it. Whoever reads after its next start sees what was
/// answered all the same, and the tokens of both partitions are kept.
#[test]
fn what_a_lone_node_has_answered_is_shown_from_its_next_start_on() {
    const LIVES: u128 = 10;
    const PAYERS: u128 = 6;
    let dir = TestDir::new("across-lives");
    let launch = Launch::new(dir.path()).set("--cores", "2");
    let mut server = launch.serve();
    let ids: Vec<AccountId> =
        (0..2).flat_map(|partition| (1..=PAYERS).map(move |n| account_in(partition, n))).collect();
    let new = |&id| Account { id, ledger: LEDGER, code: Code(1), ..Account::default() }.to_bytes();
    let events: Vec<_> = ids.iter().map(new).collect();
    assert!(server.client().submit_all(&events).unwrap().all_ok());
    let mut acknowledged = vec![0u128; ids.len()];
    let mut sent = acknowledged.clone();
    for life in 0..LIVES {
        let (ids, ends) = (&ids, &AtomicBool::new(false));
        let config = Config {
            deadline: Duration::from_millis(500),
            ..Config::new(server.address().to_string())
        };
        let clients = ids.iter().map(|_| Client::connect(config.clone()).unwrap());
        let clients: Vec<Client> = clients.collect();
        let (found, paid) = thread::scope(|scope| {
            let pay = |place: usize, client: Client| {
                let payee = ids[(place + ids.len() / 2) % ids.len()];
                let (mut acknowledged, mut sent) = (0, 0);
                while !ends.load(Ordering::Relaxed) {
                    sent += 1;
                    let id = life << 64 | (place as u128 + 1) << 32 | sent;
                    let event = between(id, ids[place], payee, 1).to_bytes();
                    let Ok(submitted) = client.submit_all(&[event]) else { continue };
                    assert!(submitted.all_ok());
                    let mut of: Vec<u16> =
                        submitted.tokens.iter().map(|it| it.partition.0).collect();
                    of.sort_unstable();
                    assert_eq!(of, [0, 1], "a token of each partition");
                    // What is answered from now on may be by the next life.
                    acknowledged += u128::from(!ends.load(Ordering::Relaxed));
                }
                (acknowledged, sent)
            };
            let clients = clients.into_iter().enumerate();
            let payers = clients.map(|(place, client)| scope.spawn(move || pay(place, client)));
            let payers: Vec<_> = payers.collect();
            thread::sleep(Duration::from_millis(60 + 17 * life as u64));
            ends.store(true, Ordering::Relaxed);
            server.kill();
            server = launch.serve();
            let found = server.client().lookup_accounts(ids, &[]).unwrap();
            let paid = payers.into_iter().map(|payer| payer.join().unwrap());
            (found, paid.collect::<Vec<_>>())
        });
        for (place, (account, (new, tried))) in found.iter().zip(paid).enumerate() {
            acknowledged[place] += new;
            sent[place] += tried;
            let posted = account.unwrap().debits_posted.0;
            let may_be = acknowledged[place]..=sent[place];
            assert!(may_be.contains(&posted), "{posted} of {may_be:?} posted");
        }
    }
    println!("{} acknowledged", acknowledged.iter().sum::<u128>());
    server.stop();
}
