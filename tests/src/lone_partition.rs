//! A partition that a simulated node serves alone, with what a session of it needs: no sockets.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use walengine::audit::Audit;
use walengine::config::ServeOptions;
use walengine::data_dir;
use walengine::node_state::NodeState;
use walengine::partition::alone::Alone;
use walengine::partition::{Partition, opening};
use walengine::session::node_facts::NodeFacts;
use walengine::storage::disk::Disk;
use walengine::storage::layout::Superblock;
use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use crate::sim::{SimExecutor, SimRuntime};

/// Its cluster.
pub const CLUSTER: ClusterId = ClusterId(0xc1);
/// Its node.
pub const NODE: u64 = 7;
/// The one partition.
pub const PARTITION: PartitionId = PartitionId(0);
/// Data directory on the simulated disk.
pub const DATA: &str = "/data";
/// Keys that it keeps in memory: few, so that most are looked up on disk.
const RECENT_KEYS_MAX: usize = 300;
/// Length of a segment in bytes: full frames fit.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// What makes its decisions final.
pub type LoneCommit<D> = Alone<D, SimRuntime>;

/// What its data directory says about itself.
pub fn superblock() -> Superblock {
    Superblock {
        cluster: CLUSTER,
        node: NODE,
        partitions: 1,
        segment_bytes: SEGMENT_BYTES,
        created: Timestamp(1),
        replicated: false,
        logs_created: true,
    }
}

/// Serves the partition of a disk that was formatted before, such as one that has lost power.
///
/// # Panics
/// If it can't be opened.
pub fn open_again<D: Disk>(
    executor: &SimExecutor,
    runtime: &SimRuntime,
    disk: &D,
) -> Partition<LoneCommit<D>> {
    let opening = async {
        let (data, superblock) = (Path::new(DATA), superblock());
        let opened = opening::open(disk.clone(), runtime.clone(), data, &superblock, PARTITION, 4);
        opened.await?.serve_alone().await
    };
    let Ok(opened) = executor.block_on(opening) else { panic!("the machine has stopped") };
    let opened = opened.unwrap_or_else(|fatal| panic!("the partition does not open: {fatal}"));
    opened.older_ids().set_recent_max(RECENT_KEYS_MAX);
    opened
}

/// Formats an empty disk and serves its one partition.
///
/// # Panics
/// If the disk is not empty, or fails.
pub fn start<D: Disk>(
    executor: &SimExecutor,
    disk: &D,
) -> (Partition<LoneCommit<D>>, Rc<NodeFacts<LoneCommit<D>>>) {
    start_on(executor, &executor.runtime(), disk, Audit::default())
}

/// As [`start`], on a machine of its own, which can lose power without the others, with a trail of orders.
///
/// # Panics
/// As [`start`].
pub fn start_on<D: Disk>(
    executor: &SimExecutor,
    runtime: &SimRuntime,
    disk: &D,
    audit: Audit,
) -> (Partition<LoneCommit<D>>, Rc<NodeFacts<LoneCommit<D>>>) {
    let superblock = superblock();
    let opening = async {
        let data = Path::new(DATA);
        let create = data_dir::create_partition;
        create(disk, runtime.clone(), data, &superblock, PARTITION).await.expect("an empty disk");
        // As the superblock's writer does.
        disk.sync_dir(data).await.expect("the disk is well");
        disk.sync_dir(Path::new("/")).await.expect("the disk is well");
        let opened =
            opening::open(disk.clone(), runtime.clone(), data, &superblock, PARTITION, 4).await?;
        opened.serve_alone().await
    };
    let Ok(Ok(partition)) = executor.block_on(opening) else { panic!("an empty log opens") };
    partition.older_ids().set_recent_max(RECENT_KEYS_MAX);
    let options = ServeOptions { data: Some(PathBuf::from(DATA)), ..Default::default() };
    let config = options.resolve().expect("the defaults are right");
    let state = Arc::new(NodeState::new(config, superblock, audit, Instant::now()));
    let facts = NodeFacts::new(state, vec![partition.clone()], Vec::new());
    facts.connections.set(1);
    (partition, Rc::new(facts))
}
