//! Where each byte of the data directory stands. FORMAT.md tells the same in words; the golden files
//! in `engine/tests/golden` pin it. No I/O. Entries are in `walengine_net::entry`.
//!
//! Superblock, segment header, hard state and snapshot header are *blocks*: 4096 bytes with magic,
//! checksum and version in the same place, checked whole before anything in them is believed.

use walengine_net::entry::{ChainHash, EntryHeader, HEADER_BYTES};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

pub use super::disk::BLOCK_BYTES;

/// Version of everything in the data directory but the entries, which carry their own.
pub const FORMAT_VERSION: u16 = 1;
/// Entries start on a multiple of this many bytes.
pub const ENTRY_ALIGN_BYTES: u64 = 8;
/// [`BLOCK_BYTES`] as a position.
pub const BLOCK: u64 = BLOCK_BYTES as u64;

/// "WALB": superblock.
pub const SUPERBLOCK_MAGIC: u32 = u32::from_le_bytes(*b"WALB");
/// "WALG": header of a segment.
pub const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"WALG");
/// "WALH": one slot of the hard state.
pub const HARD_STATE_MAGIC: u32 = u32::from_le_bytes(*b"WALH");
/// "WALS": header of a snapshot.
pub const SNAPSHOT_MAGIC: u32 = u32::from_le_bytes(*b"WALS");
/// "WALC": chunk of a snapshot.
pub const SNAPSHOT_CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"WALC");
/// "WALT": trailer of a snapshot.
pub const SNAPSHOT_TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"WALT");

/// The superblock is written at 0 and again behind.
pub const SUPERBLOCK_COPIES: usize = 2;
/// The hard state has two slots, written alternately.
pub const HARD_STATE_SLOTS: u64 = 2;
/// A chunk of a snapshot with its header, in bytes; all but the last are full.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Header of a chunk or trailer of a snapshot in bytes.
pub const SNAPSHOT_FRAME_BYTES: usize = 16;
/// Data in a full chunk in bytes.
pub const SNAPSHOT_DATA_BYTES: usize = SNAPSHOT_CHUNK_BYTES - SNAPSHOT_FRAME_BYTES;

const MAGIC_AT: usize = 0;
const CRC_AT: usize = MAGIC_AT + 4;
const VERSION_AT: usize = CRC_AT + 4;
const PARTITION_AT: usize = VERSION_AT + 2;
const FLAGS_AT: usize = PARTITION_AT + 2;
const CLUSTER_AT: usize = FLAGS_AT + 4;
const BLOCK_FIELDS_AT: usize = CLUSTER_AT + 16;

// Superblock: the partition's place holds the number of partitions.
const NODE_AT: usize = BLOCK_FIELDS_AT;
const SUPERBLOCK_SEGMENT_BYTES_AT: usize = NODE_AT + 8;
const SUPERBLOCK_CREATED_AT: usize = SUPERBLOCK_SEGMENT_BYTES_AT + 8;
const SUPERBLOCK_END: usize = SUPERBLOCK_CREATED_AT + 8;

// Segment header and snapshot header.
const SEQUENCE_AT: usize = BLOCK_FIELDS_AT;
const CREATED_AT: usize = SEQUENCE_AT + 8;
const TAIL_AT: usize = CREATED_AT + 8;
const TAIL_BYTES: usize = 4 * 8 + 32;
const SEGMENT_BYTES_AT: usize = TAIL_AT + TAIL_BYTES;
const SEGMENT_END: usize = SEGMENT_BYTES_AT + 8;

// Hard state.
const TERM_AT: usize = SEQUENCE_AT + 8;
const VOTED_FOR_AT: usize = TERM_AT + 8;
const COMMIT_AT: usize = VOTED_FOR_AT + 8;
const DURABLE_AT: usize = COMMIT_AT + 8;
const CUT_AFTER_AT: usize = DURABLE_AT + 8;
const HARD_STATE_END: usize = CUT_AFTER_AT + 8;
/// Superblock: the partitions are kept by Raft groups.
const FLAG_REPLICATED: u32 = 1;
const FLAG_VOTED: u32 = 1;
const FLAG_VOTE_COMMITTED: u32 = 2;
const FLAG_CUT: u32 = 4;

