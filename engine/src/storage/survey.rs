//! Reads a partition's segments from a point to their end and says where and how they end. Changes
//! nothing. FORMAT.md, section 7, has the rules.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine_net::entry::{EntryHeader, MAGIC};

use super::cases::{HeaderCase, OrderCase};
use super::disk::{Disk, DiskFile};
use super::error::{Fault, OpenError, Place};
use super::ids::Ids;
use super::index::Marks;
use super::layout::{self, BLOCK, BlockError, ENTRY_ALIGN_BYTES, SegmentHeader, Tail};
use super::segment;
use super::window::{Step, WINDOW_BYTES, Window};

/// Bytes read at once when the last entry of a segment is looked for.
const END_BYTES: u64 = 64 << 10;

/// The partition that is read.
pub(super) struct Site<D: Disk> {
    pub disk: D,
    pub dir: PathBuf,
    pub ids: Ids,
    pub segment_bytes: u64,
}

/// A segment file and its first block.
pub(super) struct Head {
    pub sequence: u64,
    pub header: Result<SegmentHeader, BlockError>,
}

/// An entry that the log holds, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub index: u64,
    /// Number in the list of heads.
    pub number: usize,
    pub position: u64,
}

/// A segment that was read.
pub(super) struct Walked<D: Disk> {
    pub number: usize,
    pub file: Rc<D::File>,
    pub marks: Marks,
    /// Behind its last entry.
    pub end: u64,
}

/// What was read: the log as far as each entry continues the one before.
pub(super) struct Walk<D: Disk> {
    pub tail: Tail,
    pub walked: Vec<Walked<D>>,
    /// Greatest durable index that an entry names.
    pub witnessed: u64,
    /// The entries behind it, in order.
    pub unwitnessed: VecDeque<Standing>,
    pub entries: u64,
    pub bytes: u64,
    /// Where nothing more continues the log.
    pub number: usize,
    pub position: u64,
    /// What stands there instead.
    pub why: String,
}

/// What stands behind the end of the log.
#[derive(Default)]
pub(super) struct Remains {
    /// Greatest durable index that a valid entry there names.
    pub witness: u64,
    /// Bytes that are not zero: number of the head, from, to; whole blocks but for the first `from`.
    pub content: Vec<(usize, u64, u64)>,
}

/// Where to begin, and where to end although entries follow.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub start: usize,
    pub from: Tail,
    pub cut_after: Option<u64>,
}

impl<D: Disk> Site<D> {
    fn dir(&self) -> &Path {
        &self.dir
    }

    async fn open(&self, sequence: u64) -> Result<Rc<D::File>, OpenError> {
        let path = segment::path(self.dir(), sequence);
        let file = self.disk.open(&path).await;
        file.map(Rc::new).map_err(OpenError::io(format!("opening {}", path.display())))
    }

