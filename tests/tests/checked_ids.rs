//! Does `verify` hold every run of ids against the log, with few ids in memory? In virtual time, on a disk
//! in memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walengine::fatal::Reason;
use walengine::ledger::Outcomes;
use walengine::partition::check::{Checked, check, check_keeping};
use walengine::partition::digest::digest;
use walengine::partition::restore::{RunsRead, restore};
use walengine::partition::snapshots;
use walengine::refused::BUSY_READING;
use walengine::runtime::Runtime as _;
use walengine::storage::layout::{BLOCK_BYTES, RunBlock, RunEntry, RunHeader};
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_tests::lone_partition::{self, DATA, PARTITION};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::mixed_events::Mixed;
use walengine_tests::moments::Image;
use walengine_tests::server::{TestDir, run_command};
use walengine_tests::sim::{Order, SimExecutor};

const SEED: u64 = 11;
const BATCHES: usize = 120;
const BATCH: usize = 40;
/// What is made of a run's entries.
type Change = fn(&RunHeader, &mut [RunEntry]);

/// Keys after which some leave memory while the log is checked.
const KEYS_MAX: u64 = 100;

/// A directory whose partition has runs, and the digest of its state.
fn directory() -> (Image, [u8; 32]) {
    let (executor, disk) = (SimExecutor::new(SEED, Order::Fifo), MemoryDisk::default());
    let (partition, _) = lone_partition::start(&executor, &disk);
    let mut mixed = Mixed::new(SEED, PARTITION, 1);
    let written = async {
        let mut batches = vec![mixed.accounts()];
        batches.extend((0..BATCHES).map(|_| mixed.batch(BATCH)));
        for batch in batches {
            while matches!(partition.submit(&batch, &mut Outcomes::new()), Err(BUSY_READING)) {
                partition.runtime().sleep(Duration::from_millis(1)).await;
            }
            partition.until_visible().await.unwrap();
            // Reservations expire, and keys go into runs.
            partition.runtime().sleep(Duration::from_millis(50)).await;
            partition.expire();
        }
        partition.until_visible().await.unwrap();
        let dir = partition_dir(Path::new(DATA), PARTITION);
        let store = SnapshotStore::open(disk.clone(), &dir).await.unwrap();
        assert!(snapshots::take(&partition, &store).await.unwrap().is_some());
        assert!(partition.runs().list().len() >= 2, "{:?}", partition.runs().list());
        let state = digest(&partition, Duration::ZERO).await.unwrap();
        partition.close().await.unwrap();
        state.digest
    };
    let digest = executor.block_on(written).unwrap_or_else(|_| panic!("it waits for ever"));
    (disk.image().into_iter().collect(), digest)
}

fn checked(image: Image, keys_max: Option<u64>) -> Checked {
    let (executor, disk) = (SimExecutor::new(1, Order::Fifo), MemoryDisk::new(image));
    let (data, superblock) = (Path::new(DATA), lone_partition::superblock());
    let checking = async {
        match keys_max {
            Some(max) => check_keeping(disk.clone(), data, &superblock, PARTITION, max).await,
            None => check(disk.clone(), data, &superblock, PARTITION).await,
        }
    };
    let checked = executor.block_on(checking).expect("verify waits for nothing");
    checked.unwrap_or_else(|fatal| panic!("{fatal}"))
}

fn runs_of(image: &Image) -> Vec<PathBuf> {
    let is_run = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "run");
    image.keys().filter(is_run).cloned().collect()
}

/// Changes entries of the first block of a run's file, which stays whole.
fn change(bytes: &mut [u8], change: impl FnOnce(&RunHeader, &mut [RunEntry])) {
    let (blocks, _) = bytes.as_chunks_mut::<BLOCK_BYTES>();
    let header = RunHeader::from_block(&blocks[0]).unwrap();
    let mut entries: Vec<_> = RunBlock::open(&header, 0, &blocks[1]).unwrap().entries().collect();
    change(&header, &mut entries);
    blocks[1] = RunBlock::encode(&header, 0, &entries);
    RunBlock::open(&header, 0, &blocks[1]).unwrap();
}

#[test]
fn verify_derives_the_same_state_with_few_ids_in_memory() {
    let (image, digest) = directory();
    let few = checked(image.clone(), Some(KEYS_MAX));
    assert!(few.complaints.is_empty(), "{:?}", few.complaints);
    assert_eq!(few.digest, Some(digest));
    let all = checked(image, None);
    assert_eq!((few.ids, few.accounts), (all.ids, all.accounts));
    assert!(all.keys_held_max as u64 >= all.ids, "{} of {}", all.keys_held_max, all.ids);
    assert!(few.keys_held_max as u64 * 3 < few.ids, "{} of {}", few.keys_held_max, few.ids);
}

