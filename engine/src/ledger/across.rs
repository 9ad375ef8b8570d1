//! Transfers between partitions: what is prepared here, what arrives from elsewhere, and the words on both.
//! ACROSS.md in `engine/src/across` has the argument.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Book, Code, Event, EventBytes, EventId,
    EventKind, LedgerId, Mail, Offset, PartitionId, ResolvedBytes, Sent, Timestamp, Transfer,
    TransferFlags, Verdict, Word, event_kind,
};
use walengine_net::unit::{self, Path};

use super::ahead::Near;
use super::balances::{available_to_credit, available_to_debit, check_balances};
use super::checks::refuse_if;
use super::effects::{Change, expires_at, move_money, note, note_balanced, release, reserve};
use super::limits::OFFSET_MAX;
use super::pendings::{Link, NEVER, Pending, PendingKey, Standing};
use super::slot::PendingState;
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
}

impl Doubt {
    /// What is sent, given the event if there is a fingerprint of it.
    pub fn arrival(&self, event: Option<&EventBytes>) -> Arrival {
        let place = self.offset.0;
        let Transfer { amount, debit_account_id, credit_account_id, ledger, code, .. } = self.known;
        let sent = match event.map(Event::from_bytes) {
            Some(Ok(Event::Guard(guard))) => Sent::Guard(guard),
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
        let posts_one_that_spans = |event: &EventBytes| {
            let transfer = Transfer::from_bytes(event);
            let posts = transfer.flags.contains(TransferFlags::POST_PENDING);
            let reservation = self.pendings.get(transfer.pending_id.0).filter(|_| posts);
            reservation.is_some_and(|reservation| reservation.other != 0)
        };
        match unit {
            [event] if event_kind(event) != Ok(EventKind::Transfer) => false,
            [event] if unit::resolves(&Transfer::from_bytes(event)) => posts_one_that_spans(event),
            _ => unit::path(unit, self.partitions).is_ok_and(|path| path.is_some_and(Path::spans)),
        }
    }

    /// The oldest record on which another partition has the last word that is not here yet, or not released
    /// ([`Self::release`]).
    pub fn oldest_doubt(&self, other: PartitionId) -> Option<Offset> {
        self.pendings.in_doubt().oldest(other).map(Offset)
    }

    /// Partitions whose words, or whose knowledge of what has ended here, are waited for.
    pub fn others_in_doubt(&self) -> Vec<PartitionId> {
        let others = (0..self.partitions).map(PartitionId);
        others.filter(|other| self.oldest_doubt(*other).is_some()).collect()
    }

    /// The partition that has the last word on what is in doubt under this id.
    pub fn doubt_to(&self, id: EventId) -> Option<PartitionId> {
        let pending = self.pendings.get(id.0).filter(|pending| pending.standing.is_in_doubt());
        pending.and_then(Pending::sent_to)
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
        Doubt { offset: Offset(pending.offset), fingerprint, known }
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
                Sent::Guard(guard) => (guard.id.0 != 0, true),
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
        if !units(arrivals).all(|unit| self.may_arrive(unit, home)) {
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

    /// Settles what these words speak of, as far as it is in doubt. Returns how many there were.
    ///
    /// # Panics
    /// If `draft` is not empty and does not end at the ledger's tail.
    pub fn take_words(&mut self, words: &[Word], draft: &mut Draft, now: Timestamp) -> usize {
        let mut at = draft.open(self, now);
        let first = at.index;
        for unit in words.chunk_by(|one, _| one.is_linked) {
            if self.settle_unit(unit, at, &mut draft.body.resolved).is_ok() {
                draft.body.events.extend(unit.iter().map(Word::to_bytes));
                draft.body.verdicts.extend(unit.iter().map(|_| Verdict::Ok.number()));
                at = at.plus(unit.len());
                self.advance_to(at);
            }
        }
        (at.index - first) as usize
    }

    pub(super) fn open_mail(&mut self, mail: &Mail, at: At) -> Result<(), Verdict> {
        let follows = mail.previous == self.last_place(mail.home) && mail.home.0 < self.partitions;
        refuse_if(!follows || mail.home == self.partition, Verdict::WrongPartition)?;
        self.across.open_mail(mail, at.offset);
        Ok(())
    }

    /// Ends what is in doubt, or that another partition is to be told: a single event, or all of a chain.
    ///
    /// # Errors
    /// These words are not on that, or do not agree. Nothing has changed.
    pub(super) fn settle_unit(
        &mut self,
        words: &[Word],
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Result<(), Verdict> {
        let differ = Verdict::LinkedEventFailed;
        if let [word] = words {
            let pending = self.spoken_of(word)?;
            refuse_if(pending.link.is_chained() || word.is_linked, differ)?;
            self.settle_one(word, &pending, at, resolved);
            return Ok(());
        }
        let accepted = words.iter().filter(|word| word.verdict.is_ok()).count();
        let are_adjacent =
            words.is_sorted_by(|one, next| one.place.checked_add(1) == Some(next.place));
        refuse_if(accepted != 0 && accepted != words.len() || !are_adjacent, differ)?;
        for (place, word) in words.iter().enumerate() {
            let link = self.spoken_of(word)?.link;
            let is_it = link == Link::at(place, words.len());
            refuse_if(!is_it || word.is_linked != link.has(Link::NEXT), differ)?;
        }
        for (place, word) in words.iter().enumerate() {
            let pending = self.spoken_of(word)?;
            self.settle_one(word, &pending, at.plus(place), resolved);
        }
        Ok(())
    }

    /// Decides a unit that has arrived, which is the last word on it.
    pub(super) fn arrive(
        &mut self,
        unit: &[Arrival],
        near: Near,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
        verdicts: &mut Vec<u8>,
    ) {
        let first = unit.first().map_or(0, |arrival| arrival.place);
        let home = self.across.open().filter(|home| {
            let is_new = first > self.last_place(*home) || planted::has(Planted::WordGivenTwice);
            is_new && self.may_arrive(unit, *home)
        });
        let Some(home) = home else {
            verdicts.extend(unit.iter().map(|_| Verdict::WrongPartition.number()));
            return;
        };
        if let [arrival @ Arrival { sent: Sent::Transfer(transfer), .. }] = unit {
            let decided = if transfer.pending_id.0 == 0 {
                self.take_side(transfer, home, near, at, resolved)
            } else {
                self.end_held(transfer, home, at, resolved)
            };
            let verdict = decided.err().unwrap_or(Verdict::Ok);
            self.speak(arrival, home, verdict, decided.unwrap_or(0), at);
            verdicts.push(verdict.number());
            return;
        }
        let decided = self.arrive_chain(unit, home, at, resolved);
        for (index, arrival) in unit.iter().enumerate() {
            let (verdict, amount) = match &decided {
                Ok(amounts) => (Verdict::Ok, amounts[index]),
                Err((culprit, verdict)) if *culprit == index => (*verdict, 0),
                Err(_) => (Verdict::LinkedEventFailed, 0),
            };
            self.speak(arrival, home, verdict, amount, at.plus(index));
            verdicts.push(verdict.number());
        }
    }

    /// Keeps the word on what has arrived.
    fn speak(
        &mut self,
        arrival: &Arrival,
        home: PartitionId,
        verdict: Verdict,
        amount: u128,
        at: At,
    ) {
        let Arrival { sent, place } = arrival;
        let pending_id = sent.transfer().map_or(EventId(0), |transfer| transfer.pending_id);
        let (id, amount) = (sent.id(), Amount(amount));
        let is_linked = arrival.is_linked();
        let word = Word { id, place: *place, verdict, amount, pending_id, is_linked };
        self.across.keep(home, word, at.offset);
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
        let party = |id, near| {
            if let Some(other) = self.routing().elsewhere(id) {
                return Some(self.in_transit(other, transfer.ledger, at));
            }
            let slot = self.accounts.slot_near(id, near)?;
            Some((*self.accounts.get(slot), Some(slot)))
        };
        let debit = party(transfer.debit_account_id, near.0);
        let credit = party(transfer.credit_account_id, near.1);
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
        let spans = self.routing().elsewhere(transfer.credit_account_id).is_some();
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

    /// What a word speaks of, if it may be said of that.
    fn spoken_of(&self, word: &Word) -> Result<Pending, Verdict> {
        let Word { id, place, verdict, amount: Amount(amount), pending_id, .. } = *word;
        let pending = self.pendings.find(key_of_word(word)).copied();
        let pending = pending.filter(|it| it.sent_to().is_some() && it.offset == place);
        let pending = pending.ok_or(Verdict::PendingNotFound)?;
        let is_told = pending.standing == Standing::Ended;
        let reservation = match pending.standing {
            Standing::Posting | Standing::Voiding => pending.named,
            Standing::Ended => pending.id,
            _ => 0,
        };
        let is_said_of_it = pending_id.0 == reservation && (id.0 == 0) == is_told;
        refuse_if(!is_said_of_it, Verdict::PendingNotFound)?;
        let is_possible = match verdict {
            Verdict::Ok if is_told || pending.standing == Standing::Voiding => amount == 0,
            Verdict::Ok if pending.standing == Standing::Carried => {
                amount <= pending.amount && (amount == 0) == (pending.amount == 0)
            }
            Verdict::Ok if pending.link.is_chained() => amount == pending.amount,
            Verdict::Ok => amount <= pending.amount && amount != 0,
            Verdict::InDoubt => false,
            refusal => !refusal.is_malformed() && amount == 0 && !is_told,
        };
        refuse_if(!is_possible, Verdict::PendingAmountDiffers)?;
        Ok(pending)
    }

    fn settle_one(
        &mut self,
        word: &Word,
        pending: &Pending,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) {
        let (key, pending) = (pending.key(), *pending);
        let Word { verdict, amount: Amount(amount), .. } = *word;
        let (state, moved) = match verdict {
            Verdict::Ok => (PendingState::Settled, amount),
            refusal => (PendingState::Refused(refusal), pending.amount),
        };
        match pending.standing {
            Standing::Posting | Standing::Voiding => self.settle_end(&pending, amount, state, at),
            Standing::Carried => {
                self.pendings.replace(key, at.offset, None);
                self.ids.resolve(&pending.reserved(), state, at.offset);
            }
            Standing::Reserving if verdict.is_ok() => {
                // It spans if it names an account elsewhere, and else its chain did.
                let spans = pending.named != 0;
                let link = if spans { Link::default() } else { Link::WAS };
                let other = if spans { pending.other } else { 0 };
                let open = Pending { amount, standing: Standing::Open, link, other, ..pending };
                self.release_part(&pending, pending.amount - amount);
                self.pendings.replace(key, at.offset, Some(open));
            }
            Standing::Ended => self.pendings.replace(key, at.offset, None),
            _ => self.resolve(&pending, moved, state, at, None),
        }
        self.note_word(&pending, moved, at, resolved);
    }

    /// Puts beside a word what it has moved or released here, and to the account of which partition's it is.
    fn note_word(&self, pending: &Pending, moved: u128, at: At, resolved: &mut Vec<ResolvedBytes>) {
        let is_here = pending.standing != Standing::Carried;
        let debit = is_here.then(|| self.accounts.get(pending.debit));
        let ledger = debit.map_or(LedgerId(0), |debit| debit.ledger);
        let transit = pending.other().map(|other| AccountId::in_transit(other, ledger));
        let said = Transfer {
            debit_account_id: debit.map_or(AccountId(0), |debit| debit.id),
            credit_account_id: transit.unwrap_or_default(),
            ledger,
            code: Code(pending.code),
            ..Transfer::default()
        };
        note(&said, moved, at, resolved);
    }

    /// With the word on its end, a reservation is posted or voided, or open again.
    fn settle_end(&mut self, end: &Pending, amount: u128, state: PendingState, at: At) {
        let reservation = self.pendings.get(end.named).copied();
        let reservation = reservation.expect("what is ended stays until its word");
        let posts = end.standing == Standing::Posting;
        let ended = if posts { PendingState::Posted } else { PendingState::Voided };
        if state == PendingState::Settled {
            self.resolve(&reservation, amount, ended, at, None);
        } else {
            let open = Pending { standing: Standing::Open, ..reservation };
            let key = PendingKey::own(EventId(reservation.id));
            self.pendings.replace(key, at.offset, Some(open));
        }
        self.pendings.replace(end.key(), at.offset, None);
        self.ids.resolve(&end.reserved(), state, at.offset);
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

    pub(super) fn revert_prepared(&mut self, id: EventId, offset: u64) {
        let Pending { standing, debit, credit, amount, .. } =
            self.pendings.remove(PendingKey::own(id));
        if standing.ends() {
            self.pendings.restore_replaced(offset).expect("what it ends was open");
        } else if standing.reserves() {
            self.change_back(debit, credit, amount, release);
            self.remove_unused(debit);
            self.remove_unused(credit);
        }
    }

    pub(super) fn revert_word(&mut self, bytes: &EventBytes, offset: u64) {
        let word = Word::from_bytes(bytes).expect("it was applied");
        let (amount, is_ok) = (word.amount.0, word.verdict.is_ok());
        let mut moved = is_ok.then_some(amount);
        while let Some(pending) = self.pendings.restore_replaced(offset) {
            match pending.standing {
                Standing::Ending if !is_ok => continue,
                Standing::Ended => continue,
                Standing::Reserving if is_ok => {
                    let Pending { debit, credit, .. } = pending;
                    self.change_back(debit, credit, pending.amount - amount, reserve);
                    continue;
                }
                Standing::Posting | Standing::Carried => {}
                Standing::Voiding => moved = None,
                _ => self.reserve_again(&pending, moved),
            }
            self.ids.unresolve(&pending.reserved(), offset);
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

/// The accounts of a transfer here, and their slots, as far as they exist: one of what is under way may have to be made.
pub(super) struct Parties {
    pub debit: Account,
    pub credit: Account,
    slots: [Option<u32>; 2],
}

/// What a word speaks of. An expiry has no id of its own.
fn key_of_word(word: &Word) -> PendingKey {
    PendingKey::own(if word.id.0 == 0 { word.pending_id } else { word.id })
}

/// The events that were sent as one unit each.
pub(super) fn units(arrivals: &[Arrival]) -> impl Iterator<Item = &[Arrival]> {
    arrivals.chunk_by(|one, _| one.is_linked())
}
