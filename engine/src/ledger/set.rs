//! A digest of a set that changes one item at a time.

use xxhash_rust::xxh3::xxh3_128;

/// A sum of hashes, which does not depend on the order, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub sum: u128,
    pub count: u64,
}

impl Set {
    pub(super) fn add(&mut self, item: &[u8]) {
        self.sum = self.sum.wrapping_add(xxh3_128(item));
        self.count += 1;
    }

    /// Takes back what was added.
    pub(super) fn remove(&mut self, item: &[u8]) {
        self.sum = self.sum.wrapping_sub(xxh3_128(item));
        self.count -= 1;
    }
}
