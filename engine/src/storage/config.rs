//! How a log works: its identity, and the sizes that bound it.

use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId};

use super::ids::Ids;
use super::layout;
use super::limits::{
    BACKLOG_BYTES_MAX, FLUSH_BYTES_MAX, FLUSH_INFLIGHT_MAX, MARKS_MAX, OPEN_SEGMENTS_MAX,
    ZERO_AHEAD_FLUSH_BYTES_MAX,
};

/// Default length of a segment in bytes.
pub const SEGMENT_BYTES: u64 = 128 << 20;
/// Default distance that zeros are written ahead of the entries, in bytes.
pub const ZERO_AHEAD_BYTES: u64 = 8 << 20;
/// Default size of one write of zeros in bytes: small enough not to delay the flush behind it.
pub const ZERO_CHUNK_BYTES: usize = 256 << 10;
/// Default number of segments kept ready behind the last one. They are zeroed while there is time,
/// so that bursts of their length run at the speed of overwriting.
pub const PREPARED_SEGMENTS: usize = 3;
/// Pause between two pieces of zeros while flushes are in flight: zeroing takes at most
/// `ZERO_CHUNK_BYTES` in this time from them.
pub const ZERO_PAUSE: Duration = Duration::from_millis(1);

/// What the votes in a log's hard state must say before the log is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Votes {
    /// Nothing: whoever appends keeps no votes there.
    #[default]
    Any,
    /// A term is saved before the first entry of it is appended. So a hard state that knows only older
    /// terms than the log is of an older moment.
    Saved,
    /// As [`Self::Saved`], and none may be lost: other nodes count on what this one has promised.
    Promised,
}

/// How a log works. Bytes on disk depend on `ids` and `segment_bytes` only.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Whose log it is.
    pub ids: Ids,
    /// Length of a segment in bytes, whole blocks; as in the superblock.
    pub segment_bytes: u64,
    /// Create the partition if its directory is new.
    pub create: bool,
    /// What its hard state must say.
    pub votes: Votes,
    /// Most flushes in flight.
    pub flush_inflight_max: usize,
    /// Each entry begins on a block of its own. Then a truncation, as Raft asks for, never writes a
    /// block again that holds an entry which stays; small entries take more room.
    pub entries_on_blocks: bool,
    /// Size past which a flush takes no further entry, in bytes.
    pub flush_bytes_max: usize,
    /// Most bytes that wait to be written.
    pub backlog_bytes_max: usize,
    /// Distance that zeros are written ahead of the entries, in bytes.
    pub zero_ahead_bytes: u64,
    /// Size of one write of zeros in bytes, whole blocks.
    pub zero_chunk_bytes: usize,
    /// Largest flush, on the average, that zeros are written ahead of, in bytes.
    pub zero_ahead_flush_bytes_max: usize,
    /// Segments kept ready behind the last one; at least 1. Each has its first `zero_ahead_bytes`
    /// zero-written before it is used.
    pub prepared_segments: usize,
    /// Segments found at open count as zeroed to their end, as the preparer leaves them unless it is in
    /// a hurry. If they are not, flushes are slower; `false` writes their zeros once more.
    pub recovered_are_zeroed: bool,
    /// Most sealed segments that are kept open.
    pub open_segments_max: usize,
    /// Most marks of sealed segments that are kept in memory; those of one are kept in any case.
    pub marks_max: usize,
}

impl LogConfig {
    /// The defaults.
    pub fn new(cluster: ClusterId, partition: PartitionId) -> Self {
        Self {
            ids: Ids { cluster, partition },
            segment_bytes: SEGMENT_BYTES,
            create: false,
            votes: Votes::Any,
            flush_inflight_max: FLUSH_INFLIGHT_MAX,
            entries_on_blocks: false,
            flush_bytes_max: FLUSH_BYTES_MAX,
            backlog_bytes_max: BACKLOG_BYTES_MAX,
            zero_ahead_bytes: ZERO_AHEAD_BYTES,
            zero_chunk_bytes: ZERO_CHUNK_BYTES,
            zero_ahead_flush_bytes_max: ZERO_AHEAD_FLUSH_BYTES_MAX,
            prepared_segments: PREPARED_SEGMENTS,
            recovered_are_zeroed: true,
            open_segments_max: OPEN_SEGMENTS_MAX,
            marks_max: MARKS_MAX,
        }
    }

    /// Where an entry begins that is written behind `position`.
    pub(super) fn entry_start(&self, position: u64) -> u64 {
        if self.entries_on_blocks { layout::block_up(position) } else { layout::entry_up(position) }
    }
}
