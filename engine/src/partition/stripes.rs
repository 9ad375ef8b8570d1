//! What a request debits a striped account by, its stripe here may not have: then this leader asks the other partitions for
//! it before it decides, since a refusal is for ever. See `engine/src/across`.
//!
//! One round of questions is under way at a time, for one request; others wait. Two partitions that lack the same would take
//! it from each other for ever: who gathers gives nothing to a partition with a greater number.

use std::collections::{BTreeMap, BTreeSet};

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
use crate::limits::{DOUBTS_MAX, GATHER_AGAIN_AFTER, GATHER_WITHIN};
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
        let lacks = self.with_ledger(|ledger| ledger.lacks(events));
        if lacks.is_empty() || !self.leads() {
            return Ok(());
        }
        self.gather(events, lacks)
    }

    fn gather(&self, events: &[EventBytes], lacks: Vec<Lack>) -> Result<(), Refused> {
        let (request, term) = (tell_apart(events), self.term());
        let known = &self.inner.gathering;
        if known.takes_dry(request, term, self.runtime().elapsed()) {
            return Ok(());
        }
        let mut round = known.round.borrow_mut();
        if !round.as_ref().is_some_and(|round| self.goes_on(round)) {
            *round = Some(Round {
                request,
                term,
                began: self.runtime().elapsed(),
                lacks,
                is_given: false,
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
        let (here, partitions) = (self.id().partition, self.with_ledger(Ledger::partitions));
        (0..partitions).map(PartitionId).filter(|other| *other != here).collect()
    }

    /// Nobody may wait for it any more otherwise, or what was given was lost with its leader.
    fn goes_on(&self, round: &Round) -> bool {
        let age = self.runtime().elapsed().saturating_sub(round.began);
        round.term == self.term() && age < GATHER_WITHIN
    }

    /// What another partition must be asked for.
    pub(crate) fn question_for_stripes(&self, to: PartitionId) -> Option<Carried> {
        let round = self.inner.gathering.round.borrow();
        let round = round.as_ref().filter(|it| it.unasked.contains(&to) && self.goes_on(it))?;
        let home = self.id().partition;
        let ask = |lack: &Lack| {
            let asked = Transfer {
                id: EventId(1),
                debit_account_id: lack.account,
                credit_account_id: lack.account,
                amount: Amount(lack.amount),
                user_data_32: u32::from(to.0) << 16 | u32::from(home.0),
                flags: TransferFlags::GATHERING,
                ..Transfer::default()
            };
            Arrival { sent: Sent::Transfer(asked), place: 0 }
        };
        let arrivals = round.lacks.iter().map(ask).collect();
        let time = self.with_ledger(Ledger::last_timestamp);
        Some(Carried { home, to, covers_from: 0, settled_below: 0, time, arrivals })
    }

    /// Another partition has answered such a question.
    pub(crate) fn note_given(&self, by: PartitionId, said: &Words) {
        if let Some(round) = self.inner.gathering.round.borrow_mut().as_mut()
            && said.words.len() == round.lacks.len()
            && round.unasked.remove(&by)
        {
            for word in &said.words {
                round.is_elsewhere |= word.is_linked;
                if word.verdict == Verdict::InDoubt {
                    round.is_given = true;
                    let newest = round.awaited.entry(by).or_default();
                    *newest = Offset(word.place).max(*newest);
                } else {
                    round.moves.insert(by, word.id.0);
                }
            }
        }
        self.end_round();
    }

    /// Ends a round if all that was given has arrived, or begins it anew if nobody had anything and that is not sure yet.
    pub(super) fn end_round(&self) {
        let known = &self.inner.gathering;
        let mut round = known.round.borrow_mut();
        let is_answered = |round: &Round| self.with_ledger(|ledger| round.is_answered(ledger));
        let Some(asked) = round.as_mut().filter(|round| is_answered(round)) else { return };
        asked.moves.insert(self.id().partition, self.moves());
        let is_given_here = |lack: &Lack| self.with_ledger(|ledger| ledger.gives(lack.account));
        asked.is_elsewhere |= asked.lacks.iter().any(is_given_here);
        if !asked.is_given && !asked.is_dry() {
            let is_first = asked.moves_before.is_empty() && !asked.is_elsewhere;
            asked.moves_before = std::mem::take(&mut asked.moves);
            asked.is_elsewhere = false;
            if is_first {
                asked.unasked = self.others();
                self.inner.changed.notify_all();
            } else {
                drop(round);
                self.ask_again_soon();
            }
            return;
        }
        let (is_dry, request, term) = (asked.is_dry(), asked.request, asked.term);
        *round = None;
        drop(round);
        if is_dry {
            known.note_dry(request, term, self.runtime().elapsed());
        }
        self.note_looked_up();
    }

    /// What is on its way between others arrives first.
    fn ask_again_soon(&self) {
        self.spawn(|partition| async move {
            partition.runtime().sleep(GATHER_AGAIN_AFTER).await;
            if let Some(round) = partition.inner.gathering.round.borrow_mut().as_mut() {
                round.unasked = partition.others();
            }
            partition.inner.changed.notify_all();
        });
    }

    /// Changes whenever something is given here, or has arrived.
    fn moves(&self) -> u128 {
        u128::from(self.term()) << 64 | u128::from(self.with_ledger(Ledger::gifts))
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
    /// and an amount, or refused with [`Self::moves`] instead of an id; and linked if some of it is under way already.
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
        if self.is_asking() || self.goes_before(home, &lacks) || !has_room {
            return Err(BUSY.into());
        }
        let bytes = lacks.len() * (EVENT_BYTES + RESOLVED_BYTES);
        let now = self.admit_carried(time, bytes).await?;
        let mut words = Vec::with_capacity(lacks.len());
        let term = u128::from(self.term());
        let decide = |ledger: &mut Ledger, draft: &mut Draft| {
            let before = draft.len();
            for lack in &lacks {
                let (is_linked, place) = (ledger.gives(lack.account), ledger.next_offset().0);
                let (verdict, pending_id) = (Verdict::ExceedsCredits, EventId(0));
                let (id, amount) = (EventId(term << 64 | u128::from(ledger.gifts())), Amount(0));
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
        if words.iter().any(|word| word.verdict != Verdict::InDoubt) {
            // Who is refused for that must not be refused for what is taken back, or by who leads no more.
            self.until_visible().await?;
            self.read_barrier().await?;
        }
        Ok(Words { time, next_offset, words })
    }
}
