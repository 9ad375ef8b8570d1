//! Ids that stand in a file twice, exactly, without keeping every id. The first reading finds the
//! few that may: those whose bit in a table was set before. The second reading compares them. Pure.

use std::collections::HashMap;

use walengine_net::model::EventId;

use crate::limits::IMPORT_SEEN_BYTES_MAX;

/// Bits of ids that share a cache line: ids that follow each other are near each other.
const BLOCK_BITS: u128 = 512;
/// Shortest row, about, and bits of the table for each.
const ROW_BYTES: u64 = 24;
const BITS_PER_ROW: u64 = 16;

/// What the first reading finds.
#[derive(Debug)]
pub struct Seen {
    words: Vec<u64>,
    /// Ids that may stand there twice, and the line of the first that the second reading finds.
    suspects: HashMap<EventId, u64>,
}

impl Seen {
    /// A table for a file of this size.
    pub fn new(bytes: u64) -> Self {
        let wanted = bytes / ROW_BYTES * BITS_PER_ROW / 8;
        let bytes = wanted.clamp(1 << 10, IMPORT_SEEN_BYTES_MAX).next_power_of_two();
        Self { words: vec![0; bytes as usize / 8], suspects: HashMap::new() }
    }

    /// Notes an id in the first reading.
    pub fn note(&mut self, id: EventId) {
        let block = mixed(id.0 / BLOCK_BITS) & (self.words.len() as u64 / 8 - 1);
        let bit = (id.0 % BLOCK_BITS) as usize;
        let word = &mut self.words[block as usize * 8 + bit / 64];
        let mask = 1 << (bit % 64);
        if *word & mask != 0 {
            self.suspects.insert(id, 0);
        }
        *word |= mask;
    }

    /// Looks an id up in the second reading. The line in which it stood before.
    pub fn before(&mut self, id: EventId, line: u64) -> Option<u64> {
        match self.suspects.get_mut(&id)? {
            first if *first == 0 => {
                *first = line;
                None
            }
            first => Some(*first),
        }
    }

    /// The first reading is over: the table is not needed any more.
    pub fn close(&mut self) {
        self.words = Vec::new();
    }
}

/// A number whose low bits depend on all of `block`.
fn mixed(block: u128) -> u64 {
    let folded = block as u64 ^ ((block >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (folded ^ (folded >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: &[u128], bytes: u64) -> usize {
        let mut seen = Seen::new(bytes);
        for id in ids {
            seen.note(EventId(*id));
        }
        seen.close();
        let suspects = seen.suspects.len();
        let mut first = HashMap::new();
        for (id, line) in ids.iter().zip(2..) {
            let expected = first.get(id).copied();
            first.entry(*id).or_insert(line);
            assert_eq!(seen.before(EventId(*id), line), expected, "{id}");
        }
        suspects
    }

    #[test]
    fn ids_that_stand_there_twice_are_found_with_the_first_line_and_no_others() {
        let mut ids: Vec<u128> = (1..5000).chain((0..5000).map(|n| (n << 100) | (n * n))).collect();
        ids.extend([7, 7, 4999, (3 << 100) | 9]);
        check(&ids, ids.len() as u64 * 24);
        check(&ids, 0); // many suspects, the same result
        assert_eq!(check(&(1..100_000).collect::<Vec<_>>(), 2_400_000) / 10_000, 0);
    }
}
