//! The rules again, written as plainly as possible and in another way: it collects every verdict
//! that applies and takes the lowest number; chains work on a copy. Slow, and shares no code with
//! the ledger except the decoding of events.

use std::collections::{BTreeMap, HashMap, HashSet};

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, Code, Decided, Event, EventBytes,
    Expire, Guard, GuardFlags, LedgerId, Offset, PartitionId, Resolved, Timestamp, Transfer,
    TransferFlags, Verdict, Word, event_flags,
};
use walengine_net::partition;

use walengine::ledger::RECORD_BYTES_MAX;

use crate::names::{malformed_description, malformed_name};
use crate::reserved::{Doubt, Fate, Reservation, expires_at, in_transit, resolution};

/// One logged record.
#[derive(Clone, Debug)]
pub struct Record {
    pub event: EventBytes,
    pub verdict: Verdict,
    pub resolved: Option<Resolved>,
}

/// The state that a chain copies.
#[derive(Clone, Default)]
pub struct State {
    pub accounts: HashMap<u128, Account>,
    pub order: Vec<u128>,
    pub reservations: BTreeMap<u128, Reservation>,
    /// By id of the transfer or the posting.
    pub doubts: BTreeMap<u128, Doubt>,
    /// Ended here, which another partition may not know: by offset of the end, the reservation.
    pub ends: BTreeMap<u64, u128>,
    /// Names that were given, by account.
    pub names: BTreeMap<u128, String>,
    /// Events that this chain has accepted so far.
    pub accepted: HashSet<u128>,
}

pub type Known = HashMap<(bool, u128), (Vec<u8>, Verdict, u64)>;

pub struct Model {
    pub partition: PartitionId,
    pub partitions: u16,
    pub state: State,
    pub known: Known,
    pub next_offset: u64,
    pub last_timestamp: u64,
}

/// The lowest number among the verdicts whose condition holds.
fn lowest(conditions: &[(bool, Verdict)]) -> Option<Verdict> {
    conditions.iter().filter(|(holds, _)| *holds).map(|(_, verdict)| *verdict).min()
}

pub fn result(conditions: &[(bool, Verdict)]) -> Result<(), Verdict> {
    lowest(conditions).map_or(Ok(()), Err)
}

pub fn name_of(bytes: &EventBytes) -> (bool, u128) {
    let id = u128::from_le_bytes(bytes[..16].try_into().unwrap());
    (bytes[119] >> 4 == 1, id)
}

pub fn is_reserved(id: AccountId) -> bool {
    id.0 >> 96 == u128::from(u32::MAX)
}

pub fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

pub fn overflows(terms: &[u128]) -> bool {
    terms.iter().try_fold(0u128, |sum, term| sum.checked_add(*term)).is_none()
}

fn available(plus: u128, minus: u128, reserved: u128) -> u128 {
    plus.saturating_sub(minus).saturating_sub(reserved)
}

impl Model {
    pub fn new(partition: PartitionId, partitions: u16) -> Self {
        Self {
            partition,
            partitions,
            state: State::default(),
            known: Known::new(),
            next_offset: 0,
            last_timestamp: 0,
        }
    }

    pub fn routed(&self, id: AccountId) -> PartitionId {
        partition::of_account(id, self.partitions)
    }

    pub fn elsewhere(&self, id: AccountId) -> bool {
        id.0 != 0 && self.routed(id) != self.partition
    }

