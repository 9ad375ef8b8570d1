//! The first block of a run of ids, and the blocks of entries and of fences behind it.

use walengine_net::model::{ClusterId, PartitionId};

use super::{
    Block, BlockError, CLUSTER_AT, PARTITION_AT, RUN_BLOCK_COUNT_AT, RUN_BLOCK_ENTRIES,
    RUN_BLOCK_FENCES, RUN_BLOCK_NUMBER_AT, RUN_BLOCKS_AT, RUN_COUNT_AT, RUN_ENTRIES_AT,
    RUN_ENTRY_BYTES, RUN_FIRST_AT, RUN_HEADER_END, RUN_ID_HIGH_AT, RUN_ID_LOW_AT, RUN_MAGIC,
    RUN_OFFSETS, RUN_OFFSETS_END_AT, array, check, is_zero, put, seal, start, u64_at, u128_at,
};

/// Bits of a hash that an entry does not have.
const HASH_CUT_BITS: u32 = 16;

/// First block of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// First offset that it covers.
    pub first: u64,
    /// Offset behind the last one.
    pub end: u64,
    /// Number of entries.
    pub entries: u64,
    /// Lowest id of an event in it; the greatest there is if there is none.
    pub id_low: u128,
    /// Highest id of an event in it; 0 if there is none.
    pub id_high: u128,
}

impl RunHeader {
    /// Number of blocks of entries.
    pub fn blocks(&self) -> u64 {
        self.entries.div_ceil(RUN_BLOCK_ENTRIES as u64)
    }

    /// Number of blocks of fences behind those.
    pub fn fence_blocks(&self) -> u64 {
        self.blocks().div_ceil(RUN_BLOCK_FENCES as u64)
    }

    /// Number of entries in a block.
    pub fn entries_in(&self, block: u64) -> usize {
        let before = block.saturating_mul(RUN_BLOCK_ENTRIES as u64);
        self.entries.saturating_sub(before).min(RUN_BLOCK_ENTRIES as u64) as usize
    }

    /// The offsets that it covers are some, and no more than an entry can tell apart.
    pub fn covers_offsets(&self) -> bool {
        self.end.checked_sub(self.first).is_some_and(|offsets| (1..=RUN_OFFSETS).contains(&offsets))
    }

    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(RUN_MAGIC, self.partition.0, self.cluster);
        put(&mut block, RUN_FIRST_AT, &self.first.to_le_bytes());
        put(&mut block, RUN_OFFSETS_END_AT, &self.end.to_le_bytes());
        put(&mut block, RUN_COUNT_AT, &self.entries.to_le_bytes());
        put(&mut block, RUN_BLOCKS_AT, &self.blocks().to_le_bytes());
        put(&mut block, RUN_ID_LOW_AT, &self.id_low.to_le_bytes());
        put(&mut block, RUN_ID_HIGH_AT, &self.id_high.to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, RUN_MAGIC, RUN_HEADER_END)?;
        let header = Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            first: u64_at(block, RUN_FIRST_AT),
            end: u64_at(block, RUN_OFFSETS_END_AT),
            entries: u64_at(block, RUN_COUNT_AT),
            id_low: u128_at(block, RUN_ID_LOW_AT),
            id_high: u128_at(block, RUN_ID_HIGH_AT),
        };
        if !header.covers_offsets() {
            return Err(BlockError::Content("its offsets are none, or too many"));
        }
        if header.blocks() != u64_at(block, RUN_BLOCKS_AT) {
            return Err(BlockError::Content("it has not as many blocks as its entries take"));
        }
        Ok(header)
    }
}

/// One key of a run: where the log has it, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Upper 48 bits of the key's hash; the others are zero.
    pub hash: u64,
    /// Number of the verdict or of the state.
    pub code: u8,
    /// Offset of the record.
    pub offset: u64,
}

impl RunEntry {
    /// What an entry has of a hash.
    pub fn cut(hash: u64) -> u64 {
        hash >> HASH_CUT_BITS << HASH_CUT_BITS
    }

    /// What entries are sorted by.
    pub fn order(&self) -> (u64, u64) {
        (self.hash, self.offset)
    }

