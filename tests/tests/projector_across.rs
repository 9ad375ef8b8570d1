//! Does SQL show both sides of every transfer between partitions, whenever the projector is killed, and
//! does the audit prove that they fit?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::client::Chain;
use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, Guard, GuardFlags,
    LedgerId, PartitionId, Transfer, TransferFlags,
};
use walengine_net::partition::of_account;
use walengine_tests::log_fold::Folded;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::{EndsLoad, Projecting, Projector};
use walengine_tests::server::{Launch, Server, TestDir};
use walengine_tests::sim::Rng;

const PARTITIONS: u16 = 2;
const ACCOUNTS: usize = 40;
const BATCHES: usize = 16;
const BATCH_TRANSFERS: usize = 250;
/// Kills of the projector, at least; there are more if none has left anything under way.
const KILLS: u32 = 8;
const KILLS_MAX: u32 = 200;
const LEDGERS: [LedgerId; 2] = [LedgerId(840), LedgerId(978)];
/// Exit code of [`walengine_net::cli::Reason::Schema`].
const SCHEMA: i32 = 13;
/// When nothing is logged for so long, every reservation with a timeout has ended.
const EXPIRED_AFTER: Duration = Duration::from_millis(2500);
/// How long what is under way may take to arrive.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes accounts with ordinary ids, and transfers between them, half of which span.
struct Load {
    random: Rng,
    /// Whether it also reserves, ends what was reserved, and sends chains.
    reserves: bool,
    pendings: Vec<Transfer>,
    accounts: Vec<Account>,
    sent: Vec<Vec<EventBytes>>,
}

impl Load {
    /// With accounts of every kind, which exist afterwards.
    fn start(client: &Client, seed: u64) -> Self {
        println!("seed {seed:#x}");
        let mut random = Rng::new(seed);
        let accounts: Vec<Account> = (0..ACCOUNTS)
            .map(|number| Account {
                id: AccountId(random.next_u128()),
                ledger: LEDGERS[usize::from(number % 4 == 0)],
                code: Code(1),
                flags: match number % 8 {
                    5 => AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
                    6 => AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
                    7 => AccountFlags::CLOSED,
                    _ => AccountFlags::default(),
                },
                ..Account::default()
            })
            .collect();
        let events: Vec<_> = accounts.iter().map(Account::to_bytes).collect();
        assert!(client.submit_all(&events).unwrap().all_ok());
        Self { random, reserves: true, pendings: Vec::new(), accounts, sent: Vec::new() }
    }

    /// Posts a reservation, in whole or in part, or voids it.
    fn end(&mut self) -> Option<Transfer> {
        let newest = self.pendings.len().checked_sub(1)?;
        let reserved = self.pendings[newest - self.random.index(newest.min(400) + 1)];
        let posts = self.random.percent(60);
        let (debit_account_id, credit_account_id) =
            (reserved.debit_account_id, reserved.credit_account_id);
        let is_part = posts && self.random.percent(40);
        Some(Transfer {
            id: EventId(self.random.next_u128()),
            debit_account_id,
            credit_account_id,
            amount: if is_part { Amount(reserved.amount.0.div_ceil(2)) } else { Amount(0) },
            pending_id: reserved.id,
            flags: if posts { TransferFlags::POST_PENDING } else { TransferFlags::VOID_PENDING },
            ..Transfer::default()
        })
    }

    fn event(&mut self) -> Transfer {
        let ends = self.reserves && self.random.percent(15);
        if let Some(end) = ends.then(|| self.end()).flatten() {
            return end;
        }
        let mut transfer = self.transfer();
        if self.reserves && self.random.percent(25) {
            transfer.flags = transfer.flags.with(TransferFlags::PENDING);
            transfer.timeout_seconds = [0, 0, 1, 2][self.random.index(4)];
            self.pendings.push(transfer);
        }
        transfer
    }

