//! Staging and writing: from an entry to durable blocks. The body is copied once, and a flush is one
//! write. The order of things is drawn in [`super::log`].

use std::io;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{EntryHeader, HEADER_BYTES};

use super::buffers::{Flush, Progress, Slice, Staged};
use super::config::LogConfig;
use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::layout::{self, Block, Tail};
use super::state::{Inner, State};
use crate::runtime::Runtime;

/// Weight of the newest flush in the average size: one part in this many.
const RECENT_FLUSHES: usize = 8;

impl<D: Disk> State<D> {
    /// Begins a flush with the header block of a new segment.
    pub fn stage_segment_header(&mut self, disk: &D, block: &Block) {
        assert!(self.staged.is_none() && self.write_position == 0, "a segment begins with a flush");
        let mut buffer = self.pool.take(disk, 2 * BLOCK_BYTES);
        buffer.as_mut()[..BLOCK_BYTES].copy_from_slice(block);
        self.staged = Some(Staged {
            buffer,
            used: BLOCK_BYTES,
            position: 0,
            first_index: self.tail.index + 1,
            entries: Vec::new(),
        });
    }

    /// Copies an entry behind the last staged one. The caller has made sure that it fits.
    pub fn stage(&mut self, disk: &D, config: &LogConfig, header: &EntryHeader, body: &[u8]) {
        let bytes = HEADER_BYTES + body.len();
        let mut staged = self.staged.take().unwrap_or_else(|| Staged {
            buffer: self.pool.take(disk, layout::block_up(bytes as u64) as usize),
            used: 0,
            position: self.write_position,
            first_index: header.meta.index,
            entries: Vec::new(),
        });
        let at = config.entry_start(staged.used as u64) as usize;
        let end = at + bytes;
        if end > staged.buffer.as_ref().len() {
            let mut larger = self.pool.take(disk, layout::block_up(end as u64) as usize);
            let used = &staged.buffer.as_ref()[..staged.used];
            larger.as_mut()[..staged.used].copy_from_slice(used);
            self.pool.give(std::mem::replace(&mut staged.buffer, larger));
        }
        let buffer = staged.buffer.as_mut();
        buffer[staged.used..at].fill(0);
        buffer[at..at + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        buffer[at + HEADER_BYTES..end].copy_from_slice(body);
        staged.used = end;
        staged.entries.push(Slice { at, bytes });
        if let Some(marks) = self.segments.last_mut().and_then(|segment| segment.marks.as_mut()) {
            marks.note(header, staged.position + at as u64);
        }
        self.staged = Some(staged);
    }

    /// Hands what is staged to a flush, padded to whole blocks.
    pub fn seal(&mut self, disk: &D) {
        let Some(mut staged) = self.staged.take() else { return };
        let Some(segment) = self.segments.last() else { unreachable!("staged without a segment") };
        let Some(file) = segment.file.clone() else { unreachable!("the last segment is open") };
        let bytes = layout::block_up(staged.used as u64) as usize;
        staged.buffer.as_mut()[staged.used..bytes].fill(0);
        assert!(staged.position == self.write_position, "a flush begins where the last one ended");
        self.write_position += bytes as u64;
        self.queued_bytes += bytes;
        self.flush_bytes_recent =
            (self.flush_bytes_recent * (RECENT_FLUSHES - 1) + bytes) / RECENT_FLUSHES;
        self.flush_wanted = false;
        self.flushes.push_back(Flush {
            buffer: Rc::new(disk.trim(staged.buffer, bytes)),
            first_index: staged.first_index,
            entries: staged.entries,
            progress: Progress::Waiting,
            file,
            sequence: segment.sequence,
            position: staged.position,
            began: Duration::ZERO,
        });
    }

    /// A flush is on disk. Moves the durable index over all flushes that are on disk and have no gap
    /// before them.
    fn written(&mut self, first_index: u64, now: Duration) {
        let done = self.flushes.iter_mut().find(|flush| flush.first_index == first_index);
        let Some(done) = done else { unreachable!("a flush is kept until it is durable") };
        done.progress = Progress::Done;
        self.flush_took.record(now.saturating_sub(done.began));
        while self.flushes.front().is_some_and(|flush| flush.progress == Progress::Done) {
            let Some(flush) = self.flushes.pop_front() else { break };
            let durable = flush.first_index + flush.entries.len() as u64 - 1;
            assert!(durable > self.durable, "durable moved back: {durable} < {}", self.durable);
            assert!(durable <= self.tail.index, "durable past the tail");
            self.durable = durable;
            self.queued_bytes -= (*flush.buffer).as_ref().len();
            if let Ok(buffer) = Rc::try_unwrap(flush.buffer) {
                self.pool.give(buffer);
            }
        }
    }

    fn zeroing_meets(&self, sequence: u64, from: u64, to: u64) -> bool {
        self.zeroing
            .is_some_and(|(other, start, end)| other == sequence && start < to && from < end)
    }
}

/// One write, as it was when it began.
struct Write<D: Disk> {
    file: Rc<D::File>,
    buffer: Rc<D::Buffer>,
    first_index: u64,
    sequence: u64,
    position: u64,
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Begins every flush that may begin now.
    pub fn pump(self: &Rc<Self>) {
        while let Some(write) = self.next_write() {
            let inner = self.clone();
            self.runtime.spawn(async move {
                let first_index = write.first_index;
                let result = inner.write(write).await;
                inner.ended(first_index, result);
            });
        }
        self.prepare();
    }

