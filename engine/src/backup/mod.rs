//! Backups: the log of every partition as its server gives it to any reader, kept in files of its own.
//! Runs in the command line, on another machine if need be. FORMAT.md, section 9, has the bytes.
//!
//! ```text
//!  take      subscribe behind what is there ─ check ─ append to a part ─ sync ─ name it ─ manifest
//!            ─ read back ─ point: from here on it can be restored
//!  restore   check ─ [`crate::rewrite`]
//! ```
//! A part never changes once it has its name, and a manifest is replaced whole: a run that is killed
//! leaves the earlier points as they were, and the next run goes on where it ended.

pub mod follow;
pub mod inspect;
pub mod manifest;
pub mod part;
pub mod restore;
mod room;
pub mod take;

use std::path::{Path, PathBuf};

use walengine_net::model::PartitionId;

use crate::storage;

/// The directory of a partition's parts.
pub fn parts_dir(backup: &Path, partition: PartitionId) -> PathBuf {
    storage::partition_dir(backup, partition)
}