    fn transfer(&mut self) -> Transfer {
        let debit = self.accounts[self.random.index(ACCOUNTS)];
        let home = of_account(debit.id, PARTITIONS);
        let spans = self.random.percent(50);
        // Some are paid that do not exist, and some in another currency.
        let (exists, same) = (!self.random.percent(5), !self.random.percent(5));
        let credit = loop {
            let mut credit = self.accounts[self.random.index(ACCOUNTS)];
            if !exists {
                credit.id = AccountId(self.random.next_u128());
            }
            let goes_there = (of_account(credit.id, PARTITIONS) != home) == spans;
            if goes_there && credit.id != debit.id && (credit.ledger == debit.ledger) == same {
                break credit.id;
            }
        };
        Transfer {
            id: EventId(self.random.next_u128()),
            debit_account_id: debit.id,
            credit_account_id: credit,
            amount: Amount(u128::from(self.random.between(1, 1_000))),
            ledger: debit.ledger,
            code: Code(self.random.between(1, 600) as u16),
            user_data_64: self.random.below(2),
            flags: match self.random.below(12) {
                0 => TransferFlags::BALANCING_DEBIT,
                1 => TransferFlags::BALANCING_CREDIT,
                _ => TransferFlags::default(),
            },
            ..Transfer::default()
        }
    }

    /// A chain over both partitions: transfers, now and then a reservation, the end of one, or a guard.
    fn chain(&mut self) -> Vec<EventBytes> {
        let first = loop {
            let first = self.transfer();
            if !first.is_balancing() && spans(&first) {
                break first;
            }
        };
        let home = of_account(first.debit_account_id, PARTITIONS);
        let mut chain = Chain::new().transfer(first);
        for _ in 0..self.random.between(1, 3) {
            let mut transfer = self.transfer();
            if spans(&transfer) {
                transfer.flags = TransferFlags::default();
            }
            let is_at_home = of_account(transfer.debit_account_id, PARTITIONS) == home;
            match self.random.below(10) {
                0 | 1 if is_at_home => {
                    transfer.flags = TransferFlags::PENDING;
                    self.pendings.push(transfer);
                }
                2 | 3 => {
                    let end = self.end().filter(|end| {
                        !spans(end) && of_account(end.debit_account_id, PARTITIONS) == home
                    });
                    transfer = end.unwrap_or(transfer);
                }
                4 => {
                    chain = chain.guard(Guard {
                        id: EventId(self.random.next_u128()),
                        account_id: first.credit_account_id,
                        available: Amount(u128::from(self.random.below(200))),
                        flags: GuardFlags::AVAILABLE_TO_DEBIT,
                        ..Guard::default()
                    });
                    continue;
                }
                _ => {}
            }
            chain = chain.transfer(transfer);
        }
        chain.events()
    }

    /// The next transfers; some were sent before.
    fn batch(&mut self) -> Vec<EventBytes> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_TRANSFERS {
            let unit = if !self.sent.is_empty() && self.random.percent(8) {
                self.sent[self.random.index(self.sent.len())].clone()
            } else if self.reserves && self.random.percent(10) {
                self.chain()
            } else {
                vec![self.event().to_bytes()]
            };
            batch.extend_from_slice(&unit);
            self.sent.push(unit);
        }
        batch
    }
}

fn spans(transfer: &Transfer) -> bool {
    of_account(transfer.debit_account_id, PARTITIONS)
        != of_account(transfer.credit_account_id, PARTITIONS)
}

/// A server with two partitions, a database, and a projector between them.
struct Setup {
    /// Removed at the end.
    _dir: TestDir,
    postgres: Postgres,
    server: Server,
    projecting: Projecting,
    projector: Projector,
}

impl Setup {
    fn start(test: &str) -> Self {
        let dir = TestDir::new(test);
        let postgres = Postgres::start(&dir.path().join("pg"));
        let launch = Launch::new(dir.path()).set("--cores", "2").set("--partitions", "2");
        let server = launch.serve();
        let address = server.address().to_string();
        let projecting = Projecting::new(dir.path(), &address, &postgres.url());
        let projector = projecting.spawn();
        Self { _dir: dir, postgres, server, projecting, projector }
    }

