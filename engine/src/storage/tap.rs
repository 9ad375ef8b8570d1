//! Copies of entries as they are appended, in memory until they are taken, so that the feed need not
//! read committed entries back. Bounded: what does not fit is read from the segments.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use walengine_net::entry::EntryHeader;
use walengine_net::model::Offset;

use super::limits::TAP_BYTES_MAX;

/// One entry, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// Its index.
    pub index: u64,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset behind its last one.
    pub next_offset: Offset,
    /// Header and body.
    pub bytes: Vec<u8>,
}

/// See the module. Lives on the log's core. Gives entries in order, without a gap within what is
/// there at one time.
#[derive(Debug, Default)]
pub struct Tap {
    is_open: Cell<bool>,
    waiting: RefCell<VecDeque<Tapped>>,
    bytes: Cell<usize>,
}

impl Tap {
    /// Begins to keep entries, or stops and drops those that wait.
    pub fn set_open(&self, is_open: bool) {
        if self.is_open.replace(is_open) && !is_open {
            self.drop_all();
        }
    }

    /// Removes and returns the entries up to `index`.
    pub fn take_to(&self, index: u64) -> Vec<Tapped> {
        let mut waiting = self.waiting.borrow_mut();
        let until = waiting.partition_point(|entry| entry.index <= index);
        let taken: Vec<_> = waiting.drain(..until).collect();
        self.bytes.set(self.bytes.get() - bytes_of(&taken));
        taken
    }

    /// An entry was appended.
    pub(super) fn note(&self, header: &EntryHeader, body: &[u8]) {
        if !self.is_open.get() {
            return;
        }
        if self.bytes.get() + header.entry_bytes() > TAP_BYTES_MAX {
            self.drop_all();
        }
        let mut bytes = Vec::with_capacity(header.entry_bytes());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(body);
        self.bytes.set(self.bytes.get() + bytes.len());
        self.waiting.borrow_mut().push_back(Tapped {
            index: header.meta.index,
            base_offset: header.meta.base_offset,
            next_offset: header.next_offset(),
            bytes,
        });
    }

    /// The log no longer has the entries behind `index`.
    pub(super) fn cut_after(&self, index: u64) {
        let mut waiting = self.waiting.borrow_mut();
        let stays = waiting.partition_point(|entry| entry.index <= index);
        let cut: Vec<_> = waiting.drain(stays..).collect();
        self.bytes.set(self.bytes.get() - bytes_of(&cut));
    }

    fn drop_all(&self) {
        self.waiting.borrow_mut().clear();
        self.bytes.set(0);
    }
}

fn bytes_of(entries: &[Tapped]) -> usize {
    entries.iter().map(|entry| entry.bytes.len()).sum()
}
