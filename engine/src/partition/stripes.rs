//! What a request debits a striped account by, its stripe here may not have: then this leader asks the other partitions for
//! it before it decides, since a refusal is for ever. See `engine/src/across`.
//!
//! One round of questions is under way at a time, for one request; others wait. Two partitions that lack the same would take
//! it from each other for ever: who gathers gives nothing to a partition with a greater number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use walengine_net::model::{
    Amount, Arrival, EVENT_BYTES, EventBytes, EventId, Offset, PartitionId, RESOLVED_BYTES, Sent,
    Transfer, TransferFlags, Verdict, Word,
};
use walengine_replication::peer::{Carried, Words};

use super::Partition;
use super::commit::Commit;
use super::gathering::{Round, tell_apart};
use super::spanning::NotTaken;
use crate::ledger::{Draft, Lack, Ledger, MailError};
use crate::limits::{DOUBTS_MAX, GATHER_AGAIN_AFTER, GATHER_HOLD, GATHER_WITHIN};
use crate::refused::{BUSY, BUSY_READING, Refused};
use crate::runtime::Runtime;

/// A question for what stripes have, instead of what is brought: it has no place in the stream.
fn is_question(carried: &Carried) -> bool {
    carried.arrivals.first().is_some_and(|first| {
        let asks = |transfer: &Transfer| transfer.flags.contains(TransferFlags::GATHERING);
        first.place == 0 && first.sent.transfer().is_some_and(asks)
    })
}

impl<C: Commit> Partition<C> {
    /// Makes sure that what these events debit striped accounts by is here, as far as there is enough of it anywhere.
    ///
    /// # Errors
    /// Others are being asked for it; whoever waits for the partition is woken.
    #[inline]
    pub(super) fn require_gathered(&self, events: &[EventBytes]) -> Result<(), Refused> {
        let may_lack = self.with_ledger(|ledger| ledger.may_lack(events));
        if !may_lack || !self.leads() {
            return Ok(());
        }
        // A repeat is answered with what is there.
        self.require_known(events)?;
        let lacks = self.with_ledger(|ledger| ledger.lacks(events));
        if lacks.is_empty() { Ok(()) } else { self.gather(events, lacks) }
    }

    fn gather(&self, events: &[EventBytes], lacks: Vec<Lack>) -> Result<(), Refused> {
        let (request, term, now) = (tell_apart(events), self.term(), self.runtime().elapsed());
        let known = &self.inner.gathering;
        let given = self.moves_but_with(self.id().partition);
        if known.takes_dry(request, term, &lacks, given, now) {
            return Ok(());
        }
        let mut round = known.round.borrow_mut();
        if !round.as_ref().is_some_and(|round| self.goes_on(round)) && now >= known.held_until.get()
        {
            let number = known.next_number.replace(known.next_number.get() + 1);
            *round = Some(Round {
                number,
                request,
                term,
                began: now,
                given: vec![0; lacks.len()],
                lacks,
                is_paused: false,
                is_elsewhere: false,
                unasked: self.others(),
                awaited: BTreeMap::new(),
                moves: BTreeMap::new(),
                moves_before: BTreeMap::new(),
            });
            self.inner.changed.notify_all();
        }
        Err(BUSY_READING)
    }

    fn others(&self) -> BTreeSet<PartitionId> {
        self.with_ledger(Ledger::others).collect()
    }

    /// Nobody may wait for it any more otherwise, or what was given was lost with its leader.
    fn goes_on(&self, round: &Round) -> bool {
        let age = self.runtime().elapsed().saturating_sub(round.began);
        round.term == self.term() && age < GATHER_WITHIN
    }

    /// What another partition must be asked for, and the number of the round that it is for.
    pub(crate) fn question_for_stripes(&self, to: PartitionId) -> Option<(u64, Carried)> {
        let round = self.inner.gathering.round.borrow();
        let round = round.as_ref().filter(|it| it.unasked.contains(&to) && self.goes_on(it))?;
        let home = self.id().partition;
        let ask = |lack: Lack| {
            let asked = Transfer {
                id: EventId(1),
                debit_account_id: lack.account,
                credit_account_id: lack.account,
                amount: Amount(lack.amount.max(1)),
                user_data_32: u32::from(to.0) << 16 | u32::from(home.0),
                flags: TransferFlags::GATHERING,
                ..Transfer::default()
            };
            Arrival { sent: Sent::Transfer(asked), place: 0 }
        };
        let arrivals = round.rest().map(ask).collect();
        let time = self.with_ledger(Ledger::last_timestamp);
        let carried = Carried { home, to, covers_from: 0, settled_below: 0, time, arrivals };
        Some((round.number, carried))
    }

    /// Another partition has answered such a question.
    pub(crate) fn note_given(&self, by: PartitionId, number: u64, said: &Words) {
        if let Some(round) = self.inner.gathering.round.borrow_mut().as_mut()
            && round.number == number
            && said.words.len() == round.lacks.len()
            && round.unasked.remove(&by)
        {
            for (word, given) in said.words.iter().zip(&mut round.given) {
                round.is_elsewhere |= word.is_linked;
                if word.verdict == Verdict::InDoubt {
                    *given = given.saturating_add(word.amount.0);
                    let newest = round.awaited.entry(by).or_default();
                    *newest = Offset(word.place).max(*newest);
                }
                round.moves.insert(by, word.pending_id.0);
            }
        }
        self.end_round();
    }

