//! Every constant of the peer protocol, and the relations between them. All values are part of the
//! protocol.

use walengine_net::model::EVENT_BYTES;
use walengine_net::{entry, frame, limits};

use crate::membership_codec::{ADDRESS_BYTES_MAX, CONFIGS_MAX, NODES_MAX};
use crate::types::Entry;

/// First four bytes of every frame: "WALP".
pub const MAGIC: u32 = frame::PEER_MAGIC;
/// Version of the peer protocol that this code speaks.
pub const PEER_VERSION: u16 = 1;
/// Size of the header in bytes. The fields are where a client's frame has them.
pub const HEADER_BYTES: usize = frame::HEADER_BYTES;
/// Set in the kind of every answer.
pub const REPLY_BIT: u16 = 0x80;
/// Set in every kind, so that no number is a kind of the clients' protocol, too.
pub const PEER_BIT: u16 = 0x8000;

/// Largest body of a [`super::Kind::Hello`] and its answer in bytes: what a stranger may send.
pub const HELLO_BODY_BYTES_MAX: usize = 64;
/// Largest body in bytes of messages without entries.
pub const CONTROL_BODY_BYTES_MAX: usize = 32 << 10;
/// Largest body of a frame with entries in bytes.
pub const APPEND_BODY_BYTES_MAX: usize = 4 << 20;
/// Arrivals in one frame, and words.
pub const CARRIED_MAX: usize = limits::EVENTS_MAX;
/// Largest body of a frame with them in bytes: two partitions, two places, time, number, events.
pub const CARRY_BODY_BYTES_MAX: usize = 2 + 2 + 8 + 8 + 8 + 4 + CARRIED_MAX * EVENT_BYTES;
/// Largest body of any frame in bytes.
pub const BODY_BYTES_MAX: usize = APPEND_BODY_BYTES_MAX;

/// A leader reads entries for one append until it has this many bytes, with their headers as on
/// disk. The last read, of one entry or of as much again, still fits the frame.
pub const READ_BYTES_MAX: usize = 1 << 20;
/// Most entries in one frame.
pub const APPEND_ENTRIES_MAX: usize = 2 * READ_BYTES_MAX / entry::HEADER_BYTES;
/// Largest page of the log in bytes: what is read at once, and one more entry.
pub const LOG_PAGE_BYTES_MAX: usize = READ_BYTES_MAX + entry::HEADER_BYTES + entry::BODY_BYTES_MAX;
/// Longest text of a [`super::PeerError`] in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;
/// Largest membership in bytes.
pub const MEMBERSHIP_BYTES_MAX: usize =
    2 + CONFIGS_MAX * (2 + NODES_MAX * 8) + 2 + NODES_MAX * (8 + 2 + ADDRESS_BYTES_MAX) + 8;

/// A vote: term, node, committed flag.
pub const VOTE_BYTES: usize = 8 + 8 + 1;
/// An optional log id: flag, term, index.
pub const LOG_ID_BYTES_MAX: usize = 1 + 8 + 8;
/// An append without its entries: vote, preceding log id, committed log id, number of entries.
pub const APPEND_HEAD_BYTES_MAX: usize = VOTE_BYTES + 2 * LOG_ID_BYTES_MAX + 4;
/// The smallest entry: kind, term, index.
pub const ENTRY_BYTES_MIN: usize = 2 + 8 + 8;
/// A batch without its body: leader, offset, time, number of records, length.
pub const BATCH_HEAD_BYTES: usize = ENTRY_BYTES_MIN + 8 + 8 + 8 + 4 + 4;
/// The largest entry.
pub const ENTRY_BYTES_MAX: usize = BATCH_HEAD_BYTES + entry::BODY_BYTES_MAX;
/// A page of the log without its entries: vote, committed index.
pub const LOG_PAGE_HEAD_BYTES: usize = VOTE_BYTES + 8;

const _: () = {
    // Any single entry can be sent, and whatever a leader reads at once.
    assert!(APPEND_HEAD_BYTES_MAX + ENTRY_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    assert!(READ_BYTES_MAX + ENTRY_BYTES_MAX + APPEND_HEAD_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    assert!(2 * READ_BYTES_MAX + APPEND_HEAD_BYTES_MAX <= APPEND_BODY_BYTES_MAX);
    // An entry is not smaller on disk than here, so a sum of sizes on disk is an upper bound here.
    assert!(BATCH_HEAD_BYTES <= entry::HEADER_BYTES);
    assert!(MEMBERSHIP_BYTES_MAX <= entry::BODY_BYTES_MAX);
    // A client's whole request becomes at most one entry, so a replica's frame must hold it.
    assert!(APPEND_BODY_BYTES_MAX >= limits::BODY_BYTES_MAX);
    assert!(APPEND_BODY_BYTES_MAX >= limits::PAGE_BODY_BYTES_MAX);
    assert!(LOG_PAGE_HEAD_BYTES + LOG_PAGE_BYTES_MAX <= BODY_BYTES_MAX);
    // Requests for votes, transfers and their answers.
    assert!(2 * (VOTE_BYTES + LOG_ID_BYTES_MAX + 8) <= CONTROL_BODY_BYTES_MAX);
    assert!(2 + 4 + 2 + ERROR_TEXT_BYTES_MAX <= CONTROL_BODY_BYTES_MAX);
    assert!(ERROR_TEXT_BYTES_MAX <= u16::MAX as usize);
    assert!(HELLO_BODY_BYTES_MAX <= CONTROL_BODY_BYTES_MAX);
    assert!(CONTROL_BODY_BYTES_MAX <= BODY_BYTES_MAX && APPEND_BODY_BYTES_MAX <= BODY_BYTES_MAX);
    assert!(CARRY_BODY_BYTES_MAX <= BODY_BYTES_MAX);
    assert!(HEADER_BYTES + BODY_BYTES_MAX < i32::MAX as usize);
    // Decoding allocates this much for each entry before it has read it.
    assert!(size_of::<Entry>() <= 8 * ENTRY_BYTES_MIN);
};
