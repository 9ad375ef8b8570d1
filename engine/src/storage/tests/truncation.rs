//! Truncation.

use super::*;
use crate::storage::layout::{BLOCK, HardState};
use crate::storage::truncate::TruncateError;

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
            abandon(opened.log).await;
        }
    });
}

#[test]
fn what_is_committed_is_never_cut_nor_after_a_restart() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        for _ in 0..6 {
            append_durable(&log, 5000).await;
        }
        log.note_committed(4);
        log.note_committed(2); // never back
        let refused = log.truncate_after(3).await;
        assert!(
            matches!(refused, Err(TruncateError::Committed { index: 3, committed: 4 })),
            "{refused:?}"
        );
        log.truncate_after(5).await.unwrap();
        log.mark_idle().await.unwrap();
        assert_eq!(log.hard_state().commit_index, 4);
        abandon(log).await;
        let log = open(&dir).await.log;
        assert_eq!((log.last().index, log.committed_index()), (5, 4));
        assert!(log.truncate_after(3).await.is_err(), "the hard state remembers");
        log.truncate_after(4).await.unwrap();
        assert_eq!(log.last().index, 4);
    });
}

#[test]
fn what_is_committed_and_not_durable_here_yet_is_not_promised() {
    run(async {
        let dir = Dir::new();
        let log = open(&dir).await.log;
        append_durable(&log, 600).await;
        append(&log, 600).await; // not flushed; a majority of other nodes has it
        log.note_committed(2);
        log.save_hard_state(HardState { term: 1, ..HardState::default() }).await.unwrap();
        let saved = log.hard_state();
        assert_eq!((saved.commit_index, saved.durable_index), (1, 1));
        abandon(log).await;
        assert_eq!(open(&dir).await.log.last().index, 1);
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
