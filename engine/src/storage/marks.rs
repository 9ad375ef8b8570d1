//! Where the entries of a log's segments stand: kept in memory within a bound, saved beside full segments,
//! loaded or found again when a read needs it. Lives on the partition's core.
//!
//! ```text
//! segment written to   noted as entries are staged
//!   -> it is full and durable: saved in the background, one segment after the other
//! read                 in memory? -> in the file? -> read the segment, save
//! entry at a mark is not the one that it names, and the mark is from a file
//!   -> read the segment: what stands there counts, and is saved
//! ```
//! Nothing of this changes what a read gives: without marks, and with wrong ones, it is slower.

use std::rc::Rc;

use super::config::LogConfig;
use super::disk::Disk;
use super::error::ReadError;
use super::index::Marks;
use super::marks_file::{self, Sealed, Useless};
use super::read::{Spot, Wanted};
use super::segment;
use super::state::{Inner, State};
use super::window::WINDOW_BYTES;
use crate::runtime::Runtime;

impl<D: Disk> State<D> {
    /// The last segment takes no more entries.
    pub fn seal_segment(&mut self, config: &LogConfig) {
        let Some(sealed) = self.segments.last() else { return };
        let (sequence, has_marks) = (sealed.sequence, sealed.marks.is_some());
        self.keep_open(sequence, config.open_segments_max);
        if has_marks {
            self.unsaved.push_back(sequence);
            self.keep_marked(sequence, config.marks_max);
        }
    }

    fn number(&self, sequence: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&sequence, |segment| segment.sequence).ok()
    }

    /// Takes note that the file of a sealed segment was used; closes the one longest unused.
    fn keep_open(&mut self, sequence: u64, segments_max: usize) {
        used(&mut self.opened, sequence);
        while self.opened.len() > segments_max {
            let Some(unused) = self.opened.pop_front() else { return };
            if let Some(number) = self.number(unused) {
                self.segments[number].file = None;
            }
        }
    }

    /// Takes note that the marks of a sealed segment were used; forgets those longest unused.
    fn keep_marked(&mut self, sequence: u64, marks_max: usize) {
        let is_new = used(&mut self.marked, sequence);
        let held = |state: &Self, sequence| {
            let marks =
                state.number(sequence).and_then(|number| state.segments[number].marks.as_ref());
            marks.map_or(0, |marks| marks.list().len())
        };
        if !is_new {
            return;
        }
        let mut sum: usize = self.marked.iter().map(|&sequence| held(self, sequence)).sum();
        while sum > marks_max && self.marked.len() > 1 {
            let Some(unused) = self.marked.pop_front() else { return };
            sum -= held(self, unused);
            if let Some(number) = self.number(unused) {
                self.segments[number].marks = None;
            }
        }
    }

    /// A segment that takes no more entries.
    fn sealed(&self, sequence: u64) -> Option<Sealed> {
        let number = self.number(sequence)?;
        let next = self.segments.get(number + 1)?;
        Some(Sealed { sequence, before: self.segments[number].before, last: next.before })
    }

    /// The next marks that are to be saved.
    fn next_unsaved(&mut self) -> Option<(Sealed, Marks)> {
        while let Some(&sequence) = self.unsaved.front() {
            let sealed = self.sealed(sequence);
            if sealed.is_some_and(|sealed| sealed.last.index > self.durable) {
                return None; // those behind it are not durable, either
            }
            self.unsaved.pop_front();
            let marks =
                self.number(sequence).and_then(|number| self.segments[number].marks.clone());
            if let (Some(sealed), Some(marks)) = (sealed, marks) {
                return Some((sealed, marks));
            }
        }
        None
    }
}