    fn ask(&self, sql: &str) -> String {
        self.postgres.ask(&format!("SET search_path = walengine; {sql}"))
    }

    /// The two columns of the only row.
    fn pair(&self, sql: &str) -> (String, String) {
        let row = self.ask(sql);
        let (one, other) = row.split_once(',').expect("there is a row");
        (one.to_owned(), other.to_owned())
    }

    /// Waits until nothing is under way and all of it is projected, and compares.
    fn comes_to_the_end(&mut self) -> Folded {
        let folded = settled(&mut self.server.client());
        self.projector.wait_until_at(&self.postgres, &folded.ends);
        folded.agrees_with(&self.postgres);
        folded
    }

    fn stop(&mut self) {
        self.projector.stop();
        self.server.stop();
    }
}

/// The log, once nothing in it is under way.
fn settled(client: &mut Client) -> Folded {
    let by = Instant::now() + PATIENCE;
    let mut before = Folded::read(client);
    loop {
        thread::sleep(EXPIRED_AFTER);
        let folded = Folded::read(client);
        if folded.under_way() == 0 && folded.ends == before.ends {
            folded.is_settled();
            return folded;
        }
        assert!(Instant::now() < by, "{} are under way", folded.under_way());
        before = folded;
    }
}

/// With the projector dead, and something under way by the tables: the audit says how many, misses one
/// that was removed, and a projector does not go on without it.
fn what_is_under_way_is_audited(setup: &Setup) {
    let count = setup.ask("SELECT count(*) FROM under_way");
    let by_partition = setup.ask("SELECT count(*) FROM under_way WHERE partition = 0");
    let report = setup.projecting.audit_finds_no_difference();
    let line = report.lines().find(|line| line.starts_with("partition 0: equal")).unwrap();
    assert!(line.ends_with(&format!(", {by_partition} under way")), "{report}");
    // A void is decided at home, and waits for a word in a chain only.
    let shown = "SELECT count(*) FROM spanning_transfers s WHERE state IN ('under way', 'arrived')
                    AND home_offset IS NOT NULL AND (kind NOT IN ('void', 'expire') OR EXISTS
                        (SELECT FROM under_way u WHERE u.partition = s.home AND u.log_offset = s.home_offset))";
    assert_eq!(setup.ask(shown), count);
    let reserved = "SELECT (SELECT coalesce(sum(amount), 0) FROM under_way
                             WHERE get_byte(body, 118) & 12 = 0 AND (sides IS NULL OR sides = 1))
                         + (SELECT coalesce(sum(amount), 0) FROM transfer_states
                             WHERE state = 'pending' AND other_partition IS NOT NULL AND (sides IS NULL OR sides = 1))
                         = (SELECT sum(credits_pending) FROM in_transit)";
    assert_eq!(setup.ask(reserved), "t");
    let (partition, offset) =
        setup.pair("SELECT partition, log_offset FROM under_way ORDER BY 1, 2 LIMIT 1");
    let wait = format!(
        "SELECT walengine_wait_for(replace(cluster::text, '-', '') || '-{partition}-{offset}', '50 ms')
           FROM log"
    );
    assert_eq!(setup.ask(&wait), "f", "the token of what is under way");
    let part = format!("under_way_p000{partition}");
    setup.ask(&format!(
        "CREATE TABLE public.kept AS SELECT * FROM {part} WHERE log_offset = {offset};
         DELETE FROM {part} WHERE log_offset = {offset}"
    ));
    let (equal, said) = setup.projecting.audit();
    let missed = format!("under_way, log_offset {offset}: the row is missing");
    assert!(!equal && said.contains(&missed), "{said}");
    let line = setup.projecting.fails_with(SCHEMA);
    assert!(line.contains("under_way") && line.contains("changed by hand"), "{line}");
    // The other partition may have gone on meanwhile, and this one up to the word.
    setup.ask(&format!("INSERT INTO {part} SELECT * FROM public.kept; DROP TABLE public.kept"));
}

