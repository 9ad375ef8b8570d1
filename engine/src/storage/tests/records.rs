//! Records by their offsets.

use super::some_log::{SomeLog, some_config};
use super::*;
use crate::storage::error::ReadError;
use crate::storage::records::Record;

#[test]
fn records_are_what_was_appended_wherever_they_are() {
    run(async {
        for seed in 0..16_u64 {
            let entries_on_blocks = seed.is_multiple_of(2);
            let config = LogConfig { entries_on_blocks, open_segments_max: 2, ..some_config() };
            let config =
                LogConfig { marks_max: if seed.is_multiple_of(3) { 5 } else { 1000 }, ..config };
            let mut some = SomeLog::new(seed, config).await;
            for entry in 0..70 {
                some.append_any().await;
                if entry % 10 == 9 && !some.records.is_empty() {
                    let offsets = some.some_offsets(50);
                    some.check(&offsets, &format!("seed {seed}, at entry {entry}")).await;
                }
            }
            for (how, reopen) in [("as written", false), ("reopened", true), ("again", true)] {
                if reopen {
                    some.reopen().await;
                }
                for count in [1, 7, 200] {
                    let offsets = some.some_offsets(count);
                    some.check(&offsets, &format!("seed {seed}, {how}, {count}")).await;
                }
                some.check(&some.all_offsets(), &format!("seed {seed}, {how}, all")).await;
                some.check(&[], "none").await;
            }
            for offset in some.some_offsets(20) {
                let found = some.log.read_checked_at(offset).await.unwrap();
                assert!(found.is_checked && found.record == some.records[offset.0 as usize]);
            }
            let end = some.log.last().next_offset;
            let refused = some.log.read_events_at(&[Offset(0), end]).await;
            assert!(matches!(refused, Err(ReadError::NoOffset { offset, .. }) if offset == end));
            some.log.close().await.unwrap();
        }
    });
}

#[test]
fn a_record_of_a_large_entry_costs_two_small_reads_and_one_of_a_small_entry_one() {
    run(async {
        let mut some = SomeLog::new(1, some_config()).await;
        for _ in 0..12 {
            some.append_events(1000).await;
        }
        let large = some.records.len() as u64;
        for _ in 0..600 {
            some.append_events(10).await;
        }
        some.append_events(1000).await;
        some.rest().await;
        some.reopen().await;
        some.check(&some.all_offsets(), "marks are loaded").await;
        some.disk.take_reads();
        let cases = [
            // The header's block, and the event's.
            (vec![Offset(2500)], 2, 8192),
            (vec![Offset(2500), Offset(2501), Offset(2500)], 2, 8192),
            // The event stands in the block of the header.
            (vec![Offset(2003)], 1, 4096),
            (vec![Offset(500), Offset(1500), Offset(2500), Offset(9500)], 8, 8 * 4096),
            // Much of one entry is wanted: it is read whole, behind its header.
            ((2000..3000).map(Offset).collect(), 2, 160 << 10),
            (vec![Offset(large + 2000)], 1, 72 << 10),
            // Between the same two marks.
            (vec![Offset(large + 2000), Offset(large + 2011)], 1, 72 << 10),
        ];
        for (offsets, reads_max, bytes_max) in cases {
            some.check(&offsets, "counted").await;
            let reads = some.disk.take_reads();
            let bytes: usize = reads.iter().map(|(_, bytes)| bytes).sum();
            let what = format!("{} from {}: {reads:?}", offsets.len(), offsets[0]);
            assert!(reads.len() <= reads_max && bytes <= bytes_max, "{what}");
        }
        some.log.close().await.unwrap();
    });
}

#[test]
fn opaque_records_past_a_bound_come_without_their_bytes() {
    run(async {
        let mut some = SomeLog::new(1, some_config()).await;
        for _ in 0..90 {
            some.append_opaque(1, 1).await;
            some.append_opaque(7, 70_000).await;
        }
        let found = some.log.read_events_at(&some.all_offsets()).await.unwrap();
        let (mut bytes_all, mut without) = (0, None);
        for (at, found) in found.into_iter().enumerate() {
            let Record::Opaque { head, bytes } = found.record else { panic!("an event") };
            let Record::Opaque { head: expected, bytes: known } = &some.records[at] else {
                panic!()
            };
            assert_eq!(head, *expected);
            match bytes {
                Some(bytes) => {
                    assert_eq!(Some(&bytes), known.as_ref());
                    bytes_all += bytes.len();
                }
                None => without = Some(Offset(at as u64)),
            }
        }
        assert!((15 << 20..=16 << 20).contains(&bytes_all), "{bytes_all}");
        let without = without.unwrap();
        let alone = some.log.read_checked_at(without).await.unwrap();
        assert!(alone.record == some.records[without.0 as usize]);
        some.log.close().await.unwrap();
    });
}

/// The promise that a known id never looks unknown: what has rotted is told, or comes unchecked and is
/// told when it is checked.
#[test]
fn rot_is_told_or_the_record_says_that_it_is_not_checked() {
    run(async {
        let mut some =
            SomeLog::new(1, LogConfig { entries_on_blocks: true, ..some_config() }).await;
        some.append_events(1000).await;
        some.append_events(20).await;
        some.append_events(1000).await;
        let end = some.log.last();
        for _ in 0..6 {
            some.append_events(1000).await;
        }
        some.rest().await;
        assert!(some.dir.segment(2).exists() && end.next_offset == Offset(2020));
        let standings = [(4096, 1000, Offset(700)), (0, 20, Offset(1010)), (0, 1000, Offset(1500))];
        let mut position = 4096;
        let (mut told, mut unchecked) = (0, 0);
        for (_, count, offset) in standings {
            let entry = position;
            let first = offset.0 / 1020 * 1020 + if count == 20 { 1000 } else { 0 };
            let at = some.entry_bytes[offset.0 as usize] as u64;
            position = (entry + at).next_multiple_of(4096);
            let event = entry + 128 + 8 + (offset.0 - first) * 128;
            let header = (0..128).map(|byte| entry + byte);
            for byte in header.chain([event, event + 60, event + 110]) {
                flip(&some.dir.segment(1), byte);
                let what = format!("{offset}, byte {byte}");
                match some.log.read_events_at(&[offset]).await {
                    Err(ReadError::Corrupt { .. }) => told += 1,
                    Err(error) => panic!("{what}: {error}"),
                    Ok(found) => {
                        unchecked += 1;
                        assert!(!found[0].is_checked, "{what}: believed");
                        let checked = some.log.read_checked_at(offset).await;
                        assert!(matches!(checked, Err(ReadError::Corrupt { .. })), "{what}");
                    }
                }
                // The others are as they were.
                some.check(&[Offset(5000)], &what).await;
                flip(&some.dir.segment(1), byte);
                some.check(&[offset], &what).await;
            }
        }
        assert!(told > 100 && unchecked > 20, "{told} told, {unchecked} unchecked");
        some.log.close().await.unwrap();
    });
}
