//! Everything that a data directory can lose, hold cut, or hold twice, and what the start and `verify`
//! say of it.

use super::*;
use crate::storage::config::Votes;
use crate::storage::contents::{self, Fault};
use crate::storage::layout::{HardState, SnapshotMeta, Superblock};
use crate::storage::snapshot::SnapshotStore;
use crate::storage::{partition_dir, superblock};

const PARTITIONS: u16 = 4;

fn promise() -> Superblock {
    Superblock {
        cluster: CLUSTER,
        node: 9,
        partitions: PARTITIONS,
        segment_bytes: SEGMENT_BYTES,
        created: Timestamp(5),
        replicated: false,
        logs_created: true,
    }
}

fn config_of(number: u16) -> LogConfig {
    LogConfig { ids: Ids { partition: PartitionId(number), ..IDS }, ..config() }
}

async fn open_one(dir: &Dir, config: LogConfig, from: Tail) -> Result<TestOpened, OpenError> {
    let path = partition_dir(&dir.0, config.ids.partition);
    Log::open(dir.disk(), GlommioRuntime::new(), path, config, from).await
}

async fn snapshot(dir: &Dir, applied: Tail) {
    let store = SnapshotStore::open(dir.disk(), &dir.partition()).await.unwrap();
    let created = Timestamp(6);
    let meta = SnapshotMeta { cluster: CLUSTER, partition: PARTITION, created, applied };
    let mut writer = store.create(&meta, 10).await.unwrap();
    writer.write(&[7; 10]).await.unwrap();
    writer.finish().await.unwrap();
}

/// Number of the last segment with entries, and of the last one.
#[derive(Clone, Copy)]
struct Last {
    used: u64,
    prepared: u64,
}

/// A directory of four partitions; the last one has entries in several segments, two snapshots, and
/// votes in both slots of its hard state.
async fn whole() -> (Dir, Last) {
    let dir = Dir::new();
    for number in 0..PARTITIONS {
        let opened = open_one(&dir, config_of(number), Tail::default()).await.unwrap();
        opened.log.close().await.unwrap();
    }
    superblock::write(&dir.disk(), &dir.0, &promise()).await.unwrap();
    let log = open(&dir).await.log;
    for term in 1..=2 {
        let state = HardState { term, voted_for: Some(9), ..HardState::default() };
        log.save_hard_state(state).await.unwrap();
    }
    for index in 1..=30 {
        append_durable(&log, 9000).await;
        if index == 8 || index == 28 {
            snapshot(&dir, log.last()).await;
        }
    }
    let used = standings(&dir).await.last().unwrap().0;
    log.close().await.unwrap();
    let mut prepared = used;
    while dir.segment(prepared + 1).exists() {
        prepared += 1;
    }
    assert!(used > 3 && prepared > used, "{used} segments with entries, {prepared} in all");
    (dir, Last { used, prepared })
}

async fn newest_snapshot(dir: &Dir) -> Tail {
    let store = SnapshotStore::read_only(dir.disk(), &dir.partition());
    let newest = store.newest().await.unwrap();
    newest.snapshot.map_or(Tail::default(), |found| found.meta().applied)
}

/// What the start says: nothing, or why it ends.
async fn start(dir: &Dir) -> Option<String> {
    let starting = async {
        let found = superblock::read(&dir.disk(), &dir.0).await?;
        contents::look(&dir.disk(), &dir.0, &found).await?.require_whole()?;
        for number in 0..PARTITIONS {
            let config = LogConfig { create: false, ..config_of(number) };
            let is_last = config.ids.partition == PARTITION;
            let from = if is_last { newest_snapshot(dir).await } else { Tail::default() };
            let opened = open_one(dir, config, from).await?;
            assert!(!is_last || opened.log.last().index == 30, "entries are forgotten");
            abandon(opened.log).await;
        }
        Ok::<(), OpenError>(())
    };
    starting.await.err().map(|error| error.to_string())
}