/// Kills the projector again and again while the load goes on. Returns how often something was under
/// way then.
fn kills(setup: &mut Setup, random: &mut Rng, ends: &AtomicBool) -> u32 {
    let (mut kills, mut open) = (0, 0);
    while kills < KILLS || open == 0 && kills < KILLS_MAX {
        thread::sleep(Duration::from_millis(random.between(50, 400)));
        setup.projector.kill();
        kills += 1;
        if setup.ask("SELECT to_regclass('under_way') IS NOT NULL") == "t"
            && setup.ask("SELECT count(*) FROM under_way") != "0"
        {
            open += 1;
            if open == 1 {
                what_is_under_way_is_audited(setup);
            }
        }
        setup.projector = setup.projecting.spawn();
    }
    ends.store(true, Ordering::Relaxed);
    open
}

/// Every account of the engine is in SQL as the engine has it, and no other.
fn accounts_are_the_engines(setup: &Setup, client: &Client) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut expected = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = client.list_accounts(partition, cursor, 100, &[]).unwrap();
            expected.extend(page.accounts.iter().map(|account| (account.id.0, *account)));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let rows = setup.postgres.rows(&format!(
            "SELECT replace(id::text, '-', ''), debits_pending, debits_posted, credits_pending,
                    credits_posted, version, ledger, code, closed, extract(epoch FROM time) * 1000000
               FROM walengine.accounts WHERE partition = {partition}"
        ));
        assert_eq!(rows.len(), expected.len(), "accounts of partition {partition}");
        for row in rows {
            let account = expected[&u128::from_str_radix(&row[0], 16).unwrap()];
            let balances = [
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
            ];
            let numbers = balances.map(|amount| amount.0.to_string()).to_vec();
            let micros = format!("{}.000000", account.timestamp.0 / 1_000);
            let closed = account.flags.contains(AccountFlags::CLOSED);
            let others = [
                account.version.to_string(),
                account.ledger.to_string(),
                account.code.to_string(),
                if closed { "t" } else { "f" }.to_owned(),
                micros,
            ];
            assert_eq!(row[1..], [numbers, others.to_vec()].concat(), "{}", row[0]);
        }
    }
}

/// Each row of each statement follows the one before it, and the last is the account's balance.
fn statements_add_up(setup: &Setup) {
    let rows = setup.postgres.rows(
        "SELECT account_id, debit, credit, balance, other_account_id, partition
           FROM walengine.account_statements ORDER BY account_id, log_offset",
    );
    let mut balances: BTreeMap<&str, i128> = BTreeMap::new();
    for row in &rows {
        let number = |place: usize| row[place].parse::<i128>().unwrap();
        let balance = balances.entry(&row[0]).or_default();
        *balance += number(2) - number(1);
        assert_eq!(number(3), *balance, "{row:?}");
        for account in [&row[0], &row[4]] {
            assert!(!account.starts_with("ffffffff"), "{row:?}");
        }
        let id = u128::from_str_radix(&row[0].replace('-', ""), 16).unwrap();
        assert_eq!(row[5], of_account(AccountId(id), PARTITIONS).to_string());
    }
    let shown = setup.postgres.rows("SELECT account_id, balance FROM walengine.balances");
    assert_eq!(shown.len(), ACCOUNTS, "in-transit accounts are not among them");
    for row in shown {
        let balance = balances.get(row[0].as_str()).copied().unwrap_or_default();
        assert_eq!(row[1], balance.to_string(), "{}", row[0]);
    }
}

