//! An approximate set of hashes, in memory: about 2.5 bytes each. It may hold a hash that was never
//! added, about once in 2,000 look-ups when it holds 300 million; it never misses one that was.
//!
//! The upper 12 bits of a hash name a *part*, and the next 27 are its *value* there. A part is a row of
//! *lines*, each a cache line. A value's line is in proportion to it, so a line need not store the whole
//! value, only its distance from the least one that falls there: exactly, whatever the number of lines.
//! So a part grows by any fraction and loses nothing by it.
//!
//! ```text
//! line = value * lines / 2^27      stored = value - (least value of the line) + 1      0 = empty
//! ```
//! Values that find their line full are *spilled*: into a sorted list of the part. A full line tells
//! which of its look-ups must ask that list: the order of each pair of slots in a word is one bit.

use std::collections::BTreeSet;

use super::limits::SPILLED_MAX;
use crate::os::prefetch;

const PART_BITS: u32 = 12;
const PARTS: usize = 1 << PART_BITS;
const VALUE_BITS: u32 = 27;
const VALUES: u64 = 1 << VALUE_BITS;
/// Bits of a hash below those that count.
const UNUSED_BITS: u32 = 64 - PART_BITS - VALUE_BITS;
const LINE_WORDS: usize = 8;
/// The reciprocal of a number of lines is a fraction of 2 to this power.
const RECIPROCAL_BITS: u32 = 60;
/// Values of a part that is small: with so many in each, there are 60 million in all.
const SMALL_VALUES: u64 = 15_000;
/// Spilled values to begin a search with: a cache line of them.
const NEAR: usize = 16;
/// A part grows when this share of its slots would be used: 0.88.
const LOAD: (u64, u64) = (22, 25);

/// How a line is divided into slots. Slots are filled in order: slot 0 is in word 0, slot 1 in word 1,
/// slot 8 behind slot 0.
#[derive(Debug)]
struct Layout {
    slots: usize,
    slot_bits: u32,
    /// Least number of lines whose distances fit in a slot.
    lines_min: u64,
    /// Lowest bit of each slot of a word.
    ones: u64,
    /// All bits but the highest of each slot.
    low: u64,
    /// Highest bit of each slot.
    high: u64,
    /// Position of the last slot of a word.
    last_at: u32,
    /// The bits of a slot, at the lowest place.
    mask: u64,
    /// Pairs of slots in a word, less one.
    last_pair: u32,
}

/// A pair of slots: the number of its word, and where it begins there.
#[derive(Clone, Copy)]
struct Pair {
    word: usize,
    at: u32,
}

impl Layout {
    const fn new(slot_bits: u32) -> Self {
        let word_slots = 64 / slot_bits;
        let (mut ones, mut slot) = (0, 0);
        while slot < word_slots {
            ones |= 1 << (slot * slot_bits);
            slot += 1;
        }
        let mask = (1 << slot_bits) - 1;
        let high = ones << (slot_bits - 1);
        Self {
            slots: LINE_WORDS * word_slots as usize,
            slot_bits,
            lines_min: VALUES.div_ceil(mask),
            ones,
            low: high - ones,
            high,
            last_at: (word_slots - 1) * slot_bits,
            mask,
            last_pair: word_slots / 2 - 1,
        }
    }

    /// The pair that tells of spilled values like this one.
    #[inline]
    fn pair_of(&self, value: u32) -> Pair {
        let pair = (value / LINE_WORDS as u32) & self.last_pair;
        Pair { word: value as usize % LINE_WORDS, at: pair * 2 * self.slot_bits }
    }

    /// The highest bit of each slot that is not empty; others are unspecified.
    #[inline]
    fn taken(&self, word: u64) -> u64 {
        ((word & self.low).wrapping_add(self.low)) | word
    }

