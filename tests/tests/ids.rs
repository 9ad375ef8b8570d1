//! Do the runs of ids that were named hold what they did when the power fails at any boundary?
//!
//! A simulated machine adds runs, merges and removes files at the same time, and names its lists outside
//! of itself, as snapshots do. The power fails somewhere; whatever list was named must open then, and
//! hold the entries of exactly the offsets that it covers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine::ids::Sought;
use walengine::ids::key::{Space, hash_of_id};
use walengine::ids::run::{RunEntry, RunMeta, RunRange};
use walengine::ids::runs::Runs;
use walengine::runtime::Runtime;
use walengine_net::model::{ClusterId, PartitionId};
use walengine_tests::ids_lives::{self, Seen};
use walengine_tests::seeds::{count, each_of};
use walengine_tests::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime};

const SEEDS: u64 = 60;
const LIVES: u64 = 4;
/// Runs that are added in a life whose power does not fail.
const RUNS: u64 = 17;
/// Boundaries within which the power fails in most lives.
const BOUNDARIES: u64 = 150;
const DATA: &str = "/data/p0003";
const CLUSTER: ClusterId = ClusterId(0xfeed);
const PARTITION: PartitionId = PartitionId(3);

/// Lists that a restart may begin with, the newest last: what two kept snapshots say.
type Named = Rc<RefCell<Vec<Vec<RunRange>>>>;

#[test]
fn named_runs_survive_a_crash_at_any_boundary() {
    let lives = each_of("ids::named_runs_survive_a_crash", SEEDS, |seed| {
        let named = Named::new(RefCell::new(vec![Vec::new()]));
        let mut rng = Rng::new(seed);
        let executor = SimExecutor::new(seed, Order::Random);
        let mut disk = SimDisk::new(&executor.runtime(), seed);
        disk.install_dir(Path::new(DATA));
        let mut crashes = 0;
        for life in 0..LIVES {
            let executor = SimExecutor::new(rng.next_u64(), Order::Random);
            let runtime = executor.runtime();
            disk = disk.crash(&runtime, rng.next_u64());
            let lists = named.borrow().clone();
            for list in &lists {
                executor.block_on(check(&disk, list)).expect("nothing waits for ever");
            }
            if life + 1 < LIVES {
                disk.crash_at(rng.between(1, BOUNDARIES));
            }
            let ended =
                executor.block_on(live(runtime, disk.clone(), named.clone(), rng.next_u64()));
            assert!(life + 1 < LIVES || ended.is_ok(), "{ended:?}");
            crashes += u64::from(ended.is_err());
        }
        let list = named.borrow().last().cloned().unwrap_or_default();
        let there: Vec<PathBuf> = disk.image().into_iter().map(|(path, _)| path).collect();
        assert_eq!(there.len(), list.len(), "{there:?} for {list:?}");
        (crashes, list.len() as u64, list.last().map_or(0, |range| range.end))
    });
    let sum = |of: fn(&(u64, u64, u64)) -> u64| lives.iter().map(of).sum::<u64>();
    let (crashes, runs, ids) = (sum(|seed| seed.0), sum(|seed| seed.1), sum(|seed| seed.2));
    println!("{} seeds: {crashes} crashes, {runs} runs, {ids} ids", lives.len());
    let enough = crashes >= 2 * lives.len() as u64 && ids >= 1000 * lives.len() as u64;
    assert!(enough || lives.len() == 1, "the schedule misses what it is for");
}

fn entry(offset: u64) -> RunEntry {
    let hash = match hash_of_id(u128::from(offset), Space::Event) {
        few if few % 8 == 0 => (few % 64) << 40,
        hash => RunEntry::cut(hash),
    };
    RunEntry { hash, code: offset as u8, offset }
}

async fn open(disk: &SimDisk, list: &[RunRange], on: impl FnMut(u64)) -> Runs<SimDisk> {
    let opened = Runs::open(
        disk.clone(),
        Path::new(DATA),
        (CLUSTER, PARTITION),
        list,
        &[],
        on,
        async |_| {},
    );
    opened.await.unwrap_or_else(|error| panic!("{error}"))
}

/// The list opens, and its runs hold what the offsets that it covers have.
async fn check(disk: &SimDisk, list: &[RunRange]) {
    let mut found = Vec::new();
    let runs = open(disk, list, |hash| found.push(hash)).await;
    let mut expected: Vec<RunEntry> = (0..runs.end()).map(entry).collect();
    expected.sort_by_key(RunEntry::order);
    found.sort_unstable();
    assert!(found.iter().eq(expected.iter().map(|entry| &entry.hash)));
    let mut hashes = found;
    hashes.dedup();
    let sought = hashes.iter().map(|hash| Sought::hash(*hash)).collect();
    let (mut answers, mut look_up) = (Vec::new(), runs.look_up(sought));
    while let Some(piece) = look_up.next().await.expect("a healthy disk") {
        answers.extend(piece);
    }
    answers.sort_by_key(RunEntry::order);
    assert!(answers == expected);
}