    fn malformed(&self, bytes: &EventBytes, chained: bool, repeated: bool) -> Option<Verdict> {
        let Ok(event) = Event::from_bytes(bytes) else { return Some(Verdict::KindUnknown) };
        let (_, id) = name_of(bytes);
        let flags = event_flags(bytes);
        let mut found = vec![
            (id == 0, Verdict::IdZero),
            (id == u128::MAX, Verdict::IdMax),
            (repeated, Verdict::IdRepeatedInChain),
        ];
        match event {
            Event::Expire(_) | Event::Mail(_) | Event::Arrival(_) | Event::Word(_) => {
                return Some(Verdict::KindUnknown);
            }
            Event::Account(account) => found.extend([
                (flags > 31, Verdict::FlagsUnknown),
                (!all_zero(&bytes[16..80]), Verdict::ReservedNotZero),
                (!all_zero(&bytes[104..112]), Verdict::ReservedNotZero),
                (!all_zero(&bytes[120..]), Verdict::ReservedNotZero),
                (flags & 0b110 == 0b110, Verdict::FlagsExclusive),
                (flags & 0b10100 == 0b10100, Verdict::FlagsExclusive),
                (account.ledger.0 == 0, Verdict::LedgerZero),
                (account.code.0 == 0, Verdict::CodeZero),
                (!chained && self.elsewhere(account.id), Verdict::WrongPartition),
                (is_reserved(account.id), Verdict::AccountReserved),
                ((flags > 15) != (account.id.0 >> 96 == 0xffff_fffe), Verdict::StripedBookDiffers),
            ]),
            Event::Transfer(transfer) => {
                self.malformed_transfer(bytes, &transfer, chained, &mut found);
            }
            Event::Guard(guard) => {
                let unused = !all_zero(&bytes[56..118]) || !all_zero(&bytes[120..]);
                found.extend([
                    (flags > 15, Verdict::FlagsUnknown),
                    (unused, Verdict::ReservedNotZero),
                    (flags & 0b10 == 0 && guard.version != 0, Verdict::ReservedNotZero),
                    (flags & 0b1100 == 0 && guard.available.0 != 0, Verdict::ReservedNotZero),
                    (guard.account_id.0 == 0, Verdict::AccountIdZero),
                    (!chained, Verdict::GuardOutsideChain),
                    (flags & 0b1110 == 0, Verdict::GuardEmpty),
                    (is_reserved(guard.account_id), Verdict::AccountReserved),
                ]);
            }
            Event::Close(close) => {
                let unused = !all_zero(&bytes[32..118]) || !all_zero(&bytes[120..]);
                found.extend([
                    (flags > 3, Verdict::FlagsUnknown),
                    (unused, Verdict::ReservedNotZero),
                    (close.account_id.0 == 0, Verdict::AccountIdZero),
                    (!chained && self.elsewhere(close.account_id), Verdict::WrongPartition),
                    (is_reserved(close.account_id), Verdict::AccountReserved),
                ]);
            }
            Event::Name(name) => malformed_name(self, bytes, &name, chained, &mut found),
            Event::Describe(it) => malformed_description(self, bytes, &it, chained, &mut found),
        }
        lowest(&found)
    }

    fn malformed_transfer(
        &self,
        bytes: &EventBytes,
        transfer: &Transfer,
        chained: bool,
        found: &mut Vec<(bool, Verdict)>,
    ) {
        let set = |flag: TransferFlags| transfer.flags.contains(flag);
        let (post, void) = (set(TransferFlags::POST_PENDING), set(TransferFlags::VOID_PENDING));
        let balancing = set(TransferFlags::BALANCING_DEBIT) || set(TransferFlags::BALANCING_CREDIT);
        let pending = set(TransferFlags::PENDING);
        let ends = post || void;
        let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
        let both = debit.0 != 0 && credit.0 != 0;
        let spans = both && self.routed(debit) != self.routed(credit);
        found.extend([
            (event_flags(bytes) & !0x43f != 0, Verdict::FlagsUnknown),
            (transfer.timestamp.0 != 0, Verdict::ReservedNotZero),
            (post && void, Verdict::FlagsExclusive),
            (ends && (pending || balancing), Verdict::FlagsExclusive),
            (!ends && debit.0 == 0, Verdict::DebitAccountIdZero),
            (!ends && credit.0 == 0, Verdict::CreditAccountIdZero),
            (both && debit == credit, Verdict::AccountsSame),
            (!ends && transfer.amount.0 == 0, Verdict::AmountZero),
            (!ends && transfer.ledger.0 == 0, Verdict::LedgerZero),
            (!ends && transfer.code.0 == 0, Verdict::CodeZero),
            (ends && transfer.pending_id.0 == 0, Verdict::PendingIdZero),
            (!ends && transfer.pending_id.0 != 0, Verdict::PendingIdNotZero),
            (ends && transfer.pending_id == transfer.id, Verdict::PendingIdSame),
            (!pending && transfer.timeout_seconds != 0, Verdict::TimeoutWithoutPending),
            (!chained && self.elsewhere(debit), Verdict::WrongPartition),
            (!chained && !spans && self.elsewhere(credit), Verdict::WrongPartition),
            (is_reserved(debit) || is_reserved(credit), Verdict::AccountReserved),
        ]);
    }

