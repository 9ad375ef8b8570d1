//! What a log knows: the part of [`super::log::Log`] that staging, flushing, preparing, reading and
//! truncating share. Lives on the partition's core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::buffers::{BufferPool, Flush, Staged};
use super::config::LogConfig;
use super::disk::Disk;
use super::error::{LogStopped, StopReason};
use super::hard_state::HardStateFile;
use super::layout::{self, HardState, HardStateSlot, Tail};
use super::segment::{Prepared, Segment};
use super::tap::Tap;
use crate::local::Notify;
use crate::metrics::latency::Latency;
use crate::runtime::Runtime;

/// What all handles of a log share.
pub(super) struct Inner<D: Disk, R: Runtime> {
    pub disk: D,
    pub runtime: R,
    pub dir: PathBuf,
    pub config: LogConfig,
    pub hard_state: HardStateFile<D>,
    /// `zero_chunk_bytes` zeros.
    pub zeros: Rc<D::Buffer>,
    pub changed: Notify,
    pub tap: Tap,
    /// Never borrowed across an await.
    pub state: RefCell<State<D>>,
}

/// What a log has flushed since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushCounts {
    /// Flushes begun.
    pub flushes: u64,
    /// Bytes in them, padding included.
    pub bytes: u64,
    /// Most that were in flight at once.
    pub inflight_max: usize,
}

/// Where every entry of the log is.
///
/// ```text
/// entries      1 ......... durable | durable + 1 .............. | ......... tail.index
/// they are in  segments            | flushes, oldest first      | staged
/// on disk      yes                 | in any order, with gaps    | no
///
/// last segment 0 ................................ write_position ......... segment_bytes
///              handed to flushes                | staged goes here; zeros up to `zeroed`
/// ```
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct State<D: Disk> {
    /// The end of the log, staged entries included. Invariant: `tail.index >= durable`.
    pub tail: Tail,
    /// Newest entry that is durable with all before it. Moves forward, except in a truncation.
    pub durable: u64,
    /// Segments with entries. Invariant: their numbers have no gaps, and each begins behind the
    /// entries of the one before. All but the last are full and are never written again.
    pub segments: Vec<Segment<D>>,
    /// Newest index that is known to be committed. Invariant: nothing at or below it is cut, and it
    /// never moves back. It may be past `durable`, when other nodes have the entry.
    pub committed: u64,
    /// Where the next flush goes in the last segment. Invariant: whole blocks, at most
    /// `segment_bytes`; nothing was handed to a flush at or behind it.
    pub write_position: u64,
    /// Entries that gather for the next flush. Invariant: they go to `write_position`.
    pub staged: Option<Staged<D>>,
    /// Invariant: with `staged`, exactly the entries behind `durable`, in order.
    pub flushes: VecDeque<Flush<D>>,
    /// What is staged is to be written as soon as a flush may begin.
    pub flush_wanted: bool,
    /// Writes that have begun and not ended. Invariant: at most `flush_inflight_max`.
    pub in_flight: usize,
    pub counts: FlushCounts,
    /// From when a write began until it was on the disk.
    pub flush_took: Latency,
    /// Bytes in `flushes`.
    pub queued_bytes: usize,
    pub pool: BufferPool<D>,
    /// Empty segments for later. Invariant: their numbers follow that of the last segment.
    pub prepared: VecDeque<Prepared<D>>,
    /// The preparer works.
    pub preparing: bool,
    /// The next segment could not be prepared for want of something that passes: room, descriptors,
    /// memory.
    pub no_room: bool,
    /// That was told, and no segment has been prepared since.
    pub told_no_room: bool,
    /// Zeros are written up to here in the last segment.
    pub zeroed: u64,
    /// Where zeros are being written: segment, from, to. Invariant: a write to these blocks waits
    /// until the zeros are durable.
    pub zeroing: Option<(u64, u64, u64)>,
    /// Sliding average of a flush's size in bytes.
    pub flush_bytes_recent: usize,
    /// A truncation is under way: nothing is appended or prepared.
    pub truncating: bool,
    /// Nothing is prepared any more.
    pub closing: bool,
    /// Counts truncations. A read that sees it change begins again.
    pub cuts: u64,
    /// Full segments that are open, least recently used first.
    pub opened: VecDeque<u64>,
    /// Full segments whose marks are in memory, least recently used first.
    pub marked: VecDeque<u64>,
    /// Full segments whose marks are to be saved, if they are not yet: those that an opening has read wait
    /// for the first flush or read.
    pub unsaved: VecDeque<u64>,
    /// Marks are being saved.
    pub saving_marks: bool,
    /// Why nothing is written any more. Set once.
    pub stopped: Option<StopReason>,
}

