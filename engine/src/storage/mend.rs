//! Puts an entry that another replica has into the place where this log has lost it. FORMAT.md, section 7.
//!
//! ```text
//! read as at an opening -> damage -> Gap: which entry belongs where
//!   the caller gets that entry, committed, from another replica
//! the entry continues the chain -> written over its own place, durably -> read again
//! ```
//! Only what is damaged is written over, and only with the bytes that stood there: the chain hash
//! of the entry before leaves no choice, and that of the entry behind is checked when it is read again.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine_net::entry::{HEADER_BYTES, decode_entry};

use super::cases::{EndCase, Verdict, Witnesses};
use super::config::LogConfig;
use super::disk::{BLOCK_BYTES, Disk, DiskFile};
use super::error::OpenError;
use super::hard_state::HardStateFile;
use super::layout::{self, BLOCK, SegmentHeader, Tail};
use super::recover;
use super::segment;
use super::survey::{self, Plan, Site};

/// An entry that a log has lost, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its index.
    pub index: u64,
    /// Entries up to here were durable or committed.
    pub promised: u64,
    /// The end of the log before it.
    pub(super) before: Tail,
    pub(super) sequence: u64,
    pub(super) position: u64,
    /// The header of its segment is lost, too.
    pub(super) begins_segment: bool,
    /// The segment behind, which takes what does not fit.
    pub(super) next: Option<u64>,
}

/// Why an entry was not put into its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MendError {
    /// It is not the one that was lost. Nothing was written.
    #[error("the entry does not belong here: {0}")]
    Unfit(String),
    /// The disk failed.
    #[error("writing the entry again: {0}")]
    Io(#[from] std::io::Error),
}

/// Finds the first entry that a log has lost which was durable. `None`: it can be opened as it is.
/// Changes nothing.
///
/// # Errors
/// Damage that no single entry mends, such as a segment that is missing.
pub async fn find_gap<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    from: Tail,
) -> Result<Option<Gap>, OpenError> {
    let LogConfig { ids, segment_bytes, .. } = *config;
    let slot = HardStateFile::open(disk.clone(), dir, ids).await?.slot;
    let site = Site { disk: disk.clone(), dir: dir.to_owned(), ids, segment_bytes };
    let heads = site.heads().await?;
    let mut plan = survey::plan(&heads, from, slot.cut_after)?;
    // A start looks at the ends of the segments in front of the snapshot, too.
    if let Some((number, _)) = site.broken_end(&heads[..=plan.start]).await?
        && let Ok(header) = heads[number].header
    {
        plan = Plan { start: number, from: header.before, ..plan };
    }
    let walk = site.walk(&heads, plan, |_, _, _, _| {}).await?;
    let remains = site.remains(&heads, walk.number, walk.position, &walk.tail).await?;
    let witnesses = Witnesses {
        entry: remains.witness,
        hard_state: slot.state.promised_index(),
        snapshot: from.index,
    };
    let next = heads.get(walk.number + 1);
    let is_cut_point = slot.cut_after == Some(walk.tail.index);
    let behind = recover::behind(&remains, &walk, next);
    let index = walk.tail.index + 1;
    let end = EndCase::of(is_cut_point, behind, witnesses.of(index));
    let head = heads[walk.number].sequence;
    let (sequence, position, begins_segment) = match end.verdict() {
        Verdict::Keep | Verdict::Cut => return Ok(None),
        Verdict::Damaged => match walk.walked.last() {
            Some(last) => (head, layout::block_up(last.end), false),
            None => (head, BLOCK, true),
        },
        Verdict::DamagedHeader => (head + 1, BLOCK, true),
    };
    let next = heads.iter().map(|head| head.sequence).find(|&other| other == sequence + 1);
    let (before, promised) = (walk.tail, witnesses.greatest());
    Ok(Some(Gap { index, promised, before, sequence, position, begins_segment, next }))
}

