//! Shared by the tests: building frames by hand, and comparing messages.

use openraft::raft::AppendEntriesRequest;
use walengine_net::frame::{FrameHead, RequestId};
use walengine_net::model::PartitionId;
use walengine_replication::peer::{Message, frame};

/// Positions in the header.
pub const CRC_AT: usize = 4;
pub const VERSION_AT: usize = 8;
pub const KIND_AT: usize = 10;
pub const FLAGS_AT: usize = 12;
pub const LENGTH_AT: usize = 24;
pub const HEADER: usize = 32;

pub fn head(partition: u16) -> FrameHead {
    FrameHead {
        partition: PartitionId(partition),
        request: RequestId(u64::MAX - 1),
        deadline_millis: 0,
    }
}

/// Head of a frame for this message. That of a hello must name the same partition.
pub fn head_of(message: &Message) -> FrameHead {
    match message {
        Message::Hello(hello) => head(hello.partition.0),
        _ => head(7),
    }
}

pub fn encoded(head: FrameHead, message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Corrects length and checksum.
pub fn reseal(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len() - HEADER).unwrap();
    put(bytes, LENGTH_AT, &length.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_AT + 4..]);
    put(bytes, CRC_AT, &crc.to_le_bytes());
}

/// Compares every field. openraft's request has no equality of its own.
pub fn same(one: &Message, other: &Message) -> bool {
    use Message as M;
    match (one, other) {
        (M::Hello(one), M::Hello(other)) => one == other,
        (M::HelloReply(one), M::HelloReply(other)) => one == other,
        (M::Append(one), M::Append(other)) => {
            let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = one;
            *vote == other.vote
                && *prev_log_id == other.prev_log_id
                && *entries == other.entries
                && *leader_commit == other.leader_commit
        }
        (M::AppendReply(one), M::AppendReply(other)) => one == other,
        (M::Vote(one), M::Vote(other)) | (M::PreVote(one), M::PreVote(other)) => one == other,
        (M::VoteReply(one), M::VoteReply(other))
        | (M::PreVoteReply(one), M::PreVoteReply(other)) => one == other,
        (M::TransferLeader(one), M::TransferLeader(other)) => one == other,
        (M::TransferLeaderReply(one), M::TransferLeaderReply(other)) => one == other,
        (M::LogRead(one), M::LogRead(other)) => one == other,
        (M::About, M::About) => true,
        (M::AboutReply(one), M::AboutReply(other)) => one == other,
        (M::LogPage(one), M::LogPage(other)) => one == other,
        (M::Carry(one), M::Carry(other)) => one == other,
        (M::CarryReply(one), M::CarryReply(other)) => one == other,
        (M::Error(one), M::Error(other)) => one == other,
        _ => false,
    }
}
