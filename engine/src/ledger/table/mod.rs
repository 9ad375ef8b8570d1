//! Compact hash table: about 1.16 times the size of its values, at any size, without long pauses.
//!
//! Extendible hashing over many *parts* ([`part`]). Part, group and tag come from different bits of
//! the hash:
//!
//! | bits | use |
//! |---|---|
//! | from 63 down | part, by the directory |
//! | 32–39 | tag |
//! | 0–31 | group: multiplied by the number of groups, which can be any number |
//!
//! A part is full at 59/64 and then grows by an eighth, so its load stays above 0.8. It splits at a
//! size that differs from part to part, into parts with different loads. So growth does not come in
//! waves, and the longest pause rebuilds one part of at most 96 blocks, at any size
//! of the table. Memory is allocated in blocks of one size, which avoids fragmentation.
//!
//! The table stores values; the caller supplies keys, hashes and equality.

mod part;

use super::limits::DEPTH_MAX;

use part::{Part, blocks_for};

/// A directory of `n` entries needs this many times `n` values, so that hostile keys that share a
/// prefix cannot blow it up.
const VALUES_PER_PART_MIN: usize = 1024;
const _: () = assert!(64 - DEPTH_MAX >= 40);

/// See the module.
pub(super) struct Table<V> {
    /// The part of each prefix of `depth` bits. Invariant: 2^`depth` entries.
    directory: Vec<u32>,
    depth: u32,
    parts: Vec<Part<V>>,
    len: usize,
}

impl<V: Copy + Default> Table<V> {
    pub(super) fn new() -> Self {
        Self { directory: vec![0], depth: 0, parts: vec![Part::new(0, 0)], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        self.directory[prefix(hash, self.depth) as usize] as usize
    }

    /// Starts to load the block that `hash` falls in: the first step of a look-up ahead of time.
    #[inline]
    pub(super) fn prefetch_block(&self, hash: u64) {
        self.parts[self.part_of(hash)].prefetch_block(hash);
    }

    /// Starts to load the tags that a look-up of `hash` reads first: the second step.
    #[inline]
    pub(super) fn prefetch_tags(&self, hash: u64) {
        self.parts[self.part_of(hash)].prefetch_tags(hash);
    }

    /// Starts to load the slot that `hash` is likely to be in, or else to be inserted into: the
    /// third step, some time after [`Self::prefetch_tags`].
    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u64) {
        self.parts[self.part_of(hash)].prefetch_slot(hash);
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, same: impl Fn(&V) -> bool) -> Option<&V> {
        let part = &self.parts[self.part_of(hash)];
        part.find(hash, same).map(|place| part.value(place))
    }

    /// Adds a value that is not there yet. `hash_of` gives the hash of any value in the table.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: V, hash_of: impl Fn(&V) -> u64) {
        let index = self.part_with_room(hash, hash_of);
        self.parts[index].insert(hash, value);
        self.len += 1;
    }

    #[inline]
    fn part_with_room(&mut self, hash: u64, hash_of: impl Fn(&V) -> u64) -> usize {
        let mut index = self.part_of(hash);
        if self.parts[index].is_full() {
            self.make_room(index, hash, &hash_of);
            index = self.part_of(hash);
            if self.parts[index].is_full() {
                let blocks = self.parts[index].blocks_next();
                self.parts[index].rebuild(blocks, &hash_of);
            }
        }
        index
    }

    pub(super) fn remove(&mut self, hash: u64, same: impl Fn(&V) -> bool) -> Option<V> {
        let index = self.part_of(hash);
        let part = &mut self.parts[index];
        let place = part.find(hash, same)?;
        self.len -= 1;
        Some(part.remove(place))
    }

    /// All values, in no particular order.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(Part::values)
    }

    /// Bytes of the slots, taken or not.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    #[cold]
    fn make_room(&mut self, index: usize, hash: u64, hash_of: &impl Fn(&V) -> u64) {
        let part = &self.parts[index];
        let blocks = part.blocks_next();
        if blocks > part.blocks_max && self.may_split(part.depth) {
            self.split(index, prefix(hash, part.depth), hash_of);
        } else {
            self.parts[index].rebuild(blocks, hash_of);
        }
    }

    /// False for keys that share a long prefix, by chance or by intent: they get one large part
    /// instead of a large directory.
    fn may_split(&self, depth: u32) -> bool {
        depth < DEPTH_MAX && VALUES_PER_PART_MIN << depth <= self.len
    }

    fn split(&mut self, index: usize, prefix: u64, hash_of: &impl Fn(&V) -> u64) {
        let depth = self.parts[index].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&part| [part, part]).collect();
            self.depth += 1;
        }
        let half = self.parts[index].taken / 2;
        let [left, right] = [prefix << 1, prefix << 1 | 1].map(|prefix| {
            let mut part = Part::new(depth + 1, prefix);
            part.allocate(blocks_for(half, prefix));
            part
        });
        assert!(self.directory.len() == 1 << self.depth, "a directory of {}", self.directory.len());
        let old = std::mem::replace(&mut self.parts[index], left);
        let right_index = self.parts.len();
        self.parts.push(right);
        let width = self.depth - (depth + 1);
        let first = ((prefix << 1 | 1) << width) as usize;
        self.directory[first..first + (1 << width)].fill(right_index as u32);
        for block in old.blocks {
            for value in block.values() {
                let hash = hash_of(value);
                let to = self.part_of(hash);
                if self.parts[to].is_full() {
                    let blocks = self.parts[to].blocks_next();
                    self.parts[to].rebuild(blocks, hash_of);
                }
                self.parts[to].insert(hash, *value);
            }
        }
    }
}

