//! One ledger over all partitions, as simply as it can be said: what the logs say is run through it in the
//! order of log time, and must come to the same verdicts, amounts and balances.
//!
//! The isolation that is claimed (ACROSS.md) is what is checked: a transfer that spans is prepared, arrives and
//! is settled, each at one point of that order, and in that order; between the first and the last its amount is
//! reserved. A chain does so from each stop of its path to the next. The order keeps that of each partition.

use std::collections::{BTreeMap, HashMap};

use walengine::ledger::Ledger;
use walengine_net::entry::{EntryHeader, EntryKind, access_events};
use walengine_net::message::Entries;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Close, CloseFlags, Event, EventId, LedgerId,
    PartitionId, Resolved, Sent, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::{partition, unit};

use crate::cluster::SimPartition;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 64 << 10;
/// Where the id of a stripe has its partition.
const STRIPE_AT: u32 = 64;

/// A record of a log.
#[derive(Debug)]
pub struct Logged {
    /// Its place in the order of all.
    pub(super) time: u64,
    pub(super) partition: PartitionId,
    pub(super) offset: u64,
    pub(super) event: Event,
    pub(super) verdict: Verdict,
    /// What stands beside it, if the event does not say it.
    pub(super) amount: Option<u128>,
}

impl Logged {
    /// It and the next one are of the same chain.
    fn is_linked(&self) -> bool {
        match self.event {
            Event::Arrival(arrival) => arrival.is_linked(),
            Event::Mail(_) | Event::Word(_) | Event::Expire(_) => false,
            event => unit::is_linked(&event.to_bytes()),
        }
    }
}

/// All events of a partition's log.
///
/// # Panics
/// If the log can't be read.
pub async fn read_log(partition: &SimPartition, partitions: u16) -> Vec<Logged> {
    let (log, mut logged) = (partition.log(), Vec::new());
    let mut next = log.first_index();
    while next <= log.last().index {
        let bytes = log.read(next, READ_BYTES).await.expect("a healthy log");
        for entry in Entries::new(&bytes) {
            let (header, body) = entry.expect("read gives checked entries");
            read_entry(&header, body, partitions, &mut logged);
            next += 1;
        }
    }
    logged
}

fn read_entry(header: &EntryHeader, body: &[u8], partitions: u16, logged: &mut Vec<Logged>) {
    if header.meta.kind != EntryKind::Events {
        return;
    }
    let body = access_events(body).expect("a body as it was written");
    let resolved = body.resolved.iter().map(Resolved::from_bytes);
    let amounts: HashMap<u32, u128> = resolved.map(|one| (one.index, one.amount.0)).collect();
    let partition = header.meta.partition;
    for ((event, verdict), index) in body.events.iter().zip(body.verdicts.iter()).zip(0u32..) {
        logged.push(Logged {
            time: header.meta.timestamp.0 + u64::from(index),
            partition,
            offset: header.meta.base_offset.0 + u64::from(index),
            event: with_stripes(
                Event::from_bytes(event).expect("a known event"),
                partition,
                partitions,
            ),
            verdict: Verdict::from_number(*verdict).expect("a known verdict"),
            amount: amounts.get(&index).copied(),
        });
    }
}

/// The part of a striped account that a partition has, as an account of its own.
fn stripe(account: AccountId, partition: PartitionId) -> AccountId {
    let number = if account.is_striped() { u128::from(partition.0) + 1 } else { 0 };
    AccountId(account.0 | number << STRIPE_AT)
}

/// The account that it is a stripe of; any other itself.
fn whole(stripe: AccountId) -> AccountId {
    let number = if stripe.is_striped() { 0xffff << STRIPE_AT } else { 0 };
    AccountId(stripe.0 & !number)
}