    /// Reads the first block of every segment.
    ///
    /// # Errors
    /// `Damaged` if a segment is missing, has the wrong length, or is in the wrong place.
    pub async fn heads(&self) -> Result<Vec<Head>, OpenError> {
        let listed = segment::list(&self.disk, self.dir()).await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let missing = Fault::Missing(segment::dir(self.dir()));
                return Err(OpenError::Incomplete(vec![missing]));
            }
            Err(error) => return Err(OpenError::io("listing the segments")(error)),
        };
        if listed.is_empty() {
            return Err(damaged(segment::SEQUENCE_MIN, 0, 1, "the segment is missing"));
        }
        let mut heads: Vec<Head> = Vec::with_capacity(listed.len());
        for (sequence, &found) in (segment::SEQUENCE_MIN..).zip(&listed) {
            let index = heads.iter().rev().find_map(|head| head.header.ok());
            let index = index.map_or(1, |header| header.before.index + 1);
            if sequence != found {
                return Err(damaged(sequence, 0, index, "the segment is missing"));
            }
            let header = self.head(sequence, index).await?;
            heads.push(Head { sequence, header });
        }
        Ok(heads)
    }

    async fn head(
        &self,
        sequence: u64,
        index: u64,
    ) -> Result<Result<SegmentHeader, BlockError>, OpenError> {
        let file = self.open(sequence).await?;
        let failed = || OpenError::io(format!("reading {}", segment::name(sequence)));
        let bytes = file.len().await.map_err(failed())?;
        if bytes != self.segment_bytes {
            let why = format!("the segment has {bytes} bytes and not {}", self.segment_bytes);
            return Err(damaged(sequence, bytes.min(self.segment_bytes), index, &why));
        }
        let header = segment::read_header(&self.disk, &file).await.map_err(failed())?;
        let why = match HeaderCase::of(&header, self.ids, sequence, self.segment_bytes) {
            HeaderCase::Own | HeaderCase::Unreadable => return Ok(header),
            HeaderCase::Version => {
                let Err(version) = header else { unreachable!("a version is an error") };
                return Err(OpenError::block(segment::path(self.dir(), sequence), version));
            }
            HeaderCase::Foreign => "it is of another cluster or partition",
            HeaderCase::Misplaced => "its header is that of another segment",
        };
        Err(damaged(sequence, 0, index, why))
    }

    /// Checks that each of these segments but the last ends with the entry that the next one names. They
    /// are not read otherwise when a snapshot stands for them; a segment of an older moment shows here.
    ///
    /// # Errors
    /// `Damaged` if entries are missing.
    pub async fn check_ends(&self, heads: &[Head]) -> Result<(), OpenError> {
        let Some((number, index)) = self.broken_end(heads).await? else { return Ok(()) };
        let why = format!(
            "the segment does not hold entry {index}, which the next segment follows: they are of \
             different moments"
        );
        Err(damaged(heads[number].sequence, self.segment_bytes, index, &why))
    }

    /// The first of these segments without the entry that the next one names as its last; and which.
    ///
    /// # Errors
    /// The disk's.
    pub async fn broken_end(&self, heads: &[Head]) -> Result<Option<(usize, u64)>, OpenError> {
        for (number, pair) in heads.windows(2).enumerate() {
            let [head, Head { header: Ok(next), .. }] = pair else { continue };
            let ends = self.ends_with(head.sequence, &next.before).await;
            if !ends.map_err(OpenError::io(format!("reading {}", segment::name(head.sequence))))? {
                return Ok(Some((number, next.before.index)));
            }
        }
        Ok(None)
    }

    /// Looks for the entry at the end of `tail`, from the end of the segment backwards.
    async fn ends_with(&self, sequence: u64, tail: &Tail) -> std::io::Result<bool> {
        let file = self.disk.open(&segment::path(self.dir(), sequence)).await?;
        let mut end = self.segment_bytes;
        while end > BLOCK {
            let start = end.saturating_sub(END_BYTES).max(BLOCK);
            // A header may stretch into the next piece.
            let bytes = (end + BLOCK).min(self.segment_bytes) - start;
            let buffer = file.read(self.disk.buffer(bytes as usize), start).await?;
            let (pieces, _) = buffer.as_ref().as_chunks::<{ ENTRY_ALIGN_BYTES as usize }>();
            let own = (end - start) / ENTRY_ALIGN_BYTES;
            for number in (0..own as usize).rev() {
                if pieces[number][..4] != MAGIC.to_le_bytes() {
                    continue;
                }
                let at = number * ENTRY_ALIGN_BYTES as usize;
                if let Ok(header) = EntryHeader::decode(&buffer.as_ref()[at..])
                    && self.ids.wrote(&header)
                    && (header.meta.index, header.chain) == (tail.index, tail.chain)
                {
                    return Ok(true);
                }
            }
            end = start;
        }
        Ok(false)
    }

    /// Reads from the planned segment on, as long as each entry continues the one before, and shows
    /// each to `visit`: sequence number, position, header, body.
    ///
    /// # Errors
    /// `Damaged` where the damage shows without looking further.
    pub async fn walk(
        &self,
        heads: &[Head],
        plan: Plan,
        mut visit: impl FnMut(u64, u64, &EntryHeader, &[u8]),
    ) -> Result<Walk<D>, OpenError> {
        let mut walk = Walk {
            tail: Tail::default(),
            walked: Vec::new(),
            witnessed: plan.from.index,
            unwitnessed: VecDeque::new(),
            entries: 0,
            bytes: 0,
            number: plan.start,
            position: 0,
            why: String::new(),
        };
        match heads[plan.start].header {
            Ok(header) => walk.tail = header.before,
            Err(error) => {
                walk.why = error.to_string();
                return Ok(walk);
            }
        }
        loop {
            let sequence = heads[walk.number].sequence;
            let file = self.open(sequence).await?;
            let disk = self.disk.clone();
            let mut window = Window::new(disk, file.clone(), self.segment_bytes, WINDOW_BYTES);
            self.walk_segment(&mut walk, plan, sequence, file, &mut window, &mut visit).await?;
            let next = heads.get(walk.number + 1).and_then(|head| head.header.ok());
            let goes_on = next.is_some_and(|next| next.before == walk.tail);
            if !goes_on || plan.cut_after == Some(walk.tail.index) {
                return Ok(walk);
            }
            let rest = window.is_zero(walk.position, self.segment_bytes).await;
            if !rest.map_err(OpenError::io("reading the log"))? {
                // As with padding: whether that is damage depends on what is known to be durable.
                "bytes behind the last entry of the segment are not zero".clone_into(&mut walk.why);
                return Ok(walk);
            }
            walk.number += 1;
        }
    }

    async fn walk_segment(
        &self,
        walk: &mut Walk<D>,
        plan: Plan,
        sequence: u64,
        file: Rc<D::File>,
        window: &mut Window<D>,
        visit: &mut impl FnMut(u64, u64, &EntryHeader, &[u8]),
    ) -> Result<(), OpenError> {
        let number = walk.number;
        let mut walked = Walked { number, file, marks: Marks::default(), end: BLOCK };
        loop {
            let index = walk.tail.index + 1;
            if walk.tail.index == plan.from.index && walk.tail != plan.from {
                let why = "the log contradicts the snapshot";
                return Err(damaged(sequence, walked.end, index, why));
            }
            if plan.cut_after == Some(walk.tail.index) {
                walk.position = walked.end;
                "a truncation was under way".clone_into(&mut walk.why);
                break;
            }
            let step = window.step(self.ids, &walk.tail, walked.end).await;
            match step.map_err(OpenError::io(format!("reading {}", segment::name(sequence))))? {
                Step::Entry { position, header, tail } => {
                    let bytes = header.entry_bytes();
                    visit(sequence, position, &header, window.slice(position, bytes));
                    walked.marks.note(&header, position);
                    walked.end = position + bytes as u64;
                    walk.tail = tail;
                    walk.note(Standing { index, number, position }, &header);
                }
                Step::DirtyPadding { position } => {
                    // A crash may tear a flush whose successor, in flight beside it, is whole.
                    walk.position = position;
                    "the padding before the entry is not zero".clone_into(&mut walk.why);
                    break;
                }
                Step::End { position, why } => {
                    (walk.position, walk.why) = (position, why);
                    break;
                }
            }
        }
        walk.walked.push(walked);
        Ok(())
    }

    /// Looks at everything from (`number`, `position`) to the end of the last segment.
    pub async fn remains(
        &self,
        heads: &[Head],
        number: usize,
        position: u64,
        tail: &Tail,
    ) -> Result<Remains, OpenError> {
        let mut remains = Remains::default();
        let mut from = position;
        for (number, head) in heads.iter().enumerate().skip(number) {
            let file = self.open(head.sequence).await?;
            let disk = self.disk.clone();
            let mut window = Window::new(disk, file, self.segment_bytes, WINDOW_BYTES);
            let scanned = scan(&mut window, self.ids, tail, from, self.segment_bytes).await;
            let (end, witness) = scanned.map_err(OpenError::io("reading the log"))?;
            remains.witness = remains.witness.max(witness);
            if end > from {
                remains.content.push((number, from, end));
            }
            from = 0;
        }
        Ok(remains)
    }
}