    /// Whether the first slot of a pair that begins `at` is the greater one. They are never equal when
    /// both are taken.
    #[inline]
    fn is_reversed(&self, word: u64, at: u32) -> bool {
        let pair = word >> at;
        pair & self.mask > (pair >> self.slot_bits) & self.mask
    }

    /// The word with the pair that begins `at` the other way round.
    fn reverse(&self, word: u64, at: u32) -> u64 {
        let swap = ((word ^ (word >> self.slot_bits)) >> at) & self.mask;
        word ^ ((swap | (swap << self.slot_bits)) << at)
    }

    /// The word with no pair reversed.
    fn in_order(&self, mut word: u64) -> u64 {
        for pair in 0..=self.last_pair {
            let at = pair * 2 * self.slot_bits;
            if self.is_reversed(word, at) {
                word = self.reverse(word, at);
            }
        }
        word
    }
}

/// Densest first.
static LAYOUTS: [Layout; 3] = [Layout::new(16), Layout::new(21), Layout::new(32)];
/// The last of them.
const SPARSEST: u8 = LAYOUTS.len() as u8 - 1;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; LINE_WORDS]);

/// See the module.
pub struct Filter {
    parts: Box<[Part; PARTS]>,
    len: u64,
}

/// Where a value stands: its line, and what is stored there.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    stored: u64,
}

/// All in one cache line: it is read before every look-up.
#[repr(align(64))]
struct Part {
    lines: Box<[Line]>,
    /// 2^60 divided by the number of lines, rounded up.
    reciprocal: u64,
    /// One of [`LAYOUTS`].
    layout: u8,
    values: u32,
    /// Sorted. Values whose line is full.
    spilled: Vec<u32>,
    /// Values whose line is full, beyond those in `spilled`; seldom any.
    #[allow(clippy::box_collection, reason = "a tree is three words, and a part has room for one")]
    crowd: Option<Box<BTreeSet<u32>>>,
}

const _: () = assert!(size_of::<Part>() == size_of::<Line>());

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    /// Holds nothing.
    pub fn new() -> Self {
        Self::of(SPARSEST, 0)
    }

    fn of(layout: u8, lines: u64) -> Self {
        let parts: Box<[Part]> = (0..PARTS).map(|_| Part::with_lines(layout, lines)).collect();
        let Ok(parts) = parts.try_into() else { unreachable!("as many parts as were made") };
        Self { parts, len: 0 }
    }

    /// Holds nothing, and has room for so many hashes: adding them takes a third of the time then.
    pub fn with_room_for(hashes: u64) -> Self {
        let each = hashes.div_ceil(PARTS as u64);
        let (layout, lines) = lines_for(slots_for(each + each / 64 + 8));
        Self::of(layout, lines)
    }

    /// Number of hashes that were added, equal ones too.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory that it takes in bytes. Looks at every part.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum::<usize>() as u64
    }

    /// Starts to load what [`Self::prefetch`] reads.
    #[inline]
    pub fn prefetch_part(&self, hash: u64) {
        prefetch(self.part(hash));
    }

    /// Starts to load what [`Self::may_hold`] and [`Self::insert`] read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let part = self.part(hash);
        if let Some(line) = part.lines.get(part.place(value_of(hash)).line) {
            prefetch(line);
        }
    }

    /// False only if `hash` was never added.
    #[inline]
    pub fn may_hold(&self, hash: u64) -> bool {
        self.part(hash).holds(value_of(hash))
    }

    /// Adds a hash. Now and then its part grows, which takes time in proportion to the part.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        self.len += 1;
        let number = part_of(hash);
        self.parts[number].insert(value_of(hash), number);
    }

    #[inline]
    fn part(&self, hash: u64) -> &Part {
        &self.parts[part_of(hash)]
    }

    /// Appends the part with this number as bytes: FORMAT.md, section 10. False behind the last part.
    pub fn encode_part(&self, number: usize, bytes: &mut Vec<u8>) -> bool {
        let part = self.parts.get(number);
        part.inspect(|part| part.encode(bytes)).is_some()
    }

    /// Puts parts together that were encoded, `len` hashes in all; `None` if they are not all there.
    pub fn of_parts(parts: Vec<FilterPart>, len: u64) -> Option<Self> {
        let parts: Box<[Part]> = parts.into_iter().map(|part| part.0).collect();
        Some(Self { parts: parts.try_into().ok()?, len })
    }
}

