//! Runs on real files, through glommio.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use glommio::LocalExecutorBuilder;
use walengine_net::model::{ClusterId, PartitionId};

use super::key::{Key, Space, hash_of_id};
use super::look_up::Sought;
use super::merge::MergeSizes;
use super::names::RunRange;
use super::run::{Run, RunEntry, RunMeta, RunWriter};
use super::runs::{Runs, RunsError};
use crate::storage::glommio_disk::GlommioDisk;

const CLUSTER: ClusterId = ClusterId(0xfeed);
const PARTITION: PartitionId = PartitionId(3);

type TestRuns = Runs<GlommioDisk>;
/// What the runs must say: the entries of each hash, cut to 48 bits.
type Model = BTreeMap<u64, Vec<RunEntry>>;

/// A partition's directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("walengine-ids-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join("ids")).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn file(&self, range: RunRange) -> PathBuf {
        self.0.join(format!("ids/{:016x}-{:016x}.run", range.first, range.end))
    }

    async fn open(&self, list: &[RunRange]) -> Result<TestRuns, RunsError> {
        self.open_with(list, |_| {}).await
    }

    async fn open_with(
        &self,
        list: &[RunRange],
        on: impl FnMut(u64),
    ) -> Result<TestRuns, RunsError> {
        self.open_knowing(list, &[], on).await
    }

    async fn open_knowing(
        &self,
        list: &[RunRange],
        known: &[RunMeta],
        on: impl FnMut(u64),
    ) -> Result<TestRuns, RunsError> {
        let (disk, ids) = (GlommioDisk::new(&self.0), (CLUSTER, PARTITION));
        Runs::open(disk, &self.0, ids, list, known, on, async |_| {}).await
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let executor = LocalExecutorBuilder::default().io_memory(4 << 20).make().unwrap();
    executor.run(test)
}

fn random(number: u64) -> u64 {
    hash_of_id(u128::from(number), Space::Event)
}

/// Entries for the offsets of a run, in order, of hashes that `hash` gives.
fn entries(range: RunRange, hash: impl Fn(u64) -> u64) -> Vec<RunEntry> {
    let entry = |offset| RunEntry { hash: RunEntry::cut(hash(offset)), code: offset as u8, offset };
    let mut entries: Vec<RunEntry> = (range.first..range.end).map(entry).collect();
    entries.sort_by_key(RunEntry::order);
    entries
}

fn meta(range: RunRange, entries: u64) -> RunMeta {
    let (low, high) = (u128::from(range.first), u128::from(range.end));
    RunMeta { first: range.first, end: range.end, entries, id_low: low, id_high: high }
}

async fn write(runs: &TestRuns, entries: &[RunEntry], end: u64) -> RunWriter<GlommioDisk> {
    let range = RunRange { first: runs.end(), end };
    let mut writer = runs.begin(meta(range, entries.len() as u64)).await.unwrap();
    for entry in entries {
        writer.push(*entry).await.unwrap();
    }
    writer
}

/// Adds the next run, with an entry for each offset.
async fn add(runs: &TestRuns, offsets: u64, model: &mut Model, hash: impl Fn(u64) -> u64) {
    let range = RunRange { first: runs.end(), end: runs.end() + offsets };
    let entries = entries(range, hash);
    runs.add(write(runs, &entries, range.end).await).await.unwrap();
    for entry in entries {
        model.entry(entry.hash).or_default().push(entry);
    }
    assert_eq!(runs.end(), range.end);
}

/// All that a look-up finds, in order.
async fn look_up(runs: &TestRuns, hashes: &[u64]) -> io::Result<Vec<RunEntry>> {
    let sought = hashes.iter().map(|hash| Sought::hash(*hash)).collect();
    let (mut look_up, mut found) = (runs.look_up(sought), Vec::new());
    while let Some(piece) = look_up.next().await? {
        found.extend(piece);
    }
    found.sort_by_key(RunEntry::order);
    Ok(found)
}

