//! Does a log whose disk fails stop, say why, try nothing again, and keep what it has promised?
//!
//! The n-th write or flush fails, for each n of the first 300, with each error that a disk gives.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine_tests::checked_partition::{DATA, Partition, config};
use walengine_tests::log_oracle::Oracle;
use walengine_tests::partition_load::Load;
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{
    Effect, Op, OpClass, OpKind, Order, Rng, SimDisk, SimExecutor, SimRuntime,
};

/// Operations of which each fails once.
const FAILING: u64 = 300;
/// Writes and flushes after the failing one, to see that the log really goes on.
const BEYOND: u64 = 20;
/// Steps of the load within which they must have come.
const STEPS_MAX: u64 = 2000;

/// What a failed operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The partition could not be opened, and said so.
    NotOpened,
    /// The log stopped.
    Stopped,
    /// A part beside the log failed, and the log went on: a snapshot, marks, or a segment for later that
    /// the full disk has no room for.
    WentOn,
}

#[test]
fn log_stops_and_says_why_at_eio() {
    check_all("sick_disk::log_stops_and_says_why_at_eio", Effect::Eio);
}

#[test]
fn log_stops_and_says_why_at_enospc() {
    check_all("sick_disk::log_stops_and_says_why_at_enospc", Effect::Enospc);
}

#[test]
fn log_stops_and_says_why_at_a_short_write() {
    check_all("sick_disk::log_stops_and_says_why_at_a_short_write", Effect::Short);
}

fn check_all(test: &str, effect: Effect) {
    let outcomes = each_of(test, FAILING, |number| one(number + 1, effect));
    for outcome in [Outcome::NotOpened, Outcome::Stopped, Outcome::WentOn] {
        let count = outcomes.iter().filter(|found| **found == outcome).count();
        println!("{effect:?}: {count} of {FAILING} {outcome:?}");
        // A replay of one seed meets one of them.
        assert!(count > 0 || outcomes.len() == 1, "{outcome:?} never happened");
    }
}

/// One life in which operation `nth` fails, then a crash and another life.
fn one(nth: u64, effect: Effect) -> Outcome {
    let executor = SimExecutor::new(nth, Order::Random);
    let disk = SimDisk::new(&executor.runtime(), nth);
    disk.install_dir(Path::new(DATA));
    disk.set_faults(|faults| faults.garbage = false);
    disk.record_ops();
    disk.plan(OpClass::WritesAndSyncs, nth, effect);
    let oracle = Rc::new(RefCell::new(Oracle::default()));
    let life = live(disk.clone(), executor.runtime(), oracle.clone(), nth);
    let outcome = executor.block_on(life).expect("nothing waits for ever");
    let failed = check_nothing_tried_again(&disk.ops());
    let beside = failed.path.to_string_lossy().contains("snapshots")
        || failed.path.to_string_lossy().contains(".marks")
        || effect == Effect::Enospc && failed.path.extension().is_some_and(|ext| ext == "new");
    match outcome {
        Outcome::NotOpened => {}
        Outcome::Stopped => assert!(!beside || failed.kind == OpKind::SyncDir, "{failed:?}"),
        Outcome::WentOn => assert!(
            beside || failed.kind == OpKind::SyncDir && effect == Effect::Enospc,
            "the log goes on after {failed:?}"
        ),
    }
    // What was acknowledged is there, whatever the failed operation has left.
    let executor = SimExecutor::new(nth, Order::Random);
    let disk = disk.crash(&executor.runtime(), nth);
    let again = executor.block_on(live(disk, executor.runtime(), oracle, 0));
    assert_ne!(again, Ok(Outcome::NotOpened), "a healthy disk opens");
    outcome
}

async fn live(
    disk: SimDisk,
    runtime: SimRuntime,
    oracle: Rc<RefCell<Oracle>>,
    nth: u64,
) -> Outcome {
    let opened = Partition::open(disk.clone(), runtime.clone(), oracle, config()).await;
    let partition = match opened {
        Ok(partition) => Rc::new(partition),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says what failed");
            return Outcome::NotOpened;
        }
    };
    let mut load = Load::new(partition.clone(), Rng::new(nth));
    let mut steps = 0;
    let stopped = loop {
        match load.run(10).await {
            Err(stopped) => break stopped,
            Ok(()) => steps += 10,
        }
        if disk.count(OpClass::WritesAndSyncs) > nth + BEYOND {
            // Stragglers end, and what the failure has set off.
            runtime.sleep(Duration::from_millis(100)).await;
            match load.run(10).await {
                Err(stopped) => break stopped,
                Ok(()) => return Outcome::WentOn,
            }
        }
        assert!(steps < STEPS_MAX, "the load does not come to operation {nth}");
    };
    let reason = partition.log.stopped().expect("a stopped log says why");
    assert_eq!(stopped.to_string(), format!("the log has stopped: {reason}"));
    assert!(reason.to_string().contains("failed: "), "{reason}");
    // Whatever was in flight ends; nothing more is acknowledged, now or later.
    let durable = partition.log.durable_index();
    runtime.sleep(Duration::from_secs(1)).await;
    assert_eq!(partition.log.durable_index(), durable, "acknowledged after it had stopped");
    let more = partition.log.wait_durable(partition.log.last().index + 1).await;
    assert!(more.is_err(), "a stopped log acknowledges nothing");
    partition.log.flush();
    assert!(load.run(1).await.is_err() || load.run(50).await.is_err(), "it takes no more");
    Outcome::Stopped
}

/// No write or flush of what a failed operation was about; returns that operation.
fn check_nothing_tried_again(ops: &[Op]) -> Op {
    let failed = ops.iter().find(|op| op.error.is_some() && OpClass::WritesAndSyncs.has(op.kind));
    let failed = failed.expect("the load is long enough to meet the failure").clone();
    let after = ops.iter().filter(|op| op.number > failed.number && op.file == failed.file);
    for op in after.filter(|op| OpClass::WritesAndSyncs.has(op.kind)) {
        let meets = match (failed.kind, op.kind) {
            (OpKind::SyncDir, OpKind::SyncDir) => false,
            (_, OpKind::Sync) | (OpKind::Sync, _) => true,
            _ => op.offset < failed.offset + failed.bytes && failed.offset < op.offset + op.bytes,
        };
        assert!(!meets, "tried again after {failed:?}: {op:?}");
    }
    failed
}
