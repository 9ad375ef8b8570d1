//! Ledgers of several partitions, whose transfers span them, with couriers that lose, double and reorder, and
//! leaders that lose what they have not committed.

use std::collections::BTreeMap;

use rkyv::rancor;
use walengine::ledger::{Draft, Frame, Ledger, LedgerTotals, MailError, Outcomes};
use walengine_net::entry::{EventsBody, access_events};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Code, Event, EventBytes, EventId, LedgerId,
    Offset, PartitionId, Resolved, Timestamp, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::partition;

use crate::{Random, first_seed};

const SEEDS: u64 = 60;
const STEPS: usize = 1500;
const LEDGER: LedgerId = LedgerId(7);

#[derive(Clone)]
struct Entry {
    base: Offset,
    timestamp: Timestamp,
    previous: Timestamp,
    body: EventsBody,
}

/// One partition: what its leader has decided, and what is committed.
struct Side {
    leader: Ledger,
    committed: Ledger,
    tail: Vec<Entry>,
    log: Vec<Entry>,
}

impl Side {
    fn new(partition: u16, partitions: u16) -> Self {
        let new = || Ledger::new(PartitionId(partition), partitions);
        Self { leader: new(), committed: new(), tail: Vec::new(), log: Vec::new() }
    }

    fn decide<T>(&mut self, decide: impl FnOnce(&mut Ledger, &mut Draft) -> T) -> T {
        let mut draft = Draft::new();
        let result = decide(&mut self.leader, &mut draft);
        if !draft.is_empty() {
            let (base, timestamp) = (draft.base_offset, draft.timestamp);
            let previous = draft.previous_timestamp;
            self.tail.push(Entry { base, timestamp, previous, body: draft.take() });
        }
        result
    }

    fn commit(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let entry = self.tail.remove(0);
        let bytes = rkyv::to_bytes::<rancor::Error>(&entry.body).unwrap();
        let body = access_events(&bytes).unwrap();
        self.committed.apply_events(entry.base, entry.timestamp, body).expect("replicas agree");
        self.leader.release(self.committed.next_offset());
        if self.tail.is_empty() {
            assert_eq!(self.leader.digest(), self.committed.digest());
        }
        self.log.push(entry);
    }

    /// Another leads: what was not committed is gone.
    fn lose_tail(&mut self) {
        while let Some(Entry { base, previous, body, .. }) = self.tail.pop() {
            let EventsBody { events, verdicts, resolved } = &body;
            self.leader.undo_events(base, previous, events, verdicts, resolved);
        }
        assert_eq!(self.leader.digest(), self.committed.digest(), "undone to what is committed");
    }

    /// The leader starts again from a snapshot of what is committed.
    fn restart(&mut self) {
        self.tail.clear();
        let mut cut = self.committed.snapshot();
        let chunks = std::iter::from_fn(|| cut.next_chunk(&self.committed, 4096));
        let chunks: Vec<_> = chunks.collect();
        let (partition, partitions) = (self.committed.partition(), self.committed.partitions());
        self.leader = Ledger::restore(partition, partitions, chunks).expect("its own snapshot");
        assert_eq!(self.leader.digest(), self.committed.digest());
    }

