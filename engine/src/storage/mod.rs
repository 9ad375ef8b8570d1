//! What a shard keeps on disk: segments, hard state, snapshots. Layout and recovery: FORMAT.md.
//!
//! [`log::Log`] is the log of one partition, [`snapshot::SnapshotStore`] its snapshots. [`superblock`]
//! says what the data directory is, [`contents`] what it must hold, and `cases` what recovery makes of
//! what it finds. [`verify`] checks a partition without changing it.

use std::path::{Path, PathBuf};

use walengine_net::model::PartitionId;

pub mod archive;
mod buffers;
mod cases;
pub mod config;
pub mod contents;
mod create;
pub mod disk;
pub mod error;
pub mod files;
mod flush;
pub mod glommio_disk;
mod hard_state;
pub mod ids;
mod index;
pub mod layout;
mod limits;
pub mod log;
mod marks;
mod marks_file;
pub mod mend;
mod prepare;
mod reached;
mod read;
pub mod read_ahead;
pub mod read_only_disk;
pub mod records;
mod recover;
pub mod salvage;
pub mod scrub;
mod segment;
pub mod shown;
pub mod snapshot;
mod state;
pub mod superblock;
mod survey;
pub mod tap;
#[cfg(test)]
mod tests;
pub mod truncate;
pub mod under_way;
pub mod verify;
mod window;
pub mod write_behind;

pub use recover::Recovered;

/// Directory of a partition in a data directory.
pub fn partition_dir(data: &Path, partition: PartitionId) -> PathBuf {
    data.join(format!("p{:04}", partition.0))
}
