//! Append-only log of one partition. Lives on that partition's shard core; not `Send`.
//!
//! An entry is readable once [`Log::append`] returns and survives power loss once
//! [`Log::durable_index`] has reached it. Entries are staged in memory, flushed in groups, and
//! several flushes may be in flight; the durable index only passes what is durable without a gap.
//! Never interprets bodies, never removes entries but by [`Log::truncate_after`].
//!
//! After a failed write or flush the log is stopped for good: which bytes are on disk is unknown
//! then, and only reading them again, at the next open, tells.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{EntryHeader, EntryMeta, HEADER_BYTES};
use walengine_net::model::{ClusterId, PartitionId};

use super::disk::Disk;
use super::error::{AppendError, LogStopped, OpenError, StopReason};
use super::flush::{BufferPool, Flush, Staged};
use super::hard_state::{self, HardStateFile};
use super::index::Marks;
use super::layout::{self, BLOCK, HardState, SegmentHeader, Tail};
use super::recover::{self, Recovered};
use super::segment::{self, Prepared, Segment, Zeroing};
use super::tap::Tap;
use crate::local::Notify;
use crate::runtime::Runtime;

/// Default length of a segment in bytes.
pub const SEGMENT_BYTES: u64 = 128 << 20;
/// Default most flushes in flight: past eight this class of device gains nothing.
pub const FLUSH_INFLIGHT_MAX: usize = 4;
/// Default size past which a flush takes no further entry, in bytes.
pub const FLUSH_BYTES_MAX: usize = 4 << 20;
/// Default most bytes that wait to be written.
pub const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Default distance that zeros are written ahead of the entries, in bytes.
pub const ZERO_AHEAD_BYTES: u64 = 8 << 20;
/// Default size of one write of zeros in bytes: small enough not to be felt by the flush behind it.
pub const ZERO_CHUNK_BYTES: usize = 256 << 10;
/// Default largest flush that zeros are written ahead of, in bytes: past it their bandwidth, which is
/// the flushes' own, costs more than the change of metadata that they spare.
pub const ZERO_AHEAD_FLUSH_BYTES_MAX: usize = 64 << 10;
/// Default number of segments kept ready behind the last one. They are zeroed while there is time,
/// so that bursts of their length run at the speed of overwriting.
pub const PREPARED_SEGMENTS: usize = 3;
/// Pause between two pieces of zeros while flushes are in flight: zeroing takes at most
/// `ZERO_CHUNK_BYTES` in this time from them.
pub const ZERO_PAUSE: Duration = Duration::from_millis(1);
/// Default most sealed segments that are kept open and indexed for readers.
pub const INDEXED_SEGMENTS_MAX: usize = 16;

/// How a log works. Bytes on disk depend on `cluster`, `partition` and `segment_bytes` only.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The cluster that the log belongs to.
    pub cluster: ClusterId,
    /// The partition whose log it is.
    pub partition: PartitionId,
    /// Length of a segment in bytes, whole blocks; as in the superblock.
    pub segment_bytes: u64,
    /// Create the partition if its directory is new.
    pub create: bool,
    /// Most flushes in flight.
    pub flush_inflight_max: usize,
    /// Each entry begins on a block of its own. Then a truncation, as Raft asks for, never writes a
    /// block again that holds an entry which stays; small entries take more room.
    pub entries_on_blocks: bool,
    /// Size past which a flush takes no further entry, in bytes.
    pub flush_bytes_max: usize,
    /// Most bytes that wait to be written.
    pub backlog_bytes_max: usize,
    /// Distance that zeros are written ahead of the entries, in bytes.
    pub zero_ahead_bytes: u64,
    /// Size of one write of zeros in bytes, whole blocks.
    pub zero_chunk_bytes: usize,
    /// Largest flush, on the average, that zeros are written ahead of, in bytes.
    pub zero_ahead_flush_bytes_max: usize,
    /// Segments kept ready behind the last one; at least 1. Each has its first `zero_ahead_bytes`
    /// zero-written before it is used.
    pub prepared_segments: usize,
    /// Segments found at open are taken as zeroed to their end, as the preparer leaves them unless it
    /// is in a hurry. Wrong, it costs time; `false` writes their zeros once more.
    pub recovered_are_zeroed: bool,
    /// Most sealed segments that are kept open and indexed.
    pub indexed_segments_max: usize,
}

impl LogConfig {
    /// The defaults.
    pub fn new(cluster: ClusterId, partition: PartitionId) -> Self {
        Self {
            cluster,
            partition,
            segment_bytes: SEGMENT_BYTES,
            create: false,
            flush_inflight_max: FLUSH_INFLIGHT_MAX,
            entries_on_blocks: false,
            flush_bytes_max: FLUSH_BYTES_MAX,
            backlog_bytes_max: BACKLOG_BYTES_MAX,
            zero_ahead_bytes: ZERO_AHEAD_BYTES,
            zero_chunk_bytes: ZERO_CHUNK_BYTES,
            zero_ahead_flush_bytes_max: ZERO_AHEAD_FLUSH_BYTES_MAX,
            prepared_segments: PREPARED_SEGMENTS,
            recovered_are_zeroed: true,
            indexed_segments_max: INDEXED_SEGMENTS_MAX,
        }
    }
}

impl LogConfig {
    /// Where an entry begins that is written behind `position`.
    pub(super) fn entry_start(&self, position: u64) -> u64 {
        if self.entries_on_blocks { layout::block_up(position) } else { layout::entry_up(position) }
    }
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub cluster: ClusterId,
    pub partition: PartitionId,
}

