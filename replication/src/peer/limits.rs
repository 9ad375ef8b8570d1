//! Every constant of the peer protocol, and how they relate. A value here is part of the protocol.

use walengine_net::{entry, frame, limits};

use crate::membership_codec::{ADDRESS_BYTES_MAX, CONFIGS_MAX, NODES_MAX};
use crate::types::Entry;

/// First four bytes of every frame: "WALP".
pub const MAGIC: u32 = frame::PEER_MAGIC;
/// Version of the peer protocol that this code speaks.
pub const PEER_VERSION: u16 = 1;
/// Size of the header in bytes; fields lie where a client's frame has them.
pub const HEADER_BYTES: usize = frame::HEADER_BYTES;
/// Set in the kind of every answer.
pub const REPLY_BIT: u16 = 0x80;
/// Set in every kind: no number means one thing here and another to a client.
pub const PEER_BIT: u16 = 0x8000;

/// Largest body of a [`super::Kind::Hello`] and its answer in bytes: what a stranger may send.
pub const HELLO_BODY_BYTES_MAX: usize = 64;
/// Largest body in bytes of all that carries no entries.
pub const CONTROL_BODY_BYTES_MAX: usize = 32 << 10;
/// Largest body of a frame with entries in bytes.
pub const APPEND_BODY_BYTES_MAX: usize = 4 << 20;
/// Largest body of any frame in bytes.
pub const BODY_BYTES_MAX: usize = APPEND_BODY_BYTES_MAX;

/// Bytes of entries, with the headers they have on disk, that a leader may read to send them before
/// it looks at the sum: one more read, of one entry or of as much again, still fits the frame.
pub const READ_BYTES_MAX: usize = 1 << 20;
/// Entries in one frame.
pub const APPEND_ENTRIES_MAX: usize = 2 * READ_BYTES_MAX / entry::HEADER_BYTES;
/// Largest page of the log in bytes: as much as is read at once, and one entry more.
pub const LOG_PAGE_BYTES_MAX: usize = READ_BYTES_MAX + entry::HEADER_BYTES + entry::BODY_BYTES_MAX;
/// Bytes of a [`super::PeerError`]'s text.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;
/// Largest membership in bytes.
pub const MEMBERSHIP_BYTES_MAX: usize =
    2 + CONFIGS_MAX * (2 + NODES_MAX * 8) + 2 + NODES_MAX * (8 + 2 + ADDRESS_BYTES_MAX);

/// Term, node, whether committed.
pub const VOTE_BYTES: usize = 8 + 8 + 1;
/// A mark, term and index.
pub const LOG_ID_BYTES_MAX: usize = 1 + 8 + 8;
/// An append but for its entries: vote, what they follow, commit, number.
pub const APPEND_HEAD_BYTES_MAX: usize = VOTE_BYTES + 2 * LOG_ID_BYTES_MAX + 4;
/// The smallest entry: kind, term, index.
pub const ENTRY_BYTES_MIN: usize = 2 + 8 + 8;
/// A batch but for its body: leader, offset, time, number of records, length.
pub const BATCH_HEAD_BYTES: usize = ENTRY_BYTES_MIN + 8 + 8 + 8 + 4 + 4;
/// The largest entry.
pub const ENTRY_BYTES_MAX: usize = BATCH_HEAD_BYTES + entry::BODY_BYTES_MAX;
/// A page of the log but for its entries: vote, committed index.
pub const LOG_PAGE_HEAD_BYTES: usize = VOTE_BYTES + 8;

const _: () = {
    // Any one entry can be sent, and whatever a leader reads within its bounds.
    assert!(APPEND_HEAD_BYTES_MAX + ENTRY_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    assert!(READ_BYTES_MAX + ENTRY_BYTES_MAX + APPEND_HEAD_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    assert!(2 * READ_BYTES_MAX + APPEND_HEAD_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    // On disk an entry is not smaller than here, so that a sum taken there holds here.
    assert!(BATCH_HEAD_BYTES <= entry::HEADER_BYTES);
    assert!(MEMBERSHIP_BYTES_MAX <= entry::BODY_BYTES_MAX);
    // A client's whole request is one entry at most, so a replica's frame is never the smaller one.
    assert!(APPEND_BODY_BYTES_MAX >= limits::BODY_BYTES_MAX);
    assert!(APPEND_BODY_BYTES_MAX >= limits::PAGE_BODY_BYTES_MAX);
    assert!(LOG_PAGE_HEAD_BYTES + LOG_PAGE_BYTES_MAX <= BODY_BYTES_MAX);
    // Requests for votes, transfers and their answers.
    assert!(2 * (VOTE_BYTES + LOG_ID_BYTES_MAX + 8) <= CONTROL_BODY_BYTES_MAX);
    assert!(2 + 4 + 2 + ERROR_TEXT_BYTES_MAX <= CONTROL_BODY_BYTES_MAX);
    assert!(ERROR_TEXT_BYTES_MAX <= u16::MAX as usize);
    assert!(HELLO_BODY_BYTES_MAX <= CONTROL_BODY_BYTES_MAX);
    assert!(CONTROL_BODY_BYTES_MAX <= BODY_BYTES_MAX && APPEND_BODY_BYTES_MAX <= BODY_BYTES_MAX);
    assert!(HEADER_BYTES + BODY_BYTES_MAX < i32::MAX as usize);
    // Decoding sets aside this much for each entry before it has seen it.
    assert!(size_of::<Entry>() <= 8 * ENTRY_BYTES_MIN);
};