    /// Log time of the next record of a draft that began at `base` and has `length` records.
    fn next_timestamp(&self, length: usize, now: u64) -> u64 {
        let earliest = self.last_timestamp + 1;
        if length == 0 { earliest.max(now) } else { earliest }
    }

    fn log(&mut self, log: &mut Vec<Record>, timestamp: u64, record: Record) {
        log.push(record);
        self.next_offset += 1;
        self.last_timestamp = timestamp;
    }

    /// Another partition says what becomes of what is in doubt, or that it knows of an end.
    pub fn settle(&mut self, word: &Word, log: &mut Vec<Record>, now: u64) {
        let index = log.len() as u32;
        let resolved = if word.id.0 == 0 {
            assert_eq!(self.state.ends.remove(&word.place), Some(word.pending_id.0));
            self.state.said(word.pending_id.0, 0, index)
        } else {
            self.known.get_mut(&(false, word.id.0)).unwrap().1 = word.verdict;
            self.state.settle(word, index)
        };
        let timestamp = self.next_timestamp(log.len(), now);
        let (event, resolved) = (word.to_bytes(), Some(resolved));
        self.log(log, timestamp, Record { event, verdict: Verdict::Ok, resolved });
    }

    pub fn expire(&mut self, log: &mut Vec<Record>, now: u64) {
        loop {
            let timestamp = self.next_timestamp(log.len(), now);
            let due = self.state.reservations.values().filter(|reservation| {
                reservation.fate == Fate::Open
                    && !reservation.in_doubt
                    && reservation.expires_at.is_some_and(|at| at <= timestamp)
            });
            let Some(first) = due.min_by_key(|first| (first.expires_at, first.offset)) else {
                return;
            };
            let pending_id = first.transfer.id;
            let index = log.len() as u32;
            let resolved = self.state.end(pending_id.0, None, Fate::Expired, index);
            self.state.note_end(pending_id.0, self.next_offset);
            let event = Event::Expire(Expire { pending_id }).to_bytes();
            let record = Record { event, verdict: Verdict::Ok, resolved: Some(resolved) };
            self.log(log, timestamp, record);
        }
    }

