//! A clock that jumps moves no log time. The fault: one write while the clock was ten years ahead ended
//! every reservation, and later ones were never due.

use std::time::Duration;

use walengine::ledger::Ledger;
use walengine::partition::log_clock::ClockStanding;
use walengine::refused::Refused;
use walengine_net::model::{
    Account, AccountId, Amount, Code, EventId, LedgerId, Transfer, TransferFlags,
};
use walengine_tests::lone_partition::{self, PARTITION};
use walengine_tests::noted_writes::accounts_of;
use walengine_tests::sim::{Order, SimDisk, SimExecutor};

const TEN_YEARS_NANOS: i64 = 10 * 365 * 86_400 * 1_000_000_000;

fn reservation(id: u128, [debit, credit]: [AccountId; 2], timeout_seconds: u32) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: debit,
        credit_account_id: credit,
        amount: Amount(1),
        ledger: LedgerId(1),
        code: Code(1),
        flags: TransferFlags::PENDING,
        timeout_seconds,
        ..Transfer::default()
    }
}

#[test]
fn a_write_while_the_clock_is_ten_years_ahead_ends_no_reservation() {
    let executor = SimExecutor::new(0x5eed_0015, Order::Random);
    let (partition, _) = lone_partition::start(&executor, &SimDisk::new(&executor.runtime(), 1));
    let runtime = executor.runtime();
    let accounts: Vec<Account> = accounts_of(PARTITION, 1);
    let pair = [accounts[0].id, accounts[1].id];
    let open = || partition.with_ledger(Ledger::pendings_len);
    let submit = |events: &[_]| {
        let mut outcomes = Vec::new();
        partition.submit(events, &mut outcomes).unwrap();
        executor.block_on(partition.until_visible()).unwrap().unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok()), "{outcomes:?}");
    };
    let sleep = |seconds| {
        executor.block_on(runtime_sleep(&runtime, seconds)).unwrap();
        partition.expire();
        executor.block_on(partition.until_visible()).unwrap().unwrap();
    };
    submit(&[accounts[0].to_bytes(), accounts[1].to_bytes()]);
    submit(&[reservation(1, pair, 3600).to_bytes()]);

    runtime.jump_wall(TEN_YEARS_NANOS);
    submit(&[reservation(2, pair, 60).to_bytes()]);
    sleep(1);
    assert_eq!(open(), 2, "nothing has ended");
    assert!(matches!(partition.clock(), ClockStanding::Ahead(by) if by > Duration::from_hours(1)));
    sleep(60);
    assert_eq!(open(), 1, "time goes on meanwhile: the second was due");

    runtime.jump_wall(-TEN_YEARS_NANOS);
    submit(&[reservation(3, pair, 60).to_bytes()]);
    assert_eq!(partition.clock(), ClockStanding::Agrees);
    sleep(61);
    assert_eq!(open(), 1, "and after it is mended: the third was due, and the first is not");

    runtime.jump_wall(-TEN_YEARS_NANOS);
    submit(&[reservation(4, pair, 60).to_bytes()]);
    assert!(matches!(partition.clock(), ClockStanding::Behind(_)));
    sleep(61);
    assert_eq!(open(), 1, "a clock that jumps back stops nothing");
    sleep(3600);
    assert_eq!(open(), 0);
}

/// Who can't hear the others takes its own clock after a while: with UDP shut it must serve, too.
#[test]
fn a_leader_waits_for_the_others_clocks_and_not_for_ever() {
    let executor = SimExecutor::new(0x5eed_0016, Order::Random);
    let (partition, _) = lone_partition::start(&executor, &SimDisk::new(&executor.runtime(), 1));
    let runtime = executor.runtime();
    let accounts: Vec<Account> = accounts_of(PARTITION, 1);
    let submit = || partition.submit(&[accounts[0].to_bytes()], &mut Vec::new()).map(drop);
    partition.await_clocks();
    partition.hear_clocks(3, &[0]);
    assert!(matches!(submit(), Err(Refused::Busy { .. })) && partition.is_busy());
    executor.block_on(runtime_sleep(&runtime, 10)).unwrap();
    partition.hear_clocks(3, &[0]);
    assert_eq!((submit(), partition.clock()), (Ok(()), ClockStanding::Agrees));
    partition.hear_clocks(3, &[0, -TEN_YEARS_NANOS, -TEN_YEARS_NANOS]);
    let ahead = ClockStanding::Ahead(Duration::from_nanos(TEN_YEARS_NANOS as u64));
    assert_eq!(partition.clock(), ahead);
    partition.hear_clocks(3, &[0]);
    assert_eq!(partition.clock(), ahead, "silence mends no clock");
    partition.hear_clocks(3, &[0, 1_000_000_000]);
    assert_eq!(partition.clock(), ClockStanding::Agrees);
}

async fn runtime_sleep(runtime: &walengine_tests::sim::SimRuntime, seconds: u64) {
    use walengine::runtime::Runtime as _;
    runtime.sleep(Duration::from_secs(seconds)).await;
}
