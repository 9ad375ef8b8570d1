//! What a partition has under way to others, and what comes from them. See `engine/src/across`.

use std::collections::BTreeSet;
use std::time::Duration;

use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{
    Arrival, EVENT_BYTES, EventBytes, EventId, Offset, PartitionId, RESOLVED_BYTES, Sent,
    Timestamp, Verdict, Word, event_id,
};
use walengine_replication::peer::{Carried, Words};

use super::Partition;
use crate::ids::key::{Key, Space};
use crate::ledger::{
    Doubt, Draft, Frame, Ledger, MailError, Outcome, Outcomes, is_for_all, key_of,
};
use crate::limits::{
    CARRIED_AHEAD_MAX, COURIER_AGAIN_AFTER, DOUBTS_MAX, FRAME_ARRIVALS_MAX, WORDS_GATHER,
};
use crate::partition::commit::Commit;
use crate::planted::{self, Planted};
use crate::refused::{BUSY, Refused};
use crate::runtime::Runtime;
use crate::storage::error::ReadError;

/// Why a frame has no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The partition takes nothing now, or what it took will not stay.
    #[error("the partition does not take it: {0:?}")]
    Refused(Refused),
    /// It is not the next one.
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl From<Refused> for NotTaken {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl<C: Commit> Partition<C> {
    /// What is prepared for another partition, committed and in doubt, oldest first, if this node leads. Of much,
    /// the first of it.
    ///
    /// # Errors
    /// The log can't be read.
    pub(crate) async fn prepared_for(&self, to: PartitionId) -> Result<Option<Carried>, ReadError> {
        let visible = self.visible_offset();
        let (oldest, doubts, time) = self.with_ledger(|ledger| {
            let doubts = ledger.doubts(to, visible, FRAME_ARRIVALS_MAX);
            (ledger.oldest_doubt(to), doubts, ledger.last_timestamp())
        });
        let Some(oldest) = oldest.filter(|_| self.leads() && !doubts.is_empty()) else {
            return Ok(None);
        };
        let kept = {
            let mut kept = self.inner.prepared.borrow_mut();
            kept.forget_below(self.with_ledger(Ledger::oldest_doubt_of_all).unwrap_or(visible));
            kept.at(doubts.iter().map(|doubt| doubt.offset))
        };
        let events = doubts.iter().zip(kept);
        let mut events: Vec<Option<EventBytes>> =
            events.map(|(doubt, kept)| kept.filter(|event| doubt.is_of(event))).collect();
        let is_missing = |(doubt, event): &(&Doubt, &mut Option<EventBytes>)| {
            event.is_none() && doubt.fingerprint.is_some()
        };
        let missing: Vec<_> = doubts.iter().zip(&mut events).filter(is_missing).collect();
        if !missing.is_empty() {
            let offsets: Vec<Offset> = missing.iter().map(|(doubt, _)| doubt.offset).collect();
            let read = self.log().read_events_at(&offsets).await?;
            for ((doubt, event), read) in missing.into_iter().zip(read) {
                *event = read.record.into_event().filter(|event| doubt.is_of(event));
                if event.is_none() {
                    let read = self.log().read_checked_at(doubt.offset).await?;
                    *event = read.record.into_event().filter(|event| doubt.is_of(event));
                }
            }
        }
        let arrival = |(doubt, event): (&Doubt, Option<EventBytes>)| {
            let is_there = event.is_some() || doubt.fingerprint.is_none();
            is_there.then(|| doubt.arrival(event.as_ref()))
        };
        let arrivals = doubts.iter().zip(events).filter_map(arrival).collect();
        let home = self.id().partition;
        let (covers_from, settled_below) = (oldest.0, oldest.0);
        Ok(Some(Carried { home, to, covers_from, settled_below, time, arrivals }))
    }

    /// Keeps what was just prepared for other partitions.
    #[inline]
    pub(super) fn keep_prepared(
        &self,
        events: &[EventBytes],
        outcomes: &Outcomes,
        fresh_from: Offset,
    ) {
        if self.with_ledger(Ledger::doubts_len) == 0 {
            return;
        }
        let mut kept = self.inner.prepared.borrow_mut();
        let answered = &outcomes[outcomes.len() - events.len()..];
        for (event, outcome) in events.iter().zip(answered) {
            if outcome.verdict == Verdict::InDoubt
                && let Some(offset) = outcome.offset.filter(|offset| *offset >= fresh_from)
            {
                kept.push(offset, *event);
            }
        }
    }

    /// Decides a frame of another partition, and gives the words on all its arrivals, once they are visible.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub(crate) async fn take_frame(&self, carried: &Carried) -> Result<Words, NotTaken> {
        if let Some(given) = self.answer_question(carried).await {
            return given;
        }
        let Carried { home, covers_from, settled_below, time, ref arrivals, .. } = *carried;
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else {
            return self.words_given(home, covers_from).await.map_err(NotTaken::from);
        };
        if self.is_asking() {
            return Err(BUSY.into()); // it would be decided on what is not known yet
        }
        let frame = &Frame { home, covers_from, settled_below, arrivals };
        let bytes = (frame.arrivals.len() + 1) * (EVENT_BYTES + RESOLVED_BYTES);
        let Admitted { now, .. } = self.admit_behind(time, bytes).await?;
        let mut result = Ok(());
        let decide = |ledger: &mut Ledger, draft: &mut Draft| {
            let before = draft.len();
            result = ledger.take_frame(frame, draft, now);
            self.keep_handed_on(ledger, draft, before);
        };
        let taken = self.inner.replica.borrow_mut().decide_events(decide);
        let is_outcome = |arrival: &&Arrival| matches!(arrival.sent, Sent::Word(_));
        if let Some(newest) = arrivals.iter().rfind(is_outcome)
            && taken.is_some()
            && result.is_ok()
        {
            self.note_words(home, Offset(newest.place + 1));
            let tail = self.with_ledger(Ledger::next_offset);
            self.inner.heard.note_outcome(Offset(tail.0 - 1));
        }
        self.inner.work.notify_all();
        self.end_round();
        taken.ok_or_else(|| self.not_leader())?;
        result?;
        let said = self.words_of(home, first.place, last.place + 1);
        if !planted::has(Planted::WordNotCommitted) {
            self.until_visible().await?;
        }
        Ok(said)
    }

    /// Words between two places, the first included, and the second not.
    fn words_of(&self, home: PartitionId, first: u64, end: u64) -> Words {
        self.with_ledger(|ledger| Words {
            time: ledger.last_timestamp(),
            next_offset: ledger.next_offset(),
            words: ledger.words(home, first, end),
        })
    }

    /// The oldest words that were given from a place on, as many as fit in a frame, once they are visible.
    async fn words_given(&self, home: PartitionId, first: u64) -> Result<Words, Refused> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        let mut said = self.words_of(home, first, u64::MAX);
        if said.words.len() > FRAME_ARRIVALS_MAX {
            let is_whole = |place: &usize| !said.words[place - 1].is_linked;
            let whole = (1..=FRAME_ARRIVALS_MAX).rev().find(is_whole).unwrap_or(0);
            said.words.truncate(whole);
        }
        self.until_visible().await?;
        Ok(said)
    }

    /// What another partition has said before this node was started must be known first.
    pub fn is_asking(&self) -> bool {
        self.inner.heard.must_ask_any()
    }

    /// Completes when that is known.
    pub(super) async fn until_asked(&self) -> Result<(), Refused> {
        loop {
            let changed = self.changed();
            let changed = changed.changed();
            if let Some(stopped) = self.stopped() {
                return Err(stopped);
            }
            if !self.is_asking() {
                return Ok(());
            }
            changed.await;
        }
    }

    /// The question that another partition must be asked before anything is shown here: a frame that brings nothing.
    pub(crate) fn question(&self, to: PartitionId) -> Option<Carried> {
        let visible = self.visible_offset();
        let (oldest, time) = self.with_ledger(|ledger| {
            (ledger.doubts(to, visible, EVENTS_MAX).first().copied(), ledger.last_timestamp())
        });
        let place = oldest.filter(|_| self.inner.heard.must_ask_of(to))?.offset.0;
        let (home, arrivals) = (self.id().partition, Vec::new());
        Some(Carried { home, to, covers_from: place, settled_below: place, time, arrivals })
    }

    /// Outcomes of what was handed on are on the disk, as far as they are known: nobody is asked for those after a start.
    pub fn has_logged_outcomes(&self) -> bool {
        self.inner.heard.newest_outcome().is_none_or(|newest| newest < self.visible_offset())
    }

    /// A record at or behind the words on all that was settled here so far.
    pub fn newest_word(&self) -> Option<Offset> {
        let tail = self.with_ledger(Ledger::next_offset);
        let newest = self.inner.heard.newest_word(self.term());
        newest.or_else(|| tail.0.checked_sub(1).map(Offset))
    }

    /// The newest record of another partition that says anything of what it has given words on here.
    pub fn newest_heard_of(&self, other: PartitionId) -> Option<Offset> {
        self.inner.heard.newest_of(other)
    }

    /// Another partition has said all that it had said before.
    pub(crate) fn was_asked(&self, to: PartitionId) {
        self.inner.heard.was_asked(to);
        self.inner.changed.notify_all();
    }

    /// Has words of another partition decided on what is in doubt here; on how much.
    ///
    /// # Errors
    /// See [`Refused`]; none of them was.
    pub(crate) async fn take_words(
        &self,
        other: PartitionId,
        said: &Words,
    ) -> Result<usize, Refused> {
        let bytes = said.words.len() * (EVENT_BYTES + RESOLVED_BYTES);
        let Admitted { now, only_words_since } = self.admit_behind(said.time, bytes).await?;
        self.may_gather_behind(only_words_since);
        let mut settled = 0;
        let decide = |ledger: &mut Ledger, draft: &mut Draft| {
            let before = draft.len();
            settled = ledger.take_words(&said.words, draft, now);
            self.keep_handed_on(ledger, draft, before);
        };
        let taken = self.inner.replica.borrow_mut().decide_events(decide);
        if settled > 0 {
            self.note_words(other, said.next_offset);
        }
        self.inner.work.notify_all();
        self.inner.changed.notify_all();
        taken.map(|_| settled).ok_or_else(|| self.not_leader())
    }

    /// Words of another partition were decided, which were logged there below an offset.
    fn note_words(&self, other: PartitionId, logged_below: Offset) {
        self.inner.heard.note_reached(other, logged_below);
        let tail = self.with_ledger(Ledger::next_offset);
        self.inner.heard.note_word(self.term(), Offset(tail.0 - 1));
        self.inner.changed.notify_all();
    }

    /// Keeps what of a draft's records from one on was handed on, or is the outcome of that.
    pub(super) fn keep_handed_on(&self, ledger: &Ledger, draft: &Draft, first: usize) {
        let Some(events) = draft.body.events.get(first..) else { return };
        let mut kept = self.inner.prepared.borrow_mut();
        for (event, at) in events.iter().zip(first..) {
            let offset = draft.base_offset.plus(at as u64);
            let is_outcome =
                || Word::from_bytes(event).is_some_and(|word| ledger.tells(word.id, offset));
            let is_prepared = draft.body.verdicts[at] == Verdict::InDoubt.number();
            if is_prepared || ledger.has_outcomes() && is_outcome() {
                kept.push(offset, *event);
            }
        }
    }

    /// Words are put into the draft, which had nothing else since then. If they are answered already, they may wait there.
    fn may_gather_behind(&self, only_words_since: Option<Duration>) {
        if !self.inner.commit.answers_at_word() {
            return;
        }
        if self.with_replica(|replica| !replica.open().is_empty()) {
            return self.inner.only_words_since.set(only_words_since);
        }
        self.inner.only_words_since.set(Some(self.runtime().elapsed()));
        self.spawn(|partition| async move {
            partition.runtime().sleep(WORDS_GATHER).await;
            partition.inner.work.notify_all();
        });
    }

    /// Exchanges nothing with other partitions for a while: no frame is taken or prepared, and no words are.
    pub(super) fn hold_exchange(&self, hold: Duration) {
        let until = self.runtime().elapsed() + hold;
        self.inner.held_until.set(self.inner.held_until.get().max(until));
    }

    /// Completes when things may be exchanged with other partitions.
    pub(crate) async fn until_exchange(&self) {
        while let Some(left) = self.inner.held_until.get().checked_sub(self.runtime().elapsed())
            && !left.is_zero()
        {
            self.runtime().sleep(left).await;
        }
    }

    /// As [`Self::admit_behind`], of what is not words: the time to decide at.
    pub(super) async fn admit_carried(
        &self,
        time: Timestamp,
        bytes: usize,
    ) -> Result<Timestamp, Refused> {
        self.admit_behind(time, bytes).await.map(|admitted| admitted.now)
    }

    /// Waits for room in the draft; the time to decide at, which is past what `time` was elsewhere: so no
    /// consequence has an earlier log time than its cause.
    async fn admit_behind(&self, time: Timestamp, bytes: usize) -> Result<Admitted, Refused> {
        loop {
            self.until_exchange().await;
            let now = self.log_time();
            // The clock of the other one's leader must not end reservations here.
            let is_near = time.0 < now.0.saturating_add(CARRIED_AHEAD_MAX.as_nanos() as u64);
            let now = now.max(Timestamp(time.0.saturating_add(1)));
            let only_words_since = self.inner.only_words_since.get();
            let admitted = if is_near { self.admit_past(time, bytes, now) } else { Err(BUSY) };
            match admitted {
                Err(Refused::Busy { .. }) => {
                    let changed = self.changed();
                    let again = self.runtime().sleep(COURIER_AGAIN_AFTER);
                    futures_lite::future::or(changed.changed(), again).await;
                }
                admitted => return admitted.map(|()| Admitted { now, only_words_since }),
            }
        }
    }

    /// Makes place in a draft whose next record is past a time.
    fn admit_past(&self, time: Timestamp, bytes: usize, now: Timestamp) -> Result<(), Refused> {
        self.admit_events(bytes, now)?;
        let is_open = self.with_replica(|replica| !replica.open().is_empty());
        if is_open && self.with_ledger(Ledger::last_timestamp) < time {
            return self.seal();
        }
        Ok(())
    }

    /// What is under way is bounded: past that, what goes to another partition waits until some of it is settled. Before
    /// what was settled is known, all do.
    ///
    /// # Errors
    /// Busy.
    #[inline]
    pub(super) fn require_settled(&self, events: &[EventBytes]) -> Result<(), Refused> {
        let may_go = !self.is_asking()
            && self.with_ledger(|ledger| {
                ledger.own_doubts_len() + events.len() <= DOUBTS_MAX || !ledger.spans_any(events)
            });
        if may_go { Ok(()) } else { Err(BUSY) }
    }

    /// What of a request is not over, though it is decided.
    pub fn doubts_of(&self, events: &[EventBytes], outcomes: &Outcomes) -> Doubts {
        self.with_ledger(|ledger| Doubts::of(events, outcomes, ledger))
    }

    /// Waits until nothing of a request is in doubt any more, and puts what became of it into its outcomes.
    ///
    /// # Errors
    /// This node does not lead any more, or `within` has passed: the outcome is unknown.
    pub async fn settled(
        &self,
        doubts: &Doubts,
        outcomes: &mut Outcomes,
        within: Duration,
    ) -> Result<(), Refused> {
        let mut verdicts = vec![None; doubts.in_doubt.len()];
        if !planted::has(Planted::AnsweredInDoubt) {
            self.until_settled(doubts, &mut verdicts, within).await?;
        }
        // A record may have been taken back while it was told to others.
        for decided in self.decided(&doubts.announced).await.map_err(|_| Refused::LeadershipLost)? {
            decided.ok_or(Refused::LeadershipLost)?;
        }
        // Of these, the end has gone into a run in the meantime.
        let doubts = &doubts.in_doubt;
        let late: Vec<_> = doubts.iter().zip(&mut verdicts).filter(|it| it.1.is_none()).collect();
        if !late.is_empty() {
            let key = |id: &EventId| Key::new(id.0, Space::Event);
            let keys: Vec<Key> = late.iter().map(|((_, id), _)| key(id)).collect();
            let decided = self.decided(&keys).await.map_err(|_| Refused::LeadershipLost)?;
            for ((_, verdict), decided) in late.into_iter().zip(decided) {
                *verdict = match decided.ok_or(Refused::LeadershipLost)?.verdict {
                    Verdict::InDoubt if planted::has(Planted::AnsweredInDoubt) => Some(Verdict::Ok),
                    Verdict::InDoubt => return Err(Refused::InDoubt),
                    verdict => Some(verdict),
                };
            }
        }
        for ((place, _), verdict) in doubts.iter().zip(verdicts) {
            outcomes[*place].verdict = verdict.ok_or(Refused::InDoubt)?;
        }
        Ok(())
    }

    /// Waits until none of these is in doubt, and puts in their verdicts as far as they are among the newest.
    async fn until_settled(
        &self,
        Doubts { in_doubt: doubts, announced }: &Doubts,
        verdicts: &mut [Option<Verdict>],
        within: Duration,
    ) -> Result<(), Refused> {
        let by = self.runtime().elapsed() + within;
        let mut rest = 0;
        loop {
            let changed = self.changed();
            let changed = changed.changed();
            if !self.leads() || self.stopped().is_some() {
                return Err(self.stopped().unwrap_or(Refused::LeadershipLost));
            }
            self.with_ledger(|ledger| {
                while let Some((_, id)) = doubts.get(rest)
                    && !ledger.is_in_doubt(*id)
                {
                    verdicts[rest] = ledger.settled_lately(*id);
                    rest += 1;
                }
                // A word that consensus has refused is taken back.
                if rest == doubts.len() {
                    let again = doubts.iter().position(|(_, id)| ledger.is_in_doubt(*id));
                    rest = again.unwrap_or(rest);
                }
            });
            let is_unknown =
                |ledger: &Ledger| announced.iter().any(|key| ledger.is_announced(key.id));
            if rest == doubts.len() && !self.with_ledger(is_unknown) {
                return Ok(());
            }
            let left = by.saturating_sub(self.runtime().elapsed());
            if left.is_zero() {
                return Err(Refused::InDoubt);
            }
            futures_lite::future::or(changed, self.runtime().sleep(left)).await;
        }
    }
}

