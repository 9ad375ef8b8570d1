//! A partition's segments, read on another core than the one that writes them. Only entries that can't
//! be cut any more are read, so nothing that is read here ever changes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use walengine_net::entry::HEADER_BYTES;
use walengine_net::model::{ClusterId, Offset, PartitionId};

use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::ReadError;
use super::ids::Ids;
use super::layout::{self, BLOCK, SegmentHeader, Tail};
use super::read::Reader;
use super::segment;
use super::window::{WINDOW_BYTES, Window};

/// See the module.
pub struct Archive<D: Disk> {
    disk: D,
    dir: PathBuf,
    ids: Ids,
    segment_bytes: u64,
    /// Segments that hold at least one entry that can't be cut, without a gap.
    heads: RefCell<Vec<Head>>,
}

#[derive(Clone, Copy)]
struct Head {
    sequence: u64,
    /// What its first entry follows.
    before: Tail,
}

/// What can't be cut any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index of the last such entry, which is on disk.
    pub index: u64,
    /// The segment that the log writes to, which holds that entry or comes behind it.
    pub sequence: u64,
}

/// Where a reader stands. Good for the archive that gave it.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// The next record wanted.
    offset: Offset,
    /// The entry that comes next, its segment, and where to look for it there.
    index: u64,
    sequence: u64,
    position: u64,
}

impl Cursor {
    /// The next record wanted.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The entry that comes next.
    pub fn index(&self) -> u64 {
        self.index
    }
}

impl<D: Disk> Archive<D> {
    /// Of the partition whose directory is `dir`.
    pub fn new(
        disk: D,
        dir: PathBuf,
        cluster: ClusterId,
        partition: PartitionId,
        segment_bytes: u64,
    ) -> Self {
        let ids = Ids { cluster, partition };
        Self { disk, dir, ids, segment_bytes, heads: RefCell::default() }
    }

    /// Whole entries from the one that holds the record at `from` on, without padding between them, and
    /// no more once there are `bytes_max` bytes; and where to go on. Those without records that stand
    /// right before that one come, too, from `index` on if it is given. No entry if `extent` ends before
    /// `from`.
    ///
    /// # Errors
    /// See [`ReadError`]; every entry was checked before it is returned.
    pub async fn read(
        &self,
        from: Offset,
        index: Option<u64>,
        cursor: Option<Cursor>,
        extent: Extent,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Cursor), ReadError> {
        self.look_for_segments(extent).await?;
        let (mut at, read_bytes) = match cursor.filter(|cursor| cursor.offset == from) {
            Some(cursor) => (cursor, layout::block_up(bytes_max as u64) as usize + BLOCK_BYTES),
            None => (self.segment_of(from)?, WINDOW_BYTES),
        };
        let (mut page, mut has_records) = (Vec::new(), false);
        while !has_records && at.index <= extent.index {
            let last = self.last_of(&mut at, extent.index);
            let file = self.disk.open(&segment::path(&self.dir, at.sequence)).await?;
            let mut reader = Reader {
                window: Window::new(
                    self.disk.clone(),
                    Rc::new(file),
                    self.segment_bytes,
                    read_bytes,
                ),
                ids: self.ids,
                sequence: at.sequence,
                index: at.index,
                position: at.position,
                last,
                follows: None,
            };
            while reader.index <= last {
                let (position, header) = reader.next().await?;
                let bytes = header.entry_bytes();
                if has_records && page.len() + bytes > bytes_max {
                    break;
                }
                let base_offset = header.meta.base_offset;
                let is_before = base_offset < from && header.next_offset() <= from
                    || index.is_some_and(|index| header.meta.index < index);
                if !page.is_empty() || !is_before {
                    page.extend_from_slice(reader.window.slice(position, bytes));
                    at.offset = header.next_offset();
                    has_records |= header.meta.records > 0;
                }
                (at.index, at.position) = (reader.index, reader.position);
                if has_records && page.len() + HEADER_BYTES > bytes_max {
                    break;
                }
            }
        }
        Ok((page, at))
    }

    /// The start of the segment that holds the record at `from`.
    fn segment_of(&self, from: Offset) -> Result<Cursor, ReadError> {
        let heads = self.heads.borrow();
        // Entries without records may stand at the end of the segment before.
        let behind = heads.partition_point(|head| head.before.next_offset < from).max(1);
        let Some(head) = heads.get(behind - 1).filter(|head| head.before.next_offset <= from)
        else {
            let next = heads.first().map_or(Offset(0), |head| head.before.next_offset);
            return Err(ReadError::NoOffset { offset: from, next });
        };
        let (index, sequence) = (head.before.index + 1, head.sequence);
        Ok(Cursor { offset: from, index, sequence, position: BLOCK })
    }

    /// Last entry, up to `index`, of the segment that a cursor is in. One at the end of its segment
    /// moves to the next.
    fn last_of(&self, at: &mut Cursor, index: u64) -> u64 {
        let heads = self.heads.borrow();
        let next = heads.partition_point(|head| head.sequence <= at.sequence);
        match heads.get(next) {
            Some(head) if head.before.index < at.index => {
                (at.sequence, at.position) = (head.sequence, BLOCK);
                heads.get(next + 1).map_or(index, |head| head.before.index.min(index))
            }
            Some(head) => head.before.index.min(index),
            None => index,
        }
    }

    /// Reads the headers of new segments, up to the end of `extent`.
    async fn look_for_segments(&self, extent: Extent) -> Result<(), ReadError> {
        let known = self.heads.borrow().last().map(|head| head.sequence);
        let mut sequence = match known {
            Some(last) => last + 1,
            None => match segment::list(&self.disk, &self.dir).await?.first() {
                Some(first) => *first,
                None => return Ok(()),
            },
        };
        while sequence <= extent.sequence {
            let file = self.disk.open(&segment::path(&self.dir, sequence)).await?;
            let buffer = file.read(self.disk.buffer(BLOCK_BYTES), 0).await?;
            let block = buffer.as_ref().first_chunk::<BLOCK_BYTES>();
            let header = block.and_then(|block| SegmentHeader::from_block(block).ok());
            // A segment whose first entry may still be cut may get another header.
            let Some(header) = header.filter(|header| header.before.index < extent.index) else {
                return Ok(());
            };
            if !self.ids.began(&header) || header.sequence != sequence {
                let why = "another segment stands here".to_owned();
                return Err(ReadError::segment(sequence, header.before.index + 1, why));
            }
            let mut heads = self.heads.borrow_mut();
            // Another reader may have been faster.
            if heads.last().is_none_or(|last| last.sequence < sequence) {
                heads.push(Head { sequence, before: header.before });
            }
            drop(heads);
            sequence += 1;
        }
        Ok(())
    }
}
