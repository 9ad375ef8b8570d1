//! Backups: the log of every partition as its server gives it to any reader, kept in files of its own.
//! Runs in the command line, on another machine if need be. FORMAT.md, section 9, has the bytes.
//!
//! ```text
//!  take      subscribe behind what is there ─ check ─ append to a part ─ sync ─ name it ─ manifest
//!            ─ read back ─ point: from here on it can be restored
//!  restore   check ─ rewrite for a new cluster ─ derive every verdict again ─ superblock
//! ```
//! A part never changes once it has its name, and a manifest is replaced whole: a run that is killed
//! leaves the earlier points as they were, and the next run goes on where it ended.

pub mod cut;
pub mod follow;
pub mod inspect;
pub mod manifest;
pub mod part;
pub mod restore;
pub mod take;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use walengine_net::model::PartitionId;

use crate::fatal::{Fatal, Reason};
use crate::storage;

/// The directory of a partition's parts.
pub fn parts_dir(backup: &Path, partition: PartitionId) -> PathBuf {
    storage::partition_dir(backup, partition)
}

/// All bytes in hexadecimal, first byte first.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
        text
    })
}

/// The file of a backup can't be read or written.
fn file_failed(what: &str, path: &Path, error: &io::Error) -> Fatal {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room and run it again: it goes on where it ended"
        }
        _ => "",
    };
    Fatal::new(Reason::File, format!("cannot {what} {}: {error}{advice}", path.display()))
}

/// Creates a directory that only its owner can read, durably.
fn create_dir(path: &Path) -> Result<(), Fatal> {
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let new: Vec<_> = path.ancestors().take_while(is_new).collect();
    let create = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        new.iter().rev().try_for_each(|path| sync_parent(path))
    };
    create().map_err(|error: io::Error| file_failed("create", path, &error))
}

/// Makes the names in the directory of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A file on its way: only its owner can read it.
fn create_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}
