//! Does money between partitions of real nodes come to the same in the engine and in PostgreSQL, whoever is killed,
//! paused or cut off?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{Batch, Chain, ClientError, Config, ReadFrom};
use walengine_net::message::AdminState;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, LedgerId, PartitionId,
    Transfer, TransferFlags, Verdict,
};
use walengine_net::partition::of_sides;
use walengine_net::unit;
use walengine_tests::between::account_of;
use walengine_tests::log_fold::Folded;
use walengine_tests::nodes::Nodes;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::{EndsLoad, Projecting};
use walengine_tests::sim::Rng;

/// Percentage of what is done below; an acceptance run does all of it.
const VARIABLE: &str = "WALENGINE_ACROSS_KILLS_PERCENT";
const PERCENT_DEFAULT: u64 = 15;
const KILLS: u64 = 60;
const PAUSES: u64 = 20;
const CUTS: u64 = 20;
const PARTITIONS: u16 = 2;
/// Of the nodes that are killed, paused and cut off: some chains are handed on.
const BANK_PARTITIONS: u16 = 3;
const ACCOUNTS: usize = 40;
/// Of them, the first ones.
const STRIPED: usize = 2;
const LOADERS: u64 = 3;
const BATCH_EVENTS: usize = 200;
const BATCH_CHAINS: usize = 20;
const LEDGER: LedgerId = LedgerId(978);
const DEADLINE: Duration = Duration::from_mins(1);
const SETTLES_WITHIN: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Kill,
    Pause,
    Cut,
}

fn client(addresses: &str) -> Client {
    let config = Config { deadline: DEADLINE, ..Config::new(addresses) };
    Client::connect(config).unwrap()
}

/// Every third can't be overdrawn, so that some is refused. The first two are striped.
fn account(number: usize, id: u128) -> Account {
    let id = if number < STRIPED { AccountId::striped(id) } else { AccountId(id) };
    let flags = if number.is_multiple_of(3) {
        AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
    } else if number.is_multiple_of(7) {
        AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS
    } else {
        AccountFlags::default()
    };
    let flags = if number < STRIPED { flags.with(AccountFlags::STRIPED) } else { flags };
    Account { id, ledger: LEDGER, code: Code(1), flags, ..Account::default() }
}

fn transfer(rng: &mut Rng, accounts: &[AccountId]) -> Transfer {
    let debit = if rng.percent(5) { rng.index(STRIPED) } else { rng.index(accounts.len()) };
    let mut credit = (debit + 1 + rng.index(accounts.len() - 1)) % accounts.len();
    if debit >= STRIPED && rng.percent(10) {
        credit = rng.index(STRIPED);
    }
    Transfer {
        id: EventId(rng.next_u128()),
        debit_account_id: accounts[debit],
        credit_account_id: accounts[credit],
        amount: Amount(1 + u128::from(rng.below(100))),
        ledger: LEDGER,
        code: Code(1),
        flags: if rng.percent(20) { TransferFlags::PENDING } else { TransferFlags::default() },
        ..Transfer::default()
    }
}

/// Posts a reservation, in whole or in part, or voids it; what of it is moved.
fn end(rng: &mut Rng, reserved: &Transfer) -> (Transfer, u128) {
    let (amount, flags) = match rng.below(3) {
        0 => (reserved.amount.0, TransferFlags::POST_PENDING),
        1 => (reserved.amount.0.div_ceil(2), TransferFlags::POST_PENDING),
        _ => (0, TransferFlags::VOID_PENDING),
    };
    let end = Transfer {
        id: EventId(rng.next_u128()),
        debit_account_id: reserved.debit_account_id,
        credit_account_id: reserved.credit_account_id,
        amount: Amount(amount),
        pending_id: reserved.id,
        flags,
        ..Transfer::default()
    };
    (end, amount)
}

/// Sends until it is answered, under the same ids.
fn submit(client: &Client, events: &[EventBytes]) -> Vec<Verdict> {
    let by = Instant::now() + 3 * DEADLINE;
    loop {
        match client.submit_all(events) {
            Ok(submitted) => return submitted.outcomes().map(|outcome| outcome.verdict).collect(),
            Err(error @ (ClientError::Closed | ClientError::TooMany { .. })) => panic!("{error}"),
            Err(error) => assert!(Instant::now() < by, "{error}"),
        }
    }
}

