//! Are lengths checked against their limits before they are used, on both sides?

use openraft::EntryPayload;
use walengine_net::entry::BODY_BYTES_MAX as ENTRY_BODY_BYTES_MAX;
use walengine_replication::peer::frame::FrameError;
use walengine_replication::peer::limits::{
    APPEND_BODY_BYTES_MAX, APPEND_ENTRIES_MAX, BODY_BYTES_MAX, CONTROL_BODY_BYTES_MAX,
    ERROR_TEXT_BYTES_MAX, HELLO_BODY_BYTES_MAX, MEMBERSHIP_BYTES_MAX, READ_BYTES_MAX,
};
use walengine_replication::peer::{
    DecodeError, EncodeError, Kind, Message, PeerError, PeerErrorCode, fitting, frame,
};
use walengine_replication::types::{Entry, LogId};

use crate::random::{append_of, batch_entry, largest_membership};
use crate::support::{HEADER, KIND_AT, LENGTH_AT, encoded, head, put, reseal};

#[test]
fn the_length_of_a_body_is_judged_by_the_header_alone() {
    let bytes = encoded(head(0), &Message::AppendReply(Ok(None)));
    let with = |length: usize| {
        let mut header = bytes[..HEADER].to_vec();
        put(&mut header, LENGTH_AT, &(length as u32).to_le_bytes());
        header
    };
    let too_long =
        |length: usize, limit_bytes| FrameError::Length { body_bytes: length as u32, limit_bytes };
    assert!(matches!(frame::peek(&with(0)), Err(FrameError::Crc { .. })));
    assert!(matches!(frame::peek(&with(BODY_BYTES_MAX)), Ok(None)));
    for length in [BODY_BYTES_MAX + 1, u32::MAX as usize] {
        let expected = too_long(length, BODY_BYTES_MAX);
        assert_eq!(frame::peek(&with(length)).err(), Some(expected));
        assert_eq!(frame::peek_bytes(&with(length)).err(), Some(expected));
    }
    assert!(matches!(frame::peek_hello(&with(HELLO_BODY_BYTES_MAX)), Ok(None)));
    for length in [HELLO_BODY_BYTES_MAX + 1, u32::MAX as usize] {
        let expected = too_long(length, HELLO_BODY_BYTES_MAX);
        assert_eq!(frame::peek_hello(&with(length)).err(), Some(expected));
    }
}

#[test]
fn every_kind_has_its_own_limit() {
    for &kind in Kind::ALL {
        for length in [0, kind.body_bytes_max(), kind.body_bytes_max() + 1] {
            let mut bytes = encoded(head(0), &Message::AppendReply(Ok(None)));
            put(&mut bytes, KIND_AT, &kind.number().to_le_bytes());
            bytes.resize(HEADER + length, 0xff);
            reseal(&mut bytes);
            match frame::peek(&bytes) {
                Ok(Some(frame)) => {
                    assert!(length <= kind.body_bytes_max(), "{kind:?} with {length}");
                    // 0xff is no flag, no code, no kind; one kind has no body.
                    let is_whole = length == 0 && kind == Kind::About;
                    assert!(frame.open().is_ok() == is_whole, "{kind:?} with {length}");
                }
                Err(FrameError::KindLength { .. }) => assert!(length > kind.body_bytes_max()),
                Err(FrameError::Length { .. }) => assert!(length > BODY_BYTES_MAX),
                other => panic!("{kind:?} with {length}: {other:?}"),
            }
        }
    }
}

/// Decodes the message with another length, a u32, at `at`.
fn with_length(message: &Message, at: usize, length: usize) -> Result<Message, DecodeError> {
    let mut bytes = encoded(head(0), message);
    put(&mut bytes, HEADER + at, &(length as u32).to_le_bytes());
    reseal(&mut bytes);
    frame::peek(&bytes).unwrap().unwrap().open()
}

/// A length above the limit is refused as such. A length within it needs its bytes.
fn assert_limit(message: &Message, at: usize, limit: usize) {
    for length in [limit + 1, u32::MAX as usize] {
        let found = with_length(message, at, length).err();
        let too_many = matches!(
            found,
            Some(DecodeError::TooMany { found, limit: told, .. })
                if (found, told) == (length, limit)
        );
        assert!(too_many, "{found:?}");
    }
    let found = with_length(message, at, limit).err();
    assert!(matches!(found, Some(DecodeError::Short { .. })), "{found:?}");
    assert!(with_length(message, at, 0).is_err());
}

