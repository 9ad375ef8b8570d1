//! Reads a partition's log from its first entry as far as it is whole, whatever else is lost: for a
//! person who goes on with what is left. Changes nothing, and refuses nothing: what can't be read ends it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine_net::entry::EntryHeader;

use super::cases::HeaderCase;
use super::disk::{Disk, DiskFile};
use super::error::Place;
use super::hard_state::HardStateFile;
use super::ids::Ids;
use super::layout::{self, BLOCK, BlockError, HardState, SegmentHeader, Tail};
use super::reached;
use super::segment::{self, SEQUENCE_MIN};
use super::window::{Step, WINDOW_BYTES, Window};

/// What the files beside the log say of it.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// What was saved last; `None` if it can't be read.
    pub hard_state: Option<HardState>,
    /// How far other members had the log on their disks, by node: the index of an entry.
    pub reached: BTreeMap<u64, u64>,
    /// What the first entry of the last segment with a header follows.
    pub begun: u64,
}

impl Promises {
    /// The newest entry that was on this disk, or that a majority had.
    pub fn index(&self) -> u64 {
        let promised = self.hard_state.map_or(0, |state| state.promised_index());
        promised.max(self.begun)
    }
}

/// Why nothing more is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Where that is.
    pub place: Place,
    /// What stands there; `None` if it is where a log ends.
    pub why: Option<String>,
}

/// See the module.
pub struct Salvage<D: Disk> {
    disk: D,
    dir: PathBuf,
    ids: Ids,
    segment_bytes: u64,
    promises: Promises,
    /// A truncation was under way: what is behind this entry was never committed.
    cut_after: Option<u64>,
    /// The segment that is read.
    window: Option<Window<D>>,
    sequence: u64,
    position: u64,
    /// The last segment that is there.
    last: u64,
    tail: Tail,
    end: Option<End>,
}

impl<D: Disk> Salvage<D> {
    /// Of the partition whose directory is `dir`; of none, if that is lost.
    pub async fn open(disk: D, dir: &Path, ids: Ids, segment_bytes: u64) -> Self {
        let opened = HardStateFile::open(disk.clone(), dir, ids).await.ok();
        let mut promises = Promises {
            hard_state: opened.as_ref().map(|opened| opened.slot.state),
            reached: reached::read(&disk, dir, ids).await.unwrap_or_default(),
            begun: 0,
        };
        let sequences = segment::list(&disk, dir).await.unwrap_or_default();
        for &sequence in sequences.iter().rev() {
            if let Ok((Ok(header), _)) = head(&disk, dir, sequence).await
                && ids.began(&header)
            {
                promises.begun = header.before.index;
                break;
            }
        }
        Self {
            disk,
            dir: dir.to_owned(),
            ids,
            segment_bytes,
            promises,
            cut_after: opened.and_then(|opened| opened.slot.cut_after),
            window: None,
            sequence: SEQUENCE_MIN,
            last: sequences.last().copied().unwrap_or_default(),
            position: 0,
            tail: Tail::default(),
            end: None,
        }
    }

    /// What the files beside the log say of it.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// The end of what was read.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Why nothing more is read, once [`Self::next`] gives nothing.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next entry, checked, with its bytes; `None` behind the last.
    pub async fn next(&mut self) -> Option<(EntryHeader, &[u8])> {
        let (position, header) = self.find().await?;
        let bytes = header.entry_bytes();
        Some((header, self.window.as_ref()?.slice(position, bytes)))
    }

