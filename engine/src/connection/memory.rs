//! Looks after the memory that an executor's connections hold. Lives on that executor; not `Send`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use walengine_replication::budget::Budget;

use crate::limits::{
    CONNECTIONS_BYTES_MAX, CONNECTIONS_BYTES_MIN, FEED_SHARE_BYTES_MIN, GIVE_BACK_BYTES_MIN,
    GIVE_BACK_SHARE,
};
use crate::node_state::NodeState;

/// A partition's share of what the feed holds for all of them.
pub fn feed_share(bytes: usize, partitions: u16) -> usize {
    (bytes / usize::from(partitions.max(1))).max(FEED_SHARE_BYTES_MIN)
}

/// A shard's share of what all connections may hold.
pub fn connections_share(cores: usize) -> usize {
    (CONNECTIONS_BYTES_MAX / cores.max(1)).max(CONNECTIONS_BYTES_MIN)
}

/// See the module.
pub struct HeldMemory {
    budget: Budget,
    state: Arc<NodeState>,
    /// The most that was held since memory was given back.
    peak: usize,
}

impl HeldMemory {
    /// Of one executor.
    pub fn new(budget: Budget, state: Arc<NodeState>) -> Self {
        Self { budget, state, peak: 0 }
    }

    /// Has idle buffers freed. Once much less is held than before, the main thread gives what is free
    /// back to the system: the allocator keeps it otherwise. True if somebody found no room.
    pub fn look(&mut self) -> bool {
        self.peak = self.peak.max(self.budget.take_peak());
        if self.peak >= GIVE_BACK_BYTES_MIN && self.budget.used() <= self.peak / GIVE_BACK_SHARE {
            self.peak = 0;
            self.state.gives_back.store(true, Ordering::Relaxed);
        }
        self.budget.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FEED_RECENT_BYTES_MAX;

    #[test]
    fn shares_add_up_to_the_whole_until_they_are_too_small() {
        assert_eq!(connections_share(1), CONNECTIONS_BYTES_MAX);
        assert_eq!(connections_share(2) * 2, CONNECTIONS_BYTES_MAX);
        assert_eq!(connections_share(64), CONNECTIONS_BYTES_MIN);
        assert_eq!(feed_share(FEED_RECENT_BYTES_MAX, 4) * 4, FEED_RECENT_BYTES_MAX);
        assert_eq!(feed_share(FEED_RECENT_BYTES_MAX, 1024), FEED_SHARE_BYTES_MIN);
    }
}