/// The event with stripes instead of striped accounts. What moves money says by its other account which they are.
fn with_stripes(event: Event, here: PartitionId, partitions: u16) -> Event {
    let moves = |transfer: Transfer| {
        let Transfer { debit_account_id: debit, credit_account_id: credit, .. } = transfer;
        if [debit, credit].contains(&AccountId(0)) {
            return transfer;
        }
        let [debit_at, credit_at] = partition::of_sides(&transfer, partitions);
        let (debit_account_id, credit_account_id) =
            (stripe(debit, debit_at), stripe(credit, credit_at));
        Transfer { debit_account_id, credit_account_id, ..transfer }
    };
    let created = |account: Account| Account { id: stripe(account.id, here), ..account };
    let closed = |close: Close| Close { account_id: stripe(close.account_id, here), ..close };
    match event {
        Event::Transfer(transfer) => Event::Transfer(moves(transfer)),
        Event::Account(account) => Event::Account(created(account)),
        Event::Close(close) => Event::Close(closed(close)),
        Event::Arrival(Arrival { sent, place }) => {
            let sent = match sent {
                Sent::Transfer(transfer) => Sent::Transfer(moves(transfer)),
                Sent::Account(account) => Sent::Account(created(account)),
                Sent::Close(close) => Sent::Close(closed(close)),
                other => other,
            };
            Event::Arrival(Arrival { sent, place })
        }
        other => other,
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Balances {
    pub(super) is_closed: bool,
    flags: AccountFlags,
    debits_pending: u128,
    debits_posted: u128,
    credits_pending: u128,
    credits_posted: u128,
}

impl Balances {
    /// What of its credits is not debited or reserved.
    pub(super) fn debitable(&self) -> u128 {
        self.credits_posted.saturating_sub(self.debits_posted + self.debits_pending)
    }

    /// What of its debits is not credited or reserved.
    pub(super) fn creditable(&self) -> u128 {
        self.debits_posted.saturating_sub(self.credits_posted + self.credits_pending)
    }

    /// Debits or reserves.
    pub(super) fn debit(&mut self, amount: u128, reserves: bool) {
        *(if reserves { &mut self.debits_pending } else { &mut self.debits_posted }) += amount;
    }

    /// Credits or reserves.
    pub(super) fn credit(&mut self, amount: u128, reserves: bool) {
        *(if reserves { &mut self.credits_pending } else { &mut self.credits_posted }) += amount;
    }

    /// Releases what was reserved, of which so much moves.
    pub(super) fn end_debit(&mut self, reserved: u128, moved: u128) {
        self.debits_pending -= reserved;
        self.debits_posted += moved;
    }

    /// As [`Self::end_debit`].
    pub(super) fn end_credit(&mut self, reserved: u128, moved: u128) {
        self.credits_pending -= reserved;
        self.credits_posted += moved;
    }

    pub(super) fn may_debit(&self, amount: u128) -> bool {
        let is_limited = self.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        amount > 0 && !self.is_closed && (!is_limited || amount <= self.debitable())
    }

    pub(super) fn may_credit(&self, amount: u128) -> bool {
        let is_limited = self.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
        amount > 0 && !self.is_closed && (!is_limited || amount <= self.creditable())
    }
}

/// What an event of a chain does at one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    Nothing,
    /// Moves or reserves, on the debit side, on the credit side, or on both.
    Money { debits: bool, credits: bool },
    /// Posts or voids a reservation, all of which is there.
    Ends,
}

/// What is under way, as it is sent from one partition to the next.
pub(super) struct Prepared {
    pub(super) sent: Sent,
    pub(super) amount: u128,
    /// The word on it, once the next partition has logged its own decision, which is final.
    pub(super) arrived: Option<Word>,
    /// Log time at which a reservation becomes due.
    pub(super) due: Option<u64>,
    /// What it does here, if it is of a chain.
    pub(super) part: Option<Part>,
    /// At a stop in between: the stop before, and its place there. That waits for the word from here.
    pub(super) before: Option<(PartitionId, u64)>,
    /// The next partition has prepared it, too.
    pub(super) is_handed_on: bool,
}

/// What all words on a chain say alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Accepted,
    Refused,
    HandedOn,
}

impl Said {
    fn by(word: &Word) -> Self {
        match word.verdict {
            Verdict::Ok => Self::Accepted,
            Verdict::InDoubt => Self::HandedOn,
            _ => Self::Refused,
        }
    }
}

/// An open reservation, or what is known of it at its home.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) transfer: Transfer,
    pub(super) amount: u128,
    pub(super) due: Option<u64>,
    pub(super) spans: bool,
    /// An end of it is in doubt.
    pub(super) is_ending: bool,
}

/// Accepted, or prepared.
fn has_effect(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Ok | Verdict::InDoubt)
}

pub(super) fn due(transfer: &Transfer, time: u64) -> Option<u64> {
    let timeout = u64::from(transfer.timeout_seconds);
    (timeout != 0).then(|| time + timeout * 1_000_000_000)
}

