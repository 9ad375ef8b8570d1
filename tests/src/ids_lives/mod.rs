//! Lives of a partition whose ids are on disk, with few in memory and small runs, so that runs are written and
//! merged all the time; and everything that can go wrong with a disk goes wrong with their files and those of
//! snapshots. After each life all of it is compared with a ledger that has every id in memory.

mod check;
mod faults;
mod load;
mod partition;
mod twins;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walengine::data_dir::create_partition;
use walengine::fatal::Fatal;
use walengine::ids::MergeSizes;
use walengine::ledger::Ledger;
use walengine::partition::{opening, snapshots};
#[cfg(feature = "planted")]
use walengine::planted::{Planted, plant};
use walengine::runtime::Runtime as _;
use walengine::storage::disk::Disk as _;
use walengine::storage::layout::Superblock;
use walengine::storage::snapshot::SnapshotStore;

use crate::lone_partition::{self, DATA, PARTITION};
use crate::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime, Stopped};
use check::Memory;
use faults::Fault;
use load::Load;
use partition::SimPartition;

const LIVES: u64 = 6;
/// Keys that the partition keeps in memory.
const RECENT_KEYS_MAX: usize = 60;
/// So small that a few hundred keys are merged twice.
const MERGE_SIZES: MergeSizes = MergeSizes { group_runs: 3, small_entries: 50 };
/// Batches of a life.
const BATCHES: u64 = 30;
/// Everything that is due is done by then.
const LONG: Duration = Duration::from_secs(15);

/// Length of a segment in bytes: small, since a power cut copies it.
const SEGMENT_BYTES: u64 = 2 << 20;

/// What one seed came across.
#[derive(Debug, Default)]
pub struct Seen {
    /// Lives that ended with a power cut.
    pub crashes: u64,
    /// What failed, or was under way as the power did: fault, operation, kind of file.
    pub faults: BTreeSet<String>,
    /// Snapshots that were passed over.
    pub skipped: u64,
    /// Records in the log at the end.
    pub records: u64,
    /// Entries in the largest run.
    pub run_entries_max: u64,
}

/// Runs all lives of one seed.
///
/// # Panics
/// If the partition says anything else than a ledger that has all ids in memory, or does not start.
pub fn run(seed: u64) -> Seen {
    let mut rng = Rng::new(seed);
    // In others nothing ever is damaged, and no snapshot may be passed over.
    let may_harm = seed.is_multiple_of(3);
    let load = Load::new(rng.next_u64());
    Lives {
        rng,
        may_harm,
        has_found_damage: false,
        clock: Duration::ZERO,
        load,
        memory: Memory::default(),
        seen: Seen::default(),
    }
    .run()
}

/// As [`run`], with a bug in the engine.
///
/// # Panics
/// As it, if the bug is found.
#[cfg(feature = "planted")]
pub fn run_with(bug: Option<Planted>, seed: u64) -> Seen {
    plant(bug);
    run(seed)
}

struct Lives {
    rng: Rng,
    may_harm: bool,
    /// A life has ended because a run was damaged.
    has_found_damage: bool,
    /// How long all lives were.
    clock: Duration,
    load: Load,
    memory: Memory,
    seen: Seen,
}

/// A machine that is on.
struct Machine {
    executor: SimExecutor,
    runtime: SimRuntime,
    disk: SimDisk,
}

impl Lives {
    fn run(mut self) -> Seen {
        let machine = self.machine(None);
        let formatted = machine.executor.block_on(format(machine.runtime, machine.disk.clone()));
        formatted.expect("a healthy machine");
        let mut disk = machine.disk;
        for life in 1.. {
            let is_last = life >= LIVES;
            if !self.may_harm && self.rng.percent(30) {
                self.start_from_the_older_snapshot(&disk);
            }
            let machine = self.machine(Some(&disk));
            disk = machine.disk.clone();
            if self.may_harm && life <= LIVES && self.rng.percent(40) {
                faults::harm(&disk, &mut self.rng);
            }
            let ended = self.live(&machine, is_last);
            faults::note(&disk, &mut self.seen.faults);
            self.clock += machine.runtime.elapsed();
            match ended {
                Ok(()) if is_last => break,
                Ok(()) => {}
                Err(_) => {
                    let is_excused = !is_last || std::mem::take(&mut self.has_found_damage);
                    assert!(is_excused, "nothing ends the last life");
                    self.seen.crashes += 1;
                }
            }
        }
        self.seen
    }

    /// A machine that is turned on, with what a power cut leaves of a disk. Its clock goes on.
    fn machine(&mut self, disk: Option<&SimDisk>) -> Machine {
        let executor = SimExecutor::new(self.rng.next_u64(), Order::Random);
        let runtime = executor.runtime();
        runtime.jump_wall(i64::try_from(self.clock.as_nanos()).expect("centuries"));
        let seed = self.rng.next_u64();
        let disk =
            disk.map_or_else(|| SimDisk::new(&runtime, seed), |disk| disk.crash(&runtime, seed));
        disk.set_faults(|faults| faults.capacity_bytes = u64::MAX);
        Machine { executor, runtime, disk }
    }

    /// In another world, in which the newest snapshot is gone, the one before it serves: its runs are there.
    fn start_from_the_older_snapshot(&mut self, disk: &SimDisk) {
        let machine = self.machine(Some(disk));
        let memory = self.memory.clone();
        let snapshots = faults::snapshots(&machine.disk);
        let started = machine.executor.block_on(async {
            if let [_, .., newest] = &snapshots[..] {
                machine.disk.remove(newest).await.expect("a healthy disk");
            }
            let (partition, _, skipped) = Box::pin(open(&machine)).await.expect("it starts");
            assert_eq!(skipped, 0, "the older snapshot can't be used");
            let mut memory = memory;
            memory.check(&partition).await;
        });
        started.expect("nothing ends it");
    }