/// The fault: a start that reads many runs said nothing meanwhile.
#[test]
fn a_start_hears_how_far_it_is_with_the_runs() {
    let (image, _) = directory();
    let runs = runs_of(&image).len();
    let (executor, disk) = (SimExecutor::new(1, Order::Fifo), MemoryDisk::new(image));
    let mut heard = Vec::new();
    let restoring = async {
        let store = SnapshotStore::read_only(disk, &partition_dir(Path::new(DATA), PARTITION));
        let progress = async |read, of| heard.push((read, of));
        let superblock = lone_partition::superblock();
        let restored =
            restore(&store, &superblock, PARTITION, RunsRead::All, progress).await.unwrap();
        restored.runs.entries()
    };
    let entries = executor.block_on(restoring).expect("it waits for nothing");
    assert!(heard.len() >= runs && heard.is_sorted(), "{heard:?} of {runs} runs");
    let (read, of) = heard.last().copied().unwrap();
    assert!(read == entries && of >= read, "{heard:?} of {entries}");
}

/// The fault: nothing held runs against the log, so that an id could be known to the log and new to the
/// server.
#[test]
fn a_run_that_is_whole_and_says_something_else_than_the_log_is_told() {
    let (image, _) = directory();
    let changes: [(&str, Change); 3] = [
        ("another verdict", |_, entries| entries[7].code ^= 1),
        ("another offset", |header, entries| {
            let entry = &mut entries[7];
            let next = entry.offset + 1;
            entry.offset = if next == header.end { header.first } else { next };
        }),
        ("another id", |_, entries| {
            let before = entries[6].hash;
            entries[7].hash = before + ((entries[7].hash - before) >> 17 << 16);
        }),
    ];
    for path in runs_of(&image) {
        for (what, edit) in changes {
            let mut image = image.clone();
            change(image.get_mut(&path).unwrap(), edit);
            let checked = checked(image, None);
            let told = &checked.complaints;
            let name = path.display().to_string();
            assert_eq!(told.len(), 1, "{what}: {told:?}");
            assert_eq!(told[0].reason, Reason::Disagreement, "{what}: {told:?}");
            let words = "has other ids than the log";
            assert!(told[0].message.contains(&name) && told[0].message.contains(words), "{told:?}");
            assert!(!checked.starts, "a start would believe it");
        }
    }
}

#[test]
fn a_run_that_is_damaged_or_missing_is_told_with_its_place_and_is_made_again() {
    let (image, digest) = directory();
    for path in runs_of(&image) {
        let name = path.display().to_string();
        for is_missing in [false, true] {
            let mut image = image.clone();
            if is_missing {
                image.remove(&path);
            } else {
                image.get_mut(&path).unwrap()[BLOCK_BYTES + 100] ^= 4;
            }
            let checked = checked(image, Some(KEYS_MAX));
            let told = &checked.complaints;
            assert_eq!(told.len(), 1, "{told:?}");
            let (reason, said) = (told[0].reason, &told[0].message);
            assert_eq!(reason, Reason::Damaged, "{said}");
            let place = if is_missing { "missing" } else { "block 0" };
            assert!(said.contains(&name) && said.contains(place), "{said}");
            assert!(said.contains("makes it again from the log"), "{said}");
            assert!(checked.starts, "{said}");
            assert_eq!(checked.digest, Some(digest));
        }
    }
}

#[test]
fn dump_describes_each_block_of_a_run_and_says_which_is_bad() {
    let (image, _) = directory();
    let path = runs_of(&image).swap_remove(0);
    let mut bytes = image[&path].clone();
    let header = RunHeader::from_block(bytes.first_chunk().unwrap()).unwrap();
    let dir = TestDir::new("checked-ids");
    let dump = |bytes: &[u8]| {
        std::fs::write(dir.path().join("one.run"), bytes).unwrap();
        let output = run_command(None, dir.path(), &["dump", "one.run"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = dump(&bytes);
    assert_eq!(said.lines().count() as u64, 2 + header.blocks(), "{said}");
    assert!(said.contains(&format!("block {0}: {0} fences", header.blocks())), "{said}");
    assert!(said.contains(&format!("entries: {}", header.entries)), "{said}");
    let first = format!("4096  block 0: {} entries, hashes ", header.entries_in(0));
    assert!(said.contains(&first) && !said.contains("bad"), "{said}");
    bytes[BLOCK_BYTES + 100] ^= 4;
    let last = bytes.len() - BLOCK_BYTES;
    bytes[last + 100] ^= 4;
    let said = dump(&bytes);
    assert!(said.contains("4096  bad: block 0: "), "{said}");
    assert!(said.contains(&format!("{last}  bad: block {}: ", header.blocks())), "{said}");
    let said = dump(&bytes[..bytes.len() - 1]);
    assert!(said.contains("bad: it should end after"), "{said}");
}
