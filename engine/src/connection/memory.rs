//! Looks after the memory that an executor's connections hold. Lives on that executor; not `Send`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use walengine_replication::budget::Budget;

use crate::limits::{GIVE_BACK_BYTES_MIN, GIVE_BACK_SHARE};
use crate::node_state::NodeState;

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
