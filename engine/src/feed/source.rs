//! One partition's committed log on the feed's side: the newest entries in memory, the rest in
//! segments. Lives on the feed's executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use walengine_net::model::Offset;
use walengine_replication::budget::{Budget, Held};

use super::published::{Notice, Published};
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
    /// Reads of segments, of all partitions.
    reads: Budget,
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
    /// The next entry wanted, once there was one: entries without records are sent, too, so that the
    /// chain of hashes can be followed.
    pub index: Option<u64>,
    /// Where that is in the segments, if they served the last page.
    pub cursor: Option<Cursor>,
}

impl<D: Disk> Source<D> {
    /// Of a partition. All partitions keep their newest entries within one budget, `recent`; `reads`
    /// bounds how many reads of segments are under way.
    pub fn new(
        published: Arc<Published>,
        archive: Archive<D>,
        recent: &Budget,
        reads: Budget,
    ) -> Self {
        let (recent, changed) = (RefCell::new(Recent::new(recent)), Notify::new());
        let (waiting, used) = (Cell::new(0), Cell::new(false));
        Self { published, archive, recent, reads, changed, waiting, used }
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

    /// Has the shard send nothing while no subscription is near the end of the log, and keeps no entries
    /// that nobody has wanted since the last call. Call it regularly.
    pub fn look(&self) {
        if self.used.replace(false) {
            return;
        }
        if self.waiting.get() == 0 {
            self.published.set_wanted(false);
        }
        self.recent.borrow_mut().clear();
    }

    /// Whole entries from the one that holds the next record on; `place` moves behind them.
    pub async fn page(&self, place: &mut Place, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        if let Some((entries, next)) = self.recent.borrow().copy(*place, bytes_max) {
            self.used.set(true);
            *place = next;
            return Ok(entries);
        }
        let _read = self.reads.take(1).await;
        let extent = self.published.extent();
        let Place { offset, index, cursor } = *place;
        let (entries, cursor) = self.archive.read(offset, index, cursor, extent, bytes_max).await?;
        let index = Some(cursor.index());
        *place = Place { offset: cursor.offset(), index, cursor: Some(cursor) };
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
struct Recent {
    entries: VecDeque<Tapped>,
    /// Invariant: the bytes of `entries`.
    held: Held,
}

impl Recent {
    fn new(budget: &Budget) -> Self {
        Self { entries: VecDeque::new(), held: budget.hold() }
    }

    fn push(&mut self, entries: Vec<Tapped>) {
        for entry in entries {
            if self.entries.back().is_some_and(|last| last.index + 1 != entry.index) {
                self.clear();
            }
            self.held.set(self.held.bytes() + entry.bytes.len());
            self.entries.push_back(entry);
        }
        while self.held.is_beyond() {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.held.set(self.held.bytes() - oldest.bytes.len());
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.held.set(0);
    }

    /// Entries from the one that is wanted on, and the place behind them, if that one is here.
    fn copy(&self, place: Place, bytes_max: usize) -> Option<(Vec<u8>, Place)> {
        let from = place.offset;
        let first = match place.index {
            Some(index) => self.entries.partition_point(|entry| entry.index < index),
            None => self
                .entries
                .partition_point(|entry| entry.base_offset < from && entry.next_offset <= from),
        };
        let begins = self.entries.get(first)?;
        let is_wanted = match place.index {
            Some(index) => begins.index == index,
            // Entries without records may stand before the first that is here.
            None => begins.base_offset < from || first > 0 && begins.base_offset == from,
        };
        if !is_wanted {
            return None;
        }
        let (mut page, mut next) = (Vec::new(), Place { cursor: None, ..place });
        for entry in self.entries.range(first..) {
            // Entries without records come with the one behind them.
            if next.offset > from && page.len() + entry.bytes.len() > bytes_max {
                break;
            }
            page.extend_from_slice(&entry.bytes);
            (next.offset, next.index) = (next.offset.max(entry.next_offset), Some(entry.index + 1));
        }
        Some((page, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

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
        let mut recent = Recent::new(&Budget::new(MAX));
        let copy = |recent: &Recent, from: u64, bytes_max| {
            let place = Place { offset: Offset(from), index: None, cursor: None };
            recent.copy(place, bytes_max).map(|(bytes, next)| (bytes, next.offset))
        };
        assert!(copy(&recent, 0, 1000).is_none());
        recent.push(vec![entry(5, 40, 3), entry(6, 43, 0), entry(7, 43, 2)]);
        assert!(copy(&recent, 39, 1000).is_none(), "it starts before");
        assert!(copy(&recent, 40, 1000).is_none(), "blank ones may stand before");
        let (bytes, next) = copy(&recent, 41, 1000).unwrap();
        assert_eq!((bytes.len(), next), (300, Offset(45)));
        let (bytes, next) = copy(&recent, 44, 1).unwrap();
        assert_eq!((bytes, next), (vec![7; 100], Offset(45)), "one comes even if it is larger");
        let (bytes, next) = copy(&recent, 43, 200).unwrap();
        assert_eq!((bytes.len(), next), (200, Offset(45)), "with the blank one before it");
        let at = |index| Place { offset: Offset(43), index: Some(index), cursor: None };
        let (bytes, next) = recent.copy(at(7), 1000).unwrap();
        assert_eq!((bytes, next.index), (vec![7; 100], Some(8)), "from an entry on");
        assert!(recent.copy(at(4), 1000).is_none() && recent.copy(at(8), 1000).is_none());
        assert!(copy(&recent, 45, 1000).is_none(), "nothing there yet");
        recent.push(vec![entry(9, 50, 1)]);
        assert!(copy(&recent, 44, 1000).is_none(), "entry 8 is missing");
        assert!(recent.copy(at(9), 1000).is_some());
    }

    #[test]
    fn recent_entries_are_bounded() {
        let budget = Budget::new(MAX);
        let (mut recent, mut other) = (Recent::new(&budget), Recent::new(&budget));
        let large = |index| Tapped { bytes: vec![0; MAX / 10], ..entry(index, index, 1) };
        for index in 0..100 {
            recent.push(vec![large(index)]);
            assert!(budget.used() <= MAX);
        }
        let at = |index| Place { offset: Offset(index), index: Some(index), cursor: None };
        assert!(recent.copy(at(99), 1).is_some() && recent.copy(at(89), 1).is_none());
        // Another partition finds no room, until this one's are wanted no more.
        other.push(vec![large(0)]);
        assert!(budget.used() <= MAX && other.copy(at(0), 1).is_none());
        recent.clear();
        other.push(vec![large(1)]);
        assert!(other.copy(at(1), 1).is_some());
    }
}