    fn check(&self, accounts: &[Account]) {
        for ledger in [&self.leader, &self.committed] {
            assert!(ledger.totals().values().all(LedgerTotals::balanced), "books balance");
            for account in accounts.iter().filter_map(|one| ledger.account(one.id)) {
                let Account { debits_posted, debits_pending, credits_posted, .. } = account;
                if account.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
                    assert!(debits_posted.0 + debits_pending.0 <= credits_posted.0, "{account:?}");
                }
                if account.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
                    assert!(credits_posted.0 + account.credits_pending.0 <= debits_posted.0);
                }
            }
        }
    }

    /// What a courier reads of its log: all that is prepared for another partition from a place on.
    fn prepared(&self, other: PartitionId, from: u64) -> Vec<Arrival> {
        let partitions = self.leader.partitions();
        let mut found = Vec::new();
        for entry in &self.log {
            for (index, event) in entry.body.events.iter().enumerate() {
                let place = entry.base.0 + index as u64;
                let is_in_doubt = entry.body.verdicts[index] == Verdict::InDoubt.number();
                let Ok(Event::Transfer(transfer)) = Event::from_bytes(event) else { continue };
                let is_for = partition::of_account(transfer.credit_account_id, partitions) == other;
                if place >= from && is_in_doubt && is_for {
                    let resolved = entry.body.resolved.iter().map(Resolved::from_bytes);
                    let mut resolved = resolved.filter(|one| one.index as usize == index);
                    let amount = resolved.next().map_or(transfer.amount, |one| one.amount);
                    found.push(Arrival { transfer: Transfer { amount, ..transfer }, place });
                }
            }
        }
        found
    }
}

/// What is on its way.
#[derive(Clone)]
enum Sent {
    Frame { home: usize, to: usize, covers_from: u64, settled_below: u64, arrivals: Vec<Arrival> },
    Words { to: usize, words: Vec<Word> },
}