    /// Encodes; `first` is that of the run.
    fn to_bytes(self, first: u64) -> [u8; RUN_ENTRY_BYTES] {
        let mut bytes = [0; RUN_ENTRY_BYTES];
        bytes[..6].copy_from_slice(&self.hash.to_le_bytes()[2..]);
        bytes[6] = self.code;
        bytes[7..].copy_from_slice(&(self.offset - first).to_le_bytes()[..5]);
        bytes
    }

    /// Decodes; `first` is that of the run.
    fn from_bytes(bytes: &[u8; RUN_ENTRY_BYTES], first: u64) -> Self {
        let (mut hash, mut offset) = ([0; 8], [0; 8]);
        hash[2..].copy_from_slice(&bytes[..6]);
        offset[..5].copy_from_slice(&bytes[7..]);
        let offset = first.saturating_add(u64::from_le_bytes(offset));
        Self { hash: u64::from_le_bytes(hash), code: bytes[6], offset }
    }
}

/// A block of entries that was checked.
#[derive(Clone, Copy, Debug)]
pub struct RunBlock<'a> {
    first: u64,
    entries: &'a [[u8; RUN_ENTRY_BYTES]],
}

impl<'a> RunBlock<'a> {
    /// Encodes the block with this number, from 0, of a run.
    ///
    /// # Panics
    /// If the entries are more than fit, or one is of an offset in front of the run's.
    pub fn encode(header: &RunHeader, number: u64, entries: &[RunEntry]) -> Block {
        assert!(entries.len() <= RUN_BLOCK_ENTRIES, "a block has a full block's entries at most");
        encode(number, entries.iter().map(|entry| entry.to_bytes(header.first)))
    }

    /// Checks the block with this number, from 0, of a run: checksum, number, count, order, offsets.
    pub fn open(header: &RunHeader, number: u64, block: &'a Block) -> Result<Self, BlockError> {
        let entries = open(number, header.entries_in(number), block)?;
        let opened = Self { first: header.first, entries };
        if !opened.entries().is_sorted_by_key(|entry| entry.order()) {
            return Err(BlockError::Content("its entries are not in order"));
        }
        if !opened.entries().all(|entry| entry.offset < header.end) {
            return Err(BlockError::Content("an entry's offset is not one of the run's"));
        }
        Ok(opened)
    }

    /// Its entries, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = RunEntry> + use<'a> {
        let first = self.first;
        self.entries.iter().map(move |bytes| RunEntry::from_bytes(bytes, first))
    }
}

/// A block of fences: of each block of entries, the hash of its first.
#[derive(Debug)]
pub struct FenceBlock;

impl FenceBlock {
    /// Encodes the block with this number, from 0, of the fences of a run.
    ///
    /// # Panics
    /// If they are more than fit.
    pub fn encode(header: &RunHeader, number: u64, fences: &[u64]) -> Block {
        assert!(fences.len() <= RUN_BLOCK_FENCES, "a block has a full block's fences at most");
        encode(header.blocks() + number, fences.iter().map(|fence| fence.to_le_bytes()))
    }

    /// Checks the block with this number, from 0, of the fences of a run: checksum, number, count. Its fences.
    pub fn open<'a>(
        header: &RunHeader,
        number: u64,
        block: &'a Block,
    ) -> Result<impl Iterator<Item = u64> + use<'a>, BlockError> {
        let before = number.saturating_mul(RUN_BLOCK_FENCES as u64);
        let count = header.blocks().saturating_sub(before).min(RUN_BLOCK_FENCES as u64) as usize;
        let fences = open(header.blocks() + number, count, block)?;
        Ok(fences.iter().map(|fence| u64::from_le_bytes(*fence)))
    }
}

fn encode<const BYTES: usize>(
    number: u64,
    items: impl ExactSizeIterator<Item = [u8; BYTES]>,
) -> Block {
    let mut block = [0; super::BLOCK_BYTES];
    put(&mut block, RUN_BLOCK_COUNT_AT, &(items.len() as u16).to_le_bytes());
    put(&mut block, RUN_BLOCK_NUMBER_AT, &number.to_le_bytes());
    let places = block[RUN_ENTRIES_AT..].as_chunks_mut().0;
    for (place, item) in places.iter_mut().zip(items) {
        *place = item;
    }
    let crc = crc32c::crc32c(&block[RUN_BLOCK_COUNT_AT..]);
    put(&mut block, 0, &crc.to_le_bytes());
    block
}