fn views_show_both_sides(setup: &Setup, folded: &Folded) {
    statements_add_up(setup);
    let (arrived, refused) = folded.arrived();
    let states = "SELECT state, count(*) FROM spanning_transfers GROUP BY 1 ORDER BY 1";
    assert_eq!(setup.ask(states), format!("refused,{refused}\nsettled,{}", arrived - refused));
    let whole = "SELECT count(*) FROM spanning_transfers
                  WHERE home_offset IS NULL OR arrival_offset IS NULL OR debit_account_id IS NULL
                     OR home_time <= arrival_time AND kind NOT IN ('void', 'expire') OR ledger NOT IN (840, 978) OR code NOT BETWEEN 1 AND 600 OR home = other_partition";
    assert_eq!(setup.ask(whole), "0");
    let trial = "SELECT ledger, debits_posted = credits_posted AND debits_posted > 0, in_transit
                   FROM trial_balance ORDER BY 1";
    assert_eq!(setup.ask(trial), "840,t,0\n978,t,0");
    let pairs = "SELECT count(*), bool_and(one.credits_posted = other.debits_posted
                                           AND one.credits_pending = other.debits_pending)
                   FROM in_transit one JOIN in_transit other
                     ON (other.partition, other.other_partition, other.ledger)
                      = (one.other_partition, one.partition, one.ledger)";
    let accounts = setup.ask("SELECT count(*) FROM in_transit");
    assert_eq!(accounts, "4", "two partitions, two ledgers");
    assert_eq!(setup.ask(pairs), "4,t");
    let kinds = "SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM spanning_transfers";
    assert_eq!(setup.ask(kinds), "expire pending post transfer void");
    let balancing = "SELECT count(*) > 0 FROM transfers WHERE other_partition IS NOT NULL
                        AND amount < amount_asked";
    assert_eq!(setup.ask(balancing), "t", "some were reduced");
    let verdicts = setup.ask(
        "SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM refused_events
          WHERE other_partition IS NOT NULL",
    );
    let wanted =
        ["accounts_on_different_ledgers", "credit_account_closed", "credit_account_not_found"];
    assert!(wanted.iter().all(|name| verdicts.contains(name)), "{verdicts}");
    assert!(verdicts.contains("exceeds_debits"), "{verdicts}");
    let chained = setup.ask(
        "SELECT string_agg(DISTINCT kind || ' ' || sides, ' ' ORDER BY kind || ' ' || sides) FROM transfers
          WHERE sides IS NOT NULL",
    );
    let all = "pending 1 pending 3 post 3 transfer 0 transfer 1 transfer 2 transfer 3 void 3";
    assert_eq!(chained, all, "what chains over both partitions do at home");
    let guards = "SELECT count(*) > 0 FROM account_events e WHERE kind = 'guard'
                    AND NOT EXISTS (SELECT FROM accounts a WHERE a.id = e.account_id AND a.partition <> e.partition)";
    assert_eq!(setup.ask(guards), "t", "guards stand where their accounts live");
    let failed = "SELECT count(*) > 0 FROM refused_events
                   WHERE name = 'linked_event_failed' AND other_partition IS NOT NULL AND sides IS NOT NULL";
    assert_eq!(setup.ask(failed), "t", "a chain was refused by the other partition");
}

/// What is acknowledged is there once its token was waited for.
fn a_token_waits_for_the_word(setup: &Setup, load: &mut Load, client: &Client) {
    let mut seen = 0;
    while seen < 30 {
        let transfer = load.transfer();
        if !spans(&transfer) {
            continue;
        }
        seen += 1;
        let submitted = client.submit_all(&[transfer.to_bytes()]).unwrap();
        let token = submitted.tokens.first().expect("it was logged");
        let table = if submitted.all_ok() { "transfers" } else { "refused_events" };
        let found = setup.ask(&format!(
            "SELECT walengine_wait_for('{token}');
             SELECT count(*) FROM {table} WHERE replace(id::text, '-', '') = '{:032x}'",
            transfer.id.0
        ));
        assert_eq!(found, "t\n1", "{table}");
    }
}