    pub fn submit(
        &mut self,
        events: &[EventBytes],
        log: &mut Vec<Record>,
        now: u64,
    ) -> Vec<Decided> {
        self.expire(log, now);
        let mut outcomes = Vec::new();
        let mut rest = events;
        while !rest.is_empty() {
            let end = rest.iter().position(|bytes| event_flags(bytes) & 1 == 0);
            let (group, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = behind;
            outcomes.extend(self.group(group, end.is_some(), log, now));
        }
        outcomes
    }

    fn group(
        &mut self,
        group: &[EventBytes],
        closed: bool,
        log: &mut Vec<Record>,
        now: u64,
    ) -> Vec<Decided> {
        let chained = group.len() > 1;
        let culprit = if closed {
            (0..group.len()).find_map(|index| {
                let name = name_of(&group[index]);
                let repeated = group[..index].iter().any(|earlier| name_of(earlier) == name);
                self.malformed(&group[index], chained, repeated).map(|verdict| (index, verdict))
            })
        } else {
            Some((group.len() - 1, Verdict::LinkedEventChainOpen))
        };
        let way = if chained { self.way(group) } else { Ok(self.partition) };
        let culprit = culprit.or(way.err());
        if let Some((culprit, verdict)) = culprit {
            let other = Verdict::LinkedEventMalformed;
            return (0..group.len())
                .map(|index| if index == culprit { verdict } else { other })
                .map(|verdict| Decided { verdict, offset: None })
                .collect();
        }
        let known: Vec<_> =
            group.iter().map(|bytes| self.known.get(&name_of(bytes)).cloned()).collect();
        let answers: Vec<Option<Decided>> = known
            .iter()
            .zip(group)
            .map(|(known, bytes)| {
                known.as_ref().map(|(body, verdict, offset)| {
                    let same = body == bytes;
                    let verdict = if same { *verdict } else { Verdict::IdReused };
                    Decided { verdict, offset: Some(Offset(*offset)) }
                })
            })
            .collect();
        if answers.iter().all(Option::is_some) {
            return answers.into_iter().flatten().collect();
        }
        let fresh = answers.iter().all(Option::is_none);
        let first = self.next_timestamp(log.len(), now);
        let decided = if fresh {
            self.run(group, first, log.len() as u32, way.unwrap())
        } else {
            let verdict = |index: usize| match &known[index] {
                None => Verdict::LinkedEventFailed,
                Some((body, ..)) if *body == group[index] => Verdict::IdDecidedBefore,
                Some(_) => Verdict::IdReused,
            };
            (0..group.len()).map(|index| (verdict(index), None)).collect()
        };
        let mut outcomes = Vec::new();
        for (index, (verdict, resolved)) in decided.into_iter().enumerate() {
            let event = group[index];
            let offset = self.next_offset;
            self.known.entry(name_of(&event)).or_insert((event.to_vec(), verdict, offset));
            let own = Decided { verdict, offset: Some(Offset(offset)) };
            outcomes.push(answers[index].unwrap_or(own));
            self.log(log, first + index as u64, Record { event, verdict, resolved });
        }
        outcomes
    }

    fn run(
        &mut self,
        group: &[EventBytes],
        timestamp: u64,
        first_index: u32,
        last: PartitionId,
    ) -> Vec<(Verdict, Option<Resolved>)> {
        if last != self.partition {
            return self.run_spanning(group, timestamp, first_index, last);
        }
        let before = (group.len() > 1).then(|| self.state.clone());
        let mut resolved = Vec::new();
        self.state.accepted.clear();
        for (index, bytes) in group.iter().enumerate() {
            let event = Event::from_bytes(bytes).unwrap();
            let other = match event {
                Event::Transfer(transfer)
                    if transfer.pending_id.0 == 0 && self.elsewhere(transfer.credit_account_id) =>
                {
                    Some(self.routed(transfer.credit_account_id))
                }
                _ => None,
            };
            let at = At {
                other,
                chained: group.len() > 1,
                spanning: false,
                timestamp: timestamp + index as u64,
                offset: self.next_offset + index as u64,
                index: first_index + index as u32,
            };
            match self.state.execute(&event, at, &self.known) {
                Ok(effective) if self.state.doubts.contains_key(&name_of(bytes).1) => {
                    resolved.push((Verdict::InDoubt, effective));
                }
                Ok(effective) => {
                    resolved.push((Verdict::Ok, effective));
                    if !matches!(event, Event::Account(_)) {
                        self.state.accepted.insert(name_of(bytes).1);
                    }
                }
                Err(verdict) => {
                    if let Some(before) = before {
                        self.state = before;
                    }
                    let other = (Verdict::LinkedEventFailed, None);
                    let mut verdicts = vec![other; group.len()];
                    verdicts[index] = (verdict, None);
                    return verdicts;
                }
            }
        }
        resolved
    }

    pub fn append_records(
        &mut self,
        records: &[(RecordHead, Vec<u8>)],
        logged: &mut Vec<(usize, Verdict)>,
        now: u64,
    ) -> Vec<Decided> {
        let mut outcomes = Vec::new();
        for (index, (head, bytes)) in records.iter().enumerate() {
            let malformed = lowest(&[
                (head.id == 0, Verdict::IdZero),
                (head.id == u128::MAX, Verdict::IdMax),
                (bytes.len() > RECORD_BYTES_MAX as usize, Verdict::RecordTooLarge),
            ]);
            if let Some(verdict) = malformed {
                outcomes.push(Decided { verdict, offset: None });
                continue;
            }
            let mut body = b"record".to_vec();
            body.extend_from_slice(&head.expected_offset.to_le_bytes());
            body.extend_from_slice(bytes);
            if let Some((known, verdict, offset)) = self.known.get(&(false, head.id)) {
                let verdict = if *known == body { *verdict } else { Verdict::IdReused };
                outcomes.push(Decided { verdict, offset: Some(Offset(*offset)) });
                continue;
            }
            let offset = self.next_offset;
            let expected = [ANY_OFFSET, offset].contains(&head.expected_offset);
            let verdict = if expected { Verdict::Ok } else { Verdict::OffsetDiffers };
            self.known.insert((false, head.id), (body, verdict, offset));
            outcomes.push(Decided { verdict, offset: Some(Offset(offset)) });
            self.last_timestamp = self.next_timestamp(logged.len(), now);
            self.next_offset += 1;
            logged.push((index, verdict));
        }
        outcomes
    }
}

#[derive(Clone, Copy)]
pub struct At {
    pub timestamp: u64,
    pub offset: u64,
    pub index: u32,
    /// Where the credit account lives, if elsewhere.
    pub other: Option<PartitionId>,
    pub chained: bool,
    /// Another partition has the last word on its chain.
    pub spanning: bool,
}

impl State {
    pub fn account(&mut self, id: AccountId) -> &mut Account {
        self.accounts.get_mut(&id.0).unwrap()
    }