/// There is room in the draft.
struct Admitted {
    /// The time to decide at.
    now: Timestamp,
    /// See [`super::Inner`]; what is put into the draft now may change that.
    only_words_since: Option<Duration>,
}

/// What of a request is not over when it is decided.
pub struct Doubts {
    /// Events on which other partitions have the last word, by their places.
    in_doubt: Vec<(usize, EventId)>,
    /// Striped accounts, and their closings, which all other partitions must have.
    announced: Vec<Key>,
}

impl Doubts {
    /// Of events and their outcomes.
    fn of(events: &[EventBytes], outcomes: &Outcomes, ledger: &Ledger) -> Self {
        let mut announced = Vec::new();
        if ledger.has_announced() {
            let may_be = events.iter().filter(|event| is_for_all(event));
            announced.extend(may_be.map(key_of).filter(|key| ledger.is_announced(key.id)));
        }
        let in_doubt = |(_, outcome): &(usize, &Outcome)| outcome.verdict == Verdict::InDoubt;
        let doubts = outcomes.iter().enumerate().filter(in_doubt);
        let in_doubt = doubts.map(|(place, _)| (place, EventId(event_id(&events[place]))));
        Self { in_doubt: in_doubt.collect(), announced }
    }

    /// Everything is decided.
    pub fn is_empty(&self) -> bool {
        self.in_doubt.is_empty() && self.announced.is_empty()
    }

    /// Those other partitions, before any has said its word.
    pub fn others(&self, ledger: &Ledger) -> BTreeSet<PartitionId> {
        let mut others = BTreeSet::new();
        if !self.announced.is_empty() {
            return ledger.others().collect();
        }
        for (_, id) in &self.in_doubt {
            others.extend(ledger.doubt_to(*id));
            if others.len() + 1 == usize::from(ledger.partitions()) {
                break; // all of them
            }
        }
        others
    }
}
