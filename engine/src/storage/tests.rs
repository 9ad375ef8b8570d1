//! The log on real files, through glommio.

use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use glommio::LocalExecutorBuilder;
use walengine_net::entry::{EntryHeader, EntryKind, EntryMeta, HEADER_BYTES, decode_entry};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

use super::error::{AppendError, OpenError, ReadError};
use super::glommio_disk::GlommioDisk;
use super::layout::{BLOCK, HardState, SnapshotMeta, Superblock, Tail};
use super::log::{Log, LogConfig, Opened};
use super::snapshot::SnapshotStore;
use super::{superblock, verify};
use crate::runtime_glommio::GlommioRuntime;

const SEGMENT_BYTES: u64 = 64 << 10;
const CLUSTER: ClusterId = ClusterId(0xfeed);
const PARTITION: PartitionId = PartitionId(3);

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
    let report = verify::scan(dir.disk(), &partition, CLUSTER, PARTITION, SEGMENT_BYTES, |entry| {
        standings.push((entry.segment, entry.position, entry.bytes.len()));
    });
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

#[test]
fn entries_are_readable_staged_in_flight_and_durable() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        let header = append(&log, 100).await;
        assert_eq!((log.last().index, log.durable_index()), (1, 0));
        assert_eq!(read_all(&log, 1, 0).await, [header]);
        log.flush();
        assert_eq!(read_all(&log, 1, 0).await, [header]);
        log.wait_durable(1).await.unwrap();
        assert_eq!(read_all(&log, 1, 0).await, [header]);
        assert!(matches!(log.read(2, 0).await, Err(ReadError::NoEntry { index: 2, .. })));
        assert!(matches!(log.read(0, 0).await, Err(ReadError::NoEntry { index: 0, .. })));
    });
}

#[test]
fn reopen_reads_back_every_entry_over_many_segments() {
    run(async {
        let dir = Dir::new();
        let opened = open(&dir).await;
        let mut headers = Vec::new();
        for index in 0..300 {
            headers.push(append(&opened.log, 100 + (index * 37) % 3000).await);
            if index % 3 == 0 {
                opened.log.flush();
            }
        }
        assert_eq!(read_all(&opened.log, 1, 10_000).await, headers);
        let tail = opened.log.last();
        opened.log.close().await.unwrap();
        assert!(dir.segment(7).exists(), "the test rolls segments");

        let opened = open(&dir).await;
        assert_eq!(opened.log.last(), tail);
        assert_eq!(opened.log.durable_index(), 300);
        assert_eq!(opened.recovered.entries, 300);
        assert_eq!((opened.recovered.cut_bytes, opened.recovered.flushed_again), (0, 0));
        for bytes_max in [0, 5_000, 1 << 20] {
            assert_eq!(read_all(&opened.log, 1, bytes_max).await, headers);
        }
        for header in &headers {
            let (base, index) = (header.meta.base_offset, header.meta.index);
            assert_eq!(opened.log.find_offset(base).await.unwrap(), index);
            assert_eq!(opened.log.find_offset(base.plus(1)).await.unwrap(), index);
        }
        let next = opened.log.last().next_offset;
        assert!(matches!(opened.log.find_offset(next).await, Err(ReadError::NoOffset { .. })));
        append_durable(&opened.log, 50).await;
        opened.log.close().await.unwrap();
        assert_eq!(standings(&dir).await.len(), 301);
    });
}

#[test]
fn snapshot_point_spares_older_segments() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        let mut point = Tail::default();
        for index in 1..=100 {
            append(&log, 2000).await;
            if index == 80 {
                point = log.last();
            }
        }
        let tail = log.last();
        log.close().await.unwrap();
        flip(&dir.segment(1), BLOCK + 200);
        assert!(matches!(refused(&dir).await, OpenError::Damaged { .. }));
        let opened = try_open(&dir, point).await.unwrap();
        assert_eq!(opened.log.last(), tail);
        assert!(opened.recovered.entries < 50);
        assert_eq!(read_all(&opened.log, 81, 1 << 20).await.len(), 20);
        let error = opened.log.read(1, 0).await.unwrap_err();
        let ReadError::Corrupt { place, .. } = error else { panic!("{error}") };
        assert_eq!(
            (place.segment.as_str(), place.position, place.index),
            ("00000001.seg", BLOCK, 1)
        );
        opened.log.close().await.unwrap();

        let other = Tail { timestamp: Timestamp(1), ..point };
        let error = try_open(&dir, other).await.err().unwrap();
        assert!(error.to_string().contains("contradicts the snapshot"), "{error}");
    });
}

