//! An index over many generations of the newest ids at once, so that a look-up costs the same however many
//! there are.

use super::limits::KEPT_CELLS_MAX;
use crate::os::prefetch;

/// Bits of a cell with a slot's number, plus one; the others are a tag. 0: an empty cell.
const NUMBER_BITS: u32 = 48;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// Hashes whose cells are loaded while those before them are added.
const AHEAD: usize = 16;

/// See the module. Numbers that are gone stay in it until it is made anew: whoever finds one looks whether its slot
/// is there.
#[derive(Default)]
pub(super) struct JointIndex {
    /// Its length is a power of two, and at least a quarter of its cells are empty.
    cells: Vec<u64>,
    /// Cells that are not empty.
    used: usize,
}

impl JointIndex {
    /// Empty, with room for so many numbers.
    pub(super) fn with_room_for(numbers: usize) -> Self {
        let cells = (numbers + numbers / 3 + 1).next_power_of_two();
        Self { cells: vec![0; cells], used: 0 }
    }

    /// Holds nothing any more, and keeps its memory unless that is much.
    pub(super) fn clear(&mut self) {
        if self.cells.len() > KEPT_CELLS_MAX {
            self.cells = Vec::new();
        }
        self.cells.fill(0);
        self.used = 0;
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.cells.capacity() * size_of::<u64>()) as u64
    }

    pub(super) fn has_room_for(&self, numbers: usize) -> bool {
        self.used + numbers <= self.cells.len() / 4 * 3
    }

    #[inline]
    fn cell_of(&self, hash: u64) -> usize {
        hash as usize & self.cells.len().wrapping_sub(1)
    }

    /// Starts to load what [`Self::find`] reads.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(cell) = self.cells.get(self.cell_of(hash)) {
            prefetch(cell);
        }
    }

    /// The number of this hash for which `is_it` says so.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u64) -> bool) -> Option<u64> {
        let mut at = self.cell_of(hash);
        loop {
            let cell = *self.cells.get(at)?;
            if cell == 0 {
                return None;
            }
            let number = (cell & NUMBER_MASK) - 1;
            if cell & !NUMBER_MASK == tag_of(hash) && is_it(number) {
                return Some(number);
            }
            at = (at + 1) & (self.cells.len() - 1);
        }
    }

    /// Adds numbers, for which there must be room, each with its hash.
    pub(super) fn extend(&mut self, numbers: impl Iterator<Item = (u64, u64)> + Clone) {
        let mut ahead = numbers.clone();
        ahead.by_ref().take(AHEAD).for_each(|(hash, _)| self.prefetch(hash));
        for (hash, number) in numbers {
            if let Some((hash, _)) = ahead.next() {
                self.prefetch(hash);
            }
            self.used += 1;
            let mut at = self.cell_of(hash);
            while self.cells[at] != 0 {
                at = (at + 1) & (self.cells.len() - 1);
            }
            self.cells[at] = tag_of(hash) | (number + 1);
        }
    }
}

#[inline]
fn tag_of(hash: u64) -> u64 {
    hash & !NUMBER_MASK
}
