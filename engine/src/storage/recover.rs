//! Brings a partition's log back after any end of the process. FORMAT.md, section 7.
//!
//! ```text
//! read the headers, then the entries behind the snapshot, then what stands behind the last one
//!   -> judge (cases.rs): whole, torn tail or damage      up to here nothing is changed
//!   -> zeros over the torn tail                          stale entries would come back behind new ones
//!   -> write again what nobody knows to be durable       it may be in a cache only
//!   -> hard state: durable index, no truncation          a witness for what was written just now
//!   -> the log is open
//! ```
//! A crash between two steps leaves a log that comes to the same end: the hard state names an entry
//! durable only when it is, and keeps the mark of a truncation until the cut is done.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use super::buffers::BufferPool;
use super::cases::{Behind, EndCase, Verdict, Witnesses};
use super::config::{LogConfig, Votes};
use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::hard_state::{self, OpenedHardState};
use super::layout::{self, BLOCK, BlockError, Tail};
use super::segment::{self, Prepared, Segment};
use super::state::{FlushCounts, State};
use super::survey::{self, Head, Remains, Site, Walk, damaged};
use crate::metrics::latency::Latency;

/// Bytes copied at once when the tail is flushed again.
const COPY_BYTES: u64 = 1 << 20;

/// What was found at open, for the log line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Entries that were read and checked.
    pub entries: u64,
    /// Their bytes.
    pub entry_bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    /// Entries that no later entry and no hard state names durable. They were written again.
    pub flushed_again: u64,
    /// A crash had interrupted a truncation, which is finished now.
    pub truncation_resumed: bool,
    /// One slot of the hard state could not be read. It may have held the newest save.
    pub hard_state_slot_lost: bool,
}

/// A log as recovery leaves it.
pub(super) struct Repaired<D: Disk> {
    pub facts: Recovered,
    tail: Tail,
    segments: Vec<Segment<D>>,
    prepared: VecDeque<Prepared<D>>,
    write_position: u64,
}

/// Up to where a segment found at open is taken as zeroed.
fn recovered_zeroed(config: &LogConfig) -> u64 {
    if config.recovered_are_zeroed { config.segment_bytes } else { 0 }
}

/// Numbers of the segments that are full and `have`, in order.
fn sealed<D: Disk>(segments: &[Segment<D>], have: impl Fn(&Segment<D>) -> bool) -> VecDeque<u64> {
    let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
    sealed.iter().filter(|segment| have(segment)).map(|segment| segment.sequence).collect()
}

impl<D: Disk> Repaired<D> {
    /// `committed`: what the hard state says.
    pub fn into_state(self, config: &LogConfig, committed: u64) -> State<D> {
        let marked = sealed(&self.segments, |segment| segment.marks.is_some());
        State {
            tail: self.tail,
            durable: self.tail.index,
            committed,
            write_position: self.write_position,
            staged: None,
            flushes: VecDeque::new(),
            flush_wanted: false,
            in_flight: 0,
            counts: FlushCounts::default(),
            flush_took: Latency::default(),
            queued_bytes: 0,
            pool: BufferPool::new(config.flush_inflight_max + 2),
            prepared: self.prepared,
            preparing: false,
            no_room: false,
            told_no_room: false,
            zeroed: self.write_position.max(recovered_zeroed(config)),
            zeroing: None,
            flush_bytes_recent: 0,
            truncating: false,
            closing: false,
            cuts: 0,
            opened: sealed(&self.segments, |segment| segment.file.is_some()),
            unsaved: marked.clone(),
            marked,
            saving_marks: false,
            segments: self.segments,
            stopped: None,
        }
    }
}

/// What a partition's files say when they are compared with each other.
pub(super) struct Examined<D: Disk> {
    heads: Vec<Head>,
    walk: Walk<D>,
    /// What is to be cut.
    pub remains: Remains,
}

