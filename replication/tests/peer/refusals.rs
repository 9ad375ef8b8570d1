//! Are strangers, other versions, contradictions and damage told apart?

use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use walengine_net::entry::EntryKind;
use walengine_net::frame::{CONNECTION, RequestId};
use walengine_net::message as client;
use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::peer::frame::FrameError;
use walengine_replication::peer::limits::{HELLO_BODY_BYTES_MAX, MAGIC, PEER_VERSION};
use walengine_replication::peer::{DecodeError, EncodeError, Hello, Message, frame};
use walengine_replication::types::{Entry, LogId};

use crate::random::{append_of, batch_entry};
use crate::support::{CRC_AT, FLAGS_AT, HEADER, KIND_AT, VERSION_AT, encoded, head, put, reseal};

fn hello(partition: u16) -> Message {
    let partition = PartitionId(partition);
    Message::Hello(Hello { cluster: ClusterId(1), node: 2, partition, partitions: 4 })
}

#[test]
fn a_client_at_the_peer_port_and_a_replica_at_the_clients_are_recognised() {
    let mut bytes = Vec::new();
    let message = client::Hello { partition: 1, client_name: "someone" };
    walengine_net::frame::encode(&mut bytes, head(1), &message).unwrap();
    for length in 4..bytes.len() {
        let found = frame::peek(&bytes[..length]);
        assert_eq!(found.err(), Some(FrameError::ClientFrame), "{length} bytes");
    }
    assert_eq!(frame::peek_hello(&bytes).err(), Some(FrameError::ClientFrame));
    assert!(FrameError::ClientFrame.closes());

    let bytes = encoded(head(1), &hello(1));
    for length in 4..bytes.len() {
        let found = walengine_net::frame::peek(&bytes[..length]).err();
        assert_eq!(found, Some(walengine_net::frame::FrameError::PeerFrame), "{length} bytes");
    }
    assert_eq!(bytes[..4], MAGIC.to_le_bytes());
}

#[test]
fn a_stranger_is_told_after_four_bytes_and_gets_no_memory() {
    let found = frame::peek(b"GET ").err();
    assert_eq!(found, Some(FrameError::Magic(u32::from_le_bytes(*b"GET "))));
    assert!(matches!(frame::peek(b"WAL"), Ok(None)));
    let append = encoded(head(0), &append_of(vec![batch_entry(1, 100)]));
    let found = frame::peek_hello(&append).err();
    assert!(matches!(found, Some(FrameError::Length { limit_bytes: HELLO_BODY_BYTES_MAX, .. })));
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let bytes = encoded(head(1), &hello(1));
    let request = RequestId(u64::MAX - 1);
    for found in [0, PEER_VERSION + 1, u16::MAX] {
        let mut other = bytes.clone();
        put(&mut other, VERSION_AT, &found.to_le_bytes());
        let damaged = frame::peek_hello(&other).err();
        assert!(matches!(damaged, Some(FrameError::Crc { .. })), "{damaged:?}");
        reseal(&mut other);
        let error = frame::peek_hello(&other).err().unwrap();
        assert_eq!(error, FrameError::Version { found, kind: 0x8001, request });
        assert!(error.closes());
        assert_eq!(error.request(), request);
    }
}

#[test]
fn unknown_kinds_and_flags_are_skipped_and_not_taken_for_damage() {
    let bytes = encoded(head(1), &hello(1));
    let (request, frame_bytes) = (RequestId(u64::MAX - 1), bytes.len());
    // 0x8006 to 0x8008 and 0x8088 carried snapshots between peers, and are reserved.
    for kind in [0, 1, 0x8000, 0x8006, 0x8007, 0x8008, 0x800c, 0x8086, 0x8088, u16::MAX] {
        let mut other = bytes.clone();
        put(&mut other, KIND_AT, &kind.to_le_bytes());
        assert!(matches!(frame::peek(&other), Err(FrameError::Crc { .. })));
        reseal(&mut other);
        let error = frame::peek(&other).err().unwrap();
        assert_eq!(error, FrameError::Kind { kind, request, frame_bytes });
        assert!(!error.closes() && error.request() == request);
    }
    let mut other = bytes.clone();
    put(&mut other, FLAGS_AT, &4u16.to_le_bytes());
    reseal(&mut other);
    let error = frame::peek(&other).err().unwrap();
    assert_eq!(error, FrameError::Flags { flags: 4, request, frame_bytes });
    assert!(!error.closes());
}

