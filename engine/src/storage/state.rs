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
use crate::runtime::Runtime;

pub(super) struct Inner<D: Disk, R: Runtime> {
    pub disk: D,
    pub runtime: R,
    pub dir: PathBuf,
    pub config: LogConfig,
    pub hard_state: HardStateFile<D>,
    /// Zeros, `zero_chunk_bytes` of them.
    pub zeros: Rc<D::Buffer>,
    pub changed: Notify,
    pub tap: Tap,
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

/// Invariants: `durable <= tail.index`; `flushes` and then `staged` hold exactly the entries behind
/// `durable`, in order; `staged` begins at `write_position` of the last segment, and nothing was
/// handed to a flush behind it.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct State<D: Disk> {
    pub tail: Tail,
    pub durable: u64,
    pub segments: Vec<Segment<D>>,
    pub write_position: u64,
    pub staged: Option<Staged<D>>,
    pub flushes: VecDeque<Flush<D>>,
    pub flush_wanted: bool,
    pub in_flight: usize,
    pub counts: FlushCounts,
    pub queued_bytes: usize,
    pub pool: BufferPool<D>,
    pub prepared: VecDeque<Prepared<D>>,
    pub preparing: bool,
    pub no_room: bool,
    /// Zeros are written up to here in the last segment.
    pub zeroed: u64,
    /// Where zeros are being written: segment, from, to.
    pub zeroing: Option<(u64, u64, u64)>,
    /// Sliding average of a flush's size in bytes.
    pub flush_bytes_recent: usize,
    pub truncating: bool,
    /// Nothing is prepared any more.
    pub closing: bool,
    /// Counts truncations, so that a read notices one.
    pub cuts: u64,
    /// Sealed segments that are open and indexed, last used last.
    pub indexed: VecDeque<u64>,
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

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Saves the hard state with the durable index of now.
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
            slot.state.durable_index = match slot.cut_after {
                Some(index) => self.state.borrow().durable.min(index),
                None => self.state.borrow().durable,
            };
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

    /// Waits until the preparer rests.
    pub async fn rest(&self) {
        loop {
            let changed = {
                let state = self.state.borrow();
                if !state.preparing {
                    return;
                }
                self.changed.changed()
            };
            changed.await;
        }
    }
}
