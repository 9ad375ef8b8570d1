//! The clock of a partition's log: what the time of the next record is. Pure; lives on the partition's
//! core.
//!
//! Reservations end by log time, so a machine's clock that jumps must not move it. The wall clock is
//! therefore compared with a *steady* one, which counts seconds since boot and can't be set:
//!
//! ```text
//! expected = what the log's clock showed last + what the steady clock has counted since
//! ```
//!
//! | the wall clock | log time |
//! |---|---|
//! | is within [`CLOCK_STEP_MAX`] of what is expected | is the wall clock |
//! | is further off, by at most [`CLOCK_SLEW_MAX`] | goes an eighth faster or slower, until it is |
//! | is further off than that | goes on as expected: held, and told |
//! | | |
//! | *at the start:* is behind the last record | goes on from the last record |
//! | is ahead of it, by at most [`CLOCK_GAP_MAX`] | is the wall clock: the node was down for so long |
//! | is ahead of it by more | goes on from the last record: held, and told; `--trust-clock` takes it |
//!
//! In a group, the wall clock is put right before by what the other nodes say (`agreed_clock.rs`).
//!
//! So log time never stands still and never jumps, whatever is done to the wall clock, and follows it
//! again as soon as it is mended. A leader bounds it further by `max(previous + 1, ...)`.

use std::time::Duration;

use walengine_net::model::Timestamp;

use crate::limits::{
    CLOCK_ANCHOR_EVERY, CLOCK_GAP_MAX, CLOCK_SLEW_MAX, CLOCK_SLEW_SHARE, CLOCK_STEP_MAX,
};

/// How the wall clock stands to the log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockStanding {
    /// They agree.
    #[default]
    Agrees,
    /// The wall clock is ahead by this much, and not followed.
    Ahead(Duration),
    /// The wall clock is behind by this much, and not followed.
    Behind(Duration),
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogClock {
    /// What it showed when the steady clock showed `at`; `None` before the first look.
    anchor: Option<Anchor>,
    standing: ClockStanding,
    /// The wall clock is right at the start, however far it is ahead of the log.
    trusted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    nanos: u64,
    at: Duration,
}

impl LogClock {
    /// Not looked at yet. `trusted`: an operator has said that the wall clock is right.
    pub fn new(trusted: bool) -> Self {
        Self { trusted, ..Self::default() }
    }

    /// Log time now. `last` is that of the newest record, 0 if there is none.
    pub fn read(&mut self, wall: Timestamp, steady: Duration, last: Timestamp) -> Timestamp {
        let anchor = match self.anchor {
            // Another leader's records have moved the log on.
            Some(anchor)
                if last.0 > anchor.expected(steady).saturating_add(nanos(CLOCK_STEP_MAX)) =>
            {
                Anchor { nanos: last.0, at: steady }
            }
            Some(anchor) => anchor,
            None => self.first(wall, steady, last),
        };
        let (anchor, standing, now) = anchor.follow(wall.0, steady);
        (self.anchor, self.standing) = (Some(anchor), standing);
        Timestamp(now)
    }

    /// What the last look has found.
    pub fn standing(&self) -> ClockStanding {
        self.standing
    }

    fn first(&self, wall: Timestamp, steady: Duration, last: Timestamp) -> Anchor {
        let gap = wall.0.saturating_sub(last.0);
        let is_believed = last.0 == 0 || gap <= nanos(CLOCK_GAP_MAX) || self.trusted;
        let nanos = if wall > last && is_believed { wall.0 } else { last.0 };
        Anchor { nanos, at: steady }
    }
}

impl Anchor {
    fn expected(self, steady: Duration) -> u64 {
        self.nanos.saturating_add(nanos(steady.saturating_sub(self.at)))
    }