    async fn find(&mut self) -> Option<(u64, EntryHeader)> {
        while self.end.is_none() {
            if self.cut_after == Some(self.tail.index) {
                self.stop(None);
                break;
            }
            let Some(window) = &mut self.window else {
                self.begin_segment().await;
                continue;
            };
            match window.step(self.ids, &self.tail, self.position).await {
                Ok(Step::Entry { position, header, tail }) => {
                    self.position = position + header.entry_bytes() as u64;
                    self.tail = tail;
                    return Some((position, header));
                }
                Ok(Step::DirtyPadding { position }) => {
                    self.position = position;
                    self.stop(Some("the padding before the entry is not zero".to_owned()));
                }
                Ok(Step::End { position, why }) => self.leave_segment(position, why).await,
                Err(error) => self.stop(Some(format!("it can't be read: {error}"))),
            }
        }
        None
    }

    /// Opens the segment that is next.
    async fn begin_segment(&mut self) {
        let why = match head(&self.disk, &self.dir, self.sequence).await {
            Ok((header, file)) => {
                match HeaderCase::of(&header, self.ids, self.sequence, self.segment_bytes) {
                    HeaderCase::Own if header.is_ok_and(|header| header.before == self.tail) => {
                        // One that was cut short is read as far as it goes.
                        let bytes = match file.len().await {
                            Ok(bytes) => layout::block_down(bytes.min(self.segment_bytes)),
                            Err(error) => {
                                return self.stop(Some(format!("it can't be read: {error}")));
                            }
                        };
                        let disk = self.disk.clone();
                        self.window = Some(Window::new(disk, Rc::new(file), bytes, WINDOW_BYTES));
                        self.position = BLOCK.min(bytes);
                        return;
                    }
                    HeaderCase::Own => "the segment does not follow the one before".to_owned(),
                    // The first one, before anything was written.
                    HeaderCase::Unreadable
                        if header == Err(BlockError::Blank) && self.promises.index() == 0 =>
                    {
                        return self.stop(None);
                    }
                    HeaderCase::Unreadable => "the segment's header can't be read".to_owned(),
                    HeaderCase::Version => "another version of the program wrote it".to_owned(),
                    HeaderCase::Foreign => "it is of another cluster or partition".to_owned(),
                    HeaderCase::Misplaced => "its header is that of another segment".to_owned(),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "the segment is missing".to_owned()
            }
            Err(error) => format!("the segment can't be read: {error}"),
        };
        self.position = 0;
        self.stop(Some(why));
    }

    /// Goes on to the next segment if that follows; otherwise the log ends here.
    async fn leave_segment(&mut self, position: u64, why: String) {
        let next = head(&self.disk, &self.dir, self.sequence + 1).await;
        let goes_on = match next {
            Ok((Ok(header), _)) => self.ids.began(&header) && header.before == self.tail,
            Ok((Err(BlockError::Blank), _)) => false,
            // What has happened to it is told there.
            Ok((Err(_), _)) => true,
            Err(_) => self.sequence < self.last,
        };
        if goes_on {
            (self.sequence, self.window) = (self.sequence + 1, None);
            return;
        }
        self.position = position;
        let Some(window) = &mut self.window else { return };
        let bytes = window.bytes();
        if bytes < self.segment_bytes {
            let why =
                format!("the segment is cut short, to {bytes} bytes of {}", self.segment_bytes);
            return self.stop(Some(why));
        }
        let is_blank = window.is_zero(position, bytes).await.unwrap_or(false);
        let is_all = is_blank && self.tail.index >= self.promises.index();
        self.stop((!is_all).then_some(why));
    }

    fn stop(&mut self, why: Option<String>) {
        let segment = segment::name(self.sequence);
        let place = Place { segment, position: self.position, index: self.tail.index + 1 };
        self.end = Some(End { place, why });
    }
}

/// The header of a segment, and its file.
async fn head<D: Disk>(
    disk: &D,
    dir: &Path,
    sequence: u64,
) -> io::Result<(Result<SegmentHeader, BlockError>, D::File)> {
    let file = disk.open(&segment::path(dir, sequence)).await?;
    if file.len().await? < BLOCK {
        return Err(io::Error::other("it is shorter than its header"));
    }
    Ok((segment::read_header(disk, &file).await?, file))
}
