//! Which runs the snapshots on disk name. Their files stay for as long as the snapshots do.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::names::RunRange;

/// See the module.
#[derive(Debug, Default)]
pub struct Named(RefCell<BTreeMap<u64, Option<Vec<RunRange>>>>);

impl Named {
    /// The snapshot at an index is about to get its name, and names these runs. Until then, and if that fails,
    /// one that is there under the same index counts, too.
    pub fn begin(&self, index: u64, runs: &[RunRange]) {
        let mut named = self.0.borrow_mut();
        if let Some(named) = named.entry(index).or_insert_with(|| Some(Vec::new())) {
            named.extend_from_slice(runs);
        }
    }

    /// The snapshot at an index is there, and names these runs; `None` if it can't be read.
    pub fn note(&self, index: u64, runs: Option<Vec<RunRange>>) {
        self.0.borrow_mut().insert(index, runs);
    }

    /// Only the snapshots at these indexes are there.
    pub fn keep(&self, indexes: &[u64]) {
        self.0.borrow_mut().retain(|index, _| indexes.contains(index));
    }

    /// Where the runs of each snapshot end; `None` if that can't be known.
    pub fn ends(&self) -> Option<Vec<u64>> {
        let named = self.0.borrow();
        let runs = named.values().map(Option::as_deref);
        runs.map(|runs| Some(runs?.iter().map(|run| run.end).max().unwrap_or(0))).collect()
    }

    /// All runs that a snapshot names; `None` if that can't be known.
    pub fn all(&self) -> Option<Vec<RunRange>> {
        let mut all = Vec::new();
        for runs in self.0.borrow().values() {
            all.extend_from_slice(runs.as_deref()?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_is_replaced_counts_until_the_new_one_is_there() {
        let run = |first| RunRange { first, end: first + 10 };
        let named = Named::default();
        named.note(5, Some(vec![run(0)]));
        named.begin(5, &[run(10)]);
        assert_eq!(named.all(), Some(vec![run(0), run(10)]));
        named.note(5, Some(vec![run(10)]));
        named.begin(7, &[run(20)]);
        assert_eq!(named.all(), Some(vec![run(10), run(20)]));
        named.note(6, None);
        named.begin(6, &[run(30)]);
        assert_eq!(named.all(), None, "nobody knows what the old one names");
        named.keep(&[5, 7]);
        assert_eq!(named.all(), Some(vec![run(10), run(20)]));
    }
}
