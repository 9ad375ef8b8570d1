//! One ledger over all partitions, as simply as it can be said: what the logs say is run through it in the
//! order of log time, and must come to the same verdicts, amounts and balances.
//!
//! The isolation that is claimed (ACROSS.md) is what is checked: a transfer that spans is prepared, arrives and
//! is settled, each at one point of that order, and in that order; between the first and the last its amount is
//! reserved. The order keeps that of each partition.

use std::collections::{BTreeMap, HashMap};

use walengine::ledger::Ledger;
use walengine_net::entry::{EntryHeader, EntryKind, access_events};
use walengine_net::message::Entries;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Arrival, Event, EventId, LedgerId, PartitionId, Resolved,
    Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::partition;

use crate::cluster::SimPartition;

/// Bytes of log that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A record of a log.
pub struct Logged {
    /// Its place in the order of all.
    time: u64,
    partition: PartitionId,
    offset: u64,
    event: Event,
    verdict: Verdict,
    amount: Option<u128>,
}

/// All events of a partition's log.
///
/// # Panics
/// If the log can't be read.
pub async fn read_log(partition: &SimPartition) -> Vec<Logged> {
    let (log, mut logged) = (partition.log(), Vec::new());
    let mut next = log.first_index();
    while next <= log.last().index {
        let bytes = log.read(next, READ_BYTES).await.expect("a healthy log");
        for entry in Entries::new(&bytes) {
            let (header, body) = entry.expect("read gives checked entries");
            read_entry(&header, body, &mut logged);
            next += 1;
        }
    }
    logged
}

