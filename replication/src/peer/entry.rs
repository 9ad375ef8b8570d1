//! An entry as it is sent between replicas: as on disk, without what each replica computes itself.

use openraft::EntryPayload;
use walengine_net::entry::{BODY_BYTES_MAX, EntryKind};
use walengine_net::model::{Offset, Timestamp};

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::{BATCH_HEAD_BYTES, ENTRY_BYTES_MIN};
use super::raft::{log_id, membership, put_log_id, put_membership};
use crate::membership_codec;
use crate::types::{Batch, Entry};

/// Length of an encoded entry in bytes.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => ENTRY_BYTES_MIN,
        EntryPayload::Normal(batch) => BATCH_HEAD_BYTES + batch.body.len(),
        EntryPayload::Membership(membership) => {
            ENTRY_BYTES_MIN + 4 + membership_codec::encode(membership).len()
        }
    }
}

/// Checks that an entry can be encoded: a batch has the term of its entry, and a kind of batch.
pub(super) fn check_entry(entry: &Entry) -> Result<(), EncodeError> {
    let EntryPayload::Normal(batch) = &entry.payload else {
        return Ok(());
    };
    if batch.term != entry.log_id.leader_id.term {
        return Err(EncodeError::Contradiction("a batch of one term in an entry of another"));
    }
    if !matches!(batch.kind, EntryKind::Events | EntryKind::Records) {
        return Err(EncodeError::Contradiction("a batch of neither events nor records"));
    }
    at_most("batch", batch.body.len(), BODY_BYTES_MAX)
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let kind = match &entry.payload {
        EntryPayload::Blank => EntryKind::Blank,
        EntryPayload::Normal(batch) => batch.kind,
        EntryPayload::Membership(_) => EntryKind::Membership,
    };
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(batch) => put_batch(out, batch),
        EntryPayload::Membership(membership) => put_membership(out, membership),
    }
}

fn put_batch(out: &mut Vec<u8>, batch: &Batch) {
    out.extend_from_slice(&batch.leader_node.to_le_bytes());
    out.extend_from_slice(&batch.base_offset.0.to_le_bytes());
    out.extend_from_slice(&batch.timestamp.0.to_le_bytes());
    out.extend_from_slice(&batch.records.to_le_bytes());
    out.extend_from_slice(&(batch.body.len() as u32).to_le_bytes());
    out.extend_from_slice(&batch.body);
}

/// Reads one entry. The body of a batch is copied once.
pub(super) fn entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    const WHAT: &str = "kind of entry";
    let number = reader.u16(WHAT)?;
    let log_id = log_id(reader)?;
    let term = log_id.leader_id.term;
    let payload = match number {
        0 => EntryPayload::Blank,
        1 => EntryPayload::Normal(batch(reader, EntryKind::Events, term)?),
        2 => EntryPayload::Normal(batch(reader, EntryKind::Records, term)?),
        3 => EntryPayload::Membership(membership(reader)?),
        _ => return Err(DecodeError::Unknown { what: WHAT, found: u64::from(number) }),
    };
    Ok(Entry { log_id, payload })
}

fn batch(reader: &mut Reader<'_>, kind: EntryKind, term: u64) -> Result<Batch, DecodeError> {
    Ok(Batch {
        kind,
        term,
        leader_node: reader.u64("leader's node")?,
        base_offset: Offset(reader.u64("base offset")?),
        timestamp: Timestamp(reader.u64("timestamp")?),
        records: reader.u32("number of records")?,
        body: reader.take_u32_bytes("batch", BODY_BYTES_MAX)?.into(),
    })
}