/// Each change by hand is named: by the table, and by the other partition that it does not fit.
fn the_audit_names_broken_promises(setup: &Setup) {
    for kind in ["transfer", "post", "void"] {
        the_audit_names_what_is_broken_of(kind, setup);
    }
}

fn the_audit_names_what_is_broken_of(kind: &str, setup: &Setup) {
    // The newest arrivals may as well not be projected yet.
    let (place, word) = setup.pair(&format!(
        "SELECT prepared_offset, log_offset FROM transfers_p0000
          WHERE other_partition = 1 AND kind = '{kind}' ORDER BY log_offset LIMIT 1 OFFSET 2",
    ));
    let arrival = setup
        .ask(&format!("SELECT log_offset FROM arrivals_p0001 WHERE home = 0 AND place = {place}"));
    let refused =
        setup.ask("SELECT min(log_offset) FROM refused_events_p0001 WHERE other_partition = 0");
    let kept = |table: &str, offset: &str| {
        (
            format!(
                "CREATE TABLE public.kept AS SELECT * FROM {table} WHERE log_offset = {offset};
                 DELETE FROM {table} WHERE log_offset = {offset}"
            ),
            format!("INSERT INTO {table} SELECT * FROM public.kept; DROP TABLE public.kept"),
        )
    };
    let changed = |table: &str, offset: &str, column: &str| {
        let set = |sign: &str| {
            format!("UPDATE {table} SET {column} = {column} {sign} 1 WHERE log_offset = {offset}")
        };
        (set("+"), set("-"))
    };
    let cases = [
        (
            kept("arrivals_p0001", &arrival),
            format!("arrivals, log_offset {arrival}: the row is missing"),
            format!("transfers, log_offset {word}: it has not arrived at partition 1"),
        ),
        (
            kept("transfers_p0000", &word),
            format!("transfers, log_offset {word}: the row is missing"),
            format!("arrivals, log_offset {arrival}: partition 0 has sent no such transfer"),
        ),
        (
            changed("transfers_p0000", &word, "amount"),
            format!("transfers, log_offset {word}: amount is"),
            format!("transfers, log_offset {word}: moved"),
        ),
        (
            changed("arrivals_p0001", &arrival, "amount"),
            format!("arrivals, log_offset {arrival}: amount is"),
            format!("transfers, log_offset {word}: moved"),
        ),
        (
            changed("refused_events_p0001", &refused, "verdict"),
            format!("refused_events, log_offset {refused}: verdict is"),
            format!("refused_events, log_offset {refused}: refused: "),
        ),
    ];
    for ((change, mend), by_table, across) in cases {
        setup.ask(&change);
        let (equal, said) = setup.projecting.audit();
        assert!(!equal && said.contains(&by_table) && said.contains(&across), "{change}: {said}");
        let named = Projecting::differences(&said);
        assert_eq!(named, 2, "{change}: {said}");
        setup.ask(&mend);
        let (equal, said) = setup.projecting.audit();
        assert!(equal && said.contains("0 under way"), "{change}, mended: {said}");
    }
}

/// From its start, and from positions at which something was under way.
fn a_rebuild_makes_the_same_tables(setup: &Setup, folded: &Folded) {
    // An entry that begins with the word on what the entry before it has prepared, at the latest.
    let word = setup.ask("SELECT min(log_offset) FROM transfers_p0000 WHERE other_partition = 1");
    let end = folded.ends[1];
    let froms = [
        vec![],
        vec![format!("0-{word}")],
        vec![format!("0-{}", folded.ends[0] / 2), format!("1-{}", end / 3)],
    ];
    for from in froms {
        let mut arguments = vec!["rebuild"];
        for one in &from {
            arguments.extend(["--from", one]);
        }
        let output = setup.projecting.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{from:?}: {said}");
        assert_eq!(said.matches("kept the rows before").count(), from.len(), "{from:?}: {said}");
        folded.agrees_with(&setup.postgres);
        setup.projecting.audit_finds_no_difference();
    }
}