/// Where the next entry goes.
pub(super) enum Place {
    Staged,
    NewFlush,
    NewSegment,
}

impl<D: Disk> State<D> {
    /// Where an entry of this length goes.
    pub fn place(&self, config: &LogConfig, entry_bytes: usize) -> Place {
        if self.segments.is_empty() {
            return Place::NewSegment;
        }
        if let Some(staged) = &self.staged {
            let end = config.entry_start(staged.used as u64) + entry_bytes as u64;
            let fits = staged.position + layout::block_up(end) <= config.segment_bytes;
            if fits && end <= config.flush_bytes_max as u64 {
                return Place::Staged;
            }
        }
        let staged = self.staged.as_ref().map_or(0, |staged| layout::block_up(staged.used as u64));
        let end = self.write_position + staged + layout::block_up(entry_bytes as u64);
        if end <= config.segment_bytes { Place::NewFlush } else { Place::NewSegment }
    }

    /// Puts an empty segment behind those that are ready.
    pub fn add_prepared(&mut self, prepared: Prepared<D>) {
        let last = self.last_sequence();
        assert!(prepared.sequence == last + 1, "segment {} behind {last}", prepared.sequence);
        self.prepared.push_back(prepared);
    }

    /// Number of the last segment, used or prepared; 0 if there is none.
    pub fn last_sequence(&self) -> u64 {
        let prepared = self.prepared.back().map(|prepared| prepared.sequence);
        let last = prepared.or_else(|| self.segments.last().map(|segment| segment.sequence));
        last.unwrap_or(0)
    }

    /// First index that can be read.
    pub fn first_index(&self) -> u64 {
        self.segments.first().map_or(self.tail.index, |segment| segment.before.index) + 1
    }

    /// First index that is only in memory, or on its way to disk.
    pub fn first_unwritten(&self) -> u64 {
        self.durable + 1
    }

    /// Bytes that wait to be written, or are being written.
    pub fn backlog_bytes(&self) -> usize {
        self.queued_bytes + self.staged.as_ref().map_or(0, |staged| staged.used)
    }
}

impl<D: Disk> State<D> {
    /// Memory of all buffers for writes, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        let flushes = self.flushes.iter().map(|flush| flush.buffer.as_ref().as_ref().len());
        let staged = self.staged.as_ref().map_or(0, |staged| staged.buffer.as_ref().len());
        flushes.sum::<usize>() + staged + self.pool.bytes()
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Saves the hard state with the durable index and the commit index of now.
    pub async fn save(&self, change: impl FnOnce(&mut HardState)) -> Result<(), LogStopped> {
        self.save_slot(|slot| change(&mut slot.state)).await
    }

    /// As [`Self::save`], with the mark of a truncation.
    pub async fn save_slot(
        &self,
        change: impl FnOnce(&mut HardStateSlot),
    ) -> Result<(), LogStopped> {
        self.running()?;
        let saved = self.hard_state.save(|slot| {
            change(slot);
            let state = self.state.borrow();
            assert!(state.durable <= state.tail.index, "durable past the tail");
            // What a truncation removes must not be called durable by the hard state.
            slot.state.durable_index = match slot.cut_after {
                Some(index) => state.durable.min(index),
                None => state.durable,
            };
            let committed = state.committed.min(slot.state.durable_index);
            slot.state.commit_index = slot.state.commit_index.max(committed);
        });
        if let Err(error) = saved.await {
            return Err(self.stop("saving the hard state", error));
        }
        Ok(())
    }

    /// The log has not stopped.
    pub fn running(&self) -> Result<(), LogStopped> {
        match &self.state.borrow().stopped {
            Some(reason) => Err(LogStopped(reason.clone())),
            None => Ok(()),
        }
    }

    /// Stops the log; the first reason stands.
    pub fn stop(&self, what: &'static str, error: io::Error) -> LogStopped {
        let reason = StopReason { what, error: Rc::new(error) };
        let reason = self.state.borrow_mut().stopped.get_or_insert(reason).clone();
        self.changed.notify_all();
        LogStopped(reason)
    }

    /// Waits until nothing is prepared and no marks are saved.
    pub async fn rest(&self) {
        loop {
            let changed = {
                let state = self.state.borrow();
                if !state.preparing && !state.saving_marks {
                    return;
                }
                self.changed.changed()
            };
            changed.await;
        }
    }
}