/// What `verify` says: nothing, or what is wrong.
async fn verify_all(dir: &Dir) -> Option<String> {
    let mut said = Vec::new();
    let verifying = async {
        let found = superblock::read(&dir.disk(), &dir.0).await?;
        let faults = contents::look(&dir.disk(), &dir.0, &found).await?.faults;
        said.extend(faults.iter().map(Fault::to_string));
        for number in 0..PARTITIONS {
            let config = config_of(number);
            let path = partition_dir(&dir.0, config.ids.partition);
            if !path.exists() {
                continue;
            }
            let is_last = config.ids.partition == PARTITION;
            let from = if is_last { newest_snapshot(dir).await } else { Tail::default() };
            let report = verify::scan(dir.disk(), &path, &config, from, |_| {}).await?;
            said.extend(report.damage.iter().map(|(place, why)| format!("{place}: {why}")));
            if report.damage.is_empty() {
                said.extend(report.refused);
            }
        }
        Ok::<(), OpenError>(())
    };
    let ended = verifying.await;
    said.extend(ended.err().map(|error| error.to_string()));
    (!said.is_empty()).then(|| said.join("; "))
}

/// What is said of a loss.
#[derive(Clone, Copy)]
enum Said {
    /// Nothing: all that was promised is there.
    Nothing,
    /// It is refused, and the message has this in it.
    Refused(&'static str),
}

use Said::{Nothing, Refused};

impl Said {
    fn check(self, found: Option<&str>, who: &str, loss: &str) {
        match (self, found) {
            (Self::Nothing, None) => {}
            (Self::Refused(part), Some(message)) if message.contains(part) => {}
            (Self::Nothing, Some(message)) => panic!("{loss}: {who} says {message}"),
            (Self::Refused(part), _) => panic!("{loss}: {who} says {found:?} and not {part}"),
        }
    }
}

type Harm = fn(&Dir, Last);

fn remove(dir: &Dir, name: &str) {
    let path = dir.0.join(name);
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

fn cut(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(name));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

fn newest_path(dir: &Dir) -> PathBuf {
    dir.partition().join("snapshots/00000000000000000028.snap")
}

/// Loss, what the start says, what `verify` says.
#[rustfmt::skip]
const LOSSES: &[(&str, Harm, Said, Said)] = &[
    ("nothing", |_, _| {}, Nothing, Nothing),
    // The data directory.
    ("superblock", |dir, _| remove(dir, "superblock"),
        Refused("is not formatted"), Refused("is not formatted")),
    ("superblock cut", |dir, _| cut(&dir.0.join("superblock"), 4096),
        Refused("superblock is damaged"), Refused("superblock is damaged")),
    ("one copy of the superblock", |dir, _| flip(&dir.0.join("superblock"), 40), Nothing, Nothing),
    ("a partition without entries", |dir, _| remove(dir, "p0001"),
        Refused("p0001 is missing"), Refused("p0001 is missing")),
    ("the partition with entries", |dir, _| remove(dir, "p0003"),
        Refused("p0003 is missing"), Refused("p0003 is missing")),
    ("every partition", |dir, _| (0..4).for_each(|number| remove(dir, &format!("p000{number}"))),
        Refused("p0000 is missing"), Refused("p0003 is missing")),
    ("a partition twice, behind the last", |dir, _| copy(&dir.partition(), &dir.0.join("p0004")),
        Refused("p0004 is no part"), Refused("p0004 is no part")),
    ("a partition twice, under another name",
        |dir, _| copy(&dir.partition(), &dir.0.join("p00003")),
        Refused("p00003 is no part"), Refused("p00003 is no part")),
    ("a partition twice, in the place of another", |dir, _| {
            remove(dir, "p0002");
            copy(&dir.partition(), &dir.0.join("p0002"));
        }, Refused("another cluster or partition"), Refused("another cluster or partition")),
    // Hard state.
    ("hard state", |dir, _| remove(dir, "p0003/hard-state"),
        Refused("p0003/hard-state is missing"), Refused("p0003/hard-state is missing")),
    ("hard state cut", |dir, _| cut(&dir.partition().join("hard-state"), 4096),
        Refused("hard-state is damaged"), Refused("hard-state is damaged")),
    ("a slot of the hard state", |dir, _| flip(&dir.partition().join("hard-state"), 41),
        Nothing, Nothing),
    ("both slots of the hard state", |dir, _| {
            flip(&dir.partition().join("hard-state"), 41);
            flip(&dir.partition().join("hard-state"), 4096 + 41);
        }, Refused("hard-state is damaged"), Refused("hard-state is damaged")),
    ("hard state of a partition without entries", |dir, _| remove(dir, "p0000/hard-state"),
        Refused("p0000/hard-state is missing"), Refused("p0000/hard-state is missing")),
    // Segments.
    ("all segments", |dir, _| remove(dir, "p0003/segments"),
        Refused("p0003/segments is missing"), Refused("p0003/segments is missing")),
    ("the first segment", |dir, _| remove(dir, "p0003/segments/00000001.seg"),
        Refused("00000001.seg is missing"), Refused("00000001.seg is missing")),
    ("a segment in the middle", |dir, _| remove(dir, "p0003/segments/00000002.seg"),
        Refused("00000002.seg is missing"), Refused("00000002.seg is missing")),
    ("the last segment with entries",
        |dir, last| std::fs::remove_file(dir.segment(last.used)).unwrap(),
        Refused(".seg is missing"), Refused(".seg is missing")),
    ("the last segment with entries and all behind it", |dir, last| {
            (last.used..=last.prepared)
                .for_each(|number| std::fs::remove_file(dir.segment(number)).unwrap());
        }, Refused("entries up to 30 were durable"), Refused("entries up to 30 were durable")),
    ("the last prepared segment",
        |dir, last| std::fs::remove_file(dir.segment(last.prepared)).unwrap(), Nothing, Nothing),
    ("the only segment of a partition without entries", |dir, _| remove(dir, "p0000/segments"),
        Refused("p0000/segments is missing"), Refused("p0000/segments is missing")),
    ("the first segment cut", |dir, _| cut(&dir.segment(1), 8192),
        Refused("00000001.seg at byte 8192"), Refused("00000001.seg at byte 8192")),
    ("the last segment with entries cut", |dir, last| cut(&dir.segment(last.used), 8192),
        Refused("the segment has 8192 bytes"), Refused("the segment has 8192 bytes")),
    ("a prepared segment cut", |dir, last| cut(&dir.segment(last.prepared), 8192),
        Refused("the segment has 8192 bytes"), Refused("the segment has 8192 bytes")),
    ("a segment twice, as the next one",
        |dir, last| copy(&dir.segment(2), &dir.segment(last.prepared + 1)),
        Refused("its header is that of another segment"),
        Refused("its header is that of another segment")),
    ("a segment twice, in the place of another", |dir, _| copy(&dir.segment(2), &dir.segment(3)),
        Refused("its header is that of another segment"),
        Refused("its header is that of another segment")),
    ("a segment twice, under another name",
        |dir, _| copy(&dir.segment(2), &dir.partition().join("segments/2.seg")),
        Refused("2.seg is no part"), Refused("2.seg is no part")),
    ("a file of somebody's in the directory of segments",
        |dir, _| std::fs::write(dir.partition().join("segments/notes"), b"x").unwrap(),
        Nothing, Nothing),
    ("a segment that a crash left half made",
        |dir, last| {
            let half = dir.segment(last.prepared + 1).with_extension("new");
            std::fs::write(half, [0; 4096]).unwrap();
        }, Nothing, Nothing),
    // Snapshots: the log has everything that they have.
    ("all snapshots", |dir, _| remove(dir, "p0003/snapshots"), Nothing, Nothing),
    ("the newest snapshot", |dir, _| std::fs::remove_file(newest_path(dir)).unwrap(),
        Nothing, Nothing),
    ("the newest snapshot cut", |dir, _| cut(&newest_path(dir), 4096), Nothing, Nothing),
    ("a snapshot twice, as another one",
        |dir, _| copy(&newest_path(dir), &newest_path(dir).with_file_name(
            "00000000000000000029.snap")), Nothing, Nothing),
    ("a snapshot twice, under another name",
        |dir, _| copy(&newest_path(dir), &newest_path(dir).with_file_name("28.snap")),
        Refused("28.snap is no part"), Refused("28.snap is no part")),
];

#[test]
fn every_part_that_is_lost_is_told() {
    run(async {
        for &(loss, harm, start_says, verify_says) in LOSSES {
            let (dir, last) = whole().await;
            harm(&dir, last);
            // First, because it changes nothing.
            verify_says.check(verify_all(&dir).await.as_deref(), "verify", loss);
            start_says.check(start(&dir).await.as_deref(), "the start", loss);
        }
    });
}

/// The fault: the log was opened without its first segments if a snapshot stood for their entries.
/// Their ids were known, and their records were gone.
#[test]
fn first_segment_is_missed_behind_a_snapshot() {
    run(async {
        let (dir, _) = whole().await;
        std::fs::remove_file(dir.segment(1)).unwrap();
        let error = try_open(&dir, newest_snapshot(&dir).await).await.err().unwrap();
        assert!(error.to_string().contains("00000001.seg at byte 0"), "{error}");
        let (partition, none) = (dir.partition(), Tail::default());
        let report = verify::scan(dir.disk(), &partition, &config(), none, |_| {}).await;
        assert_eq!(report.unwrap().damage.len(), 1);
    });
}

#[test]
fn snapshot_is_a_witness_for_verify_too() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..3 {
            append_durable(&log, 600).await;
        }
        snapshot(&dir, log.last()).await;
        abandon(log).await;
        let (segment, position, _) = standings(&dir).await[2];
        overwrite(&dir.segment(segment), position, &vec![0; 4096]);
        let from = newest_snapshot(&dir).await;
        let opened = try_open(&dir, from).await;
        let error = opened.err().expect("the log ends before the snapshot").to_string();
        let partition = dir.partition();
        let report = verify::scan(dir.disk(), &partition, &config(), from, |_| {}).await;
        let damage = report.unwrap().damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(error.contains(&damage[0].1), "{error} is not {damage:?}");
        // A log that goes another way than the snapshot.
        let other = Tail { index: 2, ..from };
        let report = verify::scan(dir.disk(), &partition, &config(), other, |_| {}).await;
        let damage = report.unwrap().damage;
        assert!(damage[0].1.contains("contradicts the snapshot"), "{damage:?}");
    });
}

