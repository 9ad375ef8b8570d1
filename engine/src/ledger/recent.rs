//! The newest ids, in the order in which they were decided, and where each of them is.
//!
//! ```text
//!  generation    slots   [ ........ dropped | ................... ]  32 bytes each, appended
//!                index   [ tag, place | . | tag, place | . | ... ]   4 bytes each, twice as many
//!  joint index    of the oldest generations, if there are many: these have no index of their own
//! ```
//! Most ids are new, so most look-ups end at an empty cell of a generation's index, which the processor's
//! caches hold; writing a slot is sequential. As the order is that of the log, what goes into a run is the
//! oldest slots, and forgetting them moves one number.

use std::collections::VecDeque;

use super::joint_index::JointIndex;
use super::limits::{GENERATION_SLOTS, OWN_INDEXES_MAX};
use super::slot::Slot;
use crate::ids::key::Key;
use crate::os::prefetch;

/// Bits of a cell with a slot's place, plus one; the others are a tag. 0: an empty cell.
const PLACE_BITS: u32 = 17;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
/// A cell whose slot was removed.
const REMOVED: u32 = PLACE_MASK;
/// Bits of a hash below those of the tag: those that choose a cell.
const CELL_BITS: u32 = PLACE_BITS;
/// Of the smallest index.
const CELLS: usize = 64;
/// One record may bring two keys, which are not parted.
const _: () = assert!(2 * (GENERATION_SLOTS + 1) <= 1 << CELL_BITS);

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    /// Oldest first. Invariant: none but the newest is empty.
    generations: VecDeque<Generation>,
    /// So many of the oldest have no index of their own, but are in the joint one.
    joined: usize,
    joint: JointIndex,
    /// Keys in all.
    len: usize,
    /// The memory of a generation that was dropped.
    spare: Option<Generation>,
}

#[derive(Default)]
struct Generation {
    /// Number of the first of `slots`, counted over all generations.
    first: u64,
    slots: Vec<Slot>,
    /// So many of the first were dropped.
    dropped: usize,
    /// Its length is a power of two, and at least half of its cells are empty.
    index: Vec<u32>,
    /// Cells that are not empty.
    used: usize,
    /// Slots that were removed and are still there, because they are not the last.
    removed: usize,
}

