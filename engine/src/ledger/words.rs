//! What other partitions say of what was sent to them, or handed on by them. ACROSS.md in `engine/src/across` has the
//! argument.

use walengine_net::model::{
    AccountId, Amount, Code, EventId, LedgerId, PartitionId, ResolvedBytes, Timestamp, Transfer,
    Verdict, Word,
};

use super::checks::refuse_if;
use super::effects::{note, release, reserve};
use super::pendings::{Link, Pending, PendingKey, Standing};
use super::slot::PendingState;
use super::{At, Draft, Ledger};

impl Ledger {
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
        self.check_words(words, None)?;
        self.settle_all(words, at, resolved);
        Ok(())
    }

    /// Whether words may be said: of what was sent or, if they are the outcome that a partition tells, of what it has handed
    /// on.
    pub(super) fn check_words(
        &self,
        words: &[Word],
        outcome_by: Option<PartitionId>,
    ) -> Result<(), Verdict> {
        let differ = Verdict::LinkedEventFailed;
        if let [word] = words {
            let link = self.spoken_of(word, outcome_by)?.link;
            return refuse_if(link.is_chained() || word.is_linked, differ);
        }
        let said = |is_it: fn(Verdict) -> bool| words.iter().filter(|it| is_it(it.verdict)).count();
        let in_part = |count: usize| count != 0 && count != words.len();
        let (accepted, in_doubt) = (said(Verdict::is_ok), said(|it| it == Verdict::InDoubt));
        let are_adjacent =
            words.is_sorted_by(|one, next| one.place.checked_add(1) == Some(next.place));
        refuse_if(in_part(accepted) || in_part(in_doubt) || !are_adjacent, differ)?;
        for (place, word) in words.iter().enumerate() {
            let link = self.spoken_of(word, outcome_by)?.link.place();
            let is_it = link == Link::at(place, words.len());
            refuse_if(!is_it || word.is_linked != link.has(Link::NEXT), differ)?;
        }
        Ok(())
    }

    /// Does what words say that were checked.
    pub(super) fn settle_all(&mut self, words: &[Word], at: At, resolved: &mut Vec<ResolvedBytes>) {
        for (place, word) in words.iter().enumerate() {
            let pending = self.unsettled(word).expect("these words were checked");
            self.settle_one(word, &pending, at.plus(place), resolved);
        }
    }

    /// What a word speaks of. An expiry has no id of its own.
    fn unsettled(&self, word: &Word) -> Option<Pending> {
        let named = if word.id.0 == 0 { word.pending_id } else { word.id };
        let unsettled = self.pendings.unsettled(named.0, word.place);
        unsettled.or_else(|| self.pendings.announced(word)).copied()
    }

    /// The same, if the word may be said of that; see [`Self::check_words`].
    fn spoken_of(&self, word: &Word, outcome_by: Option<PartitionId>) -> Result<Pending, Verdict> {
        let Word { id, verdict, amount: Amount(amount), pending_id, .. } = *word;
        let is_it = |pending: &Pending| match outcome_by {
            None => pending.sent_to().is_some(),
            // It may be here before the word that it was handed on.
            by => {
                let is_chained = pending.link.is_chained();
                pending.other() == by && pending.standing.is_in_doubt() && is_chained
            }
        };
        let pending = self.unsettled(word).filter(is_it).ok_or(Verdict::PendingNotFound)?;
        let is_told = pending.standing.is_told();
        let reservation = match pending.standing {
            Standing::Posting | Standing::Voiding => pending.named,
            Standing::Ended => pending.id,
            Standing::Announcing => pending.other.into(),
            // Its home knows which.
            Standing::PassedCarried if pending.link.has(Link::ENDS) => pending_id.0.max(1),
            _ => 0,
        };
        let has_no_id = pending.standing == Standing::Ended;
        let is_said_of_it = pending_id.0 == reservation && (id.0 == 0) == has_no_id;
        refuse_if(!is_said_of_it, Verdict::PendingNotFound)?;
        let is_possible = match verdict {
            Verdict::Ok if is_told || pending.standing == Standing::Voiding => amount == 0,
            Verdict::Ok if pending.standing == Standing::Carried => {
                amount <= pending.amount && (amount == 0) == (pending.amount == 0)
            }
            Verdict::Ok if pending.link.has(Link::MAY_BE_LESS) => {
                amount <= pending.amount && amount != 0
            }
            Verdict::Ok if pending.link.is_chained() => amount == pending.amount,
            Verdict::Ok => amount <= pending.amount && amount != 0,
            Verdict::InDoubt => {
                outcome_by.is_none() && pending.link.is_chained() && amount == 0 && !is_told
            }
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
        if word.verdict == Verdict::InDoubt {
            let link = pending.link.with(Link::HANDED_ON);
            self.pendings.replace(key, at.offset, Some(Pending { link, ..pending }));
            return self.note_word(&pending, 0, at, resolved);
        }
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
                let elsewhere = match pending.named {
                    0 => None,
                    named => self.routing().elsewhere_of(AccountId(named)),
                };
                let link = if elsewhere.is_some() { Link::default() } else { Link::WAS };
                let other = elsewhere.map_or(0, |other| other.0 + 1);
                let open = Pending { amount, standing: Standing::Open, link, other, ..pending };
                self.release_part(&pending, pending.amount - amount);
                self.pendings.replace(key, at.offset, Some(open));
            }
            Standing::Ended | Standing::Telling | Standing::Announcing => {
                self.pendings.replace(key, at.offset, None);
            }
            Standing::Giving => {
                self.settle_given(&pending, if verdict.is_ok() { amount } else { 0 }, at);
            }
            standing if standing.is_passed() => self.settle_passed(word, &pending, at),
            _ => self.resolve(&pending, moved, state, at, None),
        }
        self.note_word(&pending, moved, at, resolved);
    }

    /// Puts beside a word what it has moved or released here, and to the account of which partition's it is.
    fn note_word(&self, pending: &Pending, moved: u128, at: At, resolved: &mut Vec<ResolvedBytes>) {
        let is_here = pending.standing.has_accounts();
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

    pub(super) fn revert_word(&mut self, word: &Word, offset: u64) {
        let (amount, is_ok) = (word.amount.0, word.verdict.is_ok());
        let mut moved = is_ok.then_some(amount);
        while let Some(pending) = self.pendings.restore_replaced(offset) {
            match pending.standing {
                Standing::Ending if !is_ok => continue,
                _ if word.verdict == Verdict::InDoubt => continue,
                Standing::Ended | Standing::Telling | Standing::Announcing => continue,
                Standing::Giving => {
                    self.revert_given(&pending, moved.unwrap_or(0));
                    continue;
                }
                Standing::Reserving if is_ok => {
                    let Pending { debit, credit, .. } = pending;
                    self.change_back(debit, credit, pending.amount - amount, reserve);
                    continue;
                }
                Standing::Posting | Standing::Carried => {}
                Standing::Voiding => moved = None,
                standing if standing.is_passed() => {
                    self.revert_passed(word, &pending, offset);
                    continue;
                }
                _ => self.reserve_again(&pending, moved),
            }
            self.ids.unresolve(&pending.reserved(), offset);
        }
    }
}