/// A directory that was formatted by a program which left its partitions to the first start.
#[test]
fn partitions_of_an_older_directory_may_be_absent_until_one_has_begun() {
    run(async {
        let dir = Dir::new();
        let old = Superblock { logs_created: false, ..promise() };
        superblock::write(&dir.disk(), &dir.0, &old).await.unwrap();
        let look = async || contents::look(&dir.disk(), &dir.0, &old).await.unwrap();
        assert!(look().await.require_whole().unwrap(), "nothing is there yet");

        // A crash in the first start: one partition is there, another half.
        let opened = open_one(&dir, config_of(0), Tail::default()).await.unwrap();
        std::fs::create_dir_all(dir.0.join("p0001/segments")).unwrap();
        assert!(look().await.require_whole().unwrap(), "no partition has begun");

        let state = HardState { term: 1, voted_for: Some(9), ..HardState::default() };
        opened.log.save_hard_state(state).await.unwrap();
        opened.log.close().await.unwrap();
        let refused = look().await.require_whole().unwrap_err().to_string();
        assert!(refused.contains("p0001/hard-state is missing"), "{refused}");
        assert!(refused.contains("p0003 is missing"), "{refused}");

        for number in 1..PARTITIONS {
            let opened = open_one(&dir, config_of(number), Tail::default()).await.unwrap();
            opened.log.close().await.unwrap();
        }
        assert!(!look().await.require_whole().unwrap(), "all partitions are there");
    });
}

