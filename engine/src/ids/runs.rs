//! The runs of one partition: adjacent, and together from offset 0 on. Which ones count is not on disk
//! here: whoever opens them says it, and keeps [`Runs::list`] where it is safe.
//!
//! Files that are not of the list do not count, whatever is in them: a run that was finished before a
//! crash and named by nobody, or one whose entries were merged into another. [`Runs::prune`] removes
//! them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine_net::model::{ClusterId, PartitionId};

use super::claims::{Claim, Claims};
use super::look_up::{LookUp, Sought};
use super::merge::{self, MergeSizes};
use super::named::Named;
use super::names::{self, DIR};
use super::run::{Run, RunEntry, RunMeta, RunRange, RunWriter};
use crate::planted::{self, Planted};
use crate::storage::disk::Disk;
use crate::storage::files::remove_if_there;
use crate::storage::ids::Ids;

/// Why the runs could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunsError {
    /// The list is not of adjacent runs from offset 0 on.
    #[error("the list of runs is wrong: one begins at offset {first} where {end} would follow")]
    List {
        /// Where the runs before it end.
        end: u64,
        /// Where it begins.
        first: u64,
    },
    /// A listed file is not there.
    #[error("{}: it is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A listed file is not what was written.
    #[error("{why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong; names the file.
        why: String,
    },
    /// What is known is not of these runs.
    #[error("what was saved of the runs is of others")]
    KnownOthers,
    /// The disk's.
    #[error("reading {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Handle to the runs of one partition.
pub struct Runs<D: Disk>(Rc<Inner<D>>);

struct Inner<D: Disk> {
    disk: D,
    partition_dir: PathBuf,
    dir: PathBuf,
    ids: Ids,
    /// Invariant: adjacent, from 0 on.
    runs: RefCell<Vec<Rc<Run<D>>>>,
    claims: Claims,
    /// The newest saved filter has the keys of all records below.
    saved_end: Cell<u64>,
    /// Runs that were to be merged with one that is damaged, and that one.
    unmerged: RefCell<HashSet<(u64, u64)>>,
    /// One of them is damaged: the next start must read all of them.
    distrusted: Cell<bool>,
    /// The directory is there, durably.
    has_dir: Cell<bool>,
    merging: Cell<bool>,
    /// Since these were opened.
    written_bytes: Rc<Cell<u64>>,
    sizes: Cell<MergeSizes>,
    named: Named,
}

/// Neighbouring runs that are to become one.
pub struct MergePlan<D: Disk> {
    runs: Vec<Rc<Run<D>>>,
    meta: RunMeta,
}

impl<D: Disk> MergePlan<D> {
    /// What the merged run will be.
    pub fn meta(&self) -> RunMeta {
        self.meta
    }

    /// About as large as its file will be.
    pub fn disk_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.disk_bytes()).sum()
    }
}

impl<D: Disk> Clone for Runs<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Disk> Runs<D> {
    /// Opens exactly the runs of `list`. Those that do not end behind the `known` ones are not read; all of each other
    /// is read and checked, and the hash of each entry that is not known, whose lower 16 bits are zero, is given to
    /// `on`. What is `known`, because its hashes were saved, are adjacent runs from offset 0 on; those of the list may
    /// have been merged from them, or into them. `progress` is called every few thousand entries with their number so
    /// far; it is the place to let others run.
    ///
    /// # Errors
    /// See [`RunsError`]; after [`RunsError::KnownOthers`], open them with nothing known.
    pub async fn open(
        disk: D,
        partition_dir: &Path,
        ids: (ClusterId, PartitionId),
        list: &[RunRange],
        known: &[RunMeta],
        mut on: impl FnMut(u64),
        mut progress: impl AsyncFnMut(u64),
    ) -> Result<Self, RunsError> {
        let ids = Ids { cluster: ids.0, partition: ids.1 };
        let dir = partition_dir.join(DIR);
        let (mut runs, mut end, mut before) = (Vec::new(), 0, 0);
        let known_end = known.last().map_or(0, |last| last.end);
        let mut known_entries = 0;
        for range in list {
            if range.first != end {
                return Err(RunsError::List { end, first: range.first });
            }
            end = range.end;
            let on_entry = |entry: RunEntry| {
                if entry.offset < known_end {
                    known_entries += 1;
                } else {
                    on(entry.hash);
                }
            };
            let pause = async |entries| progress(before + entries).await;
            let run = if end <= known_end {
                Run::open_known(&disk, &dir, ids, *range).await
            } else {
                Run::open(&disk, &dir, ids, *range, on_entry, pause).await
            };
            let run = run.map_err(|error| RunsError::of(error, names::path(&dir, *range)))?;
            before += run.meta().entries;
            known_entries += if end <= known_end { run.meta().entries } else { 0 };
            runs.push(Rc::new(run));
        }
        let is_all = known_entries == known.iter().map(|run| run.entries).sum::<u64>();
        if !is_all || !agree(known.iter().copied(), runs.iter().map(|run| run.meta())) {
            return Err(RunsError::KnownOthers);
        }
        Ok(Self(Rc::new(Inner {
            disk,
            partition_dir: partition_dir.to_owned(),
            dir,
            ids,
            runs: RefCell::new(runs),
            saved_end: Cell::new(known_end),
            unmerged: RefCell::default(),
            distrusted: Cell::new(false),
            claims: Claims::default(),
            has_dir: Cell::new(false),
            merging: Cell::new(false),
            written_bytes: Rc::default(),
            sizes: Cell::default(),
            named: Named::default(),
        })))
    }

