//! Reads entries back: those on their way to disk from memory, the others from the segments, checked.

use std::rc::Rc;

use walengine_net::entry::{EntryError, EntryHeader, HEADER_BYTES};
use walengine_net::model::Offset;

use super::buffers::Slice;
use super::disk::Disk;
use super::error::{Place, ReadError};
use super::ids::Ids;
use super::index::{MARK_EVERY_BYTES, Mark};
use super::layout::{self, BLOCK, Tail};
use super::limits::READ_BYTES_MAX;
use super::log::Log;
use super::segment;
use super::state::{Inner, State};
use super::window::{WINDOW_BYTES, Window};
use crate::runtime::Runtime;

/// What a reader looks for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Index(u64),
    /// The entry that holds a record; its index is enough.
    Offset(Offset),
    /// The entry that holds a record, and those behind it.
    Holding(Offset),
}

/// Where to look for an entry that is not in memory.
pub(super) struct Spot<D: Disk> {
    pub sequence: u64,
    pub file: Option<Rc<D::File>>,
    pub mark: Option<Mark>,
    pub is_marked: bool,
    /// The file of the segment's marks is not to be believed.
    pub distrusts_file: bool,
    /// First index of the segment.
    pub first: u64,
    /// Last index that is on disk in this segment.
    pub last: u64,
}

/// What has been read from one segment.
struct Found {
    bytes: Vec<u8>,
    /// First entry that was wanted.
    index: u64,
}

impl<D: Disk, R: Runtime> Log<D, R> {
    /// Whole entries from `from_index` on, without padding between them: at least one, and no more once
    /// there are `bytes_max` bytes. The log may hold more.
    ///
    /// # Errors
    /// See [`ReadError`]; every entry was checked before it is returned.
    pub async fn read(&self, from_index: u64, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        loop {
            let cuts = {
                let state = self.inner.state.borrow();
                let (first, last) = (state.first_index(), state.tail.index);
                if from_index < first || from_index > last {
                    return Err(ReadError::NoEntry { index: from_index, first, last });
                }
                if let Some(bytes) = state.copy(from_index, bytes_max) {
                    return Ok(bytes);
                }
                state.cuts
            };
            let found = self.inner.find(Wanted::Index(from_index), bytes_max).await;
            if self.inner.was_undisturbed(cuts, found.is_ok()).await {
                return found.map(|found| found.bytes);
            }
        }
    }

