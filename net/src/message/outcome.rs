//! Outcomes of a batch, run-length encoded: a new batch of 8,190 events is one run.

use crate::model::{Offset, Timestamp, Verdict};

/// Outcome of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventOutcome {
    /// What was decided.
    pub verdict: Verdict,
    /// Offset of its record; `None` for a malformed event, which is not logged.
    pub offset: Option<Offset>,
    /// `true` if this request decided it; `false` if an earlier one with the same id did.
    pub fresh: bool,
    /// Log time of the record; 0 for repeats and malformed events.
    pub timestamp: Timestamp,
}

/// Consecutive events with the same verdict and marks. Offsets and timestamps, if they have any,
/// grow by one from event to event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct OutcomeRun {
    /// Number of events.
    pub count: u32,
    /// Number of the [`Verdict`].
    pub verdict: u8,
    /// [`OutcomeRun::HAS_OFFSET`] and [`OutcomeRun::REPEAT`].
    pub marks: u8,
    /// Offset of the first event's record; 0 without one.
    pub first_offset: u64,
    /// Log time of the first event's record; 0 for repeats and malformed events.
    pub first_timestamp: u64,
}

impl OutcomeRun {
    /// The events have records.
    pub const HAS_OFFSET: u8 = 1;
    /// The events had been decided before.
    pub const REPEAT: u8 = 2;
    /// Every mark that this version knows.
    pub const MARKS: u8 = Self::HAS_OFFSET | Self::REPEAT;

    fn extended_by(&self, next: &Self) -> bool {
        let count = u64::from(self.count);
        let goes_on = |first: u64, next: u64| {
            if first == 0 && next == 0 { true } else { first.checked_add(count) == Some(next) }
        };
        let offsets_go_on = if self.marks & Self::HAS_OFFSET == 0 {
            true
        } else {
            self.first_offset.checked_add(count) == Some(next.first_offset)
        };
        self.verdict == next.verdict
            && self.marks == next.marks
            && offsets_go_on
            && goes_on(self.first_timestamp, next.first_timestamp)
            && self.count < u32::MAX
    }
}

/// Builds the runs of a reply. Does not allocate if it is kept and cleared between batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeRuns {
    runs: Vec<OutcomeRun>,
}

impl OutcomeRuns {
    /// Forgets the batch and keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Adds the outcome of the next event. `timestamp` is used for fresh events with a record.
    pub fn push(
        &mut self,
        verdict: Verdict,
        offset: Option<Offset>,
        fresh: bool,
        timestamp: Timestamp,
    ) {
        let mut marks = if fresh { 0 } else { OutcomeRun::REPEAT };
        if offset.is_some() {
            marks |= OutcomeRun::HAS_OFFSET;
        }
        let has_time = fresh && offset.is_some();
        let next = OutcomeRun {
            count: 1,
            verdict: verdict.number(),
            marks,
            first_offset: offset.map_or(0, |offset| offset.0),
            first_timestamp: if has_time { timestamp.0 } else { 0 },
        };
        match self.runs.last_mut() {
            Some(last) if last.extended_by(&next) => last.count += 1,
            _ => self.runs.push(next),
        }
    }

    /// The runs so far.
    pub fn as_slice(&self) -> &[OutcomeRun] {
        &self.runs
    }

    /// Some of them were decided before.
    pub fn have_repeats(&self) -> bool {
        self.runs.iter().any(|run| run.marks & OutcomeRun::REPEAT != 0)
    }

    /// Adds runs as they are.
    pub fn extend(&mut self, runs: impl IntoIterator<Item = OutcomeRun>) {
        self.runs.extend(runs);
    }

    /// Number of events.
    pub fn events(&self) -> usize {
        self.runs.iter().map(|run| run.count as usize).sum()
    }

    /// The outcomes one by one.
    pub fn iter(&self) -> impl Iterator<Item = EventOutcome> {
        Outcomes::new(self.runs.iter().copied())
    }
}

impl ArchivedOutcomeRun {
    /// The run in native numbers.
    pub fn to_native(&self) -> OutcomeRun {
        OutcomeRun {
            count: self.count.to_native(),
            verdict: self.verdict,
            marks: self.marks,
            first_offset: self.first_offset.to_native(),
            first_timestamp: self.first_timestamp.to_native(),
        }
    }
}

/// Outcomes of a batch, one for each event.
#[derive(Clone, Debug)]
pub struct Outcomes<Runs> {
    runs: Runs,
    run: Option<OutcomeRun>,
    done: u32,
}

impl<Runs: Iterator<Item = OutcomeRun>> Outcomes<Runs> {
    /// Expands runs whose verdicts are known; an unknown one ends the outcomes.
    pub fn new(runs: Runs) -> Self {
        Self { runs, run: None, done: 0 }
    }
}

impl<Runs: Iterator<Item = OutcomeRun>> Iterator for Outcomes<Runs> {
    type Item = EventOutcome;

    fn next(&mut self) -> Option<EventOutcome> {
        let run = loop {
            match self.run {
                Some(run) if self.done < run.count => break run,
                _ => (self.run, self.done) = (Some(self.runs.next()?), 0),
            }
        };
        let step = u64::from(self.done);
        self.done += 1;
        let has_time = run.first_timestamp != 0;
        Some(EventOutcome {
            verdict: Verdict::from_number(run.verdict)?,
            offset: (run.marks & OutcomeRun::HAS_OFFSET != 0)
                .then(|| Offset(run.first_offset + step)),
            fresh: run.marks & OutcomeRun::REPEAT == 0,
            timestamp: Timestamp(if has_time { run.first_timestamp + step } else { 0 }),
        })
    }
}
