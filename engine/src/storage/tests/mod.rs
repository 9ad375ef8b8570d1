//! The log on real files, through glommio.

mod appending;
mod contents;
mod counting_disk;
mod hard_state;
mod marks;
mod records;
mod recovery;
mod snapshots;
mod some_log;
mod truncation;
mod verification;

use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use glommio::LocalExecutorBuilder;
use walengine_net::entry::{EntryHeader, EntryKind, EntryMeta, HEADER_BYTES, decode_entry};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

use super::error::{AppendError, OpenError};
use super::glommio_disk::GlommioDisk;
use super::ids::Ids;
use super::layout::Tail;
use super::log::{Log, LogConfig, Opened};
use super::verify;
use crate::runtime_glommio::GlommioRuntime;

const SEGMENT_BYTES: u64 = 64 << 10;
const CLUSTER: ClusterId = ClusterId(0xfeed);
const PARTITION: PartitionId = PartitionId(3);
const IDS: Ids = Ids { cluster: CLUSTER, partition: PARTITION };

type TestLog = Log<GlommioDisk, GlommioRuntime>;
type TestOpened = Opened<GlommioDisk, GlommioRuntime>;

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("walengine-storage-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn disk(&self) -> GlommioDisk {
        GlommioDisk::new(&self.0)
    }

    fn partition(&self) -> PathBuf {
        self.0.join("p0003")
    }

    fn segment(&self, sequence: u64) -> PathBuf {
        self.partition().join("segments").join(format!("{sequence:08}.seg"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let executor = LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap();
    executor.run(test)
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        create: true,
        zero_ahead_bytes: 32 << 10,
        zero_chunk_bytes: 8 << 10,
        // Little goes on in the background when a test lets go of a log without closing it.
        prepared_segments: 1,
        ..LogConfig::new(CLUSTER, PARTITION)
    }
}

async fn try_open(dir: &Dir, from: Tail) -> Result<TestOpened, OpenError> {
    Log::open(dir.disk(), GlommioRuntime::new(), dir.partition(), config(), from).await
}

async fn open(dir: &Dir) -> TestOpened {
    try_open(dir, Tail::default()).await.unwrap()
}

/// The error of an open that is refused.
async fn refused(dir: &Dir) -> OpenError {
    match try_open(dir, Tail::default()).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn body(index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (index as usize * 31 + at) as u8).collect()
}

fn meta(tail: Tail, records: u32) -> EntryMeta {
    EntryMeta {
        cluster: CLUSTER,
        partition: PARTITION,
        kind: EntryKind::Records,
        term: tail.term.max(1),
        leader_node: 1,
        index: tail.index + 1,
        base_offset: tail.next_offset,
        records,
        timestamp: Timestamp(tail.timestamp.0 + 1),
    }
}

/// Lets go of a log as a killed process would, but for what it does in the background: that must not go
/// on beside a log that is opened next, or in a directory that goes away.
async fn abandon(log: TestLog) {
    log.inner.state.borrow_mut().closing = true;
    log.inner.rest().await;
}

/// Appends one entry, waiting for room.
async fn append(log: &TestLog, bytes: usize) -> EntryHeader {
    loop {
        let meta = meta(log.last(), 2);
        let changed = log.changed().changed();
        match log.append(&meta, &body(meta.index, bytes)) {
            Ok(header) => return header,
            Err(AppendError::Full | AppendError::Backlog(_)) => {
                log.flush();
                changed.await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn append_durable(log: &TestLog, bytes: usize) -> EntryHeader {
    let header = append(log, bytes).await;
    log.flush();
    log.wait_durable(header.meta.index).await.unwrap();
    header
}

/// Reads everything from `from` on and checks bodies against what `append` wrote.
async fn read_all(log: &TestLog, from: u64, bytes_max: usize) -> Vec<EntryHeader> {
    let mut headers = Vec::new();
    let mut index = from;
    while index <= log.last().index {
        let bytes = log.read(index, bytes_max).await.unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (header, found) = decode_entry(rest).unwrap();
            assert_eq!(header.meta.index, index);
            assert_eq!(found, body(index, found.len()));
            rest = &rest[header.entry_bytes()..];
            headers.push(header);
            index += 1;
        }
    }
    headers
}

/// Where each entry stands, as verification sees it: segment, position, length.
async fn standings(dir: &Dir) -> Vec<(u64, u64, usize)> {
    let mut standings = Vec::new();
    let partition = dir.partition();
    let visit = |entry: verify::Checked<'_>| {
        standings.push((entry.segment, entry.position, entry.bytes.len()));
    };
    let none = Tail::default();
    let config = config();
    let report = verify::scan(dir.disk(), &partition, &config, none, visit);
    assert_eq!(report.await.unwrap().damage, []);
    standings
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
    file.sync_all().unwrap();
}

fn overwrite(path: &Path, position: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, position).unwrap();
    file.sync_all().unwrap();
}