    fn execute(
        &mut self,
        event: &Event,
        at: At,
        known: &Known,
    ) -> Result<Option<Resolved>, Verdict> {
        match event {
            Event::Account(account) => {
                let flags = AccountFlags(account.flags.0 & !1);
                let timestamp = Timestamp(at.timestamp);
                let id = account.id.0;
                self.accounts.insert(id, Account { flags, timestamp, ..*account });
                self.order.push(id);
                Ok(None)
            }
            Event::Transfer(transfer) if transfer.flags.0 & 0b1100 != 0 => {
                self.end_pending(transfer, at, known).map(Some)
            }
            Event::Transfer(transfer) => match at.other {
                Some(other) => self.prepare(transfer, at, other),
                None => self.transfer(transfer, at),
            },
            Event::Guard(guard) => self.guard(guard).map(|()| None),
            Event::Close(close) => self.close(close).map(|()| None),
            Event::Name(name) => self.name(name).map(|()| None),
            Event::Describe(_) => unreachable!("partition 0 decides it"),
            Event::Expire(_) | Event::Mail(_) | Event::Arrival(_) | Event::Word(_) => {
                unreachable!("clients send none")
            }
        }
    }

    fn prepare(
        &mut self,
        transfer: &Transfer,
        at: At,
        other: PartitionId,
    ) -> Result<Option<Resolved>, Verdict> {
        let debit = self.accounts.get(&transfer.debit_account_id.0).copied();
        let debit = debit.ok_or(Verdict::DebitAccountNotFound)?;
        let transit = in_transit(other, transfer.ledger);
        let new = Account {
            id: transit,
            ledger: transfer.ledger,
            code: Code(u16::MAX),
            timestamp: Timestamp(at.timestamp),
            ..Account::default()
        };
        let credit = self.accounts.get(&transit.0).copied().unwrap_or(new);
        let balances = transfer.flags.contains(TransferFlags::BALANCING_DEBIT);
        let to_debit =
            available(debit.credits_posted.0, debit.debits_posted.0, debit.debits_pending.0);
        let amount = if balances { transfer.amount.0.min(to_debit) } else { transfer.amount.0 };
        let debits = [debit.debits_pending.0, debit.debits_posted.0, amount];
        let credits = [credit.credits_pending.0, credit.credits_posted.0, amount];
        let limited = debit.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        let over = overflows(&debits);
        result(&[
            (transfer.ledger != debit.ledger, Verdict::LedgerDiffersFromAccounts),
            (debit.flags.contains(AccountFlags::CLOSED), Verdict::DebitAccountClosed),
            (overflows(&[debits[0], amount]), Verdict::OverflowsDebitsPending),
            (overflows(&[credits[0], amount]), Verdict::OverflowsCreditsPending),
            (over, Verdict::OverflowsDebits),
            (overflows(&credits), Verdict::OverflowsCredits),
            (balances && to_debit == 0, Verdict::ExceedsCredits),
            (
                limited && !over && debits.iter().sum::<u128>() > debit.credits_posted.0,
                Verdict::ExceedsCredits,
            ),
        ])?;
        if self.accounts.insert(transit.0, credit).is_none() {
            self.order.push(transit.0);
        }
        let account = self.account(debit.id);
        account.debits_pending.0 += amount;
        account.version += 1;
        let account = self.account(transit);
        account.credits_pending.0 += amount;
        account.version += 1;
        let (expires_at, offset) = (expires_at(transfer, at.timestamp), at.offset);
        let sides = Some((debit.id, transit));
        let transfer = *transfer;
        let doubt = Doubt { transfer, amount, offset, other, expires_at, sides, chain: None };
        self.doubts.insert(transfer.id.0, doubt);
        let flags = TransferFlags::BALANCING_DEBIT.with(TransferFlags::BALANCING_CREDIT);
        Ok(transfer.flags.intersects(flags).then_some(Resolved {
            debit_account_id: debit.id,
            credit_account_id: transfer.credit_account_id,
            amount: Amount(amount),
            index: at.index,
            ledger: transfer.ledger,
            code: transfer.code,
        }))
    }