async fn check(runs: &TestRuns, model: &Model, absent: &[u64]) {
    let mut hashes: Vec<u64> = model.keys().copied().collect();
    hashes.extend_from_slice(absent);
    hashes.sort_unstable_by_key(|hash| RunEntry::cut(*hash));
    hashes.dedup_by_key(|hash| RunEntry::cut(*hash));
    let of = |hash: &u64| model.get(&RunEntry::cut(*hash)).into_iter().flatten().copied();
    let expected: Vec<RunEntry> = hashes.iter().flat_map(of).collect();
    hashes.extend_from_within(..); // each twice, and found once
    assert_eq!(look_up(runs, &hashes).await.unwrap(), expected);
    assert_eq!(runs.entries(), model.values().map(Vec::len).sum::<usize>() as u64);
}

/// Runs of random sizes, added, merged, pruned and opened again, say what a map says.
#[test]
fn look_ups_are_those_of_a_map_whatever_is_merged() {
    run(async {
        for seed in 0..4u64 {
            let dir = Dir::new();
            let (mut runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
            // Many equal hashes, some of them over several blocks.
            let hash = |offset: u64| match random(offset ^ seed << 32) {
                few if few % 8 == 0 => ((few % 5) << 40) | ((few % 7) << 16),
                other => other,
            };
            for round in 0..25u64 {
                add(&runs, 1 + random(seed << 8 | round) % 3000, &mut model, hash).await;
                if let Some(plan) = runs.merge_due() {
                    let (merged, before) = (plan.meta(), runs.metas());
                    let mut pauses = 0;
                    runs.merge(plan, async || pauses += 1).await.unwrap();
                    assert_eq!(pauses, merged.entries / 4096);
                    assert!(runs.metas().contains(&merged) && !before.contains(&merged));
                    assert_eq!(merged.id_low, u128::from(merged.first));
                    assert_eq!(merged.id_high, u128::from(merged.end));
                }
                if round % 5 == 4 {
                    runs.prune().await.unwrap();
                    assert_eq!(dir.names().len(), runs.list().len());
                    let mut opened = Vec::new();
                    let list = runs.list();
                    runs = dir.open_with(&list, |hash| opened.push(hash)).await.unwrap();
                    opened.sort_unstable();
                    let all = model.iter().flat_map(|(hash, same)| same.iter().map(|_| *hash));
                    assert!(opened.into_iter().eq(all));
                }
                check(&runs, &model, &[0, 1, u64::MAX, random(seed << 40)]).await;
            }
            assert!(runs.list().len() < 8 + 3, "{:?}", runs.list());
            let blocks: u64 = runs.metas().iter().map(|run| run.entries.div_ceil(340)).sum();
            assert_eq!(runs.fence_bytes(), blocks * 8);
            let others = 2 * runs.list().len() as u64; // a header and a block of fences each
            assert_eq!(runs.disk_bytes(), (blocks + others) * 4096);
        }
    });
}

#[test]
fn equal_hashes_over_many_blocks_are_all_found() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        for equal in [339, 340, 341, 1500] {
            let first = runs.end();
            let hash = |offset| if offset - first < equal { 5 << 16 } else { random(offset) };
            add(&runs, 2000, &mut model, hash).await;
        }
        check(&runs, &model, &[4 << 16, 6 << 16]).await;
        let range = runs.list()[3];
        let on_entry = |_: RunEntry| {};
        let disk = GlommioDisk::new(&dir.0);
        let ids = crate::storage::ids::Ids { cluster: CLUSTER, partition: PARTITION };
        let run = Run::open(&disk, &dir.0.join("ids"), ids, range, on_entry, async |_| {}).await;
        let run = run.unwrap();
        assert_eq!(run.find((5 << 16) + 77).await.unwrap().len(), 1500);
        assert_eq!(run.find(4 << 16).await.unwrap(), []);
        let (mut scanned, mut last) = (0, 0);
        run.scan(|_| scanned += 1, async |entries| last = entries).await.unwrap();
        assert_eq!((scanned, last), (2000, 2000));
    });
}

