//! What the clocks of a group's voters agree on, as one of them sees it. Pure.
//!
//! The log's clock (`partition/log_clock.rs`) holds a clock that jumps. One that was wrong from its start
//! shows only against the others': nodes tell each other their clocks twice a second.
//!
//! | clocks of the voters, this node's included | this node's clock |
//! |---|---|
//! | a majority agrees, and this one is in it | is taken as it is |
//! | a majority agrees, and this one is not in it | is put right by what the majority says: held, and told |
//! | no majority is known that agrees | is taken as the log's clock takes it; a leader that has just started waits for one, a few seconds at most |
//!
//! Clocks agree that are within [`CLOCK_STEP_MAX`] of each other: log time follows such a step at once.
//!
//! # Why only a leader is bounded
//!
//! A follower that refuses an entry of the far future is safe: to Raft the append is lost. But it helps
//! nobody, and can stop a group for as long as the entry is ahead, here for years:
//! - What the followers refuse stays in the leader's log, and so do its heartbeats, which keep others from
//!   standing. It goes on leading a group that commits nothing, also once its clock is right again.
//! - With its longer log it wins the next election, and the entry is of an earlier term then. That must be
//!   taken: it may be committed, on a majority that was asked before its clocks were known. So the jump
//!   goes in after all, only later.
//! - A follower whose own clock is wrong would refuse what is right, and be no replica any more.
//!
//! A leader needs a majority to commit, and the same majority tells it its clocks. So the bound stands where
//! the time is made, and a follower says what it sees: [`log_ahead`] is shown as a trouble.
//!
//! One bound a follower has all the same ([`latest`]): an entry that is more than [`CLOCK_GAP_MAX`], a year, ahead
//! both of the record before it and of what a majority of the clocks says is refused. No leader makes one, for
//! the log's clock never jumps that far, but the first of a new log, or one with `--trust-clock`, that has not heard
//! the others and whose clock is wrong by years. It is told so by each follower; its node has to be stopped for the
//! others to go on, and drops the entry when it comes back. Taking it would end every reservation, for good.

use std::time::Duration;

use walengine_net::model::Timestamp;

use crate::limits::{CLOCK_GAP_MAX, CLOCK_STEP_MAX};

/// How this node's clock stands to what the voters agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockAgreement {
    /// The node has just started, and has not heard enough of the others yet.
    Awaited,
    /// No majority is known that agrees.
    #[default]
    Unknown,
    /// A majority agrees, and this node is in it.
    With,
    /// A majority agrees on a clock that is so many nanoseconds ahead of this node's; negative if behind.
    Without(i64),
}

impl ClockAgreement {
    /// A majority of clocks is known to agree.
    pub fn is_known(self) -> bool {
        matches!(self, Self::With | Self::Without(_))
    }

    /// This node's clock, put right. `None` while that is awaited.
    pub fn put_right(self, wall: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Awaited => None,
            Self::Unknown | Self::With => Some(wall),
            Self::Without(ahead) => Some(Timestamp(wall.0.saturating_add_signed(ahead))),
        }
    }
}

/// What `clocks` agree on: how far each voter's is ahead of this node's in nanoseconds, as far as they are
/// known, with a 0 for this node if it votes. There are `voters` of them. `None` if no majority agrees.
pub fn agreed(voters: usize, clocks: &[i64]) -> Option<ClockAgreement> {
    if voters == 0 {
        return None;
    }
    let mut clocks = clocks.to_vec();
    clocks.sort_unstable();
    let majority = voters / 2 + 1;
    let together = |from: usize| {
        let near = clocks[from..].iter().take_while(|clock| is_near(**clock, clocks[from]));
        &clocks[from..from + near.count()]
    };
    let groups = (0..clocks.len()).map(together).filter(|group| group.len() >= majority);
    let groups: Vec<&[i64]> = groups.collect();
    if groups.iter().any(|group| group.iter().all(|clock| is_near(*clock, 0))) {
        return Some(ClockAgreement::With);
    }
    let largest = groups.into_iter().max_by_key(|group| group.len())?;
    Some(ClockAgreement::Without(largest[largest.len() / 2]))
}

fn is_near(one: i64, other: i64) -> bool {
    Duration::from_nanos(one.abs_diff(other)) <= CLOCK_STEP_MAX
}