const _: () = assert!(BLOCK_FIELDS_AT == 32 && TAIL_AT == 48 && SEGMENT_BYTES_AT == 112);
const _: () = assert!(SUPERBLOCK_END == 56 && SEGMENT_END == 120 && HARD_STATE_END == 80);
// A slot's content lies in one 512-byte sector, so a torn write leaves the old slot or the new.
const _: () = assert!(HARD_STATE_END <= 512 && SEGMENT_END <= 512 && SUPERBLOCK_END <= 512);
const _: () = assert!(HEADER_BYTES.is_multiple_of(ENTRY_ALIGN_BYTES as usize));
const _: () = assert!(SNAPSHOT_CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));

/// A block's bytes.
pub type Block = [u8; BLOCK_BYTES];

/// Why a block can't be used. Nothing has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// All zero: nothing was ever written here.
    #[error("nothing was written here")]
    Blank,
    /// Not the block that should stand here.
    #[error("magic is {found:#010x}, expected {expected:#010x}")]
    Magic {
        /// What should stand here.
        expected: u32,
        /// What stands here.
        found: u32,
    },
    /// The checksum does not match.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Crc {
        /// What the block says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Written by another version.
    #[error("format version {found}; this program reads version {FORMAT_VERSION}")]
    Version {
        /// What the block says.
        found: u16,
    },
    /// Checksum and version are right and the content is not.
    #[error("{0}")]
    Content(&'static str),
}

/// The end of a log, or any point in it: what the next entry has to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Raft index of the last entry; 0 before the first.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Offset of the record that comes next.
    pub next_offset: Offset,
    /// Log time of the last record.
    pub timestamp: Timestamp,
    /// Chain hash of the last entry.
    pub chain: ChainHash,
}

impl Tail {
    /// The log's end when `header`'s entry was its last. For entries of this log only: nothing is
    /// checked.
    pub fn of(header: &EntryHeader) -> Self {
        let meta = &header.meta;
        Self {
            index: meta.index,
            term: meta.term,
            next_offset: meta.base_offset.plus(u64::from(meta.records)),
            timestamp: Timestamp(meta.timestamp.0 + u64::from(meta.records).saturating_sub(1)),
            chain: header.chain,
        }
    }

    /// The tail with `header`'s entry behind it. `Err` says what contradicts this tail; the chain
    /// hash is not looked at.
    pub fn with(&self, header: &EntryHeader) -> Result<Self, &'static str> {
        let meta = &header.meta;
        if meta.index.checked_sub(1) != Some(self.index) {
            return Err("the index does not follow the one before");
        }
        if meta.term < self.term {
            return Err("the term is older than the one before");
        }
        if meta.base_offset != self.next_offset {
            return Err("the offset does not follow the one before");
        }
        if header.durable_index >= meta.index {
            return Err("the entry names itself durable");
        }
        let records = u64::from(meta.records);
        let Some(next_offset) = self.next_offset.0.checked_add(records) else {
            return Err("the offset is past 2^64");
        };
        let timestamp = if records == 0 {
            self.timestamp.max(meta.timestamp)
        } else if meta.timestamp <= self.timestamp {
            return Err("the time does not follow the one before");
        } else {
            let last = meta.timestamp.0.checked_add(records - 1);
            Timestamp(last.ok_or("the time is past 2^64")?)
        };
        Ok(Self {
            index: meta.index,
            term: meta.term,
            next_offset: Offset(next_offset),
            timestamp,
            chain: header.chain,
        })
    }

    fn put(&self, block: &mut Block) {
        put(block, TAIL_AT, &self.index.to_le_bytes());
        put(block, TAIL_AT + 8, &self.term.to_le_bytes());
        put(block, TAIL_AT + 16, &self.next_offset.0.to_le_bytes());
        put(block, TAIL_AT + 24, &self.timestamp.0.to_le_bytes());
        put(block, TAIL_AT + 32, &self.chain.0);
    }

    fn get(block: &Block) -> Self {
        Self {
            index: u64_at(block, TAIL_AT),
            term: u64_at(block, TAIL_AT + 8),
            next_offset: Offset(u64_at(block, TAIL_AT + 16)),
            timestamp: Timestamp(u64_at(block, TAIL_AT + 24)),
            chain: ChainHash(array(block, TAIL_AT + 32)),
        }
    }
}

