//! One part of a [`Table`](super::Table): an open-addressing table of 16-slot groups in blocks of
//! one size, with one tag byte for each slot. A probe starts at the group that the hash names, and
//! ends at the first group with an empty slot.

use crate::ledger::limits::PART_BLOCKS_MAX;
use crate::os::prefetch;

/// Slots that a probe looks at together.
const GROUP_SLOTS: usize = 16;
/// Groups in one allocation.
const BLOCK_GROUPS: usize = 16;
/// Slots in one allocation.
const BLOCK_SLOTS: usize = GROUP_SLOTS * BLOCK_GROUPS;
/// A part splits at a size between this and [`PART_BLOCKS_MAX`]; which one depends on its prefix.
const PART_BLOCKS_MIN: usize = 48;
const _: () = assert!(PART_BLOCKS_MIN * 2 <= PART_BLOCKS_MAX + 1);

const EMPTY: u8 = 0;
/// Removed from a group that was full: a probe must go on after it.
const REMOVED: u8 = 1;
/// Smallest tag of a slot that holds a value.
const TAKEN: u8 = 2;
const _: () = assert!(EMPTY == 0 && REMOVED == 1);
const LOW_BITS: u128 = u128::from_le_bytes([0x01; 16]);
const TOP_BITS: u128 = u128::from_le_bytes([0x80; 16]);

pub(super) struct Block<V> {
    tags: [[u8; GROUP_SLOTS]; BLOCK_GROUPS],
    values: [[V; GROUP_SLOTS]; BLOCK_GROUPS],
}

/// See the module.
pub(super) struct Part<V> {
    pub blocks: Vec<Box<Block<V>>>,
    /// Slots that hold a value. Invariant: at most `used`.
    pub taken: usize,
    /// Slots that hold a value or [`REMOVED`]. Invariant: at most `slots_max` of the blocks, so
    /// that every probe finds an empty slot.
    used: usize,
    /// All hashes here share this many upper bits.
    pub depth: u32,
    /// The part splits instead of growing beyond this.
    pub blocks_max: usize,
}

/// Where a value is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    group: usize,
    slot: usize,
}

impl<V: Copy + Default> Part<V> {
    pub(super) fn new(depth: u32, prefix: u64) -> Self {
        let spread = PART_BLOCKS_MAX - PART_BLOCKS_MIN + 1;
        let blocks_max = PART_BLOCKS_MIN + scatter(prefix, u64::from(depth), spread);
        Self { blocks: Vec::new(), taken: 0, used: 0, depth, blocks_max }
    }

    pub(super) fn allocate(&mut self, blocks: usize) {
        self.blocks = Vec::with_capacity(blocks);
        self.blocks.extend((0..blocks).map(|_| Block::new()));
    }

    #[inline]
    fn groups(&self) -> usize {
        self.blocks.len() * BLOCK_GROUPS
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.used >= slots_max(self.blocks.len())
    }

    /// How many blocks to have after this part is full: as many as now if much was removed.
    pub(super) fn blocks_next(&self) -> usize {
        let blocks = self.blocks.len();
        if self.taken * 16 < slots_max(blocks) * 15 { blocks } else { blocks + blocks / 8 + 1 }
    }

    /// Starts to load the block that `hash` falls in.
    #[inline]
    pub(super) fn prefetch_block(&self, hash: u64) {
        if let Some(block) = self.blocks.get(self.home(hash) / BLOCK_GROUPS) {
            prefetch(block);
        }
    }

    /// Starts to load the tags that a look-up of `hash` reads first.
    #[inline]
    pub(super) fn prefetch_tags(&self, hash: u64) {
        let group = self.home(hash);
        if let Some(block) = self.blocks.get(group / BLOCK_GROUPS) {
            prefetch(&block.tags[group % BLOCK_GROUPS]);
        }
    }

    /// Starts to load the slot that `hash` is likely to be in, or else to be inserted into.
    #[inline]
    pub(super) fn prefetch_slot(&self, hash: u64) {
        if self.blocks.is_empty() {
            return;
        }
        let group = self.home(hash);
        let tags = self.tags(group);
        let matches = zero_bytes(tags ^ (u128::from(tag_of(hash)) * LOW_BITS));
        let likely = if matches == 0 { free_slots(tags) } else { matches };
        if likely != 0 {
            prefetch(self.value(Place { group, slot: likely.trailing_zeros() as usize / 8 }));
        }
    }