#[test]
fn both_sides_are_in_sql_once_whenever_the_projector_is_killed() {
    let seed = 0x5eed_ac20;
    let mut setup = Setup::start("projector-across");
    let client = setup.server.client();
    let mut load = Load::start(&client, seed);
    let ends = AtomicBool::new(false);
    let open = thread::scope(|scope| {
        let (client, load) = (&client, &mut load);
        let loader = scope.spawn(|| {
            let mut batches = 0;
            while batches < BATCHES || !ends.load(Ordering::Relaxed) {
                client.submit_all(&load.batch()).unwrap();
                batches += 1;
            }
        });
        let _ending = EndsLoad(&ends);
        let open = kills(&mut setup, &mut Rng::new(seed), &ends);
        loader.join().unwrap();
        open
    });
    let folded = setup.comes_to_the_end();
    let (arrived, refused) = folded.arrived();
    println!(
        "{} transfers, {arrived} arrivals of which {refused} refused; something was under way at {open} kills",
        folded.transfers()
    );
    assert!(open > 0, "at some kill something is under way");
    accounts_are_the_engines(&setup, &client);
    views_show_both_sides(&setup, &folded);
    setup.projecting.audit_finds_no_difference();
    a_token_waits_for_the_word(&setup, &mut load, &client);
    let folded = setup.comes_to_the_end();
    the_audit_names_broken_promises(&setup);
    a_rebuild_makes_the_same_tables(&setup, &folded);
    views_show_both_sides(&setup, &folded);
    setup.stop();
}

/// Makes the schema that of version 4, as far as the projector can tell: it has no reservations between partitions.
fn downgrade_to_4(setup: &Setup) {
    downgrade_to_8(setup);
    let made = include_str!("../../projector/src/schema/004_across.sql");
    let view = |name: &str| {
        let begin = made.find(&format!("VIEW {name} AS")).expect("version 4 has it");
        let end = begin + made[begin..].find(';').expect("it ends");
        &made[begin..end]
    };
    setup.ask(&format!("CREATE OR REPLACE {}", view("balances")));
    setup.ask(
        "DROP VIEW account_stripes; ALTER TABLE accounts DROP COLUMN home; ALTER TABLE under_way ALTER COLUMN id SET NOT NULL;
         DROP VIEW spanning_transfers;
         ALTER TABLE transfers DROP COLUMN sides; ALTER TABLE refused_events DROP COLUMN sides;
         ALTER TABLE under_way DROP COLUMN sides; ALTER TABLE arrivals DROP COLUMN sides;
         ALTER TABLE transfers DROP COLUMN transit_partition; ALTER TABLE refused_events DROP COLUMN transit_partition;
         ALTER TABLE under_way DROP COLUMN transit_partition, DROP COLUMN home, DROP COLUMN home_place, DROP COLUMN origin;
         ALTER TABLE arrivals DROP COLUMN transit_partition, DROP COLUMN origin, DROP COLUMN other_partition,
             DROP COLUMN prepared_offset;
         ALTER TABLE arrivals DROP COLUMN kind, DROP COLUMN pending_id, ALTER COLUMN id SET NOT NULL;
         DROP INDEX arrivals_p0000_home_place_idx; DROP INDEX arrivals_p0001_home_place_idx;
         CREATE UNIQUE INDEX ON arrivals_p0000 (home, id); CREATE UNIQUE INDEX ON arrivals_p0001 (home, id);
         DELETE FROM schema_versions WHERE version > 4",
    );
    for name in ["account_statements", "spanning_transfers", "transfer_states"] {
        setup.ask(&format!("CREATE {}", view(name)));
    }
}