    /// Which runs are of one size.
    pub fn merge_sizes(&self) -> MergeSizes {
        self.0.sizes.get()
    }

    /// Which runs are of one size, from now on.
    pub fn set_merge_sizes(&self, sizes: MergeSizes) {
        self.0.sizes.set(sizes);
    }

    /// Which runs the snapshots name: their files stay. Whoever writes snapshots keeps it right.
    pub fn named(&self) -> &Named {
        &self.0.named
    }

    /// The offsets of each run, oldest first: what [`Self::open`] needs to find them again.
    pub fn list(&self) -> Vec<RunRange> {
        self.metas().iter().map(RunMeta::range).collect()
    }

    /// The filter of these runs is saved.
    pub fn note_saved(&self, runs: &[Rc<Run<D>>]) {
        self.0.saved_end.set(runs.last().map_or(0, |last| last.meta().end));
    }

    /// One of them is damaged: nothing is saved any more that would spare the next start reading them.
    pub fn distrust(&self) {
        self.0.distrusted.set(true);
    }

    /// See [`Self::distrust`].
    pub fn is_distrusted(&self) -> bool {
        self.0.distrusted.get()
    }

    /// The saved filter has all keys of the run.
    pub fn is_saved(&self, run: &Rc<Run<D>>) -> bool {
        run.meta().end <= self.0.saved_end.get()
    }

    /// The runs, oldest first.
    pub fn all(&self) -> Vec<Rc<Run<D>>> {
        self.0.runs.borrow().clone()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.runs.borrow().len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their disk.
    pub fn disk(&self) -> &D {
        &self.0.disk
    }

    /// Directory of their partition.
    pub fn partition_dir(&self) -> &Path {
        &self.0.partition_dir
    }

    /// What each run is, oldest first.
    pub fn metas(&self) -> Vec<RunMeta> {
        self.0.runs.borrow().iter().map(|run| run.meta()).collect()
    }

    /// First offset that no run covers.
    pub fn end(&self) -> u64 {
        self.0.runs.borrow().last().map_or(0, |run| run.meta().end)
    }

    /// Entries in all runs.
    pub fn entries(&self) -> u64 {
        self.0.runs.borrow().iter().map(|run| run.meta().entries).sum()
    }

    /// Length of their files in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.0.runs.borrow().iter().map(|run| run.disk_bytes()).sum()
    }

    /// Bytes written to runs since these were opened: each entry's first time, and again in each merge.
    pub fn written_bytes(&self) -> u64 {
        self.0.written_bytes.get()
    }

    /// Memory that they take in bytes.
    pub fn fence_bytes(&self) -> u64 {
        self.0.runs.borrow().iter().map(|run| run.fence_bytes()).sum()
    }

