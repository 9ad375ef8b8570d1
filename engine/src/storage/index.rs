//! Sparse index of a segment: where to start looking. In memory only, bounded.

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
pub(super) struct Marks(Vec<Mark>);

impl Marks {
    /// Adds a mark for the next entry if the last mark is far enough away.
    pub fn note(&mut self, header: &EntryHeader, position: u64) {
        if self.0.last().is_none_or(|last| position - last.position >= MARK_EVERY_BYTES) {
            let (index, offset) = (header.meta.index, header.meta.base_offset);
            self.0.push(Mark { index, offset, position });
        }
    }

    /// Last mark at or before this index.
    pub fn at_index(&self, index: u64) -> Option<Mark> {
        let behind = self.0.partition_point(|mark| mark.index <= index);
        self.0[..behind].last().copied()
    }

    /// Last mark at or before this record.
    pub fn at_offset(&self, offset: Offset) -> Option<Mark> {
        let behind = self.0.partition_point(|mark| mark.offset <= offset);
        self.0[..behind].last().copied()
    }

    /// Forgets the entries behind this index.
    pub fn cut_after(&mut self, index: u64) {
        self.0.retain(|mark| mark.index <= index);
    }
}