/// The latest time that an entry may have which comes behind a record of the time `last`. `None` if no
/// majority of clocks is known to agree.
pub fn latest(agreement: ClockAgreement, wall: Timestamp, last: Timestamp) -> Option<Timestamp> {
    if !agreement.is_known() {
        return None;
    }
    let now = agreement.put_right(wall)?.max(last);
    let gap = u64::try_from(CLOCK_GAP_MAX.as_nanos()).unwrap_or(u64::MAX);
    Some(Timestamp(now.0.saturating_add(gap)))
}

/// How far the newest record is ahead of what a majority of clocks says, if it is further than any clock
/// of theirs can explain.
pub fn log_ahead(
    agreement: ClockAgreement,
    wall: Timestamp,
    last: Timestamp,
    far: Duration,
) -> Option<Duration> {
    if !agreement.is_known() {
        return None;
    }
    let now = agreement.put_right(wall)?;
    let ahead = Duration::from_nanos(last.0.saturating_sub(now.0));
    (ahead > far).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const YEAR: i64 = 365 * 86_400 * SECOND;

    #[test]
    fn the_majority_counts_and_not_the_node_itself() {
        use ClockAgreement::{With, Without};
        for (voters, clocks, expected) in [
            (1, &[0][..], Some(With)),
            (3, &[0, SECOND], Some(With)),
            (3, &[0, SECOND, -10 * YEAR], Some(With)), // another one is wrong
            (3, &[0, -10 * YEAR, -10 * YEAR + SECOND], Some(Without(-10 * YEAR + SECOND))),
            (3, &[0, 600 * SECOND, 601 * SECOND], Some(Without(601 * SECOND))),
            (3, &[0, -10 * YEAR], None), // who is right?
            (3, &[0, YEAR, -YEAR], None),
            (3, &[0], None),
            (2, &[0, YEAR], None),
            (0, &[0], None),                        // the members are not known yet
            (3, &[SECOND, 2 * SECOND], Some(With)), // as a learner sees it
            (5, &[0, SECOND, YEAR, YEAR, YEAR], Some(Without(YEAR))),
            (5, &[0, YEAR, YEAR], None), // three of five are known, two agree
            // Clocks that are spread agree in part; this one is among them.
            (5, &[-4 * SECOND, -2 * SECOND, 0, 4 * SECOND, 8 * SECOND], Some(With)),
        ] {
            assert_eq!(agreed(voters, clocks), expected, "{voters} {clocks:?}");
        }
    }

    #[test]
    fn a_clock_is_put_right_and_not_taken_while_the_others_are_awaited() {
        let wall = Timestamp(20 * YEAR as u64);
        assert_eq!(ClockAgreement::Awaited.put_right(wall), None);
        assert_eq!(ClockAgreement::Unknown.put_right(wall), Some(wall));
        let right = ClockAgreement::Without(-10 * YEAR).put_right(wall);
        assert_eq!(right, Some(Timestamp(10 * YEAR as u64)));
    }

    #[test]
    fn an_entry_may_be_a_year_ahead_of_the_clocks_and_of_the_record_before_it() {
        let gap = CLOCK_GAP_MAX.as_nanos() as u64;
        let (now, year) = (Timestamp(20 * YEAR as u64), YEAR as u64);
        let old = Timestamp(now.0 - 3 * year);
        assert_eq!(latest(ClockAgreement::With, now, old), Some(Timestamp(now.0 + gap)));
        let ahead = Timestamp(now.0 + 5 * year); // a clock was wrong once
        assert_eq!(latest(ClockAgreement::With, now, ahead), Some(Timestamp(ahead.0 + gap)));
        let right = ClockAgreement::Without(-2 * YEAR);
        assert_eq!(latest(right, now, old), Some(Timestamp(now.0 - 2 * year + gap)));
        for unknown in [ClockAgreement::Unknown, ClockAgreement::Awaited] {
            assert_eq!(latest(unknown, now, old), None, "nobody can say");
        }
        assert_eq!(
            latest(ClockAgreement::With, Timestamp(u64::MAX), old),
            Some(Timestamp(u64::MAX))
        );
    }

    #[test]
    fn a_log_that_is_ahead_of_the_majority_is_told() {
        let far = Duration::from_mins(1);
        let (wall, year) = (Timestamp(20 * YEAR as u64), Duration::from_nanos(YEAR as u64));
        let last = Timestamp(21 * YEAR as u64);
        assert_eq!(log_ahead(ClockAgreement::With, wall, last, far), Some(year));
        assert_eq!(log_ahead(ClockAgreement::Without(YEAR), wall, last, far), None);
        assert_eq!(log_ahead(ClockAgreement::Unknown, wall, last, far), None, "who knows");
        assert_eq!(log_ahead(ClockAgreement::With, wall, wall, far), None);
    }
}
