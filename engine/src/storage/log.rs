//! Append-only log of one partition. Lives on that partition's shard core; not `Send`.
//!
//! An entry is readable once [`Log::append`] returns, and survives power loss once
//! [`Log::durable_index`] has reached it:
//!
//! ```text
//! append ---> staged ---> flush: one write with O_DSYNC ---> written ---> durable
//!             readable    several in flight, in any order                 it and all before it
//!                                                                         are written: waiters wake
//! ```
//! The next entry names the durable index of that moment, so each entry is a witness for those before
//! it; the hard state is the witness for the last ones ([`Log::mark_idle`]). Never interprets bodies,
//! and removes entries only in [`Log::truncate_after`].
//!
//! After a failed write or flush the log is stopped for good: nobody knows which bytes are on disk
//! until they are read again, at the next open.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{EntryHeader, EntryMeta, HEADER_BYTES};

use super::buffers::Progress;
use super::cases::PartitionCase;
pub use super::config::LogConfig;
use super::create::create;
use super::disk::Disk;
use super::error::{AppendError, Fault, LogStopped, OpenError, StopReason};
use super::hard_state::{self, HardStateFile};
use super::index::Marks;
use super::layout::{self, BLOCK, HardState, SegmentHeader, Tail};
use super::recover::{self, Recovered};
use super::segment::Segment;
pub use super::state::FlushCounts;
use super::state::{Inner, Place, State};
use super::tap::Tap;
use crate::local::Notify;
use crate::metrics::latency::Latency;
use crate::runtime::Runtime;

/// A log that is ready for use.
pub struct Opened<D: Disk, R: Runtime> {
    /// The log.
    pub log: Log<D, R>,
    /// What was saved last.
    pub hard_state: HardState,
    /// What was found, for the log line.
    pub recovered: Recovered,
}

/// Handle of a partition's log; clones are the same log.
pub struct Log<D: Disk, R: Runtime> {
    pub(super) inner: Rc<Inner<D, R>>,
}

impl<D: Disk, R: Runtime> Clone for Log<D, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<D: Disk, R: Runtime> Log<D, R> {
    /// Opens the log of the partition in `dir` and repairs a torn tail. `from` is the point of a
    /// snapshot: entries up to it are not read, older segments are checked by their headers only.
    /// Without a snapshot it is `Tail::default()`.
    ///
    /// # Errors
    /// See [`OpenError`]. After `Damaged` nothing was modified.
    pub async fn open(
        disk: D,
        runtime: R,
        dir: PathBuf,
        config: LogConfig,
        from: Tail,
    ) -> Result<Opened<D, R>, OpenError> {
        assert!(config.segment_bytes.is_multiple_of(BLOCK), "a segment is whole blocks");
        assert!(config.prepared_segments > 0, "without a next segment the log can't go on");
        let mut zeros = disk.buffer(config.zero_chunk_bytes);
        zeros.as_mut().fill(0);
        let zeros = Rc::new(zeros);
        let failed = || OpenError::io("looking for the partition");
        let there = hard_state::exists(&disk, &dir).await.map_err(failed())?;
        let is_empty = !there && is_empty(&disk, &dir).await.map_err(failed())?;
        match PartitionCase::of(there, config.create, is_empty) {
            PartitionCase::There => {}
            PartitionCase::ToCreate => create(&disk, &dir, &config, &zeros).await?,
            PartitionCase::Missing => return Err(OpenError::Missing(dir)),
            PartitionCase::HardStateLost => {
                let path = hard_state::path(&dir);
                return Err(OpenError::Incomplete(vec![Fault::Missing(path)]));
            }
        }
        let hard_state = HardStateFile::open(disk.clone(), &dir, config.ids).await?;
        let repaired = recover::recover(&disk, &dir, &config, &hard_state, from, &zeros).await?;
        let recovered = repaired.facts.clone();
        let committed = hard_state.slot.state.commit_index;
        let inner = Rc::new(Inner {
            disk,
            runtime,
            dir,
            hard_state: hard_state.file,
            zeros,
            changed: Notify::new(),
            tap: Tap::default(),
            state: RefCell::new(repaired.into_state(&config, committed)),
            config,
        });
        inner.prepare();
        let hard_state = inner.hard_state.last();
        Ok(Opened { log: Self { inner }, hard_state, recovered })
    }

