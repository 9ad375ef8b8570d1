//! The digest of a state at a cut, made of its pieces while the ledger goes on.

use super::digest::Digest;
use super::inbound::ACROSS_ITEM_BYTES;
use super::names::{LEDGER_ITEM_BYTES, NAME_ITEM_BYTES};
use super::pendings::{PENDING_ITEM_BYTES, digested};
use super::restore::{one_head, open_chunk};
use super::snapshot::Section;

/// [`Ledger::digest`] of a state at a cut, piece by piece while the ledger goes on.
#[derive(Default)]
pub struct StateDigester {
    chunks: usize,
    digest: Option<Digest>,
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
            let head = one_head(self.chunks, &items).expect(own);
            let (next_offset, last_timestamp) = (head.next_offset, head.last_timestamp);
            let mut digest =
                Digest::new(head.partition, head.partitions, next_offset, last_timestamp);
            digest.ids = head.ids;
            self.digest = Some(digest);
        }
        let digest = self.digest.as_mut().expect("a head comes first");
        match section {
            // The head has the digest of all ids.
            Section::Head | Section::Runs | Section::Ids => {}
            Section::Accounts => drop(digest.accounts.update(&items)),
            Section::Pendings => {
                for pending in items.chunks_exact(PENDING_ITEM_BYTES) {
                    digest.pendings.add(digested(pending));
                }
            }
            Section::Across => {
                for item in items.chunks_exact(ACROSS_ITEM_BYTES) {
                    digest.across.add(item);
                }
            }
            Section::Names => {
                for item in items.chunks_exact(NAME_ITEM_BYTES) {
                    digest.add_name(item);
                }
            }
            Section::Ledgers => {
                for item in items.chunks_exact(LEDGER_ITEM_BYTES) {
                    digest.names.add(item);
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
