//! Compact hash table: about 1.16 times the size of what it holds, at any size, without long pauses.
//!
//! Extendible hashing over many *parts*. A part is an open-addressing table of 16-slot groups with
//! one tag byte for each slot. Part, group and tag come from different bits of the hash:
//!
//! | bits | use |
//! |---|---|
//! | from 63 down | part, by the directory |
//! | 32–39 | tag |
//! | 0–31 | group, multiplied by the number of groups: any number will do |
//!
//! A part is full at 59/64 and then grows by an eighth, so its load stays above 0.8. It splits at a
//! size that differs from part to part, into parts whose loads differ: growth never comes in waves,
//! and the longest pause is one part of at most [`PART_BLOCKS_MAX`] blocks, however many there are.
//! Memory comes in blocks of one size, which keeps the heap from breaking up.
//!
//! The table stores values; keys, hashes and equality are the caller's.

use crate::os::prefetch;

/// Slots that are looked at together.
const GROUP_SLOTS: usize = 16;
/// Groups in one allocation.
const BLOCK_GROUPS: usize = 16;
/// Slots in one allocation.
const BLOCK_SLOTS: usize = GROUP_SLOTS * BLOCK_GROUPS;
/// A part splits at a size between these, in blocks; which one depends on its prefix.
const PART_BLOCKS_MIN: usize = 48;
/// Largest part in blocks (24,576 slots); see [`may_split`] for the one exception.
const PART_BLOCKS_MAX: usize = 96;
/// A directory of `n` entries needs this many times `n` values, so that hostile keys that share a
/// prefix cannot blow it up.
const VALUES_PER_PART_MIN: usize = 1024;
/// Largest directory that [`Table::with_parts_for`] lays out ahead: 2^16 entries.
const DEPTH_AHEAD_MAX: u32 = 16;
/// Blocks that must be full before all that were told to come are laid out: memory grows with what
/// is read, to twelve times as much at most.
const AHEAD_BLOCKS_MIN: usize = 8;
/// The directory's prefix ends above the bits that tag and group use.
const DEPTH_MAX: u32 = 24;
const _: () = assert!(DEPTH_AHEAD_MAX <= DEPTH_MAX && 64 - DEPTH_MAX >= 40);
const _: () = assert!(PART_BLOCKS_MIN * 2 <= PART_BLOCKS_MAX + 1);

const EMPTY: u8 = 0;
/// Removed from a group that was full once: a probe must go on behind it.
const REMOVED: u8 = 1;
/// Smallest tag of a slot that holds a value.
const TAKEN: u8 = 2;
const _: () = assert!(EMPTY == 0 && REMOVED == 1);
const LOW_BITS: u128 = u128::from_le_bytes([0x01; 16]);
const TOP_BITS: u128 = u128::from_le_bytes([0x80; 16]);

struct Block<V> {
    tags: [[u8; GROUP_SLOTS]; BLOCK_GROUPS],
    values: [[V; GROUP_SLOTS]; BLOCK_GROUPS],
}

struct Part<V> {
    blocks: Vec<Box<Block<V>>>,
    /// Slots that hold a value.
    taken: usize,
    /// Slots that hold a value or [`REMOVED`].
    used: usize,
    /// All hashes here share this many upper bits.
    depth: u32,
    /// Splits rather than growing past this.
    blocks_max: usize,
    /// Grows to this in two steps: it was told what will come.
    blocks_ahead: usize,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    slot: usize,
}

/// See the module.
pub(super) struct Table<V> {
    /// Part of each prefix of `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    parts: Vec<Part<V>>,
    len: usize,
}

impl<V: Copy + Default> Table<V> {
    pub(super) fn new() -> Self {
        Self { directory: vec![0], depth: 0, parts: vec![Part::new(0, 0)], len: 0 }
    }

