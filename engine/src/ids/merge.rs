//! Which runs are merged, and how: neighbours of one size, so that an entry is written again only
//! about once each time that the log has become eight times as long.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::limits::STEP_ENTRIES;
use super::run::{Run, RunEntry, RunReader, RunWriter};
use crate::planted::{self, Planted};
use crate::storage::disk::Disk;

/// Which runs are of one size. Simulations have small ones, so that much is merged.
#[derive(Clone, Copy, Debug)]
pub struct MergeSizes {
    /// Runs of one class that are merged. Each class of sizes is this many times the one below, so that a
    /// group comes to one of the next. At least 2.
    pub group_runs: usize,
    /// Entries in a typical run of the smallest class.
    pub small_entries: u64,
}

impl Default for MergeSizes {
    fn default() -> Self {
        Self { group_runs: 8, small_entries: 1 << 17 }
    }
}

impl MergeSizes {
    /// The class whose typical size is nearest. By default 0 below 512 Ki entries, 1 below 4 Mi.
    fn class_of(self, entries: u64) -> u32 {
        let ratio = self.group_runs as u64;
        (2 * entries / self.small_entries / ratio).checked_ilog(ratio).map_or(0, |class| class + 1)
    }
}

/// The runs to merge, given the numbers of their entries: in the newest stretch of runs of one class,
/// a group of the oldest. Smaller ones between them are taken along.
pub(super) fn due(entries: &[u64], sizes: MergeSizes) -> Option<Range<usize>> {
    let classes: Vec<u32> = entries.iter().map(|entries| sizes.class_of(*entries)).collect();
    let greatest = classes.iter().copied().max()?;
    (0..=greatest).find_map(|class| {
        let mut end = classes.len();
        for stretch in classes.rsplit(|other| *other > class) {
            let start = end - stretch.len();
            let same = stretch.iter().enumerate().filter(|(_, other)| **other == class);
            let same: Vec<usize> = same.map(|(at, _)| start + at).take(sizes.group_runs).collect();
            if let [first, .., last] = same[..]
                && same.len() == sizes.group_runs
            {
                return Some(first..last + 1);
            }
            end = start.saturating_sub(1);
        }
        None
    })
}

/// One of the runs that are merged, with the block that is next from it.
struct Input<D: Disk> {
    run: Rc<Run<D>>,
    reader: RunReader<D>,
    entries: Vec<RunEntry>,
    at: usize,
}

impl<D: Disk> Input<D> {
    async fn open(run: Rc<Run<D>>) -> io::Result<Self> {
        let reader = RunReader::new(&run);
        let mut input = Self { run, reader, entries: Vec::new(), at: 0 };
        input.refill().await?;
        Ok(input)
    }

    async fn refill(&mut self) -> io::Result<()> {
        self.entries.clear();
        self.at = 0;
        let block = self.reader.next(&self.run).await?;
        self.entries.extend(block.into_iter().flat_map(|block| block.entries()));
        Ok(())
    }

    fn next(&self) -> Option<RunEntry> {
        self.entries.get(self.at).copied()
    }

    async fn advance(&mut self) -> io::Result<()> {
        self.at += 1;
        if self.at == self.entries.len() { self.refill().await } else { Ok(()) }
    }
}

/// Writes all entries of the runs to `writer`, in order, with a `pause` after every few thousand.
pub(super) async fn merge<D: Disk>(
    runs: &[Rc<Run<D>>],
    writer: &mut RunWriter<D>,
    mut pause: impl AsyncFnMut(),
) -> io::Result<()> {
    let mut inputs = Vec::new();
    for run in runs {
        inputs.push(Input::open(run.clone()).await?);
    }
    let mut written = 0usize;
    loop {
        let nexts = inputs.iter().enumerate();
        let nexts = nexts.filter_map(|(number, input)| Some((number, input.next()?)));
        let Some((number, mut entry)) = nexts.min_by_key(|(_, entry)| entry.order()) else {
            return Ok(());
        };
        if planted::has(Planted::EndsLostInMerge) && (2..5).contains(&entry.code) {
            entry.code = 0;
        }
        writer.push(entry).await?;
        inputs[number].advance().await?;
        written += 1;
        if written.is_multiple_of(STEP_ENTRIES) {
            pause().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 1 << 17;

    fn due(entries: &[u64]) -> Option<Range<usize>> {
        super::due(entries, MergeSizes::default())
    }

    #[test]
    fn classes_are_powers_of_eight() {
        let sizes = [0, 1, RUN, 4 * RUN - 1, 4 * RUN, 32 * RUN - 1, 32 * RUN, 256 * RUN];
        assert_eq!(
            sizes.map(|entries| MergeSizes::default().class_of(entries)),
            [0, 0, 0, 0, 1, 1, 2, 3]
        );
    }

    #[test]
    fn eight_neighbours_of_one_class_are_due() {
        let small = |runs| vec![5; runs];
        let with = |before: usize, middle: &[u64], behind: usize| {
            [&small(before), middle, &small(behind)].concat()
        };
        assert_eq!(due(&[]), None);
        assert_eq!(due(&small(7)), None);
        assert_eq!(due(&small(8)), Some(0..8));
        assert_eq!(due(&small(10)), Some(0..8), "the oldest: nothing is left between");
        let large = 8 * RUN;
        assert_eq!(due(&with(8, &[large], 8)), Some(9..17), "the newest stretch");
        assert_eq!(due(&with(8, &[large], 7)), Some(0..8));
        let eight = [large, large, large, large, 5, large, large, large, large];
        assert_eq!(due(&[&[64 * RUN][..], &eight, &[5]].concat()), Some(1..10), "with a small one");
        assert_eq!(due(&[large, large, 64 * RUN, large, large]), None);
    }

    /// However many runs are added: few are left, and each entry is written few times.
    #[test]
    fn runs_stay_few_and_are_rarely_written_again() {
        for each in [1000, RUN / 2, RUN, 3 * RUN / 2] {
            let (mut runs, mut written) = (Vec::new(), 0);
            for _ in 0..300 {
                runs.push(each);
                while let Some(group) = due(&runs) {
                    let sum = runs[group.clone()].iter().sum::<u64>();
                    written += sum;
                    runs.splice(group, [sum]);
                }
            }
            assert!(runs.len() <= 24, "{each}: {runs:?}");
            assert!(each < RUN / 2 || written <= 4 * 300 * each, "{each}: {written}");
        }
    }
}
