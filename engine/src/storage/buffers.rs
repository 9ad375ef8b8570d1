//! Entries on their way to disk: staged, then in a flush, each in one buffer.

use std::rc::Rc;
use std::time::Duration;

use super::disk::{BLOCK_BYTES, Disk};

/// Smaller buffers are not worth keeping: the allocator gives them back warm.
const POOLED_BYTES_MIN: usize = 64 << 10;

/// An entry in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    pub at: usize,
    pub bytes: usize,
}

/// Entries that gather for the next flush.
pub(super) struct Staged<D: Disk> {
    pub buffer: D::Buffer,
    /// Bytes in use; what is behind them in the buffer is unspecified.
    pub used: usize,
    /// Where the buffer will stand in the last segment.
    pub position: u64,
    pub first_index: u64,
    pub entries: Vec<Slice>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Writing,
    Done,
}

/// Entries that are written together. The buffer stays as it is until they are durable.
pub(super) struct Flush<D: Disk> {
    pub buffer: Rc<D::Buffer>,
    pub first_index: u64,
    pub entries: Vec<Slice>,
    pub progress: Progress,
    pub file: Rc<D::File>,
    pub sequence: u64,
    pub position: u64,
    /// When its write began.
    pub began: Duration,
}

/// Buffers between two uses.
pub(super) struct BufferPool<D: Disk> {
    free: Vec<D::Buffer>,
    buffers_max: usize,
}

impl<D: Disk> BufferPool<D> {
    pub fn new(buffers_max: usize) -> Self {
        Self { free: Vec::new(), buffers_max }
    }

    /// A buffer of at least `bytes`: the smallest there that is at most twice as large, or a new one
    /// of a power of two.
    pub fn take(&mut self, disk: &D, bytes: usize) -> D::Buffer {
        let bytes = bytes.max(BLOCK_BYTES);
        let sizes = self.free.iter().map(|buffer| buffer.as_ref().len()).enumerate();
        let fits = sizes.filter(|&(_, size)| size >= bytes && size / 2 <= bytes);
        match fits.min_by_key(|&(_, size)| size) {
            Some((number, _)) => self.free.swap_remove(number),
            None => disk.buffer(bytes.next_power_of_two()),
        }
    }

    /// Bytes of those that are free.
    pub fn bytes(&self) -> usize {
        self.free.iter().map(|buffer| buffer.as_ref().len()).sum()
    }

    pub fn give(&mut self, buffer: D::Buffer) {
        if buffer.as_ref().len() < POOLED_BYTES_MIN || self.buffers_max == 0 {
            return;
        }
        if self.free.len() == self.buffers_max {
            self.free.remove(0); // the longest unused: sizes follow the load
        }
        self.free.push(buffer);
    }
}