/// The `count` items of the block with this number.
fn open<const BYTES: usize>(
    number: u64,
    count: usize,
    block: &Block,
) -> Result<&[[u8; BYTES]], BlockError> {
    let expected = u32::from_le_bytes(array(block, 0));
    let found = crc32c::crc32c(&block[RUN_BLOCK_COUNT_AT..]);
    if found != expected {
        return Err(BlockError::Crc { expected, found });
    }
    if u64_at(block, RUN_BLOCK_NUMBER_AT) != number {
        return Err(BlockError::Content("another block stands here"));
    }
    if u32::from_le_bytes(array(block, RUN_BLOCK_COUNT_AT)) as usize != count {
        return Err(BlockError::Content("it has not as much in it as it should"));
    }
    if !is_zero(&block[RUN_ENTRIES_AT + count * BYTES..]) {
        return Err(BlockError::Content("reserved bytes are not zero"));
    }
    Ok(&block[RUN_ENTRIES_AT..].as_chunks().0[..count])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: RunHeader = RunHeader {
        cluster: ClusterId(1),
        partition: PartitionId(2),
        first: 1000,
        end: 1400,
        entries: 345,
        id_low: 3,
        id_high: 4,
    };

    fn entries(first: u64) -> Vec<RunEntry> {
        let entry = |n: u64| RunEntry { hash: n << 30 & !0xffff, code: n as u8, offset: first + n };
        (0..340).map(entry).collect()
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut block = RunBlock::encode(&HEADER, 0, &entries(1000));
        let opened = RunBlock::open(&HEADER, 0, &block).unwrap();
        assert!(opened.entries().eq(entries(1000)));
        let mut header = HEADER.to_block();
        assert_eq!(RunHeader::from_block(&header), Ok(HEADER));
        for bit in 0..4096 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(RunBlock::open(&HEADER, 0, &block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(RunHeader::from_block(&header).is_err(), "bit {bit}");
            header[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn fences_come_back_as_they_were_and_every_flipped_bit_is_found() {
        let header = RunHeader { entries: 600 * RUN_BLOCK_ENTRIES as u64, ..HEADER };
        assert_eq!((header.blocks(), header.fence_blocks()), (600, 2));
        let fences: Vec<u64> = (0..90).map(|n| n << 20).collect();
        let mut block = FenceBlock::encode(&header, 1, &fences);
        assert!(FenceBlock::open(&header, 1, &block).unwrap().eq(fences.iter().copied()));
        assert!(FenceBlock::open(&header, 0, &block).is_err(), "another number");
        let fewer = FenceBlock::encode(&header, 1, &fences[1..]);
        assert!(FenceBlock::open(&header, 1, &fewer).is_err(), "too few");
        for bit in 0..4096 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(FenceBlock::open(&header, 1, &block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_whole_block_of_wrong_content_is_refused() {
        let good = entries(1000);
        let refused = |number, entries: &[RunEntry]| {
            let block = RunBlock::encode(&HEADER, number, entries);
            RunBlock::open(&HEADER, 0, &block).is_err()
        };
        assert!(!refused(0, &good));
        assert!(refused(1, &good), "another number");
        assert!(refused(0, &good[1..]), "too few");
        let mut swapped = good.clone();
        swapped.swap(7, 8);
        assert!(refused(0, &swapped), "not in order");
        let mut outside = good.clone();
        outside[339].offset = 1400;
        assert!(refused(0, &outside), "past the run");
        outside[339].offset = 1399;
        assert!(!refused(0, &outside));
        let last = RunBlock::encode(&HEADER, 1, &good[..5]);
        assert!(RunBlock::open(&HEADER, 1, &last).is_ok());
        for header in [
            RunHeader { end: 1000, ..HEADER },
            RunHeader { first: 0, end: RUN_OFFSETS + 1, ..HEADER },
        ] {
            assert!(RunHeader::from_block(&header.to_block()).is_err(), "{header:?}");
        }
    }
}
