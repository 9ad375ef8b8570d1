//! Transfers between partitions: what is prepared here, what arrives from elsewhere, and the words on both.
//! ACROSS.md in `engine/src/across` has the argument.

use std::collections::{BTreeMap, VecDeque};

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Code, EventBytes, EventId, EventKind,
    LedgerId, Mail, Offset, PartitionId, Resolved, ResolvedBytes, Timestamp, Transfer,
    TransferFlags, Verdict, Word, event_kind,
};

use super::ahead::Near;
use super::balances::{available_to_credit, available_to_debit, check_balances};
use super::checks::refuse_if;
use super::effects::{
    expires_at, move_money, move_money_back, note, note_balanced, release, reserve,
};
use super::limits::OFFSET_MAX;
use super::pendings::{NEVER, Pending, PendingKey, Standing};
use super::slot::PendingState;
use super::{At, Draft, Ledger};
use crate::ids::key::{Key, Space};
use crate::planted::{self, Planted};

/// Size of what a snapshot has of another partition in bytes, each: a place, or a word.
pub(super) const ACROSS_ITEM_BYTES: usize = 48;
/// Stands instead of a verdict with the place of the last arrival.
const LAST: u8 = u8::MAX;
/// Stands instead of a verdict with the reservation that the word before it speaks of.
const PENDING: u8 = u8::MAX - 1;

/// What has come from other partitions.
#[derive(Default)]
pub(super) struct Across {
    inbound: BTreeMap<PartitionId, Inbound>,
    /// Offset and what its record has changed, oldest first. Emptied by [`Self::release`].
    changes: VecDeque<(u64, Change)>,
}

/// What has come from one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inbound {
    /// Place of the last arrival.
    last: u64,
    /// By place: the words that it may not know yet.
    words: BTreeMap<u64, Word>,
}

enum Change {
    /// These words were forgotten.
    Mail(PartitionId, BTreeMap<u64, Word>),
    /// The last place before, and the one that has arrived.
    Arrival(PartitionId, u64, u64),
}

impl Across {
    /// No more than this are in [`Self::items`].
    pub(super) fn items_max(&self) -> usize {
        self.inbound.values().map(|inbound| 1 + 2 * inbound.words.len()).sum()
    }

    /// As a snapshot has them, ascending.
    pub(super) fn items(&self) -> impl Iterator<Item = [u8; ACROSS_ITEM_BYTES]> {
        self.inbound.iter().flat_map(|(home, inbound)| {
            let last = item(*home, LAST, inbound.last, 0, 0);
            let word = |word: &Word| {
                let Word { id, place, verdict, amount, pending_id } = *word;
                let first = item(*home, verdict.number(), place, id.0, amount.0);
                let second =
                    (pending_id.0 != 0).then(|| item(*home, PENDING, place, pending_id.0, 0));
                [Some(first), second].into_iter().flatten()
            };
            std::iter::once(last).chain(inbound.words.values().flat_map(word))
        })
    }