/// What was accepted, by account: debits and credits.
type Sums = BTreeMap<AccountId, (u128, u128)>;

#[derive(Default)]
struct Told {
    sums: Sums,
    accepted: u64,
    refused: u64,
    spanning: u64,
    /// To or from a striped account.
    striped: u64,
    /// Chains that were accepted.
    chains: u64,
    /// And span three partitions.
    long_chains: u64,
    /// Reservations that were ended; others are not open at the end.
    ended: u64,
}

impl Told {
    fn moved(&mut self, transfer: &Transfer, amount: u128) {
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        self.accepted += 1;
        self.sums.entry(debit).or_default().0 += amount;
        self.sums.entry(credit).or_default().1 += amount;
        let [from, to] = of_sides(transfer, BANK_PARTITIONS);
        self.spanning += u64::from(from != to);
        self.striped += u64::from(debit.is_striped() || credit.is_striped());
    }
}

/// Sends chains of transfers, whose accounts may be of all partitions.
fn chains(client: &Client, rng: &mut Rng, accounts: &[AccountId], told: &mut Told) {
    let flags = TransferFlags::default();
    // A striped account is debited at home only.
    let plain = |rng: &mut Rng| loop {
        let transfer = Transfer { flags, ..transfer(rng, accounts) };
        if !transfer.debit_account_id.is_striped() {
            return transfer;
        }
    };
    let chains: Vec<Vec<Transfer>> =
        (0..BATCH_CHAINS).map(|_| (0..rng.between(2, 4)).map(|_| plain(rng)).collect()).collect();
    let chain = |all: &Vec<Transfer>| all.iter().copied().fold(Chain::new(), Chain::transfer);
    let events: Vec<_> = chains.iter().flat_map(|all| chain(all).events()).collect();
    let verdicts = submit(client, &events);
    if rng.percent(10) {
        assert_eq!(submit(client, &events), verdicts, "a repeat gets another verdict");
    }
    let mut verdicts = verdicts.into_iter();
    for all in &chains {
        let mut verdicts: Vec<_> = verdicts.by_ref().take(all.len()).collect();
        if verdicts.iter().all(|verdict| verdict.is_ok()) {
            told.chains += 1;
            let path = unit::path(&chain(all).events(), BANK_PARTITIONS);
            let path = path.expect("it was accepted").expect("it names accounts");
            told.long_chains += u64::from(!path.between.is_empty());
            for transfer in all {
                told.moved(transfer, transfer.amount.0);
            }
            continue;
        }
        told.refused += 1;
        verdicts.retain(|verdict| *verdict != Verdict::LinkedEventFailed);
        let is_known = matches!(verdicts[..], [Verdict::ExceedsCredits | Verdict::ExceedsDebits]);
        assert!(is_known, "one is refused, and the others with it: {verdicts:?}");
    }
}

fn load(addresses: &str, mut rng: Rng, accounts: &[AccountId], ends: &AtomicBool) -> Told {
    let (client, mut told) = (client(addresses), Told::default());
    while !ends.load(Ordering::Relaxed) {
        let transfers: Vec<_> = (0..BATCH_EVENTS).map(|_| transfer(&mut rng, accounts)).collect();
        let events: Vec<_> = transfers.iter().map(Transfer::to_bytes).collect();
        let verdicts = submit(&client, &events);
        if rng.percent(10) {
            assert_eq!(submit(&client, &events), verdicts, "a repeat gets another verdict");
        }
        chains(&client, &mut rng, accounts, &mut told);
        let mut reserved = Vec::new();
        for (transfer, verdict) in transfers.iter().zip(verdicts) {
            if verdict.is_ok() && transfer.flags.contains(TransferFlags::PENDING) {
                reserved.push(*transfer);
            } else if verdict.is_ok() {
                told.moved(transfer, transfer.amount.0);
            } else {
                let known = [Verdict::ExceedsCredits, Verdict::ExceedsDebits];
                assert!(known.contains(&verdict), "{verdict:?}");
                told.refused += 1;
            }
        }
        let endings: Vec<_> = reserved.iter().map(|one| end(&mut rng, one)).collect();
        let events: Vec<_> = endings.iter().map(|(end, _)| end.to_bytes()).collect();
        for ((end, amount), verdict) in endings.iter().zip(submit(&client, &events)) {
            assert_eq!(verdict, Verdict::Ok, "{end:?}");
            told.moved(end, *amount);
            told.ended += 1;
        }
        thread::sleep(Duration::from_millis(rng.below(20)));
    }
    told
}