/// See the module.
#[derive(Default)]
pub struct Model {
    pub(super) partitions: u16,
    pub(super) accounts: BTreeMap<AccountId, Balances>,
    /// Open reservations.
    pub(super) open: HashMap<EventId, Reserved>,
    /// What is reserved on the other sides, by reservation.
    pub(super) held: HashMap<EventId, u128>,
    /// Whose mail each partition has opened last.
    mail: HashMap<PartitionId, PartitionId>,
    /// By partition: place of the word that must follow, and what it says.
    next_word: HashMap<PartitionId, (u64, Said)>,
    /// By the partition that sends it, and its place there.
    pub(super) prepared: BTreeMap<(PartitionId, u64), Prepared>,
    /// Of striped accounts: where it was decided, its place, and where it goes; and whether it was taken there.
    announced: BTreeMap<(PartitionId, u64, PartitionId), (Sent, bool)>,
    /// Place of the last arrival, by the partition that sends and the one that takes.
    last: HashMap<(PartitionId, PartitionId), u64>,
    /// How often a stripe has given to another one.
    pub gathered: u64,
    /// Transfers that spanned partitions and were accepted.
    pub accepted: u64,
    /// And refused by the other one.
    pub refused: u64,
    /// Reservations between partitions that were posted.
    pub posted: u64,
    /// And that were voided, or have expired.
    pub released: u64,
    /// Postings that the other partition has refused.
    pub stood: u64,
    /// Chains that spanned partitions and were accepted.
    pub chains: u64,
    /// And refused by the other one.
    pub chains_refused: u64,
    /// And refused at home.
    pub chains_refused_at_home: u64,
    /// Chains of three and more partitions that were accepted.
    pub long_chains: u64,
    /// And refused by the last one.
    pub long_chains_refused: u64,
    /// And refused at a stop in between.
    pub long_chains_stopped: u64,
}

impl Model {
    /// Runs what was logged in so many partitions.
    ///
    /// # Panics
    /// If what the logs say is not what this model comes to.
    pub fn of(mut logged: Vec<Logged>, partitions: u16) -> Self {
        logged.sort_by_key(|one| (one.partition, one.offset));
        let mut units: Vec<&[Logged]> = logged.chunk_by(|one, _| one.is_linked()).collect();
        units.sort_by_key(|unit| (unit[0].time, unit[0].partition));
        let mut model = Self { partitions, ..Self::default() };
        for unit in units {
            model.take_unit(unit);
        }
        model
    }

    fn take_unit(&mut self, unit: &[Logged]) {
        let Logged { partition, offset, .. } = unit[0];
        let at = format!("offset {offset} of partition {partition}");
        let word = self.next_word.get(&partition).copied();
        if let Some(expected) = word {
            let Event::Word(word) = unit[0].event else { panic!("{at}: a chain without a word") };
            assert_eq!((word.place, Said::by(&word)), expected, "{at}: {word:?}");
        }
        match unit {
            [one] => self.take(one),
            [Logged { event: Event::Arrival(_), .. }, ..] => {
                let before = *self.mail.get(&partition).expect("mail was opened");
                self.chain_arrives(unit, before, &at);
            }
            _ => self.chain(unit, &at),
        }
    }