impl Ids {
    pub fn wrote(self, header: &EntryHeader) -> bool {
        header.meta.cluster == self.cluster && header.meta.partition == self.partition
    }

    pub fn began(self, header: &SegmentHeader) -> bool {
        header.cluster == self.cluster && header.partition == self.partition
    }
}

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

pub(super) struct Inner<D: Disk, R: Runtime> {
    pub disk: D,
    pub runtime: R,
    pub dir: PathBuf,
    pub config: LogConfig,
    pub ids: Ids,
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
enum Place {
    Staged,
    NewFlush,
    NewSegment,
}

impl<D: Disk> State<D> {
    fn place(&self, config: &LogConfig, entry_bytes: usize) -> Place {
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

    fn backlog_bytes(&self) -> usize {
        self.queued_bytes + self.staged.as_ref().map_or(0, |staged| staged.used)
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
        let ids = Ids { cluster: config.cluster, partition: config.partition };
        let mut zeros = disk.buffer(config.zero_chunk_bytes);
        zeros.as_mut().fill(0);
        let zeros = Rc::new(zeros);
        let there = hard_state::exists(&disk, &dir).await;
        if !there.map_err(OpenError::io("looking for the partition"))? {
            if !config.create {
                return Err(OpenError::Missing(dir));
            }
            create(&disk, &dir, &config, ids, &zeros).await?;
        }
        let hard_state = HardStateFile::open(disk.clone(), &dir, ids).await?;
        let repaired = recover::recover(&disk, &dir, &config, &hard_state, from, &zeros).await?;
        let recovered = repaired.facts.clone();
        let inner = Rc::new(Inner {
            disk,
            runtime,
            dir,
            ids,
            hard_state: hard_state.file,
            zeros,
            changed: Notify::new(),
            tap: Tap::default(),
            state: RefCell::new(repaired.into_state(&config)),
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
        assert!(self.inner.ids.wrote(&header), "entry of another partition");
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

    /// Begins to write what is staged; if as many flushes are in flight as may be, as soon as one
    /// of them has ended.
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

    /// Entries as they are appended, for who hands them on.
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

    /// The next segment could not be prepared because the disk is full. What is prepared already can
    /// still be used.
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

    /// Saves vote and commit position; durable when it returns. `state.durable_index` is not looked
    /// at: the log's own is saved. Saves happen one after the other, in the order of the calls.
    ///
    /// # Errors
    /// The log stops if the save fails. A dropped future makes the next save fail.
    pub async fn save_hard_state(&self, state: HardState) -> Result<(), LogStopped> {
        self.inner.save(|saved| *saved = state).await
    }

    /// Saves the durable index, so that the last entries are not without a witness while the
    /// partition is idle or down.
    pub async fn mark_idle(&self) -> Result<(), LogStopped> {
        if self.inner.hard_state.last().durable_index == self.durable_index() {
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
            cluster: self.ids.cluster,
            partition: self.ids.partition,
            sequence: prepared.sequence,
            created: self.runtime.now(),
            before: state.tail,
            segment_bytes: self.config.segment_bytes,
        };
        if let Some(sealed) = state.segments.last() {
            let sequence = sealed.sequence;
            state.keep_indexed(sequence, self.config.indexed_segments_max);
        }
        state.write_position = 0;
        state.zeroed = prepared.zeroed;
        state.segments.push(Segment {
            sequence: prepared.sequence,
            before: state.tail,
            file: Some(prepared.file),
            marks: Some(Marks::default()),
        });
        state.stage_segment_header(&self.disk, &header.to_block());
    }

    /// Saves the hard state with the durable index of now.
    async fn save(&self, change: impl FnOnce(&mut HardState)) -> Result<(), LogStopped> {
        self.save_slot(|slot| change(&mut slot.state)).await
    }

    pub(super) async fn save_slot(
        &self,
        change: impl FnOnce(&mut layout::HardStateSlot),
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

    pub(super) fn running(&self) -> Result<(), LogStopped> {
        match &self.state.borrow().stopped {
            Some(reason) => Err(LogStopped(reason.clone())),
            None => Ok(()),
        }
    }

    /// Stops the log; the first reason stands.
    pub(super) fn stop(&self, what: &'static str, error: io::Error) -> LogStopped {
        let reason = StopReason { what, error: Rc::new(error) };
        let reason = self.state.borrow_mut().stopped.get_or_insert(reason).clone();
        self.changed.notify_all();
        LogStopped(reason)
    }

    /// Waits until the preparer rests.
    pub(super) async fn rest(&self) {
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

/// Creates a partition. The hard state comes last: without it the partition is not there yet.
async fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    ids: Ids,
    zeros: &Rc<D::Buffer>,
) -> Result<(), OpenError> {
    let failed = || OpenError::io("creating the partition");
    disk.create_dir(&segment::dir(dir)).await.map_err(failed())?;
    for sequence in segment::list(disk, dir).await.map_err(failed())? {
        // The first segment of an attempt that a crash ended. Anything else was a partition once.
        let path = segment::path(dir, sequence);
        if sequence != 1 || !recover::is_unused(disk, &path).await.map_err(failed())? {
            let why = "the partition has segments and no hard state".to_owned();
            return Err(OpenError::File { path, why });
        }
        disk.remove(&path).await.map_err(failed())?;
    }
    let go_on = async || true;
    let zeroing = Zeroing { zeros, bytes: config.segment_bytes, go_on };
    segment::create(disk, dir, 1, config.segment_bytes, zeroing).await.map_err(failed())?;
    disk.sync_dir(dir).await.map_err(failed())?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).await.map_err(failed())?;
    }
    hard_state::create(disk, dir, ids).await.map_err(failed())
}
