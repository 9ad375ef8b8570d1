//! Where the entries stand that a scan has shown, so that single ones can be read again.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use walengine_net::entry::{EntryHeader, HEADER_BYTES};
use walengine_net::model::Offset;

use super::disk::{BLOCK_BYTES, Disk};
use super::index::MARK_EVERY_BYTES;
use super::layout;
use super::segment;
use super::verify::Checked;
use super::window::Window;

/// See the module.
pub struct Shown<D: Disk> {
    disk: D,
    dir: PathBuf,
    segment_bytes: u64,
    /// In order, one for each 64 KiB at most.
    marks: Vec<Mark>,
}

struct Mark {
    offset: Offset,
    segment: u64,
    position: u64,
}

impl<D: Disk> Shown<D> {
    /// Of the partition directory `dir`; nothing yet.
    pub fn new(disk: D, dir: PathBuf, segment_bytes: u64) -> Self {
        Self { disk, dir, segment_bytes, marks: Vec::new() }
    }

    /// Takes note of the next entry.
    pub fn note(&mut self, entry: &Checked<'_>) {
        let Checked { segment, position, header, .. } = *entry;
        let is_near =
            |last: &Mark| last.segment == segment && position - last.position < MARK_EVERY_BYTES;
        if !self.marks.last().is_some_and(is_near) {
            self.marks.push(Mark { offset: header.meta.base_offset, segment, position });
        }
    }

    /// The entry that has the record at `offset`, and its body.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if no entry stands where one was shown.
    pub async fn entry_of(&self, offset: Offset) -> io::Result<(EntryHeader, Vec<u8>)> {
        // Entries without records may stand in front of it, at the same offset.
        let behind = self.marks.partition_point(|mark| mark.offset <= offset);
        let gone = || io::Error::from(io::ErrorKind::InvalidData);
        let mark = self.marks[..behind].last().ok_or_else(gone)?;
        let file = self.disk.open(&segment::path(&self.dir, mark.segment)).await?;
        let (disk, file) = (self.disk.clone(), Rc::new(file));
        let mut window = Window::new(disk, file, self.segment_bytes, BLOCK_BYTES);
        let mut position = mark.position;
        loop {
            let header = match window.entry(position).await? {
                Ok(header) => header,
                Err(_) if !position.is_multiple_of(layout::BLOCK) => {
                    position = layout::block_up(position);
                    continue;
                }
                Err(_) => return Err(gone()),
            };
            if header.meta.base_offset > offset {
                return Err(gone());
            }
            let bytes = header.entry_bytes();
            if header.next_offset() > offset {
                return Ok((header, window.slice(position, bytes)[HEADER_BYTES..].to_vec()));
            }
            position = layout::entry_up(position + bytes as u64);
        }
    }
}
