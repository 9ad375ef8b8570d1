//! A data directory on a disk in memory, as it stood at several moments of its life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walengine::data_dir::{create_partition, log_config};
use walengine::ledger::{Draft, Ledger, SnapshotCut};
use walengine::partition::group::members::Members;
use walengine::partition::group::raft_log::log_id_of;
use walengine::runtime::Runtime;
use walengine::storage::layout::{HardState, SnapshotMeta, Superblock, Tail};
use walengine::storage::log::Log;
use walengine::storage::snapshot::SnapshotStore;
use walengine::storage::{partition_dir, superblock};
use walengine_net::entry::{EntryKind, EntryMeta};
use walengine_net::model::{ClusterId, EventBytes, PartitionId, Timestamp};
use walengine_replication::membership_codec;
use walengine_replication::types::{Member, Membership};

use crate::log_oracle::encode;
use crate::memory_disk::MemoryDisk;
use crate::mixed_events::Mixed;
use crate::sim::{Order, Rng, SimExecutor, SimRuntime};

/// Where it is on the disk.
pub const DATA: &str = "/data";
/// Its node.
pub const NODE: u64 = 7;
/// Its partitions.
pub const PARTITIONS: u16 = 2;
const SEGMENT_BYTES: u64 = 64 << 10;
/// How often the node starts, and moments of each life.
const LIVES: u64 = 3;
const STEPS: u64 = 8;

/// Every file of a disk.
pub type Image = BTreeMap<PathBuf, Vec<u8>>;

/// See the module.
#[derive(Clone)]
pub struct Moments {
    /// What the directory is.
    pub superblock: Superblock,
    /// The files at each moment, the oldest first.
    pub images: Vec<Image>,
}

/// A partition while it is written.
struct Life {
    id: PartitionId,
    ledger: Ledger,
    members: Members,
    events: Mixed,
    log: Option<Log<MemoryDisk, SimRuntime>>,
}

impl Moments {
    /// Lets a node of `cluster` live.
    ///
    /// # Panics
    /// If it can't.
    pub fn of(cluster: ClusterId, replicated: bool, seed: u64) -> Self {
        let superblock = Superblock {
            cluster,
            node: NODE,
            partitions: PARTITIONS,
            segment_bytes: SEGMENT_BYTES,
            created: Timestamp(1),
            replicated,
            logs_created: !replicated,
        };
        let executor = SimExecutor::new(seed, Order::Fifo);
        let images = executor.block_on(live(executor.runtime(), superblock, seed));
        Self { superblock, images: images.expect("nothing is waited for") }
    }
}

async fn live(runtime: SimRuntime, superblock: Superblock, seed: u64) -> Vec<Image> {
    let (disk, data) = (MemoryDisk::default(), Path::new(DATA));
    let mut partitions = Vec::new();
    for number in 0..PARTITIONS {
        let id = PartitionId(number);
        create_partition(&disk, runtime.clone(), data, &superblock, id).await.expect("a new disk");
        partitions.push(Life {
            id,
            ledger: Ledger::new(id, PARTITIONS),
            members: Members::default(),
            events: Mixed::new(seed, id, PARTITIONS),
            log: None,
        });
    }
    superblock::write(&disk, data, &superblock).await.expect("a new disk");
    let mut rng = Rng::new(seed);
    let mut images = vec![disk.image().into_iter().collect()];
    for life in 0..LIVES {
        for partition in &mut partitions {
            partition.begin(&runtime, &disk, &superblock).await;
        }
        for step in 0..STEPS {
            for partition in &mut partitions {
                partition.step(&mut rng, &runtime, &disk, &superblock).await;
            }
            if step % 2 == 0 {
                images.push(disk.image().into_iter().collect());
            }
        }
        for partition in &mut partitions {
            let log = partition.log.take().expect("it is open");
            if life % 2 == 0 {
                log.close().await.expect("a healthy disk");
            } else {
                runtime.sleep(std::time::Duration::from_secs(1)).await; // what it prepares is there
            }
        }
        images.push(disk.image().into_iter().collect());
    }
    images
}

