//! What opening makes of an end of the process, and of damage.

use super::*;
use crate::storage::error::ReadError;
use crate::storage::layout::BLOCK;

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
        abandon(log).await;
        // Header block lost, entry there.
        overwrite(&dir.segment(2), 0, &[0; 4096]);
        let opened = open(&dir).await;
        assert_eq!(opened.log.last().index, last - 1);
        assert!(std::fs::read(dir.segment(2)).unwrap().iter().all(|&byte| byte == 0));
        append_durable(&opened.log, 9000).await;
        abandon(opened.log).await;
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
