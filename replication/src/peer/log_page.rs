//! Entries as they are on disk, for a new replica that copies the log before it joins the group.

use std::rc::Rc;

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::LOG_PAGE_BYTES_MAX;
use super::raft::{put_vote, vote};
use crate::types::Vote;

/// A request for committed entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Index of the first one, as on disk, where entries count from 1.
    pub from: u64,
    /// Bytes of entries wanted. One entry is sent even if it is larger.
    pub bytes_max: u32,
}

/// Committed entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The answering replica's.
    pub vote: Vote,
    /// Highest index, as on disk, that it can give.
    pub committed: u64,
    /// Whole entries with their headers, one after the other, without padding; none if nothing is
    /// committed from the requested index on. At most [`LOG_PAGE_BYTES_MAX`].
    pub entries: Rc<[u8]>,
}

pub(super) fn put_read(out: &mut Vec<u8>, read: LogRead) {
    out.extend_from_slice(&read.from.to_le_bytes());
    out.extend_from_slice(&read.bytes_max.to_le_bytes());
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<LogRead, DecodeError> {
    Ok(LogRead { from: reader.u64("index")?, bytes_max: reader.u32("bytes wanted")? })
}

pub(super) fn put_page(out: &mut Vec<u8>, page: &LogPage) -> Result<(), EncodeError> {
    at_most("page of the log", page.entries.len(), LOG_PAGE_BYTES_MAX)?;
    put_vote(out, &page.vote);
    out.extend_from_slice(&page.committed.to_le_bytes());
    out.extend_from_slice(&page.entries);
    Ok(())
}

/// The entries are the rest of the body, so the frame's limit bounds them.
pub(super) fn page(reader: &mut Reader<'_>) -> Result<LogPage, DecodeError> {
    let (vote, committed) = (vote(reader)?, reader.u64("committed index")?);
    let entries = reader.take("page of the log", reader.left())?.into();
    Ok(LogPage { vote, committed, entries })
}