/// Writes `entry`, header and body, into the gap, durably, and gives the gap behind it.
///
/// # Errors
/// It is not the entry that was lost; the disk fails.
pub async fn put<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    gap: &Gap,
    entry: &[u8],
) -> Result<Gap, MendError> {
    let unfit = |why: &str| MendError::Unfit(why.to_owned());
    assert!(config.entries_on_blocks, "only a replica is mended");
    let (theirs, body) = decode_entry(entry).map_err(|error| unfit(&error.to_string()))?;
    if theirs.meta.index != gap.index || !config.ids.wrote(&theirs) {
        return Err(unfit("it is another entry"));
    }
    let tail = gap.before.with(&theirs).map_err(unfit)?;
    // Checksum and durable index are each node's own.
    let own = theirs.meta.encode(body, gap.before.index, gap.before.chain);
    if own.chain != theirs.chain {
        return Err(unfit("its chain hash does not follow the entry before"));
    }
    let bytes = layout::block_up((HEADER_BYTES + body.len()) as u64);
    let (sequence, position, begins) = match gap.next {
        _ if gap.position + bytes <= config.segment_bytes => {
            (gap.sequence, gap.position, gap.begins_segment)
        }
        Some(next) => (next, BLOCK, true),
        None => return Err(unfit("there is no room for it")),
    };
    let header_bytes = if begins { BLOCK_BYTES } else { 0 };
    let mut buffer = disk.buffer(header_bytes + bytes as usize);
    buffer.as_mut().fill(0);
    if begins {
        let header = SegmentHeader {
            cluster: config.ids.cluster,
            partition: config.ids.partition,
            sequence,
            created: gap.before.timestamp,
            before: gap.before,
            segment_bytes: config.segment_bytes,
        };
        buffer.as_mut()[..BLOCK_BYTES].copy_from_slice(&header.to_block());
    }
    let place = &mut buffer.as_mut()[header_bytes..];
    place[..HEADER_BYTES].copy_from_slice(&own.to_bytes());
    place[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
    let file = disk.open(&segment::path(dir, sequence)).await?;
    file.write_durable(Rc::new(buffer), position - header_bytes as u64).await?;
    let next = if sequence == gap.sequence { gap.next } else { Some(sequence + 1) };
    Ok(Gap {
        index: gap.index + 1,
        promised: gap.promised,
        before: tail,
        sequence,
        position: position + bytes,
        begins_segment: false,
        next,
    })
}

/// The entry behind one that was put in is lost, too: what stands in its place does not continue the log.
///
/// # Errors
/// The disk's.
pub async fn is_lost<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    gap: &Gap,
) -> std::io::Result<bool> {
    if gap.index > gap.promised || gap.position >= config.segment_bytes {
        return Ok(false); // the next look decides
    }
    let path: PathBuf = segment::path(dir, gap.sequence);
    let file = Rc::new(disk.open(&path).await?);
    let mut window =
        super::window::Window::new(disk.clone(), file, config.segment_bytes, BLOCK_BYTES);
    let step = window.step(config.ids, &gap.before, gap.position).await?;
    Ok(!matches!(step, super::window::Step::Entry { .. }))
}

/// Saves the vote of the leader whose entries are put in, if this node knows of none as new: an entry
/// never is of a newer term than the vote on the same disk.
///
/// # Errors
/// The hard state can't be read; the disk's.
pub async fn save_vote<D: Disk>(
    disk: &D,
    dir: &Path,
    config: &LogConfig,
    entry_term: u64,
    (term, leader): (u64, u64),
) -> Result<(), OpenError> {
    let opened = HardStateFile::open(disk.clone(), dir, config.ids).await?;
    if opened.slot.state.term >= entry_term {
        return Ok(());
    }
    let saved = opened.file.save(|slot| {
        let state = &mut slot.state;
        (state.term, state.voted_for, state.vote_committed) = (term, Some(leader), true);
    });
    saved.await.map_err(OpenError::io("saving the hard state"))
}
