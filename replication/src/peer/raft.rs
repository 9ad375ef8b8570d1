//! Building blocks of messages: votes, log ids, memberships.

use openraft::vote::leader_id_std::LeaderId;

use super::bytes::Reader;
use super::error::DecodeError;
use super::limits::MEMBERSHIP_BYTES_MAX;
use crate::membership_codec;
use crate::types::{LogId, Membership, Vote};

pub(super) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    out.extend_from_slice(&vote.leader_id.voted_for.to_le_bytes());
    out.push(u8::from(vote.committed));
}

pub(super) fn vote(reader: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    let leader_id = LeaderId { term: reader.u64("term")?, voted_for: reader.u64("voted_for")? };
    Ok(Vote { leader_id, committed: reader.flag("committed")? })
}

pub(super) fn put_log_id(out: &mut Vec<u8>, log_id: &LogId) {
    out.extend_from_slice(&log_id.leader_id.term.to_le_bytes());
    out.extend_from_slice(&log_id.index.to_le_bytes());
}

pub(super) fn log_id(reader: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    Ok(LogId::new_term_index(reader.u64("term")?, reader.u64("index")?))
}

pub(super) fn put_optional_log_id(out: &mut Vec<u8>, log_id: Option<&LogId>) {
    out.push(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(out, log_id);
    }
}

pub(super) fn optional_log_id(reader: &mut Reader<'_>) -> Result<Option<LogId>, DecodeError> {
    reader.flag("log id's mark")?.then(|| log_id(reader)).transpose()
}

/// # Panics
/// Like [`membership_codec::encode`].
pub(super) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let bytes = membership_codec::encode(membership);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&bytes);
}

pub(super) fn membership(reader: &mut Reader<'_>) -> Result<Membership, DecodeError> {
    let bytes = reader.take_u32_bytes("membership", MEMBERSHIP_BYTES_MAX)?;
    membership_codec::decode(bytes).ok_or(DecodeError::Membership)
}
