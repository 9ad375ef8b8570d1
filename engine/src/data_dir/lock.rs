//! The lock on a data directory: one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::fatal::{Fatal, Reason};

/// Name of the file in the data directory.
pub const NAME: &str = "lock";

/// Held while a process uses a data directory; the kernel releases it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock, or says which process holds it.
    pub fn take(dir: &Path) -> Result<Self, Fatal> {
        let path = dir.join(NAME);
        let failed = |error: std::io::Error| {
            Fatal::new(Reason::DataDirectory, format!("cannot lock {}: {error}", path.display()))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder); // only for the message
                let (at, holder) = (dir.display(), holder.trim());
                let message = format!(
                    "{at} is in use by process {holder}; stop it first, or name another --data"
                );
                return Err(Fatal::new(Reason::Locked, message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_is_first() {
        let dir = std::env::temp_dir().join(format!("walengine-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let first = DirectoryLock::take(&dir).unwrap();
        let error = DirectoryLock::take(&dir).unwrap_err();
        assert_eq!(error.reason, Reason::Locked);
        assert!(error.message.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DirectoryLock::take(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
