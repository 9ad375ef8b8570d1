//! Removing a tail that was never committed, as Raft asks for.
//!
//! ```text
//! wait until nothing is in flight, staged or being prepared
//!   -> find the last entry that stays                                (an error changes nothing)
//!   -> hard state: cut_after = it, durable index lowered to it       from here on a restart finishes
//!   -> zeros over everything behind it, durably, segment by segment
//!   -> memory: tail, durable, segments; emptied segments are prepared ones
//!   -> hard state: cut_after = none                                  done
//! ```
//! The mark comes first, since the entries that go call each other durable: without it, half of them
//! would look like damage. The durable index goes back with it, or the hard state would be a witness
//! for entries that are gone.

use std::rc::Rc;

use super::disk::Disk;
use super::error::{LogStopped, ReadError};
use super::layout::{self, BLOCK, Tail};
use super::log::Log;
use super::recover;
use super::segment::{self, Prepared};
use super::state::{Inner, State};
use crate::runtime::Runtime;

/// Why a truncation did not happen, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// The log has stopped. The truncation may have begun; the next open brings it to its end.
    #[error(transparent)]
    Stopped(#[from] LogStopped),
    /// Entries that are committed would have gone. Nothing was changed.
    #[error("entries behind {index} were to be removed, and those up to {committed} are committed")]
    Committed {
        /// The last entry that was to stay.
        index: u64,
        /// The last entry that is committed.
        committed: u64,
    },
    /// The last entry to keep could not be read. Nothing was changed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The last entry that stays.
struct Kept {
    tail: Tail,
    /// Number of its segment.
    number: usize,
    /// Where it ends there; 0 if not even the segment's header stays.
    end: u64,
}

impl<D: Disk, R: Runtime> Log<D, R> {
    /// Removes every entry behind `index`, durably: what is cut never comes back. Waits for flushes in
    /// flight first. The caller appends nothing meanwhile.
    ///
    /// # Errors
    /// See [`TruncateError`]; what is committed stays.
    ///
    /// # Panics
    /// If `index` is before the first entry: purged entries can't be the end of a log.
    pub async fn truncate_after(&self, index: u64) -> Result<(), TruncateError> {
        let inner = &self.inner;
        if index >= self.last().index {
            return Ok(());
        }
        assert!(index + 1 >= self.first_index(), "truncated before the first entry");
        let committed = self.committed_index();
        if index < committed {
            return Err(TruncateError::Committed { index, committed });
        }
        inner.truncate(index, None).await
    }

    /// Removes every entry, durably, and goes on behind `before`, which a snapshot holds: without
    /// that snapshot the log can't be opened again.
    pub async fn begin_after(&self, before: Tail) -> Result<(), TruncateError> {
        self.inner.truncate(self.first_index() - 1, Some(before)).await
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    async fn truncate(
        self: &Rc<Self>,
        index: u64,
        begins_after: Option<Tail>,
    ) -> Result<(), TruncateError> {
        self.state.borrow_mut().truncating = true;
        let result = self.cut(index, begins_after).await;
        self.state.borrow_mut().truncating = false;
        self.changed.notify_all();
        self.prepare();
        self.save_marks();
        result
    }

    async fn cut(
        self: &Rc<Self>,
        index: u64,
        begins_after: Option<Tail>,
    ) -> Result<(), TruncateError> {
        self.drain().await?;
        self.rest().await;
        self.running()?;
        let kept = match begins_after {
            Some(tail) => Kept { tail, number: 0, end: 0 },
            None => self.kept(index).await?,
        };
        // From here on a restart takes the truncation to its end.
        self.save_slot(|slot| slot.cut_after = Some(index)).await?;
        let files = match self.zero_behind(&kept).await {
            Ok(files) => files,
            Err(error) => return Err(self.stop("removing the end of the log", error).into()),
        };
        self.forget_behind(&kept, files);
        self.save_slot(|slot| slot.cut_after = None).await?;
        Ok(())
    }

    async fn kept(&self, index: u64) -> Result<Kept, ReadError> {
        let (number, before) = {
            let state = self.state.borrow();
            let behind = state.segments.partition_point(|segment| segment.before.index <= index);
            assert!(behind > 0, "truncated before the first segment");
            (behind - 1, state.segments[behind - 1].before)
        };
        if before.index == index {
            // Every entry of the segment goes; its header stays.
            return Ok(Kept { tail: before, number, end: BLOCK });
        }
        let (tail, end) = self.tail_at(index, before).await?;
        Ok(Kept { tail, number, end })
    }

    /// Gives the files of the segments from the kept entry's on.
    async fn zero_behind(&self, kept: &Kept) -> std::io::Result<Vec<Rc<D::File>>> {
        let (sequences, write_position) = {
            let state = self.state.borrow();
            let sequences = state.segments[kept.number..].iter().map(|segment| segment.sequence);
            (sequences.collect::<Vec<_>>(), state.write_position)
        };
        let mut files = Vec::new();
        for (number, &sequence) in sequences.iter().enumerate() {
            let from = if number == 0 { kept.end } else { 0 };
            let last = number + 1 == sequences.len();
            let to = if last { write_position } else { self.config.segment_bytes };
            let file = self.disk.open(&segment::path(&self.dir, sequence)).await?;
            recover::zero(&self.disk, &file, from, to, &self.zeros).await?;
            files.push(Rc::new(file));
        }
        Ok(files)
    }

    fn forget_behind(&self, kept: &Kept, files: Vec<Rc<D::File>>) {
        self.tap.cut_after(kept.tail.index);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        assert!(state.flushes.is_empty() && state.staged.is_none(), "cut what is being written");
        assert!(state.in_flight == 0 && !state.preparing, "cut beside other writes");
        state.cuts += 1;
        state.tail = kept.tail;
        state.durable = kept.tail.index;
        state.write_position = layout::block_up(kept.end);
        state.zeroed = state.write_position;
        let stays = usize::from(kept.end > 0);
        let emptied = state.segments.split_off((kept.number + stays).min(state.segments.len()));
        let with_files = emptied.iter().zip(files.iter().skip(stays)).rev();
        for (segment, file) in with_files {
            let (sequence, file) = (segment.sequence, file.clone());
            state.prepared.push_front(Prepared { sequence, file, zeroed: 0 });
        }
        let State { segments, opened, marked, unsaved, .. } = state;
        // What a file says of the marks of a segment that was cut is of another end, and counts no more.
        let last = segments.last().map_or(0, |last| last.sequence);
        for sealed in [opened, marked, unsaved] {
            sealed.retain(|&sequence| sequence < last);
        }
        if let Some(last) = segments.last_mut() {
            last.file = files.into_iter().next();
            last.marks.iter_mut().for_each(|marks| marks.cut_after(kept.tail.index));
        }
    }
}
