//! How many datagrams gossip has dropped, for the shards to tell. Written by the control thread.

use std::sync::atomic::{AtomicU64, Ordering};

use walengine_replication::gossip::Counters;

/// By reason, in the order of [`Counters::dropped`].
#[derive(Debug, Default)]
pub struct Dropped([AtomicU64; REASONS]);

const REASONS: usize = 14;

impl Dropped {
    /// As gossip counts now.
    pub fn set(&self, counters: &Counters) {
        for (place, (_, count)) in self.0.iter().zip(counters.dropped()) {
            place.store(count, Ordering::Relaxed);
        }
    }

    /// Each reason with its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = Counters::default().dropped();
        (0..REASONS).map(move |at| (reasons[at].0, self.0[at].load(Ordering::Relaxed)))
    }
}