#[test]
fn lengths_in_a_body_are_held_to_their_limits() {
    // vote 17, two log ids of 17, then the number of entries.
    let at = 17 + 17 + 17;
    assert_limit(&append_of(vec![batch_entry(1, 3)]), at, APPEND_ENTRIES_MAX);
    // The entry: kind 2, term 8, index 8; a batch has 28 more before its length.
    let at = at + 4 + 18;
    assert_limit(&append_of(vec![batch_entry(1, 3)]), at + 28, ENTRY_BODY_BYTES_MAX);
    let log_id = LogId::new_term_index(1, 1);
    let entry = Entry { log_id, payload: EntryPayload::Membership(largest_membership()) };
    let found = with_length(&append_of(vec![entry.clone()]), at, MEMBERSHIP_BYTES_MAX);
    assert!(found.is_ok(), "the largest membership has the largest length: {found:?}");
    for length in [0, MEMBERSHIP_BYTES_MAX + 1, u32::MAX as usize] {
        assert!(with_length(&append_of(vec![entry.clone()]), at, length).is_err());
    }
}

#[test]
fn the_text_of_an_error_is_held_to_its_limit() {
    let error = PeerError::new(PeerErrorCode::Busy, "ů".repeat(ERROR_TEXT_BYTES_MAX));
    assert_eq!(error.message.len(), ERROR_TEXT_BYTES_MAX);
    let odd = PeerError::new(PeerErrorCode::Busy, format!("a{}", "ů".repeat(700)));
    assert_eq!(odd.message.len(), ERROR_TEXT_BYTES_MAX - 1, "cut before the character");
    let mut bytes = encoded(head(0), &Message::Error(error));
    for length in [ERROR_TEXT_BYTES_MAX + 1, usize::from(u16::MAX)] {
        put(&mut bytes, HEADER + 6, &(length as u16).to_le_bytes());
        reseal(&mut bytes);
        let found = frame::peek(&bytes).unwrap().unwrap().open().err();
        assert!(matches!(found, Some(DecodeError::TooMany { .. })), "{found:?}");
    }
}

/// A message that is too large is not encoded, and the buffer is unchanged.
#[test]
fn an_encoding_that_fails_leaves_the_buffer_as_it_was() {
    let blank =
        |index| Entry { log_id: LogId::new_term_index(1, index), payload: EntryPayload::Blank };
    let two = |rest| vec![batch_entry(1, ENTRY_BODY_BYTES_MAX), batch_entry(2, rest)];
    let too_large = [
        append_of((1..=APPEND_ENTRIES_MAX as u64 + 1).map(blank).collect()),
        append_of(vec![batch_entry(1, ENTRY_BODY_BYTES_MAX + 1)]),
        append_of(two(ENTRY_BODY_BYTES_MAX)),
        // One byte too many for the frame, although the entries alone would fit.
        append_of(two(APPEND_BODY_BYTES_MAX - ENTRY_BODY_BYTES_MAX - 2 * 50 - 55 + 1)),
        Message::Error(PeerError {
            message: "x".repeat(ERROR_TEXT_BYTES_MAX + 1),
            ..PeerError::new(PeerErrorCode::Internal, "")
        }),
    ];
    for message in too_large {
        let mut out = b"before".to_vec();
        let found = frame::encode(&mut out, head(0), &message);
        assert!(matches!(found, Err(EncodeError::TooLarge { .. })), "{found:?}");
        assert_eq!(out, b"before");
    }
    let bytes = encoded(
        head(0),
        &append_of(two(APPEND_BODY_BYTES_MAX - ENTRY_BODY_BYTES_MAX - 2 * 50 - 55)),
    );
    assert_eq!(bytes.len(), HEADER + APPEND_BODY_BYTES_MAX, "and the largest is taken");
    assert!(frame::peek(&bytes).unwrap().unwrap().open().is_ok());
}

#[test]
fn as_many_entries_fit_as_a_frame_takes() {
    assert_eq!(fitting(&[]), 0);
    assert_eq!(fitting(&[batch_entry(1, ENTRY_BODY_BYTES_MAX)]), 1);
    let read = [batch_entry(1, READ_BYTES_MAX), batch_entry(2, ENTRY_BODY_BYTES_MAX)];
    assert_eq!(fitting(&read), 2, "whatever a leader reads at once fits");
    let many: Vec<_> = (1..=40).map(|index| batch_entry(index, 130_000)).collect();
    let fits = fitting(&many);
    assert_eq!(fits, (APPEND_BODY_BYTES_MAX - 55) / 130_050);
    encoded(head(0), &append_of(many[..fits].to_vec()));
    let mut out = Vec::new();
    let more = append_of(many[..=fits].to_vec());
    assert!(frame::encode(&mut out, head(0), &more).is_err());
}

#[test]
fn only_large_messages_may_be_large() {
    let large = |kind: &&Kind| kind.body_bytes_max() > CONTROL_BODY_BYTES_MAX;
    let kinds: Vec<_> = Kind::ALL.iter().filter(large).collect();
    assert_eq!(kinds, [&Kind::Append, &Kind::Carry, &Kind::LogPage, &Kind::CarryReply]);
}
