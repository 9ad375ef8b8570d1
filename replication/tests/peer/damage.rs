//! Are bytes that are no message refused, without a panic?

use walengine_replication::peer::limits::{BODY_BYTES_MAX, LOG_PAGE_HEAD_BYTES};
use walengine_replication::peer::{DecodeError, Kind, frame};

use crate::frames::frames;
use crate::random::Random;
use crate::support::{HEADER, encoded, head_of, put, reseal};

#[test]
fn a_truncated_frame_waits_for_more_at_every_byte() {
    for (name, bytes) in frames() {
        for length in 0..bytes.len() {
            let found = frame::peek(&bytes[..length]);
            assert!(matches!(found, Ok(None)), "{name} cut at {length}: {found:?}");
        }
    }
}

/// Bytes of a body after which any bytes may follow.
fn fixed_bytes(kind: Kind) -> usize {
    match kind {
        Kind::LogPage => LOG_PAGE_HEAD_BYTES,
        _ => usize::MAX,
    }
}

/// Cut by the sender: length and checksum are right.
#[test]
fn a_truncated_message_is_refused_at_every_byte() {
    for (name, bytes) in frames() {
        for length in HEADER..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            reseal(&mut cut);
            let frame = frame::peek(&cut).unwrap().unwrap();
            // What is left of a page of the log is a shorter page.
            if frame.body.len() < fixed_bytes(frame.kind) {
                let found = frame.open();
                assert!(
                    matches!(found, Err(DecodeError::Short { .. } | DecodeError::Membership)),
                    "{name} cut at {length}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn a_byte_too_much_is_refused() {
    for (name, mut bytes) in frames() {
        bytes.push(0);
        reseal(&mut bytes);
        let frame = frame::peek(&bytes).unwrap().unwrap();
        if fixed_bytes(frame.kind) == usize::MAX {
            assert_eq!(frame.open().err(), Some(DecodeError::Trailing { bytes: 1 }), "{name}");
        }
    }
}

/// Enough bytes follow the frame for any changed length.
#[test]
fn every_flipped_bit_is_detected() {
    for (name, bytes) in frames() {
        let mut buffer = bytes.clone();
        buffer.resize(bytes.len() + HEADER + BODY_BYTES_MAX, 0);
        assert!(matches!(frame::peek(&buffer), Ok(Some(_))), "{name}");
        for bit in 0..bytes.len() * 8 {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert!(frame::peek(&buffer).is_err(), "{name}, bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A faulty or hostile sender: the checksum is right, the rest is random. Whatever decodes is
/// encoded to the same bytes again.
#[test]
fn whatever_the_bytes_there_is_an_error_or_a_message_with_these_bytes() {
    const EDGES: [u64; 6] = [0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let mut random = Random::new();
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let kind = Kind::ALL[random.below(Kind::ALL.len())];
        // Most of what can be wrong is in appends.
        let kind = if random.below(2) == 0 { Kind::Append } else { kind };
        let message = random.message(kind);
        let mut bytes = encoded(head_of(&message), &message);
        for _ in 0..random.below(4) {
            let at = 8 + random.below(bytes.len() - 8);
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => {
                    let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                    let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
                    put(&mut bytes, at, &edge[..width]);
                }
                3 => bytes.truncate(at.max(HEADER)),
                4 => bytes.insert(at.max(HEADER), random.next() as u8),
                _ => {
                    let from = HEADER.max(random.below(bytes.len()));
                    bytes.extend_from_within(from..);
                }
            }
        }
        reseal(&mut bytes);
        let Ok(frame) = frame::peek(&bytes) else {
            refused += 1;
            continue;
        };
        let frame = frame.expect("the length is right");
        match frame.open() {
            Ok(message) => {
                assert_eq!(encoded(frame.head, &message), bytes, "{message:?}");
                opened += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 10_000 && refused > 10_000, "{opened} opened, {refused} refused");
}
