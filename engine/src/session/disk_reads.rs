//! Reads of entries from disk, a few at a time and first come, first served: what reads much takes a
//! turn for each entry, and delays no other for long. Lives on a shard's core; not `Send`.

use walengine_replication::budget::{Budget, Held};

use crate::shares::disk_reads_share;

/// How many reads of entries may be under way.
#[derive(Clone)]
pub struct DiskReads(Budget);

impl DiskReads {
    /// Of one of so many shards.
    pub fn new(cores: usize) -> Self {
        Self(Budget::new(disk_reads_share(cores)))
    }

    /// Waits for its turn, which lasts until what is returned is dropped.
    pub async fn turn(&self) -> Held {
        self.0.take(1).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::limits::DISK_READS_MAX;

    #[test]
    fn a_few_read_at_a_time_and_the_next_when_one_is_done() {
        let reads = DiskReads::new(1);
        let mut turns: Vec<_> = (0..DISK_READS_MAX).map(|_| block_on(reads.turn())).collect();
        let mut next = pin!(reads.turn());
        assert!(block_on(poll_once(&mut next)).is_none());
        turns.pop();
        assert!(block_on(poll_once(&mut next)).is_some());
    }
}