/// Compares hard state, snapshot and segments, and says whether the log can be opened. Changes nothing.
/// The start and `verify` both ask here, so that they can't come to different answers. `from` is the
/// point of the snapshot that the start would use.
///
/// # Errors
/// Why it can't be opened.
pub(super) async fn examine<D: Disk>(
    site: &Site<D>,
    votes: Votes,
    hard_state: &OpenedHardState<D>,
    from: Tail,
) -> Result<Examined<D>, OpenError> {
    let slot = hard_state.slot;
    if votes == Votes::Promised && hard_state.slot_lost {
        let path = hard_state::path(&site.dir);
        let why = "one of its two slots can't be read, which may have held this node's newest vote";
        return Err(OpenError::File { path, why: why.to_owned() });
    }
    let heads = site.heads().await?;
    let plan = survey::plan(&heads, from, slot.cut_after)?;
    site.check_ends(&heads[..=plan.start]).await?;
    let walk = site.walk(&heads, plan, |_, _, _, _| {}).await?;
    let durable = slot.state.promised_index();
    let remains = judge(site, &heads, &walk, durable, from.index, slot.cut_after).await?;
    if votes != Votes::Any && slot.state.term < walk.tail.term {
        let why = format!(
            "it is older than the log: it knows terms up to {}, the last entry is of term {}",
            slot.state.term, walk.tail.term
        );
        return Err(OpenError::File { path: hard_state::path(&site.dir), why });
    }
    Ok(Examined { heads, walk, remains })
}

/// Recovers the log. Everything that it returns is durable.
pub(super) async fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    hard_state: &OpenedHardState<D>,
    from: Tail,
    zeros: &Rc<D::Buffer>,
) -> Result<Repaired<D>, OpenError> {
    let LogConfig { ids, segment_bytes, votes, .. } = *config;
    let site = Site { disk: disk.clone(), dir: dir.to_owned(), ids, segment_bytes };
    let cut_after = hard_state.slot.cut_after;
    let Examined { heads, walk, remains } = examine(&site, votes, hard_state, from).await?;

    // From here on the disk is changed.
    let mut facts = Recovered {
        entries: walk.entries,
        entry_bytes: walk.bytes,
        truncation_resumed: cut_after.is_some(),
        hard_state_slot_lost: hard_state.slot_lost,
        ..Recovered::default()
    };
    let failed = || OpenError::io("cutting the torn tail");
    for &(number, start, end) in &remains.content {
        assert!(start >= walk.position || number > walk.number, "cut before the end of the log");
        let path = segment::path(dir, heads[number].sequence);
        let file = disk.open(&path).await.map_err(failed())?;
        zero(disk, &file, start, end, zeros).await.map_err(failed())?;
        facts.cut_bytes += end - start;
    }
    let witnessed = walk.witnessed.max(hard_state.slot.state.durable_index);
    facts.flushed_again = walk.tail.index.saturating_sub(witnessed);
    let failed = || OpenError::io("flushing the recovered tail again");
    flush_again(disk, &walk, witnessed).await.map_err(failed())?;
    if cut_after.is_some() || hard_state.slot.state.durable_index != walk.tail.index {
        let saved = hard_state.file.save(|slot| {
            slot.cut_after = None;
            slot.state.durable_index = walk.tail.index;
        });
        saved.await.map_err(OpenError::io("saving the hard state"))?;
    }
    arrange(disk, dir, config, &heads, walk, facts).await
}

/// Decides about the end of the log, and gives what stands behind it: nothing, or what is to be cut.
/// `snapshot_index`: the index that a snapshot of this log stands for.
pub(super) async fn judge<D: Disk>(
    site: &Site<D>,
    heads: &[Head],
    walk: &Walk<D>,
    hard_state_durable: u64,
    snapshot_index: u64,
    cut_after: Option<u64>,
) -> Result<Remains, OpenError> {
    let index = walk.tail.index + 1; // of the entry that should follow
    let remains = site.remains(heads, walk.number, walk.position, &walk.tail).await?;
    let witnesses = Witnesses {
        entry: remains.witness,
        hard_state: hard_state_durable,
        snapshot: snapshot_index,
    };
    let is_cut_point = cut_after == Some(walk.tail.index);
    let next = heads.get(walk.number + 1);
    let end = EndCase::of(is_cut_point, behind(&remains, walk, next), witnesses.of(index));
    let (place, why) = match end.verdict() {
        Verdict::Keep | Verdict::Cut => return Ok(remains),
        Verdict::Damaged => ((heads[walk.number].sequence, walk.position), walk.why.clone()),
        Verdict::DamagedHeader => {
            let Some(Head { sequence, header: Err(error) }) = next else {
                unreachable!("a bad header is that of the next segment")
            };
            ((*sequence, 0), error.to_string())
        }
    };
    let why = format!("{why}; entries up to {} were durable", witnesses.greatest());
    Err(damaged(place.0, place.1, index, &why))
}

/// `next`: the segment behind the one in which the log ends.
pub(super) fn behind<D: Disk>(remains: &Remains, walk: &Walk<D>, next: Option<&Head>) -> Behind {
    let Some(&(number, _, _)) = remains.content.first() else { return Behind::Nothing };
    match next.map(|head| head.header) {
        Some(Err(error)) if number != walk.number && error != BlockError::Blank => {
            Behind::BadHeader
        }
        _ => Behind::Bytes,
    }
}