    pub fn transfer(&mut self, transfer: &Transfer, at: At) -> Result<Option<Resolved>, Verdict> {
        let debit = self.accounts.get(&transfer.debit_account_id.0).copied();
        let credit = self.accounts.get(&transfer.credit_account_id.0).copied();
        result(&[
            (debit.is_none(), Verdict::DebitAccountNotFound),
            (credit.is_none(), Verdict::CreditAccountNotFound),
        ])?;
        let (debit, credit) = (debit.unwrap(), credit.unwrap());
        let to_debit =
            available(debit.credits_posted.0, debit.debits_posted.0, debit.debits_pending.0);
        let to_credit =
            available(credit.debits_posted.0, credit.credits_posted.0, credit.credits_pending.0);
        let balances_debit = transfer.flags.contains(TransferFlags::BALANCING_DEBIT);
        let balances_credit = transfer.flags.contains(TransferFlags::BALANCING_CREDIT);
        let mut amount = transfer.amount.0;
        if balances_debit {
            amount = amount.min(to_debit);
        }
        if balances_credit {
            amount = amount.min(to_credit);
        }
        let pending = transfer.flags.contains(TransferFlags::PENDING);
        let debits = [debit.debits_pending.0, debit.debits_posted.0, amount];
        let credits = [credit.credits_pending.0, credit.credits_posted.0, amount];
        let passes = |terms: &[u128], limit: u128| terms.iter().sum::<u128>() > limit;
        let debit_limited = debit.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        let credit_limited = credit.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
        let over = |terms: &[u128], index: usize| overflows(&[terms[index], amount]);
        let (over_debits, over_credits) = (overflows(&debits), overflows(&credits));
        result(&[
            (debit.ledger != credit.ledger, Verdict::AccountsOnDifferentLedgers),
            (
                debit.ledger == credit.ledger && transfer.ledger != debit.ledger,
                Verdict::LedgerDiffersFromAccounts,
            ),
            (debit.flags.contains(AccountFlags::CLOSED), Verdict::DebitAccountClosed),
            (credit.flags.contains(AccountFlags::CLOSED), Verdict::CreditAccountClosed),
            (pending && over(&debits, 0), Verdict::OverflowsDebitsPending),
            (pending && over(&credits, 0), Verdict::OverflowsCreditsPending),
            (!pending && over(&debits, 1), Verdict::OverflowsDebitsPosted),
            (!pending && over(&credits, 1), Verdict::OverflowsCreditsPosted),
            (over_debits, Verdict::OverflowsDebits),
            (over_credits, Verdict::OverflowsCredits),
            (balances_debit && to_debit == 0, Verdict::ExceedsCredits),
            (balances_credit && to_credit == 0, Verdict::ExceedsDebits),
            (
                debit_limited && !over_debits && passes(&debits, debit.credits_posted.0),
                Verdict::ExceedsCredits,
            ),
            (
                credit_limited && !over_credits && passes(&credits, credit.debits_posted.0),
                Verdict::ExceedsDebits,
            ),
        ])?;
        let account = self.account(debit.id);
        account.version += 1;
        if pending {
            account.debits_pending.0 += amount;
        } else {
            account.debits_posted.0 += amount;
        }
        let account = self.account(credit.id);
        account.version += 1;
        if pending {
            account.credits_pending.0 += amount;
            let expires_at = expires_at(transfer, at.timestamp);
            let (transfer, offset) = (*transfer, at.offset);
            let reservation = Reservation {
                transfer,
                amount,
                expires_at,
                offset,
                fate: Fate::Open,
                other: None,
                in_doubt: false,
            };
            self.reservations.insert(transfer.id.0, reservation);
        } else {
            account.credits_posted.0 += amount;
        }
        Ok((balances_debit || balances_credit).then_some(Resolved {
            debit_account_id: debit.id,
            credit_account_id: credit.id,
            amount: Amount(amount),
            index: at.index,
            ledger: transfer.ledger,
            code: transfer.code,
        }))
    }

