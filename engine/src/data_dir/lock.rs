//! The lock on a data directory: one process at a time, or any number that only read.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::FileExt as _;
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
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(NAME)).map_err(|error| failed(dir, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, file)),
            Err(TryLockError::Error(error)) => return Err(failed(dir, &error)),
        }
        // In place, so that it takes no room on a full disk; and only for a message of others.
        let _ = file.write_all_at(format!("{:<20}\n", std::process::id()).as_bytes(), 0);
        Ok(Self { _file: file })
    }

    /// Makes sure that nobody changes the directory while it is read, and changes nothing itself. `None`
    /// if no process has ever used it, which is how a copy without the file looks, too.
    pub fn share(dir: &Path) -> Result<Option<Self>, Fatal> {
        let file = match File::open(dir.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(dir, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Err(in_use(dir, file)),
            Err(TryLockError::Error(error)) => Err(failed(dir, &error)),
        }
    }
}

fn failed(dir: &Path, error: &std::io::Error) -> Fatal {
    let path = dir.join(NAME);
    Fatal::new(Reason::DataDirectory, format!("cannot lock {}: {error}", path.display()))
}

fn in_use(dir: &Path, file: File) -> Fatal {
    let mut holder = String::new();
    let _ = file.take(32).read_to_string(&mut holder); // only for the message
    let (at, holder) = (dir.display(), holder.trim());
    // Who only reads does not write its number.
    let is_there = !holder.is_empty() && Path::new("/proc").join(holder).exists();
    let holder =
        if is_there { format!("process {holder}") } else { "a process that reads it".to_owned() };
    let message = format!("{at} is in use by {holder}; stop it first, or name another --data");
    Fatal::new(Reason::Locked, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("walengine-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_second_holder_is_told_who_is_first() {
        let dir = dir("lock");
        std::fs::write(dir.join(NAME), "12345678901234567890\n").unwrap();
        let first = DirectoryLock::take(&dir).unwrap();
        for error in
            [DirectoryLock::take(&dir).unwrap_err(), DirectoryLock::share(&dir).unwrap_err()]
        {
            assert_eq!(error.reason, Reason::Locked);
            let holder = format!("process {};", std::process::id());
            assert!(error.message.contains(&holder), "{error}");
        }
        drop(first);
        DirectoryLock::take(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn any_number_may_read_and_none_of_them_changes_anything() {
        let dir = dir("shared");
        assert!(DirectoryLock::share(&dir).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "no file was made");
        std::fs::write(dir.join(NAME), "99999999999\n").unwrap();
        let readers = [DirectoryLock::share(&dir).unwrap(), DirectoryLock::share(&dir).unwrap()];
        let error = DirectoryLock::take(&dir).unwrap_err();
        assert!(error.message.contains("a process that reads it"), "{error}");
        drop(readers);
        assert_eq!(std::fs::read(dir.join(NAME)).unwrap(), b"99999999999\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
