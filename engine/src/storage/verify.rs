//! Checks a partition's log offline, without changing it: every checksum, every link of the chain,
//! every segment. What entries mean is the caller's to check, who sees each of them.

use std::path::Path;

use walengine_net::entry::EntryHeader;

use super::config::LogConfig;
use super::disk::Disk;
use super::error::{OpenError, Place};
use super::hard_state::HardStateFile;
use super::layout::{HardState, Tail};
use super::recover;
use super::survey::{Plan, Site, damaged};

/// An entry that was checked, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// Number of the segment.
    pub segment: u64,
    /// Position in it, in bytes.
    pub position: u64,
    /// The entry's header.
    pub header: &'a EntryHeader,
    /// Header and body as they stand on disk.
    pub bytes: &'a [u8],
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments with entries.
    pub segments: u64,
    /// Entries that are right.
    pub entries: u64,
    /// Their bytes.
    pub entry_bytes: u64,
    /// The end of the log as far as it is whole from its beginning.
    pub tail: Tail,
    /// Bytes that a crash left behind the end; the next start cuts them.
    pub torn_bytes: u64,
    /// What the hard state says.
    pub hard_state: HardState,
    /// A slot of the hard state can't be read. The start goes on with the other one, and writes it anew.
    pub hard_state_slot_lost: bool,
    /// Why the start would end; `None` if it would go on.
    pub refused: Option<String>,
    /// Each place of damage.
    pub damage: Vec<(Place, String)>,
}

/// Checks the log in the partition directory `dir` and shows every right entry to `visit`, in order.
/// First it asks what the start asks ([`recover::examine`]). Then it reads everything, and goes on
/// behind damage with the next segment that has a header. `snapshot` is the point of the snapshot that
/// the start would use, which the log must hold; `Tail::default()` without one.
///
/// # Errors
/// When the disk fails or a file has another version. Damage is no error: it is in the report.
pub async fn scan<D: Disk>(
    disk: D,
    dir: &Path,
    config: &LogConfig,
    snapshot: Tail,
    mut visit: impl FnMut(Checked<'_>),
) -> Result<Report, OpenError> {
    let LogConfig { ids, segment_bytes, votes, .. } = *config;
    let hard_state = HardStateFile::open(disk.clone(), dir, ids).await?;
    let mut report = Report {
        hard_state: hard_state.slot.state,
        hard_state_slot_lost: hard_state.slot_lost,
        ..Report::default()
    };
    let site = Site { disk, dir: dir.to_owned(), ids, segment_bytes };
    match recover::examine(&site, votes, &hard_state, snapshot).await {
        Ok(_) => {}
        Err(OpenError::Damaged { place, why }) => {
            report.refused = Some(format!("{place}: {why}"));
        }
        Err(error @ (OpenError::File { .. } | OpenError::Incomplete(_))) => {
            report.refused = Some(error.to_string());
        }
        Err(error) => return Err(error),
    }
    let heads = match site.heads().await {
        Ok(heads) => heads,
        Err(error) => return report.with(error),
    };
    let slot = hard_state.slot;
    let mut start = 0;
    while start < heads.len() {
        let from = heads[start].header.map_or(Tail::default(), |header| header.before);
        if start == 0 && heads[0].sequence == 1 && from != Tail::default() {
            let why = "the first segment does not begin with the first entry";
            report = report.with(damaged(1, 0, 1, why))?;
        }
        let is_ahead = snapshot.index > from.index;
        let from = if is_ahead { snapshot } else { from };
        let plan = Plan { start, from, cut_after: slot.cut_after };
        let mut seen = Seen::default();
        let walk = site
            .walk(&heads, plan, |segment, position, header, bytes| {
                seen.note(segment, header);
                visit(Checked { segment, position, header, bytes });
            })
            .await;
        let whole_before = report.damage.is_empty();
        report.count(&seen);
        let judged = match walk {
            Ok(walk) => {
                if whole_before {
                    report.tail = walk.tail;
                }
                let durable = slot.state.promised_index();
                recover::judge(&site, &heads, &walk, durable, from.index, slot.cut_after).await
            }
            Err(error) => Err(error),
        };
        match judged {
            Ok(remains) => {
                report.torn_bytes = remains.content.iter().map(|&(_, from, to)| to - from).sum();
                break;
            }
            Err(error) => report = report.with(error)?,
        }
        let behind =
            heads.iter().position(|head| head.sequence > seen.segment.max(heads[start].sequence));
        let next = behind
            .and_then(|behind| (behind..heads.len()).find(|&number| heads[number].header.is_ok()));
        start = next.unwrap_or(heads.len());
    }
    Ok(report)
}

/// Entries of one walk.
#[derive(Default)]
struct Seen {
    segment: u64,
    segments: u64,
    entries: u64,
    bytes: u64,
}

impl Seen {
    fn note(&mut self, segment: u64, header: &EntryHeader) {
        self.segments += u64::from(segment != self.segment);
        self.segment = segment;
        self.entries += 1;
        self.bytes += header.entry_bytes() as u64;
    }
}

impl Report {
    fn count(&mut self, seen: &Seen) {
        self.segments += seen.segments;
        self.entries += seen.entries;
        self.entry_bytes += seen.bytes;
    }

    fn with(mut self, error: OpenError) -> Result<Self, OpenError> {
        match error {
            OpenError::Damaged { place, why } => {
                self.damage.push((place, why));
                Ok(self)
            }
            other => Err(other),
        }
    }
}
