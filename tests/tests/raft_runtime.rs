//! Does openraft's own suite for runtimes accept ours in the simulation, whatever the schedule?

use std::cell::Cell;
use std::rc::Rc;

use openraft::testing::runtime::Suite;
use walengine_replication::runtime::{LocalRuntime, drive_by, enter};
use walengine_tests::seeds::each_seed;
use walengine_tests::sim::{Order, SimExecutor};

/// Runs the suite, which starts an executor for each of its parts, and returns a hash over all that
/// happened on them.
fn pass_suite(seed: u64, order: Order) -> u64 {
    let trace = Rc::new(Cell::new(0_u64));
    let sum = trace.clone();
    let _driven = drive_by(move |root| {
        let executor = SimExecutor::new(seed, order);
        let _entered = enter(executor.runtime());
        executor.block_on(root).expect("every wake-up arrives");
        sum.set(sum.get().rotate_left(1) ^ executor.trace());
    });
    Suite::<LocalRuntime>::test_all();
    trace.get()
}

#[test]
fn openraft_accepts_the_runtime_under_every_schedule() {
    let traces = each_seed("raft_runtime::openraft_accepts", |seed| {
        pass_suite(seed, if seed == 0 { Order::Fifo } else { Order::Random })
    });
    assert!(traces.is_sorted_by(|before, after| before != after), "schedules differ");
}

#[test]
fn same_seed_replays_the_suite() {
    each_seed("raft_runtime::same_seed", |seed| {
        let again = pass_suite(seed, Order::Random);
        assert_eq!(pass_suite(seed, Order::Random), again);
    });
}
