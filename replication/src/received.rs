//! What a connection has received and nobody has acted on yet: one buffer, read into and consumed
//! from the front.

use std::io;

use futures_lite::{AsyncRead, AsyncReadExt};

/// Buffer that a connection starts with and keeps while it is idle.
pub const RECEIVE_BYTES_MIN: usize = 4 << 10;
/// Buffer above which an idle connection gives memory back.
pub const RECEIVE_BYTES_KEPT: usize = 64 << 10;

/// See the module.
#[derive(Default)]
pub struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Received {
    /// Bytes that were received elsewhere.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), bytes }
    }

    /// What is there.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes what is there out.
    pub fn into_filled(self) -> Vec<u8> {
        self.filled().to_vec()
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > RECEIVE_BYTES_KEPT && bytes <= RECEIVE_BYTES_KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    /// Reads once, with place for at least `wanted` bytes in all. 0 at the end of the stream.
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