fn harm(harm: Harm, rng: &mut Rng, nodes: &mut Nodes) {
    let node = rng.index(nodes.count());
    let lasts = Duration::from_millis(rng.below(1500));
    match harm {
        Harm::Kill => {
            nodes.kill(node);
            thread::sleep(lasts / 4);
            nodes.spawn(node);
            nodes.wait_until_serving();
        }
        Harm::Pause => {
            nodes.pause(node);
            thread::sleep(lasts);
            nodes.resume(node);
        }
        Harm::Cut => {
            nodes.isolate(node);
            thread::sleep(lasts);
            nodes.heal();
        }
    }
    thread::sleep(Duration::from_millis(rng.below(600)));
}

/// Waits until nothing is reserved, and compares the accounts with what was acknowledged.
fn compare_with_engine(client: &Client, accounts: &[AccountId], sums: &Sums) {
    let by = Instant::now() + SETTLES_WITHIN;
    // A follower may be behind, and a replica that is no member any more stays so.
    let client = client.reading(ReadFrom::Linearizable);
    let found = loop {
        let found = client.lookup_accounts(accounts, &[]).unwrap();
        let found: Vec<Account> = found.into_iter().map(Option::unwrap).collect();
        let reserved: u128 =
            found.iter().map(|one| one.debits_pending.0 + one.credits_pending.0).sum();
        if reserved == 0 {
            break found;
        }
        assert!(Instant::now() < by, "{reserved} stays reserved");
        thread::sleep(Duration::from_millis(50));
    };
    for account in found {
        let expected = sums.get(&account.id).copied().unwrap_or_default();
        let found = (account.debits_posted.0, account.credits_posted.0);
        assert_eq!(found, expected, "account {}", account.id);
    }
}

fn compare_with_sql(postgres: &Postgres, sums: &Sums) {
    let rows = postgres.rows(
        "SELECT replace(account_id::text, '-', ''), debits_posted, credits_posted, debits_pending \
           FROM walengine.balances WHERE version > 0",
    );
    let found: Sums = rows
        .iter()
        .map(|row| {
            assert_eq!(row[3], "0", "something stays reserved");
            let id = AccountId(u128::from_str_radix(&row[0], 16).unwrap());
            (id, (row[1].parse().unwrap(), row[2].parse().unwrap()))
        })
        .collect();
    assert_eq!(found, *sums, "SQL and what was acknowledged");
}

/// A transfer between partitions is one row for people, whatever its path; and each account's movements are in its
/// statement once.
fn compare_views(postgres: &Postgres) {
    let states = "SELECT DISTINCT state FROM walengine.spanning_transfers ORDER BY 1";
    assert_eq!(postgres.rows(states), [["refused"], ["settled"]]);
    let twice = "SELECT home, id FROM walengine.spanning_transfers WHERE id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1";
    assert_eq!(postgres.rows(twice), Vec::<Vec<String>>::new(), "a transfer has two rows");
    let differ = "SELECT account_id FROM walengine.balances JOIN \
                  (SELECT account_id, sum(debit) AS debits, sum(credit) AS credits \
                     FROM walengine.account_statements GROUP BY 1) AS stated USING (account_id) \
                   WHERE (debits, credits) <> (debits_posted, credits_posted)";
    assert_eq!(postgres.rows(differ), Vec::<Vec<String>>::new(), "a statement differs");
}