    fn take(&mut self, logged: &Logged) {
        let Logged { partition, offset, verdict, .. } = *logged;
        let at = || format!("offset {offset} of partition {partition}");
        match logged.event {
            Event::Account(account) => {
                assert!(verdict.is_ok(), "{}: {verdict:?}", at());
                self.create(&account, &at());
                self.announce(account.id, Sent::Account(account), logged);
            }
            Event::Transfer(transfer) => {
                assert_eq!(self.home(transfer.debit_account_id, partition), partition, "{}", at());
                self.transfer(&transfer, logged, &at());
            }
            Event::Close(close) => {
                let closes = close.flags != CloseFlags::REOPEN;
                let account = self.account(close.account_id);
                assert_eq!(verdict.is_ok(), account.is_closed != closes, "{}: {verdict:?}", at());
                account.is_closed = closes;
                if verdict.is_ok() {
                    self.announce(close.account_id, Sent::Close(close), logged);
                }
            }
            Event::Mail(mail) => {
                let last = self.last.get(&(mail.home, partition)).copied().unwrap_or_default();
                assert_eq!(mail.previous, last, "{}: mail behind another arrival", at());
                self.mail.insert(partition, mail.home);
            }
            Event::Arrival(arrival) => match arrival.sent {
                Sent::Transfer(transfer) if transfer.pending_id.0 != 0 => {
                    self.end_arrives(&transfer, &arrival, logged, &at());
                }
                Sent::Transfer(transfer) => self.arrive(&transfer, &arrival, logged, &at()),
                Sent::Account(_) | Sent::Close(_) => self.announced(&arrival, logged, &at()),
                Sent::Guard(_) | Sent::Word(_) => panic!("{}: alone: {arrival:?}", at()),
            },
            Event::Expire(expire) => {
                let due = self.open.get(&expire.pending_id).and_then(|open| open.due);
                assert!(due.is_some_and(|due| due <= logged.time), "{}: {due:?}", at());
                let flags = TransferFlags::VOID_PENDING;
                let pending_id = expire.pending_id;
                self.end(&Transfer { pending_id, flags, ..Transfer::default() }, logged, &at());
            }
            Event::Word(word) => self.settle(&word, logged, &at()),
            other @ (Event::Guard(_) | Event::Name(_) | Event::Describe(_)) => {
                panic!("{}: nobody wrote {other:?}", at());
            }
        }
    }

    pub(super) fn home(&self, account: AccountId, otherwise: PartitionId) -> PartitionId {
        if account == AccountId(0) {
            return otherwise;
        }
        if account.is_striped() {
            return PartitionId((account.0 >> STRIPE_AT) as u16 - 1);
        }
        partition::of_account(account, self.partitions)
    }

    fn create(&mut self, account: &Account, at: &str) {
        let new = Balances { flags: account.flags, ..Balances::default() };
        assert!(self.accounts.insert(account.id, new).is_none(), "{at}: twice");
    }

    /// What is decided of a striped account goes to all other partitions.
    fn announce(&mut self, account: AccountId, sent: Sent, logged: &Logged) {
        let Logged { partition, offset, .. } = *logged;
        let others = (0..self.partitions).map(PartitionId).filter(|other| *other != partition);
        for other in others.filter(|_| account.is_striped()) {
            self.announced.insert((partition, offset, other), (sent, false));
        }
    }

    /// It reaches one, which must take it.
    fn announced(&mut self, arrival: &Arrival, logged: &Logged, at: &str) {
        let Arrival { sent, place } = *arrival;
        let here = logged.partition;
        let from = *self.mail.get(&here).expect("mail was opened");
        let last = self.last.insert((from, here), place);
        assert!(last.is_none_or(|last| last < place), "{at}: {place} arrives behind {last:?}");
        let announced = self.announced.get_mut(&(from, place, here)).expect("it was announced");
        assert!(!std::mem::replace(&mut announced.1, true), "{at}: {arrival:?} arrives again");
        let original = announced.0;
        assert!(logged.verdict.is_ok(), "{at}: {:?}", logged.verdict);
        match (sent, original) {
            (Sent::Account(account), Sent::Account(original)) => {
                let id = account.id;
                assert_eq!(account, Account { id, ..original }, "{at}: another account");
                self.create(&account, at);
            }
            (Sent::Close(close), Sent::Close(original)) => {
                let account_id = close.account_id;
                assert_eq!(close, Close { account_id, ..original }, "{at}: another closing");
                let closes = close.flags != CloseFlags::REOPEN;
                let account = self.account(account_id);
                assert_ne!(account.is_closed, closes, "{at}: it is so already");
                account.is_closed = closes;
            }
            other => panic!("{at}: {other:?}"),
        }
    }

    pub(super) fn account(&mut self, id: AccountId) -> &mut Balances {
        self.accounts.get_mut(&id).expect("an account that was created")
    }

