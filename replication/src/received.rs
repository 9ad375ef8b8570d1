//! The bytes that a connection has received and not consumed yet: one buffer, filled at the back
//! and consumed from the front.
//!
//! What a header announces costs nothing: the buffer grows with the bytes that have come, four times
//! as large at each step. What it has above [`RECEIVE_BYTES_MIN`] counts against a [`Budget`].

use std::io;

use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncReadExt};

use crate::budget::{Budget, Held};

/// Size of the buffer of a new or idle connection.
pub const RECEIVE_BYTES_MIN: usize = 4 << 10;
/// A buffer up to this size is kept from one small frame to the next.
pub const RECEIVE_BYTES_KEPT: usize = 64 << 10;
/// A buffer grows to this size step by step, and then at once to what is wanted: so what waits for
/// room holds little, and what holds much needs no more.
const STEP_BYTES_MAX: usize = 16 << 10;
/// How much larger a step is than the one before.
const STEP_FACTOR: usize = 4;

/// See the module.
pub struct Received {
    bytes: Vec<u8>,
    /// Invariant: `start <= end <= bytes.len()`.
    start: usize,
    end: usize,
    budget: Budget,
    /// Invariant: what `bytes` has above [`RECEIVE_BYTES_MIN`].
    held: Held,
}

impl Default for Received {
    /// An empty buffer without a limit of its own.
    fn default() -> Self {
        Self::new(&Budget::default())
    }
}

impl Received {
    /// An empty buffer, within a budget.
    pub fn new(budget: &Budget) -> Self {
        Self::from_bytes(Vec::new(), budget)
    }

    /// A buffer that holds bytes which were received elsewhere.
    pub fn from_bytes(bytes: Vec<u8>, budget: &Budget) -> Self {
        let mut held = budget.hold();
        held.set(bytes.len().saturating_sub(RECEIVE_BYTES_MIN));
        Self { start: 0, end: bytes.len(), bytes, budget: budget.clone(), held }
    }

    /// The bytes that are there.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The bytes that are there, as a vector.
    pub fn into_filled(self) -> Vec<u8> {
        self.filled().to_vec()
    }

    /// What it counts against.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Its memory counts against the budget.
    pub fn holds_much(&self) -> bool {
        self.held.bytes() > 0
    }