/// What a data directory is: fixed when it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node that it belongs to.
    pub node: u64,
    /// Number of partitions of the cluster.
    pub partitions: u16,
    /// Length of every segment in bytes.
    pub segment_bytes: u64,
    /// Wall clock at format.
    pub created: Timestamp,
    /// Its partitions are kept by Raft groups; otherwise by this node alone.
    pub replicated: bool,
}

impl Superblock {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SUPERBLOCK_MAGIC, self.partitions, self.cluster);
        put(&mut block, NODE_AT, &self.node.to_le_bytes());
        put(&mut block, SUPERBLOCK_SEGMENT_BYTES_AT, &self.segment_bytes.to_le_bytes());
        put(&mut block, SUPERBLOCK_CREATED_AT, &self.created.0.to_le_bytes());
        put(&mut block, FLAGS_AT, &(u32::from(self.replicated) * FLAG_REPLICATED).to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SUPERBLOCK_MAGIC, SUPERBLOCK_END)?;
        let flags = u32::from_le_bytes(array(block, FLAGS_AT));
        let superblock = Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            node: u64_at(block, NODE_AT),
            partitions: u16::from_le_bytes(array(block, PARTITION_AT)),
            segment_bytes: u64_at(block, SUPERBLOCK_SEGMENT_BYTES_AT),
            created: Timestamp(u64_at(block, SUPERBLOCK_CREATED_AT)),
            replicated: flags & FLAG_REPLICATED != 0,
        };
        if flags & !FLAG_REPLICATED != 0 {
            return Err(BlockError::Content("unknown flags"));
        }
        if superblock.partitions == 0 || !superblock.segment_bytes.is_multiple_of(BLOCK) {
            return Err(BlockError::Content("partition count or segment size make no sense"));
        }
        Ok(superblock)
    }
}

/// First block of a segment: written together with its first flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Number of the segment, counted from 1; also its name.
    pub sequence: u64,
    /// Wall clock when it was begun.
    pub created: Timestamp,
    /// What the first entry follows.
    pub before: Tail,
    /// Length of the segment in bytes.
    pub segment_bytes: u64,
}

impl SegmentHeader {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SEGMENT_MAGIC, self.partition.0, self.cluster);
        put(&mut block, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut block, CREATED_AT, &self.created.0.to_le_bytes());
        self.before.put(&mut block);
        put(&mut block, SEGMENT_BYTES_AT, &self.segment_bytes.to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SEGMENT_MAGIC, SEGMENT_END)?;
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            sequence: u64_at(block, SEQUENCE_AT),
            created: Timestamp(u64_at(block, CREATED_AT)),
            before: Tail::get(block),
            segment_bytes: u64_at(block, SEGMENT_BYTES_AT),
        })
    }
}

/// Vote and positions of a partition: all that is changed in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Newest term that this node has seen.
    pub term: u64,
    /// Node that it voted for in this term.
    pub voted_for: Option<u64>,
    /// The vote is known to have won.
    pub vote_committed: bool,
    /// Newest index known to be committed when this was written.
    pub commit_index: u64,
    /// Newest index known to be durable on this disk when this was written.
    pub durable_index: u64,
}

