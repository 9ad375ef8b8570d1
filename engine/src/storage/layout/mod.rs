//! Where each byte of the data directory stands. FORMAT.md says the same in words; the golden files
//! in `engine/tests/golden` pin it. No I/O. Entries are in `walengine_net::entry`.
//!
//! Superblock, segment header, hard state and snapshot header are *blocks*: 4096 bytes with magic,
//! checksum and version in the same place, checked whole before anything in them is believed.

mod hard_state;
mod marks;
mod reached;
mod run;
mod segment;
mod snapshot;
mod superblock;
mod tail;

use walengine_net::entry::HEADER_BYTES;
use walengine_net::model::ClusterId;

pub use super::disk::BLOCK_BYTES;
pub use hard_state::{HardState, HardStateSlot};
pub(super) use marks::MarksFile;
pub use marks::marks_in;
pub use reached::ReachedBlock;
pub use run::{FenceBlock, RunBlock, RunEntry, RunHeader};
pub use segment::SegmentHeader;
pub use snapshot::{SnapshotFrame, SnapshotMeta};
pub use superblock::Superblock;
pub use tail::Tail;

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
/// "WALK": how far other members had the log.
pub const REACHED_MAGIC: u32 = u32::from_le_bytes(*b"WALK");
/// "WALM": where entries stand in a full segment.
pub const MARKS_MAGIC: u32 = u32::from_le_bytes(*b"WALM");
/// "WALS": header of a snapshot.
pub const SNAPSHOT_MAGIC: u32 = u32::from_le_bytes(*b"WALS");
/// "WALC": chunk of a snapshot.
pub const SNAPSHOT_CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"WALC");
/// "WALT": trailer of a snapshot.
pub const SNAPSHOT_TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"WALT");
/// "WALI": header of a run of ids.
pub const RUN_MAGIC: u32 = u32::from_le_bytes(*b"WALI");

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
/// An entry of a run in bytes.
pub const RUN_ENTRY_BYTES: usize = 12;
/// Most entries in a block of a run; all but the last have so many.
pub const RUN_BLOCK_ENTRIES: usize = (BLOCK_BYTES - RUN_ENTRIES_AT) / RUN_ENTRY_BYTES;
/// Fences in a block of a run.
pub const RUN_BLOCK_FENCES: usize = (BLOCK_BYTES - RUN_ENTRIES_AT) / size_of::<u64>();
/// Most offsets that a run covers: those of its entries are kept in 40 bits.
pub const RUN_OFFSETS: u64 = 1 << 40;

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

// Marks: sequence and tail as in a segment's header, then these.
const MARKS_AT: usize = TAIL_AT + TAIL_BYTES;
const MARKS_CRC_AT: usize = MARKS_AT + 8;

// Hard state.
const TERM_AT: usize = SEQUENCE_AT + 8;
const VOTED_FOR_AT: usize = TERM_AT + 8;
const COMMIT_AT: usize = VOTED_FOR_AT + 8;
const DURABLE_AT: usize = COMMIT_AT + 8;
const CUT_AFTER_AT: usize = DURABLE_AT + 8;
const HARD_STATE_END: usize = CUT_AFTER_AT + 8;

// How far other members had the log: number of nodes, then pairs of node and entries.
const REACHED_COUNT_AT: usize = BLOCK_FIELDS_AT;
const REACHED_AT: usize = REACHED_COUNT_AT + 16;

// Header of a run.
const RUN_FIRST_AT: usize = BLOCK_FIELDS_AT;
const RUN_OFFSETS_END_AT: usize = RUN_FIRST_AT + 8;
const RUN_COUNT_AT: usize = RUN_OFFSETS_END_AT + 8;
const RUN_BLOCKS_AT: usize = RUN_COUNT_AT + 8;
const RUN_ID_LOW_AT: usize = RUN_BLOCKS_AT + 8;
const RUN_ID_HIGH_AT: usize = RUN_ID_LOW_AT + 16;
const RUN_HEADER_END: usize = RUN_ID_HIGH_AT + 16;

// Block of a run; its checksum stands first and covers the rest.
const RUN_BLOCK_COUNT_AT: usize = 4;
const RUN_BLOCK_NUMBER_AT: usize = RUN_BLOCK_COUNT_AT + 4;
const RUN_ENTRIES_AT: usize = RUN_BLOCK_NUMBER_AT + 8;

/// Superblock: the partitions are kept by Raft groups.
const FLAG_REPLICATED: u32 = 1;
/// Superblock: the logs of the partitions were created before it was written.
const FLAG_LOGS_CREATED: u32 = 2;
const FLAG_VOTED: u32 = 1;
const FLAG_VOTE_COMMITTED: u32 = 2;
const FLAG_CUT: u32 = 4;

const _: () = assert!(BLOCK_FIELDS_AT == 32 && TAIL_AT == 48 && SEGMENT_BYTES_AT == 112);
const _: () = assert!(RUN_HEADER_END == 96 && RUN_ENTRIES_AT == 16 && RUN_BLOCK_ENTRIES == 340);
const _: () = assert!(RUN_BLOCK_FENCES == 510);
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

fn u128_at(block: &Block, at: usize) -> u128 {
    u128::from_le_bytes(array(block, at))
}

fn u64_at(block: &Block, at: usize) -> u64 {
    u64::from_le_bytes(array(block, at))
}