#[test]
fn damage_belongs_to_no_request() {
    let mut bytes = encoded(head(1), &hello(1));
    bytes[CRC_AT] ^= 1;
    let error = frame::peek(&bytes).err().unwrap();
    assert!(error.closes() && error.request() == CONNECTION);
}

#[test]
fn a_hello_for_another_partition_than_its_frame_is_refused() {
    let contradiction = "a hello for one partition in a frame for another";
    let found = frame::encode(&mut Vec::new(), head(2), &hello(1));
    assert_eq!(found, Err(EncodeError::Contradiction(contradiction)));
    let mut bytes = encoded(head(1), &hello(1));
    put(&mut bytes, 14, &2u16.to_le_bytes());
    reseal(&mut bytes);
    let found = frame::peek(&bytes).unwrap().unwrap().open().err();
    assert_eq!(found, Some(DecodeError::Contradiction(contradiction)));
}

/// They would stop the log, on both sides.
#[test]
fn entries_that_do_not_follow_each_other_are_refused() {
    let blank = |term, index| Entry {
        log_id: LogId::new_term_index(term, index),
        payload: EntryPayload::Blank,
    };
    let append = |prev: Option<(u64, u64)>, entries: Vec<Entry>| {
        let Message::Append(request) = append_of(entries) else { unreachable!() };
        let prev_log_id = prev.map(|(term, index)| LogId::new_term_index(term, index));
        Message::Append(AppendEntriesRequest { prev_log_id, ..request })
    };
    let good = append(Some((2, 5)), vec![blank(2, 6), blank(3, 7)]);
    let bytes = encoded(head(0), &good);
    let first = HEADER + 17 + 17 + 17 + 4;
    // Each changes one number of `good`: term or index of the preceding log id or of entry two.
    let prev = HEADER + 17 + 1;
    let second = first + 18 + 2;
    for (at, number) in [(prev, 3u64), (prev + 8, 4), (second, 1), (second + 8, 8), (second + 8, 6)]
    {
        let mut bad = bytes.clone();
        put(&mut bad, at, &number.to_le_bytes());
        reseal(&mut bad);
        let found = frame::peek(&bad).unwrap().unwrap().open().err();
        assert!(matches!(found, Some(DecodeError::Contradiction(_))), "{at}: {found:?}");
    }
    let bad = [
        append(Some((2, 5)), vec![blank(2, 7)]),
        append(Some((2, 5)), vec![blank(1, 6)]),
        append(None, vec![blank(1, 1)]),
        append(Some((2, u64::MAX)), vec![blank(2, 0)]),
        append(Some((2, 5)), vec![blank(2, 6), blank(2, 6)]),
    ];
    for message in bad {
        let found = frame::encode(&mut Vec::new(), head(0), &message);
        assert!(matches!(found, Err(EncodeError::Contradiction(_))), "{found:?}");
    }
}

#[test]
fn a_batch_that_its_entry_contradicts_is_not_sent() {
    let changed = |change: fn(&mut walengine_replication::types::Batch)| {
        let mut entry = batch_entry(1, 3);
        let EntryPayload::Normal(batch) = &mut entry.payload else { unreachable!() };
        change(batch);
        frame::encode(&mut Vec::new(), head(0), &append_of(vec![entry]))
    };
    let refused = |found| matches!(found, Err(EncodeError::Contradiction(_)));
    assert!(refused(changed(|batch| batch.term -= 1)));
    assert!(refused(changed(|batch| batch.kind = EntryKind::Blank)));
    assert!(refused(changed(|batch| batch.kind = EntryKind::Membership)));
    assert_eq!(changed(|batch| batch.kind = EntryKind::Records), Ok(()));
}
