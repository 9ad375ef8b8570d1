//! Does openraft's own suite for storage accept a partition's log and ledger, whatever the schedule?

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use openraft::impls::leader_id_std::LeaderId;
use openraft::storage::RaftStateMachine as _;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId as _;
use openraft::{RaftSnapshotBuilder as _, StorageError};
use walengine::ledger::Ledger;
use walengine::partition::group::raft_apply::RaftApply;
use walengine::partition::group::raft_log::RaftLog;
use walengine::partition::replica::Replica;
use walengine::storage::layout::Tail;
use walengine::storage::log::Log;
use walengine_net::model::PartitionId;
use walengine_replication::runtime::within;
use walengine_replication::types::{LogId, Types};
use walengine_tests::checked_partition::{DATA, config, dir};
use walengine_tests::seeds::each_seed;
use walengine_tests::sim::{Order, Rng, SimDisk, SimExecutor, SimRuntime};

thread_local! {
    /// What the builder builds on; openraft wants the builder itself to be `Send`.
    static SITE: RefCell<Option<(SimRuntime, Rng)>> = const { RefCell::new(None) };
}

struct Builder;

impl StoreBuilder<Types, RaftLog<SimDisk, SimRuntime>, RaftApply> for Builder {
    async fn build(
        &self,
    ) -> Result<((), RaftLog<SimDisk, SimRuntime>, RaftApply), StorageError<Types>> {
        let (runtime, seed) = SITE.with_borrow_mut(|site| {
            let (runtime, rng) = site.as_mut().expect("the test has set it");
            (runtime.clone(), rng.next_u64())
        });
        let disk = SimDisk::new(&runtime, seed);
        disk.install_dir(Path::new(DATA));
        let opened = Log::open(disk, runtime.clone(), dir(), config(), Tail::default()).await;
        let log = opened.expect("a healthy disk").log;
        let log = RaftLog::new(0, log, &config(), runtime, &Tail::default());
        let replica = Rc::new(RefCell::new(Replica::new(Ledger::new(PartitionId(0), 1))));
        Ok(((), log, RaftApply::new(replica)))
    }
}

/// The fault: a snapshot that was installed took the mode of an import away, and whatever the replica had.
#[test]
fn no_snapshot_replaces_what_a_replica_has() {
    let executor = SimExecutor::new(1, Order::Fifo);
    let empty = || Rc::new(RefCell::new(Replica::new(Ledger::new(PartitionId(0), 1))));
    let ran = executor.block_on(async move {
        let mut source = RaftApply::new(empty());
        let mut snapshot = source.build_snapshot().await.unwrap();
        let applied = Some(LogId::new(LeaderId::new(1, 0).to_committed(), 7));
        snapshot.meta.last_log_id = applied;
        let mut replica = RaftApply::new(empty());
        replica.install_snapshot(&snapshot.meta, snapshot.snapshot.clone()).await.unwrap();
        snapshot.meta.last_log_id = Some(LogId::new(LeaderId::new(1, 0).to_committed(), 9));
        let refused = replica.install_snapshot(&snapshot.meta, snapshot.snapshot).await;
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(replica.applied(), applied, "it was installed");
    });
    ran.expect("every wake-up arrives");
}

#[test]
fn openraft_accepts_the_storage_under_every_schedule() {
    each_seed("raft_storage::openraft_accepts", |seed| {
        let executor = SimExecutor::new(seed, Order::Random);
        let runtime = executor.runtime();
        SITE.set(Some((runtime.clone(), Rng::new(seed))));
        let ran = executor.block_on(within(runtime, Suite::test_all(Builder)));
        SITE.set(None);
        ran.expect("every wake-up arrives").expect("the suite accepts it");
    });
}
