//! The file of the trail, and when it is given up.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::limits::AUDIT_BYTES_MAX;
use crate::private_files::sync_dir;

/// Name of the file that lines go to.
pub const NAME: &str = "audit.jsonl";
const OLD_PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// An order can't be written down, so it is not carried out. The text says why and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order is written to audit.jsonl before it is carried out, and that failed: {0}")]
pub struct Untraced(pub(super) String);

/// The name is one of a file of the trail.
pub fn is_name(name: &OsStr) -> bool {
    let is_old = |name: &str| name.starts_with(OLD_PREFIX) && name.ends_with(SUFFIX);
    name == NAME || name.to_str().is_some_and(is_old)
}

/// Where lines go. A seam: tests have one that fails.
pub trait Store: Send {
    /// How long the file is.
    fn bytes(&self) -> u64;
    /// Writes at its end.
    ///
    /// # Errors
    /// Perhaps a part of it was written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts what a write that failed has left.
    ///
    /// # Errors
    /// It may be there still.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Nobody knows what is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Puts the file aside and begins a new one.
    ///
    /// # Errors
    /// Lines go where they went.
    fn rotate(&mut self) -> io::Result<()>;
}

/// The trail. Invariant: it ends with a whole line, unless it is given up.
pub(super) struct Book {
    store: Box<dyn Store>,
    given_up: Option<Untraced>,
}

impl Book {
    pub fn new(store: Box<dyn Store>) -> Self {
        Self { store, given_up: None }
    }

    pub fn open(data: &Path) -> io::Result<Self> {
        Ok(Self::new(Box::new(TrailFile::open(data)?)))
    }

    /// Writes a line and makes it durable.
    pub fn write(&mut self, line: &str) -> Result<(), Untraced> {
        if let Some(why) = &self.given_up {
            return Err(why.clone());
        }
        let bytes = self.store.bytes();
        if bytes > 0 && bytes + line.len() as u64 > AUDIT_BYTES_MAX {
            self.store.rotate().map_err(|error| {
                Untraced(format!("it is full, and a new file cannot be begun: {error}"))
            })?;
        }
        let bytes = self.store.bytes();
        if let Err(error) = self.store.append(line.as_bytes()) {
            let why = Untraced(format!("{error}; ask again when the disk is well"));
            // What is left of it would spoil the next line.
            return Err(match self.store.cut(bytes) {
                Ok(()) => why,
                Err(_) => self.give_up(&error),
            });
        }
        self.store.sync().map_err(|error| self.give_up(&error))
    }

    fn give_up(&mut self, error: &io::Error) -> Untraced {
        let why = Untraced(format!(
            "{error}; nobody knows what is on the disk now, so this process writes no further line and \
             refuses every order: look at the disk, and start the server again"
        ));
        self.given_up.insert(why).clone()
    }
}

/// The file in a data directory.
struct TrailFile {
    data: PathBuf,
    file: File,
    bytes: u64,
}

impl TrailFile {
    fn open(data: &Path) -> io::Result<Self> {
        let mut file = open_file(&data.join(NAME), false)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?; // a crash has torn the last line
                bytes += 1;
            }
        }
        file.sync_all()?;
        sync_dir(data)?;
        Ok(Self { data: data.to_owned(), file, bytes })
    }
}

fn open_file(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).append(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = if is_new { options.create_new(true) } else { options.create(true) }.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

impl Store for TrailFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn rotate(&mut self) -> io::Result<()> {
        let time = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        let time = time.format("%Y%m%dT%H%M%S%.9fZ");
        let (path, aside) =
            (self.data.join(NAME), self.data.join(format!("{OLD_PREFIX}{time}{SUFFIX}")));
        if aside.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(&path, &aside)?;
        let new = match open_file(&path, true) {
            Ok(new) => new,
            Err(error) => {
                std::fs::rename(&aside, &path)?;
                return Err(error);
            }
        };
        sync_dir(&self.data)?;
        (self.file, self.bytes) = (new, 0);
        Ok(())
    }
}
