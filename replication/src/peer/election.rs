//! Elections: votes, pre-votes, and the transfer of leadership.

use openraft::raft::{
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::bytes::Reader;
use super::error::DecodeError;
use super::raft::{optional_log_id, put_optional_log_id, put_vote, vote};
use crate::types::Types;

pub(super) fn put_vote_request(out: &mut Vec<u8>, request: &VoteRequest<Types>) {
    put_vote(out, &request.vote);
    put_optional_log_id(out, request.last_log_id.as_ref());
    out.push(u8::from(request.leadership_transfer));
}

pub(super) fn vote_request(reader: &mut Reader<'_>) -> Result<VoteRequest<Types>, DecodeError> {
    Ok(VoteRequest {
        vote: vote(reader)?,
        last_log_id: optional_log_id(reader)?,
        leadership_transfer: reader.flag("leadership_transfer")?,
    })
}

pub(super) fn put_vote_response(out: &mut Vec<u8>, response: &VoteResponse<Types>) {
    put_vote(out, &response.vote);
    put_optional_log_id(out, response.last_log_id.as_ref());
    out.push(u8::from(response.vote_granted));
}

pub(super) fn vote_response(reader: &mut Reader<'_>) -> Result<VoteResponse<Types>, DecodeError> {
    Ok(VoteResponse {
        vote: vote(reader)?,
        last_log_id: optional_log_id(reader)?,
        vote_granted: reader.flag("vote_granted")?,
    })
}

pub(super) fn put_transfer(out: &mut Vec<u8>, request: &TransferLeaderRequest<Types>) {
    put_vote(out, request.from_leader());
    out.extend_from_slice(&request.to_node_id().to_le_bytes());
    put_optional_log_id(out, request.last_log_id());
}

pub(super) fn transfer(
    reader: &mut Reader<'_>,
) -> Result<TransferLeaderRequest<Types>, DecodeError> {
    let from = vote(reader)?;
    let to = reader.u64("to_node_id")?;
    Ok(TransferLeaderRequest::new(from, to, optional_log_id(reader)?))
}

const RESULT: &str = "result of a transfer";

pub(super) fn put_transfer_reply(out: &mut Vec<u8>, result: &TransferLeaderResponse<Types>) {
    match result {
        Ok(()) => out.push(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.push(1);
            put_vote(out, expected);
            put_vote(out, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.push(2);
            put_optional_log_id(out, expected.as_ref());
            put_optional_log_id(out, actual.as_ref());
        }
    }
}

pub(super) fn transfer_reply(
    reader: &mut Reader<'_>,
) -> Result<TransferLeaderResponse<Types>, DecodeError> {
    match reader.u8(RESULT)? {
        0 => Ok(Ok(())),
        1 => {
            let (expected, actual) = (vote(reader)?, vote(reader)?);
            Ok(Err(TransferLeaderError::VoteChanged { expected, actual }))
        }
        2 => {
            let (expected, actual) = (optional_log_id(reader)?, optional_log_id(reader)?);
            Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
        }
        found => Err(DecodeError::Unknown { what: RESULT, found: u64::from(found) }),
    }
}
