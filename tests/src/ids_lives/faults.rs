//! What goes wrong in a life.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::sim::{Effect, Rng, SimDisk};

const RUNS: &str = "/ids";
const SNAPSHOTS: &str = "/snapshots";
/// Of a life whose power does not fail, about.
const BOUNDARIES: u64 = 2500;
const AT_RUNS: u64 = 400;
const AT_SNAPSHOTS: u64 = 80;

/// The fault of a life.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// The power fails, at any boundary or at one of these files.
    Cut(Option<&'static str>),
    /// Operations on runs fail, and say so.
    Runs(Effect),
    /// Operations on snapshots do.
    Snapshots(Effect),
    /// Writes of one of these kinds of files go wrong, and nobody is told.
    Silent(&'static str),
    /// There is no room for a while.
    Full,
}

impl Fault {
    pub(super) fn draw(rng: &mut Rng, may_harm: bool) -> Self {
        let told = [Effect::Eio, Effect::Enospc, Effect::Short];
        match rng.below(100) {
            0..25 => Self::Cut(None),
            25..50 => Self::Cut(Some(RUNS)),
            50..60 => Self::Cut(Some(SNAPSHOTS)),
            60..76 => Self::Runs(told[rng.index(3)]),
            76..84 => Self::Snapshots(told[rng.index(3)]),
            84..94 if may_harm => Self::Silent(if rng.percent(70) { RUNS } else { SNAPSHOTS }),
            94.. => Self::Full,
            _ => Self::None,
        }
    }

    /// Has it come, while the partition starts or later.
    pub(super) fn plan(self, disk: &SimDisk, rng: &mut Rng, at_start: bool) {
        let of = |all: u64| if at_start { all / 8 } else { all };
        match self {
            Self::None => {}
            Self::Cut(None) => disk.crash_at(rng.between(1, of(BOUNDARIES))),
            Self::Cut(Some(RUNS)) => disk.crash_at_path(RUNS, rng.between(1, of(AT_RUNS))),
            Self::Cut(Some(part)) => disk.crash_at_path(part, rng.between(1, of(AT_SNAPSHOTS))),
            Self::Runs(effect) => {
                for _ in 0..rng.between(1, 4) {
                    disk.plan_at_path(RUNS, rng.between(1, of(AT_RUNS)), effect);
                }
                if rng.percent(50) {
                    disk.crash_at(rng.between(1, of(BOUNDARIES)));
                }
            }
            Self::Snapshots(effect) => {
                disk.plan_at_path(SNAPSHOTS, rng.between(1, of(AT_SNAPSHOTS)), effect);
            }
            Self::Silent(part) => {
                let effects = [Effect::Lose, Effect::Flip, Effect::Misdirect];
                let all = if part == RUNS { AT_RUNS } else { AT_SNAPSHOTS };
                for _ in 0..3 {
                    disk.plan_at_path(part, rng.between(1, of(all)), effects[rng.index(3)]);
                }
            }
            Self::Full => {
                let capacity_bytes = disk.used_bytes() + (rng.below(8) << 12);
                disk.set_faults(|faults| faults.capacity_bytes = capacity_bytes);
            }
        }
    }

    /// A start may end with an error then: never because of runs.
    pub(super) fn may_end_the_start(self, disk: &SimDisk) -> bool {
        match self {
            Self::Snapshots(_) | Self::Silent(SNAPSHOTS) => !disk.failed().is_empty(),
            _ => false,
        }
    }
}

/// Files whose paths hold this, sorted.
fn files(disk: &SimDisk, part: &str) -> Vec<PathBuf> {
    let paths = disk.image().into_iter().map(|(path, _)| path);
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.to_string_lossy().contains(part)).collect();
    paths.sort();
    paths
}

pub(super) fn runs(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk, RUNS)
}

/// Finished snapshots, the newest last.
pub(super) fn snapshots(disk: &SimDisk) -> Vec<PathBuf> {
    let mut paths = files(disk, SNAPSHOTS);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "snap"));
    paths
}

/// Flips a bit of a run or a snapshot, at rest.
pub(super) fn harm(disk: &SimDisk, rng: &mut Rng) {
    let mut paths = if rng.percent(70) { runs(disk) } else { snapshots(disk) };
    if paths.is_empty() {
        return;
    }
    let path = paths.swap_remove(rng.index(paths.len()));
    let length = disk.bytes(&path).len();
    if length > 0 {
        let (at, bit) = (rng.index(length), rng.below(8));
        disk.edit(&path, |bytes| bytes[at] ^= 1 << bit);
    }
}

/// Notes what has happened to which operation on which kind of file.
pub(super) fn note(disk: &SimDisk, seen: &mut BTreeSet<String>) {
    let kind = |path: &Path| {
        let path = path.to_string_lossy().into_owned();
        [RUNS, SNAPSHOTS].into_iter().find(|part| path.contains(part))
    };
    if let Some(site) = disk.crash_site()
        && let Some(part) = kind(&site.path)
    {
        seen.insert(format!("power {:?} {:?} {part}", site.phase, site.kind));
    }
    for (operation, path, effect) in disk.failed() {
        if let Some(part) = kind(&path) {
            seen.insert(format!("{effect:?} {operation:?} {part}"));
        }
    }
}
