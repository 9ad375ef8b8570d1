//! The files that the projector keeps beside a managed server's data: a lock and the server's log.
//!
//! When the projector is root, the directory belongs to an unprivileged user, who could put links in
//! it. So the directory is opened once, and every file relative to it, without following a link; a
//! file that is something else, that has other names, or that is somebody else's is refused.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid, geteuid};

use crate::fatal::{Fatal, Reason};
use crate::limits::LOG_TAIL_BYTES_MAX;

/// The directory of a managed server.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    descriptor: OwnedFd,
    /// The user whom the server runs as, if that is not the current one.
    owner: Option<(u32, u32)>,
}

impl Directory {
    /// Opens it. Refuses one that belongs to somebody else, or that others may write to.
    pub fn open(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, Fatal> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| unusable(path, &error.into()))?;
        let directory = Self { path: path.to_owned(), descriptor, owner };
        let found = rustix::fs::fstat(&directory.descriptor)
            .map_err(|error| unusable(path, &error.into()))?;
        let is_open = found.st_mode & 0o022 != 0;
        if owner.is_some() && (!directory.is_known(found.st_uid) || is_open) {
            let message = format!(
                "{} belongs to user {} with mode {:o}, and the projector is root: name a directory of \
                 root's or of PostgreSQL's user that nobody else may write to, or start the projector \
                 as another user",
                path.display(),
                found.st_uid,
                found.st_mode & 0o7777
            );
            return Err(Fatal::new(Reason::File, message));
        }
        Ok(directory)
    }

    /// Whether a user is one of those who may have made these files.
    fn is_known(&self, user: u32) -> bool {
        user == geteuid().as_raw() || self.owner.is_some_and(|(owner, _)| owner == user)
    }

    /// Gives the directory to the server's user.
    pub fn give_away(&self) -> Result<(), Fatal> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::fchown(&self.descriptor, Some(user), Some(group))
            .map_err(|error| unusable(&self.path, &error.into()))
    }

    /// Release that made the data; `None` if there is none yet.
    pub fn release(&self) -> Result<Option<u32>, Fatal> {
        let path = self.path.join("data/PG_VERSION");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            match rustix::fs::openat(&self.descriptor, "data/PG_VERSION", flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(error) => return Err(unusable(&path, &error.into())),
            };
        let mut text = String::new();
        let read = file.take(16).read_to_string(&mut text);
        let number = text.trim().split('.').next().and_then(|text| text.parse().ok());
        if let (Ok(_), Some(number)) = (read, number) {
            return Ok(Some(number));
        }
        let message = format!("{} does not name a release of PostgreSQL", path.display());
        Err(Fatal::new(Reason::File, message))
    }

    /// Opens a file of the projector's, which is made if it is missing.
    fn file(&self, name: &str) -> Result<File, Fatal> {
        let path = self.path.join(name);
        let flags = OFlags::CREATE
            | OFlags::APPEND
            | OFlags::RDWR
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let refused = |why: &str| {
            let message =
                format!("{} {why}: it is not followed; remove it and start again", path.display());
            Fatal::new(Reason::File, message)
        };
        let opened = rustix::fs::openat(&self.descriptor, name, flags, Mode::from_raw_mode(0o600));
        let file = match opened {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::LOOP) => return Err(refused("is a link")),
            Err(error) => return Err(unusable(&path, &error.into())),
        };
        let found = file.metadata().map_err(|error| unusable(&path, &error))?;
        if !found.is_file() {
            return Err(refused("is not a file"));
        }
        if found.nlink() != 1 {
            return Err(refused("has another name"));
        }
        if !self.is_known(found.uid()) {
            return Err(refused("belongs to somebody else"));
        }
        Ok(file)
    }

    /// Locks the directory. `None` if another process holds the lock.
    pub fn lock(&self) -> Result<Option<File>, Fatal> {
        let file = self.file("lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::Error(error)) => Err(unusable(&self.path, &error)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// The server's log, for appending.
    pub fn log(&self) -> Result<File, Fatal> {
        self.file("log")
    }

    /// The end of the server's log; empty if it can't be read.
    pub fn end_of_log(&self) -> String {
        let Ok(mut file) = self.file("log") else { return String::new() };
        let end = file.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = Vec::new();
        // What can't be read is not shown.
        let _ = file.seek(SeekFrom::Start(end.saturating_sub(LOG_TAIL_BYTES_MAX)));
        let _ = file.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Fatal {
    let message = format!("cannot use {} for PostgreSQL: {error}", path.display());
    Fatal::new(Reason::File, message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn temporary(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("walengine-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // of an earlier run
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn no_link_is_followed_and_no_file_of_others_is_written() {
        let path = temporary("managed-links");
        let victim = path.join("victim");
        fs::write(&victim, "precious").unwrap();
        let directory = Directory::open(&path, None).unwrap();
        for name in ["log", "lock"] {
            let place = path.join(name);
            symlink(&victim, &place).unwrap();
            let fatal = directory.file(name).unwrap_err();
            assert!(fatal.message.contains("is a link"), "{}", fatal.message);
            fs::remove_file(&place).unwrap();
            fs::hard_link(&victim, &place).unwrap();
            let fatal = directory.file(name).unwrap_err();
            assert!(fatal.message.contains("has another name"), "{}", fatal.message);
            fs::remove_file(&place).unwrap();
            fs::create_dir(&place).unwrap();
            assert!(directory.file(name).is_err());
            fs::remove_dir(&place).unwrap();
            let made = rustix::fs::mkfifoat(rustix::fs::CWD, &place, Mode::from_raw_mode(0o600));
            made.unwrap();
            let fatal = directory.file(name).unwrap_err();
            assert!(fatal.message.contains("is not a file"), "{}", fatal.message);
            fs::remove_file(&place).unwrap();
            assert_eq!(directory.file(name).unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        // A directory that was replaced after it was opened is not used in its place.
        let moved = path.with_extension("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(std::env::temp_dir(), &path).unwrap();
        directory.log().unwrap();
        assert!(moved.join("log").exists());
        assert!(Directory::open(&path, None).is_err(), "a link is no directory");
        fs::remove_file(&path).unwrap();
        fs::remove_dir_all(&moved).unwrap();
    }

    #[test]
    fn a_directory_of_others_is_refused_to_root() {
        let path = temporary("managed-owner");
        let me = geteuid().as_raw();
        let server = Some((me + 1, me + 1));
        assert!(Directory::open(&path, server).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let fatal = Directory::open(&path, server).unwrap_err();
        assert!(fatal.message.contains("mode 777"), "{}", fatal.message);
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn the_release_is_that_of_the_data() {
        let path = temporary("managed-release");
        let directory = Directory::open(&path, None).unwrap();
        assert_eq!(directory.release().unwrap(), None);
        fs::create_dir(path.join("data")).unwrap();
        assert_eq!(directory.release().unwrap(), None);
        fs::write(path.join("data/PG_VERSION"), "15\n").unwrap();
        assert_eq!(directory.release().unwrap(), Some(15));
        fs::write(path.join("data/PG_VERSION"), "root:x:0:0\n").unwrap();
        let fatal = directory.release().unwrap_err();
        assert!(!fatal.message.contains("root:x"), "{}", fatal.message);
        fs::remove_dir_all(&path).unwrap();
    }
}