    /// The group where the probe for `hash` starts.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.groups() as u64) >> 32) as usize
    }

    #[inline]
    fn tags(&self, group: usize) -> u128 {
        u128::from_le_bytes(self.blocks[group / BLOCK_GROUPS].tags[group % BLOCK_GROUPS])
    }

    #[inline]
    pub(super) fn value(&self, place: Place) -> &V {
        let block = &self.blocks[place.group / BLOCK_GROUPS];
        &block.values[place.group % BLOCK_GROUPS][place.slot]
    }

    #[inline]
    pub(super) fn value_mut(&mut self, place: Place) -> &mut V {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        &mut block.values[place.group % BLOCK_GROUPS][place.slot]
    }

    fn set_tag(&mut self, place: Place, tag: u8) {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        block.tags[place.group % BLOCK_GROUPS][place.slot] = tag;
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, same: impl Fn(&V) -> bool) -> Option<Place> {
        let groups = self.groups();
        if groups == 0 {
            return None;
        }
        let tag = u128::from(tag_of(hash)) * LOW_BITS;
        let mut group = self.home(hash);
        loop {
            let tags = self.tags(group);
            if let Some(place) = self.find_in_group(group, zero_bytes(tags ^ tag), &same) {
                return Some(place);
            }
            if zero_bytes(tags) != 0 {
                return None; // an empty slot ends the probe; there is one, because load is below 1
            }
            group = if group + 1 == groups { 0 } else { group + 1 };
        }
    }

    /// The value of a group that is the `same`, among the slots that `matches` marks.
    #[inline]
    fn find_in_group(
        &self,
        group: usize,
        mut matches: u128,
        same: &impl Fn(&V) -> bool,
    ) -> Option<Place> {
        while matches != 0 {
            let place = Place { group, slot: matches.trailing_zeros() as usize / 8 };
            if same(self.value(place)) {
                return Some(place);
            }
            matches &= matches - 1;
        }
        None
    }

    /// Adds a value that is not there yet. There must be room.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: V) {
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

    #[inline]
    fn put(&mut self, place: Place, hash: u64, value: V) {
        let block = &mut self.blocks[place.group / BLOCK_GROUPS];
        let tag = &mut block.tags[place.group % BLOCK_GROUPS][place.slot];
        self.used += usize::from(*tag == EMPTY);
        self.taken += 1;
        *tag = tag_of(hash);
        block.values[place.group % BLOCK_GROUPS][place.slot] = value;
    }

    /// Takes a value out. If its group has an empty slot, the group was never full since the last
    /// rebuild. Then no probe has gone past it, and the slot can become empty again.
    pub(super) fn remove(&mut self, place: Place) -> V {
        let never_full = zero_bytes(self.tags(place.group)) != 0;
        self.set_tag(place, if never_full { EMPTY } else { REMOVED });
        self.used -= usize::from(never_full);
        self.taken -= 1;
        std::mem::take(self.value_mut(place))
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.blocks.len() * size_of::<Block<V>>()) as u64
    }

    /// Moves everything into `blocks` new blocks, without what was removed.
    pub(super) fn rebuild(&mut self, blocks: usize, hash_of: &impl Fn(&V) -> u64) {
        let old = std::mem::take(&mut self.blocks);
        self.allocate(blocks);
        let groups = self.groups();
        // Slots of a group are filled in order. Counting them is faster than looking for a free
        // one: reading a group's tags right after one of them was written would wait for that
        // write.
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
        assert!(taken <= slots_max(blocks), "{taken} values in {blocks} blocks");
        (self.taken, self.used) = (taken, taken);
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
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

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        let slots = self.tags.as_flattened().iter().zip(self.values.as_flattened());
        slots.filter(|(tag, _)| **tag >= TAKEN).map(|(_, value)| value)
    }
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

#[inline]
fn slots_max(blocks: usize) -> usize {
    blocks * BLOCK_SLOTS * 59 / 64
}

/// Blocks for `values` values at a load between 0.81 and 0.9 that depends on the prefix.
pub(super) fn blocks_for(values: usize, prefix: u64) -> usize {
    let slots_per_mille = 1110 + scatter(prefix, 0x51ed, 125);
    (values * slots_per_mille / 1000).div_ceil(BLOCK_SLOTS).max(1)
}

/// A pseudorandom number below `below`.
fn scatter(prefix: u64, salt: u64, below: usize) -> usize {
    let mixed = (prefix + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
    let mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32;
    mixed as usize % below
}
