//! Taking over what another ledger has decided: each record is decided again at its own log time, and
//! the draft is filled only if this ledger comes to the same. Otherwise nothing changes.
//!
//! ```text
//!  log time of the other log   t1 ──── t2 ───────── t3      the clock here: now
//!  its records                 reserve  ·  expire   …       (due between t2 and t3)
//!  taken here at               t1 ──── t2 ───────── t3
//! ```
//!
//! A reservation that was due between two records was ended by the record that the other log has for
//! it, or by none yet. So nothing may be ended by the clock between two records that are taken over:
//! a partition that takes an import does not look for due reservations, and takes no other events,
//! which would be preceded by them.

use walengine_net::entry::{ArchivedRecordHead, RecordHead};
use walengine_net::model::{EventBytes, Offset, ResolvedBytes, Timestamp, Verdict};

use super::apply::first_difference;
use super::{At, Disagreement, Draft, Ledger, RecordsDraft};

impl Ledger {
    /// Decides the events of another ledger's entry again, at the tail and at their log time, and fills
    /// the empty `draft` with them.
    ///
    /// # Errors
    /// This ledger decides otherwise, or the time is not past its newest record's. It is as it was, and
    /// so is `draft`.
    ///
    /// # Panics
    /// If `draft` is not empty, or there is not one verdict for each event.
    pub fn import_events(
        &mut self,
        timestamp: Timestamp,
        events: &[EventBytes],
        verdicts: &[u8],
        resolved: &[ResolvedBytes],
        draft: &mut Draft,
    ) -> Result<(), Disagreement> {
        assert!(draft.is_empty() && events.len() == verdicts.len(), "an entry for an empty draft");
        let (base_offset, previous) = (self.next_offset(), self.last_timestamp());
        let at = self.check_position(base_offset, timestamp, events.len())?;
        let mut scratch = std::mem::take(&mut self.scratch.replay);
        let result = self.replay(events, verdicts, at, &mut scratch).and_then(|()| {
            match first_difference(&scratch.resolved, resolved) {
                None => Ok(()),
                Some(index) => Err(Disagreement::Resolved { offset: Offset(at.offset + index) }),
            }
        });
        let applied = (self.next_offset - at.offset) as usize;
        if result.is_ok() {
            (draft.base_offset, draft.timestamp) = (base_offset, timestamp);
            draft.previous_timestamp = previous;
            draft.body.events.extend_from_slice(events);
            draft.body.verdicts.extend_from_slice(verdicts);
            draft.body.resolved.extend_from_slice(resolved);
        } else if applied > 0 {
            let (events, verdicts) = (&events[..applied], &scratch.verdicts[..applied]);
            self.undo_events(base_offset, previous, events, verdicts, &scratch.resolved);
        }
        scratch.clear();
        self.scratch.replay = scratch;
        result
    }

    /// As [`Self::import_events`], for an entry of opaque records; `blob` holds their bytes.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there, and if the lengths do not add up to the blob.
    pub fn import_records(
        &mut self,
        timestamp: Timestamp,
        heads: &[ArchivedRecordHead],
        blob: &[u8],
        verdicts: &[u8],
        draft: &mut RecordsDraft,
    ) -> Result<(), Disagreement> {
        assert!(draft.is_empty() && heads.len() == verdicts.len(), "an entry for an empty draft");
        let (base_offset, previous) = (self.next_offset(), self.last_timestamp());
        let mut at = self.check_position(base_offset, timestamp, heads.len())?;
        let heads: Vec<RecordHead> = heads
            .iter()
            .map(|head| RecordHead {
                id: head.id.to_native(),
                expected_offset: head.expected_offset.to_native(),
                bytes: head.bytes.to_native(),
            })
            .collect();
        let result = self.import_each(&heads, blob, verdicts, &mut at);
        if result.is_ok() {
            (draft.base_offset, draft.timestamp) = (base_offset, timestamp);
            draft.previous_timestamp = previous;
            draft.body.heads.extend_from_slice(&heads);
            draft.body.verdicts.extend_from_slice(verdicts);
            draft.body.blob.extend_from_slice(blob);
        } else if at.index > 0 {
            let applied = heads[..at.index as usize].iter().map(|head| head.id);
            self.undo_records(base_offset, previous, applied);
        }
        result
    }

    /// Stops at the first record with another verdict, with everything before `at` applied.
    fn import_each(
        &mut self,
        heads: &[RecordHead],
        mut blob: &[u8],
        verdicts: &[u8],
        at: &mut At,
    ) -> Result<(), Disagreement> {
        for (head, &number) in heads.iter().zip(verdicts) {
            let (bytes, behind) = blob.split_at(head.bytes as usize);
            blob = behind;
            let offset = Offset(at.offset);
            let (outcome, stands) = self.decide_record(head, bytes, at.offset);
            if stands {
                *at = at.plus(1);
                self.advance_to(*at);
            }
            let (logged, derived) = (Verdict::from_number(number), Some(outcome.verdict));
            if !stands || derived != logged {
                return Err(Disagreement::Verdict { offset, logged, derived });
            }
        }
        Ok(())
    }
}