#[test]
fn reopen_cuts_torn_tail() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..5 {
            append_durable(&log, 6000).await;
        }
        drop(log);
        let (segment, position, bytes) = *standings(&dir).await.last().unwrap();
        // The last entry's second half never came to the disk.
        overwrite(&dir.segment(segment), position + 4096, &vec![0; bytes - 4096]);

        let opened = open(&dir).await;
        assert_eq!(opened.log.last().index, 4);
        assert_eq!(opened.recovered.cut_bytes, 4096);
        let bytes = std::fs::read(dir.segment(segment)).unwrap();
        assert!(bytes[position as usize..].iter().all(|&byte| byte == 0), "stale bytes are left");
        append_durable(&opened.log, 10).await;
        assert_eq!(read_all(&opened.log, 1, 1 << 20).await.len(), 5);
        opened.log.close().await.unwrap();
        assert_eq!(open(&dir).await.log.last().index, 5);
    });
}

#[test]
fn damage_before_the_durable_point_is_refused_and_left_alone() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..5 {
            append_durable(&log, 600).await;
        }
        drop(log);
        let (segment, position, _) = standings(&dir).await[2];
        flip(&dir.segment(segment), position + 300);
        let before = std::fs::read(dir.segment(segment)).unwrap();
        let error = refused(&dir).await;
        let OpenError::Damaged { place, .. } = &error else { panic!("{error}") };
        assert_eq!(
            (place.segment.as_str(), place.position, place.index),
            ("00000001.seg", position, 3)
        );
        assert_eq!(std::fs::read(dir.segment(segment)).unwrap(), before);
    });
}

#[test]
fn idle_mark_is_a_witness_for_the_last_entry() {
    run(async {
        for idle in [false, true] {
            let dir = Dir::new();
            let log = open(&dir).await.log;
            append_durable(&log, 600).await;
            append_durable(&log, 600).await;
            if idle {
                log.mark_idle().await.unwrap();
            }
            drop(log);
            let (segment, position, _) = standings(&dir).await[1];
            flip(&dir.segment(segment), position + 300);
            if idle {
                assert!(matches!(refused(&dir).await, OpenError::Damaged { .. }));
            } else {
                assert_eq!(open(&dir).await.log.last().index, 1);
            }
        }
    });
}

#[test]
fn torn_roll_is_cut_and_the_segment_used_again() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        while log.last().index == 0 || standings_of(&log) < 2 {
            append_durable(&log, 9000).await;
        }
        let last = log.last().index;
        drop(log);
        // Header block lost, entry there.
        overwrite(&dir.segment(2), 0, &[0; 4096]);
        let opened = open(&dir).await;
        assert_eq!(opened.log.last().index, last - 1);
        assert!(std::fs::read(dir.segment(2)).unwrap().iter().all(|&byte| byte == 0));
        append_durable(&opened.log, 9000).await;
        drop(opened);
        // Header there, entry lost.
        overwrite(&dir.segment(2), BLOCK, &vec![0; 16 << 10]);
        let opened = open(&dir).await;
        assert_eq!(opened.log.last().index, last - 1);
        for _ in 0..20 {
            append_durable(&opened.log, 9000).await;
        }
        opened.log.close().await.unwrap();
        assert_eq!(open(&dir).await.log.last().index, last + 19);
    });
}

/// Segments with entries.
fn standings_of(log: &TestLog) -> usize {
    log.inner.state.borrow().segments.len()
}

#[test]
fn every_flipped_byte_is_detected_or_the_tail() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..6 {
            append_durable(&log, 700).await;
        }
        log.close().await.unwrap();
        let end = 7 * BLOCK;
        for position in (0..end).step_by(61) {
            flip(&dir.segment(1), position);
            match try_open(&dir, Tail::default()).await {
                Err(OpenError::Damaged { .. }) => {}
                Ok(opened) => {
                    // Behind the last entry, in its block's padding: nothing is lost.
                    assert!(position >= 6 * BLOCK + 828, "byte {position} passed");
                    assert_eq!(opened.log.last().index, 6);
                    let bytes = std::fs::read(dir.segment(1)).unwrap();
                    assert_eq!(bytes[position as usize], 0);
                    flip(&dir.segment(1), position);
                }
                Err(error) => panic!("{error}"),
            }
            flip(&dir.segment(1), position);
        }
        assert_eq!(open(&dir).await.log.last().index, 6);
    });
}