impl Recent {
    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let generations = self.generations.iter().chain(&self.spare).map(Generation::bytes);
        generations.sum::<u64>() + self.joint.bytes()
    }

    /// Starts to load what [`Self::get`] and [`Self::insert`] read.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        for generation in self.generations.range(self.joined..) {
            if let Some(cell) = generation.index.get(generation.cell_of(hash)) {
                prefetch(cell);
            }
        }
        self.joint.prefetch(hash);
    }

    /// Generation and place of a key.
    #[inline]
    fn find(&self, key: &Key) -> Option<(usize, usize)> {
        // What is asked for was most likely decided not long ago.
        for number in (self.joined..self.generations.len()).rev() {
            if let Some(place) = self.generations[number].find(key) {
                return Some((number, place));
            }
        }
        if self.joined == 0 {
            return None;
        }
        let is_it = |number| {
            let slot =
                self.place_of(number).and_then(|(at, place)| self.generations[at].slot(place));
            slot.is_some_and(|slot| slot.is(key))
        };
        self.joint.find(key.hash, is_it).and_then(|number| self.place_of(number))
    }

    /// Generation and place of the slot with this number.
    fn place_of(&self, number: u64) -> Option<(usize, usize)> {
        let at = self.generations.partition_point(|one| one.first <= number).checked_sub(1)?;
        Some((at, (number - self.generations[at].first) as usize))
    }

    #[inline]
    pub(super) fn get(&self, key: &Key) -> Option<&Slot> {
        let (at, place) = self.find(key)?;
        self.generations[at].slots.get(place)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Slot> {
        let (at, place) = self.find(key)?;
        self.generations[at].slots.get_mut(place)
    }

    /// Adds a key that is not there yet. Offsets never decrease.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, slot: Slot) {
        let newest = self.generations.back().filter(|_| self.joined < self.generations.len());
        if !newest.is_some_and(|newest| newest.has_room(slot.offset())) {
            self.begin_generation();
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.insert(hash, slot);
            self.len += 1;
        }
    }

    #[cold]
    fn begin_generation(&mut self) {
        let first = self.end();
        let mut next = self.spare.take().unwrap_or_default();
        next.first = first;
        self.generations.push_back(next);
        while self.generations.len() - self.joined > OWN_INDEXES_MAX {
            self.join_oldest();
        }
    }

    /// Puts the oldest generation with an index of its own into the joint one.
    fn join_oldest(&mut self) {
        let index = std::mem::take(&mut self.generations[self.joined].index);
        self.keep_spare(Generation { index, ..Generation::default() });
        let first = self.joined;
        self.joined += 1;
        let joined = || self.generations.range(..self.joined);
        if self.joint.has_room_for(self.generations[first].slots.len()) {
            self.joint.extend(self.generations[first].hashes());
        } else {
            let numbers: usize = joined().map(|one| one.slots.len() - one.dropped).sum();
            self.joint = JointIndex::with_room_for(2 * numbers);
            joined().for_each(|one| self.joint.extend(one.hashes()));
        }
    }

    /// Keeps the memory of what is not needed any more.
    fn keep_spare(&mut self, gone: Generation) {
        let (spare, gone) = (self.spare.take().unwrap_or_default(), gone.cleared());
        let slots = std::cmp::max_by_key(spare.slots, gone.slots, Vec::capacity);
        let index = std::cmp::max_by_key(spare.index, gone.index, Vec::len);
        self.spare = Some(Generation { slots, index, ..Generation::default() });
    }

    /// Takes out a key, of the newest ones.
    pub(super) fn remove(&mut self, key: &Key, is_it: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let (at, place) = self.find(key)?;
        let generation = &mut self.generations[at];
        let found = generation.slots.get(place).copied().filter(|slot| is_it(slot))?;
        generation.remove(place, key.hash);
        self.len -= 1;
        while let Some(newest) = self.generations.back()
            && newest.is_empty()
            && self.generations.len() > 1
        {
            if let Some(gone) = self.generations.pop_back() {
                self.keep_spare(gone);
            }
            self.joined = self.joined.min(self.generations.len());
        }
        Some(found)
    }

    /// Number behind that of the newest slot.
    pub(super) fn end(&self) -> u64 {
        self.generations.back().map_or(0, Generation::end)
    }

    /// The slots from a number on, oldest first, each with its number. Numbers stay the same until slots are
    /// removed.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &Slot)> {
        let behind = self.generations.iter().filter(move |one| one.end() > number);
        behind.flat_map(move |generation| {
            let skipped = number.saturating_sub(generation.first) as usize;
            let numbered = generation.slots.iter().enumerate();
            let numbered = numbered.skip(skipped.max(generation.dropped));
            let kept = numbered.filter(|(_, slot)| !slot.is_removed());
            kept.map(move |(place, slot)| (generation.first + place as u64, slot))
        })
    }

    /// Forgets the keys of the records below an offset.
    pub(super) fn drop_below(&mut self, offset: u64) {
        while let Some(oldest) = self.generations.front_mut() {
            self.len -= oldest.drop_below(offset);
            if !oldest.is_empty() || self.generations.len() == 1 {
                break;
            }
            if let Some(gone) = self.generations.pop_front() {
                self.keep_spare(gone);
            }
            self.joined = self.joined.saturating_sub(1);
            if self.joined == 0 {
                self.joint.clear();
            }
        }
    }
}

impl Generation {
    fn bytes(&self) -> u64 {
        (self.slots.capacity() * size_of::<Slot>() + self.index.capacity() * size_of::<u32>())
            as u64
    }

    /// An empty one with the same memory.
    fn cleared(mut self) -> Self {
        self.slots.clear();
        self.index.fill(0);
        Self { first: 0, dropped: 0, used: 0, removed: 0, ..self }
    }

    fn is_empty(&self) -> bool {
        self.dropped == self.slots.len()
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&self, place: usize) -> Option<&Slot> {
        self.slots.get(place).filter(|_| place >= self.dropped)
    }

    /// Hash and number of each slot.
    fn hashes(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        let slots = self.slots.iter().enumerate().skip(self.dropped);
        let slots = slots.filter(|(_, slot)| !slot.is_removed());
        slots.map(|(place, slot)| (slot.hash(), self.first + place as u64))
    }

    /// A record's keys stay together, so that what is dropped ends between two records.
    #[inline]
    fn has_room(&self, offset: u64) -> bool {
        let taken = self.used.max(self.slots.len());
        taken < GENERATION_SLOTS
            || taken == GENERATION_SLOTS
                && self.slots.last().is_some_and(|last| last.offset() == offset)
    }

    #[inline]
    fn cell_of(&self, hash: u64) -> usize {
        hash as usize & self.index.len().wrapping_sub(1)
    }

    #[inline]
    fn find(&self, key: &Key) -> Option<usize> {
        let (tag, mut at) = (tag_of(key.hash), self.cell_of(key.hash));
        loop {
            let cell = *self.index.get(at)?;
            if cell == 0 {
                return None;
            }
            if cell & !PLACE_MASK == tag {
                let place = (cell & PLACE_MASK) as usize - 1;
                if self.slot(place).is_some_and(|slot| slot.is(key)) {
                    return Some(place);
                }
            }
            at = (at + 1) & (self.index.len() - 1);
        }
    }