/// Writes zeros over `start` to `end`, durably. Bytes before `start` in its block stay as they are,
/// and the block is not written at all if nothing but zeros is behind them.
pub(super) async fn zero<D: Disk>(
    disk: &D,
    file: &D::File,
    start: u64,
    end: u64,
    zeros: &Rc<D::Buffer>,
) -> std::io::Result<()> {
    let mut at = layout::block_down(start);
    if at < start {
        let mut block = file.read(disk.buffer(BLOCK_BYTES), at).await?;
        let behind = &mut block.as_mut()[(start - at) as usize..];
        if behind.iter().any(|&byte| byte != 0) {
            behind.fill(0);
            file.write_durable(Rc::new(block), at).await?;
        }
        at += BLOCK;
    }
    let chunk = (**zeros).as_ref().len() as u64;
    while at < end {
        let bytes = chunk.min(layout::block_up(end) - at);
        let buffer = if bytes == chunk {
            zeros.clone()
        } else {
            let mut rest = disk.buffer(bytes as usize);
            rest.as_mut().fill(0);
            Rc::new(rest)
        };
        file.write_durable(buffer, at).await?;
        at += bytes;
    }
    Ok(())
}

/// Writes again, durably and with the same bytes, every entry that nobody knows to be durable. It was
/// read back, but perhaps from a cache that believes it to be on the medium since a flush was lost; a
/// flush alone would do nothing then. Writing the bytes that are there can't tear anything.
async fn flush_again<D: Disk>(disk: &D, walk: &Walk<D>, witnessed: u64) -> std::io::Result<()> {
    let Some(first) = walk.unwitnessed.iter().find(|standing| standing.index > witnessed) else {
        // The header of a segment whose first flush is torn was written with it.
        return match walk.walked.last() {
            Some(last) if last.end == BLOCK => copy_over::<D>(disk, &last.file, 0, BLOCK).await,
            _ => Ok(()),
        };
    };
    for walked in walk.walked.iter().filter(|walked| walked.number >= first.number) {
        let inside = walked.number == first.number && first.position > BLOCK;
        let from = if inside { layout::block_down(first.position) } else { 0 };
        copy_over::<D>(disk, &walked.file, from, layout::block_up(walked.end)).await?;
    }
    Ok(())
}

async fn copy_over<D: Disk>(disk: &D, file: &D::File, from: u64, to: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < to {
        let bytes = COPY_BYTES.min(to - at);
        let buffer = file.read(disk.buffer(bytes as usize), at).await?;
        file.write_durable(Rc::new(buffer), at).await?;
        at += bytes;
    }
    Ok(())
}

/// Sorts the segments into those with entries and those without.
async fn arrange<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    heads: &[Head],
    walk: Walk<D>,
    facts: Recovered,
) -> Result<Repaired<D>, OpenError> {
    let mut repaired = Repaired {
        facts,
        tail: walk.tail,
        segments: Vec::new(),
        prepared: VecDeque::new(),
        write_position: walk.walked.last().map_or(0, |last| layout::block_up(last.end)),
    };
    let used = if walk.walked.is_empty() { 0 } else { walk.number + 1 };
    for head in &heads[..used] {
        let Ok(header) = head.header else { unreachable!("headers up to the tail were checked") };
        let (sequence, before) = (head.sequence, header.before);
        let (file, marks, distrusts_file) = (None, None, false);
        repaired.segments.push(Segment { sequence, before, file, marks, distrusts_file });
    }
    // The newest ones, as many as are kept; the last one, which is written to, does not count.
    let mut marks_held = 0;
    for (number, walked) in walk.walked.into_iter().rev().enumerate() {
        let segment = &mut repaired.segments[walked.number];
        marks_held += walked.marks.list().len();
        if number <= config.open_segments_max {
            segment.file = Some(walked.file);
        }
        if number == 0 || marks_held <= config.marks_max {
            segment.marks = Some(walked.marks);
        }
    }
    for head in &heads[used..] {
        let file = disk.open(&segment::path(dir, head.sequence)).await;
        let file = Rc::new(file.map_err(OpenError::io("opening the next segment"))?);
        let zeroed = recovered_zeroed(config);
        repaired.prepared.push_back(Prepared { sequence: head.sequence, file, zeroed });
    }
    Ok(repaired)
}
