//! What a partition measures of itself, with plain numbers: once for each entry and for each answered request, never
//! for a transfer. Lives on the partition's shard; not `Send`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use walengine_net::message::OutcomeRun;
use walengine_net::model::{Offset, Verdict};

use crate::limits::ENTRIES_TIMED_MAX;
use crate::metrics::latency::Latency;

/// A verdict has a number of 8 bits.
const VERDICTS: usize = 1 << u8::BITS;

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Batches sealed into entries.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// Requests refused because too much was waiting.
    pub refused_busy: u64,
    /// Requests refused because the disk was nearly full.
    pub refused_full: u64,
    /// Requests refused because memory was nearly used up.
    pub refused_memory: u64,
    /// Entries that had rotted and were taken from another replica.
    pub mended: u64,
}

/// See the module.
pub struct Measured {
    /// From an entry's proposal to its commit.
    commit: RefCell<Latency>,
    /// From a write request to its answer.
    answer: RefCell<Latency>,
    /// Answered events, by the number of their verdict.
    verdicts: RefCell<Box<[u64; VERDICTS]>>,
    /// Entries that were proposed and are not committed: the offset behind each, and when it was proposed. Invariant:
    /// offsets ascend.
    under_way: RefCell<VecDeque<(Offset, Duration)>>,
    /// Set while answers go out that one commit has made final: one look at the clock is enough for all of them.
    answered_at: Cell<Option<Duration>>,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            commit: RefCell::default(),
            answer: RefCell::default(),
            verdicts: RefCell::new(Box::new([0; VERDICTS])),
            under_way: RefCell::default(),
            answered_at: Cell::default(),
        }
    }
}

impl Measured {
    /// An entry was proposed whose records end at `end`. One more than are timed is not.
    pub fn proposed(&self, end: Offset, now: Duration) {
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() < ENTRIES_TIMED_MAX {
            under_way.push_back((end, now));
        }
    }

    /// Every record from `cut` on was taken back.
    pub fn cut(&self, cut: Offset) {
        let mut under_way = self.under_way.borrow_mut();
        while under_way.pop_back_if(|(end, _)| *end > cut).is_some() {}
    }

    /// Every record below `committed` is committed, and answers go out by that until [`Self::answered`].
    pub fn committed(&self, committed: Offset, now: impl FnOnce() -> Duration) {
        let mut under_way = self.under_way.borrow_mut();
        if under_way.front().is_none_or(|(end, _)| *end > committed) {
            return;
        }
        let (now, mut commit) = (now(), self.commit.borrow_mut());
        while let Some((_, at)) = under_way.pop_front_if(|(end, _)| *end <= committed) {
            commit.record(now.saturating_sub(at));
        }
        self.answered_at.set(Some(now));
    }

    /// Those answers are out.
    pub fn answered(&self) {
        self.answered_at.set(None);
    }

    /// A request that came at `since` is answered.
    pub fn answer(&self, since: Duration, now: impl FnOnce() -> Duration) {
        let now = self.answered_at.get().unwrap_or_else(now);
        self.answer.borrow_mut().record(now.saturating_sub(since));
    }

    /// Events got these verdicts. Work for each run of equal ones, of which a full request has one, mostly.
    pub fn decided(&self, runs: &[OutcomeRun]) {
        let mut verdicts = self.verdicts.borrow_mut();
        for run in runs {
            verdicts[usize::from(run.verdict)] += u64::from(run.count);
        }
    }

    /// Times from proposal to commit.
    pub fn commit_latency(&self) -> Latency {
        *self.commit.borrow()
    }

    /// Times from request to answer.
    pub fn answer_latency(&self) -> Latency {
        *self.answer.borrow()
    }

    /// How many events got each verdict: those that there were, and acceptance.
    pub fn verdicts(&self) -> Vec<(Verdict, u64)> {
        let verdicts = self.verdicts.borrow();
        let count = |verdict: Verdict| (verdict, verdicts[usize::from(verdict.number())]);
        Verdict::all().map(count).filter(|(it, count)| *count > 0 || it.is_ok()).collect()
    }

    /// Entries that were proposed and are not committed; at most [`ENTRIES_TIMED_MAX`].
    pub fn under_way(&self) -> usize {
        self.under_way.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn an_entry_is_timed_from_its_proposal_to_its_commit_unless_it_was_taken_back() {
        let measured = Measured::default();
        for (end, at) in [(10, 1), (20, 2), (30, 3)] {
            measured.proposed(Offset(end), MILLI(at));
        }
        measured.committed(Offset(9), || unreachable!("nothing is committed"));
        measured.committed(Offset(10), || MILLI(5));
        measured.cut(Offset(20));
        assert_eq!(measured.under_way(), 1);
        measured.committed(Offset(20), || MILLI(102));
        let latency = measured.commit_latency();
        assert_eq!(latency.count(), 2);
        assert!((latency.sum_seconds() - 0.104).abs() < 1e-9, "4 and 100 ms");
    }

    #[test]
    fn answers_of_one_commit_share_a_look_at_the_clock() {
        let measured = Measured::default();
        measured.proposed(Offset(1), MILLI(0));
        measured.committed(Offset(1), || MILLI(7));
        measured.answer(MILLI(2), || unreachable!("the time is known"));
        measured.answered();
        measured.answer(MILLI(2), || MILLI(12));
        assert!((measured.answer_latency().sum_seconds() - 0.015).abs() < 1e-9, "5 and 10 ms");
    }

    #[test]
    fn memory_stays_bounded_and_verdicts_are_counted_by_runs() {
        let measured = Measured::default();
        for end in 1..=2 * ENTRIES_TIMED_MAX as u64 {
            measured.proposed(Offset(end), MILLI(0));
        }
        assert_eq!(measured.under_way(), ENTRIES_TIMED_MAX);
        assert_eq!(measured.verdicts(), [(Verdict::Ok, 0)]);
        let run = |verdict: Verdict, count| OutcomeRun {
            count,
            verdict: verdict.number(),
            marks: 0,
            first_offset: 0,
            first_timestamp: 0,
        };
        measured.decided(&[
            run(Verdict::Ok, 8_000),
            run(Verdict::IdReused, 2),
            run(Verdict::Ok, 188),
        ]);
        assert_eq!(measured.verdicts(), [(Verdict::Ok, 8_188), (Verdict::IdReused, 2)]);
    }
}