    /// Compares the wall clock with what is expected: where to go on from, how they stand, and the time.
    fn follow(self, wall: u64, steady: Duration) -> (Self, ClockStanding, u64) {
        let expected = self.expected(steady);
        let elapsed = steady.saturating_sub(self.at);
        let off = Duration::from_nanos(wall.abs_diff(expected));
        if off <= CLOCK_STEP_MAX {
            // Seldom, so that a clock that creeps ahead in small steps gains little.
            let is_due = elapsed >= CLOCK_ANCHOR_EVERY;
            let anchor = if is_due { Self { nanos: wall, at: steady } } else { self };
            return (anchor, ClockStanding::Agrees, wall);
        }
        let slew = if off <= CLOCK_SLEW_MAX { nanos(elapsed / CLOCK_SLEW_SHARE) } else { 0 };
        let (now, standing) = if wall > expected {
            (expected.saturating_add(slew), ClockStanding::Ahead(off))
        } else {
            (expected.saturating_sub(slew), ClockStanding::Behind(off))
        };
        (Self { nanos: now, at: steady }, standing, now)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * 86_400;
    const NO_RECORD: u64 = 0;

    /// In seconds.
    struct Look {
        steady: u64,
        wall: u64,
        last: u64,
    }

    /// Log time in seconds at each look.
    fn shown(clock: &mut LogClock, looks: &[(u64, u64, u64)]) -> Vec<(u64, ClockStanding)> {
        let each = looks.iter().map(|&(steady, wall, last)| Look { steady, wall, last });
        let each = each.map(|Look { steady, wall, last }| {
            let stamp = |seconds: u64| Timestamp(seconds * 1_000_000_000);
            let now = clock.read(stamp(wall), Duration::from_secs(steady), stamp(last));
            (now.0 / 1_000_000_000, clock.standing())
        });
        each.collect()
    }

    fn times(looks: &[(u64, u64, u64)]) -> Vec<u64> {
        shown(&mut LogClock::default(), looks).into_iter().map(|(time, _)| time - START).collect()
    }

    #[test]
    fn a_clock_that_jumps_ten_years_ahead_is_held_and_followed_again_once_it_is_mended() {
        let looks = [
            (0, START, NO_RECORD),
            (10, START + 10, START),
            (11, START + 11 + 10 * YEAR, START + 10),
            (20, START + 20 + 10 * YEAR, START + 11),
            (21, START + 21, START + 20),
            (90, START + 93, START + 21), // within what is followed at once
        ];
        assert_eq!(times(&looks), [0, 10, 11, 20, 21, 93]);
        let standings = shown(&mut LogClock::default(), &looks);
        let held = |at: usize| matches!(standings[at].1, ClockStanding::Ahead(_));
        assert_eq!([held(1), held(2), held(3), held(4)], [false, true, true, false]);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_stop_the_log_s() {
        let looks = [
            (0, START + YEAR, NO_RECORD),
            (10, START + 10, START + YEAR),
            (70, START + 70, START + YEAR + 10),
            (80, START + YEAR + 80, START + YEAR + 70),
        ];
        assert_eq!(times(&looks), [YEAR, YEAR + 10, YEAR + 70, YEAR + 80]);
    }

    #[test]
    fn at_the_start_time_goes_on_from_the_log_whatever_the_clock_says() {
        let day = 86_400;
        for (wall, last, trusted, expected) in [
            (START + 7, NO_RECORD, false, START + 7), // a new log
            (START + day, START, false, START + day), // down for a day
            (START + 10 * YEAR, START, false, START), // never down for ten years
            (START + 10 * YEAR, START, true, START + 10 * YEAR), // unless a person says so
            (START, START + 10 * YEAR, false, START + 10 * YEAR), // written by a clock that was wrong
            (START, START + 3, false, START), // `max(previous + 1, ...)` sees to this
        ] {
            let mut clock = LogClock::new(trusted);
            let seen = shown(&mut clock, &[(0, wall, last), (60, wall + 60, last)]);
            assert_eq!(seen[0].0, expected, "{wall} {last} {trusted}");
            assert_eq!(seen[1].0, expected + 60, "time goes on: {wall} {last} {trusted}");
        }
    }

    #[test]
    fn small_steps_are_followed_at_once_and_larger_ones_slowly() {
        let looks = [(0, START, NO_RECORD), (10, START + 14, START), (12, START + 12, START + 14)];
        assert_eq!(times(&looks), [0, 14, 12]);
        // A step of a minute: an eighth faster, 8 seconds a minute, until five seconds are left.
        let mut looks = vec![(0, START, NO_RECORD)];
        looks.extend((1..=600).map(|second| (second, START + second + 60, START)));
        let times = times(&looks);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 7), "no jump");
        assert!((times[80]).abs_diff(90) <= 1, "{}", times[80]);
        assert_eq!(times[600], 660, "it has caught up");
    }

    #[test]
    fn a_clock_that_creeps_gains_little() {
        // It gains a second each second.
        let looks: Vec<_> =
            (0..3600).map(|second| (second, START + 2 * second, NO_RECORD)).collect();
        let last = times(&looks)[3599];
        assert!(last <= 3600 + 3600 / 8 + 5 * 60 + 10, "{last}");
    }

    #[test]
    fn records_of_another_leader_move_it_on() {
        let looks = [(0, START, START), (1, START + 1, START + 600), (2, START + 2, START + 600)];
        let seen = times(&looks);
        assert_eq!(seen[1], 600);
        assert!(seen[2] >= 600, "{}", seen[2]);
    }
}