#[test]
fn short_and_missing_segments_are_damage() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..20 {
            append(&log, 9000).await;
        }
        log.close().await.unwrap();
        let path = dir.segment(2);
        let content = std::fs::read(&path).unwrap();
        for bytes in [0, 1, 4096, 65535] {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
            let error = refused(&dir).await;
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            std::fs::write(&path, &content).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        let error = refused(&dir).await;
        assert!(error.to_string().contains("00000002.seg at byte 0"), "{error}");
        std::fs::write(&path, &content).unwrap();
        assert_eq!(open(&dir).await.log.last().index, 20);
        // Two segments swapped.
        let other = std::fs::read(dir.segment(3)).unwrap();
        std::fs::write(&path, &other).unwrap();
        std::fs::write(dir.segment(3), &content).unwrap();
        assert!(matches!(refused(&dir).await, OpenError::Damaged { .. }));
    });
}

#[test]
fn truncation_removes_the_tail_for_good() {
    run(async {
        for keep in [0, 1, 4, 5, 6, 7, 12, 18, 19] {
            let dir = Dir::new();
            let log = open(&dir).await.log;
            let mut tails = vec![log.last()];
            for index in 1..=20 {
                append(&log, 9000 + index).await;
                tails.push(log.last());
                if index == 10 {
                    log.flush();
                }
            }
            log.truncate_after(keep).await.unwrap();
            let tail = tails[keep as usize];
            assert_eq!((log.last(), log.durable_index()), (tail, keep));
            assert_eq!(read_all(&log, 1, 1 << 20).await.len() as u64, keep);
            for _ in 0..10 {
                append(&log, 3000).await;
            }
            let end = log.last();
            log.close().await.unwrap();
            let opened = open(&dir).await;
            assert_eq!(opened.log.last(), end, "kept {keep}");
            assert_eq!(read_all(&opened.log, 1, 1 << 20).await.len() as u64, keep + 10);
        }
    });
}

#[test]
fn interrupted_truncation_is_resumed() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..6 {
            append_durable(&log, 5000).await;
        }
        let kept = log.inner.clone();
        kept.save_slot(|slot| slot.cut_after = Some(3)).await.unwrap();
        drop((log, kept));
        // The crash came when entry 4 was gone and 5 and 6, which call it durable, were not.
        overwrite(&dir.segment(1), BLOCK + 3 * 2 * BLOCK, &[0; 8192]);
        let opened = open(&dir).await;
        assert_eq!(opened.log.last().index, 3);
        assert!(opened.recovered.truncation_resumed);
        drop(opened);
        let opened = open(&dir).await;
        assert!(!opened.recovered.truncation_resumed);
        assert_eq!(opened.recovered.cut_bytes, 0);
    });
}

#[test]
fn hard_state_alternates_between_slots_and_survives_a_bad_one() {
    run(async {
        let dir = Dir::new();
        let opened = open(&dir).await;
        assert_eq!(opened.hard_state, HardState::default());
        let mut state = HardState::default();
        for term in 1..=4 {
            state = HardState { term, voted_for: Some(term), ..HardState::default() };
            opened.log.save_hard_state(state).await.unwrap();
        }
        drop(opened);
        let opened = open(&dir).await;
        assert_eq!(opened.hard_state, state);
        assert!(!opened.recovered.hard_state_slot_lost);
        drop(opened);
        // Four saves: the fourth stands in slot 0, the third in slot 1.
        flip(&dir.partition().join("hard-state"), 41);
        let opened = open(&dir).await;
        assert_eq!(opened.hard_state.term, 3);
        assert!(opened.recovered.hard_state_slot_lost);
        drop(opened);
        flip(&dir.partition().join("hard-state"), 4096 + 41);
        assert!(matches!(refused(&dir).await, OpenError::File { .. }));
    });
}

#[test]
fn partition_is_created_only_when_asked() {
    run(async {
        let dir = Dir::new();
        let config = LogConfig { create: false, ..config() };
        let runtime = GlommioRuntime::new();
        let opened = Log::open(dir.disk(), runtime, dir.partition(), config, Tail::default()).await;
        assert!(matches!(opened.err(), Some(OpenError::Missing(_))));
        drop(open(&dir).await);
        std::fs::remove_file(dir.partition().join("hard-state")).unwrap();
        drop(open(&dir).await); // a creation that a crash had ended
        let log = open(&dir).await.log;
        append_durable(&log, 10).await;
        drop(log);
        std::fs::remove_file(dir.partition().join("hard-state")).unwrap();
        assert!(matches!(refused(&dir).await, OpenError::File { .. }));
    });
}