    #[inline]
    fn insert(&mut self, hash: u64, slot: Slot) {
        if 2 * (self.used + 1) > self.index.len() {
            self.grow();
        }
        self.slots.push(slot);
        self.note(hash, self.slots.len() as u32);
    }

    /// Has the index tell of the slot at a place, plus one. Cells of removed slots are used again: what is taken back and
    /// decided again all the time must not make a chain of them.
    #[inline]
    fn note(&mut self, hash: u64, place: u32) {
        let mut at = self.cell_of(hash);
        while self.index[at] != 0 && self.index[at] != REMOVED {
            at = (at + 1) & (self.index.len() - 1);
        }
        self.used += usize::from(self.index[at] == 0);
        self.index[at] = tag_of(hash) | place;
    }

    #[cold]
    fn grow(&mut self) {
        let cells = (2 * self.index.len()).max(CELLS);
        self.index.clear();
        self.index.resize(cells, 0);
        self.used = 0;
        for place in self.dropped..self.slots.len() {
            let slot = self.slots[place];
            if !slot.is_removed() {
                self.note(slot.hash(), place as u32 + 1);
            }
        }
        // One that was given back and taken again grows to its full size at once.
        self.slots.reserve_exact(cells / 2 + 1 - self.slots.len().min(cells / 2));
    }