/// One part of a filter.
pub struct FilterPart(Part);

impl FilterPart {
    /// `None` unless the bytes are what [`Filter::encode_part`] makes of a part.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Part::decode(bytes).map(Self)
    }
}

/// Bytes before a part's lines: bits of a slot u32, values u32, lines u32, spilled values u32.
const PART_HEAD_BYTES: usize = 16;

#[inline]
fn part_of(hash: u64) -> usize {
    (hash >> (64 - PART_BITS)) as usize
}

#[inline]
fn value_of(hash: u64) -> u32 {
    ((hash >> UNUSED_BITS) & (VALUES - 1)) as u32
}

impl Part {
    fn with_lines(layout: u8, lines: u64) -> Self {
        let mut part = Self {
            lines: vec![Line([0; LINE_WORDS]); lines as usize].into_boxed_slice(),
            reciprocal: 0,
            layout,
            values: 0,
            spilled: Vec::new(),
            crowd: None,
        };
        part.measure();
        part
    }

    fn bytes(&self) -> usize {
        // A tree's leaf has 64 bytes for 11 values and is two thirds full.
        let spilled = self.spilled.capacity() * size_of::<u32>() + self.crowd().len() * 9;
        size_of::<Self>() + size_of_val(&*self.lines) + spilled
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let spilled = self.spilled.len() + self.crowd().len();
        let counts = [self.values, self.lines.len() as u32, spilled as u32];
        bytes.extend(self.layout().slot_bits.to_le_bytes());
        bytes.extend(counts.into_iter().flat_map(u32::to_le_bytes));
        for line in &self.lines {
            line.0.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
        let spilled = self.spilled.iter().chain(self.crowd());
        spilled.for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<PART_HEAD_BYTES>()?;
        let [bits, values, lines, spilled] = head.as_chunks().0 else { return None };
        let [bits, values, lines, spilled] =
            [bits, values, lines, spilled].map(|word| u32::from_le_bytes(*word));
        let number = LAYOUTS.iter().position(|layout| layout.slot_bits == bits)?;
        let layout = &LAYOUTS[number];
        let line_bytes = (lines as usize).checked_mul(size_of::<Line>())?;
        let (line_bytes, spilled_bytes) = rest.split_at_checked(line_bytes)?;
        let is_possible = spilled_bytes.len() == (spilled as usize).checked_mul(4)?
            && (lines == 0 || u64::from(lines) >= layout.lines_min)
            && u64::from(lines) < VALUES;
        if !is_possible {
            return None;
        }
        let mut part = Self::with_lines(number as u8, 0);
        let line = |bytes: &[u8; size_of::<Line>()]| {
            let mut line = Line([0; LINE_WORDS]);
            for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            line
        };
        part.lines = line_bytes.as_chunks().0.iter().map(line).collect();
        part.measure();
        part.values = values;
        let all: Vec<u32> =
            spilled_bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        part.take_spilled(all);
        Some(part)
    }

    /// What follows from the number of lines.
    fn measure(&mut self) {
        self.reciprocal = (1 << RECIPROCAL_BITS) / (self.lines.len() as u64).max(1) + 1;
    }

    #[inline]
    fn layout(&self) -> &'static Layout {
        &LAYOUTS[usize::from(self.layout)]
    }

    /// It grows before it holds more values than this.
    fn values_max(&self) -> u64 {
        self.lines.len() as u64 * self.layout().slots as u64 * LOAD.0 / LOAD.1
    }

