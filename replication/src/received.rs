//! The bytes that a connection has received and not consumed yet: one buffer, filled at the back
//! and consumed from the front.

use std::io;

use futures_lite::{AsyncRead, AsyncReadExt};

/// Size of the buffer of a new or idle connection.
pub const RECEIVE_BYTES_MIN: usize = 4 << 10;
/// An idle connection frees a buffer above this size.
pub const RECEIVE_BYTES_KEPT: usize = 64 << 10;

/// See the module.
#[derive(Default)]
pub struct Received {
    bytes: Vec<u8>,
    /// Invariant: `start <= end <= bytes.len()`.
    start: usize,
    end: usize,
}

impl Received {
    /// A buffer that holds bytes which were received elsewhere.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), bytes }
    }

    /// The bytes that are there.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The bytes that are there, as a vector.
    pub fn into_filled(self) -> Vec<u8> {
        self.filled().to_vec()
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "{bytes} bytes of {}", self.end - self.start);
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > RECEIVE_BYTES_KEPT && bytes <= RECEIVE_BYTES_KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    /// Reads once, into a buffer of at least `wanted` bytes in total. 0 at the end of the stream.
    pub async fn fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        wanted: usize,
    ) -> io::Result<usize> {
        if self.bytes.len() - self.start < wanted.max(RECEIVE_BYTES_MIN) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() < wanted.max(RECEIVE_BYTES_MIN) {
                self.bytes.resize(wanted.max(RECEIVE_BYTES_MIN).next_power_of_two(), 0);
            }
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = stream.read(&mut self.bytes[self.end..]).await?;
        self.end += read;
        Ok(read)
    }
}
