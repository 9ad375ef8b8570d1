//! Replay: derives every verdict and resolution of a logged entry again and compares them.

use walengine_net::entry::{ArchivedEventsBody, ArchivedRecordsBody, RecordHead};
use walengine_net::model::{
    Arrival, Event, EventBytes, EventKind, Offset, Resolved, ResolvedBytes, Timestamp,
    TransferFlags, Verdict, Word, event_kind,
};
use walengine_net::unit;

use super::ahead::Near;
use super::decide::EntryParts;
use super::limits::{OFFSET_MAX, TIMESTAMP_MAX};
use super::{At, Ledger, Outcomes, TIMESTAMP_SLACK};

/// The ledger and the log disagree. The entry was applied in part: stop serving from this ledger
/// and rebuild it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disagreement {
    /// The entry does not follow the ledger's tail. Nothing was applied.
    #[error(
        "entry starts at offset {found} and time {timestamp}, \
         the ledger's tail is offset {expected} and time {last_timestamp}"
    )]
    Position {
        /// Where the ledger's next record belongs.
        expected: Offset,
        /// Where the entry starts.
        found: Offset,
        /// The entry's first log time; it must be past `last_timestamp`.
        timestamp: Timestamp,
        /// Log time of the ledger's newest record.
        last_timestamp: Timestamp,
    },
    /// The ledger derives another verdict than the logged one.
    #[error("offset {offset}: the log says {}, this replica {}", name(*logged), name(*derived))]
    Verdict {
        /// The record.
        offset: Offset,
        /// What the log says; `None` if no verdict has that number.
        logged: Option<Verdict>,
        /// What this ledger derives. If it equals `logged`, the record was logged a second time.
        derived: Option<Verdict>,
    },
    /// The verdicts agree, but the effective accounts or amounts differ.
    #[error("offset {offset}: the log has another resolution than this replica")]
    Resolved {
        /// The first record whose resolution differs.
        offset: Offset,
    },
    /// No leader writes such a body.
    #[error("offset {offset}: the entry's body contradicts itself")]
    Body {
        /// The first record of the entry.
        offset: Offset,
    },
}

fn name(verdict: Option<Verdict>) -> &'static str {
    verdict.map_or("nothing known", Verdict::name)
}

/// What replaying an entry derives. The memory is kept between entries.
#[derive(Default)]
pub(super) struct ReplayScratch {
    pub verdicts: Vec<u8>,
    pub resolved: Vec<ResolvedBytes>,
    outcomes: Outcomes,
}

impl ReplayScratch {
    pub(super) fn clear(&mut self) {
        self.verdicts.clear();
        self.resolved.clear();
        self.outcomes.clear();
    }
}

impl Ledger {
    /// Applies a committed entry. Its records count as released, see [`Ledger::release`].
    pub fn apply_events(
        &mut self,
        base_offset: Offset,
        timestamp: Timestamp,
        body: &ArchivedEventsBody,
    ) -> Result<(), Disagreement> {
        let (events, verdicts) = (body.events.as_slice(), body.verdicts.as_slice());
        let at = self.check_position(base_offset, timestamp, events.len())?;
        if events.len() != verdicts.len() {
            return Err(Disagreement::Body { offset: base_offset });
        }
        let mut scratch = std::mem::take(&mut self.scratch.replay);
        self.ids.begin_deciding(events, at.offset);
        let result = self.replay(events, verdicts, at, &mut scratch).and_then(|()| {
            let logged = body.resolved.as_slice();
            match first_difference(&scratch.resolved, logged) {
                None => Ok(()),
                Some(index) => Err(Disagreement::Resolved { offset: Offset(at.offset + index) }),
            }
        });
        self.ids.end_deciding();
        scratch.clear();
        self.scratch.replay = scratch;
        self.release(self.next_offset());
        result
    }

    /// Decides records of an entry again, and compares. After an error, everything below the tail was
    /// applied, and `scratch` holds its verdicts and resolutions.
    pub(super) fn replay(
        &mut self,
        events: &[EventBytes],
        verdicts: &[u8],
        mut at: At,
        scratch: &mut ReplayScratch,
    ) -> Result<(), Disagreement> {
        let mut next = 0;
        self.across.close_mail();
        self.look_ahead_anew();
        while next < events.len() {
            let near = self.near(events, next);
            let (length, logs) = self.replay_group(&events[next..], near, at, scratch);
            for (index, &number) in verdicts[next..next + length].iter().enumerate() {
                // A repeat or a malformed event is not logged: its verdict is in the outcomes.
                let derived = if logs {
                    Verdict::from_number(scratch.verdicts[next + index])
                } else {
                    Some(scratch.outcomes[index].verdict)
                };
                let logged = Verdict::from_number(number);
                if !logs || derived != logged {
                    if logs {
                        // So that all that was applied lies below the tail.
                        self.advance_to(at.plus(length));
                    }
                    let offset = Offset(at.offset + index as u64);
                    return Err(Disagreement::Verdict { offset, logged, derived });
                }
            }
            next += length;
            at = at.plus(length);
            self.advance_to(at);
            scratch.outcomes.clear();
        }
        Ok(())
    }