    /// Takes the next item of a snapshot; whose it is. `None` if it is not one, or out of order.
    pub(super) fn restore(&mut self, bytes: &[u8; ACROSS_ITEM_BYTES]) -> Option<PartitionId> {
        let u64_at = |at: usize| bytes[at..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        let u128_at = |at| u128::from(u64_at(at)) | u128::from(u64_at(at + 8)) << 64;
        let (first, place) = (u64_at(0), u64_at(8));
        let (home, number) = (PartitionId(first as u16), (first >> 16) as u8);
        let (id, amount) = (u128_at(16), u128_at(32));
        if item(home, number, place, id, amount) != *bytes {
            return None;
        }
        let newest = self.inbound.last_entry();
        if number == LAST {
            let follows = newest.is_none_or(|newest| *newest.key() < home);
            let is_right = follows && place > 0 && id == 0 && amount == 0;
            let inbound = Inbound { last: place, words: BTreeMap::new() };
            return is_right.then(|| self.inbound.insert(home, inbound)).map(|_| home);
        }
        let mut newest = newest.filter(|newest| *newest.key() == home)?;
        let Inbound { last, words } = newest.get_mut();
        if number == PENDING {
            let word = words.get_mut(&place).filter(|word| word.pending_id == EventId(0))?;
            word.pending_id = EventId(id);
            let is_newest = words.last_key_value().is_some_and(|(newest, _)| *newest == place);
            return (is_newest && id != 0 && amount == 0).then_some(home);
        }
        let verdict = Verdict::from_number(number).filter(|it| !it.is_malformed())?;
        let follows = words.last_key_value().is_none_or(|(before, _)| *before < place);
        let (id, amount, pending_id) = (EventId(id), Amount(amount), EventId(0));
        let word = Word { id, place, verdict, amount, pending_id };
        (follows && place <= *last).then(|| words.insert(place, word)).map(|_| home)
    }

    /// Records below `offset` will not be undone.
    pub(super) fn release(&mut self, offset: u64) {
        while self.changes.front().is_some_and(|(at, _)| *at < offset) {
            self.changes.pop_front();
        }
    }

    /// Takes back what the record at `offset` has changed here, if it is the newest that did.
    pub(super) fn undo(&mut self, offset: u64) {
        let Some((_, change)) = self.changes.pop_back_if(|(at, _)| *at == offset) else { return };
        match change {
            Change::Mail(home, forgotten) => {
                self.inbound.entry(home).or_default().words.extend(forgotten);
            }
            Change::Arrival(home, last, place) => {
                let inbound = self.inbound.entry(home).or_default();
                inbound.last = last;
                inbound.words.remove(&place);
            }
        }
        self.inbound.retain(|_, inbound| *inbound != Inbound::default());
    }
}

/// Why a frame from another partition is not taken. Nothing was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// What lies between is missing.
    #[error("the last arrival was at place {last}, and something is missing behind it")]
    Gap {
        /// Place of the last arrival.
        last: u64,
    },
    /// No partition sends this.
    #[error("an arrival is not what its home sends")]
    Malformed,
}

/// Something that another partition is to be told, and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its record: its place in the stream.
    pub offset: Offset,
    /// Of its event, which is sent with the amount that is here. `None` if all that is sent is here.
    pub fingerprint: Option<u64>,
    /// The amount and, of the end of a reservation, all that its event may not say.
    known: Transfer,
}

impl Doubt {
    /// What is sent, given the event if there is a fingerprint of it.
    pub fn arrival(&self, event: Option<&EventBytes>) -> Arrival {
        let place = self.offset.0;
        let Transfer { amount, debit_account_id, credit_account_id, ledger, code, .. } = self.known;
        let transfer = match event.map(Transfer::from_bytes) {
            None => self.known,
            Some(sent) if debit_account_id == AccountId(0) => Transfer { amount, ..sent },
            Some(sent) => {
                Transfer { amount, debit_account_id, credit_account_id, ledger, code, ..sent }
            }
        };
        Arrival { transfer, place }
    }
}

/// A frame from another partition.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Where it comes from.
    pub home: PartitionId,
    /// Everything that home has prepared for this partition from this place to the last arrival is in it.
    pub covers_from: u64,
    /// Everything that home has prepared below this is settled there, and that is committed.
    pub settled_below: u64,
    /// By place, which ascend.
    pub arrivals: &'a [Arrival],
}

impl Ledger {
    /// Number of transfers that are in doubt here, and of ended reservations of which another partition may not know.
    pub fn doubts_len(&self) -> usize {
        self.pendings.in_doubt().len()
    }

    /// Number of transfers that are in doubt here.
    pub fn in_doubt_len(&self) -> usize {
        self.pendings.in_doubt().len() - self.pendings.counted(Standing::Ended)
    }

    /// Number of open reservations whose home this is.
    pub fn open_len(&self) -> usize {
        self.pendings.counted(Standing::Open) + self.pendings.counted(Standing::Ending)
    }

    /// An event on which another partition has the last word, if nothing is wrong with it.
    pub fn spans(&self, event: &EventBytes) -> bool {
        if event_kind(event) != Ok(EventKind::Transfer) {
            return false;
        }
        let transfer = Transfer::from_bytes(event);
        let Transfer { debit_account_id, credit_account_id, pending_id, flags, .. } = transfer;
        if pending_id.0 != 0 {
            let posts = flags.contains(TransferFlags::POST_PENDING);
            let reservation = self.pendings.get(pending_id.0).filter(|_| posts);
            return reservation.is_some_and(|reservation| reservation.other != 0);
        }
        credit_account_id != AccountId(0)
            && self.routing().of(debit_account_id) != self.routing().of(credit_account_id)
    }