    fn remove(&mut self, place: usize, hash: u64) {
        let mut at = self.cell_of(hash);
        let cell = tag_of(hash) | (place as u32 + 1);
        while let Some(found) = self.index.get_mut(at).filter(|found| **found != 0) {
            if *found == cell {
                *found = REMOVED;
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        self.slots[place].clear();
        self.removed += 1;
        while self.slots.len() > self.dropped && self.slots.last().is_some_and(Slot::is_removed) {
            self.slots.pop();
            self.removed -= 1;
        }
    }

    /// How many keys were dropped.
    fn drop_below(&mut self, offset: u64) -> usize {
        let rest = &self.slots[self.dropped..];
        let gone = rest.partition_point(|slot| slot.offset() < offset);
        let removed = if self.removed == 0 {
            0
        } else {
            rest[..gone].iter().filter(|slot| slot.is_removed()).count()
        };
        self.dropped += gone;
        self.removed -= removed;
        gone - removed
    }
}

#[inline]
fn tag_of(hash: u64) -> u32 {
    (hash >> CELL_BITS) as u32 & !PLACE_MASK
}

#[cfg(test)]
mod tests {
    use walengine_net::model::Verdict;

    use super::*;
    use crate::ids::key::Space;

    fn key(id: u64) -> Key {
        Key::new(u128::from(id), Space::Event)
    }

    fn slot(id: u64, offset: u64) -> Slot {
        Slot::new(&key(id), id, offset, Verdict::Ok)
    }

    fn insert(recent: &mut Recent, id: u64) {
        recent.insert(key(id).hash, slot(id, id));
    }

    fn numbers(recent: &Recent, from: u64) -> Vec<u64> {
        recent.from(from).map(|(_, slot)| slot.offset()).collect()
    }

    /// So many that some generations are in the joint index, which was made anew meanwhile.
    const MANY: u64 = 11 * GENERATION_SLOTS as u64 + 1000;

    #[test]
    fn what_was_added_is_found_until_it_is_dropped() {
        let mut recent = Recent::default();
        for id in 0..MANY {
            assert!(recent.get(&key(id + 1)).is_none());
            insert(&mut recent, id + 1);
        }
        assert_eq!(recent.len() as u64, MANY);
        for below in [1, 2, 70_000, 70_001, 131_073, MANY / 2, MANY] {
            recent.drop_below(below);
            let joined = recent.generations.len().saturating_sub(OWN_INDEXES_MAX);
            assert!(recent.joined <= joined, "{} of {}", recent.joined, recent.generations.len());
            assert_eq!(recent.len() as u64, MANY - (below - 1));
            assert_eq!(numbers(&recent, 0), (below..=MANY).collect::<Vec<_>>());
            for id in [1, below.saturating_sub(1), below, MANY - 1, MANY] {
                assert_eq!(recent.get(&key(id)).is_some(), id >= below, "{id} below {below}");
            }
        }
    }

    #[test]
    fn the_newest_can_be_taken_back_and_added_again() {
        let mut recent = Recent::default();
        let around = GENERATION_SLOTS as u64;
        (1..=around + 10).for_each(|id| insert(&mut recent, id));
        for round in 0..3 * GENERATION_SLOTS as u64 / 20 {
            for id in (around - 10..=around + 10).rev() {
                let removed = recent.remove(&key(id), |slot| slot.offset() == id);
                assert_eq!(removed, Some(slot(id, id)), "round {round}");
                assert!(recent.get(&key(id)).is_none());
            }
            assert_eq!(recent.len() as u64, around - 11);
            (around - 10..=around + 10).for_each(|id| insert(&mut recent, id));
        }
        assert_eq!(numbers(&recent, 0), (1..=around + 10).collect::<Vec<_>>());
        assert!(recent.bytes() < 8 * GENERATION_SLOTS as u64 * 40, "{}", recent.bytes());
    }

    /// An undo may reach that far if nothing has gone into a run for long.
    #[test]
    fn what_is_in_the_joint_index_can_be_taken_back_and_added_again() {
        let mut recent = Recent::default();
        (1..=MANY).for_each(|id| insert(&mut recent, id));
        assert!(recent.joined >= 7, "{} joined", recent.joined);
        recent.drop_below(100);
        let kept = 2 * GENERATION_SLOTS as u64 + 77;
        for id in (kept + 1..=MANY).rev() {
            assert!(recent.remove(&key(id), |slot| slot.offset() == id).is_some(), "{id}");
        }
        assert_eq!((recent.joined, recent.generations.len()), (3, 3));
        assert_eq!(numbers(&recent, 0), (100..=kept).collect::<Vec<_>>());
        // Those of every second id are other keys at the same numbers.
        let again = |id: u64| if id.is_multiple_of(2) { id } else { id + MANY };
        for id in kept + 1..=MANY {
            recent.insert(key(again(id)).hash, slot(again(id), id));
        }
        for id in 100..=MANY {
            let there = id <= kept || id.is_multiple_of(2);
            assert_eq!(recent.get(&key(id)).is_some(), there, "{id}");
            assert_eq!(recent.get(&key(id + MANY)).is_some(), !there, "{id}");
        }
        assert_eq!(recent.len() as u64, MANY - 99);
        recent.drop_below(MANY + 1);
        assert_eq!((recent.joined, recent.len()), (0, 0));
        insert(&mut recent, 5 * MANY);
        assert!(recent.get(&key(5 * MANY)).is_some() && recent.get(&key(MANY)).is_none());
    }

    /// A leader without a majority decides an expiry and takes it back all the time: each round took longer than the one
    /// before.
    #[test]
    fn what_is_taken_back_leaves_no_trace_in_the_index() {
        let mut recent = Recent::default();
        (1..=40).for_each(|id| insert(&mut recent, id));
        let used = recent.generations[0].used;
        for id in (1..1000).map(|round| 41 + round % 3) {
            insert(&mut recent, id);
            assert!(recent.remove(&key(id), |_| true).is_some());
            assert!(recent.generations[0].used <= used + 3);
        }
    }

    #[test]
    fn what_is_taken_out_of_the_middle_is_gone_and_the_rest_stays() {
        let mut recent = Recent::default();
        (1..=100).for_each(|id| insert(&mut recent, id));
        assert_eq!(recent.remove(&key(50), |_| false), None);
        for id in [50, 99, 100] {
            assert!(recent.remove(&key(id), |_| true).is_some());
            assert!(recent.remove(&key(id), |_| true).is_none());
        }
        let left: Vec<u64> = (1..=98).filter(|id| *id != 50).collect();
        assert_eq!(numbers(&recent, 0), left);
        assert_eq!((recent.len(), recent.end()), (97, 98));
        recent.drop_below(60);
        assert_eq!(numbers(&recent, 0), (60..=98).collect::<Vec<_>>());
        assert_eq!(recent.len(), 39);
    }

    #[test]
    fn keys_of_one_record_are_dropped_together() {
        let mut recent = Recent::default();
        let mut id = 0;
        let mut add = |recent: &mut Recent, offset: u64| {
            id += 1;
            recent.insert(key(id).hash, slot(id, offset));
        };
        (1..GENERATION_SLOTS as u64).for_each(|offset| add(&mut recent, offset));
        let last = GENERATION_SLOTS as u64;
        add(&mut recent, last);
        add(&mut recent, last);
        assert_eq!(recent.generations.len(), 1);
        add(&mut recent, last + 1);
        assert_eq!(recent.generations.len(), 2);
        recent.drop_below(last);
        assert_eq!(numbers(&recent, 0), [last, last, last + 1]);
        assert_eq!(
            numbers(&recent, last),
            [last, last + 1],
            "the second of the two is number {last}"
        );
    }

    #[test]
    fn equal_hashes_are_told_apart_by_their_keys() {
        let mut recent = Recent::default();
        let same = |id: u64| Key { hash: 77, ..key(id) };
        let most = CELLS as u64 / 2; // more would make the index grow, by each slot's own hash
        (1..=most).for_each(|id| recent.insert(77, slot(id, id)));
        let found = |id| recent.get(&same(id)).map(Slot::offset);
        assert_eq!([1, 20, most, most + 1].map(found), [Some(1), Some(20), Some(most), None]);
    }
}