/// Chooses the segment that holds the entry behind `from`, and checks the headers up to it.
pub(super) fn plan(heads: &[Head], from: Tail, cut_after: Option<u64>) -> Result<Plan, OpenError> {
    let good = |head: &Head| head.header.is_ok_and(|good| good.before.index <= from.index);
    let start = heads.iter().rposition(good).unwrap_or(0);
    let mut before = None;
    for head in &heads[..=start] {
        let is_start = from.index == 0 && start == 0;
        let named = head.header.ok().map(|header| header.before);
        let case = OrderCase::of(named, before, from, is_start);
        if let Some(why) = case.damage() {
            let index = before.map_or(from.index, |tail: Tail| tail.index) + 1;
            return Err(damaged(head.sequence, 0, index, why));
        }
        before = named;
    }
    Ok(Plan { start, from, cut_after })
}

/// Damage, where the entry at `index` should stand.
pub(super) fn damaged(sequence: u64, position: u64, index: u64, why: &str) -> OpenError {
    let place = Place { segment: segment::name(sequence), position, index };
    OpenError::Damaged { place, why: why.to_owned() }
}

impl<D: Disk> Walk<D> {
    fn note(&mut self, standing: Standing, header: &EntryHeader) {
        self.entries += 1;
        self.bytes += header.entry_bytes() as u64;
        self.witnessed = self.witnessed.max(header.durable_index);
        self.unwitnessed.push_back(standing);
        while self.unwitnessed.front().is_some_and(|first| first.index <= self.witnessed) {
            self.unwitnessed.pop_front();
        }
    }
}

/// Looks at every place where an entry may start. Gives the end of the last block that is not zero,
/// and the greatest durable index that a valid entry names.
async fn scan<D: Disk>(
    window: &mut Window<D>,
    ids: Ids,
    tail: &Tail,
    from: u64,
    segment_bytes: u64,
) -> std::io::Result<(u64, u64)> {
    let (mut content_end, mut witness) = (from, 0);
    let mut at = layout::entry_up(from);
    while at < segment_bytes {
        let end = layout::block_down(at) + BLOCK;
        window.fill(at, (end - at) as usize).await?;
        if layout::is_zero(window.slice(at, (end - at) as usize)) {
            at = end;
            continue;
        }
        content_end = content_end.max(end);
        while at < end {
            window.fill(at, ENTRY_ALIGN_BYTES as usize).await?;
            let mut next = at + ENTRY_ALIGN_BYTES;
            if window.slice(at, 4) == MAGIC.to_le_bytes()
                && let Ok(header) = window.entry(at).await?
                && ids.wrote(&header)
                && header.meta.index > tail.index
            {
                witness = witness.max(header.durable_index);
                next = layout::entry_up(at + header.entry_bytes() as u64);
                content_end = content_end.max(layout::block_up(next).min(segment_bytes));
            }
            at = next;
        }
    }
    Ok((content_end, witness))
}
