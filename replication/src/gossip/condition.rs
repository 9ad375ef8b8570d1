//! How a node's disk, memory and clock are, which it tells the others of its cluster about once a second.
//! Layout: GOSSIP.md, section 4. Not spread further: it is soon old.

use std::time::Duration;

use walengine_net::model::Timestamp;

use super::bytes::Reader;

/// What a node tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so beside the others")]
pub struct OwnCondition {
    /// Its data directory has no room for writes.
    pub is_full: bool,
    /// A write to its disk has not come back for seconds.
    pub is_stuck: bool,
    /// Writes to its disk take unusually long.
    pub is_slow: bool,
    /// It has nearly used up its memory.
    pub is_short_of_memory: bool,
    /// Its wall clock.
    pub clock: Timestamp,
}

/// The condition of a node as another node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so beside the others")]
pub struct NodeCondition {
    /// Its data directory has no room for writes.
    pub is_full: bool,
    /// A write to its disk has not come back for seconds.
    pub is_stuck: bool,
    /// Writes to its disk take unusually long.
    pub is_slow: bool,
    /// It has nearly used up its memory.
    pub is_short_of_memory: bool,
    /// How far its wall clock is ahead of this node's, in nanoseconds; negative if it is behind. The
    /// time that the datagram took counts against it.
    pub clock_ahead_nanos: i64,
}

/// A clock that moved less against this node's is no news.
const CLOCK_NEWS_NANOS: u64 = 250_000_000;

impl NodeCondition {
    /// It takes writes, and in good time.
    pub fn is_fit(&self) -> bool {
        !self.is_full && !self.is_stuck && !self.is_slow && !self.is_short_of_memory
    }

    pub(super) fn differs(&self, known: &Self) -> bool {
        let fit = |one: &Self| (one.is_full, one.is_stuck, one.is_slow, one.is_short_of_memory);
        let moved = self.clock_ahead_nanos.abs_diff(known.clock_ahead_nanos);
        fit(self) != fit(known) || moved > CLOCK_NEWS_NANOS
    }
}

impl OwnCondition {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.clock.0.to_le_bytes().to_vec();
        let flags = [self.is_full, self.is_stuck, self.is_slow, self.is_short_of_memory];
        let flags = flags.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum();
        bytes.push(flags);
        bytes
    }

    /// `None` if the bytes are too few. Later versions may say more.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (clock, flags) = (Timestamp(reader.u64()?), reader.u8()?);
        let is = |bit: u8| flags >> bit & 1 == 1;
        let is_short_of_memory = is(3);
        Some(Self { is_full: is(0), is_stuck: is(1), is_slow: is(2), is_short_of_memory, clock })
    }

    /// As a node sees it whose own clock showed `own` at `own_at`, and that heard it at `now`.
    pub fn seen(&self, own: Timestamp, own_at: Duration, now: Duration) -> NodeCondition {
        let since = u64::try_from(now.saturating_sub(own_at).as_nanos()).unwrap_or(u64::MAX);
        let here = i128::from(own.0) + i128::from(since);
        let ahead = i128::from(self.clock.0) - here;
        let Self { is_full, is_stuck, is_slow, is_short_of_memory, .. } = *self;
        let clock_ahead_nanos = ahead.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        NodeCondition { is_full, is_stuck, is_slow, is_short_of_memory, clock_ahead_nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_less_is_refused() {
        for flags in 0..16_u8 {
            let is = |bit: u8| flags >> bit & 1 == 1;
            let own = OwnCondition {
                is_full: is(0),
                is_stuck: is(1),
                is_slow: is(2),
                is_short_of_memory: is(3),
                clock: Timestamp(u64::MAX - u64::from(flags)),
            };
            let mut bytes = own.encode();
            assert_eq!(OwnCondition::decode(&bytes), Some(own));
            assert_eq!(OwnCondition::decode(&bytes[..8]), None);
            bytes.extend_from_slice(b"more");
            assert_eq!(OwnCondition::decode(&bytes), Some(own), "later versions say more");
        }
    }

    #[test]
    fn clocks_are_compared_at_the_same_moment() {
        let second = Duration::from_secs(1);
        let told = OwnCondition { clock: Timestamp(9_000_000_000), ..OwnCondition::default() };
        let seen = told.seen(Timestamp(5_000_000_000), second, 3 * second);
        assert_eq!(seen.clock_ahead_nanos, 2_000_000_000);
        let seen = told.seen(Timestamp(u64::MAX), second, second);
        assert_eq!(seen.clock_ahead_nanos, i64::MIN, "as far as can be said");
    }
}