    fn crowd(&self) -> &BTreeSet<u32> {
        static NOBODY: BTreeSet<u32> = BTreeSet::new();
        self.crowd.as_deref().unwrap_or(&NOBODY)
    }

    /// Takes all that is spilled, in any order.
    fn take_spilled(&mut self, mut spilled: Vec<u32>) {
        spilled.sort_unstable();
        let crowd: BTreeSet<u32> = spilled.drain(spilled.len().min(SPILLED_MAX)..).collect();
        self.crowd = (!crowd.is_empty()).then(|| Box::new(crowd));
        spilled.shrink_to_fit();
        self.spilled = spilled;
    }

    #[inline]
    fn place(&self, value: u32) -> Place {
        let scaled = u64::from(value) * self.lines.len() as u64;
        let past_start = scaled & (VALUES - 1);
        // Rounds down exactly: both factors' error is below 2^27 * 2^27, and that is below 2^60.
        let distance = (u128::from(past_start) * u128::from(self.reciprocal)) >> RECIPROCAL_BITS;
        Place { line: (scaled >> VALUE_BITS) as usize, stored: distance as u64 + 1 }
    }

    /// The least value that falls in a line.
    fn start(&self, line: usize) -> u32 {
        ((line as u64) << VALUE_BITS).div_ceil(self.lines.len() as u64) as u32
    }

    #[inline]
    fn holds(&self, value: u32) -> bool {
        let place = self.place(value);
        let Some(line) = self.lines.get(place.line) else { return false };
        let layout = self.layout();
        let same = place.stored.wrapping_mul(layout.ones);
        // A slot that differs has its highest bit set here. Without branches, so that the compiler
        // takes several words at once.
        let differ = line.0.iter().fold(layout.high, |all, word| all & layout.taken(word ^ same));
        differ != layout.high
            || ((self.is_full(line) & self.is_marked(line, value)) && self.has_spilled(value))
    }

    fn insert(&mut self, value: u32, number: usize) {
        if self.holds(value) {
            return;
        }
        if u64::from(self.values) >= self.values_max() {
            self.grow(number);
        }
        let place = self.place(value);
        let taken = self.taken_slots(&self.lines[place.line]);
        if !self.put(value, place, taken) {
            self.spill(value);
        }
    }

    /// Adds a value that is not there, to a line of which so many slots are taken. False if that was all
    /// of them; the line tells of it then, and the value must be spilled.
    #[inline]
    fn put(&mut self, value: u32, place: Place, taken: usize) -> bool {
        self.values += 1;
        let layout = self.layout();
        let words = &mut self.lines[place.line].0;
        if taken == layout.slots {
            let Pair { word, at } = layout.pair_of(value);
            if !layout.is_reversed(words[word], at) {
                words[word] = layout.reverse(words[word], at);
            }
            return false;
        }
        let at = (taken / LINE_WORDS) as u32 * layout.slot_bits;
        words[taken % LINE_WORDS] |= place.stored << at;
        if taken + 1 == layout.slots {
            for word in words {
                *word = layout.in_order(*word);
            }
        }
        true
    }

    fn spill(&mut self, value: u32) {
        if self.spilled.len() >= SPILLED_MAX {
            self.crowd.get_or_insert_default().insert(value);
        } else if let Err(at) = self.spilled.binary_search(&value) {
            if self.spilled.len() == self.spilled.capacity() {
                self.spilled.reserve_exact(self.spilled.len() / 8 + 4);
            }
            self.spilled.insert(at, value);
        }
    }

    #[inline]
    fn is_full(&self, line: &Line) -> bool {
        line.0[LINE_WORDS - 1] >> self.layout().last_at != 0
    }

    /// Whether values like this one were spilled from a full line.
    #[inline]
    fn is_marked(&self, line: &Line, value: u32) -> bool {
        let Pair { word, at } = self.layout().pair_of(value);
        self.layout().is_reversed(line.0[word], at)
    }