#[test]
fn what_was_acknowledged_is_on_both_sides_whoever_is_killed_paused_or_cut_off() {
    let seed = 0x5eed_ac30;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let partitions = BANK_PARTITIONS.to_string();
    let mut nodes = Nodes::start("across-nodes", 3, |launch| {
        launch.set("--election-millis", "300").set("--partitions", &partitions)
    });
    let (dir, addresses) = (nodes.dir(), nodes.addresses());
    let postgres = Postgres::start(&dir.join("pg"));
    let projecting = Projecting::new(&dir, &addresses, &postgres.url());
    let mut projector = projecting.spawn();
    while postgres.ask("SELECT to_regclass('walengine.trial_balance') IS NULL") == "t" {
        assert_eq!(projector.ended(), None, "{}", projector.log());
        thread::sleep(Duration::from_millis(50));
    }
    let new: Vec<_> = (0..ACCOUNTS).map(|number| account(number, rng.next_u128())).collect();
    let accounts: Vec<AccountId> = new.iter().map(|account| account.id).collect();
    let events: Vec<_> = new.iter().map(Account::to_bytes).collect();
    assert!(submit(&client(&addresses), &events).iter().all(|verdict| verdict.is_ok()));
    let percent = std::env::var(VARIABLE).map_or(PERCENT_DEFAULT, |text| text.parse().unwrap());
    let part = |whole: u64| (whole * percent).div_ceil(100);
    let mut harms = Vec::new();
    for (harm, times) in [(Harm::Kill, KILLS), (Harm::Pause, PAUSES), (Harm::Cut, CUTS)] {
        harms.extend((0..part(times)).map(|_| harm));
    }
    rng.shuffle(&mut harms);
    let (ends, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    let told: Vec<Told> = thread::scope(|scope| {
        let (addresses, accounts, ends, looks) = (&addresses, &accounts, &ends, &looks);
        let loaders: Vec<_> = (0..LOADERS)
            .map(|_| {
                let own = rng.fork();
                scope.spawn(move || load(addresses, own, accounts, ends))
            })
            .collect();
        let postgres = &postgres;
        scope.spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for row in postgres
                    .rows("SELECT debits_posted - credits_posted FROM walengine.trial_balance")
                {
                    assert_eq!(row[0], "0", "money was made or lost in a snapshot");
                    looks.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let ending = EndsLoad(ends);
        for one in harms {
            harm(one, &mut rng, &mut nodes);
        }
        drop(ending);
        loaders.into_iter().map(|loader| loader.join().unwrap()).collect()
    });
    let mut sums = Sums::new();
    for one in &told {
        for (account, (debits, credits)) in &one.sums {
            let sum = sums.entry(*account).or_default();
            *sum = (sum.0 + debits, sum.1 + credits);
        }
    }
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (accepted, spanning) = (sum(|one| one.accepted), sum(|one| one.spanning));
    let striped = sum(|one| one.striped);
    println!(
        "{accepted} accepted, {spanning} of them between partitions, {striped} with striped accounts, {} refused; {} \
         chains accepted, {} of them over three; {} reservations ended; {} looks at SQL",
        sum(|one| one.refused),
        sum(|one| one.chains),
        sum(|one| one.long_chains),
        sum(|one| one.ended),
        looks.load(Ordering::Relaxed)
    );
    assert!(spanning > accepted / 4, "the load does not span partitions");
    assert!(striped > accepted / 20, "no striped accounts");
    assert!(sum(|one| one.chains) > 100, "no chain was accepted");
    assert!(sum(|one| one.long_chains) > 50, "no chain over three partitions was accepted");
    let client = &mut client(&addresses);
    compare_with_engine(client, &accounts, &sums);
    let folded = Folded::read(client);
    projector.wait_until_at(&postgres, &folded.ends);
    folded.agrees_with(&postgres);
    folded.is_settled();
    compare_with_sql(&postgres, &sums);
    compare_views(&postgres);
    let gifts = "SELECT count(*) FROM walengine.transfers WHERE flags & 2048 = 2048";
    let gifts: u64 = postgres.ask(gifts).parse().unwrap();
    println!("{gifts} gifts between stripes");
    assert!(gifts > 0, "no stripe lacked anything");
    println!("{}", projecting.audit_finds_no_difference());
    projector.stop();
    for node in 0..nodes.count() {
        nodes.server(node).stop();
    }
}

/// An account of a partition.
fn account_in(partition: u16, number: u128) -> AccountId {
    account_of(PARTITIONS, partition, number)
}

fn pay(id: u128, debit: AccountId, credit: AccountId, flags: TransferFlags) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: debit,
        credit_account_id: credit,
        amount: Amount(1),
        ledger: LEDGER,
        code: Code(1),
        flags,
        ..Transfer::default()
    }
}

