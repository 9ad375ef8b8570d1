//! Is every id known after a start that believes a saved filter, whatever became of its file or of the runs? In
//! virtual time, on a disk in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walengine::ledger::{Outcome, Outcomes};
use walengine::partition::{Partition, snapshots};
use walengine::refused::{BUSY_READING, Refused};
use walengine::runtime::Runtime as _;
use walengine::storage::layout::BLOCK_BYTES;
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::model::EventBytes;
use walengine_tests::lone_partition::{self, DATA, LoneCommit, PARTITION};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::moments::Image;
use walengine_tests::sim::{Order, SimExecutor};

const SEED: u64 = 12;
const BATCHES: usize = 150;
const BATCH: usize = 40;
/// Looks at a look-up that can't end, in virtual milliseconds.
const PATIENCE: usize = 5_000;

type Lone = Partition<LoneCommit<MemoryDisk>>;

/// Batches with what their senders were told.
type Told = Vec<(Vec<EventBytes>, Outcomes)>;

async fn submit(partition: &Lone, batch: &[EventBytes]) -> Result<Outcomes, Refused> {
    let mut outcomes = Outcomes::new();
    for _ in 0..PATIENCE {
        match partition.submit(batch, &mut outcomes) {
            Err(BUSY_READING) => partition.runtime().sleep(Duration::from_millis(1)).await,
            submitted => return submitted.map(|_| outcomes),
        }
        outcomes.clear();
    }
    Err(BUSY_READING)
}

/// A directory whose partition has a saved filter and runs behind it.
fn directory() -> (Image, Told) {
    let (executor, disk) = (SimExecutor::new(SEED, Order::Fifo), MemoryDisk::default());
    let (partition, _) = lone_partition::start(&executor, &disk);
    let mut mixed = Mixed::new(SEED, PARTITION, 1);
    let written = async {
        let mut told = Vec::new();
        let mut batches = vec![mixed.accounts()];
        batches.extend((0..BATCHES).map(|_| mixed.batch(BATCH)));
        for batch in batches {
            let outcomes = submit(&partition, &batch).await.unwrap();
            told.push((batch, outcomes));
            partition.until_visible().await.unwrap();
            partition.runtime().sleep(Duration::from_millis(50)).await;
        }
        let dir = partition_dir(Path::new(DATA), PARTITION);
        let store = SnapshotStore::open(disk.clone(), &dir).await.unwrap();
        assert!(snapshots::take(&partition, &store).await.unwrap().is_some());
        partition.close().await.unwrap();
        told
    };
    let told = executor.block_on(written).unwrap_or_else(|_| panic!("it waits for ever"));
    (disk.image().into_iter().collect(), told)
}

fn files(image: &Image, dir: &str, extension: &str) -> Vec<PathBuf> {
    let is_one = |path: &&PathBuf| {
        path.extension().is_some_and(|found| found == extension)
            && path.parent().is_some_and(|parent| parent.ends_with(dir))
    };
    image.keys().filter(is_one).cloned().collect()
}

/// A repeat is told its first verdict. Events that were malformed then are so now.
fn is_first(first: &Outcome, again: &Outcome) -> bool {
    first.offset.is_none() || first == again
}

/// Starts again, sends everything again, and gives how many runs were read by the start, the batches that
/// could not be decided, and the disk.
fn send_again(image: Image, told: &Told) -> (usize, usize, Image) {
    let (executor, disk) = (SimExecutor::new(1, Order::Fifo), MemoryDisk::new(image));
    let partition = lone_partition::open_again(&executor, &executor.runtime(), &disk);
    let runs = partition.runs().all();
    let read = runs.iter().filter(|run| !partition.runs().is_saved(run)).count();
    let sending = async {
        let mut undecided = 0;
        for (batch, first) in told {
            let Ok(again) = submit(&partition, batch).await else {
                undecided += 1;
                continue;
            };
            let same = first.iter().zip(&again).all(|(first, again)| is_first(first, again));
            assert!(same, "{first:?}\nand then\n{again:?}");
        }
        undecided
    };
    let undecided = executor.block_on(sending).unwrap_or_else(|_| panic!("it waits for ever"));
    (read, undecided, disk.image().into_iter().collect())
}

#[test]
fn a_start_reads_the_runs_since_the_filter_was_saved_and_forgets_no_id() {
    let (image, told) = directory();
    let (saved, runs) = (files(&image, "filters", "snap"), files(&image, "ids", "run"));
    assert!(!saved.is_empty() && runs.len() > 2, "{saved:?}, {runs:?}");
    let (read, undecided, _) = send_again(image.clone(), &told);
    assert!(read > 0 && read < runs.len(), "{read} of {} runs were read", runs.len());
    assert_eq!(undecided, 0);
    // The files are not needed, and not believed when they are not what was written.
    let spoil: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| bytes[BLOCK_BYTES + 5000] ^= 1,
        |bytes| bytes[40] ^= 1,
    ];
    let mut spoilt: Vec<Image> = spoil
        .iter()
        .map(|spoil| {
            let mut image = image.clone();
            for path in &saved {
                spoil(image.get_mut(path).unwrap());
            }
            image
        })
        .collect();
    let mut without = image.clone();
    without.retain(|path, _| !saved.contains(path));
    spoilt.push(without);
    for image in spoilt {
        let (read, undecided, _) = send_again(image, &told);
        assert!(read > 2, "{read} runs were read");
        assert_eq!(undecided, 0);
    }
}

/// The fault: a start that read no runs would have kept silent about one that is damaged, for ever.
#[test]
fn a_damaged_run_that_no_start_has_read_is_told_when_it_is_and_made_again_by_the_next() {
    let (mut image, told) = directory();
    let largest = files(&image, "ids", "run").into_iter().max_by_key(|path| image[path].len());
    image.get_mut(&largest.unwrap()).unwrap()[BLOCK_BYTES + 100] ^= 4;
    let (_, undecided, image) = send_again(image, &told);
    assert!(undecided > 0, "nobody can know ids whose block is damaged");
    assert_eq!(files(&image, "filters", "snap"), Vec::<PathBuf>::new());
    let (_, undecided, _) = send_again(image, &told);
    assert_eq!(undecided, 0);
}