/// Whoever makes ids with one hash gets no more of them into memory at once.
#[test]
fn what_a_look_up_finds_comes_in_pieces() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        for _ in 0..2 {
            add(&runs, 200_000, &mut model, |_| 5 << 16).await;
        }
        let sought = vec![Sought::hash(5 << 16); 1000];
        let (mut found, mut look_up) = (Vec::new(), runs.look_up(sought));
        while let Some(piece) = look_up.next().await.unwrap() {
            assert!(piece.len() <= 512 * 340, "{}", piece.len());
            found.extend(piece);
        }
        found.sort_by_key(RunEntry::order);
        assert_eq!(Some(&found), model.get(&(5 << 16)));
    });
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

#[test]
fn a_flipped_bit_is_found_at_open_and_by_look_ups() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        add(&runs, 1000, &mut model, random).await;
        let list = runs.list();
        let path = dir.file(list[0]);
        let hashes: Vec<u64> = model.keys().copied().collect();
        for position in (0..4 * 4096).step_by(53) {
            flip(&path, position);
            match dir.open(&list).await {
                Err(RunsError::Damaged { path: found, why }) => {
                    assert_eq!(found, path);
                    assert!(why.starts_with(&path.display().to_string()), "{why}");
                    let block = position / 4096;
                    let place = if block == 0 {
                        "header".to_owned()
                    } else {
                        format!("block {}:", block - 1)
                    };
                    assert!(why.contains(&place), "{why} at {position}");
                }
                Err(error) => panic!("{error} at {position}"),
                Ok(_) => panic!("opened with a bit flipped at {position}"),
            }
            if position >= 4096 {
                let error = look_up(&runs, &hashes).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{position}");
            }
            flip(&path, position);
        }
        check(&runs, &model, &[]).await;
    });
}

#[test]
fn blocks_in_each_others_places_are_damage() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        add(&runs, 1000, &mut model, |_| 9 << 16).await; // in order wherever they stand
        let list = runs.list();
        let path = dir.file(list[0]);
        let good = std::fs::read(&path).unwrap();
        let mut swapped = good.clone();
        swapped[4096..8192].copy_from_slice(&good[8192..12288]);
        swapped[8192..12288].copy_from_slice(&good[4096..8192]);
        for bad in [&swapped[..], &good[..good.len() - 4096], &good[..100], &[]] {
            std::fs::write(&path, bad).unwrap();
            let opened = dir.open(&list).await;
            assert!(matches!(opened, Err(RunsError::Damaged { .. })), "{} bytes", bad.len());
        }
        let mut longer = good.clone();
        longer.resize(good.len() + 4096, 0);
        std::fs::write(&path, longer).unwrap();
        assert!(matches!(dir.open(&list).await, Err(RunsError::Damaged { .. })));
        std::fs::write(&path, &good).unwrap();
        let other = PartitionId(4);
        let disk = GlommioDisk::new(&dir.0);
        let opened =
            Runs::open(disk, &dir.0, (CLUSTER, other), &list, &[], |_| {}, async |_| {}).await;
        assert!(matches!(opened, Err(RunsError::Damaged { .. })), "of another partition");
        let renamed = RunRange { first: 0, end: list[0].end + 1 };
        std::fs::rename(&path, dir.file(renamed)).unwrap();
        assert!(matches!(dir.open(&[renamed]).await, Err(RunsError::Damaged { .. })));
        let missing = dir.open(&list).await;
        assert!(matches!(missing, Err(RunsError::Missing { path: at }) if at == path));
    });
}