    /// Looks where the value would be if all were spread evenly, and from there on in doubling steps: most
    /// often that is one cache line, where halving reads several.
    #[cold]
    fn has_spilled(&self, value: u32) -> bool {
        let spilled = &*self.spilled;
        let guess = ((u64::from(value) * spilled.len() as u64) >> VALUE_BITS) as usize;
        let (below, above) = spilled.split_at(guess);
        let (mut passed, mut step) = (0, NEAR);
        let near = if above.first().is_some_and(|first| *first <= value) {
            while above.get(step).is_some_and(|other| *other <= value) {
                (passed, step) = (step, 2 * step);
            }
            &above[passed..above.len().min(step)]
        } else {
            let end = below.len();
            while end.checked_sub(step).is_some_and(|at| below[at] > value) {
                (passed, step) = (step, 2 * step);
            }
            &below[end.saturating_sub(step)..end - passed]
        };
        near.binary_search(&value).is_ok() || self.crowd().contains(&value)
    }

    #[inline]
    fn taken_slots(&self, line: &Line) -> usize {
        let layout = self.layout();
        let ones = |word: &u64| (layout.taken(*word) & layout.high) >> (layout.slot_bits - 1);
        // At most eight for each slot of the word, so their sums fit in the slots.
        let by_slot: u64 = line.0.iter().map(ones).fold(0, u64::wrapping_add);
        (by_slot.wrapping_mul(layout.ones) >> layout.last_at & layout.mask) as usize
    }

    /// Takes more lines: about seven of a hundred, and a small part, which costs little memory, a
    /// sixth. How
    /// many depends on the part, so that not all parts grow at the same time. A crowded part takes as many
    /// again, and so is seldom made anew.
    #[cold]
    fn grow(&mut self, number: usize) {
        let values = u64::from(self.values);
        let share = if values < SMALL_VALUES { 8 } else { 20 };
        let more = values / share + values * (number % 16) as u64 / (20 * share) + 8;
        let more = if self.crowd.is_none() { more } else { values };
        let (layout, lines) = lines_for(slots_for(values + more));
        let old = std::mem::replace(self, Self::with_lines(layout, lines));
        let mut taken = vec![0u8; lines as usize];
        let mut spilled = Vec::with_capacity(old.spilled.len());
        old.each(|value| {
            let place = self.place(value);
            let taken = &mut taken[place.line];
            if self.put(value, place, usize::from(*taken)) {
                *taken += 1;
            } else {
                spilled.push(value);
            }
        });
        self.take_spilled(spilled);
    }

    fn each(&self, mut on: impl FnMut(u32)) {
        let layout = self.layout();
        for (number, line) in self.lines.iter().enumerate() {
            let start = self.start(number);
            for word in line.0 {
                let mut rest = word;
                while rest != 0 {
                    let stored = (rest & layout.mask) as u32;
                    if stored != 0 {
                        on(start + stored - 1);
                    }
                    rest >>= layout.slot_bits;
                }
            }
        }
        self.spilled.iter().chain(self.crowd()).copied().for_each(on);
    }
}

/// Slots that so many values need.
fn slots_for(values: u64) -> u64 {
    values * LOAD.1 / LOAD.0
}

/// The layout that takes the least memory for so many slots, the first of equals, and its number of lines.
fn lines_for(slots: u64) -> (u8, u64) {
    let lines = |layout: &Layout| slots.div_ceil(layout.slots as u64).max(layout.lines_min);
    let all = (0..).zip(LAYOUTS.iter().map(lines));
    all.min_by_key(|(_, lines)| *lines).expect("there are layouts")
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "shares and averages")]
mod tests {
    use super::*;
    use crate::ids::key::{Space, hash_of_id};

    fn random(number: u64) -> u64 {
        hash_of_id(u128::from(number), Space::Event)
    }

