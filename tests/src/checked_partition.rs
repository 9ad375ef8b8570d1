//! One partition as a shard keeps it (log, ledger, snapshots), compared with the oracle whenever it
//! is opened from its disk.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use walengine::ledger::{Ledger, LedgerTotals, SnapshotCut};
use walengine::runtime::Runtime;
use walengine::storage::disk::Disk;
use walengine::storage::error::{LogStopped, OpenError};
use walengine::storage::layout::{SnapshotMeta, Tail};
use walengine::storage::log::{Log, LogConfig};
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::entry::EntryHeader;
use walengine_net::model::{ClusterId, PartitionId};

use crate::log_oracle::{Oracle, apply, split};

/// Data directory on the simulated disk.
pub const DATA: &str = "/data";
/// Length of a segment in bytes: small, so that a run rolls often.
pub const SEGMENT_BYTES: u64 = 64 << 10;
const SNAPSHOT_BYTES_MAX: u64 = 4 << 20;
const SNAPSHOT_CHUNK_BYTES: usize = 4 << 10;
const SNAPSHOTS_KEPT: usize = 2;
const READ_BYTES: usize = 32 << 10;

/// An open partition.
pub struct Partition<D: Disk, R: Runtime> {
    /// Its log.
    pub log: Log<D, R>,
    /// Its ledger, at the tail of the log.
    pub ledger: RefCell<Ledger>,
    /// Its snapshots.
    pub snapshots: SnapshotStore<D>,
    /// What it has promised.
    pub oracle: Rc<RefCell<Oracle>>,
    /// Where its time comes from.
    pub runtime: R,
    /// A snapshot is being written.
    pub snapshotting: Cell<bool>,
}

/// Directory of the one partition.
pub fn dir() -> PathBuf {
    partition_dir(Path::new(DATA), PartitionId(0))
}

/// How the log works in simulations: small in every dimension, so that every limit is met.
pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        create: true,
        flush_inflight_max: 4,
        flush_bytes_max: 16 << 10,
        backlog_bytes_max: 96 << 10,
        zero_ahead_bytes: 32 << 10,
        zero_chunk_bytes: 8 << 10,
        // Zeroing beside flushes is rare otherwise, and their race is what is tested here.
        recovered_are_zeroed: false,
        open_segments_max: 2,
        marks_max: 3,
        ..LogConfig::new(ClusterId(0xfeed), PartitionId(0))
    }
}

