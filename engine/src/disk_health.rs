//! How the node's disk does, as its threads see it: full, slow or stuck. A disk that was one of these
//! is told to be for a while longer, so that leadership does not come and go with it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::limits::UNFIT_HOLD;

/// When something was so last. Shared by threads.
#[derive(Debug, Default)]
struct LastSeen {
    /// Milliseconds since the process began, plus one; 0: never.
    at_millis: AtomicU64,
}

impl LastSeen {
    fn note(&self, now: Duration) {
        self.at_millis.fetch_max(now.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn is_recent(&self, now: Duration) -> bool {
        let at = self.at_millis.load(Ordering::Relaxed);
        at > 0 && now.as_millis() as u64 <= at + UNFIT_HOLD.as_millis() as u64
    }
}

/// See the module. `now` is time since the process began.
#[derive(Debug, Default)]
pub struct DiskHealth {
    full: LastSeen,
    slow: LastSeen,
    stuck: LastSeen,
    /// Partitions whose write does not come back.
    stuck_partitions: AtomicUsize,
}

impl DiskHealth {
    /// There is no room for writes now.
    pub fn note_full(&self, now: Duration) {
        self.full.note(now);
    }

    /// A write takes unusually long.
    pub fn note_slow(&self, now: Duration) {
        self.slow.note(now);
    }

    /// The write of one more partition does not come back.
    pub fn stuck(&self, now: Duration) {
        self.stuck.note(now);
        self.stuck_partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// The write of a partition came back.
    pub fn moves_again(&self, now: Duration) {
        self.stuck.note(now);
        self.stuck_partitions.fetch_sub(1, Ordering::Relaxed);
    }

    /// There is no room for writes, or there was none a moment ago.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full.is_recent(now)
    }

    /// Writes take unusually long, or did a moment ago.
    pub fn is_slow(&self, now: Duration) -> bool {
        self.slow.is_recent(now)
    }

    /// A write does not come back, or one did after seconds a moment ago.
    pub fn is_stuck(&self, now: Duration) -> bool {
        self.stuck_partitions.load(Ordering::Relaxed) > 0 || self.stuck.is_recent(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_in_trouble_is_told_to_be_for_a_while_longer() {
        let health = DiskHealth::default();
        let at = Duration::from_secs;
        assert!(!health.is_full(at(0)) && !health.is_slow(at(0)) && !health.is_stuck(at(0)));
        health.note_full(at(10));
        assert!(health.is_full(at(10)) && health.is_full(at(10) + UNFIT_HOLD));
        assert!(!health.is_full(at(11) + UNFIT_HOLD) && !health.is_slow(at(10)));
        health.note_slow(at(0));
        assert!(health.is_slow(UNFIT_HOLD));
    }

    #[test]
    fn a_stuck_disk_is_stuck_until_every_write_is_back() {
        let health = DiskHealth::default();
        let at = Duration::from_secs;
        health.stuck(at(10));
        health.stuck(at(11));
        health.moves_again(at(20));
        assert!(health.is_stuck(at(9_000)), "one does not come back");
        health.moves_again(at(9_000));
        assert!(health.is_stuck(at(9_000) + UNFIT_HOLD));
        assert!(!health.is_stuck(at(9_001) + UNFIT_HOLD));
    }
}