#[test]
fn a_list_with_a_gap_is_refused() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        for _ in 0..3 {
            add(&runs, 10, &mut model, random).await;
        }
        let list = runs.list();
        for list in [&list[1..], &[list[0], list[2]], &[list[0], list[0]]] {
            assert!(matches!(dir.open(list).await, Err(RunsError::List { .. })), "{list:?}");
        }
        assert_eq!(dir.open(&list[..2]).await.unwrap().end(), 20);
    });
}

#[test]
fn what_is_written_is_counted_each_time_that_it_is() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        assert_eq!(runs.written_bytes(), 0);
        for _ in 0..8 {
            add(&runs, 1000, &mut model, random).await;
        }
        let once = runs.disk_bytes();
        assert_eq!(runs.written_bytes(), once);
        runs.merge(runs.merge_due().unwrap(), async || {}).await.unwrap();
        assert_eq!(runs.list().len(), 1);
        assert_eq!(runs.written_bytes(), once + runs.disk_bytes());
        assert_eq!(dir.open(&runs.list()).await.unwrap().written_bytes(), 0, "since it was opened");
    });
}

#[test]
fn a_run_takes_exactly_what_was_announced() {
    run(async {
        let dir = Dir::new();
        let runs = dir.open(&[]).await.unwrap();
        let range = RunRange { first: 0, end: 10 };
        let entries = entries(range, random);
        let invalid = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        };
        let mut writer = runs.begin(meta(range, 2)).await.unwrap();
        let again = runs.begin(meta(range, 2)).await.err().map(|error| error.kind());
        assert_eq!(again, Some(io::ErrorKind::ResourceBusy));
        writer.push(entries[1]).await.unwrap();
        invalid(writer.push(entries[0]).await);
        invalid(writer.push(RunEntry { offset: 10, ..entries[2] }).await);
        writer.push(entries[2]).await.unwrap();
        invalid(writer.push(entries[3]).await);
        writer.abort().await.unwrap();
        assert_eq!(dir.names(), [""; 0]);
        let mut some: Vec<RunEntry> = entries.iter().copied().filter(|e| e.offset < 9).collect();
        some.truncate(3);
        runs.add(write(&runs, &some, 9).await).await.unwrap();
        invalid(runs.begin(meta(range, 1)).await.map(|_| ()));
        invalid(runs.begin(meta(RunRange { first: 9, end: 9 }, 0)).await.map(|_| ()));
        let short = runs.begin(meta(RunRange { first: 9, end: 12 }, 1)).await.unwrap();
        invalid(runs.add(short).await);
        assert_eq!(runs.end(), 9);
        let none = runs.begin(meta(RunRange { first: 9, end: 12 }, 0)).await.unwrap();
        runs.add(none).await.unwrap();
        assert_eq!(dir.open(&runs.list()).await.unwrap().entries(), 3);
    });
}

#[test]
fn what_is_neither_listed_nor_kept_nor_written_is_removed() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        runs.prune().await.unwrap();
        for _ in 0..9 {
            add(&runs, 1000, &mut model, random).await;
        }
        let before = runs.list();
        let plan = runs.merge_due().unwrap();
        runs.merge(plan, async || {}).await.unwrap();
        let after = runs.list();
        assert_eq!(after, [RunRange { first: 0, end: 8000 }, before[8]]);
        for name in ["0000000000000000-00000000000000aa.new", "junk", "x-y.run"] {
            std::fs::write(dir.0.join("ids").join(name), b"left by a crash").unwrap();
        }
        let writer = write(&runs, &[], 10_000).await;
        runs.named().note(1, None);
        runs.prune().await.unwrap();
        assert_eq!(dir.names().len(), 13, "nobody knows what it names: {:?}", dir.names());
        runs.named().note(1, Some(before.clone()));
        runs.prune().await.unwrap();
        assert_eq!(dir.names().len(), 11, "{:?}", dir.names());
        check(&dir.open(&before).await.unwrap(), &model, &[]).await;
        runs.named().note(1, Some(before[..1].to_vec()));
        runs.prune().await.unwrap();
        let kept = [after[0], before[0], after[1]].map(|range| dir.file(range));
        assert!(kept.iter().all(|path| path.exists()));
        assert_eq!(dir.names().len(), 4, "and the one that is being written: {:?}", dir.names());
        runs.add(writer).await.unwrap();
        runs.named().keep(&[]);
        runs.prune().await.unwrap();
        assert_eq!(dir.names().len(), 3);
        check(&runs, &model, &[]).await;
    });
}

