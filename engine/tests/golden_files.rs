//! Are the bytes on disk still those of format version 1? `examples/golden_files.rs` wrote them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::LocalExecutorBuilder;
use walengine::ids::run::{Run, RunRange};
use walengine::storage::glommio_disk::GlommioDisk;
use walengine::storage::layout::{
    FenceBlock, HardStateSlot, RunBlock, RunHeader, SegmentHeader, Tail,
};
use walengine::storage::log::LogConfig;
use walengine::storage::snapshot::SnapshotStore;
use walengine::storage::{superblock, verify};
use walengine_net::entry::{EntryKind, access_events, access_records};

#[path = "golden/values.rs"]
mod values;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(path).unwrap()
}

#[test]
fn same_values_give_the_golden_bytes() {
    for (name, bytes) in values::encode() {
        assert!(bytes == golden(name), "{name} has changed: that is a new format version");
    }
}

#[test]
fn golden_blocks_give_the_same_values() {
    let segment = golden("segment.bin");
    let block = segment.first_chunk().unwrap();
    assert_eq!(SegmentHeader::from_block(block), Ok(values::segment_header()));
    let hard_state = golden("hard_state.bin");
    let block = hard_state[4096..].first_chunk().unwrap();
    assert_eq!(HardStateSlot::from_block(block), Ok(values::hard_state()));
    let run = golden("run.bin");
    let [header, entries, fences] = run.as_chunks().0 else { panic!("it has three blocks") };
    assert_eq!(RunHeader::from_block(header), Ok(values::run()));
    let entries = RunBlock::open(&values::run(), 0, entries).unwrap();
    assert!(entries.entries().eq(values::run_entries()));
    let fences = FenceBlock::open(&values::run(), 0, fences).unwrap();
    assert!(fences.eq([values::run_entries()[0].hash]));
}

#[test]
fn golden_files_are_read_as_a_data_directory() {
    let dir = std::env::temp_dir().join(format!("walengine-golden-{}", std::process::id()));
    let partition = dir.join("p0003");
    std::fs::create_dir_all(partition.join("segments")).unwrap();
    std::fs::create_dir_all(partition.join("snapshots")).unwrap();
    let mut segment = golden("segment.bin");
    segment.resize(64 << 10, 0);
    let put = |path: PathBuf, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    put(dir.join("superblock"), &golden("superblock.bin"));
    put(partition.join("hard-state"), &golden("hard_state.bin"));
    put(partition.join("segments/00000001.seg"), &segment);
    put(partition.join("snapshots/00000000000000000003.snap"), &golden("snapshot.bin"));
    std::fs::create_dir_all(partition.join("ids")).unwrap();
    put(partition.join("ids/00000a0b0c0d0e0f-00000b0000000000.run"), &golden("run.bin"));
    let in_dir = dir.clone();
    let executor = LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap();
    executor.run(async move { check(&in_dir, &partition).await });
    std::fs::remove_dir_all(dir).unwrap();
}

async fn check(dir: &Path, partition: &Path) {
    let disk = GlommioDisk::new(dir);
    let superblock = superblock::read(&disk, dir).await.unwrap();
    assert_eq!(superblock, values::superblock());

    let seen = Rc::new(RefCell::new(Vec::new()));
    let visit = |entry: verify::Checked<'_>| {
        let body = entry.bytes[128..].to_vec();
        seen.borrow_mut().push((entry.header.meta.kind, body, entry.header.meta.records));
    };
    let header = values::segment_header();
    let log = LogConfig {
        segment_bytes: header.segment_bytes,
        ..LogConfig::new(header.cluster, header.partition)
    };
    // The golden snapshot is of another log: its values were chosen to be told apart.
    let report = verify::scan(disk.clone(), partition, &log, Tail::default(), visit).await.unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(*seen.borrow(), values::entries());
    for (kind, body, _) in seen.borrow().iter() {
        match kind {
            EntryKind::Events => {
                let (found, expected) = (access_events(body).unwrap(), values::events());
                assert_eq!(found.events.as_slice(), expected.events);
                assert_eq!(found.verdicts.as_slice(), expected.verdicts);
                assert_eq!(found.resolved.as_slice(), expected.resolved);
            }
            EntryKind::Records => {
                let (found, expected) = (access_records(body).unwrap(), values::records());
                assert_eq!(found.blob.as_slice(), expected.blob);
                assert_eq!(found.heads[1].id.to_native(), expected.heads[1].id);
            }
            _ => assert!(body.is_empty()),
        }
    }

    let (ids, mut keys) = (partition.join("ids"), Vec::new());
    let run = RunRange { first: values::run().first, end: values::run().end };
    let on_entry = |entry| keys.push(entry);
    Run::open(&disk, &ids, log.ids, run, on_entry, async |_| {}).await.unwrap();
    assert_eq!(keys, values::run_entries());

    let store = SnapshotStore::open(disk, partition).await.unwrap();
    let mut snapshot = store.newest().await.unwrap().snapshot.unwrap();
    assert_eq!(*snapshot.meta(), values::snapshot());
    assert_eq!(snapshot.next_chunk().await.unwrap(), Some(values::SNAPSHOT_DATA));
    assert_eq!(snapshot.next_chunk().await.unwrap(), None);
}
