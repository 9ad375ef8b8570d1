//! Files outside a log: made so that only their owner can read them, and named in errors.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::fatal::{Fatal, Reason};

/// All bytes in hexadecimal, first byte first.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
        text
    })
}

/// A file can't be read or written by a command that can be run again.
pub fn file_failed(what: &str, path: &Path, error: &io::Error) -> Fatal {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room and run it again: it goes on where it ended"
        }
        _ => "",
    };
    Fatal::new(Reason::File, format!("cannot {what} {}: {error}{advice}", path.display()))
}

/// Creates a directory that only its owner can read, durably.
///
/// # Errors
/// The file system's.
pub fn create_dir(path: &Path) -> Result<(), Fatal> {
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let new: Vec<_> = path.ancestors().take_while(is_new).collect();
    let create = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        new.iter().rev().try_for_each(|path| sync_parent(path))
    };
    create().map_err(|error: io::Error| file_failed("create", path, &error))
}

/// The directory of `path`.
pub fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The file system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// The file system's.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent_of(path))
}

/// A file on its way: only its owner can read it.
///
/// # Errors
/// The file system's.
pub fn create_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}