    /// Decides the event or chain at the start of `events`. Returns its length, and whether it
    /// would be logged.
    fn replay_group(
        &mut self,
        events: &[EventBytes],
        near: Near,
        at: At,
        scratch: &mut ReplayScratch,
    ) -> (usize, bool) {
        let (length, closed) = unit::length(events);
        if closed && let Some(unit) = arrivals(&events[..length]) {
            self.arrive(&unit, near, at, &mut scratch.resolved, &mut scratch.verdicts);
            return (length, true);
        }
        if closed && let Some(unit) = words(&events[..length]) {
            let settled = self.settle_unit(&unit, at, &mut scratch.resolved);
            let verdict = settled.err().unwrap_or(Verdict::Ok).number();
            scratch.verdicts.extend(unit.iter().map(|_| verdict));
            return (length, true);
        }
        if let Some(decided) = self.leaders_own(&events[0], at, &mut scratch.resolved) {
            scratch.verdicts.push(decided.unwrap_or_else(|refused| refused).number());
            return (1, true);
        }
        let mut log =
            EntryParts { verdicts: &mut scratch.verdicts, resolved: &mut scratch.resolved };
        (length, self.decide(&events[..length], closed, near, at, &mut log, &mut scratch.outcomes))
    }

    /// Applies a record that only leaders write; `None` if it is another one, an arrival or a word.
    fn leaders_own(
        &mut self,
        bytes: &EventBytes,
        at: At,
        resolved: &mut Vec<ResolvedBytes>,
    ) -> Option<Result<Verdict, Verdict>> {
        let done = |()| Verdict::Ok;
        match canonical(bytes)? {
            Event::Expire(expire) => Some(self.expire_one(&expire, at, resolved).map(done)),
            Event::Mail(mail) => Some(self.open_mail(&mail, at).map(done)),
            Event::Transfer(given) if given.flags.contains(TransferFlags::GATHERING) => {
                Some(self.give_again(&given, at))
            }
            _ => None,
        }
    }

    /// Applies a committed entry of opaque records.
    pub fn apply_records(
        &mut self,
        base_offset: Offset,
        timestamp: Timestamp,
        body: &ArchivedRecordsBody,
    ) -> Result<(), Disagreement> {
        let heads = body.heads.as_slice();
        let mut at = self.check_position(base_offset, timestamp, heads.len())?;
        if heads.len() != body.verdicts.len() {
            return Err(Disagreement::Body { offset: base_offset });
        }
        let mut rest = body.blob.as_slice();
        for (head, number) in heads.iter().zip(body.verdicts.as_slice()) {
            let head = RecordHead {
                id: head.id.to_native(),
                expected_offset: head.expected_offset.to_native(),
                bytes: head.bytes.to_native(),
            };
            let offset = Offset(at.offset);
            let Some((bytes, behind)) = rest.split_at_checked(head.bytes as usize) else {
                return Err(Disagreement::Body { offset });
            };
            rest = behind;
            let (outcome, stands) = self.decide_record(&head, bytes, at.offset);
            let (logged, derived) = (Verdict::from_number(*number), Some(outcome.verdict));
            if !stands || derived != logged {
                return Err(Disagreement::Verdict { offset, logged, derived });
            }
            at = at.plus(1);
            self.advance_to(at);
        }
        self.release(self.next_offset());
        Ok(())
    }

    pub(super) fn check_position(
        &self,
        base_offset: Offset,
        timestamp: Timestamp,
        records: usize,
    ) -> Result<At, Disagreement> {
        let at = At { offset: base_offset.0, timestamp: timestamp.0, index: 0 };
        let end = base_offset.0.checked_add(records as u64);
        let follows = base_offset == self.next_offset()
            && end.is_some_and(|end| end <= OFFSET_MAX)
            && (records == 0
                || timestamp > self.last_timestamp()
                    && timestamp.0 <= TIMESTAMP_MAX.0 + TIMESTAMP_SLACK);
        if follows {
            return Ok(at);
        }
        Err(Disagreement::Position {
            expected: self.next_offset(),
            found: base_offset,
            timestamp,
            last_timestamp: self.last_timestamp(),
        })
    }
}

/// An event, if it has no bytes set that its kind does not use.
fn canonical(bytes: &EventBytes) -> Option<Event> {
    Event::from_bytes(bytes).ok().filter(|event| event.to_bytes() == *bytes)
}

/// What a unit has brought, if all of it are arrivals.
fn arrivals(unit: &[EventBytes]) -> Option<Vec<Arrival>> {
    let arrival = |bytes: &EventBytes| {
        Arrival::from_bytes(bytes).filter(|arrival| arrival.to_bytes() == *bytes)
    };
    unit.iter().map(arrival).collect()
}

/// What a unit says, if all of it are words.
fn words(unit: &[EventBytes]) -> Option<Vec<Word>> {
    let word = |bytes: &EventBytes| match event_kind(bytes) {
        Ok(EventKind::Word) => Word::from_bytes(bytes).filter(|word| word.to_bytes() == *bytes),
        _ => None,
    };
    unit.iter().map(word).collect()
}

/// Index of the first record whose resolution is not the same on both sides.
pub(super) fn first_difference(derived: &[ResolvedBytes], logged: &[ResolvedBytes]) -> Option<u64> {
    let same = derived.iter().zip(logged).take_while(|(derived, logged)| derived == logged).count();
    let rest = [&derived[same..], &logged[same..]];
    let indexes = rest.iter().filter_map(|rest| rest.first());
    indexes.map(|bytes| u64::from(Resolved::from_bytes(bytes).index)).min()
}