/// The fault: a run that was merged from known ones was read whole by every start until the filter was saved again.
/// Of ids that ascend with time, old ones are in one run each: the others need not be read for them.
#[test]
fn an_event_is_looked_for_only_in_runs_whose_ids_are_around_its_own() {
    run(async {
        let dir = Dir::new();
        let runs = dir.open(&[]).await.unwrap();
        let key = |id: u64| Key::new(id.into(), Space::Event);
        let mut model = Model::new();
        for _ in 0..4 {
            add(&runs, 100, &mut model, |offset| key(offset).hash).await;
        }
        for id in [5u64, 105, 399] {
            let mut look_up = runs.look_up(vec![Sought::key(&key(id))]);
            assert_eq!(look_up.places(), 1, "one block of one run");
            let found = look_up.next().await.unwrap().unwrap();
            assert!(found.iter().any(|entry| entry.offset == id), "{id}: {found:?}");
            let resolution = Key::new(id.into(), Space::Resolution);
            assert_eq!(runs.look_up(vec![Sought::key(&resolution)]).places(), 4);
        }
        assert!(runs.look_up(vec![Sought::key(&key(401))]).has_ended(), "in none");
    });
}

#[test]
fn what_is_known_is_not_read_again_whatever_was_merged_since() {
    run(async {
        let dir = Dir::new();
        let (runs, mut model) = (dir.open(&[]).await.unwrap(), Model::new());
        for _ in 0..3 {
            add(&runs, 1000, &mut model, random).await;
        }
        let known = runs.metas();
        runs.set_merge_sizes(MergeSizes { group_runs: 2, small_entries: 1000 });
        runs.merge(runs.merge_due().unwrap(), async || {}).await.unwrap();
        let list = runs.list();
        assert_eq!(list.len(), 2, "{list:?}");
        let opened = async |known: &[RunMeta]| {
            let mut given = Vec::new();
            let opened = dir.open_knowing(&list, known, |hash| given.push(hash)).await;
            opened.map(|runs| (given, runs))
        };
        let mut others = known.clone();
        others[1].entries += 1;
        assert!(matches!(opened(&others[..2]).await, Err(RunsError::KnownOthers)));

        let hashes_from = |offset: u64| {
            let entries = model.values().flatten().filter(|entry| entry.offset >= offset);
            entries.map(|entry| entry.hash).collect::<Vec<_>>()
        };
        for known_runs in [1, 2, 3] {
            let (mut given, runs) = opened(&known[..known_runs]).await.unwrap();
            given.sort_unstable();
            let expected = hashes_from(1000 * known_runs as u64);
            assert!(
                given == expected,
                "{known_runs} runs are known: {} hashes are given",
                given.len()
            );
            check(&runs, &model, &[]).await;
        }

        let path = dir.file(list[0]);
        let spoil = |at: u64| {
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 8], at).unwrap();
        };
        spoil(4096 + 100);
        assert!(opened(&known[..2]).await.is_ok(), "its entries are not read");
        assert!(matches!(opened(&known[..1]).await, Err(RunsError::Damaged { .. })));
        spoil(4096 + 100);
        spoil(std::fs::metadata(&path).unwrap().len() - 4096 + 20);
        for known_runs in [1, 2] {
            let damaged = opened(&known[..known_runs]).await;
            assert!(
                matches!(damaged, Err(RunsError::Damaged { .. })),
                "its fences are always read"
            );
        }
    });
}
