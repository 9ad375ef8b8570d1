//! Whether there is room for what a restore writes, before it writes.

use std::path::Path;

use walengine_net::entry::HEADER_BYTES;

use crate::data_dir::RESTORING;
use crate::fatal::{Fatal, Reason};
use crate::preflight::free_bytes;
use crate::storage::layout::{BLOCK, BLOCK_BYTES};

/// What a partition's log takes on disk at least: its entries in whole segments, each with a header, and
/// a prepared segment behind them.
pub struct LogRoom {
    segment_bytes: u64,
    /// Entries begin at multiples of this.
    aligned_to: usize,
    segments: u64,
    used_bytes: u64,
}

impl LogRoom {
    /// An empty log. `on_blocks`: of a cluster's node, where each entry begins a block.
    pub fn new(segment_bytes: u64, on_blocks: bool) -> Self {
        let aligned_to = if on_blocks { BLOCK_BYTES } else { 8 };
        Self { segment_bytes, aligned_to, segments: 1, used_bytes: BLOCK }
    }

    /// With another entry, whose body has so many bytes.
    pub fn add(&mut self, body_bytes: usize) {
        let entry_bytes = (HEADER_BYTES + body_bytes).next_multiple_of(self.aligned_to) as u64;
        if self.used_bytes + entry_bytes > self.segment_bytes {
            (self.segments, self.used_bytes) = (self.segments + 1, BLOCK);
        }
        self.used_bytes += entry_bytes;
    }

    /// In bytes.
    pub fn bytes(&self) -> u64 {
        (self.segments + 1) * self.segment_bytes
    }
}

/// Makes sure that `needed` bytes are free where `data` is, or is to be. What an interrupted restore has
/// left there will be removed first, and counts as room.
///
/// # Errors
/// `File`, with how much is needed and how much is free.
pub fn require_room(data: &Path, needed: u64) -> Result<(), Fatal> {
    let there = data.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    let Ok(free) = free_bytes(there) else { return Ok(()) }; // writing will tell
    if free >= needed || data.join(RESTORING).exists() {
        return Ok(());
    }
    let message = format!(
        "{} MiB at least are needed for {} and {} MiB are free there: make room, name a directory on \
         another disk, or lower --segment-mib. Nothing was changed",
        needed.div_ceil(1 << 20),
        data.display(),
        free >> 20
    );
    Err(Fatal::new(Reason::File, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 8 << 20;

    fn takes(on_blocks: bool, bodies: impl Iterator<Item = usize>) -> u64 {
        let mut room = LogRoom::new(SEGMENT, on_blocks);
        bodies.for_each(|body| room.add(body));
        room.bytes() / SEGMENT
    }

    #[test]
    fn a_log_takes_whole_segments_and_one_more() {
        let full = SEGMENT as usize / BLOCK_BYTES - 1; // a block is the header's
        assert_eq!(takes(true, [].into_iter()), 2);
        assert_eq!(takes(true, std::iter::repeat_n(1, full)), 2);
        assert_eq!(takes(true, std::iter::repeat_n(1, full + 1)), 3);
        assert_eq!(takes(false, std::iter::repeat_n(1, full + 1)), 2, "they share blocks");
        assert_eq!(takes(false, [1 << 20; 8].into_iter()), 3);
    }

    #[test]
    fn want_of_room_is_told_with_numbers() {
        let dir = std::env::temp_dir().join("not/there/yet");
        assert!(require_room(&dir, 1 << 20).is_ok());
        let fatal = require_room(&dir, u64::MAX).unwrap_err();
        assert!(fatal.message.contains("MiB at least are needed for"), "{fatal}");
        assert!(fatal.message.contains("MiB are free there"), "{fatal}");
        assert_eq!(fatal.reason, Reason::File);
    }
}
