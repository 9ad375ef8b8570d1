//! Directories of credentials: made whole or not at all, and their files replaced whole.
//!
//! A new directory is filled under another name and renamed. A file is written beside the one that it
//! replaces, made durable, and renamed over it, so that a reader sees all of the old one or all of the new.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, REVOKED_FILE};

use crate::fatal::{Fatal, Reason};
use crate::policy::POLICY_FILE;
use crate::private_files::{create_dir, create_file, file_failed, sync_dir, sync_parent};

/// The key of the authority.
pub const CA_KEY: &str = "ca.key";
/// What users other than the owner may do with a file.
const OF_OTHERS: u32 = 0o077;
/// The authority's directory.
pub const AUTHORITY: &str = "ca";

/// Where all of a cluster's credentials are made.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Directory that holds the authority, in `ca`, and what it has made
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
}

/// One file of a directory.
pub struct Content {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

impl Content {
    pub fn new(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name, bytes: bytes.into() }
    }
}

/// Anybody may read certificates, lists and policies. Whatever else there is are keys.
fn mode(name: &str) -> u32 {
    let is_public = [CA_FILE, CERTIFICATE_FILE, REVOKED_FILE, POLICY_FILE].contains(&name);
    if is_public { 0o644 } else { 0o600 }
}

/// Makes a directory that does not exist yet, with these files.
pub fn make(dir: &Path, files: &[Content]) -> Result<(), Fatal> {
    let new = beside(dir);
    remove(&new)?; // of a command that was interrupted
    create_dir(&new)?;
    let made = files
        .iter()
        .try_for_each(|file| write_new(&new.join(file.name), &file.bytes, mode(file.name)))
        .and_then(|()| sync_dir(&new).map_err(|error| file_failed("write", &new, &error)))
        .and_then(|()| rename_new(&new, dir));
    if made.is_err() {
        let _ = fs::remove_dir_all(&new); // the error that is told is the first one
    }
    made
}

/// Files in a directory that exists, made durable beside those that they replace.
pub struct Staged(Vec<(PathBuf, PathBuf)>);

impl Staged {
    pub fn new(dir: &Path, files: &[Content]) -> Result<Self, Fatal> {
        let mut staged = Self(Vec::new());
        for file in files {
            staged.add(dir.join(file.name), &file.bytes, mode(file.name))?;
        }
        Ok(staged)
    }

    /// One file of keys, whatever it is called.
    pub fn of_file(path: &Path, bytes: &[u8]) -> Result<Self, Fatal> {
        let mut staged = Self(Vec::new());
        staged.add(path.to_owned(), bytes, 0o600)?;
        Ok(staged)
    }

    fn add(&mut self, to: PathBuf, bytes: &[u8], mode: u32) -> Result<(), Fatal> {
        let new = beside(&to);
        remove(&new)?;
        self.0.push((new.clone(), to)); // before it is written: what a failure leaves is removed
        write_new(&new, bytes, mode)
    }

    /// Puts them in place, one right after the other.
    pub fn commit(mut self) -> Result<(), Fatal> {
        let files = std::mem::take(&mut self.0);
        for (new, to) in &files {
            fs::rename(new, to).map_err(|error| file_failed("replace", to, &error))?;
        }
        for (_, to) in &files {
            sync_parent(to).map_err(|error| file_failed("write", to, &error))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (new, _) in &self.0 {
            let _ = fs::remove_file(new); // what is left is overwritten by the next command
        }
    }
}

/// Makes a file of keys that does not exist yet, or says that it does.
pub fn make_file(path: &Path, bytes: &[u8]) -> Result<(), Fatal> {
    let new = beside(path);
    remove(&new)?;
    let made = write_new(&new, bytes, 0o600).and_then(|()| rename_new(&new, path));
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

/// Nobody else changes the directory while this is held: two commands at once would lose what one of
/// them did.
pub fn lock(dir: &Path) -> Result<File, Fatal> {
    let locked = File::open(dir).map_err(|error| file_failed("open", dir, &error))?;
    match locked.try_lock() {
        Ok(()) => Ok(locked),
        Err(fs::TryLockError::WouldBlock) => {
            let message =
                format!("another `walengine cert` works in {}: wait for it", dir.display());
            Err(Fatal::new(Reason::Locked, message))
        }
        Err(fs::TryLockError::Error(error)) => Err(file_failed("lock", dir, &error)),
    }
}

/// A key that others can read is no secret any more.
pub fn require_private(path: &Path) -> Result<(), Fatal> {
    let found = fs::metadata(path).map_err(|error| file_failed("read", path, &error))?;
    if is_private(&found) {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "others can read {path}: make it yours alone with `chmod 600 {path}`, and a new one if somebody \
         may have read it"
    );
    Err(Fatal::new(Reason::File, message))
}

/// Whether only its owner can read a file.
pub fn is_private(found: &fs::Metadata) -> bool {
    found.permissions().mode() & OF_OTHERS == 0
}

/// A file of the user's.
pub fn read(path: &Path) -> Result<Vec<u8>, Fatal> {
    fs::read(path).map_err(|error| file_failed("read", path, &error))
}

/// A file that need not be there.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Fatal> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_failed("read", path, &error)),
    }
}

/// The directories in one, by name. Those that begin with a dot are on their way, or somebody else's.
pub fn within(dir: &Path) -> Result<Vec<PathBuf>, Fatal> {
    let failed = |error: io::Error| file_failed("read", dir, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if path.is_dir() && !is_hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether there is something under this name, even a link that leads nowhere.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// `DIR/NAME` as `DIR/.NAME.new`.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<(), Fatal> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(|error| file_failed("remove", path, &error))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fatal> {
    let write = || {
        let mut file = create_file(path)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| file_failed("write", path, &error))
}

/// Renames to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> Result<(), Fatal> {
    let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag; a directory never replaces one with files in it.
        Err(Errno::INVAL | Errno::NOSYS) if !exists(to) => fs::rename(from, to),
        result => result.map_err(io::Error::from),
    };
    match renamed.and_then(|()| sync_parent(to)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(to)),
        Err(error) => Err(file_failed("create", to, &error)),
    }
}

/// Nothing is overwritten.
fn taken(path: &Path) -> Fatal {
    let message = format!("{} exists already, and is left as it is", path.display());
    Fatal::new(Reason::File, message)
}