#[inline]
fn prefix(hash: u64, depth: u32) -> u64 {
    (hash >> 1) >> (63 - depth) // a shift by 64 is not defined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::key::{Space, hash_of_id};
    use crate::ledger::limits::PART_BLOCKS_MAX;

    fn hash(value: u64) -> u64 {
        hash_of_id(u128::from(value), Space::Event)
    }

    fn insert(table: &mut Table<u64>, value: u64) {
        table.insert(hash(value), value, |value| hash(*value));
    }

    #[test]
    fn what_was_inserted_is_found_until_removed() {
        let mut table = Table::new();
        for value in 0..300_000 {
            assert!(table.get(hash(value), |v| *v == value).is_none());
            insert(&mut table, value);
        }
        for value in (0..300_000).filter(|value| value % 3 == 0) {
            assert_eq!(table.remove(hash(value), |v| *v == value), Some(value));
        }
        for value in 0..300_000 {
            let found = table.get(hash(value), |v| *v == value).is_some();
            assert_eq!(found, value % 3 != 0, "{value}");
        }
        assert_eq!(table.len(), 200_000);
        assert_eq!(table.values().count(), 200_000);
    }

    #[test]
    fn load_stays_high_at_every_size_and_parts_stay_small() {
        let mut table = Table::new();
        let mut worst_per_mille = 0;
        for value in 0..2_000_000 {
            insert(&mut table, value);
            if value > 200_000 && value % 10_007 == 0 {
                let slots: usize = table.parts.iter().map(|part| part.blocks.len() * 256).sum();
                worst_per_mille = worst_per_mille.max(slots * 1000 / table.len());
            }
        }
        assert!(worst_per_mille < 1190, "{worst_per_mille} slots for 1,000 values");
        assert!(table.parts.iter().all(|part| part.blocks.len() <= PART_BLOCKS_MAX));
    }

    #[test]
    fn adding_and_removing_again_and_again_takes_no_room() {
        let mut table = Table::new();
        (0..10_000).for_each(|value| insert(&mut table, value));
        let blocks = |table: &Table<u64>| table.parts.iter().map(|p| p.blocks.len()).sum::<usize>();
        let before = blocks(&table);
        for round in 1..200 {
            let fresh = round * 100_000..round * 100_000 + 500;
            fresh.clone().for_each(|value| insert(&mut table, value));
            fresh.for_each(|value| {
                table.remove(hash(value), |v| *v == value).unwrap();
            });
        }
        assert!(blocks(&table) <= before + before / 4 + 1, "{before} to {}", blocks(&table));
    }

    #[test]
    fn equal_hashes_fill_one_part_and_no_directory() {
        let mut table = Table::new();
        for value in 0..60_000u64 {
            table.insert(7 << 40 | value & 0xff, value, |value| 7 << 40 | value & 0xff);
        }
        assert!(table.directory.len() <= 128, "{}", table.directory.len());
    }
}