    /// Drops bytes from the front.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "{bytes} bytes of {}", self.end - self.start);
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > RECEIVE_BYTES_KEPT && bytes <= RECEIVE_BYTES_KEPT {
                self.release();
            }
        }
    }

    /// Completes when there is room for more bytes of a frame of `wanted` bytes in total: at once for
    /// a small one, otherwise when the budget has it.
    pub async fn room(&mut self, wanted: usize) {
        let size = self.size_for(wanted);
        if size > self.bytes.len() {
            self.held.grow(size.saturating_sub(RECEIVE_BYTES_MIN)).await;
            self.resize(size);
        }
    }

    /// As [`Self::room`], for bytes that are not urgent. False if there is none left over for them.
    pub fn spare_room(&mut self, wanted: usize) -> bool {
        let size = self.size_for(wanted);
        if size <= self.bytes.len() {
            return self.end < self.bytes.len();
        }
        let fits = self.held.grow_if_plenty(size.saturating_sub(RECEIVE_BYTES_MIN));
        if fits {
            self.resize(size);
        }
        fits
    }

    fn resize(&mut self, size: usize) {
        self.bytes.reserve_exact(size - self.bytes.len());
        self.bytes.resize(size, 0);
    }

    /// Reads once. The buffer takes at least [`RECEIVE_BYTES_MIN`], and what [`Self::room`] has made.
    /// 0 at the end of the stream.
    pub async fn read<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        loop {
            if self.end - self.start == self.bytes.len() {
                // New, or handed over full: a little more is always there.
                self.bytes.resize(self.bytes.len() + RECEIVE_BYTES_MIN, 0);
                self.held.set(self.bytes.len() - RECEIVE_BYTES_MIN);
            }
            if self.end == self.bytes.len() || self.bytes.len() - self.start < RECEIVE_BYTES_MIN {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let is_idle_and_large = self.end == 0 && self.bytes.len() > RECEIVE_BYTES_MIN;
            let reading = stream.read(&mut self.bytes[self.end..]);
            let read = if is_idle_and_large {
                let reclaimed = async {
                    self.budget.reclaim().await;
                    None
                };
                or(async { Some(reading.await) }, reclaimed).await
            } else {
                Some(reading.await)
            };
            match read {
                Some(read) => {
                    let read = read?;
                    self.end += read;
                    return Ok(read);
                }
                None => self.release(),
            }
        }
    }

    /// As [`Self::room`] and [`Self::read`].
    pub async fn fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        wanted: usize,
    ) -> io::Result<usize> {
        self.room(wanted).await;
        self.read(stream).await
    }

    /// The next size of a buffer for a frame of `wanted` bytes, of which some are there.
    fn size_for(&mut self, wanted: usize) -> usize {
        let filled = self.end - self.start;
        let is_full = self.bytes.len() - self.start < wanted.max(RECEIVE_BYTES_MIN);
        if !is_full {
            return self.bytes.len();
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, filled);
        if filled < self.bytes.len() || self.bytes.len() >= wanted {
            return self.bytes.len().max(RECEIVE_BYTES_MIN);
        }
        let step = self.bytes.len() * STEP_FACTOR;
        let whole = wanted.next_multiple_of(RECEIVE_BYTES_MIN);
        let size = if step > STEP_BYTES_MAX { whole } else { step };
        size.max(RECEIVE_BYTES_MIN)
    }

    fn release(&mut self) {
        self.bytes = Vec::new();
        self.held.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use futures_lite::io::Cursor;

    /// Feeds a frame of `wanted` bytes in pieces; gives the size of the buffer after each.
    fn sizes(wanted: usize, pieces: &[usize]) -> Vec<usize> {
        let budget = Budget::new(4 << 20);
        let mut received = Received::new(&budget);
        let mut sizes = Vec::new();
        for &piece in pieces {
            let mut stream = Cursor::new(vec![7; piece]);
            let mut left = piece;
            while left > 0 {
                left -= block_on(received.fill(&mut stream, wanted)).unwrap();
            }
            sizes.push(received.bytes.len());
        }
        assert_eq!(received.filled().len(), pieces.iter().sum::<usize>());
        sizes
    }

    #[test]
    fn the_buffer_grows_with_what_has_come_and_not_with_what_is_announced() {
        let announced = (1 << 20) + 32;
        assert_eq!(sizes(announced, &[32, 4000]), [4 << 10, 4 << 10]);
        assert_eq!(sizes(announced, &[5000]), [16 << 10]);
        assert_eq!(sizes(announced, &[20_000, 1_000_000]), [(1 << 20) + 4096, (1 << 20) + 4096]);
        assert_eq!(sizes(6000, &[5000, 1000]), [16 << 10, 16 << 10]);
    }

    #[test]
    fn a_buffer_that_was_handed_over_full_takes_more() {
        let mut received = Received::from_bytes(vec![1; 7], &Budget::default());
        let mut stream = Cursor::new(vec![2; 5]);
        assert_eq!(block_on(received.read(&mut stream)).unwrap(), 5);
        assert_eq!(received.filled(), [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn what_a_frame_needs_is_counted_and_given_back_when_the_connection_falls_idle() {
        let budget = Budget::new(4 << 20);
        let mut received = Received::new(&budget);
        let frame = 300_000;
        let mut stream = Cursor::new(vec![7; frame]);
        while received.filled().len() < frame {
            block_on(received.fill(&mut stream, frame)).unwrap();
        }
        let whole = frame.next_multiple_of(RECEIVE_BYTES_MIN);
        assert_eq!(budget.used(), whole - RECEIVE_BYTES_MIN);
        received.consume(frame);
        assert!(budget.used() > 0, "the next frame may be as large");
        let idle = async {
            let waits = async {
                let mut silent = Silent;
                received.fill(&mut silent, 0).await.unwrap();
            };
            let looks = async {
                futures_lite::future::yield_now().await;
                budget.look();
                futures_lite::future::yield_now().await;
            };
            or(waits, looks).await;
        };
        block_on(idle);
        assert_eq!(budget.used(), 0);
        drop(received);
        assert_eq!(budget.used(), 0);
    }

    /// A stream that never has anything.
    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Pending
        }
    }
}