    /// A reservation is posted, voided or has expired: at once, if it does not span.
    fn end(&mut self, end: &Transfer, logged: &Logged, at: &str) {
        let posts = end.flags.contains(TransferFlags::POST_PENDING);
        let Some(open) = self.open.get_mut(&end.pending_id).filter(|open| !open.is_ending) else {
            assert!(!has_effect(logged.verdict), "{at}: an end of what is not open: {logged:?}");
            return;
        };
        let waits = posts && open.spans;
        let Reserved { transfer, spans, .. } = *open;
        let credit_account = (!spans).then_some(transfer.credit_account_id);
        let expected = if posts && self.accounts[&transfer.debit_account_id].is_closed {
            Verdict::DebitAccountClosed
        } else if posts && credit_account.is_some_and(|id| self.accounts[&id].is_closed) {
            Verdict::CreditAccountClosed
        } else if waits {
            Verdict::InDoubt
        } else {
            Verdict::Ok
        };
        assert_eq!(logged.verdict, expected, "{at}: an end of {open:?}");
        if !has_effect(expected) {
            return;
        }
        let asked = end.amount.0;
        let amount = if asked == 0 { open.amount } else { asked };
        assert_eq!(logged.amount, Some(amount), "{at}: the amount");
        open.is_ending = waits;
        let Reserved { transfer, amount: reserved, spans, .. } = *open;
        if spans {
            let Transfer { debit_account_id, credit_account_id, ledger, code, .. } = transfer;
            let id = if posts { end.id } else { EventId(0) };
            let amount = Amount(amount);
            let named = Transfer { debit_account_id, credit_account_id, ledger, code, ..*end };
            let sent = Sent::Transfer(Transfer { id, amount, ..named });
            let (amount, arrived, due) = (amount.0, None, None);
            let (part, before, is_handed_on) = (None, None, false);
            let prepared = Prepared { sent, amount, arrived, due, part, before, is_handed_on };
            self.prepared.insert((logged.partition, logged.offset), prepared);
        }
        if !waits {
            self.open.remove(&end.pending_id);
            let moved = if posts { amount } else { 0 };
            let account = self.account(transfer.debit_account_id);
            account.end_debit(reserved, moved);
            self.released += u64::from(spans);
        }
        if !spans {
            let account = self.account(transfer.credit_account_id);
            account.end_credit(reserved, if posts { amount } else { 0 });
        }
    }

    fn transfer(&mut self, transfer: &Transfer, logged: &Logged, at: &str) {
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        if transfer.flags.intersects(ends) {
            return self.end(transfer, logged, at);
        }
        let Transfer { debit_account_id: debit, credit_account_id: credit, flags, .. } = *transfer;
        if flags.contains(TransferFlags::GATHERING) {
            let available = self.account(debit).debitable();
            assert!((1..=available).contains(&transfer.amount.0), "{at}: {available} is there");
            assert_eq!(logged.verdict, Verdict::InDoubt, "{at}");
            self.gathered += 1;
        }
        let spans = self.home(credit, logged.partition) != logged.partition;
        let mut amount = transfer.amount.0;
        if flags.contains(TransferFlags::BALANCING_DEBIT) {
            amount = amount.min(self.account(debit).debitable());
        }
        if flags.contains(TransferFlags::BALANCING_CREDIT) && !spans {
            amount = amount.min(self.account(credit).creditable());
        }
        let may = self.account(debit).may_debit(amount)
            && (spans || self.account(credit).may_credit(amount));
        assert_eq!(may, has_effect(logged.verdict), "{at}: {transfer:?}: {:?}", logged.verdict);
        if !may {
            return;
        }
        assert_eq!(spans, logged.verdict == Verdict::InDoubt, "{at}: {:?}", logged.verdict);
        assert_eq!(logged.amount.unwrap_or(transfer.amount.0), amount, "{at}: the amount");
        if spans {
            self.account(debit).debit(amount, true);
            let due = due(transfer, logged.time);
            let sent = Sent::Transfer(Transfer { amount: Amount(amount), ..*transfer });
            let (arrived, part, before, is_handed_on) = (None, None, None, false);
            let prepared = Prepared { sent, amount, arrived, due, part, before, is_handed_on };
            self.prepared.insert((logged.partition, logged.offset), prepared);
        } else if flags.contains(TransferFlags::PENDING) {
            self.account(debit).debit(amount, true);
            self.account(credit).credit(amount, true);
            let (transfer, due) = (*transfer, due(transfer, logged.time));
            let reserved = Reserved { transfer, amount, due, spans: false, is_ending: false };
            self.open.insert(transfer.id, reserved);
        } else {
            self.account(debit).debit(amount, false);
            self.account(credit).credit(amount, false);
        }
    }

