//! A snapshot on its way: what it is, its pieces, its end. All frames of one have one request id.

use std::rc::Rc;

use openraft::StoredMembership;

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use super::raft::{
    membership, optional_log_id, put_membership, put_optional_log_id, put_vote, vote,
};
use crate::types::{Types, Vote};

/// What a snapshot holds: its last entry, and the members at that point.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// A leader starts to send a snapshot. One with the same request id has not begun before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// The leader's.
    pub vote: Vote,
    /// What will come.
    pub meta: SnapshotMeta,
}

/// The next piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// 0, 1, 2, … without gaps; the receiver checks it.
    pub sequence: u64,
    /// At most [`SNAPSHOT_CHUNK_BYTES_MAX`].
    pub bytes: Rc<[u8]>,
}

/// All pieces are sent. The receiver installs only what agrees with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// How many pieces there were.
    pub chunks: u64,
    /// How many bytes they had together.
    pub bytes: u64,
}

pub(super) fn put_begin(out: &mut Vec<u8>, begin: &SnapshotBegin) {
    put_vote(out, &begin.vote);
    put_optional_log_id(out, begin.meta.last_log_id.as_ref());
    put_optional_log_id(out, begin.meta.last_membership.log_id().as_ref());
    put_membership(out, begin.meta.last_membership.membership());
}

pub(super) fn begin(reader: &mut Reader<'_>) -> Result<SnapshotBegin, DecodeError> {
    let vote = vote(reader)?;
    let last_log_id = optional_log_id(reader)?;
    let membership_log_id = optional_log_id(reader)?;
    let last_membership = StoredMembership::new(membership_log_id, membership(reader)?);
    Ok(SnapshotBegin { vote, meta: SnapshotMeta { last_log_id, last_membership } })
}

pub(super) fn put_chunk(out: &mut Vec<u8>, chunk: &SnapshotChunk) -> Result<(), EncodeError> {
    at_most("piece of a snapshot", chunk.bytes.len(), SNAPSHOT_CHUNK_BYTES_MAX)?;
    out.extend_from_slice(&chunk.sequence.to_le_bytes());
    out.extend_from_slice(&chunk.bytes);
    Ok(())
}

/// The piece is all that is left of the body; the frame's limit is the piece's.
pub(super) fn chunk(reader: &mut Reader<'_>) -> Result<SnapshotChunk, DecodeError> {
    let sequence = reader.u64("sequence number")?;
    let bytes = reader.take("piece of a snapshot", reader.left())?.into();
    Ok(SnapshotChunk { sequence, bytes })
}

pub(super) fn put_end(out: &mut Vec<u8>, end: SnapshotEnd) {
    out.extend_from_slice(&end.chunks.to_le_bytes());
    out.extend_from_slice(&end.bytes.to_le_bytes());
}

pub(super) fn end(reader: &mut Reader<'_>) -> Result<SnapshotEnd, DecodeError> {
    Ok(SnapshotEnd { chunks: reader.u64("number of pieces")?, bytes: reader.u64("bytes")? })
}
