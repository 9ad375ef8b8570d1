//! Where a CSV file's bytes come from. A file is read more than once: what it says is checked before
//! anything is done about it. Each later reading must give the bytes of the first, block by block,
//! or it ends. Standard input and pipes can't be read twice, so they are copied to a temporary file
//! first. What is packed by gzip is unpacked, whatever its name is.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::read::MultiGzDecoder;
use walengine_net::cli::{Fatal, Reason};
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::CSV_BLOCK_BYTES;

const GZIP: [u8; 2] = [0x1F, 0x8B];

/// An open file that is read several times, with the same bytes each time.
pub struct Source {
    shown: String,
    /// Where it can be looked at again; `None` if it was copied.
    path: Option<PathBuf>,
    file: File,
    stamp: Stamp,
    is_packed: bool,
    /// Checksums of the blocks of the first reading.
    blocks: Mutex<Vec<u64>>,
    /// Bytes that all readings have read, for progress.
    read: Arc<AtomicU64>,
}

/// What changes when somebody writes to a file or puts another in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// An open file. What can be read only once, such as standard input, is a copy of it.
pub struct Input {
    /// What people call it.
    pub shown: String,
    /// Its bytes, from the beginning with `read_at`.
    pub file: File,
    /// Where it can be looked at again; `None` if it was copied.
    path: Option<PathBuf>,
}

impl Input {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, Fatal> {
        if path == Path::new("-") {
            let shown = "standard input".to_owned();
            let file = copied(io::stdin(), &shown)?;
            return Ok(Self { shown, file, path: None });
        }
        let shown = path.display().to_string();
        let failed = |error: io::Error| unopened(&shown, &error);
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            let message = format!("{shown} is a directory; name a CSV file in it");
            return Err(Fatal::new(Reason::File, message));
        }
        if kind.is_file() {
            return Ok(Self { shown, file, path: Some(path.to_owned()) });
        }
        let file = copied(file, &shown)?;
        Ok(Self { shown, file, path: None })
    }
}

fn unopened(shown: &str, error: &io::Error) -> Fatal {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is the path right?",
        io::ErrorKind::PermissionDenied => "; may this user read it?",
        _ => "",
    };
    Fatal::new(Reason::File, format!("cannot open {shown}: {error}{hint}"))
}

impl Source {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, Fatal> {
        Self::of(Input::open(path)?)
    }

    /// The same of an open file.
    pub fn of(input: Input) -> Result<Self, Fatal> {
        let Input { shown, file, path } = input;
        let failed = |error: io::Error| unopened(&shown, &error);
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        let mut magic = [0; GZIP.len()];
        let is_packed = file.read_at(&mut magic, 0).map_err(failed)? == GZIP.len() && magic == GZIP;
        let blocks = Mutex::default();
        Ok(Self { shown, path, file, stamp, is_packed, blocks, read: Arc::default() })
    }

    /// What people call it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Bytes of the file, as it is packed.
    pub fn bytes(&self) -> u64 {
        self.stamp.bytes
    }

    /// Whether its rows take more bytes than the file has.
    pub fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// Bytes that all readings together have read.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// Whether `path` leads to this file, by whatever name.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path)
            .is_ok_and(|other| (other.dev(), other.ino()) == (self.stamp.device, self.stamp.inode))
    }

    /// The first reading.
    pub fn first(&self) -> Box<dyn Read + '_> {
        self.known().clear();
        self.reading(true)
    }

    /// Another reading. It fails at the first block that is not what it was.
    pub fn again(&self) -> Result<Box<dyn Read + '_>, Fatal> {
        self.unchanged()?;
        Ok(self.reading(false))
    }

    fn known(&self) -> MutexGuard<'_, Vec<u64>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self, is_first: bool) -> Box<dyn Read + '_> {
        let blocks = Blocks { source: self, is_first, next: 0, block: Vec::new(), taken: 0 };
        if self.is_packed {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CSV_BLOCK_BYTES, blocks)))
        } else {
            Box::new(blocks)
        }
    }

    /// Fails if somebody has written to the file, or put another in its place, since it was opened.
    pub fn unchanged(&self) -> Result<(), Fatal> {
        let now = self.file.metadata().map(|metadata| Stamp::of(&metadata));
        let there = self.path.as_ref().map(fs::metadata).transpose();
        let is_same = now.is_ok_and(|now| now == self.stamp)
            && there.is_ok_and(|there| there.is_none_or(|there| Stamp::of(&there) == self.stamp));
        if is_same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Fatal {
        let message = format!(
            "{} changed while it was read: wait until it is complete, and run it again",
            self.shown
        );
        Fatal::new(Reason::File, message)
    }

    /// The result of a read, as people are told of it.
    pub fn told<T>(&self, result: io::Result<T>) -> Result<T, Fatal> {
        result.map_err(|error| {
            if error.kind() == io::ErrorKind::StaleNetworkFileHandle {
                return self.changed();
            }
            let hint = match error.kind() {
                _ if !self.is_packed => "",
                io::ErrorKind::UnexpectedEof => ": it was cut off",
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ": it is damaged",
                _ => "",
            };
            let message = format!("cannot read {}{hint}: {error}", self.shown);
            Fatal::new(Reason::File, message)
        })
    }
}