    /// What arrives is the next that is under way from there, and unchanged.
    pub(super) fn arrives(
        &mut self,
        arrival: &Arrival,
        from: PartitionId,
        logged: &Logged,
        at: &str,
    ) -> &mut Prepared {
        let Arrival { sent, place } = arrival;
        let last = self.last.insert((from, logged.partition), *place).unwrap_or_default();
        assert!(last < *place, "{at}: {place} of {from} arrives behind {last}");
        let prepared = self.prepared.get_mut(&(from, *place));
        let prepared =
            prepared.unwrap_or_else(|| panic!("{at}: {place} of {from} is not under way"));
        assert!(prepared.arrived.is_none(), "{at}: {place} of {from} arrives again");
        assert_eq!(*sent, prepared.sent, "{at}: another transfer");
        prepared
    }

    fn arrive(&mut self, transfer: &Transfer, arrival: &Arrival, logged: &Logged, at: &str) {
        let place = &arrival.place;
        let home = self.home(transfer.debit_account_id, logged.partition);
        let (credit, amount) = (transfer.credit_account_id, transfer.amount.0);
        let account = *self.account(credit);
        let reduces = transfer.flags.contains(TransferFlags::BALANCING_CREDIT);
        let moved = if reduces { amount.min(account.creditable()) } else { amount };
        let may = account.may_credit(moved);
        assert_eq!(may, logged.verdict.is_ok(), "{at}: {transfer:?}: {:?}", logged.verdict);
        let moved = if may { moved } else { 0 };
        assert!(!may || logged.amount.unwrap_or(amount) == moved, "{at}: the amount");
        let (id, place, verdict) = (transfer.id, *place, logged.verdict);
        let (amount, pending_id) = (Amount(moved), EventId(0));
        let prepared = self.arrives(arrival, home, logged, at);
        let is_linked = false;
        prepared.arrived = Some(Word { id, place, verdict, amount, pending_id, is_linked });
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        self.account(credit).credit(moved, reserves);
        if reserves && moved > 0 {
            self.held.insert(id, moved);
        }
    }

    /// The end of a reservation reaches its other side.
    fn end_arrives(&mut self, transfer: &Transfer, arrival: &Arrival, logged: &Logged, at: &str) {
        let place = &arrival.place;
        let home = self.home(transfer.debit_account_id, logged.partition);
        let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
        let is_closed = posts && self.account(transfer.credit_account_id).is_closed;
        let expected = if is_closed { Verdict::CreditAccountClosed } else { Verdict::Ok };
        assert_eq!(logged.verdict, expected, "{at}");
        let held = self.held.get(&transfer.pending_id).copied();
        let held = held.unwrap_or_else(|| panic!("{at}: nothing is reserved here"));
        if !is_closed {
            self.held.remove(&transfer.pending_id);
        }
        let amount = transfer.amount.0;
        assert!(if posts { amount <= held } else { amount == held }, "{at}: {amount} of {held}");
        let moved = if posts && !is_closed { amount } else { 0 };
        let Transfer { id, pending_id, .. } = *transfer;
        let (place, verdict) = (*place, logged.verdict);
        let amount = Amount(moved);
        let prepared = self.arrives(arrival, home, logged, at);
        let is_linked = false;
        prepared.arrived = Some(Word { id, place, verdict, amount, pending_id, is_linked });
        let account = self.account(transfer.credit_account_id);
        account.end_credit(if is_closed { 0 } else { held }, moved);
    }