/// A slot of the hard-state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardStateSlot {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Counts saves; the slot of the greatest counts.
    pub sequence: u64,
    /// What was saved.
    pub state: HardState,
    /// A truncation is under way: every entry behind this index is to be removed.
    pub cut_after: Option<u64>,
}

impl HardStateSlot {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(HARD_STATE_MAGIC, self.partition.0, self.cluster);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.state.voted_for.is_some(), FLAG_VOTED)
            | flag(self.state.vote_committed, FLAG_VOTE_COMMITTED)
            | flag(self.cut_after.is_some(), FLAG_CUT);
        put(&mut block, FLAGS_AT, &flags.to_le_bytes());
        put(&mut block, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut block, TERM_AT, &self.state.term.to_le_bytes());
        put(&mut block, VOTED_FOR_AT, &self.state.voted_for.unwrap_or(0).to_le_bytes());
        put(&mut block, COMMIT_AT, &self.state.commit_index.to_le_bytes());
        put(&mut block, DURABLE_AT, &self.state.durable_index.to_le_bytes());
        put(&mut block, CUT_AFTER_AT, &self.cut_after.unwrap_or(0).to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, HARD_STATE_MAGIC, HARD_STATE_END)?;
        let flags = u32::from_le_bytes(array(block, FLAGS_AT));
        let given = |flag: u32, at: usize| (flags & flag != 0).then(|| u64_at(block, at));
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            sequence: u64_at(block, SEQUENCE_AT),
            state: HardState {
                term: u64_at(block, TERM_AT),
                voted_for: given(FLAG_VOTED, VOTED_FOR_AT),
                vote_committed: flags & FLAG_VOTE_COMMITTED != 0,
                commit_index: u64_at(block, COMMIT_AT),
                durable_index: u64_at(block, DURABLE_AT),
            },
            cut_after: given(FLAG_CUT, CUT_AFTER_AT),
        })
    }
}

/// First block of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Wall clock when it was taken.
    pub created: Timestamp,
    /// The state is that after the entry at this point.
    pub applied: Tail,
}

impl SnapshotMeta {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SNAPSHOT_MAGIC, self.partition.0, self.cluster);
        put(&mut block, CREATED_AT, &self.created.0.to_le_bytes());
        self.applied.put(&mut block);
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SNAPSHOT_MAGIC, SEGMENT_BYTES_AT)?;
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            created: Timestamp(u64_at(block, CREATED_AT)),
            applied: Tail::get(block),
        })
    }
}

/// In front of a chunk's or the trailer's data in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFrame {
    /// It is the trailer: the data is the whole length (u64) and checksum (u32, then 4 zeros).
    pub trailer: bool,
    /// Length of the data in bytes.
    pub bytes: u32,
    /// Number of the chunk, counted from 0; in the trailer the number of chunks.
    pub number: u32,
}

impl SnapshotFrame {
    /// Encodes; the checksum covers kind, length, number and data.
    pub fn to_bytes(self, data: &[u8]) -> [u8; SNAPSHOT_FRAME_BYTES] {
        let mut bytes = [0; SNAPSHOT_FRAME_BYTES];
        let magic = if self.trailer { SNAPSHOT_TRAILER_MAGIC } else { SNAPSHOT_CHUNK_MAGIC };
        bytes[0..4].copy_from_slice(&magic.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        let crc = frame_crc(&bytes, data);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the frame at the start of `bytes` and gives its data. `None` if anything is wrong.
    pub fn open(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<SNAPSHOT_FRAME_BYTES>()?;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&head[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let trailer = match word(0) {
            SNAPSHOT_CHUNK_MAGIC => false,
            SNAPSHOT_TRAILER_MAGIC => true,
            _ => return None,
        };
        let frame = Self { trailer, bytes: word(8), number: word(12) };
        let data = rest.get(..frame.bytes as usize)?;
        (frame_crc(head, data) == word(4)).then_some((frame, data))
    }
}

fn frame_crc(head: &[u8; SNAPSHOT_FRAME_BYTES], data: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..4]), &head[8..]);
    crc32c::crc32c_append(crc, data)
}

