//! A point on the monotonic clock of the entered executor.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use openraft::rt::Instant;

use super::current::{Executor, current};

/// Nanoseconds since the executor's zero. Instants of different executors can't be compared.
///
/// Signed, because openraft also computes points before zero. Arithmetic saturates at the ends, 292
/// years away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalInstant {
    nanos: i64,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl LocalInstant {
    /// The time from the executor's zero to this point, on the clock of [`crate::executor::Runtime`]'s
    /// `elapsed`; zero for points before.
    pub fn since_zero(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }

    /// Now, on the clock of `executor`.
    pub(super) fn at(executor: &dyn Executor) -> Self {
        Self { nanos: nanos(executor.elapsed()) }
    }
}

impl Instant for LocalInstant {
    #[track_caller]
    fn now() -> Self {
        Self::at(&*current())
    }
}

impl Add<Duration> for LocalInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_add(nanos(duration)) }
    }
}

impl AddAssign<Duration> for LocalInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for LocalInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self { nanos: self.nanos.saturating_sub(nanos(duration)) }
    }
}

impl SubAssign<Duration> for LocalInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for LocalInstant {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.nanos) - i128::from(earlier.nanos);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_go_below_zero_and_stop_at_the_ends() {
        let zero = LocalInstant { nanos: 0 };
        let second = Duration::from_secs(1);
        let before = zero - second;
        assert!(before < zero);
        assert_eq!((zero - before, before - zero), (second, Duration::ZERO));
        assert_eq!(before + second, zero);
        let (first, last) = (zero - Duration::MAX, zero + Duration::MAX);
        assert_eq!((first - second < zero, last + second), (true, last));
        assert_eq!(last - first, Duration::from_nanos(u64::MAX - 1));
    }
}
