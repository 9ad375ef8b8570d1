//! Taking back what was logged and never committed, newest first, from the records themselves.

use walengine_net::model::{EventBytes, Offset, Resolved, ResolvedBytes, Timestamp, Verdict};

use super::Ledger;
use super::decide::key_of;
use super::ids::Key;

/// Tells the newest snapshot whether what it holds was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UndoMarks {
    /// Snapshots so far.
    cuts: u64,
    /// Lowest offset that any undo since the newest snapshot went back to.
    lowest: Option<u64>,
}

impl UndoMarks {
    /// A new snapshot, the only one that is watched from now on.
    pub(super) fn cut(&mut self) -> u64 {
        self.lowest = None;
        self.cuts += 1;
        self.cuts
    }

    /// `cut` is the newest, and nothing below `offset` was taken back since.
    pub(super) fn hold(&self, cut: u64, offset: u64) -> bool {
        cut == self.cuts && self.lowest.is_none_or(|lowest| lowest >= offset)
    }
}

impl Ledger {
    /// Takes back the newest entry: the ledger is then what it was before. `previous_timestamp` is
    /// the log time of the record before it, as the draft told.
    ///
    /// # Panics
    /// If the entry is not the newest, or was released.
    pub fn undo_events(
        &mut self,
        base_offset: Offset,
        previous_timestamp: Timestamp,
        events: &[EventBytes],
        verdicts: &[u8],
        resolved: &[ResolvedBytes],
    ) {
        self.check_newest(base_offset, events.len());
        let mut resolved = resolved.iter().rev().map(Resolved::from_bytes).peekable();
        for (index, (bytes, verdict)) in events.iter().zip(verdicts).enumerate().rev() {
            let offset = base_offset.0 + index as u64;
            let effective = resolved.next_if(|effective| effective.index as usize == index);
            if *verdict == Verdict::Ok.number() {
                self.revert(bytes, offset, effective.as_ref());
            }
            self.ids.forget(&key_of(bytes), offset);
        }
        self.step_back(base_offset, previous_timestamp);
    }

    /// Takes back the newest entry of opaque records, whose ids are `ids`.
    ///
    /// # Panics
    /// If the entry is not the newest.
    pub fn undo_records(
        &mut self,
        base_offset: Offset,
        previous_timestamp: Timestamp,
        ids: impl ExactSizeIterator<Item = u128>,
    ) {
        self.check_newest(base_offset, ids.len());
        for (id, offset) in ids.zip(base_offset.0..) {
            self.ids.forget(&Key::new(id, false), offset);
        }
        self.step_back(base_offset, previous_timestamp);
    }

    fn check_newest(&self, base_offset: Offset, records: usize) {
        let end = base_offset.plus(records as u64);
        assert!(end == self.next_offset(), "undo up to {end}, the tail is {}", self.next_offset);
    }

    fn step_back(&mut self, base_offset: Offset, previous_timestamp: Timestamp) {
        self.next_offset = base_offset.0;
        self.last_timestamp = previous_timestamp.0;
        let lowest = self.undo.lowest.map_or(base_offset.0, |lowest| lowest.min(base_offset.0));
        self.undo.lowest = Some(lowest);
    }
}