    /// Stages an entry behind the last one and gives its header. It is readable at once, and on its
    /// way to disk at the next [`Log::flush`].
    ///
    /// # Panics
    /// If `meta` does not follow [`Log::last`] or is of another partition: the caller's mistake.
    pub fn append(&self, meta: &EntryMeta, body: &[u8]) -> Result<EntryHeader, AppendError> {
        let entry_bytes = HEADER_BYTES + body.len();
        let config = &self.inner.config;
        let mut state = self.inner.state.borrow_mut();
        if let Some(reason) = &state.stopped {
            return Err(LogStopped(reason.clone()).into());
        }
        assert!(!state.truncating, "appended during a truncation");
        if BLOCK + layout::block_up(entry_bytes as u64) > config.segment_bytes {
            return Err(AppendError::TooLarge(entry_bytes));
        }
        if state.backlog_bytes() > config.backlog_bytes_max {
            return Err(AppendError::Backlog(state.backlog_bytes()));
        }
        let place = state.place(config, entry_bytes);
        if matches!(place, Place::NewSegment) && state.prepared.is_empty() {
            drop(state);
            self.inner.prepare();
            return Err(AppendError::Full);
        }
        let header = meta.encode(body, state.durable, state.tail.chain);
        assert!(config.ids.wrote(&header), "entry of another partition");
        let tail = state.tail.with(&header).unwrap_or_else(|why| {
            panic!("entry {} appended after {}: {why}", meta.index, state.tail.index)
        });
        if !matches!(place, Place::Staged) {
            let state = &mut *state;
            state.seal(&self.inner.disk);
            if matches!(place, Place::NewSegment) {
                self.inner.roll(state);
            }
        }
        let state = &mut *state;
        state.stage(&self.inner.disk, config, &header, body);
        self.inner.tap.note(&header, body);
        state.tail = tail;
        Ok(header)
    }

    /// Begins to write what is staged, or does so as soon as fewer than `flush_inflight_max` flushes
    /// are in flight.
    pub fn flush(&self) {
        let mut state = self.inner.state.borrow_mut();
        state.flush_wanted = state.staged.is_some();
        drop(state);
        self.inner.pump();
    }

    /// A flush would begin at once.
    pub fn can_flush(&self) -> bool {
        let state = self.inner.state.borrow();
        state.stopped.is_none() && state.in_flight < self.inner.config.flush_inflight_max
    }

    /// Flushes in flight.
    pub fn inflight(&self) -> usize {
        self.inner.state.borrow().in_flight
    }

    /// What was flushed since the log was opened.
    pub fn flush_counts(&self) -> FlushCounts {
        self.inner.state.borrow().counts
    }

    /// How long those took that have ended well.
    pub fn flush_latency(&self) -> Latency {
        self.inner.state.borrow().flush_took
    }

