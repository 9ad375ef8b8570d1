//! Receive buffer: grows to the size of the arriving frame, and is reused.

use crate::frame::peek_bytes;

/// Smallest room for a read in bytes.
const READ_BYTES_MIN: usize = 64 << 10;

/// Bytes received and not yet consumed.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// Bytes received.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets everything, for a new connection.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Drops `bytes` at the start.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more consumed than received");
        if self.start == self.end {
            self.clear();
        }
    }

    /// Room for the next read: at least the rest of the arriving frame, whose length is limited.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let frame_bytes = peek_bytes(self.data()).ok().flatten().unwrap_or(0);
        let missing = frame_bytes.saturating_sub(self.end - self.start).max(READ_BYTES_MIN);
        if self.bytes.len() - self.end < missing {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() < self.end + missing {
                self.bytes.resize(self.end + missing, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// `bytes` of [`ReceiveBuffer::room`] have been filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
        assert!(self.end <= self.bytes.len(), "more filled than there was room");
    }
}