/// Next multiple of the block at or behind `position`.
pub fn block_up(position: u64) -> u64 {
    position.next_multiple_of(BLOCK)
}

/// Last multiple of the block at or before `position`.
pub fn block_down(position: u64) -> u64 {
    position - position % BLOCK
}

/// Next place at or behind `position` where an entry may start.
pub fn entry_up(position: u64) -> u64 {
    position.next_multiple_of(ENTRY_ALIGN_BYTES)
}

/// Nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

fn start(magic: u32, partition: u16, cluster: ClusterId) -> Block {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block, MAGIC_AT, &magic.to_le_bytes());
    put(&mut block, VERSION_AT, &FORMAT_VERSION.to_le_bytes());
    put(&mut block, PARTITION_AT, &partition.to_le_bytes());
    put(&mut block, CLUSTER_AT, &cluster.0.to_le_bytes());
    block
}

fn seal(mut block: Block) -> Block {
    let crc = crc32c::crc32c(&block[VERSION_AT..]);
    put(&mut block, CRC_AT, &crc.to_le_bytes());
    block
}

/// Checksum before version: what a flipped bit made of the version is no version.
fn check(block: &Block, magic: u32, end: usize) -> Result<(), BlockError> {
    let found = u32::from_le_bytes(array(block, MAGIC_AT));
    if found != magic {
        return Err(if is_zero(block) {
            BlockError::Blank
        } else {
            BlockError::Magic { expected: magic, found }
        });
    }
    let expected = u32::from_le_bytes(array(block, CRC_AT));
    let found = crc32c::crc32c(&block[VERSION_AT..]);
    if found != expected {
        return Err(BlockError::Crc { expected, found });
    }
    let found = u16::from_le_bytes(array(block, VERSION_AT));
    if found != FORMAT_VERSION {
        return Err(BlockError::Version { found });
    }
    if !is_zero(&block[end..]) {
        return Err(BlockError::Content("reserved bytes are not zero"));
    }
    Ok(())
}

fn put(block: &mut Block, at: usize, value: &[u8]) {
    block[at..at + value.len()].copy_from_slice(value);
}

fn array<const N: usize>(block: &Block, at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&block[at..at + N]);
    array
}

fn u64_at(block: &Block, at: usize) -> u64 {
    u64::from_le_bytes(array(block, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> HardStateSlot {
        HardStateSlot {
            cluster: ClusterId(1),
            partition: PartitionId(2),
            sequence: 3,
            state: HardState {
                term: 4,
                voted_for: Some(5),
                vote_committed: true,
                commit_index: 6,
                durable_index: 7,
            },
            cut_after: Some(8),
        }
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_detected() {
        let mut block = slot().to_block();
        assert_eq!(HardStateSlot::from_block(&block), Ok(slot()));
        for bit in 0..BLOCK_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(HardStateSlot::from_block(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn another_version_is_told_by_number() {
        let mut block = slot().to_block();
        put(&mut block, VERSION_AT, &2u16.to_le_bytes());
        let block = seal(block);
        let error = HardStateSlot::from_block(&block).unwrap_err();
        assert_eq!(error, BlockError::Version { found: 2 });
        assert_eq!(error.to_string(), "format version 2; this program reads version 1");
        assert_eq!(HardStateSlot::from_block(&[0; BLOCK_BYTES]), Err(BlockError::Blank));
    }

    #[test]
    fn snapshot_frame_detects_every_flipped_bit() {
        let data = [7; 40];
        let frame = SnapshotFrame { trailer: false, bytes: 40, number: 9 };
        let mut bytes = frame.to_bytes(&data).to_vec();
        bytes.extend_from_slice(&data);
        assert_eq!(SnapshotFrame::open(&bytes), Some((frame, data.as_slice())));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SnapshotFrame::open(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