    /// Bytes that can still be allocated on their disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn free_bytes(&self) -> io::Result<u64> {
        self.0.disk.free_bytes().await
    }

    /// Begins the next run.
    ///
    /// # Errors
    /// The disk's; `InvalidInput` if it does not begin at [`Self::end`]; `ResourceBusy` while the same
    /// one is being written or an old file of its name is being removed.
    pub async fn begin(&self, meta: RunMeta) -> io::Result<RunWriter<D>> {
        self.require_next(meta.range())?;
        self.write(meta).await
    }

    async fn write(&self, meta: RunMeta) -> io::Result<RunWriter<D>> {
        let inner = &self.0;
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "another writes or removes it");
        let claim = inner.claims.take(meta.range()).ok_or_else(busy)?;
        if !inner.has_dir.get() {
            inner.disk.create_dir(&inner.dir).await?;
            inner.disk.sync_dir(&inner.partition_dir).await?;
            inner.has_dir.set(true);
        }
        let Ids { cluster, partition } = inner.ids;
        let writer = RunWriter::create(&inner.disk, &inner.dir, cluster, partition, meta).await;
        let mut writer = writer?;
        writer.claim = Some(claim);
        writer.written_of_all = inner.written_bytes.clone();
        Ok(writer)
    }

    fn require_next(&self, range: RunRange) -> io::Result<()> {
        let end = self.end();
        if range.first == end {
            return Ok(());
        }
        let message = format!("a run begins at offset {}; {end} comes next", range.first);
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Finishes a run and makes it one of these. It is durable then.
    ///
    /// # Errors
    /// As [`RunWriter::finish`]; `InvalidInput` if another was added meanwhile. The run is none of these
    /// then.
    pub async fn add(&self, mut writer: RunWriter<D>) -> io::Result<()> {
        self.require_next(writer.range())?;
        let _claim: Option<Claim> = writer.claim.take();
        let run = writer.finish().await?;
        self.require_next(run.meta().range())?;
        self.0.runs.borrow_mut().push(Rc::new(run));
        Ok(())
    }

    /// Begins to look for these. Each entry is found once, however many it is for.
    pub fn look_up(&self, sought: Vec<Sought>) -> LookUp<D> {
        LookUp::new(self.all(), sought)
    }

    /// Gives each entry to `on`, with the place of its run: all are read.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if a file is not what was written.
    pub async fn each(&self, mut on: impl FnMut(usize, RunEntry)) -> io::Result<()> {
        let runs = self.0.runs.borrow().clone();
        for (place, run) in runs.iter().enumerate() {
            run.scan(|entry| on(place, entry), async |_| {}).await?;
        }
        Ok(())
    }

    /// The file of the run of these offsets.
    pub fn path_of(&self, range: RunRange) -> PathBuf {
        names::path(&self.0.dir, range)
    }

    /// The runs that should be merged now; `None` while others are being merged.
    pub fn merge_due(&self) -> Option<MergePlan<D>> {
        if self.0.merging.get() {
            return None;
        }
        let runs = self.0.runs.borrow();
        let unmerged = self.0.unmerged.borrow();
        // What could not be merged parts its neighbours: it must not keep the others from being merged.
        let stretches = runs.split(|run| unmerged.contains(&key_of(run)));
        let due = |stretch: &[Rc<Run<D>>]| {
            let entries: Vec<u64> = stretch.iter().map(|run| run.meta().entries).collect();
            Some(stretch[merge::due(&entries, self.0.sizes.get())?].to_vec())
        };
        let runs = stretches.rev().find_map(due)?;
        let meta = runs.iter().map(|run| run.meta()).reduce(RunMeta::and)?;
        Some(MergePlan { runs, meta })
    }

    /// Merges runs into one, durably, and puts it in their place. `pause` is called after every few
    /// thousand entries. Their files stay until [`Self::prune`].
    ///
    /// # Errors
    /// The disk's; `InvalidData` if a file is not what was written; `InvalidInput` if the plan's runs are
    /// not all there any more; `ResourceBusy` as [`Self::begin`]. Nothing has changed then.
    pub async fn merge(&self, plan: MergePlan<D>, pause: impl AsyncFnMut()) -> io::Result<()> {
        let _merging = Merging::begin(&self.0.merging)?;
        self.place_of(&plan)?;
        let mut writer = self.write(plan.meta).await?;
        if let Err(error) = merge::merge(&plan.runs, &mut writer, pause).await {
            if error.kind() == io::ErrorKind::InvalidData {
                self.0.unmerged.borrow_mut().extend(plan.runs.iter().map(key_of));
            }
            let _ = writer.abort().await; // the first error is the one to tell
            return Err(error);
        }
        let _claim = writer.claim.take();
        let run = Rc::new(writer.finish().await?);
        let place = self.place_of(&plan)?;
        self.0.runs.borrow_mut().splice(place, [run]);
        Ok(())
    }

    fn place_of(&self, plan: &MergePlan<D>) -> io::Result<std::ops::Range<usize>> {
        let runs = self.0.runs.borrow();
        let first = runs.iter().position(|run| Rc::ptr_eq(run, &plan.runs[0]));
        let place = first.map(|first| first..first + plan.runs.len());
        let same = |place: &std::ops::Range<usize>| {
            let there = runs.get(place.clone());
            there.is_some_and(|there| there.iter().zip(&plan.runs).all(|(a, b)| Rc::ptr_eq(a, b)))
        };
        let gone =
            || io::Error::new(io::ErrorKind::InvalidInput, "its runs are not there any more");
        place.filter(same).ok_or_else(gone)
    }

    /// Removes every file of the directory that is neither one of these runs, nor [`Self::named`], nor being
    /// written. Never beside the writing of a snapshot: what that names may have been merged since. As long as
    /// nobody knows what a snapshot names, only files of runs that were not finished go.
    pub async fn prune(&self) -> io::Result<()> {
        let inner = &self.0;
        let keep = inner.named.all();
        let keep = if planted::has(Planted::NamedRunRemoved) { Some(Vec::new()) } else { keep };
        let names = match inner.disk.list(&inner.dir).await {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut removed = false;
        for name in names {
            let range = names::range_of(&name);
            let _claim = match range.map(|range| inner.claims.take(range)) {
                Some(None) => continue,
                claim => claim,
            };
            let kept = range.is_some_and(|range| {
                keep.as_ref().is_none_or(|keep| keep.contains(&range))
                    || inner.runs.borrow().iter().any(|run| run.meta().range() == range)
            });
            if range.is_none() && keep.is_none() {
                continue;
            }
            if !kept || names::is_new(&name) {
                // One that was being written when the names were listed may have its own name by now.
                remove_if_there(&inner.disk, &inner.dir.join(name)).await?;
                removed = true;
            }
        }
        if removed { inner.disk.sync_dir(&inner.dir).await } else { Ok(()) }
    }
}

/// Both are adjacent runs from offset 0 on, and say the same of the offsets between any two at which runs of both
/// end.
fn agree(
    mut known: impl Iterator<Item = RunMeta>,
    mut opened: impl Iterator<Item = RunMeta>,
) -> bool {
    let (Some(mut one), Some(mut other)) = (known.next(), opened.next()) else { return true };
    loop {
        if one.end == other.end && one != other {
            return false;
        }
        let (is_one_behind, is_other_behind) = (one.end <= other.end, other.end <= one.end);
        if is_one_behind {
            let Some(next) = known.next() else { return true };
            one = if is_other_behind { next } else { one.and(next) };
        }
        if is_other_behind {
            let Some(next) = opened.next() else { return true };
            other = if is_one_behind { next } else { other.and(next) };
        }
    }
}

fn key_of<D: Disk>(run: &Rc<Run<D>>) -> (u64, u64) {
    let RunRange { first, end } = run.meta().range();
    (first, end)
}

impl RunsError {
    fn of(error: io::Error, path: PathBuf) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::InvalidData => Self::Damaged { path, why: error.to_string() },
            _ => Self::Io { path, source: error },
        }
    }
}