    fn filled(hashes: impl Iterator<Item = u64> + Clone) -> Filter {
        let mut filter = Filter::new();
        hashes.clone().for_each(|hash| filter.insert(hash));
        assert!(hashes.clone().all(|hash| filter.may_hold(hash)));
        assert_eq!(filter.len(), hashes.count() as u64);
        filter
    }

    /// Hashes whose upper bits are those of one part, and whose values there are spread by `value`.
    fn in_one_part(
        values: u64,
        value: impl Fn(u64) -> u64 + Clone,
    ) -> impl Iterator<Item = u64> + Clone {
        (0..values).map(move |n| (77 << (64 - PART_BITS)) | ((value(n) % VALUES) << UNUSED_BITS))
    }

    #[test]
    fn no_added_hash_is_missed_at_any_size() {
        let mut filter = Filter::new();
        for number in 0..2_000_000 {
            let hash = random(number);
            filter.insert(hash);
            assert!(filter.may_hold(hash));
            if number.is_power_of_two() {
                assert!((0..number).all(|number| filter.may_hold(random(number))), "{number}");
            }
        }
        assert!((0..2_000_000).all(|number| filter.may_hold(random(number))));
    }

    /// A part goes through all three layouts of a line, as with 300 million hashes in all parts.
    #[test]
    fn one_part_as_full_as_with_300_million() {
        let values = 300_000_000 / PARTS as u64;
        let scattered = |n: u64| random(n) >> 20;
        let filter = filled(in_one_part(values, scattered));
        let part = &filter.parts[77];
        assert_eq!(part.layout().slot_bits, 16);
        let bytes = part.bytes() as f64 / f64::from(part.values);
        assert!(bytes < 2.5, "{bytes} bytes each");
        let others = (values..values + 2_000_000).map(|n| scattered(n) % VALUES);
        let wrong = others.filter(|value| part.holds(*value as u32)).count() as f64 / 2e6;
        let expected = f64::from(part.values) / VALUES as f64;
        assert!((expected * 0.7..expected * 1.4).contains(&wrong), "{wrong}, not {expected}");
        // Nearly all full lines say that a value was not spilled.
        let asked = (0..1_000_000).filter(|n| {
            let value = (random(*n) % VALUES) as u32;
            let line = &part.lines[part.place(value).line];
            part.is_full(line) && part.is_marked(line, value)
        });
        let asked = asked.count();
        assert!(asked < 100_000, "{asked} of a million ask the list");
    }

    #[test]
    fn false_positives_are_as_many_as_values_in_a_part() {
        let filter = filled((0..2_000_000).map(random));
        let others = 2_000_000..12_000_000;
        let wrong = others.filter(|number| filter.may_hold(random(*number))).count() as f64;
        let expected = 1e7 * 2e6 / (PARTS as f64 * VALUES as f64);
        assert!((expected / 2.0..expected * 2.0).contains(&wrong), "{wrong}, not {expected}");
    }

    #[test]
    fn memory_is_in_proportion_to_what_it_holds() {
        let empty = Filter::new().bytes();
        assert!(empty < 1 << 20, "{empty}");
        for (hashes, most) in [(1 << 16, 12.0), (1 << 18, 7.0), (1 << 20, 5.5), (1 << 22, 4.5)] {
            let bytes = filled((0..hashes).map(random)).bytes() - empty;
            let each = bytes as f64 / hashes as f64;
            assert!(each < most, "{each} bytes each of {hashes}");
        }
    }