    fn live(&mut self, machine: &Machine, is_last: bool) -> Result<(), Stopped> {
        let fault = if is_last { Fault::None } else { Fault::draw(&mut self.rng, self.may_harm) };
        let at_start = !is_last && self.rng.percent(25);
        if at_start {
            fault.plan(&machine.disk, &mut self.rng, true);
        }
        let opened = machine.executor.block_on(open(machine))?;
        if at_start && fault.may_end_the_start(&machine.disk) && opened.is_err() {
            return Err(Stopped::Halted);
        }
        let (partition, store, skipped) =
            opened.unwrap_or_else(|fatal| panic!("no start: {fatal}"));
        let is_excused = self.may_harm || at_start && matches!(fault, Fault::Runs(_));
        assert!(skipped == 0 || is_excused, "a snapshot can't be used, and nothing was damaged");
        self.seen.skipped += skipped;
        let is_silent = matches!(fault, Fault::Silent(_));
        if is_silent && !machine.disk.failed().is_empty() {
            return Err(Stopped::Halted); // a run is not what was written, which the next start finds
        }
        machine.disk.plan_nothing();
        machine.disk.crash_never();
        let (runtime, disk) = (&machine.runtime, &machine.disk);
        // A start that believes a saved filter does not read all runs. What is damaged is told, and the next
        // start makes it again.
        let older = partition.older_ids();
        let whole = machine.executor.block_on(older.check_runs(async |_| true))?;
        if whole.is_err() {
            assert!(is_excused, "a run is damaged, and nothing was harmed: {whole:?}");
            machine.executor.block_on(older.distrust_runs())?.expect("a healthy disk");
            self.has_found_damage = true;
            return Err(Stopped::Halted);
        }
        machine.executor.block_on(self.memory.check(&partition))?;
        if !at_start {
            fault.plan(disk, &mut self.rng, false);
        }
        machine.executor.block_on(self.load_on(&partition, &store, runtime, is_silent))?;
        disk.plan_nothing();
        disk.set_faults(|faults| faults.capacity_bytes = u64::MAX);
        partition.set_full(false);
        machine.executor.block_on(async {
            runtime.sleep(LONG).await;
            if !is_silent {
                self.memory.check(&partition).await;
            }
        })?;
        let metas = partition.runs().metas();
        let largest = metas.iter().map(|meta| meta.entries).max();
        self.seen.run_entries_max = self.seen.run_entries_max.max(largest.unwrap_or_default());
        if is_last {
            machine.executor.block_on(end(&partition, &store, disk))?;
            self.seen.records = partition.visible_offset().0;
        }
        Ok(())
    }

    async fn load_on(
        &mut self,
        partition: &SimPartition,
        store: &SnapshotStore<SimDisk>,
        runtime: &SimRuntime,
        is_silent: bool,
    ) {
        for _ in 0..BATCHES {
            let rng = &mut self.rng;
            if rng.percent(15) {
                let (partition, store) = (partition.clone(), store.clone());
                let take = async move {
                    let _ = snapshots::take(&partition, &store).await; // the disk may refuse
                };
                runtime.spawn(take);
            }
            if rng.percent(5) {
                partition.set_full(!partition.is_full());
            }
            let sent = self.load.send(rng, partition, runtime, &mut self.memory).await;
            assert!(sent || is_silent || partition.is_full(), "it waits for ever");
            if rng.percent(40) {
                runtime.sleep(Duration::from_millis(rng.below(60))).await;
            }
        }
    }
}

fn superblock() -> Superblock {
    Superblock { segment_bytes: SEGMENT_BYTES, ..lone_partition::superblock() }
}

async fn format(runtime: SimRuntime, disk: SimDisk) {
    let (data, superblock) = (Path::new(DATA), superblock());
    create_partition(&disk, runtime, data, &superblock, PARTITION).await.expect("an empty disk");
    disk.sync_dir(data).await.expect("a healthy disk");
    disk.sync_dir(Path::new("/")).await.expect("a healthy disk");
}

/// Starts the partition as a server does; and how many snapshots were passed over.
async fn open(machine: &Machine) -> Result<(SimPartition, SnapshotStore<SimDisk>, u64), Fatal> {
    let (disk, runtime) = (machine.disk.clone(), machine.runtime.clone());
    let (data, superblock) = (Path::new(DATA), superblock());
    let mut opened = opening::open(disk, runtime, data, &superblock, PARTITION, 4).await?;
    opened.restored.runs.set_merge_sizes(MERGE_SIZES);
    opened.recent_keys_max = RECENT_KEYS_MAX;
    let (store, skipped) = (opened.store.clone(), opened.restored.skipped.len() as u64);
    Ok((opened.serve_alone().await?, store, skipped))
}

/// After a snapshot, no file is left that nobody needs, and the ids in memory are few.
async fn end(partition: &SimPartition, store: &SnapshotStore<SimDisk>, disk: &SimDisk) {
    for _ in 0..2 {
        snapshots::take(partition, store).await.expect("a healthy disk");
        partition.runtime().sleep(LONG).await;
    }
    let recent = partition.with_ledger(Ledger::recent_len);
    assert!(recent < 3 * RECENT_KEYS_MAX, "{recent} keys are in memory");
    let mut needed = partition.runs().named().all().expect("whole snapshots");
    needed.extend(partition.runs().list());
    let needed = needed.iter().map(|run| format!("{:016x}-{:016x}.run", run.first, run.end));
    let needed: BTreeSet<String> = needed.collect();
    let there = faults::runs(disk);
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let there: BTreeSet<String> = there.iter().filter_map(name).collect();
    assert_eq!(there, needed, "files that nobody needs, or too few");
}