fn read_entry(header: &EntryHeader, body: &[u8], logged: &mut Vec<Logged>) {
    if header.meta.kind != EntryKind::Events {
        return;
    }
    let body = access_events(body).expect("a body as it was written");
    let resolved = body.resolved.iter().map(Resolved::from_bytes);
    let amounts: HashMap<u32, u128> = resolved.map(|one| (one.index, one.amount.0)).collect();
    for ((event, verdict), index) in body.events.iter().zip(body.verdicts.iter()).zip(0u32..) {
        logged.push(Logged {
            time: header.meta.timestamp.0 + u64::from(index),
            partition: header.meta.partition,
            offset: header.meta.base_offset.0 + u64::from(index),
            event: Event::from_bytes(event).expect("a known event"),
            verdict: Verdict::from_number(*verdict).expect("a known verdict"),
            amount: amounts.get(&index).copied(),
        });
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Balances {
    flags: AccountFlags,
    debits_pending: u128,
    debits_posted: u128,
    credits_pending: u128,
    credits_posted: u128,
}

impl Balances {
    /// What of its credits is not debited or reserved.
    fn debitable(&self) -> u128 {
        self.credits_posted.saturating_sub(self.debits_posted + self.debits_pending)
    }

    /// What of its debits is not credited or reserved.
    fn creditable(&self) -> u128 {
        self.debits_posted.saturating_sub(self.credits_posted + self.credits_pending)
    }

    fn may_debit(&self, amount: u128) -> bool {
        let is_limited = self.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        amount > 0 && (!is_limited || amount <= self.debitable())
    }

    fn may_credit(&self, amount: u128) -> bool {
        let is_limited = self.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
        amount > 0 && (!is_limited || amount <= self.creditable())
    }
}

/// What is under way.
struct Prepared {
    transfer: Transfer,
    amount: u128,
    arrived: Option<Word>,
}

/// See the module.
#[derive(Default)]
pub struct Model {
    partitions: u16,
    accounts: BTreeMap<AccountId, Balances>,
    /// Open reservations.
    open: HashMap<EventId, (AccountId, AccountId, u128)>,
    /// By home and place.
    prepared: BTreeMap<(PartitionId, u64), Prepared>,
    /// Place of the last arrival, by home and the other partition.
    last: HashMap<(PartitionId, PartitionId), u64>,
    /// Transfers that spanned partitions and were accepted.
    pub accepted: u64,
    /// And refused by the other one.
    pub refused: u64,
}

impl Model {
    /// Runs what was logged in so many partitions.
    ///
    /// # Panics
    /// If what the logs say is not what this model comes to.
    pub fn of(mut logged: Vec<Logged>, partitions: u16) -> Self {
        logged.sort_by_key(|one| (one.time, one.partition));
        let mut model = Self { partitions, ..Self::default() };
        for one in &logged {
            model.take(one);
        }
        model
    }

    fn take(&mut self, logged: &Logged) {
        let Logged { partition, offset, verdict, .. } = *logged;
        let at = || format!("offset {offset} of partition {partition}");
        match logged.event {
            Event::Account(account) => {
                assert!(verdict.is_ok(), "{}: {verdict:?}", at());
                let new = Balances { flags: account.flags, ..Balances::default() };
                assert!(self.accounts.insert(account.id, new).is_none(), "{}: twice", at());
            }
            Event::Transfer(transfer) => {
                assert_eq!(self.home(transfer.debit_account_id, partition), partition, "{}", at());
                self.transfer(&transfer, logged, &at());
            }
            Event::Mail(mail) => {
                let last = self.last.get(&(mail.home, partition)).copied().unwrap_or_default();
                assert_eq!(mail.previous, last, "{}: mail behind another arrival", at());
            }
            Event::Arrival(arrival) => self.arrive(&arrival, logged, &at()),
            Event::Word(word) => self.settle(&word, partition, &at()),
            other => panic!("{}: nobody wrote {other:?}", at()),
        }
    }

    fn home(&self, account: AccountId, otherwise: PartitionId) -> PartitionId {
        if account == AccountId(0) {
            return otherwise;
        }
        partition::of_account(account, self.partitions)
    }

    fn account(&mut self, id: AccountId) -> &mut Balances {
        self.accounts.get_mut(&id).expect("an account that was created")
    }

    fn transfer(&mut self, transfer: &Transfer, logged: &Logged, at: &str) {
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        if transfer.flags.intersects(ends) {
            let open = self.open.remove(&transfer.pending_id);
            assert_eq!(open.is_some(), logged.verdict.is_ok(), "{at}: an end of {open:?}");
            let Some((debit, credit, amount)) = open else { return };
            let posted = transfer.flags.contains(TransferFlags::POST_PENDING);
            let moved = if posted { amount } else { 0 };
            let account = self.account(debit);
            account.debits_pending -= amount;
            account.debits_posted += moved;
            let account = self.account(credit);
            account.credits_pending -= amount;
            account.credits_posted += moved;
            return;
        }
        let Transfer { debit_account_id: debit, credit_account_id: credit, flags, .. } = *transfer;
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
        assert_eq!(may, logged.verdict.has_effect(), "{at}: {transfer:?}: {:?}", logged.verdict);
        if !may {
            return;
        }
        assert_eq!(spans, logged.verdict == Verdict::InDoubt, "{at}: {:?}", logged.verdict);
        assert_eq!(logged.amount.unwrap_or(transfer.amount.0), amount, "{at}: the amount");
        if spans {
            self.account(debit).debits_pending += amount;
            let prepared = Prepared { transfer: *transfer, amount, arrived: None };
            self.prepared.insert((logged.partition, logged.offset), prepared);
        } else if flags.contains(TransferFlags::PENDING) {
            self.account(debit).debits_pending += amount;
            self.account(credit).credits_pending += amount;
            self.open.insert(transfer.id, (debit, credit, amount));
        } else {
            self.account(debit).debits_posted += amount;
            self.account(credit).credits_posted += amount;
        }
    }

    fn arrive(&mut self, arrival: &Arrival, logged: &Logged, at: &str) {
        let Arrival { transfer, place } = arrival;
        let (home, credit) =
            (self.home(transfer.debit_account_id, logged.partition), transfer.credit_account_id);
        let account = *self.account(credit);
        let prepared = self.prepared.get_mut(&(home, *place));
        let prepared =
            prepared.unwrap_or_else(|| panic!("{at}: {place} of {home} is not under way"));
        assert!(prepared.arrived.is_none(), "{at}: {place} of {home} arrives again");
        let (sent, amount) = (prepared.transfer, prepared.amount);
        let expected = Transfer { amount: transfer.amount, ..sent };
        assert_eq!((*transfer, transfer.amount.0), (expected, amount), "{at}: another transfer");
        let last = self.last.insert((home, logged.partition), *place).unwrap_or_default();
        assert!(last < *place, "{at}: {place} of {home} arrives behind {last}");
        let reduces = transfer.flags.contains(TransferFlags::BALANCING_CREDIT);
        let moved = if reduces { amount.min(account.creditable()) } else { amount };
        let may = account.may_credit(moved);
        assert_eq!(may, logged.verdict.is_ok(), "{at}: {transfer:?}: {:?}", logged.verdict);
        let moved = if may { moved } else { 0 };
        assert!(!may || logged.amount.unwrap_or(amount) == moved, "{at}: the amount");
        let word = Word {
            id: transfer.id,
            place: *place,
            verdict: logged.verdict,
            amount: walengine_net::model::Amount(moved),
        };
        prepared.arrived = Some(word);
        self.account(credit).credits_posted += moved;
    }

    fn settle(&mut self, word: &Word, home: PartitionId, at: &str) {
        let prepared = self.prepared.remove(&(home, word.place));
        let prepared = prepared.unwrap_or_else(|| panic!("{at}: a word on what is not under way"));
        assert_eq!(prepared.arrived, Some(*word), "{at}: a word that was not given");
        let debit = self.account(prepared.transfer.debit_account_id);
        debit.debits_pending -= prepared.amount;
        debit.debits_posted += word.amount.0;
        if word.verdict.is_ok() {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }

    /// Compares with the partitions' own ledgers, all of which are at rest.
    ///
    /// # Panics
    /// If they differ, something is under way, or the in-transit accounts do not cancel.
    pub fn compare(&self, ledgers: &[&Ledger]) {
        assert!(self.prepared.is_empty(), "{} are under way", self.prepared.len());
        for (id, model) in &self.accounts {
            let home = usize::from(self.home(*id, PartitionId(0)).0);
            let found = ledgers[home].account(*id).expect("an account that was created");
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
        let debits: u128 = self.accounts.values().map(|one| one.debits_posted).sum();
        let credits: u128 = self.accounts.values().map(|one| one.credits_posted).sum();
        assert_eq!(debits, credits, "money was made or lost");
        for (home, one) in ledgers.iter().enumerate() {
            assert_eq!(one.doubts_len(), 0, "partition {home} has something in doubt");
            for (other, there) in ledgers.iter().enumerate() {
                let sides = |ledger: &Ledger, other: usize| {
                    let id = AccountId::in_transit(PartitionId(other as u16), LedgerId(1));
                    let account = ledger.account(id).unwrap_or_default();
                    assert_eq!((account.debits_pending.0, account.credits_pending.0), (0, 0));
                    (account.debits_posted.0, account.credits_posted.0)
                };
                let ((received, sent), back) = (sides(one, other), sides(there, home));
                assert_eq!((sent, received), back, "between partitions {home} and {other}");
            }
        }
    }
}