#[test]
fn tokens_show_all_sides_on_every_node() {
    const PAYMENTS: u128 = 120;
    let partitions = BANK_PARTITIONS.to_string();
    let nodes = Nodes::start("across-tokens", 3, |launch| launch.set("--partitions", &partitions));
    let writer = client(&nodes.addresses());
    let accounts = [0, 1, 2].map(|partition| account_of(BANK_PARTITIONS, partition, 1));
    let [payer, payee, third] = accounts;
    let new = accounts
        .map(|id| Account { id, ledger: LEDGER, code: Code(1), ..Account::default() }.to_bytes());
    let created = writer.submit_all(&new).unwrap();
    assert!(created.all_ok());
    let readers: Vec<Client> = (0..nodes.count())
        .map(|node| client(&nodes.address(node).to_string()).reading(ReadFrom::Any))
        .collect();
    let plain = TransferFlags::default();
    for number in 1..=PAYMENTS {
        // A payment, a reservation and its end, and a repeat of all.
        let paid = writer.submit_all(&[pay(number << 8, payer, payee, plain).to_bytes()]).unwrap();
        let reserves = pay(number << 8 | 1, payer, payee, TransferFlags::PENDING).to_bytes();
        let reserved = writer.submit_all(&[reserves]).unwrap();
        let post = Transfer {
            pending_id: EventId(number << 8 | 1),
            ..pay(number << 8 | 2, payer, payee, TransferFlags::POST_PENDING)
        };
        let posted = writer.submit_all(&[post.to_bytes()]).unwrap();
        let repeated = writer.submit_all(&[post.to_bytes()]).unwrap();
        // A chain that is handed on, behind a payment to its last partition: that has a token of its own there.
        let chain = Chain::new().transfer(pay(number << 8 | 3, payer, payee, plain)).transfer(pay(
            number << 8 | 4,
            payee,
            third,
            plain,
        ));
        let also = pay(number << 8 | 5, payer, third, plain).to_bytes();
        let chain = [vec![also], chain.events()].concat();
        let chained = writer.submit_all(&chain).unwrap();
        let chained_again = writer.submit_all(&chain).unwrap();
        let (two, three): (&[u16], &[u16]) = (&[0, 1], &[0, 1, 2]);
        let (first, last) = (3 * number - 2, 3 * number);
        let seen = [
            (&paid, first, two),
            (&reserved, first, two),
            (&posted, first + 1, two),
            (&repeated, first + 1, two),
            (&chained, last, three),
            (&chained_again, last, three),
        ];
        for (submitted, moved, partitions) in seen {
            assert!(submitted.all_ok(), "{submitted:?}");
            let of: Vec<u16> = submitted.tokens.iter().map(|token| token.partition.0).collect();
            assert_eq!(of, partitions, "one of each partition that has a part in it");
            for reader in &readers {
                let found = reader.lookup_accounts(&accounts, &submitted.tokens).unwrap();
                let [payer, payee, third] = [0, 1, 2].map(|place| found[place].unwrap());
                assert!(payer.debits_posted.0 >= moved, "{moved} paid, {payer:?}");
                assert!(payee.credits_posted.0 >= moved, "{moved} paid, {payee:?}");
                if partitions.len() > 2 {
                    assert!(payee.debits_posted.0 >= number, "{number} passed on, {payee:?}");
                    assert!(third.credits_posted.0 >= 2 * number, "{number} twice, {third:?}");
                }
            }
        }
    }
}

