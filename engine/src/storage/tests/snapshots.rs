//! Snapshots.

use super::*;
use crate::storage::layout::{BLOCK, SnapshotMeta};
use crate::storage::snapshot::SnapshotStore;

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
