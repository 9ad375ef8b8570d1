//! What a partition has decided and not sealed into an entry yet.

use walengine_net::entry::{EntryKind, IMPORT_MARK};
use walengine_net::model::{Offset, Timestamp};

use crate::ledger::{Draft, RecordsDraft};
use crate::limits::DRAFT_BYTES_MAX;

/// The entry-to-be. At most one of the two drafts has records.
#[derive(Default)]
pub struct Drafts {
    /// Decided events.
    pub events: Draft,
    /// Decided opaque records.
    pub records: RecordsDraft,
    /// They are an entry that was imported: nothing is added to it.
    pub is_imported: bool,
    /// It is not the import's last: its body will say so.
    pub is_amid_import: bool,
}

/// What an entry says about the records in it.
#[derive(Clone, Copy, Debug)]
pub struct DraftHead {
    /// Events or records.
    pub kind: EntryKind,
    /// Offset of the first.
    pub base_offset: Offset,
    /// Log time of the first.
    pub timestamp: Timestamp,
    /// Log time of the record before the first.
    pub previous_timestamp: Timestamp,
    /// How many.
    pub records: u32,
    /// It was imported, and more is to come.
    pub is_amid_import: bool,
}

impl DraftHead {
    /// First offset behind it.
    pub fn end(&self) -> Offset {
        self.base_offset.plus(u64::from(self.records))
    }
}

impl Drafts {
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.records.is_empty()
    }

    /// Bytes of its body, about.
    pub fn body_bytes(&self) -> usize {
        self.events.body_bytes() + self.records.body_bytes()
    }

    /// More of this kind, of `bytes`, may go into the same entry.
    pub fn takes(&self, kind: EntryKind, bytes: usize) -> bool {
        let same_kind = match kind {
            EntryKind::Events => self.records.is_empty(),
            _ => self.events.is_empty(),
        };
        self.is_empty()
            || !self.is_imported && same_kind && self.body_bytes() + bytes <= DRAFT_BYTES_MAX
    }

    /// What its entry will say; `None` if it is empty.
    pub fn head(&self) -> Option<DraftHead> {
        macro_rules! head {
            ($kind:ident, $draft:expr) => {
                DraftHead {
                    kind: EntryKind::$kind,
                    base_offset: $draft.base_offset,
                    timestamp: $draft.timestamp,
                    previous_timestamp: $draft.previous_timestamp,
                    records: $draft.len() as u32, // bounded by `DRAFT_BYTES_MAX`
                    is_amid_import: self.is_amid_import,
                }
            };
        }
        if !self.events.is_empty() {
            Some(head!(Events, self.events))
        } else if !self.records.is_empty() {
            Some(head!(Records, self.records))
        } else {
            None
        }
    }

    /// Empties it; the memory stays.
    pub fn clear(&mut self) {
        self.events.clear();
        self.records.clear();
        (self.is_imported, self.is_amid_import) = (false, false);
    }

    /// Encodes its body into reused memory.
    pub fn encode(&self, mut memory: rkyv::util::AlignedVec) -> rkyv::util::AlignedVec {
        memory.clear();
        if self.is_amid_import {
            memory.extend_from_slice(&IMPORT_MARK);
        }
        if self.records.is_empty() {
            encode(&self.events.body, memory)
        } else {
            encode(&self.records.body, memory)
        }
    }
}

fn encode<B>(body: &B, memory: rkyv::util::AlignedVec) -> rkyv::util::AlignedVec
where
    B: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rkyv::rancor::Error,
            >,
        >,
{
    rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(body, memory)
        .expect("a body of plain lists, below the size limit, always encodes")
}