struct World {
    random: Random,
    sides: Vec<Side>,
    accounts: Vec<Account>,
    sent: Vec<Sent>,
    /// Transfers and where their home is.
    transfers: BTreeMap<u128, (usize, Transfer)>,
    gaps: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let partitions = random.pick(&[2u16, 2, 3, 4]);
        let mut sides: Vec<_> = (0..partitions).map(|at| Side::new(at, partitions)).collect();
        let mut accounts = Vec::new();
        for number in 0..24u128 {
            let flags = match number % 4 {
                0 => AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
                1 if number % 8 == 1 => AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
                _ => AccountFlags::default(),
            };
            let id = AccountId((number * 7919 + 1) << 96 | number);
            let ledger = if number == 23 { LedgerId(8) } else { LEDGER };
            let account = Account { id, ledger, code: Code(1), flags, ..Account::default() };
            let home = partition::of_account(id, partitions);
            let event = account.to_bytes();
            let side = &mut sides[usize::from(home.0)];
            side.decide(|ledger, draft| {
                ledger.submit(&[event], draft, Timestamp(1), &mut Outcomes::new());
            });
            side.commit();
            accounts.push(account);
        }
        let (sent, transfers) = (Vec::new(), BTreeMap::new());
        Self { random, sides, accounts, sent, transfers, gaps: 0 }
    }

    fn home_of(&self, id: AccountId) -> usize {
        usize::from(partition::of_account(id, self.sides.len() as u16).0)
    }

    fn transfer(&mut self) -> Transfer {
        let balancing = [TransferFlags::BALANCING_DEBIT, TransferFlags::BALANCING_CREDIT];
        let mut flags = TransferFlags::default();
        for flag in balancing {
            if self.random.chance(100) {
                flags = flags.with(flag);
            }
        }
        let debit = self.random.pick(&self.accounts).id;
        let mut credit = self.random.pick(&self.accounts).id;
        if self.random.chance(20) {
            credit = AccountId(credit.0 + 1000); // there is no such account
        }
        Transfer {
            id: EventId(u128::from(self.random.next()) << 64 | u128::from(self.random.next())),
            debit_account_id: debit,
            credit_account_id: credit,
            amount: Amount(1 + self.random.below(100) as u128),
            ledger: LEDGER,
            code: Code(1),
            flags,
            ..Transfer::default()
        }
    }

    fn submit(&mut self, now: u64) {
        let mut by_home: Vec<Vec<EventBytes>> = vec![Vec::new(); self.sides.len()];
        for _ in 0..=self.random.below(6) {
            let known: Vec<u128> = self.transfers.keys().copied().collect();
            let transfer = if !known.is_empty() && self.random.chance(150) {
                self.transfers[&self.random.pick(&known)].1 // again
            } else {
                self.transfer()
            };
            if transfer.debit_account_id == transfer.credit_account_id {
                continue;
            }
            let home = self.home_of(transfer.debit_account_id);
            self.transfers.insert(transfer.id.0, (home, transfer));
            by_home[home].push(transfer.to_bytes());
        }
        for (side, events) in self.sides.iter_mut().zip(by_home) {
            let mut outcomes = Outcomes::new();
            side.decide(|ledger, draft| {
                ledger.submit(&events, draft, Timestamp(now), &mut outcomes);
            });
        }
    }

    /// A courier sends what is prepared, all of it or the first few, from the oldest doubt or from behind what it
    /// has sent before.
    fn send(&mut self) {
        let (home, to) = self.pair();
        let other = PartitionId(to as u16);
        let Some(oldest) = self.sides[home].leader.oldest_doubt(other) else { return };
        let mut arrivals = self.sides[home].prepared(other, oldest.0);
        let skipped =
            if self.random.chance(300) { self.random.below(arrivals.len() + 1) } else { 0 };
        let before: Vec<_> = arrivals.drain(..skipped).collect();
        let covers_from = before.last().map_or(oldest.0, |last| last.place + 1);
        arrivals.truncate(1 + self.random.below(5));
        let settled_below = oldest.0;
        self.sent.push(Sent::Frame { home, to, covers_from, settled_below, arrivals });
    }

    fn pair(&mut self) -> (usize, usize) {
        let home = self.random.below(self.sides.len());
        let to = (home + 1 + self.random.below(self.sides.len() - 1)) % self.sides.len();
        (home, to)
    }

    fn deliver(&mut self, now: u64) {
        if self.sent.is_empty() {
            return;
        }
        let place = self.random.below(self.sent.len());
        // Doubled, or not.
        let sent = if self.random.chance(300) {
            self.sent[place].clone()
        } else {
            self.sent.swap_remove(place)
        };
        if self.random.chance(200) {
            return; // lost
        }
        match sent {
            Sent::Frame { home, to, covers_from, settled_below, arrivals } => {
                let from = PartitionId(home as u16);
                let frame = Frame { home: from, covers_from, settled_below, arrivals: &arrivals };
                let now = Timestamp(now);
                let taken =
                    self.sides[to].decide(|ledger, draft| ledger.take_frame(&frame, draft, now));
                match taken {
                    Ok(()) => {
                        if self.random.chance(700) {
                            while !self.sides[to].tail.is_empty() {
                                self.sides[to].commit();
                            }
                        }
                        // What is visible is answered.
                        let words = self.sides[to].committed.words(from, 0, u64::MAX);
                        self.sent.push(Sent::Words { to: home, words });
                    }
                    Err(MailError::Gap { .. }) => self.gaps += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            Sent::Words { to, words } => {
                let now = Timestamp(now);
                self.sides[to].decide(|ledger, draft| ledger.take_words(&words, draft, now));
            }
        }
    }

    fn step(&mut self, now: u64) {
        let side = self.random.below(self.sides.len());
        match self.random.below(100) {
            0..25 => self.submit(now),
            25..55 => self.sides[side].commit(),
            55..58 => self.sides[side].lose_tail(),
            58..60 => self.sides[side].restart(),
            60..78 => self.send(),
            _ => self.deliver(now),
        }
        for side in &self.sides {
            side.check(&self.accounts);
        }
    }

    fn drain(&mut self, mut now: u64) {
        for _ in 0..100_000 {
            let is_over =
                self.sides.iter().all(|side| side.tail.is_empty() && side.leader.doubts_len() == 0);
            if is_over {
                return;
            }
            now += 1;
            self.send();
            self.deliver(now);
            self.sides.iter_mut().for_each(Side::commit);
        }
        panic!("something stays in doubt");
    }

    /// Every transfer has both sides or neither, with one amount; in-transit accounts cancel.
    fn check_end(&self) -> (usize, usize) {
        let mut moved: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
        let mut words: BTreeMap<u128, Word> = BTreeMap::new();
        let mut arrived: BTreeMap<u128, (Verdict, u128)> = BTreeMap::new();
        let mut local: BTreeMap<u128, u128> = BTreeMap::new();
        for side in &self.sides {
            for entry in &side.log {
                for (index, event) in entry.body.events.iter().enumerate() {
                    let verdict = Verdict::from_number(entry.body.verdicts[index]).unwrap();
                    let resolved = entry.body.resolved.iter().map(Resolved::from_bytes);
                    let amount = resolved
                        .filter(|one| one.index as usize == index)
                        .map(|one| one.amount.0)
                        .next();
                    match Event::from_bytes(event).unwrap() {
                        Event::Word(word) => {
                            assert!(words.insert(word.id.0, word).is_none(), "one word each");
                        }
                        Event::Arrival(Arrival { transfer, .. }) => {
                            let amount = amount.unwrap_or(transfer.amount.0);
                            let amount = if verdict.is_ok() { amount } else { 0 };
                            let before = arrived.insert(transfer.id.0, (verdict, amount));
                            assert!(before.is_none(), "one arrival each");
                        }
                        Event::Transfer(transfer) if verdict.is_ok() => {
                            local.insert(transfer.id.0, amount.unwrap_or(transfer.amount.0));
                        }
                        _ => {}
                    }
                }
            }
        }
        for (id, (home, transfer)) in &self.transfers {
            let decided = self.sides[*home].leader.decided(EventId(*id));
            let amount = match (words.get(id), arrived.get(id)) {
                (Some(word), Some((verdict, amount))) => {
                    assert_eq!((word.verdict, word.amount.0), (*verdict, *amount));
                    assert_eq!(decided.unwrap().verdict, *verdict);
                    *amount
                }
                (None, None) => {
                    assert_ne!(decided.map(|it| it.verdict), Some(Verdict::InDoubt));
                    local.get(id).copied().unwrap_or(0)
                }
                sides => panic!("{id}: {sides:?}"),
            };
            moved.entry(transfer.debit_account_id).or_default().0 += amount;
            moved.entry(transfer.credit_account_id).or_default().1 += amount;
        }
        for account in &self.accounts {
            let found = self.sides[self.home_of(account.id)].leader.account(account.id).unwrap();
            let (debits, credits) = moved.get(&account.id).copied().unwrap_or_default();
            assert_eq!((found.debits_posted.0, found.credits_posted.0), (debits, credits));
            assert_eq!((found.debits_pending.0, found.credits_pending.0), (0, 0));
        }
        let in_transit = |at: usize, other: usize| {
            let id = AccountId::in_transit(PartitionId(other as u16), LEDGER);
            self.sides[at].leader.account(id).unwrap_or_default()
        };
        for at in 0..self.sides.len() {
            for other in (0..self.sides.len()).filter(|other| *other != at) {
                let (here, there) = (in_transit(at, other), in_transit(other, at));
                assert_eq!(here.credits_posted, there.debits_posted, "what left has arrived");
            }
        }
        (arrived.values().filter(|it| it.0.is_ok()).count(), arrived.len())
    }
}

#[test]
fn what_spans_partitions_has_both_sides_or_neither_whatever_couriers_and_leaders_do() {
    let (mut accepted, mut all, mut gaps) = (0, 0, 0);
    let first = first_seed();
    for seed in first..first + SEEDS {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step(1_000_000 + step as u64 * 1000);
        }
        world.drain(1_000_000_000);
        let (ok, arrived) = world.check_end();
        (accepted, all, gaps) = (accepted + ok, all + arrived, gaps + world.gaps);
    }
    println!(
        "{all} transfers spanned partitions, {accepted} were accepted; {gaps} frames had gaps"
    );
    assert!(accepted > 5_000 && all - accepted > 500 && gaps > 100, "{accepted} {all} {gaps}");
}
