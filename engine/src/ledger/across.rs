//! Transfers between partitions: what is prepared here, what arrives from elsewhere, and the words on both.
//! ACROSS.md in `engine/src/across` has the argument.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Book, Close, CloseFlags, Code, Event,
    EventBytes, EventId, EventKind, LedgerId, Mail, Offset, PartitionId, ResolvedBytes, Sent,
    Timestamp, Transfer, TransferFlags, Verdict, Word, event_kind,
};
use walengine_net::unit;

use super::ahead::Near;
use super::balances::{available_to_credit, available_to_debit, check_balances};
use super::checks::refuse_if;
use super::decide::fingerprint_of_event;
use super::effects::{Change, expires_at, move_money, note, note_balanced, release, reserve};
use super::limits::OFFSET_MAX;
use super::pendings::{Link, NEVER, Pending, PendingKey, Standing};
use super::slot::PendingState;
use super::stripes::{is_for_all, said_by};
use super::{At, Draft, Ledger};
use crate::ids::key::{Key, Space};
use crate::planted::{self, Planted};

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
    /// Where it has come from, if it is the outcome of what was handed on.
    came_from: u64,
}

impl Doubt {
    /// Whether this is its event. An outcome may stand in a word, or in one that has arrived.
    pub fn is_of(&self, event: &EventBytes) -> bool {
        let word = match Arrival::from_bytes(event) {
            Some(Arrival { sent: Sent::Word(word), .. }) => Some(word.to_bytes()),
            _ => None,
        };
        Some(fingerprint_of_event(word.as_ref().unwrap_or(event))) == self.fingerprint
    }

