//! Single records by their offsets, many at once, wherever in the log they are.
//!
//! ```text
//! offsets, sorted -> in memory still: from there
//!                 -> by segment, by mark: what stands from one mark to the next is read together,
//!                    each entry or block once
//!                      entry up to 64 KiB   read whole, checked
//!                      larger               its header, and the blocks with the events that are wanted
//! ```
//! The checksum of an entry is that of all its bytes, so a part of one can't be checked. A record from a
//! part says so ([`RecordAt::is_checked`]). Whoever asks knows what the record should be: the event with
//! this id, say. If it is, the bytes were right. If it is not, a bit may have rotted, and only
//! [`Log::read_checked_at`] tells, which reads the whole entry: **nothing may be concluded from unchecked
//! bytes that are not exactly what was expected**. Otherwise one rotten bit makes a known id look unknown,
//! and its money moves twice.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use walengine_net::entry::{
    EntryHeader, EntryKind, HEADER_BYTES, RecordHead, access_events, access_records, decode_entry,
    events_at,
};
use walengine_net::model::{EVENT_BYTES, EventBytes, Offset};

use super::disk::{BLOCK_BYTES, Disk};
use super::error::ReadError;
use super::index::{MARK_EVERY_BYTES, Mark};
use super::layout;
use super::limits::{
    LOOKUP_OPAQUE_BYTES_MAX, LOOKUP_READS_MAX, LOOKUP_SEGMENTS_MAX, WHOLE_ENTRY_BYTES_MAX,
};
use super::log::Log;
use super::read::{Reader, Spot, Wanted};
use super::state::{Inner, State};
use super::window::Window;
use crate::runtime::Runtime;

/// An entry is read whole if the blocks that are wanted are so great a part of it: one in this many.
const WHOLE_FROM_PART: usize = 8;

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAt {
    /// What it is.
    pub record: Record,
    /// The checksum of its entry was checked. If not, see [the module](self).
    pub is_checked: bool,
}

/// What stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An event, as its client sent it.
    Event(EventBytes),
    /// An opaque record.
    Opaque {
        /// Id and length.
        head: RecordHead,
        /// Its bytes; `None` once a call has returned 16 MiB of them ([`Log::read_checked_at`] gives them).
        bytes: Option<Vec<u8>>,
    },
}

impl Record {
    /// The event, if it is one.
    pub fn into_event(self) -> Option<EventBytes> {
        match self {
            Self::Event(event) => Some(event),
            Self::Opaque { .. } => None,
        }
    }
}

/// Records that stand from one mark of a segment to the next.
struct Stretch {
    mark: Option<Mark>,
    next: Option<Mark>,
    /// In the sorted list.
    wanted: Range<usize>,
}

/// The records found so far, by their place in the sorted list.
type Found = Vec<(usize, RecordAt)>;

/// What one call looks for.
struct LookUp {
    /// Sorted, each once.
    offsets: Vec<Offset>,
    /// Bytes of opaque records that may still be returned.
    opaque_bytes: Cell<usize>,
}

impl<D: Disk, R: Runtime> Log<D, R> {
    /// The records at these offsets, in the order of `offsets`. Events of large entries are not checked:
    /// see [the module](self).
    ///
    /// # Errors
    /// See [`ReadError`]; one record that can't be read is an error of the call.
    pub async fn read_events_at(&self, offsets: &[Offset]) -> Result<Vec<RecordAt>, ReadError> {
        let mut sorted = offsets.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let look_up = LookUp { offsets: sorted, opaque_bytes: Cell::new(LOOKUP_OPAQUE_BYTES_MAX) };
        let mut found = loop {
            look_up.opaque_bytes.set(LOOKUP_OPAQUE_BYTES_MAX);
            let cuts = self.inner.state.borrow().cuts;
            let found = self.inner.look_up(&look_up).await;
            // The zeros of a truncation in an unchecked record would be seen by nobody.
            let is_sure =
                found.as_ref().is_ok_and(|found| found.iter().all(|(_, record)| record.is_checked));
            if self.inner.was_undisturbed(cuts, is_sure).await {
                break found?;
            }
        };
        found.sort_unstable_by_key(|(place, _)| *place);
        let records = offsets.iter().map(|offset| {
            let place = look_up.offsets.binary_search(offset);
            let Ok(place) = place else { unreachable!("every offset is in the sorted list") };
            found[place].1.clone()
        });
        Ok(records.collect())
    }