impl<D: Disk, R: Runtime> Partition<D, R> {
    /// Opens the partition as a shard does, and compares all that it finds with the oracle.
    ///
    /// # Panics
    /// If the partition does not hold what it has promised.
    pub async fn open(
        disk: D,
        runtime: R,
        oracle: Rc<RefCell<Oracle>>,
        config: LogConfig,
    ) -> Result<Self, OpenError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |error| OpenError::Io { what, error }
        };
        disk.create_dir(&dir()).await.map_err(io("creating the directory"))?;
        disk.sync_dir(Path::new(DATA)).await.map_err(io("creating the directory"))?;
        let snapshots = SnapshotStore::open(disk.clone(), &dir()).await?;
        let newest = snapshots.newest().await.map_err(io("reading the snapshots"))?;
        assert!(newest.skipped.is_empty(), "damaged snapshots: {:?}", newest.skipped);
        let (mut ledger, mut from) = (Ledger::new(PartitionId(0), 1), Tail::default());
        if let Some(mut reader) = newest.snapshot {
            from = reader.meta().applied;
            let mut data = Vec::new();
            while let Some(chunk) = reader.next_chunk().await.map_err(io("reading a snapshot"))? {
                data.extend_from_slice(chunk);
            }
            ledger = Ledger::restore(PartitionId(0), 1, unframe(&data)).expect("a whole snapshot");
        }
        let kept = oracle.borrow().snapshot;
        assert!(from.index >= kept, "the snapshot at {kept} is lost: {} is there", from.index);
        let opened = Log::open(disk, runtime.clone(), dir(), config, from).await?;
        let log = opened.log;
        assert_eq!(log.durable_index(), log.last().index, "a recovered tail is durable");
        let found = read_all(&log).await?;
        {
            let mut oracle = oracle.borrow_mut();
            oracle.check_recovered(&found);
            oracle.check_hard_state(opened.hard_state);
            oracle.snapshot = from.index;
            for (header, body) in &found[from.index as usize..] {
                apply(&mut ledger, header, body);
            }
            let replayed = oracle.replay();
            assert_eq!(ledger.digest(), replayed.digest(), "snapshot and log contradict the log");
            assert!(ledger.totals().values().all(LedgerTotals::balanced), "money is lost");
        }
        let (ledger, snapshotting) = (RefCell::new(ledger), Cell::new(false));
        Ok(Self { log, ledger, snapshots, oracle, runtime, snapshotting })
    }

    /// Snapshots the ledger at the durable tail, beside whatever goes on.
    pub async fn snapshot(self: &Rc<Self>) -> Result<(), LogStopped> {
        self.log.flush();
        let applied = self.log.last();
        self.log.wait_durable(applied.index).await?;
        if self.snapshotting.get()
            || self.log.last() != applied
            || applied.index <= self.oracle.borrow().snapshot
        {
            return Ok(());
        }
        self.snapshotting.set(true);
        let cut = self.ledger.borrow_mut().snapshot();
        let partition = self.clone();
        self.runtime.spawn(async move {
            let written = partition.write_snapshot(applied, cut).await;
            if matches!(written, Ok(true)) {
                let mut oracle = partition.oracle.borrow_mut();
                oracle.snapshot = oracle.snapshot.max(applied.index);
            }
            partition.snapshotting.set(false);
        });
        Ok(())
    }

    /// False if the cut no longer held, and there is no snapshot.
    async fn write_snapshot(&self, applied: Tail, mut cut: SnapshotCut) -> io::Result<bool> {
        let config = config();
        let meta = SnapshotMeta {
            cluster: config.ids.cluster,
            partition: config.ids.partition,
            created: self.runtime.now(),
            applied,
        };
        let mut writer = self.snapshots.create(&meta, SNAPSHOT_BYTES_MAX).await?;
        while !cut.is_complete() {
            if !cut.holds(&self.ledger.borrow()) {
                writer.abort().await?;
                return Ok(false);
            }
            let chunk = cut.next_chunk(&self.ledger.borrow(), SNAPSHOT_CHUNK_BYTES);
            if let Some(chunk) = chunk {
                let length = u32::try_from(chunk.len()).expect("a small chunk");
                writer.write(&length.to_le_bytes()).await?;
                writer.write(&chunk).await?;
            }
            self.runtime.yield_now().await;
        }
        writer.finish().await?;
        self.snapshots.prune(SNAPSHOTS_KEPT).await?;
        Ok(true)
    }

    /// Reads entries from `index` on and compares them with what was appended.
    ///
    /// # Panics
    /// If they differ, or can't be read.
    pub async fn check_read(&self, index: u64) {
        let bytes = match self.log.read(index, READ_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => panic!("reading entry {index}: {error}"),
        };
        let oracle = self.oracle.borrow();
        for ((header, body), written) in
            split(&bytes).iter().zip(&oracle.entries[index as usize - 1..])
        {
            assert!(
                header == &written.header && body[..] == written.body[..],
                "read entry {index}"
            );
        }
    }
}

/// Every entry of the log, from the first.
async fn read_all<D: Disk, R: Runtime>(
    log: &Log<D, R>,
) -> Result<Vec<(EntryHeader, Vec<u8>)>, OpenError> {
    let mut entries = Vec::new();
    while (entries.len() as u64) < log.last().index {
        match log.read(entries.len() as u64 + 1, READ_BYTES).await {
            Ok(bytes) => entries.extend(split(&bytes)),
            Err(error) => panic!("an open log can't be read: {error}"),
        }
    }
    Ok(entries)
}

/// Chunks of the ledger, each behind its length.
fn unframe(mut data: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (chunk, behind) = rest.split_at(u32::from_le_bytes(*length) as usize);
        chunks.push(chunk);
        data = behind;
    }
    chunks
}