/// Takes away what versions 9 to 12 brought, but for their columns of views.
fn downgrade_to_8(setup: &Setup) {
    setup.ask(
        "DROP TABLE audits; DROP FUNCTION booked_bounds;
         DROP VIEW named_balances, account_names, ledgers; DROP FUNCTION with_decimals;
         ALTER TABLE account_events DROP COLUMN ledger, DROP COLUMN name, DROP COLUMN scale, ALTER COLUMN account_id SET NOT NULL;
         DROP TABLE account_marks, balance_marks, booked_sums;
         DROP FUNCTION booked_span, sums_before, booked_before, balance_of;
         DROP VIEW account_statements; DROP VIEW transfer_states;
         DROP VIEW movements, volume_by_day, volume_by_booked_day, newest_time; DROP TABLE daily_volumes;
         DROP FUNCTION statement, newest_movements, balances_at, posted_before, offset_at;
         DROP FUNCTION balance_at, balance_after;
         DROP FUNCTION partition_of(uuid, integer), partition_of(uuid);
         ALTER TABLE transfers DROP COLUMN booked_at; ALTER TABLE arrivals DROP COLUMN booked_at",
    );
}

/// Makes the schema that of version 3, as far as the projector can tell.
fn downgrade(setup: &Setup) {
    downgrade_to_8(setup);
    let views = "pending_transfers, balances, account_stripes, spanning_transfers, in_transit, trial_balance";
    let columns = "DROP COLUMN other_partition, DROP COLUMN prepared_offset, DROP COLUMN sides, DROP COLUMN transit_partition";
    setup.ask(&format!(
        "DROP VIEW {views}; DROP FUNCTION walengine_wait_for; DROP TABLE under_way, arrivals, log_ends;
         ALTER TABLE transfers {columns}; ALTER TABLE refused_events {columns}; ALTER TABLE accounts DROP COLUMN home;
         DELETE FROM schema_versions WHERE version > 3; DELETE FROM verdicts WHERE number = 110"
    ));
    setup.ask(include_str!("../../projector/src/schema/002_questions.sql"));
    setup.ask(include_str!("../../projector/src/schema/003_log_ends.sql"));
}

#[test]
fn tables_of_the_release_before_are_upgraded_in_place() {
    let seed = 0x5eed_ac21;
    let mut setup = Setup::start("projector-across-upgrade");
    let client = setup.server.client();
    let mut load = Load::start(&client, seed);
    load.reserves = false;
    setup.comes_to_the_end();
    setup.projector.stop();
    downgrade(&setup);
    let made = setup.postgres.dump("walengine");
    assert!(!made.iter().any(|line| line.contains("under_way") || line.contains("arrivals")));
    setup.ask("CREATE VIEW public.kept AS SELECT * FROM balances");
    setup.projector = setup.projecting.spawn();
    for _ in 0..2 {
        client.submit_all(&load.batch()).unwrap();
    }
    let folded = setup.comes_to_the_end();
    let (arrived, refused) = folded.arrived();
    assert!(arrived > refused && refused > 0, "{arrived} arrivals, {refused} refused");
    assert_eq!(setup.ask("SELECT count(*) FROM public.kept"), ACCOUNTS.to_string());
    let named = "SELECT name FROM verdicts WHERE number = 110";
    assert_eq!(setup.ask(named), "in_doubt");
    setup.projecting.audit_finds_no_difference();
    setup.projector.stop();
    downgrade_to_4(&setup);
    setup.projector = setup.projecting.spawn();
    load.reserves = true;
    for _ in 0..4 {
        client.submit_all(&load.batch()).unwrap();
    }
    let folded = setup.comes_to_the_end();
    let reserved = "SELECT count(*) > 20 FROM arrivals WHERE kind = 'pending' AND verdict = 0";
    assert_eq!(setup.ask(reserved), "t");
    setup.projecting.audit_finds_no_difference();
    let output = setup.projecting.run(&["rebuild"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains("is not as this program makes it"), "{said}");
    folded.agrees_with(&setup.postgres);
    setup.stop();
}