#[test]
fn a_partition_without_a_majority_holds_up_only_what_goes_there() {
    /// So much may be under way.
    const UNDER_WAY_MAX: u128 = walengine::limits::DOUBTS_MAX as u128;
    const SENT: u128 = UNDER_WAY_MAX + 8 * 8190;
    const LOCAL: u128 = 20 * 8190;
    let partitions = PARTITIONS.to_string();
    let mut nodes = Nodes::start("across-majority", 3, |launch| {
        launch.set("--election-millis", "2000").set("--partitions", &partitions)
    });
    let addresses = nodes.addresses();
    let whole = client(&addresses);
    let [payer, other, payee] = [account_in(0, 1), account_in(0, 2), account_in(1, 1)];
    let new = [payer, other, payee]
        .map(|id| Account { id, ledger: LEDGER, code: Code(1), ..Account::default() }.to_bytes());
    assert!(whole.submit_all(&new).unwrap().all_ok());
    // Partition 1 lives on two nodes from now on, one of which is killed: partition 0 has a majority still.
    let (removed, killed) = (whole_id(&nodes, 2), 1);
    let lost = loop {
        let outcome = whole.remove_node(PartitionId(1), removed).unwrap();
        match outcome.state {
            AdminState::Done | AdminState::Unchanged => break outcome,
            _ => thread::sleep(Duration::from_millis(100)),
        }
    };
    println!("{lost:?}");
    nodes.kill(killed);
    let hasty =
        Client::connect(Config { deadline: Duration::from_secs(2), ..Config::new(&addresses) });
    let hasty = hasty.unwrap();
    let plain = TransferFlags::default();
    let batch = |first: u128, credit: AccountId| -> Vec<EventBytes> {
        (first..first + 8190).map(|id| pay(id, payer, credit, plain).to_bytes()).collect()
    };
    // Whoever leads partition 0 then answers.
    let first = submit(&whole, &[pay(1 << 100, payer, other, plain).to_bytes()]);
    assert!(first[0].is_ok());
    let newest = whole.reading(ReadFrom::Linearizable);
    let reserved = || newest.lookup_accounts(&[payer], &[]).unwrap()[0].unwrap().debits_pending.0;
    let (by, mut unanswered) = (Instant::now() + SETTLES_WITHIN, 0);
    // Until no more may be under way.
    while reserved() < UNDER_WAY_MAX {
        assert!(Instant::now() < by, "only {} reserved", reserved());
        let batches = (1..=SENT).step_by(8190);
        let batches =
            batches.map(|first| Batch { partition: PartitionId(0), events: batch(first, payee) });
        hasty.submit_pipelined(batches, 40, |_, answer| {
            assert!(answer.is_err(), "partition 1 has no majority: {answer:?}");
            unanswered += 1;
        });
    }
    let began = Instant::now();
    for first in (SENT + 1..=SENT + LOCAL).step_by(8190) {
        let taken = submit(&whole, &batch(first, other));
        assert!(taken.iter().all(|verdict| verdict.is_ok()), "what is local goes on");
    }
    let took = began.elapsed();
    let found = newest.lookup_accounts(&[payer], &[]).unwrap()[0].unwrap();
    println!("{unanswered} batches unanswered, {LOCAL} local transfers in {took:?}, {found:?}");
    assert_eq!((found.debits_posted.0, found.debits_pending.0), (LOCAL + 1, UNDER_WAY_MAX));
    nodes.spawn(killed);
    nodes.wait_until_serving();
    for first in (1..=SENT).step_by(8190) {
        let verdicts = submit(&whole, &batch(first, payee));
        assert!(verdicts.iter().all(|verdict| verdict.is_ok()), "all of it is decided once");
    }
    let sums =
        Sums::from([(payer, (SENT + LOCAL + 1, 0)), (other, (0, LOCAL + 1)), (payee, (0, SENT))]);
    compare_with_engine(&whole, &[payer, other, payee], &sums);
}

fn whole_id(nodes: &Nodes, node: usize) -> u64 {
    client(&nodes.address(node).to_string()).home_node().unwrap()
}