    /// Memory of the buffers for writes, of entries on their way and of the next ones, in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.inner.zeros.as_ref().as_ref().len() + self.inner.state.borrow().buffer_bytes()
    }

    /// Bytes that are staged or wait for a flush.
    pub fn backlog_bytes(&self) -> usize {
        self.inner.state.borrow().backlog_bytes()
    }

    /// The last entry, durable or not.
    pub fn last(&self) -> Tail {
        self.inner.state.borrow().tail
    }

    /// First index that the log holds; one past the last if it is empty.
    pub fn first_index(&self) -> u64 {
        self.inner.state.borrow().first_index()
    }

    /// The segment that the newest entries are in, or will be.
    pub fn last_segment(&self) -> u64 {
        self.inner.state.borrow().segments.last().map_or(0, |segment| segment.sequence)
    }

    /// Copies of entries as they are appended, for the feed.
    pub fn tap(&self) -> &Tap {
        &self.inner.tap
    }

    /// Newest index that is durable with all before it.
    pub fn durable_index(&self) -> u64 {
        self.inner.state.borrow().durable
    }

    /// Wakes when the durable index has moved, a flush has ended, a segment was prepared, or the log
    /// has stopped.
    pub fn changed(&self) -> Notify {
        self.inner.changed.clone()
    }

    /// Completes when the entry at `index` is durable with all before it. Flushes nothing itself.
    pub async fn wait_durable(&self, index: u64) -> Result<(), LogStopped> {
        loop {
            let changed = {
                let state = self.inner.state.borrow();
                if state.durable >= index {
                    return Ok(());
                }
                if let Some(reason) = &state.stopped {
                    return Err(LogStopped(reason.clone()));
                }
                self.inner.changed.changed()
            };
            changed.await;
        }
    }

    /// Completes when the log has stopped: at its first error, or never.
    pub async fn wait_stopped(&self) -> LogStopped {
        loop {
            let changed = self.inner.changed.changed();
            if let Some(reason) = self.stopped() {
                return LogStopped(reason);
            }
            changed.await;
        }
    }

    /// Why the log has stopped, if it has.
    pub fn stopped(&self) -> Option<StopReason> {
        self.inner.state.borrow().stopped.clone()
    }

    /// How long the oldest write that is on its way to the disk has taken so far.
    pub fn write_takes(&self) -> Option<Duration> {
        let state = self.inner.state.borrow();
        let writing = state.flushes.iter().filter(|flush| flush.progress == Progress::Writing);
        let began = writing.map(|flush| flush.began).min()?;
        Some(self.inner.runtime.elapsed().saturating_sub(began))
    }

    /// The next segment could not be prepared for want of something that passes: room on the disk,
    /// descriptors, memory. What is prepared already can still be used.
    pub fn no_room(&self) -> bool {
        self.inner.state.borrow().no_room
    }

    /// Tries again to prepare the next segment after [`Log::no_room`].
    pub fn prepare_again(&self) {
        self.inner.state.borrow_mut().no_room = false;
        self.inner.prepare();
    }

    /// What was saved last.
    pub fn hard_state(&self) -> HardState {
        self.inner.hard_state.last()
    }

    /// Newest index that is known to be committed.
    pub fn committed_index(&self) -> u64 {
        self.inner.state.borrow().committed
    }

    /// Everything up to `index` is committed: from now on it is never cut, and the next save of the hard
    /// state records it as far as it is durable here.
    pub fn note_committed(&self, index: u64) {
        let mut state = self.inner.state.borrow_mut();
        state.committed = state.committed.max(index);
    }

    /// Saves the vote; durable when it returns. `state.durable_index` is not looked at: the log's own is
    /// saved. So is the log's commit index, if it is greater than that of `state`. Saves happen one after
    /// the other, in the order of the calls.
    ///
    /// # Errors
    /// The log stops if the save fails. A dropped future makes the next save fail.
    pub async fn save_hard_state(&self, state: HardState) -> Result<(), LogStopped> {
        self.inner.save(|saved| *saved = state).await
    }

    /// Saves durable and commit index, so that the last entries are not without a witness while the
    /// partition is idle or down, or writes little at a time.
    pub async fn mark_idle(&self) -> Result<(), LogStopped> {
        let (saved, durable) = (self.inner.hard_state.last(), self.durable_index());
        if saved.durable_index == durable
            && saved.commit_index >= self.committed_index().min(durable)
        {
            return Ok(());
        }
        self.inner.save(|_| {}).await
    }

    /// Writes what is staged, waits for it and marks the end. Other handles must not append.
    pub async fn close(self) -> Result<(), LogStopped> {
        self.inner.state.borrow_mut().closing = true;
        self.flush();
        self.wait_durable(self.last().index).await?;
        self.mark_idle().await?;
        self.inner.rest().await;
        Ok(())
    }
}

impl<D: Disk, R: Runtime> Inner<D, R> {
    /// Takes the next prepared segment into use; its header goes with the first flush.
    fn roll(&self, state: &mut State<D>) {
        let Some(prepared) = state.prepared.pop_front() else {
            unreachable!("the caller has seen a prepared segment");
        };
        let header = SegmentHeader {
            cluster: self.config.ids.cluster,
            partition: self.config.ids.partition,
            sequence: prepared.sequence,
            created: self.runtime.now(),
            before: state.tail,
            segment_bytes: self.config.segment_bytes,
        };
        state.seal_segment(&self.config);
        assert!(state.staged.is_none(), "a segment ends with a flush");
        let last = state.segments.last().map_or(0, |segment| segment.sequence);
        assert!(last == 0 || prepared.sequence == last + 1, "segments have no gaps");
        state.write_position = 0;
        state.zeroed = prepared.zeroed;
        state.segments.push(Segment {
            sequence: prepared.sequence,
            before: state.tail,
            file: Some(prepared.file),
            marks: Some(Marks::default()),
            distrusts_file: false,
        });
        state.stage_segment_header(&self.disk, &header.to_block());
    }
}

async fn is_empty<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    match disk.list(dir).await {
        Ok(names) => Ok(names.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
