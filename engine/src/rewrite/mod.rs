//! Makes a new data directory of a log that is read elsewhere: of a backup, or of what is left of
//! another directory.
//!
//! The new directory is of a new cluster. Every entry is written again under its id, so checksums and
//! chain are new; records, their offsets, times and verdicts are what they were, and so is the state at
//! every offset. Nobody who knows the old cluster takes the new one for it: members, clients with tokens
//! and projectors see another id.
//!
//! ```text
//!  `restoring` ─ each partition: empty log, votes, entries ─ `restored-from` ─ superblock
//!   ─ `restoring` removed: from here on it is a data directory
//! ```

pub mod cut;
pub mod directory;
pub mod writer;

use walengine_net::model::PartitionId;

use crate::storage::layout::Tail;

/// A partition that was written again.
#[derive(Clone, Copy, Debug)]
pub struct Rewritten {
    /// Which one.
    pub partition: PartitionId,
    /// The end of its log, by the new chain.
    pub end: Tail,
    /// The last entry that was taken, by the old chain.
    pub source: Tail,
    /// Digest of the state.
    pub digest: [u8; 32],
    /// Its log ends amid an import, which has to be finished first.
    pub is_amid_import: bool,
}