impl Life {
    async fn begin(&mut self, runtime: &SimRuntime, disk: &MemoryDisk, superblock: &Superblock) {
        let dir = partition_dir(Path::new(DATA), self.id);
        let config = log_config(superblock, self.id);
        let opened = Log::open(disk.clone(), runtime.clone(), dir, config, Tail::default()).await;
        let log = opened.unwrap_or_else(|error| panic!("{error}")).log;
        let term = log.hard_state().term + 1;
        let state = HardState {
            term,
            voted_for: Some(NODE),
            vote_committed: true,
            commit_index: log.last().index,
            durable_index: 0,
        };
        log.save_hard_state(state).await.expect("a healthy disk");
        self.log = Some(log);
        if superblock.replicated && term == 1 {
            let member = Member { peer_address: "127.0.0.1:1".to_owned(), ..Member::default() };
            let nodes = BTreeMap::from([(NODE, member)]);
            let membership = Membership::new(vec![[NODE].into()], nodes).expect("one voter");
            let tail = self
                .append(
                    superblock,
                    EntryKind::Membership,
                    0,
                    Timestamp(0),
                    &membership_codec::encode(&membership),
                )
                .await;
            self.members.change(log_id_of(&tail).expect("an entry"), &membership);
        } else {
            self.append(superblock, EntryKind::Blank, 0, Timestamp(0), &[]).await;
        }
        if self.ledger.next_offset().0 == 0 {
            let accounts = self.events.accounts();
            self.write(superblock, &accounts).await;
        }
    }

    async fn step(
        &mut self,
        rng: &mut Rng,
        runtime: &SimRuntime,
        disk: &MemoryDisk,
        superblock: &Superblock,
    ) {
        for _ in 0..rng.between(1, 4) {
            let events = self.events.batch(rng.between(1, 40) as usize);
            self.write(superblock, &events).await;
        }
        if rng.percent(30) {
            let log = self.log.as_ref().expect("it is open");
            log.mark_idle().await.expect("a healthy disk");
        }
        if rng.percent(25) {
            self.snapshot(disk, superblock, runtime).await;
        }
    }

    async fn write(&mut self, superblock: &Superblock, events: &[EventBytes]) {
        let mut draft = Draft::new();
        let now = Timestamp(self.ledger.last_timestamp().0 + 300_000_000);
        self.ledger.submit(events, &mut draft, now, &mut Vec::new());
        self.ledger.release(self.ledger.next_offset());
        if draft.is_empty() {
            return;
        }
        let body = encode(&draft.body);
        let (records, timestamp) = (draft.len() as u32, draft.timestamp);
        self.append(superblock, EntryKind::Events, records, timestamp, &body).await;
    }

    async fn append(
        &mut self,
        superblock: &Superblock,
        kind: EntryKind,
        records: u32,
        timestamp: Timestamp,
        body: &[u8],
    ) -> Tail {
        let log = self.log.as_ref().expect("it is open");
        let last = log.last();
        let meta = EntryMeta {
            cluster: superblock.cluster,
            partition: self.id,
            kind,
            term: log.hard_state().term,
            leader_node: if records > 0 { NODE } else { 0 },
            index: last.index + 1,
            base_offset: last.next_offset,
            records,
            timestamp: if records > 0 { timestamp } else { last.timestamp },
        };
        loop {
            let changed = log.changed().changed();
            if log.append(&meta, body).is_ok() {
                break;
            }
            log.flush();
            changed.await;
        }
        log.flush();
        log.wait_durable(meta.index).await.expect("a healthy disk");
        log.last()
    }

    async fn snapshot(&mut self, disk: &MemoryDisk, superblock: &Superblock, runtime: &SimRuntime) {
        let dir = partition_dir(Path::new(DATA), self.id);
        let store = SnapshotStore::open(disk.clone(), &dir).await.expect("a healthy disk");
        let applied = self.log.as_ref().expect("it is open").last();
        let (cluster, created) = (superblock.cluster, runtime.now());
        let meta = SnapshotMeta { cluster, partition: self.id, created, applied };
        let members = superblock.replicated.then(|| self.members.encode());
        let mut cut: SnapshotCut = self.ledger.snapshot();
        let mut pieces: Vec<Vec<u8>> = members.into_iter().collect();
        while let Some(chunk) = cut.next_chunk(&self.ledger, 16 << 10) {
            pieces.push(chunk);
        }
        let Ok(mut writer) = store.create(&meta, 4 << 20).await else { return }; // one is there
        for piece in pieces {
            writer.write(&(piece.len() as u32).to_le_bytes()).await.expect("room");
            writer.write(&piece).await.expect("room");
        }
        writer.finish().await.expect("a healthy disk");
        store.prune(2).await.expect("a healthy disk");
    }
}