#[test]
fn append_refuses_what_has_no_room_before_staging() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        let too_large = log.append(&meta(log.last(), 1), &vec![0; 61_400]);
        assert!(matches!(too_large, Err(AppendError::TooLarge(_))));
        // Without an await the preparer can't run: one segment is prepared and no second.
        let refused = loop {
            let meta = meta(log.last(), 1);
            if let Err(error) = log.append(&meta, &[0; 9000]) {
                break error;
            }
        };
        assert!(matches!(refused, AppendError::Full), "{refused}");
        let tail = log.last();
        append_durable(&log, 9000).await;
        assert_eq!(log.last().index, tail.index + 1);
    });
}

#[test]
fn superblock_survives_one_bad_copy() {
    run(async {
        let dir = Dir::new();
        let written = Superblock {
            cluster: CLUSTER,
            node: 9,
            partitions: 2,
            segment_bytes: SEGMENT_BYTES,
            created: Timestamp(5),
            replicated: false,
        };
        assert!(matches!(superblock::read(&dir.disk(), &dir.0).await, Err(OpenError::Missing(_))));
        superblock::write(&dir.disk(), &dir.0, &written).await.unwrap();
        assert!(superblock::write(&dir.disk(), &dir.0, &written).await.is_err());
        for position in [40, 0, 4096 + 16] {
            flip(&dir.0.join("superblock"), position);
            if position != 4096 + 16 {
                assert_eq!(superblock::read(&dir.disk(), &dir.0).await.unwrap(), written);
            }
        }
        assert!(matches!(superblock::read(&dir.disk(), &dir.0).await, Err(OpenError::File { .. })));
    });
}

#[test]
fn newest_whole_snapshot_is_found() {
    run(async {
        let dir = Dir::new();
        let partition = dir.partition();
        std::fs::create_dir_all(&partition).unwrap();
        let store = SnapshotStore::open(dir.disk(), &partition).await.unwrap();
        assert!(store.newest().await.unwrap().snapshot.is_none());
        for index in 1..=3 {
            let data = body(index, 300_000 * index as usize - 300_000);
            let applied = Tail { index, next_offset: Offset(index * 2), ..Tail::default() };
            let created = Timestamp(index);
            let meta = SnapshotMeta { cluster: CLUSTER, partition: PARTITION, created, applied };
            let mut writer = store.create(&meta, data.len() as u64).await.unwrap();
            for piece in data.chunks(70_001) {
                writer.write(piece).await.unwrap();
            }
            writer.finish().await.unwrap();
            let mut reader = store.newest().await.unwrap().snapshot.unwrap();
            assert_eq!(*reader.meta(), meta);
            let mut found = Vec::new();
            while let Some(chunk) = reader.next_chunk().await.unwrap() {
                found.extend_from_slice(chunk);
            }
            assert!(found == data);
            assert_eq!(reader.data_bytes(), data.len() as u64);
        }
        let path = |index: u64| partition.join("snapshots").join(format!("{index:020}.snap"));
        for position in (0..2 * BLOCK + 3 * (256 << 10)).step_by(40_009) {
            let inside = position < BLOCK + 600_000 + 3 * 16;
            flip(&path(3), position);
            let newest = store.newest().await.unwrap();
            if inside {
                assert_eq!(newest.snapshot.unwrap().meta().applied.index, 2, "{position}");
                assert_eq!(newest.skipped[0].0, path(3));
            }
            flip(&path(3), position);
        }
        store.prune(1).await.unwrap();
        assert_eq!(store.indexes().await.unwrap(), [3]);
        let left = partition.join("snapshots").join("00000000000000000009.new");
        std::fs::write(&left, b"half").unwrap();
        SnapshotStore::open(dir.disk(), &partition).await.unwrap();
        assert!(!left.exists());
    });
}

#[test]
fn verification_goes_on_behind_damage() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..40 {
            append(&log, 9000).await;
        }
        log.close().await.unwrap();
        let places = standings(&dir).await;
        let (segment, position, _) = places[8];
        flip(&dir.segment(segment), position + HEADER_BYTES as u64);
        let mut seen = Vec::new();
        let report = verify::scan(
            dir.disk(),
            &dir.partition(),
            CLUSTER,
            PARTITION,
            SEGMENT_BYTES,
            |entry| seen.push(entry.header.meta.index),
        )
        .await
        .unwrap();
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        let (place, _) = &report.damage[0];
        assert_eq!((place.position, place.index), (position, 9));
        assert_eq!(report.tail.index, 8);
        let in_segment = places.iter().filter(|place| place.0 == segment).count();
        assert!(seen.len() >= 40 - in_segment && !seen.contains(&9) && seen.contains(&40));
    });
}