    fn settle(&mut self, word: &Word, logged: &Logged, at: &str) {
        let here = logged.partition;
        if word.is_linked {
            self.next_word.insert(here, (word.place + 1, Said::by(word)));
        } else {
            self.next_word.remove(&here);
        }
        if let Some(other) = word.pending_id.0.checked_sub(1)
            && let Some((sent, arrived)) =
                self.announced.remove(&(here, word.place, PartitionId(other as u16)))
        {
            let id = match sent {
                Sent::Account(account) => EventId(whole(account.id).0),
                other => other.id(),
            };
            let is_so = arrived && id == word.id && word.verdict.is_ok();
            assert!(is_so && word.amount == Amount(0), "{at}: {word:?} on {sent:?}");
            return;
        }
        if word.verdict == Verdict::InDoubt {
            let prepared = self.prepared.get(&(here, word.place));
            let is_so = prepared.is_some_and(|it| it.is_handed_on && it.sent.id() == word.id);
            assert!(is_so && word.amount == Amount(0), "{at}: handed on? {word:?}");
            return;
        }
        let prepared = self.prepared.remove(&(here, word.place));
        let prepared = prepared.unwrap_or_else(|| panic!("{at}: a word on what is not under way"));
        assert_eq!(prepared.arrived, Some(*word), "{at}: a word that was not given");
        if let Some(part) = prepared.part {
            return self.settle_member(&prepared, part, word, logged);
        }
        let Prepared { sent, amount: reserved, due, .. } = prepared;
        let transfer = match sent {
            Sent::Transfer(transfer) => transfer,
            Sent::Word(_) => return, // where it has come from knows
            Sent::Guard(_) | Sent::Account(_) | Sent::Close(_) => {
                panic!("{at}: a word on {sent:?}")
            }
        };
        let moved = word.amount.0;
        if transfer.flags.contains(TransferFlags::GATHERING) {
            let stripe = self.account(transfer.debit_account_id);
            stripe.debits_pending -= reserved;
            stripe.credits_posted -= moved;
            return;
        }
        if transfer.flags.contains(TransferFlags::VOID_PENDING) {
            return; // released when it was decided
        }
        if word.verdict.is_ok() {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        if transfer.flags.contains(TransferFlags::POST_PENDING) {
            let open = self.open.get_mut(&transfer.pending_id).expect("it waited for the word");
            if !word.verdict.is_ok() {
                open.is_ending = false;
                self.stood += 1;
                return;
            }
            let open = *open;
            self.open.remove(&transfer.pending_id);
            let debit = self.account(transfer.debit_account_id);
            debit.end_debit(open.amount, moved);
            self.posted += 1;
        } else if transfer.flags.contains(TransferFlags::PENDING) {
            self.account(transfer.debit_account_id).debits_pending -= reserved - moved;
            if word.verdict.is_ok() {
                let (amount, spans, is_ending) = (moved, true, false);
                let open = Reserved { transfer, amount, due, spans, is_ending };
                self.open.insert(transfer.id, open);
            }
        } else {
            let debit = self.account(transfer.debit_account_id);
            debit.end_debit(reserved, moved);
        }
    }

    /// What may still be debited of a striped account, on all partitions together.
    pub fn left_of(&self, account: AccountId) -> u128 {
        let all = (0..self.partitions).map(|partition| stripe(account, PartitionId(partition)));
        all.filter_map(|stripe| self.accounts.get(&stripe)).map(Balances::debitable).sum()
    }

    /// Compares with the partitions' own ledgers, all of which are at rest.
    ///
    /// # Panics
    /// If they differ, something is under way, or the in-transit accounts do not cancel.
    pub fn compare(&self, ledgers: &[&Ledger]) {
        assert!(self.prepared.is_empty(), "{} are under way", self.prepared.len());
        assert!(self.announced.is_empty(), "{} were not told", self.announced.len());
        for (id, model) in &self.accounts {
            let home = usize::from(self.home(*id, PartitionId(0)).0);
            let found = ledgers[home].account(whole(*id)).expect("an account that was created");
            let Account { debits_pending, debits_posted, credits_pending, credits_posted, .. } =
                found;
            let found = [debits_pending, debits_posted, credits_pending, credits_posted];
            let expected = [
                model.debits_pending,
                model.debits_posted,
                model.credits_pending,
                model.credits_posted,
            ];
            assert_eq!(found.map(|amount| amount.0), expected, "account {id}");
        }
        let sum = |side: fn(&Balances) -> u128| self.accounts.values().map(side).sum::<u128>();
        let (debits, credits) = (sum(|one| one.debits_posted), sum(|one| one.credits_posted));
        assert_eq!(debits, credits, "money was made or lost");
        let (debits, credits) = (sum(|one| one.debits_pending), sum(|one| one.credits_pending));
        assert_eq!(debits, credits, "something is reserved on one side only");
        for (home, one) in ledgers.iter().enumerate() {
            assert_eq!(one.doubts_len(), 0, "partition {home} has something in doubt");
            for (other, there) in ledgers.iter().enumerate() {
                let sides = |ledger: &Ledger, other: usize| {
                    let id = AccountId::in_transit(PartitionId(other as u16), LedgerId(1));
                    let account = ledger.account(id).unwrap_or_default();
                    let debits = (account.debits_posted.0, account.debits_pending.0);
                    (debits, (account.credits_posted.0, account.credits_pending.0))
                };
                let ((received, sent), back) = (sides(one, other), sides(there, home));
                assert_eq!((sent, received), back, "between partitions {home} and {other}");
            }
        }
    }
}
