//! Hard state and superblock.

use super::*;
use crate::storage::layout::{HardState, Superblock};
use crate::storage::superblock;

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
            logs_created: false,
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
