//! Every bound of the ids on disk.

/// Spilled values that a part of the filter keeps in one sorted list; those past it are in a tree. Only
/// hashes that were chosen to fall together come to so many.
pub const SPILLED_MAX: usize = 8 << 10;
/// Blocks that one look-up reads at the same time.
pub const READS_MAX: usize = 64;
/// Blocks that give one piece of what a look-up finds: 4 MiB at most.
pub const PIECE_BLOCKS_MAX: usize = 512;
/// Entries of a merge between two pauses.
pub const STEP_ENTRIES: usize = 4096;
/// A look-up with fewer blocks to read than this reads them all at once,
pub const FEW_PLACES: usize = 256;
/// and one with fewer than this in so many rounds.
pub const MANY_PLACES: usize = 8 << 10;
/// See [`MANY_PLACES`].
pub const SOME_ROUNDS: usize = 4;
