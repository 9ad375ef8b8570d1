//! The files that hold entries: each behind the one before it, as they stand in the log.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use walengine_net::entry::{EntryHeader, HEADER_BYTES, decode_entry};

use super::follow::follow;
use super::manifest::{End, Part, name_of};
use crate::fatal::Fatal;
use crate::private_files::{create_file, file_failed, sync_parent};
use crate::storage::ids::Ids;
use crate::storage::layout::Tail;

/// Extension of a part that is being written.
pub const EXTENSION_NEW: &str = "new";

/// Why reading a part has ended.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The bytes are not what was written.
    #[error("at byte {position}, behind offset {next_offset}: {why}")]
    Damaged {
        /// Where in the file.
        position: u64,
        /// Everything below this offset is whole.
        next_offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The file can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads the entries of one part in order, each checked.
pub struct PartReader {
    file: BufReader<File>,
    ids: Ids,
    /// The end of the log so far.
    pub tail: Tail,
    /// Bytes of entries read so far.
    pub position: u64,
    header: Option<EntryHeader>,
    entry: Vec<u8>,
}

impl PartReader {
    /// Of the file at `path`, whose first entry follows `tail`.
    pub fn open(path: &Path, ids: Ids, tail: Tail) -> io::Result<Self> {
        let file = BufReader::with_capacity(1 << 20, File::open(path)?);
        Ok(Self { file, ids, tail, position: 0, header: None, entry: Vec::new() })
    }

    /// Goes on to the next entry. False at the end of the file.
    pub fn advance(&mut self) -> Result<bool, PartError> {
        self.entry.clear();
        let read = (&mut self.file).take(HEADER_BYTES as u64).read_to_end(&mut self.entry)?;
        if read == 0 {
            return Ok(false);
        }
        let header = match EntryHeader::decode(&self.entry) {
            Ok(header) => header,
            Err(error) => return Err(self.damaged(&error)),
        };
        let body_bytes = (header.entry_bytes() - HEADER_BYTES) as u64;
        (&mut self.file).take(body_bytes).read_to_end(&mut self.entry)?;
        let followed = match decode_entry(&self.entry) {
            Ok((header, body)) => follow(self.ids, &self.tail, &header, body),
            Err(error) => return Err(self.damaged(&error)),
        };
        match followed {
            Ok(Some(tail)) => {
                (self.tail, self.header) = (tail, Some(header));
                self.position += self.entry.len() as u64;
                Ok(true)
            }
            Ok(None) => Err(self.damaged(&"the entry was there before")),
            Err(why) => Err(self.damaged(&why)),
        }
    }

    /// The entry that the last [`Self::advance`] came to.
    pub fn entry(&self) -> Option<(EntryHeader, &[u8])> {
        Some((self.header?, self.entry.get(HEADER_BYTES..)?))
    }

    /// Its end is where the manifest says.
    ///
    /// # Errors
    /// Where it is instead.
    pub fn is_whole(&self, part: &Part) -> Result<(), PartError> {
        if self.position == part.bytes && self.tail == part.tail() {
            return Ok(());
        }
        Err(self.damaged(&format!("it ends here, and should end at byte {}", part.bytes)))
    }

    fn damaged(&self, why: &dyn std::fmt::Display) -> PartError {
        let (position, next_offset) = (self.position, self.tail.next_offset.0);
        PartError::Damaged { position, next_offset, why: why.to_string() }
    }
}

/// Writes one part, which has its name only when it is whole.
pub struct PartWriter {
    file: BufWriter<File>,
    path: PathBuf,
    first: u64,
    ids: Ids,
    tail: Tail,
    bytes: u64,
}

impl PartWriter {
    /// Begins the part behind `tail` in the directory `dir`; goes on with what an interrupted run has
    /// left of it, as far as that is whole.
    pub fn begin(dir: &Path, ids: Ids, tail: Tail) -> Result<Self, Fatal> {
        let first = tail.next_offset.0;
        let path = dir.join(name_of(first));
        let new = path.with_extension(EXTENSION_NEW);
        let open = || {
            if path.exists() {
                // It got its name, and the run ended before the manifest named it.
                std::fs::rename(&path, &new)?;
            }
            let (mut bytes, mut end) = (0, tail);
            if new.exists() {
                let mut reader = PartReader::open(&new, ids, tail)?;
                while let Ok(true) = reader.advance() {}
                (bytes, end) = (reader.position, reader.tail);
                let mut file = File::options().write(true).open(&new)?;
                file.set_len(bytes)?;
                file.seek(io::SeekFrom::End(0))?;
                return Ok((file, bytes, end));
            }
            Ok((create_file(&new)?, bytes, end))
        };
        let (file, bytes, tail) =
            open().map_err(|error: io::Error| file_failed("write", &new, &error))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self { file, path, first, ids, tail, bytes })
    }

    /// The end of the log so far.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds an entry. False if it is there already.
    ///
    /// # Errors
    /// `Ok(Err(why))` if it does not follow.
    pub fn add(
        &mut self,
        header: &EntryHeader,
        body: &[u8],
    ) -> Result<Result<bool, String>, Fatal> {
        let tail = match follow(self.ids, &self.tail, header, body) {
            Ok(Some(tail)) => tail,
            Ok(None) => return Ok(Ok(false)),
            Err(why) => return Ok(Err(why)),
        };
        let written = self.file.write_all(&header.to_bytes());
        written.and_then(|()| self.file.write_all(body)).map_err(|error| self.failed(&error))?;
        self.bytes += header.entry_bytes() as u64;
        self.tail = tail;
        Ok(Ok(true))
    }

    /// Hands what was written to the operating system, so that the next run finds it.
    pub fn leave(mut self) {
        let _ = self.file.flush(); // what is missing is fetched again
    }

    /// Forgets it.
    pub fn discard(self) -> Result<(), Fatal> {
        let new = self.path.with_extension(EXTENSION_NEW);
        drop(self.file);
        std::fs::remove_file(&new).map_err(|error| file_failed("remove", &new, &error))
    }

    /// Makes it durable under its name; `None` if it holds no record. The manifest names it next.
    pub fn finish(mut self) -> Result<Option<Part>, Fatal> {
        let new = self.path.with_extension(EXTENSION_NEW);
        if self.tail.next_offset.0 == self.first {
            return self.discard().map(|()| None);
        }
        let path = self.path.clone();
        let mut finish = || {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_parent(&path)?;
            // What is read back next should come from the medium.
            let _ = rustix::fs::fadvise(self.file.get_ref(), 0, None, rustix::fs::Advice::DontNeed);
            Ok(())
        };
        finish().map_err(|error: io::Error| file_failed("write", &path, &error))?;
        Ok(Some(Part { first: self.first, bytes: self.bytes, end: End::of(&self.tail) }))
    }

    fn failed(&self, error: &io::Error) -> Fatal {
        file_failed("write", &self.path, error)
    }
}

/// Checks one part of a backup against what the manifest says of it.
///
/// # Errors
/// What is wrong with it.
pub fn check_part(path: &Path, ids: Ids, before: Tail, part: &Part) -> Result<(), PartError> {
    let mut reader = PartReader::open(path, ids, before)?;
    while reader.advance()? {}
    reader.is_whole(part)
}