    /// The record at this offset. Its whole entry is read and checked.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_checked_at(&self, offset: Offset) -> Result<RecordAt, ReadError> {
        let bytes = self.read_holding(offset, 0).await?;
        let look_up = LookUp { offsets: vec![offset], opaque_bytes: Cell::new(usize::MAX) };
        let mut found = Found::new();
        let entry = decode_entry(&bytes).map_err(|error| error.to_string());
        let taken = entry.and_then(|(header, body)| {
            look_up.take(&header, body, 0..1, &mut found).map_err(str::to_owned)
        });
        match (taken, found.pop()) {
            (Ok(()), Some((_, record))) => Ok(record),
            (taken, _) => {
                let index = self.find_offset(offset).await?;
                let why = taken.err().unwrap_or_else(|| "the record is not in it".to_owned());
                Err(ReadError::Malformed { index, why })
            }
        }
    }
}

impl LookUp {
    /// Takes the records that are wanted, all of one checked entry, out of it.
    fn take(
        &self,
        header: &EntryHeader,
        body: &[u8],
        wanted: Range<usize>,
        found: &mut Found,
    ) -> Result<(), &'static str> {
        const MALFORMED: &str = "the body is malformed";
        let record_of = |place: usize| {
            let record = self.offsets[place].0.checked_sub(header.meta.base_offset.0);
            record.filter(|&record| record < u64::from(header.meta.records)).map(|at| at as usize)
        };
        match header.meta.kind {
            EntryKind::Events => {
                let body = access_events(body).map_err(|_| MALFORMED)?;
                for place in wanted {
                    let event = record_of(place).and_then(|record| body.events.get(record));
                    let record = Record::Event(*event.ok_or(MALFORMED)?);
                    found.push((place, RecordAt { record, is_checked: true }));
                }
            }
            EntryKind::Records => {
                let body = access_records(body).map_err(|_| MALFORMED)?;
                let (mut at, mut heads) = (0, body.heads.iter().enumerate());
                for place in wanted {
                    let wanted = record_of(place).ok_or(MALFORMED)?;
                    let (bytes, head) = loop {
                        let (record, head) = heads.next().ok_or(MALFORMED)?;
                        let from = at;
                        at += head.bytes.to_native() as usize;
                        if record == wanted {
                            break (from..at, head);
                        }
                    };
                    let bytes = body.blob.get(bytes).ok_or(MALFORMED)?;
                    let left = self.opaque_bytes.get().checked_sub(bytes.len());
                    self.opaque_bytes.set(left.unwrap_or(self.opaque_bytes.get()));
                    let head = RecordHead {
                        id: head.id.to_native(),
                        expected_offset: head.expected_offset.to_native(),
                        bytes: head.bytes.to_native(),
                    };
                    let bytes = left.map(|_| bytes.to_vec());
                    let record = Record::Opaque { head, bytes };
                    found.push((place, RecordAt { record, is_checked: true }));
                }
            }
            EntryKind::Blank | EntryKind::Membership => return Err("it holds no records"),
        }
        Ok(())
    }

    /// Of the wanted ones, those before `end`.
    fn before(&self, wanted: &Range<usize>, end: Offset) -> Range<usize> {
        let behind = self.offsets[wanted.clone()].partition_point(|&offset| offset < end);
        wanted.start..wanted.start + behind
    }
}

impl<D: Disk> State<D> {
    /// Takes the records that are still in memory; the rest are before those.
    fn take_from_memory(
        &self,
        look_up: &LookUp,
        found: &mut Found,
    ) -> Result<Range<usize>, ReadError> {
        for &offset in look_up.offsets.first().into_iter().chain(look_up.offsets.last()) {
            self.holds(offset)?;
        }
        let mut on_disk = None;
        let mut rest = 0..look_up.offsets.len();
        for (first_index, buffer, entries) in self.buffers() {
            for (index, slice) in (first_index..).zip(entries) {
                let malformed = |why: String| ReadError::Malformed { index, why };
                let bytes = &buffer[slice.at..slice.at + slice.bytes];
                let header = EntryHeader::decode(bytes);
                let header = header.map_err(|error| malformed(error.to_string()))?;
                if on_disk.is_none() {
                    let before = look_up.before(&rest, header.meta.base_offset);
                    rest.start = before.end;
                    on_disk = Some(before);
                }
                let here = look_up.before(&rest, header.next_offset());
                rest.start = here.end;
                if !here.is_empty() {
                    let taken = look_up.take(&header, &bytes[HEADER_BYTES..], here, found);
                    taken.map_err(|why| malformed(why.to_owned()))?;
                }
            }
        }
        Ok(on_disk.unwrap_or(rest))
    }

