//! Jittered pauses, so that clients that lost the same server do not all return at once. The same
//! seed gives the same pauses.

use std::time::Duration;

/// When to retry, and when to give up on a silent server.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// First pause after a lost connection, and after a `Busy` without a hint.
    pub pause_min: Duration,
    /// Longest pause. Each is twice the one before, then shortened by up to half at random.
    pub pause_max: Duration,
    /// How long a server may answer no request while another node could be asked.
    pub stall_min: Duration,
    /// Longest such time. It doubles with every consecutive stall.
    pub stall_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
            stall_min: Duration::from_secs(1),
            stall_max: Duration::from_secs(8),
        }
    }
}

impl RetryPolicy {
    /// Pause before the `attempt`-th repetition (from 0); `random` is any number.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        jittered(doubled(self.pause_min, attempt, self.pause_max), random)
    }

    /// Silence that counts as the `stall`-th consecutive stall (from 0).
    pub(super) fn stall(&self, stall: u32) -> Duration {
        doubled(self.stall_min, stall, self.stall_max)
    }
}

/// `least`, doubled `times` times, at most `most`.
pub(super) fn doubled(least: Duration, times: u32, most: Duration) -> Duration {
    least.saturating_mul(1 << times.min(16)).min(most)
}

/// Between half of `whole` and all of it.
pub(super) fn jittered(whole: Duration, random: u64) -> Duration {
    let half_nanos = (whole / 2).as_nanos() as u64;
    whole / 2 + Duration::from_nanos(random % (half_nanos + 1))
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): enough to spread pauses, not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
