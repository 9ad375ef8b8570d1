//! Appending and reading back.

use super::*;
use crate::storage::error::ReadError;

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