    /// Ends a round if all that was given has arrived and is enough, or nobody has more. Else all are asked again.
    pub(super) fn end_round(&self) {
        let known = &self.inner.gathering;
        let mut round = known.round.borrow_mut();
        let is_answered = |round: &Round| self.with_ledger(|ledger| round.is_answered(ledger));
        let Some(asked) = round.as_mut().filter(|round| is_answered(round)) else { return };
        let here = self.id().partition;
        asked.moves.insert(here, self.moves_but_with(here));
        let is_given_here = |lack: &Lack| self.with_ledger(|ledger| ledger.gives(lack.account));
        asked.is_elsewhere |= asked.lacks.iter().any(is_given_here);
        if asked.has_enough() || asked.is_dry() {
            let ended = round.take().filter(|ended| !ended.has_enough());
            drop(round);
            let now = self.runtime().elapsed();
            if let Some(dry) = ended {
                known.note_dry(&dry, self.moves_but_with(here), now);
            }
            if known.owes.take() {
                known.held_until.set(now + GATHER_HOLD);
            }
            return self.note_looked_up();
        }
        let waits = asked.is_elsewhere || !asked.moves_before.is_empty();
        asked.moves_before = std::mem::take(&mut asked.moves);
        if asked.is_elsewhere {
            asked.moves_before.clear();
        }
        (asked.is_elsewhere, asked.is_paused) = (false, waits);
        if waits {
            let number = asked.number;
            drop(round);
            return self.ask_again_soon(number);
        }
        asked.unasked = self.others();
        self.inner.changed.notify_all();
    }

    /// What is on its way between others arrives first.
    fn ask_again_soon(&self, number: u64) {
        self.spawn(move |partition| async move {
            partition.runtime().sleep(GATHER_AGAIN_AFTER).await;
            if let Some(round) = partition.inner.gathering.round.borrow_mut().as_mut()
                && round.number == number
            {
                (round.is_paused, round.unasked) = (false, partition.others());
            }
            partition.inner.changed.notify_all();
        });
    }

    /// Changes whenever something is given here, or has arrived, but for what is exchanged with one partition.
    fn moves_but_with(&self, asker: PartitionId) -> u128 {
        u128::from(self.term()) << 64 | u128::from(self.with_ledger(|ledger| ledger.gifts(asker)))
    }

    /// This one is gathering the same for itself, and goes before the other one.
    fn goes_before(&self, asker: PartitionId, lacks: &[Lack]) -> bool {
        let round = self.inner.gathering.round.borrow();
        let has = |own: &Round| {
            let is_of = |lack: &Lack| own.lacks.iter().any(|it| it.account == lack.account);
            lacks.iter().any(is_of)
        };
        asker > self.id().partition
            && round.as_ref().is_some_and(|own| self.goes_on(own) && has(own))
    }

    /// Gives what another partition lacks, if that is what it asks for; what becomes of each, in order: in doubt with a place
    /// and an amount, or refused; with [`Self::moves_but_with`] in the place of a reservation, and linked if some of it is under way
    /// already.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub(super) async fn answer_question(
        &self,
        carried: &Carried,
    ) -> Option<Result<Words, NotTaken>> {
        if !is_question(carried) {
            return None;
        }
        Some(self.give(carried).await)
    }

    async fn give(&self, carried: &Carried) -> Result<Words, NotTaken> {
        let Carried { home, time, ref arrivals, .. } = *carried;
        let lack = |arrival: &Arrival| {
            let asked = arrival.sent.transfer()?;
            let (account, amount) = (asked.debit_account_id, asked.amount.0);
            let is_right = asked.flags == TransferFlags::GATHERING
                && account.is_striped()
                && account == asked.credit_account_id;
            (is_right && amount != 0 && arrival.place == 0).then_some(Lack { account, amount })
        };
        let lacks: Option<Vec<Lack>> = arrivals.iter().map(lack).collect();
        let is_other = home != self.id().partition && home.0 < self.with_ledger(Ledger::partitions);
        let lacks = lacks.filter(|_| is_other).ok_or(MailError::Malformed)?;
        let has_room = self.with_ledger(Ledger::own_doubts_len) + lacks.len() <= DOUBTS_MAX;
        if self.goes_before(home, &lacks) {
            self.inner.gathering.owes.set(true);
            return Err(BUSY.into());
        }
        if self.is_asking() || !has_room {
            return Err(BUSY.into());
        }
        let bytes = lacks.len() * (EVENT_BYTES + RESOLVED_BYTES);
        let now = self.admit_carried(time, bytes).await?;
        let mut words = Vec::with_capacity(lacks.len());
        let pending_id = EventId(self.moves_but_with(home)); // what is given now is exchanged with it
        let decide = |ledger: &mut Ledger, draft: &mut Draft| {
            let before = draft.len();
            for lack in &lacks {
                let (is_linked, place) = (ledger.gives(lack.account), ledger.next_offset().0);
                let (id, amount, verdict) = (EventId(1), Amount(0), Verdict::ExceedsCredits);
                let nothing = Word { id, place: 0, verdict, amount, pending_id, is_linked };
                let given = ledger.give(lack, home, draft, now);
                words.push(given.map_or(nothing, |given| {
                    let (id, amount, verdict) = (given.id, given.amount, Verdict::InDoubt);
                    Word { id, place, verdict, amount, ..nothing }
                }));
            }
            self.keep_handed_on(ledger, draft, before);
        };
        let taken = self.inner.replica.borrow_mut().decide_events(decide);
        self.inner.work.notify_all();
        taken.ok_or_else(|| self.not_leader())?;
        let (time, next_offset) =
            self.with_ledger(|ledger| (ledger.last_timestamp(), ledger.next_offset()));
        self.inner.gathering.held_until.set(Duration::ZERO); // somebody was served
        // Who is refused for what is not here must not be refused for what is taken back, or by who leads no more.
        self.until_visible().await?;
        self.read_barrier().await?;
        Ok(Words { time, next_offset, words })
    }
}