    /// Whoever chooses ids so that their hashes fall together neither fills the memory nor stops time.
    #[test]
    fn crowded_hashes_take_little_memory() {
        let empty = Filter::new().bytes();
        let ascending = filled(in_one_part(400_000, |n| n));
        let descending = filled(in_one_part(400_000, |n| VALUES - 1 - n));
        let clusters = filled(in_one_part(400_000, |n| ((n % 100) << 20) | (n / 100)));
        let in_order = filled(in_one_part(400_000, |n| n * 335));
        for filter in [ascending, descending, clusters, in_order] {
            let bytes = (filter.bytes() - empty) as f64 / 400_000.0;
            assert!(bytes < 20.0, "{bytes} bytes each");
        }
        filled((0..3_000_000).map(|n| n << 40)); // sequential, in all parts
        let same = filled((0..3_000_000).map(|n| (5 << 52) | (n % (1 << UNUSED_BITS))));
        assert_eq!(same.parts[5].values, 1);
        assert!(same.bytes() < empty + 1000);
    }

    #[test]
    fn a_filter_comes_back_as_it_was_and_other_bytes_are_refused() {
        let crowd = in_one_part(400_000, |n| n);
        for (hashes, slot_bits) in [(0, 32), (4_000_000, 21)] {
            let filter = filled((0..hashes).map(random).chain(crowd.clone()));
            assert_eq!(filter.parts[9].layout().slot_bits, slot_bits);
            let parts = (0..).map_while(|number| {
                let mut bytes = Vec::new();
                filter.encode_part(number, &mut bytes).then_some(bytes)
            });
            let parts: Vec<_> = parts.collect();
            assert!(FilterPart::decode(&parts[77][1..]).is_none());
            assert!(FilterPart::decode(&parts[77][..parts[77].len() - 1]).is_none());
            let decoded = || parts.iter().map(|bytes| FilterPart::decode(bytes).unwrap());
            assert!(Filter::of_parts(decoded().skip(1).collect(), 0).is_none());
            let mut again = Filter::of_parts(decoded().collect(), filter.len()).unwrap();
            assert_eq!(again.len(), filter.len());
            let spare = filter.bytes() - again.bytes(); // room for more in lists of spilled values
            assert!(spare <= filter.bytes() / 50, "{spare} bytes less");
            assert!((0..hashes).map(random).chain(crowd.clone()).all(|hash| again.may_hold(hash)));
            let wrong = |filter: &Filter| {
                (0..1_000_000).filter(|n| filter.may_hold(random(n + hashes))).count()
            };
            assert_eq!(wrong(&again), wrong(&filter));
            (0..100_000).for_each(|n| again.insert(random(n + hashes)));
            assert!((0..hashes + 100_000).all(|n| again.may_hold(random(n))));
        }
    }

    #[test]
    fn equal_hashes_are_kept_once() {
        let mut filter = Filter::new();
        for round in 0..50 {
            for number in 0..20_000 {
                filter.insert(random(number));
            }
            assert_eq!(filter.len(), (round + 1) * 20_000);
        }
        assert_eq!(filter.parts.iter().map(|part| part.values).sum::<u32>(), 20_000);
    }

    #[test]
    fn a_value_is_exact_in_every_number_of_lines() {
        for lines in (1..5000).chain([65_535, 65_536, 1_000_003, VALUES / 2]) {
            let number = LAYOUTS.iter().position(|layout| layout.lines_min <= lines).unwrap();
            let layout = &LAYOUTS[number];
            let part = Part { lines: Box::default(), ..Part::with_lines(number as u8, 0) };
            let part = Part { reciprocal: (1 << RECIPROCAL_BITS) / lines + 1, ..part };
            let lines_only = |value: u64| {
                let scaled = value * lines;
                let past = u128::from(scaled & (VALUES - 1)) * u128::from(part.reciprocal);
                (scaled >> VALUE_BITS, (past >> RECIPROCAL_BITS) as u64)
            };
            for n in 0..500 {
                let line = random(n) % lines;
                let start = (line << VALUE_BITS).div_ceil(lines);
                let end = ((line + 1) << VALUE_BITS).div_ceil(lines);
                for value in [start, end - 1, start + random(n + 1) % (end - start)] {
                    assert_eq!(lines_only(value), (line, value - start), "{lines} lines");
                    assert!(value - start < layout.mask, "{lines} lines");
                }
            }
        }
    }
}