/// The file's bytes in blocks, of which each is what it was in the first reading.
struct Blocks<'a> {
    source: &'a Source,
    is_first: bool,
    next: usize,
    block: Vec<u8>,
    /// Bytes of `block` that were given out.
    taken: usize,
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() && !self.fill()? {
            return Ok(0);
        }
        let read = (&self.block[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

impl Blocks<'_> {
    /// Reads the next block. `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let at = (self.next * CSV_BLOCK_BYTES) as u64;
        let mut block = std::mem::take(&mut self.block);
        block.resize(CSV_BLOCK_BYTES, 0);
        let mut length = 0;
        while length < block.len() {
            match self.source.file.read_at(&mut block[length..], at + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        block.truncate(length);
        let mut known = self.source.known();
        let checksum = xxh3_64(&block);
        if self.is_first {
            if length > 0 {
                known.push(checksum);
            }
        } else if known.get(self.next) != Some(&checksum) {
            // What was added after the first reading is for the next import.
            if self.next == known.len() {
                return Ok(false);
            }
            return Err(io::ErrorKind::StaleNetworkFileHandle.into());
        }
        self.source.read.fetch_add(length as u64, Ordering::Relaxed);
        (self.block, self.taken) = (block, 0);
        self.next += 1;
        Ok(length > 0)
    }
}

/// A copy of what can be read only once, in a file without a name.
fn copied(mut from: impl Read, shown: &str) -> Result<File, Fatal> {
    let folder = std::env::temp_dir();
    let failed = |error: io::Error| {
        let message = format!(
            "cannot keep a copy of {shown} in {}: {error}; TMPDIR names another directory",
            folder.display()
        );
        Fatal::new(Reason::File, message)
    };
    let path = folder.join(format!("walengine-import-{}", uuid::Uuid::new_v4()));
    let mut options = File::options();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    fs::remove_file(&path).map_err(failed)?;
    let mut block = vec![0; CSV_BLOCK_BYTES];
    loop {
        let read = match from.read(&mut block) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let message = format!("cannot read {shown}: {error}");
                return Err(Fatal::new(Reason::File, message));
            }
        };
        file.write_all(&block[..read]).map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("walengine-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn all(mut bytes: Box<dyn Read + '_>) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        bytes.read_to_end(&mut read).map(|_| read)
    }

    #[test]
    fn a_file_that_changes_between_two_readings_ends_the_second() {
        let folder = folder("source-changed");
        let path = folder.join("file.csv");
        let text = "1,2\n".repeat(CSV_BLOCK_BYTES / 2);
        fs::write(&path, &text).unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(all(source.first()).unwrap(), text.as_bytes());
        assert_eq!(all(source.again().unwrap()).unwrap(), text.as_bytes());
        source.unchanged().unwrap();

        // One byte in the last block, with the time of the first writing.
        let file = File::options().write(true).open(&path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_at(b"9", text.len() as u64 - 2).unwrap();
        file.set_modified(before).unwrap();
        let error = all(source.again().unwrap()).unwrap_err();
        let error = source.told::<()>(Err(error)).unwrap_err();
        assert!(error.message.contains("changed while it was read"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_written_to_or_replaced_has_changed_and_what_is_added_is_not_read() {
        let folder = folder("source-added");
        let path = folder.join("file.csv");
        fs::write(&path, "1\n").unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(all(source.first()).unwrap(), b"1\n");
        let again = source.again().unwrap();
        fs::write(folder.join("other.csv"), "2\n").unwrap();
        fs::rename(folder.join("other.csv"), &path).unwrap();
        assert!(source.unchanged().is_err(), "another file has its name");
        assert_eq!(all(again).unwrap(), b"1\n");

        let source = Source::open(&path).unwrap();
        assert_eq!(all(source.first()).unwrap(), b"2\n");
        File::options().append(true).open(&path).unwrap().write_all(b"3\n").unwrap();
        assert!(source.unchanged().is_err() && source.again().is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn packed_files_are_known_by_their_bytes_and_a_cut_one_is_told() {
        let folder = folder("source-packed");
        let path = folder.join("file.csv");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"1,2\n").unwrap();
        let packed = packer.finish().unwrap();
        fs::write(&path, [&packed[..], &packed[..]].concat()).unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(all(source.first()).unwrap(), b"1,2\n1,2\n");

        fs::write(&path, &packed[..packed.len() - 3]).unwrap();
        let source = Source::open(&path).unwrap();
        let error = source.told(all(source.first())).unwrap_err();
        assert!(error.message.contains("cut off"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
