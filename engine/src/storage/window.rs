//! Reads a segment through a bounded buffer. Checks entries; judges nothing.

use std::io;
use std::rc::Rc;

use walengine_net::entry::{self, EntryError, EntryHeader, HEADER_BYTES};

use super::disk::{Disk, DiskFile};
use super::ids::Ids;
use super::layout::{self, Tail};

/// Bytes read at once when a whole segment is read.
pub const WINDOW_BYTES: usize = 4 << 20;

/// A file with the last bytes read from it.
pub(super) struct Window<D: Disk> {
    disk: D,
    file: Rc<D::File>,
    file_bytes: u64,
    read_bytes: usize,
    buffer: Option<D::Buffer>,
    start: u64,
}

/// What follows an entry.
pub(super) enum Step {
    /// A valid entry that continues the log.
    Entry { position: u64, header: EntryHeader, tail: Tail },
    /// A valid entry that continues the log, behind padding that is not zero.
    DirtyPadding { position: u64 },
    /// No entry. `why` says what is wrong with the first bytes that are not zero.
    End { position: u64, why: String },
}

impl<D: Disk> Window<D> {
    /// Reads `read_bytes` (whole blocks) at once, more where an entry needs it.
    pub fn new(disk: D, file: Rc<D::File>, file_bytes: u64, read_bytes: usize) -> Self {
        Self { disk, file, file_bytes, read_bytes, buffer: None, start: 0 }
    }

    /// Bytes of the file that may be read.
    pub fn bytes(&self) -> u64 {
        self.file_bytes
    }

    /// These bytes are available to [`Window::slice`] already.
    pub fn holds(&self, position: u64, bytes: usize) -> bool {
        let held = self.buffer.as_ref().map_or(0, |buffer| buffer.as_ref().len()) as u64;
        self.start <= position && position + bytes as u64 <= self.start + held
    }

    /// Makes `bytes` bytes at `position` available to [`Window::slice`].
    pub async fn fill(&mut self, position: u64, bytes: usize) -> io::Result<()> {
        let end = position + bytes as u64;
        assert!(end <= self.file_bytes, "a read stays inside its segment");
        if self.holds(position, bytes) {
            return Ok(());
        }
        let start = layout::block_down(position);
        let least = layout::block_up(end) - start;
        let bytes = least.max(self.read_bytes as u64).min(self.file_bytes - start) as usize;
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.as_ref().len() == bytes => buffer,
            _ => self.disk.buffer(bytes),
        };
        self.buffer = Some(self.file.read(buffer, start).await?);
        self.start = start;
        Ok(())
    }

    /// Bytes that the last [`Window::fill`] made available.
    pub fn slice(&self, position: u64, bytes: usize) -> &[u8] {
        let from = (position - self.start) as usize;
        self.buffer.as_ref().map_or(&[][..], |buffer| &buffer.as_ref()[from..from + bytes])
    }

    /// Checks the entry at `position`, body and all. Its bytes are then available.
    pub async fn entry(&mut self, position: u64) -> io::Result<Result<EntryHeader, EntryError>> {
        let rest = self.file_bytes.saturating_sub(position);
        if rest < HEADER_BYTES as u64 {
            return Ok(Err(EntryError::Short { needed: HEADER_BYTES, found: rest as usize }));
        }
        self.fill(position, HEADER_BYTES).await?;
        let header = match EntryHeader::decode(self.slice(position, HEADER_BYTES)) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let needed = header.entry_bytes();
        if rest < needed as u64 {
            return Ok(Err(EntryError::Short { needed, found: rest as usize }));
        }
        self.fill(position, needed).await?;
        Ok(entry::decode_entry(self.slice(position, needed)).map(|(header, _)| header))
    }

    /// The entry at `position` if it continues a log that ends at `tail`; otherwise why not.
    async fn next(
        &mut self,
        ids: Ids,
        tail: &Tail,
        position: u64,
    ) -> io::Result<Result<(EntryHeader, Tail), String>> {
        let header = match self.entry(position).await? {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if !ids.wrote(&header) {
            return Ok(Err("the entry is of another cluster or partition".to_owned()));
        }
        let next = match tail.with(&header) {
            Ok(next) => next,
            Err(why) => return Ok(Err(why.to_owned())),
        };
        let body = &self.slice(position, header.entry_bytes())[HEADER_BYTES..];
        if !header.follows(tail.chain, body) {
            return Ok(Err("the chain hash does not follow the one before".to_owned()));
        }
        Ok(Ok((header, next)))
    }

    /// Finds the entry that follows `tail`, whose last byte stands before `position`: either right
    /// there, or, if that flush has ended, on the next block.
    pub async fn step(&mut self, ids: Ids, tail: &Tail, position: u64) -> io::Result<Step> {
        let position = layout::entry_up(position);
        let why = match self.next(ids, tail, position).await? {
            Ok((header, tail)) => return Ok(Step::Entry { position, header, tail }),
            Err(why) => why,
        };
        let block = layout::block_up(position);
        if block == position {
            return Ok(Step::End { position, why });
        }
        let clean = self.is_zero(position, block).await?;
        match self.next(ids, tail, block).await? {
            Ok((header, tail)) if clean => Ok(Step::Entry { position: block, header, tail }),
            Ok(_) => Ok(Step::DirtyPadding { position }),
            Err(why) if clean => Ok(Step::End { position: block, why }),
            Err(_) => Ok(Step::End { position, why }),
        }
    }

    /// Nothing but zeros from `position` to `end`.
    pub async fn is_zero(&mut self, position: u64, end: u64) -> io::Result<bool> {
        let mut at = position;
        while at < end {
            let bytes = (end - at).min(self.read_bytes as u64);
            self.fill(at, bytes as usize).await?;
            if !layout::is_zero(self.slice(at, bytes as usize)) {
                return Ok(false);
            }
            at += bytes;
        }
        Ok(true)
    }
}