    /// What is sent, given the event if there is a fingerprint of it.
    pub fn arrival(&self, event: Option<&EventBytes>) -> Arrival {
        let place = self.offset.0;
        let Transfer { amount, debit_account_id, credit_account_id, ledger, code, .. } = self.known;
        let sent = match event.map(Event::from_bytes) {
            Some(Ok(Event::Guard(guard))) => Sent::Guard(guard),
            // From another partition, and handed on.
            Some(Ok(Event::Arrival(Arrival { sent: Sent::Transfer(sent), .. }))) => {
                let amount = if amount == Amount(0) { sent.amount } else { amount };
                Sent::Transfer(Transfer { amount, ..sent })
            }
            Some(Ok(Event::Arrival(Arrival { sent: Sent::Guard(guard), .. }))) => {
                Sent::Guard(guard)
            }
            Some(Ok(
                Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. }),
            )) => Sent::Word(Word { place: self.came_from, ..word }),
            Some(Ok(Event::Account(account))) => {
                let flags = account.flags.without(AccountFlags::LINKED);
                Sent::Account(Account { flags, ..account })
            }
            Some(Ok(Event::Close(close))) => {
                Sent::Close(Close { flags: close.flags.without(CloseFlags::LINKED), ..close })
            }
            Some(Ok(Event::Transfer(sent))) if debit_account_id == AccountId(0) => {
                Sent::Transfer(Transfer { amount, ..sent })
            }
            Some(Ok(Event::Transfer(sent))) => {
                let named = Transfer { debit_account_id, credit_account_id, ledger, code, ..sent };
                Sent::Transfer(Transfer { amount, ..named })
            }
            _ => Sent::Transfer(self.known),
        };
        Arrival { sent, place }
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
    /// Number of transfers that are in doubt here, and of what has ended and another partition may not know.
    pub fn doubts_len(&self) -> usize {
        self.pendings.counted_if(|standing| standing.is_in_doubt() || standing.is_told())
    }

    /// There are outcomes that other partitions are to be told ([`Self::tells`]).
    pub fn has_outcomes(&self) -> bool {
        self.pendings.counted(Standing::Telling) > 0
    }

    /// Number of transfers that are in doubt here and whose home this is, and of what all others are to be told.
    pub fn own_doubts_len(&self) -> usize {
        let is_own =
            |it: Standing| it.is_in_doubt() && !it.is_passed() || it == Standing::Announcing;
        self.pendings.counted_if(is_own)
    }

    /// Number of open reservations whose home this is.
    pub fn open_len(&self) -> usize {
        self.pendings.counted(Standing::Open) + self.pendings.counted(Standing::Ending)
    }

    /// Another partition has the last word on one of these events at least, if nothing is wrong with it.
    pub fn spans_any(&self, mut events: &[EventBytes]) -> bool {
        while !events.is_empty() {
            let (unit, rest) = events.split_at(unit::length(events).0);
            if self.spans(unit) {
                return true;
            }
            events = rest;
        }
        false
    }

    fn spans(&self, unit: &[EventBytes]) -> bool {
        if self.partitions > 1 && unit.iter().any(is_for_all) {
            return true;
        }
        let posts_one_that_spans = |event: &EventBytes| {
            let transfer = Transfer::from_bytes(event);
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            let reservation = self.pendings.get(transfer.pending_id.0).filter(|_| posts);
            reservation.is_some_and(|reservation| reservation.other != 0)
        };
        match unit {
            [event] if event_kind(event) != Ok(EventKind::Transfer) => false,
            [event] if unit::resolves(&Transfer::from_bytes(event)) => posts_one_that_spans(event),
            _ => matches!(unit::path(unit, self.partitions), Ok(Some(path)) if path.spans()),
        }
    }

    /// The oldest record of which another partition has not said anything yet, or that is not released
    /// ([`Self::release`]).
    pub fn oldest_doubt(&self, other: PartitionId) -> Option<Offset> {
        self.pendings.in_doubt().oldest(other).map(Offset)
    }

    /// Partitions that have not said yet what they have decided, or know, of what was sent there.
    pub fn others_in_doubt(&self) -> Vec<PartitionId> {
        self.others().filter(|other| self.oldest_doubt(*other).is_some()).collect()
    }

    /// The partition that the outcome of what is in doubt under this id comes from.
    pub fn doubt_to(&self, id: EventId) -> Option<PartitionId> {
        let pending = self.pendings.get(id.0).filter(|pending| pending.standing.is_in_doubt());
        pending.and_then(Pending::other)
    }

    /// What a bug does that is planted.
    pub(super) fn forget_doubts(&mut self) {
        let in_doubt = self.pendings.iter().filter(|pending| pending.sent_to().is_some());
        let keys: Vec<PendingKey> = in_doubt.map(Pending::key).collect();
        for key in keys {
            self.pendings.remove(key);
        }
    }

    /// The oldest of all [`Self::oldest_doubt`].
    pub fn oldest_doubt_of_all(&self) -> Option<Offset> {
        self.pendings.in_doubt().oldest_of_all().map(Offset)
    }

    /// Another partition has the last word on this transfer, and it is not here yet.
    pub fn is_in_doubt(&self, id: EventId) -> bool {
        self.doubt_to(id).is_some()
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

    /// What another partition is to be told, with offsets below `below`, oldest first, at most so many: as long as they are
    /// no fewer than a chain may have, no chain is cut.
    pub fn doubts(&self, other: PartitionId, below: Offset, doubts_max: usize) -> Vec<Doubt> {
        let found: Vec<&Pending> = self.pendings.doubts(other, below.0).take(doubts_max).collect();
        let is_cut = |last: &&Pending| last.link.has(Link::NEXT);
        let mut whole = found.len();
        while whole > 0 && is_cut(&found[whole - 1]) {
            whole -= 1;
        }
        found[..whole].iter().map(|pending| self.doubt(pending)).collect()
    }

    fn doubt(&self, pending: &Pending) -> Doubt {
        let amount = Amount(pending.amount);
        let mut known = Transfer { amount, ..Transfer::default() };
        if pending.standing.ends() || pending.standing == Standing::Ended {
            let debit = self.accounts.get(pending.debit);
            (known.debit_account_id, known.ledger) = (debit.id, debit.ledger);
            known.code = Code(pending.code);
        }
        match pending.standing {
            Standing::Posting | Standing::Voiding => {
                let reservation = self.pendings.get(pending.named);
                let credit = reservation.map(|it| self.credit_account_of(it));
                known.credit_account_id = credit.unwrap_or_default();
            }
            Standing::Ended => {
                known.credit_account_id = AccountId(pending.named);
                known.pending_id = EventId(pending.id);
                known.flags = TransferFlags::VOID_PENDING;
            }
            _ => {}
        }
        let fingerprint = (pending.standing != Standing::Ended).then_some(pending.fingerprint);
        let came_from = pending.origin().map_or(0, |origin| origin.place);
        Doubt { offset: Offset(pending.offset), fingerprint, known, came_from }
    }

    /// Place of the last arrival from a partition; 0 before the first.
    pub fn last_place(&self, home: PartitionId) -> u64 {
        self.across.last(home)
    }

    /// What was said here of the arrivals from `home` between two places, the first included, and the second not.
    pub fn words(&self, home: PartitionId, first: u64, end: u64) -> Vec<Word> {
        self.across.words(home, first, end)
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
        let is_right = |Arrival { sent, place }: &Arrival| {
            let (is_named, has_amount) = match sent {
                Sent::Guard(_) | Sent::Word(_) | Sent::Account(_) | Sent::Close(_) => {
                    (sent.id().0 != 0, true)
                }
                Sent::Transfer(Transfer { id, flags, amount, .. }) => {
                    (id.0 != 0 || flags.contains(TransferFlags::VOID_PENDING), amount.0 != 0)
                }
            };
            *place >= covers_from && *place <= OFFSET_MAX && is_named && has_amount
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
        if !units(arrivals).all(|unit| self.may_arrive(unit, home).is_some()) {
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
        let mut place = 0;
        for unit in units(arrivals) {
            let near = self.near(&draft.body.events[first..], place);
            self.arrive(unit, near, at, &mut draft.body.resolved, &mut draft.body.verdicts);
            place += unit.len();
            at = at.plus(unit.len());
            self.advance_to(at);
        }
        self.across.close_mail();
        Ok(())
    }

    pub(super) fn open_mail(&mut self, mail: &Mail, at: At) -> Result<(), Verdict> {
        let follows = mail.previous == self.last_place(mail.home) && mail.home.0 < self.partitions;
        refuse_if(!follows || mail.home == self.partition, Verdict::WrongPartition)?;
        self.across.open_mail(mail, at.offset);
        Ok(())
    }

    /// Decides a unit that has arrived, which is the last word on it, or prepares it for the next partition.
    pub(super) fn arrive(
        &mut self,
        unit: &[Arrival],
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
        verdicts: &mut Vec<u8>,
    ) {
        let arriving = self.across.open().and_then(|before| {
            let first = unit.first().map_or(0, |arrival| arrival.place);
            let is_new = first > self.last_place(before) || planted::has(Planted::WordGivenTwice);
            self.may_arrive(unit, before).filter(|_| is_new)
        });
        let Some(arriving) = arriving else {
            verdicts.extend(unit.iter().map(|_| Verdict::WrongPartition.number()));
            return;
        };
        if let [arrival @ Arrival { sent: Sent::Transfer(transfer), .. }] = unit {
            let decided = if transfer.pending_id.0 == 0 {
                self.take_side(transfer, arriving.home, near, at, resolved)
            } else {
                self.end_held(transfer, arriving.home, at, resolved)
            };
            let verdict = decided.err().unwrap_or(Verdict::Ok);
            self.speak(arrival, arriving.before, verdict, decided.unwrap_or(0), at);
            verdicts.push(verdict.number());
            return;
        }
        if let [arrival] = unit
            && arrival.sent.is_for_all()
        {
            let taken = self.take_announced(&arrival.sent, at);
            if taken.is_ok() {
                self.speak(arrival, arriving.before, Verdict::Ok, 0, at);
            }
            verdicts.push(taken.err().unwrap_or(Verdict::Ok).number());
            return;
        }
        if let Some(words) = words_in(unit) {
            self.settle_all(&words, at, resolved);
            for (index, arrival) in unit.iter().enumerate() {
                self.speak(arrival, arriving.before, Verdict::Ok, 0, at.plus(index));
                verdicts.push(Verdict::Ok.number());
            }
            return;
        }
        let decided = match arriving.next {
            Some(next) => self.pass_chain(unit, arriving, next, at, resolved).map(|()| Vec::new()),
            None => self.arrive_chain(unit, arriving.home, at, resolved),
        };
        for (index, arrival) in unit.iter().enumerate() {
            let (verdict, amount) = match &decided {
                Ok(_) if arriving.next.is_some() => (Verdict::InDoubt, 0),
                Ok(amounts) => (Verdict::Ok, amounts[index]),
                Err((culprit, verdict)) if *culprit == index => (*verdict, 0),
                Err(_) => (Verdict::LinkedEventFailed, 0),
            };
            self.speak(arrival, arriving.before, verdict, amount, at.plus(index));
            verdicts.push(verdict.number());
        }
    }

    /// Keeps the word on what has arrived.
    fn speak(
        &mut self,
        arrival: &Arrival,
        before: PartitionId,
        verdict: Verdict,
        amount: u128,
        at: At,
    ) {
        let Arrival { sent, place } = arrival;
        let pending_id = if sent.is_for_all() {
            said_by(self.partition)
        } else {
            sent.transfer().map_or(EventId(0), |transfer| transfer.pending_id)
        };
        let (id, amount) = (sent.id(), Amount(amount));
        let is_linked = arrival.is_linked();
        let word = Word { id, place: *place, verdict, amount, pending_id, is_linked };
        self.across.keep(before, word, at.offset);
    }

    /// The accounts of a transfer here, if they may take part in it: instead of one that lives elsewhere, that of what is
    /// under way there.
    ///
    /// # Errors
    /// `differs` if their ledger is another one than the transfer's, and others.
    pub(super) fn parties(
        &self,
        transfer: &Transfer,
        near: Near,
        differs: Verdict,
        at: At,
    ) -> Result<Parties, Verdict> {
        let [debit_at, credit_at] = self.routing().elsewhere(transfer);
        let party = |id, elsewhere, near| {
            if let Some(other) = elsewhere {
                return Some(self.in_transit(other, transfer.ledger, at));
            }
            let slot = self.accounts.slot_near(id, near)?;
            Some((*self.accounts.get(slot), Some(slot)))
        };
        let debit = party(transfer.debit_account_id, debit_at, near.0);
        let credit = party(transfer.credit_account_id, credit_at, near.1);
        let (debit, debit_slot) = debit.ok_or(Verdict::DebitAccountNotFound)?;
        let (credit, credit_slot) = credit.ok_or(Verdict::CreditAccountNotFound)?;
        let is_theirs = debit.ledger == transfer.ledger && credit.ledger == transfer.ledger;
        refuse_if(!is_theirs, differs)?;
        let closed = AccountFlags::CLOSED;
        refuse_if(debit.flags.contains(closed), Verdict::DebitAccountClosed)?;
        refuse_if(credit.flags.contains(closed), Verdict::CreditAccountClosed)?;
        Ok(Parties { debit, credit, slots: [debit_slot, credit_slot] })
    }

    /// Changes both accounts; their slots.
    pub(super) fn change_parties(
        &mut self,
        parties: &Parties,
        amount: u128,
        change: Change,
    ) -> (u32, u32) {
        let Parties { debit, credit, slots } = parties;
        let debit = slots[0].unwrap_or_else(|| self.begin_in_transit(debit));
        let credit = slots[1].unwrap_or_else(|| self.begin_in_transit(credit));
        self.change(debit, credit, amount, change);
        (debit, credit)
    }

    /// Moves what has arrived to its account here or from it, or reserves it; how much.
    pub(super) fn take_side(
        &mut self,
        transfer: &Transfer,
        home: PartitionId,
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<u128, Verdict> {
        let differs = Verdict::AccountsOnDifferentLedgers;
        let parties = self.parties(transfer, near, differs, at)?;
        let mut amount = transfer.amount.0;
        if transfer.flags.contains(TransferFlags::BALANCING_CREDIT) {
            amount = amount.min(available_to_credit(&parties.credit));
            refuse_if(amount == 0, Verdict::ExceedsDebits)?;
        }
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        check_balances(&parties.debit, &parties.credit, amount, reserves)?;
        if transfer.flags.contains(TransferFlags::GATHERING) {
            self.count_got(home);
        }
        let change = if reserves { reserve } else { move_money };
        let (debit, credit) = self.change_parties(&parties, amount, change);
        note_balanced(transfer, amount, at, resolved);
        if reserves {
            self.pendings.insert(Pending {
                id: transfer.id.0,
                amount,
                expires_at: NEVER,
                offset: at.offset,
                debit,
                credit,
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
        let parties = self.parties(transfer, near, Verdict::LedgerDiffersFromAccounts, at)?;
        let mut amount = transfer.amount.0;
        if transfer.flags.contains(TransferFlags::BALANCING_DEBIT) {
            amount = amount.min(available_to_debit(&parties.debit));
            refuse_if(amount == 0, Verdict::ExceedsCredits)?;
        }
        check_balances(&parties.debit, &parties.credit, amount, true)?;
        note_balanced(transfer, amount, at, resolved);
        let (id, offset, other) = (transfer.id.0, at.offset, other.0 + 1);
        let pending = Pending { id, fingerprint, amount, offset, other, ..Pending::default() };
        self.reserve_until_word(transfer, &parties, pending, at);
        Ok((Verdict::InDoubt, PendingState::Open))
    }

    /// Reserves the amount of `pending` between the accounts of its transfer here. With the word on a pending transfer it
    /// goes on to.
    pub(super) fn reserve_until_word(
        &mut self,
        transfer: &Transfer,
        parties: &Parties,
        pending: Pending,
        at: At,
    ) {
        let (debit, credit) = self.change_parties(parties, pending.amount, reserve);
        let reserves = transfer.flags.contains(TransferFlags::PENDING);
        let spans = self.routing().elsewhere(transfer)[1].is_some();
        self.pendings.insert(Pending {
            debit,
            credit,
            expires_at: expires_at(at.timestamp, transfer.timeout_seconds),
            code: transfer.code.0,
            standing: if reserves { Standing::Reserving } else { Standing::InDoubt },
            named: if reserves && spans { transfer.credit_account_id.0 } else { 0 },
            ..pending
        });
    }

    /// Prepares the end of a reservation, on which another partition has the last word.
    pub(super) fn prepare_end(&mut self, reservation: &Pending, end: Pending) {
        let ending = Pending { standing: Standing::Ending, ..*reservation };
        let reserved = PendingKey::own(EventId(reservation.id));
        self.pendings.replace(reserved, end.offset, Some(ending));
        let (debit, credit, code) = (reservation.debit, reservation.credit, reservation.code);
        self.pendings.insert(Pending { debit, credit, code, named: reservation.id, ..end });
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

    pub(super) fn revert_prepared(&mut self, id: EventId, offset: u64) {
        let prepared = self.pendings.unsettled(id.0, offset).expect("it was prepared there").key();
        let Pending { standing, debit, credit, amount, .. } = self.pendings.remove(prepared);
        if standing.ends() {
            self.pendings.restore_replaced(offset).expect("what it ends was open");
        } else if standing.reserves() {
            self.change_back(debit, credit, amount, release);
            self.remove_unused(debit);
            self.remove_unused(credit);
        }
    }

    /// An in-transit account goes with the record that it was made by.
    pub(super) fn remove_unused(&mut self, slot: u32) {
        let account = self.accounts.get(slot);
        if account.version == 0 && account.id.book() == Book::IN_TRANSIT {
            let id = account.id;
            self.accounts.pop(id);
        }
    }
}

/// How a unit has come here, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    /// Where its ids are known.
    pub home: PartitionId,
    /// The partition that has sent it.
    pub before: PartitionId,
    /// The one that it is handed on to; `None` if the last word is given here.
    pub next: Option<PartitionId>,
}

/// The accounts of a transfer here, and their slots, as far as they exist: one of what is under way may have to be made.
pub(super) struct Parties {
    pub debit: Account,
    pub credit: Account,
    slots: [Option<u32>; 2],
}

/// What a unit says, if it is the outcome of what was handed on.
pub(super) fn words_in(unit: &[Arrival]) -> Option<Vec<Word>> {
    let word = |arrival: &Arrival| match arrival.sent {
        Sent::Word(word) => Some(word),
        Sent::Transfer(_) | Sent::Guard(_) | Sent::Account(_) | Sent::Close(_) => None,
    };
    unit.iter().map(word).collect()
}

/// The events that were sent as one unit each.
pub(super) fn units(arrivals: &[Arrival]) -> impl Iterator<Item = &[Arrival]> {
    arrivals.chunk_by(|one, _| one.is_linked())
}
