//! Does a partition keep its promises when the power fails at any boundary of its I/O?
//!
//! A seed is several lives of one partition on one simulated disk. Each ends with a crash at a
//! random boundary, some of them while the one before is being recovered from; then the partition is
//! opened again and compared with what it has promised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use walengine_tests::load::Load;
use walengine_tests::oracle::Oracle;
use walengine_tests::partition::{DATA, Partition};
use walengine_tests::seeds::{each_seed, first_failure};
use walengine_tests::sim::{
    CrashSite, OpKind, Order, Phase, Rng, SimDisk, SimExecutor, SimRuntime, Stopped,
};

/// Seeds within which a disk without fdatasync must be caught.
const LIE_SEEDS_MAX: u64 = 20;
/// With fewer seeds than this, not every kind of boundary has to be met.
const COVERAGE_SEEDS_MIN: usize = 500;
/// Crashes of each kind that a full run has at least.
const COVERAGE_MIN: u64 = 20;

/// How many crashes there were of each kind.
type Coverage = BTreeMap<String, u64>;

/// Where the power fails next.
#[derive(Clone, Copy)]
enum Aim {
    /// While the partition is opened.
    Opening(u64),
    /// At the n-th boundary after it was opened.
    Any(u64),
    /// At the n-th boundary of a file whose path holds this.
    Path(&'static str, u64),
    /// After the load, with everything at rest and the log closed.
    Closed,
}

impl Aim {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..2 => Self::Opening(rng.between(1, 120)),
            2..5 => Self::Any(rng.between(1, 900)),
            5 => Self::Path("segments", rng.between(1, 500)),
            6 => Self::Path(".new", rng.between(1, 40)),
            7 => Self::Path("hard-state", rng.between(1, 20)),
            8 => Self::Path("snapshots", rng.between(1, 60)),
            _ => Self::Closed,
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
        "roll: Create", "roll: Write", "roll: Sync", "roll: Rename", "roll: SyncDir",
        "first flush of a segment", "flush", "zeros", "hard state", "snapshot: Create",
        "snapshot: Write", "snapshot: Sync", "snapshot: Rename", "snapshot: SyncDir",
        "snapshot: Remove", "recovery: Read", "recovery: Write", "recovery: hard state",
        "truncation", "closed",
    ];
    for kind in kinds {
        let count = coverage.get(kind).copied().unwrap_or(0);
        assert!(count >= COVERAGE_MIN, "only {count} crashes of kind {kind:?}");
    }
}

#[test]
fn disk_without_fdatasync_is_caught() {
    let (seed, message) = first_failure(LIE_SEEDS_MAX, |seed| {
        lives(seed, true);
    })
    .expect("a disk that makes nothing durable must be caught");
    println!("caught with seed {seed}: {message}");
    assert!(message.contains("lost") || message.contains("damaged"), "{message}");
}

/// All lives of one seed. With `lying`, nothing is durable once the partition was opened first.
fn lives(seed: u64, lying: bool) -> Coverage {
    let mut rng = Rng::new(seed);
    let mut coverage = Coverage::new();
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    let mut disk: Option<SimDisk> = None;
    let lives = rng.between(2, 6);
    for life in 0..=lives {
        let order = if rng.percent(80) { Order::Random } else { Order::Fifo };
        let executor = SimExecutor::new(rng.next_u64(), order);
        let runtime = executor.runtime();
        let next = match &disk {
            Some(disk) => disk.crash(&runtime, rng.next_u64()),
            None => formatted(&runtime, rng.next_u64()),
        };
        let aim = if life == lives { Aim::Closed } else { Aim::draw(&mut rng) };
        let ended = executor.block_on(live(next.clone(), runtime, oracle.clone(), aim, rng.fork()));
        match ended {
            Ok(()) => {}
            Err(Stopped::Halted) => {}
            Err(Stopped::Stalled) => panic!("life {life} waits for ever"),
        }
        let opening = matches!(aim, Aim::Opening(_));
        let kind = next.crash_site().map_or("closed".into(), |site| kind(&site, opening));
        *coverage.entry(kind).or_default() += 1;
        next.set_faults(|faults| faults.lying = lying);
        disk = Some(next);
    }
    coverage
}

fn formatted(runtime: &SimRuntime, seed: u64) -> SimDisk {
    let disk = SimDisk::new(runtime, seed);
    disk.install_dir(Path::new(DATA));
    disk.set_faults(|faults| faults.garbage = false);
    disk
}

/// One life: open, compare, work, and end where the power fails.
async fn live(
    disk: SimDisk,
    runtime: SimRuntime,
    oracle: Rc<RefCell<Oracle>>,
    aim: Aim,
    mut rng: Rng,
) {
    if let Aim::Opening(nth) = aim {
        disk.crash_at(nth);
    }
    let partition = match Partition::open(disk.clone(), runtime.clone(), oracle).await {
        Ok(partition) => Rc::new(partition),
        Err(error) => panic!("the partition can't be opened again: {error}"),
    };
    match aim {
        Aim::Opening(_) | Aim::Closed => {}
        Aim::Any(nth) => disk.crash_at(nth),
        Aim::Path(part, nth) => disk.crash_at_path(part, nth),
    }
    let steps = rng.between(20, 250);
    if rng.percent(30) {
        runtime.jump_wall(rng.between(1, 3_000_000_000) as i64 - 1_000_000_000);
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
fn kind(site: &CrashSite, opening: bool) -> String {
    let path = site.path.to_string_lossy();
    let write = matches!(site.kind, OpKind::Write | OpKind::WriteDurable);
    let op = if write { "Write".into() } else { format!("{:?}", site.kind) };
    let _ = Phase::Submitted;
    if opening {
        return if path.contains("hard-state") && write {
            "recovery: hard state".into()
        } else {
            format!("recovery: {op}")
        };
    }
    if path.contains("hard-state") {
        "hard state".into()
    } else if path.contains("snapshots") {
        format!("snapshot: {op}")
    } else if path.contains(".new") || !write {
        format!("roll: {op}")
    } else {
        "flush".into()
    }
}
