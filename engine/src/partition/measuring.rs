//! What a partition shows of what it measures. The numbers are in [`super::measured`].

use std::time::Duration;

use walengine_net::message::OutcomeRun;

use super::Partition;
use super::commit::Commit;
use super::measured::Measured;
use crate::runtime::Runtime as _;

impl<C: Commit> Partition<C> {
    /// What it has measured since the start.
    pub fn measured(&self) -> &Measured {
        &self.inner.measured
    }

    /// A write request that came at `since`, by the runtime's clock, is answered.
    pub fn note_answer(&self, since: Duration) {
        self.inner.measured.answer(since, || self.runtime().elapsed());
    }

    /// Events are answered with these verdicts.
    pub fn note_verdicts(&self, runs: &[OutcomeRun]) {
        self.inner.measured.decided(runs);
    }

    /// Answers that wait for their commit, and their memory in bytes.
    pub fn answers_waiting(&self) -> (usize, usize) {
        self.inner.waiters.waiting()
    }

    /// Snapshots written since the start, and their bytes; and whether one is being written now.
    pub fn snapshots(&self) -> (u64, u64, bool) {
        let progress = self.snapshot_progress();
        (progress.taken.get(), progress.taken_bytes.get(), progress.is_under_way.get())
    }
}
