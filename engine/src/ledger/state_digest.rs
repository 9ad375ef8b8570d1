//! The digest of a state at a cut, made of its pieces while the ledger goes on.

use super::digest::{Digest, PENDING_BYTES};
use super::ids::{SLOT_BYTES, Slot};
use super::restore::{one_head, open_chunk};
use super::snapshot::Section;

/// [`Ledger::digest`] of a state at a cut, piece by piece while the ledger goes on.
#[derive(Default)]
pub struct StateDigester {
    chunks: usize,
    digest: Option<Digest>,
    /// Reservations that were open at the cut, in order of id once all are there. Their ids may have
    /// another state by the time that they are read.
    open: Vec<u128>,
    is_sorted: bool,
    is_complete: bool,
}

impl StateDigester {
    /// Takes the next chunk of a [`super::SnapshotCut`].
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn push(&mut self, chunk: &[u8]) {
        let own = "a chunk of this program's";
        let (section, items) = open_chunk(self.chunks, chunk).expect(own);
        if section == Section::Head {
            let head = one_head(self.chunks, items).expect(own);
            let (next_offset, last_timestamp) = (head.next_offset, head.last_timestamp);
            let digest = Digest::new(head.partition, head.partitions, next_offset, last_timestamp);
            self.digest = Some(digest);
        }
        let digest = self.digest.as_mut().expect("a head comes first");
        match section {
            Section::Head => {}
            Section::Accounts => drop(digest.accounts.update(items)),
            Section::Pendings => {
                for pending in items.chunks_exact(PENDING_BYTES) {
                    digest.pendings.add(pending);
                    let id = pending.first_chunk().expect("longer than an id");
                    self.open.push(u128::from_le_bytes(*id));
                }
            }
            Section::Ids => {
                if !std::mem::replace(&mut self.is_sorted, true) {
                    self.open.sort_unstable();
                }
                for bytes in items.as_chunks::<SLOT_BYTES>().0 {
                    let slot = Slot::from_bytes(bytes).expect(own);
                    digest.ids.add(&slot.as_at_cut(&self.open).to_bytes());
                }
            }
            Section::End => self.is_complete = true,
        }
        self.chunks += 1;
    }

    /// The digest; `None` if chunks are missing.
    pub fn finish(self) -> Option<[u8; 32]> {
        self.digest.filter(|_| self.is_complete).map(Digest::finish)
    }
}
