//! How far a partition's snapshots are.

use std::cell::Cell;

/// See the module.
#[derive(Debug, Default)]
pub struct SnapshotProgress {
    /// One is being written.
    pub is_under_way: Cell<bool>,
    /// The newest ids are being read, for a snapshot or by a flush: nobody else may take any away.
    pub holds_ids: Cell<bool>,
    /// What [`super::commit::Commit::written_bytes`] was at the newest one.
    pub snapshot_bytes: Cell<u64>,
    /// Snapshots written since the start.
    pub taken: Cell<u64>,
    /// Bytes of them.
    pub taken_bytes: Cell<u64>,
}