async fn live(runtime: SimRuntime, disk: SimDisk, named: Named, seed: u64) {
    let mut rng = Rng::new(seed);
    let list = named.borrow().last().cloned().expect("one is always named");
    let runs = open(&disk, &list, |_| {}).await;
    let merging = Rc::new(RefCell::new(0));
    for _ in 0..RUNS {
        add(&runs, 1 + rng.below(500)).await;
        name(&runs, &named);
        if let Some(plan) = runs.merge_due() {
            let (runs, named, merging) = (runs.clone(), named.clone(), merging.clone());
            *merging.borrow_mut() += 1;
            runtime.spawn(async move {
                runs.merge(plan, async || {}).await.expect("a healthy disk");
                name(&runs, &named);
                *merging.borrow_mut() -= 1;
            });
        }
        if rng.below(2) == 0 {
            keep_named(&runs, &named);
            runs.prune().await.expect("a healthy disk");
        }
    }
    while *merging.borrow() > 0 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    name(&runs, &named);
    *named.borrow_mut() = vec![runs.list()];
    keep_named(&runs, &named);
    runs.prune().await.expect("a healthy disk");
}

async fn add(runs: &Runs<SimDisk>, offsets: u64) {
    let (first, end) = (runs.end(), runs.end() + offsets);
    let mut entries: Vec<RunEntry> = (first..end).map(entry).collect();
    entries.sort_by_key(RunEntry::order);
    let (id_low, id_high) = (u128::from(first), u128::from(end - 1));
    let meta = RunMeta { first, end, entries: offsets, id_low, id_high };
    let mut writer = runs.begin(meta).await.expect("a healthy disk");
    for entry in entries {
        writer.push(entry).await.expect("in order");
    }
    runs.add(writer).await.expect("a healthy disk");
}

/// Files that a list names stay.
fn keep_named(runs: &Runs<SimDisk>, named: &Named) {
    runs.named().note(1, Some(named.borrow().concat()));
}

/// As a snapshot does: the newest list counts, and the one before it is kept.
fn name(runs: &Runs<SimDisk>, named: &Named) {
    let mut named = named.borrow_mut();
    named.push(runs.list());
    let old = named.len().saturating_sub(2);
    named.drain(..old);
}

/// Seeds of the suite: about five seconds of two cores.
const LIVES_SEEDS_DEFAULT: u64 = 40;
/// With so many seeds every operation meets every fault.
const ALL_FAULTS_SEEDS: u64 = 1000;

/// Every id is answered as by a ledger that has all of them in memory, whatever happens to the files.
#[test]
fn ids_are_what_they_were_whatever_happens_to_runs_and_snapshots() {
    let seeds = count(LIVES_SEEDS_DEFAULT);
    let seen = each_of("ids::ids_are_what_they_were", seeds, ids_lives::run);
    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    let (crashes, records, skipped) =
        (sum(|it| it.crashes), sum(|it| it.records), sum(|it| it.skipped));
    let largest = seen.iter().map(|it| it.run_entries_max).max().unwrap_or_default();
    let faults: BTreeSet<String> = seen.iter().flat_map(|it| it.faults.iter().cloned()).collect();
    println!(
        "{} seeds: {crashes} power cuts, {records} records, {skipped} snapshots passed over, {largest} entries \
         in the largest run, {} kinds of faults",
        seen.len(),
        faults.len()
    );
    if seen.len() == 1 {
        return;
    }
    assert!(crashes >= seen.len() as u64 && records >= 500 * seen.len() as u64 && largest > 500);
    if seeds >= ALL_FAULTS_SEEDS {
        let missed = all_faults().into_iter().filter(|fault| !faults.contains(fault));
        let missed: Vec<_> = missed.collect();
        assert!(missed.is_empty(), "never happened: {missed:?}; happened: {faults:?}");
    }
}

/// A power cut in each half of, and each error of, every operation on runs and on snapshots.
fn all_faults() -> Vec<String> {
    let operations =
        ["Open", "Create", "Rename", "Remove", "SyncDir", "List", "Write", "Read", "Sync", "Len"];
    let mut all = Vec::new();
    for part in ["/ids", "/snapshots"] {
        for operation in operations {
            for fault in ["power Submitted", "power Completed", "Eio", "Enospc", "Short"] {
                all.push(format!("{fault} {operation} {part}"));
            }
        }
        all.extend(["Lose", "Flip", "Misdirect"].map(|fault| format!("{fault} Write {part}")));
    }
    all
}