    /// The oldest record on which another partition has the last word that is not here yet, or not released
    /// ([`Self::release`]).
    pub fn oldest_doubt(&self, other: PartitionId) -> Option<Offset> {
        self.pendings.in_doubt().oldest(other).map(Offset)
    }

    /// What a bug does that is planted.
    pub(super) fn forget_doubts(&mut self) {
        let in_doubt = self.pendings.iter().filter(|pending| pending.sent_to().is_some());
        let ids: Vec<u128> = in_doubt.map(|pending| pending.id).collect();
        for id in ids {
            self.pendings.remove(PendingKey::own(EventId(id)));
        }
    }

    /// The oldest of all [`Self::oldest_doubt`].
    pub fn oldest_doubt_of_all(&self) -> Option<Offset> {
        self.pendings.in_doubt().oldest_of_all().map(Offset)
    }

    /// Another partition has the last word on this transfer, and it is not here yet.
    pub fn is_in_doubt(&self, id: EventId) -> bool {
        self.pendings.get(id.0).is_some_and(|pending| pending.standing.is_in_doubt())
    }

    /// The verdict on what was in doubt and is no more, if its end is among the newest keys: no filter is asked.
    pub fn settled_lately(&self, id: EventId) -> Option<Verdict> {
        match self.pendings.get(id.0).map(|pending| pending.standing) {
            Some(standing) if standing.is_open() => Some(Verdict::Ok),
            Some(standing) if standing.is_in_doubt() => None,
            _ => {
                let ended = self.ids.ended_lately(&Key::new(id.0, Space::Resolution));
                ended.map(|ended| ended.state.verdict())
            }
        }
    }

    /// What another partition is to be told, with offsets below `below`, oldest first, at most so many.
    pub fn doubts(&self, other: PartitionId, below: Offset, doubts_max: usize) -> Vec<Doubt> {
        let doubts = self.pendings.doubts(other, below.0).take(doubts_max);
        doubts.map(|pending| self.doubt(pending)).collect()
    }

    fn doubt(&self, pending: &Pending) -> Doubt {
        let amount = Amount(pending.amount);
        let mut known = Transfer { amount, ..Transfer::default() };
        let ends = matches!(pending.standing, Standing::Posting | Standing::Ended);
        if ends {
            let debit = self.accounts.get(pending.debit);
            (known.debit_account_id, known.ledger) = (debit.id, debit.ledger);
            known.code = Code(pending.code);
        }
        match pending.standing {
            Standing::Posting => {
                let reservation = self.pendings.get(pending.named);
                known.credit_account_id = AccountId(reservation.map_or(0, |it| it.named));
            }
            Standing::Ended => {
                known.credit_account_id = AccountId(pending.named);
                known.pending_id = EventId(pending.id);
                known.flags = TransferFlags::VOID_PENDING;
            }
            _ => {}
        }
        let fingerprint = (pending.standing != Standing::Ended).then_some(pending.fingerprint);
        Doubt { offset: Offset(pending.offset), fingerprint, known }
    }

    /// Place of the last arrival from a partition; 0 before the first.
    pub fn last_place(&self, home: PartitionId) -> u64 {
        self.across.inbound.get(&home).map_or(0, |inbound| inbound.last)
    }

    /// What was said here of the arrivals from `home` between two places, the first included, and the second not.
    pub fn words(&self, home: PartitionId, first: u64, end: u64) -> Vec<Word> {
        let inbound = self.across.inbound.get(&home);
        inbound
            .into_iter()
            .flat_map(|it| it.words.range(first..end))
            .map(|(_, word)| *word)
            .collect()
    }

