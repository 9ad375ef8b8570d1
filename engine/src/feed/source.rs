//! One partition's committed log on the feed's side: the newest entries in memory, the rest in
//! segments. Lives on the feed's executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use walengine_net::model::Offset;

use super::published::{Notice, Published};
use crate::limits::FEED_RECENT_BYTES_MAX;
use crate::local::Notify;
use crate::storage::archive::{Archive, Cursor};
use crate::storage::disk::Disk;
use crate::storage::error::ReadError;
use crate::storage::tap::Tapped;

/// See the module.
pub struct Source<D: Disk> {
    published: Arc<Published>,
    archive: Archive<D>,
    recent: RefCell<Recent>,
    changed: Notify,
    /// Subscriptions that have all visible entries and wait for more.
    waiting: Cell<usize>,
    /// Something was served from memory since the last look.
    used: Cell<bool>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The next record wanted.
    pub offset: Offset,
    /// Where that is in the segments, if they served the last page.
    pub cursor: Option<Cursor>,
}

impl<D: Disk> Source<D> {
    /// Of a partition.
    pub fn new(published: Arc<Published>, archive: Archive<D>) -> Self {
        let (recent, changed) = (RefCell::default(), Notify::new());
        let (waiting, used) = (Cell::new(0), Cell::new(false));
        Self { published, archive, recent, changed, waiting, used }
    }

    /// Takes in the shard's entries until the shard ends.
    pub async fn follow(self: Rc<Self>, notices: flume::Receiver<Notice>) {
        while let Ok(entries) = notices.recv_async().await {
            let bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
            self.recent.borrow_mut().push(entries);
            self.published.give_room(bytes);
            self.changed.notify_all();
        }
        self.published.stop();
        self.changed.notify_all();
    }

    /// Everything below is visible.
    pub fn visible_offset(&self) -> Offset {
        self.published.next_offset()
    }

    /// The partition serves no more.
    pub fn is_stopped(&self) -> bool {
        self.published.is_stopped()
    }

    /// Completes when records from `offset` on may be visible, or never will be.
    pub async fn grown(&self, offset: Offset) {
        let waits = Waits::begin(&self.waiting);
        loop {
            let changed = self.changed.changed();
            self.published.set_wanted(true);
            // The shard does not send entries that it committed before it saw that.
            if offset < self.visible_offset() || self.is_stopped() {
                return drop(waits);
            }
            changed.await;
        }
    }

    /// Has the shard send nothing while no subscription is near the end of the log. Call it regularly.
    pub fn look(&self) {
        if self.waiting.get() == 0 && !self.used.replace(false) {
            self.published.set_wanted(false);
            self.recent.borrow_mut().clear();
        }
    }

    /// Whole entries from the one that holds the next record on; `place` moves behind them.
    pub async fn page(&self, place: &mut Place, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        if let Some((entries, next_offset)) = self.recent.borrow().copy(place.offset, bytes_max) {
            self.used.set(true);
            *place = Place { offset: next_offset, cursor: None };
            return Ok(entries);
        }
        let extent = self.published.extent();
        let read = self.archive.read(place.offset, place.cursor, extent, bytes_max).await;
        let (entries, cursor) = read?;
        *place = Place { offset: cursor.offset(), cursor: Some(cursor) };
        Ok(entries)
    }
}

/// Counts a waiting subscription until it is dropped.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The newest entries, without a gap. Bounded; the oldest are forgotten.
#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<Tapped>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entries: Vec<Tapped>) {
        for entry in entries {
            if self.entries.back().is_some_and(|last| last.index + 1 != entry.index) {
                self.clear();
            }
            self.bytes += entry.bytes.len();
            self.entries.push_back(entry);
        }
        while self.bytes > FEED_RECENT_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Entries from the one that holds `from` on, and the offset behind them, if that one is here.
    fn copy(&self, from: Offset, bytes_max: usize) -> Option<(Vec<u8>, Offset)> {
        let first = self.entries.partition_point(|entry| entry.next_offset <= from);
        self.entries.get(first).filter(|entry| entry.base_offset <= from)?;
        let (mut page, mut next_offset) = (Vec::new(), from);
        for entry in self.entries.range(first..) {
            if !page.is_empty() && page.len() + entry.bytes.len() > bytes_max {
                break;
            }
            page.extend_from_slice(&entry.bytes);
            next_offset = entry.next_offset;
        }
        Some((page, next_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, base: u64, records: u64) -> Tapped {
        Tapped {
            index,
            base_offset: Offset(base),
            next_offset: Offset(base + records),
            bytes: vec![index as u8; 100],
        }
    }

    #[test]
    fn recent_entries_have_no_gap_and_give_only_what_they_hold() {
        let mut recent = Recent::default();
        assert!(recent.copy(Offset(0), 1000).is_none());
        recent.push(vec![entry(5, 40, 3), entry(6, 43, 0), entry(7, 43, 2)]);
        assert!(recent.copy(Offset(39), 1000).is_none(), "it starts before");
        let (bytes, next) = recent.copy(Offset(41), 1000).unwrap();
        assert_eq!((bytes.len(), next), (300, Offset(45)));
        let (bytes, next) = recent.copy(Offset(43), 1).unwrap();
        assert_eq!((bytes, next), (vec![7; 100], Offset(45)), "one comes even if it is larger");
        assert!(recent.copy(Offset(45), 1000).is_none(), "nothing there yet");
        recent.push(vec![entry(9, 50, 1)]);
        assert!(recent.copy(Offset(44), 1000).is_none(), "entry 8 is missing");
        assert!(recent.copy(Offset(50), 1000).is_some());
    }

    #[test]
    fn recent_entries_are_bounded() {
        let mut recent = Recent::default();
        for index in 0..100 {
            let bytes = vec![0; FEED_RECENT_BYTES_MAX / 10];
            recent.push(vec![Tapped { bytes, ..entry(index, index, 1) }]);
            assert!(recent.bytes <= FEED_RECENT_BYTES_MAX);
        }
        assert!(recent.copy(Offset(99), 1).is_some() && recent.copy(Offset(89), 1).is_none());
    }
}