    pub fn end_pending(
        &mut self,
        transfer: &Transfer,
        at: At,
        known: &Known,
    ) -> Result<Resolved, Verdict> {
        let id = transfer.pending_id.0;
        let reserving = self.doubts.get(&id).filter(|doubt| doubt.is_reservation());
        let reserving = reserving.cloned().map(|doubt| doubt.into_reservation(true));
        let Some(pending) = self.reservations.get(&id).cloned().or(reserving) else {
            let before = known.get(&(false, id)).is_some_and(|(_, verdict, _)| verdict.is_ok());
            let accepted = before || self.accepted.contains(&id) || self.doubts.contains_key(&id);
            return Err(if accepted {
                Verdict::PendingNotPending
            } else {
                Verdict::PendingNotFound
            });
        };
        let post = transfer.flags.contains(TransferFlags::POST_PENDING);
        let amount = transfer.amount.0;
        let asked = |asked: u128, is: u128| asked != 0 && asked != is;
        let original = pending.transfer;
        let debit = *self.account(original.debit_account_id);
        let credit = *self.account(pending.credit_side());
        let due = !pending.in_doubt && pending.expires_at.is_some_and(|time| time <= at.timestamp);
        result(&[
            (pending.fate == Fate::Posted, Verdict::PendingAlreadyPosted),
            (pending.fate == Fate::Voided, Verdict::PendingAlreadyVoided),
            (pending.fate == Fate::Expired, Verdict::PendingExpired),
            (pending.fate == Fate::Open && due, Verdict::PendingExpired),
            (
                asked(transfer.debit_account_id.0, original.debit_account_id.0),
                Verdict::PendingDebitAccountDiffers,
            ),
            (
                asked(transfer.credit_account_id.0, original.credit_account_id.0),
                Verdict::PendingCreditAccountDiffers,
            ),
            (
                asked(transfer.ledger.0.into(), original.ledger.0.into()),
                Verdict::PendingLedgerDiffers,
            ),
            (asked(transfer.code.0.into(), original.code.0.into()), Verdict::PendingCodeDiffers),
            (post && amount > pending.amount, Verdict::PendingAmountExceeded),
            (!post && asked(amount, pending.amount), Verdict::PendingAmountDiffers),
            (pending.in_doubt, Verdict::PendingInDoubt),
            (post && pending.other.is_some() && at.chained, Verdict::PendingSpans),
            (pending.other.is_some() && at.spanning, Verdict::PendingSpans),
            (post && debit.flags.contains(AccountFlags::CLOSED), Verdict::DebitAccountClosed),
            (post && credit.flags.contains(AccountFlags::CLOSED), Verdict::CreditAccountClosed),
        ])?;
        let whole = if amount == 0 { pending.amount } else { amount };
        if let Some(other) = pending.other.filter(|_| post) {
            self.reservations.get_mut(&id).unwrap().in_doubt = true;
            let (transfer, offset) = (*transfer, at.offset);
            let (expires_at, sides, chain) = (None, None, None);
            let doubt = Doubt { transfer, amount: whole, offset, other, expires_at, sides, chain };
            self.doubts.insert(transfer.id.0, doubt);
            let credit = original.credit_account_id;
            return Ok(resolution(&original, credit, whole, at.index));
        }
        if !post {
            self.note_end(id, at.offset);
        }
        let (posted, fate) = if post { (Some(whole), Fate::Posted) } else { (None, Fate::Voided) };
        Ok(self.end(id, posted, fate, at.index))
    }

    fn end(&mut self, id: u128, posted: Option<u128>, fate: Fate, index: u32) -> Resolved {
        let pending = self.reservations.get_mut(&id).unwrap();
        pending.fate = fate;
        let (original, amount, credit) = (pending.transfer, pending.amount, pending.credit_side());
        self.release(original.debit_account_id, credit, amount, posted.unwrap_or(0));
        resolution(&original, original.credit_account_id, posted.unwrap_or(amount), index)
    }