    /// Decides what is new of what another partition has sent, as [`Self::submit`] does what clients send.
    ///
    /// # Errors
    /// See [`MailError`].
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn take_frame(
        &mut self,
        frame: &Frame<'_>,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Result<(), MailError> {
        let Frame { home, covers_from, settled_below, arrivals } = *frame;
        let last = self.last_place(home);
        if covers_from > last.saturating_add(1) && covers_from > settled_below {
            return Err(MailError::Gap { last });
        }
        let routing = self.routing();
        let is_right = |Arrival { transfer, place }: &Arrival| {
            let is_named =
                transfer.id.0 != 0 || transfer.flags.contains(TransferFlags::VOID_PENDING);
            *place >= covers_from
                && *place <= OFFSET_MAX
                && is_named
                && routing.of(transfer.debit_account_id) == home
                && routing.elsewhere(transfer.credit_account_id).is_none()
                && transfer.amount.0 != 0
        };
        let is_ascending = arrivals.is_sorted_by(|a, b| a.place < b.place);
        let is_other = home != self.partition && home.0 < self.partitions;
        if !is_other || !is_ascending || !arrivals.iter().all(is_right) {
            return Err(MailError::Malformed);
        }
        let is_known =
            |arrival: &Arrival| arrival.place <= last && !planted::has(Planted::WordGivenTwice);
        let arrivals = &arrivals[arrivals.partition_point(is_known)..];
        if arrivals.is_empty() {
            return Ok(());
        }
        if !arrivals.iter().all(|arrival| self.may_arrive(&arrival.transfer, home)) {
            return Err(MailError::Malformed);
        }
        let mail = Mail { home, previous: last, settled_below };
        self.expire(draft, now, usize::MAX);
        let mut at = draft.open(self, now);
        let opened = self.open_mail(&mail, at);
        assert!(opened.is_ok(), "{mail:?} was looked at");
        draft.body.events.push(mail.to_bytes());
        draft.body.verdicts.push(Verdict::Ok.number());
        at = at.plus(1);
        self.advance_to(at);
        let first = draft.body.events.len();
        draft.body.events.extend(arrivals.iter().map(Arrival::to_bytes));
        self.look_ahead_anew();
        for (place, arrival) in arrivals.iter().enumerate() {
            let near = self.near(&draft.body.events[first..], place);
            let decided = self.arrive(arrival, near, at, &mut draft.body.resolved);
            draft.body.verdicts.push(decided.err().unwrap_or(Verdict::Ok).number());
            at = at.plus(1);
            self.advance_to(at);
        }
        Ok(())
    }

