//! Does a start derive a log whose entries need more look-ups than are remembered at once? In virtual time, on a
//! disk in memory.

use std::path::Path;
use std::time::Duration;

use walengine::ledger::Outcomes;
use walengine::partition::{Partition, snapshots};
use walengine::refused::BUSY_READING;
use walengine::runtime::Runtime as _;
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::limits::EVENTS_MAX;
use walengine_net::model::{EventBytes, EventId, Transfer, TransferFlags, Verdict};
use walengine_tests::lone_partition::{self, DATA, LoneCommit, PARTITION};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::noted_writes::accounts_of;
use walengine_tests::sim::{Order, SimExecutor};

/// Voided reservations: a batch that names as many asks for twice as many keys.
const RESERVATIONS: u128 = 5 * EVENTS_MAX as u128;

async fn submit(partition: &Partition<LoneCommit<MemoryDisk>>, batch: &[EventBytes]) -> Outcomes {
    let mut outcomes = Outcomes::new();
    while let Err(refused) = partition.submit(batch, &mut outcomes) {
        assert_eq!(refused, BUSY_READING);
        partition.runtime().sleep(Duration::from_millis(1)).await;
        outcomes.clear();
    }
    partition.until_visible().await.unwrap();
    partition.runtime().sleep(Duration::from_millis(60)).await;
    outcomes
}

/// The fault: facts of an entry's keys were dropped for those of its other keys, and nobody looked again. A
/// program ended so at each of its starts.
#[test]
fn a_start_derives_an_entry_whose_facts_were_dropped_for_each_other() {
    let (executor, disk) = (SimExecutor::new(3, Order::Fifo), MemoryDisk::default());
    let (partition, _) = lone_partition::start(&executor, &disk);
    let accounts = accounts_of(PARTITION, 1);
    let transfer = |id: u128, pending: u128, flags: TransferFlags| Transfer {
        id: EventId(id),
        pending_id: EventId(pending),
        debit_account_id: accounts[0].id,
        credit_account_id: accounts[1].id,
        amount: walengine_net::model::Amount(1),
        ledger: accounts[0].ledger,
        code: accounts[0].code,
        flags,
        ..Transfer::default()
    };
    let written = async {
        let events: Vec<_> = accounts.iter().map(walengine_net::model::Account::to_bytes).collect();
        submit(&partition, &events).await;
        let all: Vec<u128> = (1..=RESERVATIONS).collect();
        for ids in all.chunks(EVENTS_MAX) {
            let reserve = |id: &u128| transfer(*id, 0, TransferFlags::PENDING).to_bytes();
            let void =
                |id: &u128| transfer(id + (1 << 40), *id, TransferFlags::VOID_PENDING).to_bytes();
            for batch in [ids.iter().map(reserve).collect(), ids.iter().map(void).collect()] {
                let batch: Vec<EventBytes> = batch;
                let outcomes = submit(&partition, &batch).await;
                assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok()));
            }
        }
        // The start begins here, with the reservations in runs.
        let dir = partition_dir(Path::new(DATA), PARTITION);
        let store = SnapshotStore::open(disk.clone(), &dir).await.unwrap();
        assert!(snapshots::take(&partition, &store).await.unwrap().is_some());
        // Each batch names the first reservation, and others that none before it has named.
        for (number, ids) in all[1..].chunks(EVENTS_MAX - 1).enumerate() {
            let post = |id: &u128| {
                let own = (2 + number as u128) << 40 | *id;
                transfer(own, *id, TransferFlags::POST_PENDING).to_bytes()
            };
            let batch: Vec<_> = std::iter::once(&1).chain(ids).map(post).collect();
            let outcomes = submit(&partition, &batch).await;
            let voided = |verdict: Verdict| verdict.name().contains("voided");
            assert!(outcomes.iter().all(|outcome| voided(outcome.verdict)), "{:?}", outcomes[0]);
        }
        let next = partition.with_ledger(walengine::ledger::Ledger::next_offset);
        partition.close().await.unwrap();
        next
    };
    let next = executor.block_on(written).unwrap_or_else(|_| panic!("it waits for ever"));
    let again = lone_partition::open_again(&executor, &executor.runtime(), &disk);
    assert_eq!(again.with_ledger(walengine::ledger::Ledger::next_offset), next);
}