    fn release(&mut self, debit: AccountId, credit: AccountId, released: u128, moved: u128) {
        let account = self.account(debit);
        account.debits_pending.0 -= released;
        account.debits_posted.0 += moved;
        account.version += 1;
        let account = self.account(credit);
        account.credits_pending.0 -= released;
        account.credits_posted.0 += moved;
        account.version += 1;
    }

    /// The other partition is to be told that a reservation has ended.
    fn note_end(&mut self, id: u128, offset: u64) {
        if self.reservations[&id].other.is_some() {
            self.ends.insert(offset, id);
        }
    }

    /// What stands beside a word: its reservation with the in-transit account.
    fn said(&self, reservation: u128, amount: u128, index: u32) -> Resolved {
        let reservation = &self.reservations[&reservation];
        resolution(&reservation.transfer, reservation.credit_side(), amount, index)
    }

    fn settle(&mut self, word: &Word, index: u32) -> Resolved {
        let doubt = self.doubts.remove(&word.id.0).unwrap();
        let (is_ok, moved) = (word.verdict == Verdict::Ok, word.amount.0);
        let amount = if is_ok { moved } else { doubt.amount };
        if doubt.transfer.pending_id.0 != 0 {
            let id = doubt.transfer.pending_id.0;
            self.reservations.get_mut(&id).unwrap().in_doubt = false;
            let posts = doubt.transfer.flags.contains(TransferFlags::POST_PENDING);
            if is_ok && posts {
                self.end(id, Some(moved), Fate::Posted, index);
            } else if is_ok {
                self.end(id, None, Fate::Voided, index);
            }
            let of = self.reservations[&id].transfer;
            return resolution(&of, in_transit(doubt.other, of.ledger), amount, index);
        }
        let transfer = doubt.transfer;
        let Some((debit, credit)) = doubt.sides else {
            let transit = in_transit(doubt.other, LedgerId(0));
            return resolution(&Transfer::default(), transit, amount, index);
        };
        let transit = in_transit(doubt.other, transfer.ledger);
        if doubt.is_reservation() && is_ok {
            self.release(debit, credit, doubt.amount - moved, 0);
            let mut reservation = doubt.into_reservation(false);
            reservation.amount = moved;
            self.reservations.insert(transfer.id.0, reservation);
        } else {
            self.release(debit, credit, doubt.amount, moved);
        }
        let debit_account_id = debit;
        resolution(&Transfer { debit_account_id, ..transfer }, transit, amount, index)
    }

    fn guard(&self, guard: &Guard) -> Result<(), Verdict> {
        let Some(account) = self.accounts.get(&guard.account_id.0) else {
            return Err(Verdict::GuardAccountNotFound);
        };
        let set = |flag| guard.flags.contains(flag);
        let debit =
            available(account.credits_posted.0, account.debits_posted.0, account.debits_pending.0);
        let credit =
            available(account.debits_posted.0, account.credits_posted.0, account.credits_pending.0);
        let least = guard.available.0;
        result(&[
            (
                set(GuardFlags::VERSION) && account.version != guard.version,
                Verdict::GuardVersionDiffers,
            ),
            (set(GuardFlags::AVAILABLE_TO_DEBIT) && debit < least, Verdict::GuardBalanceTooLow),
            (set(GuardFlags::AVAILABLE_TO_CREDIT) && credit < least, Verdict::GuardBalanceTooLow),
        ])
    }

    fn close(&mut self, close: &Close) -> Result<(), Verdict> {
        let reopen = close.flags.contains(CloseFlags::REOPEN);
        let Some(account) = self.accounts.get_mut(&close.account_id.0) else {
            return Err(Verdict::CloseAccountNotFound);
        };
        let closed = account.flags.contains(AccountFlags::CLOSED);
        result(&[
            (!reopen && closed, Verdict::AccountAlreadyClosed),
            (reopen && !closed, Verdict::AccountNotClosed),
        ])?;
        account.flags = AccountFlags(account.flags.0 ^ AccountFlags::CLOSED.0);
        account.version += 1;
        Ok(())
    }
}