    /// Settles what these words speak of, as far as it is in doubt. Returns how many there were.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn take_words(&mut self, words: &[Word], draft: &mut Draft, now: Timestamp) -> usize {
        let mut at = draft.open(self, now);
        let first = at.index;
        for word in words {
            if self.settle_one(word, at, &mut draft.body.resolved).is_ok() {
                draft.body.events.push(word.to_bytes());
                draft.body.verdicts.push(Verdict::Ok.number());
                at = at.plus(1);
                self.advance_to(at);
            }
        }
        (at.index - first) as usize
    }

    pub(super) fn open_mail(&mut self, mail: &Mail, at: At) -> Result<(), Verdict> {
        let follows = mail.previous == self.last_place(mail.home) && mail.home.0 < self.partitions;
        refuse_if(!follows || mail.home == self.partition, Verdict::WrongPartition)?;
        // Before the first arrival there is nothing to forget.
        let Some(inbound) = self.across.inbound.get_mut(&mail.home) else { return Ok(()) };
        let kept = inbound.words.split_off(&mail.settled_below);
        let forgotten = std::mem::replace(&mut inbound.words, kept);
        self.across.changes.push_back((at.offset, Change::Mail(mail.home, forgotten)));
        Ok(())
    }

    /// A reservation is here if and only if it should be.
    fn may_arrive(&self, transfer: &Transfer, home: PartitionId) -> bool {
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        if transfer.flags.intersects(ends) != (transfer.pending_id.0 != 0) {
            return false;
        }
        if transfer.pending_id.0 != 0 {
            let is_it = |held: &Pending| {
                let is_whole = transfer.amount.0 == held.amount;
                let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
                let credit = self.accounts.get(held.credit);
                (credit.id, credit.ledger) == (transfer.credit_account_id, transfer.ledger)
                    && (is_whole || posts && transfer.amount.0 < held.amount)
            };
            return self.pendings.held(home, transfer.pending_id).is_some_and(is_it);
        }
        !transfer.flags.contains(TransferFlags::PENDING)
            || self.pendings.held(home, transfer.id).is_none()
    }

    /// Decides an arrival, which is the last word on it.
    pub(super) fn arrive(
        &mut self,
        arrival: &Arrival,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), Verdict> {
        let Arrival { transfer, place } = arrival;
        let home = self.routing().of(transfer.debit_account_id);
        let last = self.last_place(home);
        let is_new = *place > last && self.may_arrive(transfer, home);
        let is_right = home != self.partition
            && (is_new || planted::has(Planted::WordGivenTwice))
            && self.routing().elsewhere(transfer.credit_account_id).is_none();
        refuse_if(!is_right, Verdict::WrongPartition)?;
        let decided = if transfer.pending_id.0 == 0 {
            self.credit(transfer, home, near, at, resolved)
        } else {
            self.end_held(transfer, home, at, resolved)
        };
        let (verdict, amount) = match decided {
            Ok(amount) => (Verdict::Ok, amount),
            Err(verdict) => (verdict, 0),
        };
        let (id, amount) = (transfer.id, Amount(amount));
        let word = Word { id, place: *place, verdict, amount, pending_id: transfer.pending_id };
        let inbound = self.across.inbound.entry(home).or_default();
        inbound.last = *place;
        inbound.words.insert(*place, word);
        self.across.changes.push_back((at.offset, Change::Arrival(home, last, *place)));
        decided.map(drop)
    }

    /// Moves what has arrived to its credit account, or reserves it for that; how much.
    fn credit(
        &mut self,
        transfer: &Transfer,
        home: PartitionId,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<u128, Verdict> {
        let slot = self.accounts.slot_near(transfer.credit_account_id, near.1);
        let slot = slot.ok_or(Verdict::CreditAccountNotFound)?;
        let account = *self.accounts.get(slot);
        refuse_if(account.ledger != transfer.ledger, Verdict::AccountsOnDifferentLedgers)?;
        let is_closed = account.flags.contains(AccountFlags::CLOSED);
        refuse_if(is_closed, Verdict::CreditAccountClosed)?;
        let mut amount = transfer.amount.0;
        if transfer.flags.contains(TransferFlags::BALANCING_CREDIT) {
            amount = amount.min(available_to_credit(&account));
            refuse_if(amount == 0, Verdict::ExceedsDebits)?;
        }
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        let (transit, there) = self.in_transit(home, transfer.ledger, at);
        check_balances(&transit, &account, amount, reserves)?;
        let transit = there.unwrap_or_else(|| self.begin_in_transit(&transit));
        self.change(transit, slot, amount, if reserves { reserve } else { move_money });
        note_balanced(transfer, amount, at, resolved);
        if reserves {
            self.pendings.insert(Pending {
                id: transfer.id.0,
                amount,
                expires_at: NEVER,
                offset: at.offset,
                debit: transit,
                credit: slot,
                code: transfer.code.0,
                other: home.0 + 1,
                standing: Standing::Held,
                ..Pending::default()
            });
        }
        Ok(amount)
    }

    /// Ends a reservation of another partition on this side; how much of it is moved.
    fn end_held(
        &mut self,
        transfer: &Transfer,
        home: PartitionId,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<u128, Verdict> {
        let held = self.pendings.held(home, transfer.pending_id).copied();
        let held = held.ok_or(Verdict::WrongPartition)?;
        let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
        let is_closed = self.accounts.get(held.credit).flags.contains(AccountFlags::CLOSED);
        refuse_if(posts && is_closed, Verdict::CreditAccountClosed)?;
        let moved = if posts { transfer.amount.0 } else { 0 };
        self.release_reserved(&held, moved);
        self.pendings.replace(held.key(), at.offset, None);
        // Its own amount says what was posted.
        note(transfer, held.amount, at, resolved);
        Ok(moved)
    }

    /// Prepares a transfer to an account of another partition, which has the last word.
    pub(super) fn prepare(
        &mut self,
        transfer: &Transfer,
        fingerprint: u64,
        other: PartitionId,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(Verdict, PendingState), Verdict> {
        let debit_slot = self.accounts.slot_near(transfer.debit_account_id, near.0);
        let debit_slot = debit_slot.ok_or(Verdict::DebitAccountNotFound)?;
        let debit = *self.accounts.get(debit_slot);
        refuse_if(transfer.ledger != debit.ledger, Verdict::LedgerDiffersFromAccounts)?;
        let is_closed = debit.flags.contains(AccountFlags::CLOSED);
        refuse_if(is_closed, Verdict::DebitAccountClosed)?;
        let mut amount = transfer.amount.0;
        if transfer.flags.contains(TransferFlags::BALANCING_DEBIT) {
            amount = amount.min(available_to_debit(&debit));
            refuse_if(amount == 0, Verdict::ExceedsCredits)?;
        }
        let (transit, there) = self.in_transit(other, transfer.ledger, at);
        check_balances(&debit, &transit, amount, true)?;
        let transit = there.unwrap_or_else(|| self.begin_in_transit(&transit));
        self.change(debit_slot, transit, amount, reserve);
        note_balanced(transfer, amount, at, resolved);
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        self.pendings.insert(Pending {
            id: transfer.id.0,
            fingerprint,
            amount,
            expires_at: expires_at(at.timestamp, transfer.timeout_seconds),
            offset: at.offset,
            debit: debit_slot,
            credit: transit,
            code: transfer.code.0,
            other: other.0 + 1,
            standing: if reserves { Standing::Reserving } else { Standing::InDoubt },
            named: if reserves { transfer.credit_account_id.0 } else { 0 },
        });
        Ok((Verdict::InDoubt, PendingState::Open))
    }

    /// Prepares a posting of a reservation whose other side another partition has, which has the last word.
    pub(super) fn prepare_post(
        &mut self,
        reservation: &Pending,
        (id, fingerprint): (EventId, u64),
        amount: u128,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> (Verdict, PendingState) {
        let ending = Pending { standing: Standing::Ending, ..*reservation };
        let reserved = PendingKey::own(EventId(reservation.id));
        self.pendings.replace(reserved, at.offset, Some(ending));
        self.pendings.insert(Pending {
            id: id.0,
            fingerprint,
            amount,
            expires_at: NEVER,
            offset: at.offset,
            standing: Standing::Posting,
            named: reservation.id,
            ..*reservation
        });
        let credit = AccountId(reservation.named);
        self.note_ended(reservation, credit, amount, at, resolved);
        (Verdict::InDoubt, PendingState::Open)
    }

    /// Ends what is in doubt, or that another partition is to be told.
    pub(super) fn settle_one(
        &mut self,
        word: &Word,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), Verdict> {
        let Word { id, place, verdict, amount: Amount(amount), pending_id } = *word;
        // An expiry has no id of its own.
        let key = PendingKey::own(if id.0 == 0 { pending_id } else { id });
        let pending = self.pendings.find(key).copied();
        let pending = pending.filter(|it| it.sent_to().is_some() && it.offset == place);
        let pending = pending.ok_or(Verdict::PendingNotFound)?;
        let ends = pending.standing == Standing::Ended;
        let reservation = match pending.standing {
            Standing::Posting => pending.named,
            Standing::Ended => pending.id,
            _ => 0,
        };
        let is_said_of_it = pending_id.0 == reservation && (id.0 == 0) == ends;
        refuse_if(!is_said_of_it, Verdict::PendingNotFound)?;
        let is_possible = match verdict {
            Verdict::Ok => amount <= pending.amount && (amount == 0) == ends,
            Verdict::InDoubt => false,
            refusal => !refusal.is_malformed() && amount == 0 && !ends,
        };
        refuse_if(!is_possible, Verdict::PendingAmountDiffers)?;
        let (state, moved) = match verdict {
            Verdict::Ok => (PendingState::Settled, amount),
            refusal => (PendingState::Refused(refusal), pending.amount),
        };
        match pending.standing {
            Standing::Posting => self.settle_post(&pending, amount, state, at),
            Standing::Reserving if verdict.is_ok() => {
                let open = Pending { amount, standing: Standing::Open, ..pending };
                self.release_part(&pending, pending.amount - amount);
                self.pendings.replace(key, at.offset, Some(open));
            }
            Standing::Ended => self.pendings.replace(key, at.offset, None),
            _ => self.resolve(&pending, moved, state, at, None),
        }
        let transit = self.accounts.get(pending.credit).id;
        self.note_ended(&pending, transit, moved, at, resolved);
        Ok(())
    }

    /// With the word on a posting, its reservation is posted, or open again.
    fn settle_post(&mut self, posting: &Pending, amount: u128, state: PendingState, at: At) {
        let reservation = self.pendings.get(posting.named).copied();
        let reservation = reservation.expect("what is posted stays until its word");
        let is_posted = state == PendingState::Settled;
        if is_posted {
            self.resolve(&reservation, amount, PendingState::Posted, at, None);
        } else {
            let open = Pending { standing: Standing::Open, ..reservation };
            let key = PendingKey::own(EventId(reservation.id));
            self.pendings.replace(key, at.offset, Some(open));
        }
        self.pendings.replace(PendingKey::own(EventId(posting.id)), at.offset, None);
        self.ids.resolve(&posting.reserved(), state, at.offset);
    }

    /// Releases a part of what is reserved.
    fn release_part(&mut self, pending: &Pending, part: u128) {
        self.change(pending.debit, pending.credit, part, release);
    }

    /// The account of what is under way between this partition and another one, and its slot; as it will be, if there is
    /// none yet.
    fn in_transit(&self, other: PartitionId, ledger: LedgerId, at: At) -> (Account, Option<u32>) {
        let slot = self.accounts.slot(AccountId::in_transit(other, ledger));
        let begun =
            || Account { timestamp: Timestamp(at.timestamp), ..Account::in_transit(other, ledger) };
        (slot.map_or_else(begun, |slot| *self.accounts.get(slot)), slot)
    }

    fn begin_in_transit(&mut self, account: &Account) -> u32 {
        self.accounts.push(*account);
        self.accounts.slab.len() - 1
    }

    pub(super) fn revert_prepared(&mut self, transfer: &Transfer, offset: u64) {
        let pending = self.pendings.remove(PendingKey::own(transfer.id));
        if pending.standing == Standing::Posting {
            self.pendings.restore_replaced(offset).expect("what it posts was open");
            return;
        }
        let Pending { debit, credit, amount, .. } = pending;
        self.change_back(debit, credit, amount, release);
        self.remove_unused(credit);
    }

    pub(super) fn revert_arrival(
        &mut self,
        transfer: &Transfer,
        offset: u64,
        resolved: Option<&Resolved>,
    ) {
        let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount).0;
        if transfer.pending_id.0 != 0 {
            let held = self.pendings.restore_replaced(offset).expect("not released yet");
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            return self.reserve_again(&held, posts.then_some(transfer.amount.0));
        }
        let home = self.routing().of(transfer.debit_account_id);
        let slot = |id| self.accounts.slot(id).expect("money was moved");
        let debit = slot(AccountId::in_transit(home, transfer.ledger));
        let credit = slot(transfer.credit_account_id);
        if transfer.flags.contains(TransferFlags::PENDING) {
            self.pendings.remove(PendingKey { id: transfer.id.0, home: Some(home) });
            self.change_back(debit, credit, amount, release);
        } else {
            self.change_back(debit, credit, amount, move_money_back);
        }
        self.remove_unused(debit);
    }

    pub(super) fn revert_word(&mut self, bytes: &EventBytes, offset: u64) {
        let word = Word::from_bytes(bytes).expect("it was applied");
        let (amount, is_ok) = (word.amount.0, word.verdict.is_ok());
        while let Some(pending) = self.pendings.restore_replaced(offset) {
            match pending.standing {
                Standing::Ending if !is_ok => continue,
                Standing::Ended => continue,
                Standing::Reserving if is_ok => {
                    let Pending { debit, credit, .. } = pending;
                    self.change_back(debit, credit, pending.amount - amount, reserve);
                    continue;
                }
                Standing::Posting => {}
                _ => self.reserve_again(&pending, is_ok.then_some(amount)),
            }
            self.ids.unresolve(&pending.reserved(), offset);
        }
    }

    /// An in-transit account goes with the record that it was made by.
    fn remove_unused(&mut self, slot: u32) {
        let account = self.accounts.get(slot);
        if account.version == 0 {
            let id = account.id;
            self.accounts.pop(id);
        }
    }
}

fn item(
    home: PartitionId,
    number: u8,
    place: u64,
    id: u128,
    amount: u128,
) -> [u8; ACROSS_ITEM_BYTES] {
    let mut item = [0; ACROSS_ITEM_BYTES];
    item[..2].copy_from_slice(&home.0.to_le_bytes());
    item[2] = number;
    item[8..16].copy_from_slice(&place.to_le_bytes());
    item[16..32].copy_from_slice(&id.to_le_bytes());
    item[32..].copy_from_slice(&amount.to_le_bytes());
    item
}