    /// An empty table that already has the parts for `values` values, as a table that grew to that
    /// size would; filling it in order of hash is then fast. Takes at most a few MiB, whatever is
    /// asked for.
    pub(super) fn with_parts_for(values: u64) -> Self {
        let part_values = (PART_BLOCKS_MIN * BLOCK_SLOTS / 2) as u64;
        let depth = (values / part_values + 1).ilog2().min(DEPTH_AHEAD_MAX);
        let each = ((values >> depth) as usize).min(PART_BLOCKS_MIN * BLOCK_SLOTS);
        let part = |prefix| {
            let mut part = Part::new(depth, prefix);
            part.blocks_ahead = blocks_for(each, prefix);
            part
        };
        let parts: Vec<_> = (0..1u64 << depth).map(part).collect();
        Self { directory: (0..parts.len() as u32).collect(), depth, parts, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        self.directory[prefix(hash, self.depth) as usize] as usize
    }

    /// Starts to load where the tags are.
    #[inline]
    pub(super) fn prefetch_block(&self, hash: u64) {
        let part = &self.parts[self.part_of(hash)];
        if let Some(block) = part.blocks.get(part.home(hash) / BLOCK_GROUPS) {
            prefetch(block);
        }
    }

    /// Starts to load the tags that a look-up of `hash` reads first.
    #[inline]
    pub(super) fn prefetch_tags(&self, hash: u64) {
        let part = &self.parts[self.part_of(hash)];
        let group = part.home(hash);
        if let Some(block) = part.blocks.get(group / BLOCK_GROUPS) {
            prefetch(&block.tags[group % BLOCK_GROUPS]);
        }
    }

    /// Starts to load the slot that `hash` is likely to be in, or else to be inserted into: to be
    /// called some time after [`Self::prefetch_tags`].
    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u64) {
        let part = &self.parts[self.part_of(hash)];
        if part.blocks.is_empty() {
            return;
        }
        let group = part.home(hash);
        let tags = part.tags(group);
        let matches = zero_bytes(tags ^ (u128::from(tag_of(hash)) * LOW_BITS));
        let likely = if matches == 0 { free_slots(tags) } else { matches };
        if likely != 0 {
            prefetch(part.value(Place { group, slot: likely.trailing_zeros() as usize / 8 }));
        }
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, same: impl Fn(&V) -> bool) -> Option<&V> {
        let part = &self.parts[self.part_of(hash)];
        part.find(hash, same).map(|place| part.value(place))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, hash: u64, same: impl Fn(&V) -> bool) -> Option<&mut V> {
        let index = self.part_of(hash);
        let part = &mut self.parts[index];
        let place = part.find(hash, same)?;
        Some(part.value_mut(place))
    }

