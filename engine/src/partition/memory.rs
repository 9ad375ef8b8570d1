//! What a partition's memory goes to.

use super::Partition;
use super::commit::Commit;
use crate::memory_parts::{Part, Parts};

impl<C: Commit> Partition<C> {
    /// Adds what is this partition's.
    pub fn add_memory(&self, parts: &mut Parts) {
        self.with_ledger(|ledger| {
            parts.add(Part::Accounts, ledger.accounts_bytes());
            parts.add(Part::Names, ledger.names_bytes());
            parts.add(Part::Reservations, ledger.reservations_bytes());
            let (recent_bytes, filter_bytes) = ledger.ids_memory();
            parts.add(Part::RecentIds, recent_bytes);
            parts.add(Part::IdsFilter, filter_bytes);
        });
        parts.add(Part::Reservations, self.inner.prepared.borrow().bytes());
        parts.add(Part::IdsFences, self.runs().fence_bytes());
        parts.add(Part::NewestEntries, self.inner.commit.newest_bytes() as u64);
        parts.add(Part::WriteBuffers, self.log().buffer_bytes() as u64);
    }
}
