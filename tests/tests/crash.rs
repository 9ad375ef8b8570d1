//! Does a partition keep its promises when the power fails at any boundary of its I/O?
//!
//! A seed is several lives of one partition on one simulated disk. Each ends with a crash at a
//! random boundary, some of them while the one before is being recovered from; then the partition is
//! opened again and compared with what it has promised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use walengine::storage::log::LogConfig;
use walengine_tests::checked_partition::{DATA, Partition, config};
use walengine_tests::log_oracle::Oracle;
use walengine_tests::partition_load::Load;
use walengine_tests::seeds::{each_seed, first_failure};
use walengine_tests::sim::{
    CrashSite, OpKind, Order, Rng, SimDisk, SimExecutor, SimRuntime, Stopped,
};

/// Seeds of which at least half must catch a disk without fdatasync.
const LIE_SEEDS: u64 = 40;
/// With fewer seeds than this, not every kind of boundary has to be met.
const COVERAGE_SEEDS_MIN: usize = 500;
/// Crashes of each kind that a full run has at least.
const COVERAGE_MIN: u64 = 20;

/// How many crashes there were of each kind.
type Coverage = BTreeMap<String, u64>;

/// Where the power fails next.
#[derive(Clone, Copy)]
enum Aim {
    /// While the partition is opened, at the n-th boundary of a path that holds this.
    Opening(&'static str, u64),
    /// At the n-th boundary after it was opened.
    Any(u64),
    /// At the n-th boundary of a file whose path holds this.
    Path(&'static str, u64),
    /// After the load, with everything at rest and the log closed.
    Closed,
}

impl Aim {
    fn draw(rng: &mut Rng) -> Self {
        let choice = rng.below(10);
        // As likely early as late: the number of digits is drawn first.
        let nth = |rng: &mut Rng, bits: u64| {
            let bits = rng.between(1, bits);
            rng.between(1, 1 << bits)
        };
        match choice {
            0 => Self::Opening("", rng.between(1, 100)),
            1 => {
                let parts = ["hard-state", "segments", "snapshots", ".new"];
                Self::Opening(parts[rng.index(parts.len())], rng.between(1, 20))
            }
            2 => Self::Path("segments", nth(rng, 10)),
            3 => Self::Path([".new", ".marks"][rng.index(2)], nth(rng, 6)),
            4 => Self::Path("hard-state", nth(rng, 5)),
            5 => Self::Path("snapshots", nth(rng, 7)),
            6 => Self::Closed,
            _ => Self::Any(nth(rng, 11)),
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered() {
    let coverages = each_seed("crash::nothing_acknowledged", |seed| lives(seed, false));
    let mut coverage = Coverage::new();
    for (kind, count) in coverages.iter().flatten() {
        *coverage.entry(kind.clone()).or_default() += count;
    }
    println!("crashes by kind, {} seeds: {coverage:#?}", coverages.len());
    if coverages.len() < COVERAGE_SEEDS_MIN {
        return;
    }
    let kinds = [
        "roll: Create",
        "roll: Write",
        "roll: Sync",
        "roll: Rename",
        "roll: SyncDir",
        "first flush of a segment",
        "flush",
        "zeros",
        "hard state",
        "marks: Create",
        "marks: Write",
        "marks: Rename",
        "snapshot: Create",
        "snapshot: Write",
        "snapshot: Sync",
        "snapshot: Rename",
        "snapshot: SyncDir",
        "snapshot: Remove",
        "recovery: Read",
        "recovery: Write",
        "recovery: hard state",
        "truncation",
        "at rest",
    ];
    for kind in kinds {
        let count = coverage.get(kind).copied().unwrap_or(0);
        assert!(count >= COVERAGE_MIN, "only {count} crashes of kind {kind:?}");
    }
}

#[test]
fn disk_without_fdatasync_is_caught() {
    let messages: Vec<String> = (0..LIE_SEEDS)
        .filter_map(|seed| {
            first_failure(seed..=seed, |seed| drop(lives(seed, true))).map(|found| found.1)
        })
        .collect();
    let lost = messages.iter().filter(|message| message.contains("acknowledged entries are lost"));
    let lost = lost.count();
    println!("{} of {LIE_SEEDS} seeds caught, {lost} with a loss: {messages:#?}", messages.len());
    assert!(messages.len() as u64 >= LIE_SEEDS / 2 && lost > 0, "the harness believes the disk");
}

/// All lives of one seed. With `lying`, nothing is durable once the partition was opened first.
fn lives(seed: u64, lying: bool) -> Coverage {
    let mut rng = Rng::new(seed);
    let mut coverage = Coverage::new();
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    let mut disk: Option<SimDisk> = None;
    // Entries on blocks of their own survive even sectors that tear into garbage.
    let on_blocks = rng.percent(50);
    let lives = rng.between(2, 6);
    for life in 0..=lives {
        let order = if rng.percent(80) { Order::Random } else { Order::Fifo };
        let executor = SimExecutor::new(rng.next_u64(), order);
        let runtime = executor.runtime();
        let next = match &disk {
            Some(disk) => disk.crash(&runtime, rng.next_u64()),
            None => formatted(&runtime, rng.next_u64(), on_blocks),
        };
        let aim = if life == lives { Aim::Closed } else { Aim::draw(&mut rng) };
        let ended = executor.block_on(live(
            next.clone(),
            runtime,
            oracle.clone(),
            aim,
            [lying, on_blocks],
            rng.fork(),
        ));
        match ended {
            Ok(()) | Err(Stopped::Halted) => {}
            Err(Stopped::Stalled) => panic!("life {life} waits for ever"),
        }
        let opening = matches!(aim, Aim::Opening(..));
        let cutting = oracle.borrow().is_cutting();
        let kind = next.crash_site().map_or("at rest".into(), |site| kind(&site, opening, cutting));
        *coverage.entry(kind).or_default() += 1;
        disk = Some(next);
    }
    coverage
}

fn formatted(runtime: &SimRuntime, seed: u64, garbage: bool) -> SimDisk {
    let disk = SimDisk::new(runtime, seed);
    disk.install_dir(Path::new(DATA));
    // Where entries share blocks, a truncation writes a block again that ends in acknowledged bytes.
    // That relies on sectors being old or new.
    disk.set_faults(|faults| faults.garbage = garbage);
    disk
}

/// One life: open, compare, work, and end where the power fails.
async fn live(
    disk: SimDisk,
    runtime: SimRuntime,
    oracle: Rc<RefCell<Oracle>>,
    aim: Aim,
    [lying, on_blocks]: [bool; 2],
    mut rng: Rng,
) {
    if let Aim::Opening(part, nth) = aim {
        disk.crash_at_path(part, nth);
    }
    let config = LogConfig { entries_on_blocks: on_blocks, ..config() };
    let partition = match Partition::open(disk.clone(), runtime.clone(), oracle, config).await {
        Ok(partition) => Rc::new(partition),
        Err(error) => panic!("the partition can't be opened again: {error}"),
    };
    disk.set_faults(|faults| faults.lying = lying);
    match aim {
        Aim::Opening(..) | Aim::Closed => {}
        Aim::Any(nth) => disk.crash_at(nth),
        Aim::Path(part, nth) => disk.crash_at_path(part, nth),
    }
    let steps = rng.between(20, 400);
    if rng.percent(30) {
        runtime.jump_wall(rng.below(3_000_000_000).cast_signed() - 1_000_000_000);
    }
    let mut load = Load::new(partition.clone(), rng);
    let ran = load.run(steps).await;
    ran.unwrap_or_else(|error| panic!("a healthy disk stopped the log: {error}"));
    if matches!(aim, Aim::Closed) {
        let tail = partition.log.last();
        let closed = partition.log.clone().close().await;
        closed.unwrap_or_else(|error| panic!("a healthy disk stopped the log: {error}"));
        if tail.index > 0 {
            partition.oracle.borrow_mut().acknowledge(tail.index, tail.chain);
        }
    }
}

/// What the power failed in.
fn kind(site: &CrashSite, opening: bool, cutting: bool) -> String {
    let path = site.path.to_string_lossy();
    let write = matches!(site.kind, OpKind::Write | OpKind::WriteDurable);
    let op = if write { "Write".into() } else { format!("{:?}", site.kind) };
    let saves = path.contains("hard-state") && write;
    match () {
        () if opening && saves => "recovery: hard state".into(),
        () if opening => format!("recovery: {op}"),
        () if cutting => "truncation".into(),
        () if saves => "hard state".into(),
        () if path.contains("snapshots") => format!("snapshot: {op}"),
        () if path.contains(".marks") => format!("marks: {op}"),
        () if path.contains("segments") && (path.ends_with(".new") || !write) => {
            format!("roll: {op}")
        }
        () if write && site.zeros => "zeros".into(),
        () if write && site.offset == 0 => "first flush of a segment".into(),
        () if write => "flush".into(),
        () => format!("other: {op}"),
    }
}