    /// Adds a value that is not there yet. `hash_of` gives the hash of any value in the table.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: V, hash_of: impl Fn(&V) -> u64) {
        let index = self.part_with_room(hash, hash_of);
        self.parts[index].insert(hash, value);
        self.len += 1;
    }

    /// Adds a value unless one that is the `same` is there: one probe for both. Only for a table
    /// from which nothing was ever removed.
    #[inline]
    pub(super) fn insert_if_new(
        &mut self,
        hash: u64,
        value: V,
        same: impl Fn(&V) -> bool,
        hash_of: impl Fn(&V) -> u64,
    ) -> bool {
        let index = self.part_with_room(hash, hash_of);
        let is_new = self.parts[index].insert_if_new(hash, value, same);
        self.len += usize::from(is_new);
        is_new
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

    /// All values, in no order that means anything.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(Part::values)
    }

    /// First hash behind the part that `hash` falls in.
    pub(super) fn part_end(&self, hash: u64) -> u128 {
        let part = &self.parts[self.part_of(hash)];
        (u128::from(prefix(hash, part.depth)) + 1) << (64 - part.depth)
    }

    /// Values of the part that `hash` falls in.
    pub(super) fn part_values(&self, hash: u64) -> impl Iterator<Item = &V> {
        self.parts[self.part_of(hash)].values()
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

    /// Keys that share a long prefix by chance or by intent make one large part instead of a large
    /// directory.
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

impl<V: Copy + Default> Part<V> {
    fn new(depth: u32, prefix: u64) -> Self {
        let spread = PART_BLOCKS_MAX - PART_BLOCKS_MIN + 1;
        let blocks_max = PART_BLOCKS_MIN + scatter(prefix, u64::from(depth), spread);
        Self { blocks: Vec::new(), taken: 0, used: 0, depth, blocks_max, blocks_ahead: 0 }
    }

    fn allocate(&mut self, blocks: usize) {
        self.blocks = Vec::with_capacity(blocks);
        self.blocks.extend((0..blocks).map(|_| Block::new()));
    }

    fn groups(&self) -> usize {
        self.blocks.len() * BLOCK_GROUPS
    }

    fn is_full(&self) -> bool {
        self.used >= slots_max(self.blocks.len())
    }

    /// Blocks to go on with when full: the same again if much of it was removed.
    fn blocks_next(&self) -> usize {
        let blocks = self.blocks.len();
        if blocks < self.blocks_ahead {
            // Values come in order of hash: in a part much too small they would all crowd in its
            // first groups, and each would look for room through all of them.
            let some = if blocks == 0 { 1 } else { AHEAD_BLOCKS_MIN };
            let some = if blocks < AHEAD_BLOCKS_MIN { some } else { self.blocks_ahead };
            return some.min(self.blocks_ahead);
        }
        if self.taken * 16 < slots_max(blocks) * 15 { blocks } else { blocks + blocks / 8 + 1 }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.groups() as u64) >> 32) as usize
    }

    #[inline]
    fn tags(&self, group: usize) -> u128 {
        u128::from_le_bytes(self.blocks[group / BLOCK_GROUPS].tags[group % BLOCK_GROUPS])
    }

    #[inline]
    fn value(&self, place: Place) -> &V {
        let block = &self.blocks[place.group / BLOCK_GROUPS];
        &block.values[place.group % BLOCK_GROUPS][place.slot]
    }

    #[inline]
    fn value_mut(&mut self, place: Place) -> &mut V {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        &mut block.values[place.group % BLOCK_GROUPS][place.slot]
    }

    fn set_tag(&mut self, place: Place, tag: u8) {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        block.tags[place.group % BLOCK_GROUPS][place.slot] = tag;
    }

    #[inline]
    fn find(&self, hash: u64, same: impl Fn(&V) -> bool) -> Option<Place> {
        let groups = self.groups();
        if groups == 0 {
            return None;
        }
        let tag = u128::from(tag_of(hash)) * LOW_BITS;
        let mut group = self.home(hash);
        loop {
            let tags = self.tags(group);
            let mut matches = zero_bytes(tags ^ tag);
            while matches != 0 {
                let place = Place { group, slot: matches.trailing_zeros() as usize / 8 };
                if same(self.value(place)) {
                    return Some(place);
                }
                matches &= matches - 1;
            }
            if zero_bytes(tags) != 0 {
                return None; // an empty slot ends the probe: load is below 1, so there is one
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        }
    }

    /// There must be room.
    #[inline]
    fn insert(&mut self, hash: u64, value: V) {
        let groups = self.groups();
        let mut group = self.home(hash);
        let place = loop {
            let tags = self.tags(group);
            let free = free_slots(tags);
            if free != 0 {
                break Place { group, slot: free.trailing_zeros() as usize / 8 };
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        };
        self.put(place, hash, value);
    }

    /// There must be room, and nothing removed: the first group with a free slot then ends every
    /// probe.
    #[inline]
    fn insert_if_new(&mut self, hash: u64, value: V, same: impl Fn(&V) -> bool) -> bool {
        let groups = self.groups();
        let tag = u128::from(tag_of(hash)) * LOW_BITS;
        let mut group = self.home(hash);
        loop {
            let tags = self.tags(group);
            let mut matches = zero_bytes(tags ^ tag);
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize / 8;
                if same(self.value(Place { group, slot })) {
                    return false;
                }
                matches &= matches - 1;
            }
            let free = free_slots(tags);
            if free != 0 {
                let slot = free.trailing_zeros() as usize / 8;
                self.put(Place { group, slot }, hash, value);
                return true;
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        }
    }

    #[inline]
    fn put(&mut self, place: Place, hash: u64, value: V) {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        let tag = &mut block.tags[place.group % BLOCK_GROUPS][place.slot];
        self.used += usize::from(*tag == EMPTY);
        self.taken += 1;
        *tag = tag_of(hash);
        block.values[place.group % BLOCK_GROUPS][place.slot] = value;
    }

    /// A group that has an empty slot was never full since the last rebuild, so no probe went past
    /// it, and the slot can be empty again.
    fn remove(&mut self, place: Place) -> V {
        let never_full = zero_bytes(self.tags(place.group)) != 0;
        self.set_tag(place, if never_full { EMPTY } else { REMOVED });
        self.used -= usize::from(never_full);
        self.taken -= 1;
        std::mem::take(self.value_mut(place))
    }

    fn rebuild(&mut self, blocks: usize, hash_of: &impl Fn(&V) -> u64) {
        let old = std::mem::take(&mut self.blocks);
        self.allocate(blocks);
        let groups = self.groups();
        // Slots of a group are taken in order. Counting them is faster than looking for a free one:
        // reading tags whose last byte was just written would wait for that write.
        let mut counts = vec![0u8; groups];
        let mut taken = 0;
        for block in old {
            for value in block.values() {
                let hash = hash_of(value);
                let mut group = self.home(hash);
                while usize::from(counts[group]) == GROUP_SLOTS {
                    group = if group + 1 == groups { 0 } else { group + 1 };
                }
                let slot = usize::from(counts[group]);
                counts[group] += 1;
                taken += 1;
                let block = &mut self.blocks[group / BLOCK_GROUPS];
                block.tags[group % BLOCK_GROUPS][slot] = tag_of(hash);
                block.values[group % BLOCK_GROUPS][slot] = *value;
            }
        }
        (self.taken, self.used) = (taken, taken);
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.blocks.iter().flat_map(|block| block.values())
    }
}

impl<V: Copy + Default> Block<V> {
    fn new() -> Box<Self> {
        Box::new(Self {
            tags: [[EMPTY; GROUP_SLOTS]; BLOCK_GROUPS],
            values: [[V::default(); GROUP_SLOTS]; BLOCK_GROUPS],
        })
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        let slots = self.tags.as_flattened().iter().zip(self.values.as_flattened());
        slots.filter(|(tag, _)| **tag >= TAKEN).map(|(_, value)| value)
    }
}

#[inline]
fn prefix(hash: u64, depth: u32) -> u64 {
    (hash >> 1) >> (63 - depth) // a shift by 64 is not defined
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 32) as u8).max(TAKEN)
}

/// Top bit of each byte that is zero, and of no other.
#[inline]
fn zero_bytes(bytes: u128) -> u128 {
    !(((bytes & !TOP_BITS) + !TOP_BITS) | bytes) & TOP_BITS
}

/// Top bit of each byte that is [`EMPTY`] or [`REMOVED`].
#[inline]
fn free_slots(tags: u128) -> u128 {
    zero_bytes(tags & !LOW_BITS)
}

fn slots_max(blocks: usize) -> usize {
    blocks * BLOCK_SLOTS * 59 / 64
}

/// Blocks for `values` values at a load between 0.81 and 0.9 that depends on the prefix.
fn blocks_for(values: usize, prefix: u64) -> usize {
    let slots_per_mille = 1110 + scatter(prefix, 0x51ed, 125);
    (values * slots_per_mille / 1000).div_ceil(BLOCK_SLOTS).max(1)
}

/// A number below `below` that looks random.
fn scatter(prefix: u64, salt: u64, below: usize) -> usize {
    let mixed = (prefix + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
    let mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    mixed as usize % below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::ids::hash_of_id;

    fn hash(value: u64) -> u64 {
        hash_of_id(u128::from(value), false)
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
