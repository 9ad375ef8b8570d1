//! Sparse index of a segment: where to start looking. Nothing depends on it but speed: what is found at a
//! mark is compared with it.

use walengine_net::entry::EntryHeader;
use walengine_net::model::Offset;

/// At most one mark in this many bytes of a segment.
pub(super) const MARK_EVERY_BYTES: u64 = 64 << 10;

/// Where one entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub index: u64,
    pub offset: Offset,
    pub position: u64,
}

/// Marks of one segment, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    list: Vec<Mark>,
    /// They come from a file, and what stands in the segment may contradict them.
    pub is_hearsay: bool,
}

impl Marks {
    /// What a file says, in which they [`are_in_order`](Self::are_in_order).
    pub fn from_file(list: Vec<Mark>) -> Self {
        Self { list, is_hearsay: true }
    }

    /// Marks of one segment are in order of index, offset and position.
    pub fn are_in_order(list: &[Mark]) -> bool {
        list.windows(2).all(|two| {
            two[0].index < two[1].index
                && two[0].offset <= two[1].offset
                && two[0].position < two[1].position
        })
    }

    /// All of them.
    pub fn list(&self) -> &[Mark] {
        &self.list
    }

    /// Adds a mark for the next entry if the last mark is far enough away.
    pub fn note(&mut self, header: &EntryHeader, position: u64) {
        if self.list.last().is_none_or(|last| position - last.position >= MARK_EVERY_BYTES) {
            let (index, offset) = (header.meta.index, header.meta.base_offset);
            self.list.push(Mark { index, offset, position });
        }
    }

    /// Last mark at or before this index.
    pub fn at_index(&self, index: u64) -> Option<Mark> {
        let behind = self.list.partition_point(|mark| mark.index <= index);
        self.list[..behind].last().copied()
    }

    /// Last mark at or before this record.
    pub fn at_offset(&self, offset: Offset) -> Option<Mark> {
        let behind = self.list.partition_point(|mark| mark.offset <= offset);
        self.list[..behind].last().copied()
    }

    /// The mark that [`Self::at_offset`] gives, and the one behind it.
    pub fn around(&self, offset: Offset) -> (Option<Mark>, Option<Mark>) {
        let behind = self.list.partition_point(|mark| mark.offset <= offset);
        (self.list[..behind].last().copied(), self.list.get(behind).copied())
    }

    /// Forgets the entries behind this index.
    pub fn cut_after(&mut self, index: u64) {
        self.list.retain(|mark| mark.index <= index);
    }
}