    fn next_write(&self) -> Option<Write<D>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.stopped.is_some() || state.in_flight >= self.config.flush_inflight_max {
            return None;
        }
        if state.flushes.back().is_none_or(|flush| flush.progress != Progress::Waiting)
            && state.flush_wanted
        {
            state.seal(&self.disk);
        }
        let flush = state.flushes.iter_mut().find(|one| one.progress == Progress::Waiting)?;
        flush.progress = Progress::Writing;
        flush.began = self.runtime.elapsed();
        state.in_flight += 1;
        state.counts.flushes += 1;
        state.counts.bytes += (*flush.buffer).as_ref().len() as u64;
        state.counts.inflight_max = state.counts.inflight_max.max(state.in_flight);
        Some(Write {
            file: flush.file.clone(),
            buffer: flush.buffer.clone(),
            first_index: flush.first_index,
            sequence: flush.sequence,
            position: flush.position,
        })
    }

    /// Writes, but not while zeros are on their way to the same blocks: see [`super::prepare`].
    async fn write(&self, write: Write<D>) -> io::Result<()> {
        let end = write.position + (*write.buffer).as_ref().len() as u64;
        loop {
            let changed = {
                let state = self.state.borrow();
                if state.stopped.is_some() {
                    return Err(io::Error::other("the log has stopped"));
                }
                if !state.zeroing_meets(write.sequence, write.position, end) {
                    break;
                }
                self.changed.changed()
            };
            changed.await;
        }
        write.file.write_durable(write.buffer, write.position).await
    }

    fn ended(self: &Rc<Self>, first_index: u64, result: io::Result<()>) {
        let in_flight = self.state.borrow().in_flight;
        assert!(in_flight > 0, "a write ended that had not begun");
        self.state.borrow_mut().in_flight = in_flight - 1;
        match result {
            Ok(()) => {
                let mut state = self.state.borrow_mut();
                if state.stopped.is_none() {
                    state.written(first_index, self.runtime.elapsed());
                }
            }
            Err(error) => {
                self.stop("writing to the log", error);
            }
        }
        self.pump();
        self.save_marks();
        self.changed.notify_all();
    }

    /// Waits until everything staged is durable and nothing is in flight.
    pub async fn drain(self: &Rc<Self>) -> Result<Tail, super::error::LogStopped> {
        loop {
            let changed = {
                let mut state = self.state.borrow_mut();
                state.flush_wanted = state.staged.is_some();
                if state.durable == state.tail.index && state.in_flight == 0 {
                    return Ok(state.tail);
                }
                drop(state);
                self.pump();
                self.running()?;
                self.changed.changed()
            };
            changed.await;
        }
    }
}