    /// Groups records that are in one segment by its marks.
    fn stretches(&self, look_up: &LookUp, sequence: u64, wanted: Range<usize>) -> Vec<Stretch> {
        let number = self.segments.binary_search_by_key(&sequence, |segment| segment.sequence);
        let marks = number.ok().and_then(|number| self.segments[number].marks.as_ref());
        let mut stretches = Vec::new();
        let mut rest = wanted;
        while !rest.is_empty() {
            let around = marks.map(|marks| marks.around(look_up.offsets[rest.start]));
            let (mark, next) = around.unwrap_or_default();
            let here = match next {
                Some(next) => look_up.before(&rest, next.offset),
                None => rest.clone(),
            };
            rest.start = here.end;
            stretches.push(Stretch { mark, next, wanted: here });
        }
        stretches
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    async fn look_up(self: &Rc<Self>, look_up: &LookUp) -> Result<Found, ReadError> {
        let mut found = Found::new();
        let mut parts = Vec::new();
        let cuts = {
            let state = self.state.borrow();
            let mut rest = state.take_from_memory(look_up, &mut found)?;
            while !rest.is_empty() {
                let offset = look_up.offsets[rest.start];
                let next = state.segments.partition_point(|one| one.before.next_offset <= offset);
                let here = match state.segments.get(next) {
                    Some(next) => look_up.before(&rest, next.before.next_offset),
                    None => rest.clone(),
                };
                rest.start = here.end;
                parts.push(here);
            }
            state.cuts
        };
        let reads_max = LOOKUP_READS_MAX / parts.len().clamp(1, LOOKUP_SEGMENTS_MAX);
        let mut parts = stream::iter(parts)
            .map(|wanted| self.look_up_in_segment(look_up, wanted, cuts, reads_max))
            .buffer_unordered(LOOKUP_SEGMENTS_MAX);
        while let Some(part) = parts.try_next().await? {
            found.extend(part);
        }
        Ok(found)
    }

    /// Records that stand in one segment.
    async fn look_up_in_segment(
        self: &Rc<Self>,
        look_up: &LookUp,
        wanted: Range<usize>,
        cuts: u64,
        reads_max: usize,
    ) -> Result<Found, ReadError> {
        if self.state.borrow().cuts != cuts {
            // Whoever has called sees the truncation, too, and begins again.
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let first = Wanted::Offset(look_up.offsets[wanted.start]);
        let read = async || self.read_stretches(look_up, wanted.clone(), reads_max).await;
        self.by_marks(first, cuts, read).await
    }

    async fn read_stretches(
        self: &Rc<Self>,
        look_up: &LookUp,
        wanted: Range<usize>,
        reads_max: usize,
    ) -> Result<Found, ReadError> {
        let spot = self.ready(Wanted::Offset(look_up.offsets[wanted.start])).await?;
        let stretches = self.state.borrow().stretches(look_up, spot.sequence, wanted);
        let mut reads = stream::iter(stretches)
            .map(|stretch| self.read_stretch(look_up, &spot, stretch))
            .buffer_unordered(reads_max);
        let mut found = Found::new();
        while let Some(part) = reads.try_next().await? {
            found.extend(part);
        }
        Ok(found)
    }

    async fn read_stretch(
        &self,
        look_up: &LookUp,
        spot: &Spot<D>,
        stretch: Stretch,
    ) -> Result<Found, ReadError> {
        let Some(file) = spot.file.clone() else { unreachable!("a spot that is ready has a file") };
        let Stretch { mark, next, wanted } = stretch;
        let from = mark.map_or(layout::BLOCK, |mark| mark.position);
        let end = next.map_or(self.config.segment_bytes, |next| next.position);
        let first = mark.map_or(spot.first, |mark| mark.index);
        let is_single = next.map_or(spot.last, |next| next.index - 1) == first;
        let is_large = end - from > WHOLE_ENTRY_BYTES_MAX as u64;
        let read_bytes = if is_single && is_large {
            BLOCK_BYTES as u64
        } else {
            layout::block_up(end.min(from + MARK_EVERY_BYTES)) - layout::block_down(from)
        };
        let from_mark = Spot { mark, file: None, ..*spot };
        let mut reader = self.reader(&from_mark, file.clone(), read_bytes as usize);
        let mut found = Found::new();
        let mut rest = wanted;
        while !rest.is_empty() && reader.index <= spot.last {
            if let Some((position, header)) = reader.peek_large().await? {
                let here = look_up.before(&rest, header.next_offset());
                let disk = self.disk.clone();
                let blocks =
                    Window::new(disk, file.clone(), self.config.segment_bytes, BLOCK_BYTES);
                let part = Part { position, header: &header, wanted: here.clone() };
                if part.read(look_up, &mut reader, blocks, &mut found).await? {
                    reader.pass(position, &header);
                    rest.start = here.end;
                    continue;
                }
            }
            let (position, header) = reader.next().await?;
            let here = look_up.before(&rest, header.next_offset());
            rest.start = here.end;
            if !here.is_empty() {
                let body = &reader.window.slice(position, header.entry_bytes())[HEADER_BYTES..];
                let taken = look_up.take(&header, body, here, &mut found);
                taken.map_err(|why| reader.corrupt(position, why.to_owned()))?;
            }
        }
        if !rest.is_empty() {
            return Err(reader.ended());
        }
        Ok(found)
    }
}

impl<D: Disk> Reader<D> {
    /// The header of the next entry, unchecked, if it is a large one of events and looks as it should.
    async fn peek_large(&mut self) -> Result<Option<(u64, EntryHeader)>, ReadError> {
        let position = layout::entry_up(self.position);
        for position in [position, layout::block_up(position)] {
            if position + HEADER_BYTES as u64 > self.window.bytes() {
                return Ok(None);
            }
            self.window.fill(position, HEADER_BYTES).await?;
            let header = EntryHeader::decode(self.window.slice(position, HEADER_BYTES));
            let Ok(header) = header else { continue };
            let end = position + header.entry_bytes() as u64;
            let is_right = self.is_next(&header)
                && header.meta.kind == EntryKind::Events
                && header.entry_bytes() > WHOLE_ENTRY_BYTES_MAX
                && end <= self.window.bytes();
            return Ok(is_right.then_some((position, header)));
        }
        Ok(None)
    }
}

/// Events of a large entry that are wanted.
struct Part<'a> {
    position: u64,
    header: &'a EntryHeader,
    wanted: Range<usize>,
}

impl Part<'_> {
    /// Reads the blocks with these events. False, with nothing read, if the whole entry should be read
    /// instead: much of it is wanted, or it is not laid out as expected.
    async fn read<D: Disk>(
        &self,
        look_up: &LookUp,
        reader: &mut Reader<D>,
        mut blocks: Window<D>,
        found: &mut Found,
    ) -> Result<bool, ReadError> {
        let header = self.header;
        let much = self.wanted.len() * BLOCK_BYTES > header.entry_bytes() / WHOLE_FROM_PART;
        let Some(events) = events_at(header).filter(|_| !much && !self.wanted.is_empty()) else {
            return Ok(false);
        };
        let body = self.position + HEADER_BYTES as u64;
        let first = header.meta.base_offset.0;
        for place in self.wanted.clone() {
            let Some(record) = look_up.offsets[place].0.checked_sub(first) else {
                return Ok(false);
            };
            let at = body + events.start as u64 + record * EVENT_BYTES as u64;
            let window =
                if reader.window.holds(at, EVENT_BYTES) { &mut reader.window } else { &mut blocks };
            window.fill(at, EVENT_BYTES).await?;
            let Some(event) = window.slice(at, EVENT_BYTES).first_chunk() else {
                unreachable!("a filled window has what was asked for");
            };
            let record = Record::Event(*event);
            found.push((place, RecordAt { record, is_checked: false }));
        }
        Ok(true)
    }
}