/// Moves a number to the end of a list; true if it was not in it.
fn used(list: &mut std::collections::VecDeque<u64>, sequence: u64) -> bool {
    if list.back() == Some(&sequence) {
        return false;
    }
    let before = list.len();
    list.retain(|&other| other != sequence);
    list.push_back(sequence);
    list.len() > before
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Where to look for what is wanted: the file of its segment, and, unless a truncation comes between,
    /// a mark in it.
    pub async fn ready(self: &Rc<Self>, wanted: Wanted) -> Result<Spot<D>, ReadError> {
        let (mut spot, sealed, cuts) = {
            let state = self.state.borrow();
            let spot = state.spot(wanted);
            let sealed = state.sealed(spot.sequence);
            (spot, sealed, state.cuts)
        };
        let file = match spot.file.clone() {
            Some(file) => file,
            None => Rc::new(self.disk.open(&segment::path(&self.dir, spot.sequence)).await?),
        };
        let mut found = None;
        if !spot.is_marked {
            found = match sealed {
                Some(sealed) if !spot.distrusts_file => self.load_marks(sealed).await,
                _ => None,
            };
            if found.is_none() {
                found = Some(self.build_marks(&spot, &file).await?);
            }
        }
        let mut state = self.state.borrow_mut();
        spot.file = Some(file.clone());
        if state.cuts != cuts {
            return Ok(spot);
        }
        let is_built = found.as_ref().is_some_and(|marks| !marks.is_hearsay);
        if let (Some(marks), Some(number)) = (found, state.number(spot.sequence)) {
            state.segments[number].marks = Some(marks);
        }
        if let Some(sealed) = state.sealed(spot.sequence) {
            if let Some(number) = state.number(sealed.sequence) {
                state.segments[number].file = Some(file);
            }
            state.keep_open(sealed.sequence, self.config.open_segments_max);
            state.keep_marked(sealed.sequence, self.config.marks_max);
            if is_built {
                state.unsaved.push_back(sealed.sequence);
            }
        }
        spot.mark = state.spot(wanted).mark;
        drop(state);
        self.save_marks();
        Ok(spot)
    }

    /// Reads by the marks of a segment. If it does not hold what they say, and no truncation has come since there
    /// were so many `cuts`, reads it again once its marks are doubted.
    pub async fn by_marks<T>(
        self: &Rc<Self>,
        wanted: Wanted,
        cuts: u64,
        read: impl AsyncFn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        match read().await {
            Err(error @ ReadError::Corrupt { .. }) if self.state.borrow().cuts == cuts => {
                if !self.doubt_marks(wanted).await? {
                    return Err(error);
                }
                read().await
            }
            found => found,
        }
    }

    /// A segment did not hold what its marks say, or is damaged. If the marks come from a file the segment
    /// is read; true if it is whole, and its marks are known now.
    async fn doubt_marks(self: &Rc<Self>, wanted: Wanted) -> Result<bool, ReadError> {
        let (spot, is_hearsay, cuts) = {
            let state = self.state.borrow();
            let spot = state.spot(wanted);
            let number = state.number(spot.sequence);
            let marks = number.and_then(|number| state.segments[number].marks.as_ref());
            (spot, marks.is_some_and(|marks| marks.is_hearsay), state.cuts)
        };
        if !is_hearsay {
            return Ok(false);
        }
        let path = segment::path(&self.dir, spot.sequence);
        let file = Rc::new(self.disk.open(&path).await?);
        let built = match self.build_marks(&spot, &file).await {
            Err(error @ ReadError::Io(_)) => return Err(error),
            built => built.ok(),
        };
        let mut state = self.state.borrow_mut();
        let Some(number) = state.number(spot.sequence).filter(|_| state.cuts == cuts) else {
            return Ok(false); // the caller sees the truncation and reads again
        };
        let segment = &mut state.segments[number];
        let Some(marks) = built else {
            // The damage in the segment is reason enough. It is not read for every record from now on.
            segment.marks.iter_mut().for_each(|marks| marks.is_hearsay = false);
            return Ok(false);
        };
        (segment.marks, segment.distrusts_file) = (Some(marks), true);
        state.unsaved.push_back(spot.sequence);
        drop(state);
        let file = marks_file::path(&self.dir, spot.sequence);
        tracing::warn!(
            "{}: its marks are not where the segment's entries stand: they are made again",
            file.display()
        );
        self.save_marks();
        Ok(true)
    }

    async fn load_marks(&self, sealed: Sealed) -> Option<Marks> {
        let LogConfig { ids, segment_bytes, .. } = self.config;
        match marks_file::read(&self.disk, &self.dir, ids, sealed, segment_bytes).await {
            Ok(marks) => Some(marks),
            Err(Useless::Absent | Useless::Stale) => None,
            Err(Useless::Damaged(why)) => {
                let path = marks_file::path(&self.dir, sealed.sequence);
                tracing::warn!("{} is made again, since it is damaged: {why}", path.display());
                None
            }
        }
    }

    /// Reads the whole segment once, to know where its entries stand.
    async fn build_marks(&self, spot: &Spot<D>, file: &Rc<D::File>) -> Result<Marks, ReadError> {
        let from_start = Spot { mark: None, file: None, ..*spot };
        let mut reader = self.reader(&from_start, file.clone(), WINDOW_BYTES);
        let mut marks = Marks::default();
        while reader.index <= spot.last {
            let (position, header) = reader.next().await?;
            marks.note(&header, position);
            self.runtime.yield_now().await;
        }
        Ok(marks)
    }

    /// Begins to save marks that are not saved, if some are, and nobody does.
    pub fn save_marks(self: &Rc<Self>) {
        if let Some(job) = self.next_marks() {
            let inner = self.clone();
            self.runtime.spawn(async move { inner.save_all_marks(job).await });
        }
    }

    fn next_marks(&self) -> Option<(Sealed, Marks)> {
        let mut state = self.state.borrow_mut();
        if state.unsaved.is_empty() || state.saving_marks {
            return None;
        }
        if state.stopped.is_some() || state.truncating || state.closing {
            return None;
        }
        let job = state.next_unsaved();
        state.saving_marks = job.is_some();
        job
    }

    async fn save_all_marks(self: Rc<Self>, mut job: (Sealed, Marks)) {
        loop {
            self.save_marks_of(job.0, &job.1).await;
            self.state.borrow_mut().saving_marks = false;
            let next = self.next_marks();
            self.changed.notify_all();
            match next {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    async fn save_marks_of(&self, sealed: Sealed, marks: &Marks) {
        let LogConfig { ids, segment_bytes, .. } = self.config;
        let saved = marks_file::read(&self.disk, &self.dir, ids, sealed, segment_bytes).await;
        if saved.is_ok_and(|saved| saved.list() == marks.list()) {
            return;
        }
        match marks_file::write(&self.disk, &self.dir, ids, sealed, marks).await {
            Ok(()) => {
                let mut state = self.state.borrow_mut();
                if let Some(number) = state.number(sealed.sequence) {
                    state.segments[number].distrusts_file = false;
                }
            }
            Err(error) => {
                let path = marks_file::path(&self.dir, sealed.sequence);
                tracing::warn!(
                    "{} can't be written, so reads of that segment are slower: {error}",
                    path.display()
                );
            }
        }
    }
}
