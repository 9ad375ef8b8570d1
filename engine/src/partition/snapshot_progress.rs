//! How far a partition's snapshots are.

use std::cell::Cell;

/// See the module.
#[derive(Debug, Default)]
pub struct SnapshotProgress {
    /// One is being written.
    pub is_under_way: Cell<bool>,
    /// What [`super::commit::Commit::written_bytes`] was at the newest one.
    pub snapshot_bytes: Cell<u64>,
}