/// While runs are being merged.
struct Merging<'a>(&'a Cell<bool>);

impl<'a> Merging<'a> {
    fn begin(merging: &'a Cell<bool>) -> io::Result<Self> {
        if merging.replace(true) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "runs are being merged"));
        }
        Ok(Self(merging))
    }
}

impl Drop for Merging<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_agree_if_they_say_the_same_up_to_where_both_end() {
        let run = |first: u64, end: u64, entries| {
            let (id_low, id_high) = (u128::from(first), u128::from(end));
            RunMeta { first, end, entries, id_low, id_high }
        };
        let agree = |a: &[RunMeta], b: &[RunMeta]| {
            let agrees = agree(a.iter().copied(), b.iter().copied());
            assert_eq!(agrees, super::agree(b.iter().copied(), a.iter().copied()));
            agrees
        };
        let small = [run(0, 4, 5), run(4, 8, 4), run(8, 12, 4), run(12, 15, 3)];
        assert!(agree(&[], &small) && agree(&small, &small) && agree(&small[..2], &small));
        assert!(agree(&small, &[run(0, 12, 13), run(12, 15, 3)]), "merged since");
        assert!(agree(&small[..3], &[run(0, 8, 9), run(8, 20, 4)]), "merged with newer ones");
        assert!(!agree(&small, &[run(0, 12, 12), run(12, 15, 3)]), "others");
        assert!(!agree(&small, &[run(0, 12, 13), run(12, 15, 4)]), "others at the end");
        assert!(!agree(&small[..3], &[run(0, 8, 8), run(8, 20, 4)]));
        let other = RunMeta { id_high: 9, ..run(4, 8, 4) };
        assert!(!agree(&small, &[small[0], other, run(8, 15, 7)]), "other ids");
    }
}