#[test]
fn directory_without_superblock_is_cleared_only_if_nothing_was_in_it() {
    run(async {
        let dir = Dir::new();
        assert_eq!(contents::unfinished(&dir.disk(), &dir.0).await.unwrap(), [] as [PathBuf; 0]);
        for number in 0..2 {
            let opened = open_one(&dir, config_of(number), Tail::default()).await.unwrap();
            opened.log.close().await.unwrap();
        }
        let dirs = [0, 1].map(|number| partition_dir(&dir.0, PartitionId(number)));
        assert_eq!(contents::unfinished(&dir.disk(), &dir.0).await.unwrap(), dirs);
        contents::clear_unfinished(&dir.disk(), &dir.0).await.unwrap();
        let other = Ids { cluster: ClusterId(1), partition: PartitionId(0) };
        let config = LogConfig { ids: other, ..config() };
        let log = open_one(&dir, config, Tail::default()).await.unwrap().log;

        let state = HardState { term: 1, ..HardState::default() };
        log.save_hard_state(state).await.unwrap();
        log.close().await.unwrap();
        let refused = contents::clear_unfinished(&dir.disk(), &dir.0).await.unwrap_err();
        assert!(refused.to_string().contains("superblock is missing"), "{refused}");
        assert!(dir.0.join("p0000/hard-state").exists());

        let (dir, _) = whole().await;
        remove(&dir, "superblock");
        std::fs::remove_file(dir.partition().join("hard-state")).unwrap();
        let refused = contents::clear_unfinished(&dir.disk(), &dir.0).await.unwrap_err();
        assert!(refused.to_string().contains("superblock is missing"), "{refused}");
    });
}