    /// As [`Self::read`], from the entry on that holds the record at `offset`: one look instead of two.
    ///
    /// # Errors
    /// See [`ReadError`]; every entry was checked before it is returned.
    pub async fn read_holding(
        &self,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ReadError> {
        loop {
            let cuts = {
                let state = self.inner.state.borrow();
                state.holds(offset)?;
                if let Some(bytes) =
                    state.index_of(offset).and_then(|index| state.copy(index, bytes_max))
                {
                    return Ok(bytes);
                }
                state.cuts
            };
            let found = self.inner.find(Wanted::Holding(offset), bytes_max).await;
            if self.inner.was_undisturbed(cuts, found.is_ok()).await {
                return found.map(|found| found.bytes);
            }
        }
    }

    /// Index of the entry that holds the record at `offset`.
    pub async fn find_offset(&self, offset: Offset) -> Result<u64, ReadError> {
        loop {
            let cuts = {
                let state = self.inner.state.borrow();
                state.holds(offset)?;
                if let Some(index) = state.index_of(offset) {
                    return Ok(index);
                }
                state.cuts
            };
            let found = self.inner.find(Wanted::Offset(offset), 0).await;
            if self.inner.was_undisturbed(cuts, found.is_ok()).await {
                return found.map(|found| found.index);
            }
        }
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// No truncation has disturbed a read that began after so many `cuts`. A read that failed while
    /// one is under way may have met its zeros: this waits for its end, and the caller reads again.
    pub async fn was_undisturbed(&self, cuts: u64, succeeded: bool) -> bool {
        let changed = {
            let state = self.state.borrow();
            if state.cuts != cuts {
                return false;
            }
            if succeeded || !state.truncating {
                return true;
            }
            self.changed.changed()
        };
        changed.await;
        false
    }
}

impl<D: Disk> State<D> {
    /// The log has a record at `offset`.
    pub fn holds(&self, offset: Offset) -> Result<(), ReadError> {
        let next = self.tail.next_offset;
        let begins = self.segments.first().map_or(next, |first| first.before.next_offset);
        if offset < begins || offset >= next {
            return Err(ReadError::NoOffset { offset, next });
        }
        Ok(())
    }

    /// Buffers with entries that are not known to be on disk, in order.
    pub fn buffers(&self) -> impl Iterator<Item = (u64, &[u8], &[Slice])> {
        let flushes = self
            .flushes
            .iter()
            .map(|flush| (flush.first_index, (*flush.buffer).as_ref(), flush.entries.as_slice()));
        let staged = self
            .staged
            .iter()
            .map(|staged| (staged.first_index, staged.buffer.as_ref(), staged.entries.as_slice()));
        flushes.chain(staged)
    }

    /// Entries from `from_index` on, if that one is in memory.
    fn copy(&self, from_index: u64, bytes_max: usize) -> Option<Vec<u8>> {
        if from_index < self.first_unwritten() {
            return None;
        }
        let mut bytes = Vec::new();
        for (first_index, buffer, entries) in self.buffers() {
            let skip = from_index.saturating_sub(first_index) as usize;
            for slice in entries.iter().skip(skip) {
                if !bytes.is_empty() && bytes.len() + slice.bytes > bytes_max {
                    return Some(bytes);
                }
                bytes.extend_from_slice(&buffer[slice.at..slice.at + slice.bytes]);
            }
        }
        Some(bytes)
    }

    /// Index of the entry that holds `offset`, if it is in memory.
    fn index_of(&self, offset: Offset) -> Option<u64> {
        for (first_index, buffer, entries) in self.buffers() {
            for (index, slice) in (first_index..).zip(entries) {
                let header = EntryHeader::decode(&buffer[slice.at..]).ok()?;
                if header.meta.base_offset <= offset && offset < header.next_offset() {
                    return Some(index);
                }
            }
        }
        None
    }

    pub fn spot(&self, wanted: Wanted) -> Spot<D> {
        let behind = self.segments.partition_point(|segment| match wanted {
            Wanted::Index(index) => segment.before.index < index,
            Wanted::Offset(offset) | Wanted::Holding(offset) => {
                segment.before.next_offset <= offset
            }
        });
        assert!(behind > 0, "looked for what no segment holds");
        let segment = &self.segments[behind - 1];
        let last = self.segments.get(behind).map_or(self.tail.index, |next| next.before.index);
        let mark = segment.marks.as_ref().and_then(|marks| match wanted {
            Wanted::Index(index) => marks.at_index(index),
            Wanted::Offset(offset) | Wanted::Holding(offset) => marks.at_offset(offset),
        });
        Spot {
            sequence: segment.sequence,
            file: segment.file.clone(),
            mark,
            is_marked: segment.marks.is_some(),
            distrusts_file: segment.distrusts_file,
            first: segment.before.index + 1,
            last: last.min(self.durable),
        }
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    async fn find(self: &Rc<Self>, wanted: Wanted, bytes_max: usize) -> Result<Found, ReadError> {
        let cuts = self.state.borrow().cuts;
        self.by_marks(wanted, cuts, async || self.find_by_marks(wanted, bytes_max).await).await
    }

    async fn find_by_marks(
        self: &Rc<Self>,
        wanted: Wanted,
        bytes_max: usize,
    ) -> Result<Found, ReadError> {
        let mut spot = self.ready(wanted).await?;
        let Some(file) = spot.file.take() else { unreachable!("a spot that is ready has a file") };
        let ahead = bytes_max.saturating_add(MARK_EVERY_BYTES as usize).min(READ_BYTES_MAX);
        let ahead = layout::block_up(ahead as u64) as usize;
        let mut reader = self.reader(&spot, file, ahead);
        reader.collect(wanted, bytes_max).await
    }

    /// The tail that the log would have if it ended with the entry at `index`, and where that entry
    /// ends. `before` is what its segment's first entry follows.
    pub async fn tail_at(&self, index: u64, before: Tail) -> Result<(Tail, u64), ReadError> {
        let mut spot = self.state.borrow().spot(Wanted::Index(index));
        spot.mark = None; // the last time of the entries before is known at the segment's start only
        let file = self.disk.open(&segment::path(&self.dir, spot.sequence)).await?;
        let mut reader = self.reader(&spot, Rc::new(file), WINDOW_BYTES);
        let mut tail = before;
        while tail.index < index {
            let (position, header) = reader.next().await?;
            tail = tail.with(&header).map_err(|why| reader.corrupt(position, why.to_owned()))?;
        }
        Ok((tail, reader.position))
    }

    /// Begins at the mark.
    pub fn reader(&self, spot: &Spot<D>, file: Rc<D::File>, read_bytes: usize) -> Reader<D> {
        let bytes = self.config.segment_bytes;
        Reader {
            window: Window::new(self.disk.clone(), file, bytes, read_bytes),
            ids: self.config.ids,
            sequence: spot.sequence,
            index: spot.mark.map_or(spot.first, |mark| mark.index),
            position: spot.mark.map_or(BLOCK, |mark| mark.position),
            last: spot.last,
            follows: spot.mark.map(|mark| Follows { offset: mark.offset, term: 0 }),
        }
    }
}

/// Reads the entries of one segment in order.
pub(super) struct Reader<D: Disk> {
    pub window: Window<D>,
    pub ids: Ids,
    pub sequence: u64,
    /// The entry that comes next, and where it is looked for.
    pub index: u64,
    pub position: u64,
    pub last: u64,
    /// What that entry must say of itself.
    pub follows: Option<Follows>,
}

/// What is known of an entry before it is read.
#[derive(Clone, Copy)]
pub(super) struct Follows {
    /// Of its first record.
    pub offset: Offset,
    /// It is not older.
    pub term: u64,
}

impl<D: Disk> Reader<D> {
    /// The next entry, checked: checksum, index, offset, cluster and partition.
    pub async fn next(&mut self) -> Result<(u64, EntryHeader), ReadError> {
        let mut position = layout::entry_up(self.position);
        let mut entry = self.window.entry(position).await?;
        let block = layout::block_up(position);
        if matches!(entry, Err(EntryError::Blank | EntryError::Magic(_) | EntryError::Short { .. }))
            && block != position
        {
            position = block;
            entry = self.window.entry(position).await?;
        }
        let header = match entry {
            Ok(header) => header,
            Err(error) => return Err(self.corrupt(position, error.to_string())),
        };
        if !self.is_next(&header) {
            return Err(self.corrupt(position, "another entry stands here".to_owned()));
        }
        self.pass(position, &header);
        Ok((position, header))
    }

    /// The header is that of the entry that comes next.
    pub fn is_next(&self, header: &EntryHeader) -> bool {
        let meta = &header.meta;
        let follows = self
            .follows
            .is_none_or(|known| known.offset == meta.base_offset && known.term <= meta.term);
        meta.index == self.index && follows && self.ids.wrote(header)
    }

    /// Goes on behind the entry.
    pub fn pass(&mut self, position: u64, header: &EntryHeader) {
        self.follows = Some(Follows { offset: header.next_offset(), term: header.meta.term });
        self.position = position + header.entry_bytes() as u64;
        self.index += 1;
    }

    async fn collect(&mut self, wanted: Wanted, bytes_max: usize) -> Result<Found, ReadError> {
        let mut found = Found { bytes: Vec::new(), index: 0 };
        while self.index <= self.last {
            let (position, header) = self.next().await?;
            let bytes = header.entry_bytes();
            match wanted {
                Wanted::Index(index) if header.meta.index < index => continue,
                Wanted::Offset(offset) | Wanted::Holding(offset)
                    if header.next_offset() <= offset =>
                {
                    continue;
                }
                Wanted::Offset(_) => {
                    found.index = header.meta.index;
                    return Ok(found);
                }
                Wanted::Index(_) | Wanted::Holding(_) => {}
            }
            if !found.bytes.is_empty() && found.bytes.len() + bytes > bytes_max {
                return Ok(found);
            }
            found.bytes.extend_from_slice(self.window.slice(position, bytes));
            if found.bytes.len() + HEADER_BYTES > bytes_max {
                return Ok(found);
            }
        }
        if found.bytes.is_empty() {
            return Err(self.ended());
        }
        Ok(found)
    }

    /// The segment ends before the entry that is looked for.
    pub fn ended(&self) -> ReadError {
        let why = "the segment ends before the entry that it should hold".to_owned();
        self.corrupt(self.position, why)
    }

    pub fn corrupt(&self, position: u64, why: String) -> ReadError {
        let segment = segment::name(self.sequence);
        ReadError::Corrupt { place: Place { segment, position, index: self.index }, why }
    }
}
