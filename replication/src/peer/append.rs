//! Appends to a follower, and its replies.
//!
//! openraft has two types of reply to an append. Only the one for streams is sent;
//! `AppendEntriesResponse::from` makes the other from it.

use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};

use super::bytes::Reader;
use super::entry::{check_entry, entry, entry_bytes, put_entry};
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::{
    APPEND_BODY_BYTES_MAX, APPEND_ENTRIES_MAX, APPEND_HEAD_BYTES_MAX, ENTRY_BYTES_MIN,
};
use super::raft::{log_id, optional_log_id, put_log_id, put_optional_log_id, put_vote, vote};
use crate::types::{Entry, LogId, Types};

/// How many of these entries, from the first on, fit into one frame: at least one, if the first is
/// within the protocol's limits.
pub fn fitting(entries: &[Entry]) -> usize {
    let mut left = APPEND_BODY_BYTES_MAX - APPEND_HEAD_BYTES_MAX;
    let fits = |entry: &&Entry| match left.checked_sub(entry_bytes(entry)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    entries.iter().take(APPEND_ENTRIES_MAX).take_while(fits).count()
}

pub(super) fn put_append(
    out: &mut Vec<u8>,
    append: &AppendEntriesRequest<Types>,
) -> Result<(), EncodeError> {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = append;
    at_most("number of entries", entries.len(), APPEND_ENTRIES_MAX)?;
    entries.iter().try_for_each(check_entry)?;
    let entries_bytes = entries.iter().map(entry_bytes).sum();
    at_most("append", entries_bytes, APPEND_BODY_BYTES_MAX)?; // the frame checks the exact length
    check_order(prev_log_id.as_ref(), entries).map_err(EncodeError::Contradiction)?;
    out.reserve(APPEND_HEAD_BYTES_MAX + entries_bytes);
    put_vote(out, vote);
    put_optional_log_id(out, prev_log_id.as_ref());
    put_optional_log_id(out, leader_commit.as_ref());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        put_entry(out, entry);
    }
    Ok(())
}

pub(super) fn append(reader: &mut Reader<'_>) -> Result<AppendEntriesRequest<Types>, DecodeError> {
    let vote = vote(reader)?;
    let prev_log_id = optional_log_id(reader)?;
    let leader_commit = optional_log_id(reader)?;
    let entries = entries(reader)?;
    check_order(prev_log_id.as_ref(), &entries).map_err(DecodeError::Contradiction)?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

fn entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, DecodeError> {
    const WHAT: &str = "number of entries";
    let found = reader.u32(WHAT)? as usize;
    if found > APPEND_ENTRIES_MAX {
        return Err(DecodeError::TooMany { what: WHAT, found, limit: APPEND_ENTRIES_MAX });
    }
    // Check before allocating memory for entries that are not there.
    let needed = found * ENTRY_BYTES_MIN;
    if needed > reader.left() {
        return Err(DecodeError::Short { what: "entries", needed, found: reader.left() });
    }
    let mut entries = Vec::with_capacity(found);
    for _ in 0..found {
        entries.push(entry(reader)?);
    }
    Ok(entries)
}

/// Entries must follow the preceding log id and each other, or the log would have a gap.
fn check_order(prev: Option<&LogId>, entries: &[Entry]) -> Result<(), &'static str> {
    let mut next = prev.map_or(Some(0), |prev| prev.index.checked_add(1));
    let mut term = prev.map_or(0, |prev| prev.leader_id.term);
    for Entry { log_id, .. } in entries {
        if next != Some(log_id.index) {
            return Err("the indices of the entries do not follow each other");
        }
        if log_id.leader_id.term < term {
            return Err("the terms of the entries decrease");
        }
        next = log_id.index.checked_add(1);
        term = log_id.leader_id.term;
    }
    Ok(())
}

const RESULT: &str = "result of an append";

pub(super) fn put_append_reply(out: &mut Vec<u8>, result: &StreamAppendResult<Types>) {
    match result {
        Ok(durable) => {
            out.push(0);
            put_optional_log_id(out, durable.as_ref());
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            out.push(1);
            put_log_id(out, log_id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.push(2);
            put_vote(out, vote);
        }
    }
}

pub(super) fn append_reply(
    reader: &mut Reader<'_>,
) -> Result<StreamAppendResult<Types>, DecodeError> {
    match reader.u8(RESULT)? {
        0 => Ok(Ok(optional_log_id(reader)?)),
        1 => Ok(Err(StreamAppendError::Conflict(log_id(reader)?))),
        2 => Ok(Err(StreamAppendError::HigherVote(vote(reader)?))),
        found => Err(DecodeError::Unknown { what: RESULT, found: u64::from(found) }),
    }
}