/// The fault: the start forgot what a lost slot may have held, and voted again.
#[test]
fn a_lost_slot_ends_the_start_of_a_groups_node() {
    run(async {
        let (dir, _) = whole().await;
        flip(&dir.partition().join("hard-state"), 41);
        let before = std::fs::read(dir.partition().join("hard-state")).unwrap();
        let config = LogConfig { votes: Votes::Promised, create: false, ..config() };
        let from = newest_snapshot(&dir).await;
        let report = verify::scan(dir.disk(), &dir.partition(), &config, from, |_| {}).await;
        let refused = report.unwrap().refused.unwrap();
        let error = open_one(&dir, config, from).await.err().unwrap().to_string();
        assert!(error.contains("newest vote"), "{error}");
        assert_eq!(refused, error, "verify says what the start says");
        assert!(before == std::fs::read(dir.partition().join("hard-state")).unwrap());
    });
}

/// The fault: `verify` passed a hard state of an older moment than the log, and the start panicked when
/// it began a term that the log had left behind.
#[test]
fn a_hard_state_of_an_older_moment_is_told() {
    run(async {
        let (dir, _) = whole().await;
        let older = std::fs::read(dir.partition().join("hard-state")).unwrap();
        let log = open(&dir).await.log;
        let state = HardState { term: 7, voted_for: Some(9), ..HardState::default() };
        log.save_hard_state(state).await.unwrap();
        let meta = EntryMeta { term: 7, ..meta(log.last(), 2) };
        log.append(&meta, &body(meta.index, 100)).unwrap();
        log.close().await.unwrap();
        std::fs::write(dir.partition().join("hard-state"), older).unwrap();
        let config = LogConfig { votes: Votes::Saved, create: false, ..config() };
        let from = newest_snapshot(&dir).await;
        let report = verify::scan(dir.disk(), &dir.partition(), &config, from, |_| {}).await;
        let refused = report.unwrap().refused.unwrap();
        let error = open_one(&dir, config, from).await.err().unwrap().to_string();
        assert!(error.contains("it knows terms up to 2, the last entry is of term 7"), "{error}");
        assert_eq!(refused, error, "verify says what the start says");
    });
}

/// The fault: the start read only headers in front of its snapshot, and served a log with a hole.
#[test]
fn a_segment_of_an_older_moment_is_told_behind_a_snapshot() {
    run(async {
        let (dir, _) = whole().await;
        let places = standings(&dir).await;
        let (segment, position, _) = *places.iter().rfind(|place| place.0 == 2).unwrap();
        let rest = vec![0; (SEGMENT_BYTES - position) as usize / 4096 * 4096];
        overwrite(&dir.segment(segment), SEGMENT_BYTES - rest.len() as u64, &rest);
        let (from, config) = (newest_snapshot(&dir).await, config());
        let report = verify::scan(dir.disk(), &dir.partition(), &config, from, |_| {}).await;
        let refused = report.unwrap().refused.unwrap();
        assert!(refused.contains("they are of different moments"), "{refused}");
        let error = open_one(&dir, config, from).await.err().unwrap().to_string();
        assert!(error.contains(&refused), "{error}");
    });
}
