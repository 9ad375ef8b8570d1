//! Looking hashes up in all runs, in pieces that are bounded however many entries have the same hash.
//!
//! Every key is in one run at most, and most likely in a large one. So where many are looked for, the largest
//! runs are read first, and what is found there is not looked for in the others. Of ids that ascend with time, a
//! run's bounds tell which one it is.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::key::{Key, Space};
use super::limits::{FEW_PLACES, MANY_PLACES, PIECE_BLOCKS_MAX, READS_MAX, SOME_ROUNDS};
use super::run::{Run, RunEntry, RunMeta};
use crate::storage::disk::Disk;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sought {
    /// The lower 16 bits do not count.
    hash: u64,
    /// Only runs are read that have an event with such an id.
    event_id: Option<u128>,
}

impl Sought {
    /// All entries with this hash.
    pub fn hash(hash: u64) -> Self {
        Self { hash: RunEntry::cut(hash), event_id: None }
    }

    /// The entry of this key, and perhaps others with its hash.
    pub fn key(key: &Key) -> Self {
        let event_id = (key.space == Space::Event).then_some(key.id);
        Self { event_id, ..Self::hash(key.hash) }
    }

    fn may_be_in(&self, run: &RunMeta) -> bool {
        self.event_id.is_none_or(|id| (run.id_low..=run.id_high).contains(&id))
    }
}

/// What is still to be read for a look-up.
pub struct LookUp<D: Disk> {
    /// Largest first.
    runs: Vec<Rc<Run<D>>>,
    /// The round in which each run is read.
    rounds: Vec<usize>,
    /// Run, block, and a hash that may be there; sorted, each once.
    places: Vec<(usize, u64, u64)>,
    next: usize,
    /// Hashes that are not looked for any more.
    found: HashSet<u64>,
}

impl<D: Disk> LookUp<D> {
    pub(super) fn new(mut runs: Vec<Rc<Run<D>>>, mut sought: Vec<Sought>) -> Self {
        sought.sort_unstable();
        runs.sort_by_key(|run| std::cmp::Reverse(run.meta().entries));
        let mut places = Vec::new();
        for (run, file) in runs.iter().enumerate() {
            let meta = file.meta();
            let mut hashes = sought.iter().filter(|sought| sought.may_be_in(&meta));
            let mut last = None;
            while let Some(Sought { hash, .. }) = hashes.find(|sought| last != Some(sought.hash)) {
                places.extend(file.blocks_of(*hash).map(|block| (run, block, *hash)));
                last = Some(*hash);
            }
        }
        let entries: Vec<u64> = runs.iter().map(|run| run.meta().entries).collect();
        let rounds = rounds_of(&entries, rounds_max(places.len()));
        Self { runs, rounds, places, next: 0, found: HashSet::new() }
    }

    /// All keys with this hash were found: it need not be looked for any more.
    pub fn found(&mut self, hash: u64) {
        self.found.insert(RunEntry::cut(hash));
    }

    /// Blocks to be read in all, one for each hash that falls in them.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// Everything has been read.
    pub fn has_ended(&self) -> bool {
        self.next == self.places.len()
    }

    /// The next entries, in no order; `None` behind the last. A block is read once, whatever number of hashes
    /// fall in it.
    ///
    /// # Errors
    /// The disk's; `InvalidData`, with path and block, if a file is not what was written.
    pub async fn next(&mut self) -> io::Result<Option<Vec<RunEntry>>> {
        let Some((run, ..)) = self.places.get(self.next) else { return Ok(None) };
        let round = self.rounds[*run];
        let rest = &self.places[self.next..];
        let rest = &rest[..rest.partition_point(|(run, ..)| self.rounds[*run] == round)];
        let is_open = |place: &(usize, u64, u64)| !self.found.contains(&place.2);
        let (mut places, mut blocks_taken, mut last) = (Vec::new(), 0, None);
        for place in rest {
            if is_open(place) {
                let block = (place.0, place.1);
                if last != Some(block) {
                    if blocks_taken == PIECE_BLOCKS_MAX {
                        break;
                    }
                    (last, blocks_taken) = (Some(block), blocks_taken + 1);
                }
                places.push(*place);
            }
            self.next += 1;
        }
        let blocks = places.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
        let blocks: Vec<_> = blocks.collect();
        let next = Cell::new(0);
        let found = RefCell::new(Vec::new());
        let read = async || -> io::Result<()> {
            while let Some(block) = blocks.get(next.replace(next.get() + 1)) {
                let (run, number, _) = block[0];
                let entries = self.runs[run].read_block(number).await?;
                for (.., hash) in *block {
                    let from = entries.partition_point(|entry| entry.hash < *hash);
                    let same = entries[from..].iter().take_while(|entry| entry.hash == *hash);
                    found.borrow_mut().extend(same);
                }
            }
            Ok(())
        };
        all((0..blocks.len().min(READS_MAX)).map(|_| read())).await?;
        Ok(Some(found.into_inner()))
    }
}

/// Each round takes its time: few places are read in one, and some in few.
fn rounds_max(places: usize) -> usize {
    match places {
        ..FEW_PLACES => 1,
        FEW_PLACES..MANY_PLACES => SOME_ROUNDS,
        _ => usize::MAX,
    }
}

/// The round of each run, given their numbers of entries, largest first: as many in a round as have a quarter of
/// what is left, and all of them in the last one, which has less than a sixteenth of all, or is the last that may be.
fn rounds_of(entries: &[u64], rounds_max: usize) -> Vec<usize> {
    let all: u64 = entries.iter().sum();
    let (mut round, mut in_round, mut of_round, mut left) = (0, 0, all, all);
    let mut rounds = Vec::new();
    for entries in entries {
        let is_enough = in_round > 0 && 4 * in_round >= of_round && 16 * of_round >= all;
        if is_enough && round + 1 < rounds_max {
            (round, in_round, of_round) = (round + 1, 0, left);
        }
        rounds.push(round);
        in_round += entries;
        left -= entries;
    }
    rounds
}

/// Runs all to their ends, at the same time; then the first error.
async fn all(tasks: impl Iterator<Item = impl Future<Output = io::Result<()>>>) -> io::Result<()> {
    let mut tasks: Vec<Pin<Box<_>>> = tasks.map(Box::pin).collect();
    let mut result = Ok(());
    std::future::poll_fn(move |context| {
        tasks.retain_mut(|task| match task.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if result.is_ok() {
                    result = ended;
                }
                false
            }
        });
        if tasks.is_empty() {
            Poll::Ready(std::mem::replace(&mut result, Ok(())))
        } else {
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_runs_come_first_and_small_ones_together() {
        assert!(rounds_of(&[], usize::MAX).is_empty());
        assert_eq!(rounds_of(&[5], usize::MAX), [0]);
        let small = [64, 64, 64, 64, 8, 8, 8, 1, 1];
        assert_eq!(rounds_of(&small, usize::MAX), [0, 0, 1, 2, 3, 4, 5, 5, 5]);
        assert_eq!(rounds_of(&small, 3), [0, 0, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(rounds_of(&small, 1), [0; 9]);
        let many = [[64u64; 4].as_slice(), &[8; 5], &[1; 5]].concat();
        assert_eq!(rounds_of(&many, usize::MAX), [0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 6, 6, 6]);
        assert_eq!(rounds_of(&[1; 12], usize::MAX), [0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6]);
    }
}
