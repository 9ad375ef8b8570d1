//! Taking over another cluster's log, and comparing states.

use std::time::Duration;

use crate::entry::RecordHead;
use crate::limits::HOLD_MILLIS_MAX;
use crate::message::{
    ImportLog, ImportLogReply, ImportState, ImportedEntry, StateDigest, StateDigestReply, open,
};
use crate::model::{EventBytes, Offset, PartitionId, ResolvedBytes, Timestamp};

use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo};
use super::{Plan, call, first, known};

/// A partition's state at the end of its log, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// It includes everything below this offset and nothing else.
    pub next_offset: Offset,
    /// Log time of the newest record; zero before the first.
    pub last_timestamp: Timestamp,
    /// Accounts.
    pub accounts: u64,
    /// Open reservations.
    pub pendings: u64,
    /// Ids that are remembered.
    pub ids: u64,
    /// The partition takes an import: its log is a part of one.
    pub is_importing: bool,
    /// Equal states have equal digests.
    pub digest: [u8; 32],
}

/// Some entries of a log for a partition that takes it over, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntriesToImport {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The last entry is the import's last.
    pub is_last: bool,
    /// The entries.
    pub entries: Vec<ImportedEntry>,
    /// Their events.
    pub events: Vec<EventBytes>,
    /// Their resolutions.
    pub resolved: Vec<ResolvedBytes>,
    /// Heads of their opaque records.
    pub heads: Vec<RecordHead>,
    /// Bytes of those.
    pub blob: Vec<u8>,
    /// Verdicts of all records.
    pub verdicts: Vec<u8>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedSome {
    /// Whether they were taken.
    pub state: ImportState,
    /// Where the partition's log goes on.
    pub next_offset: Offset,
    /// The leader's clock.
    pub now: Timestamp,
    /// Details for people.
    pub message: String,
}

/// The state of a partition, from its leader: it includes everything that was acknowledged before. For a while
/// after that moment, at most [`crate::limits::HOLD_MILLIS_MAX`], the partition exchanges nothing with others.
pub fn state_digest(
    info: &ClusterInfo,
    partition: PartitionId,
    hold: Duration,
) -> Result<Plan<StateSummary>, ClientError> {
    known(info, partition)?;
    let hold_millis = hold.as_millis().min(HOLD_MILLIS_MAX.into()) as u32;
    let request = call(partition, Route::Leader, &StateDigest { hold_millis })?;
    Ok(Plan::new(vec![request], |answers| {
        let reply = open::<StateDigestReply>(first(&answers)?)?;
        Ok(StateSummary {
            next_offset: Offset(reply.next_offset.to_native()),
            last_timestamp: Timestamp(reply.last_timestamp.to_native()),
            accounts: reply.accounts.to_native(),
            pendings: reply.pendings.to_native(),
            ids: reply.ids.to_native(),
            is_importing: reply.is_importing != 0,
            digest: reply.digest,
        })
    }))
}

/// Has a partition's leader take entries of another cluster's log.
pub fn import_log(
    info: &ClusterInfo,
    partition: PartitionId,
    entries: &EntriesToImport,
) -> Result<Plan<ImportedSome>, ClientError> {
    known(info, partition)?;
    let request = ImportLog {
        base_offset: entries.base_offset.0,
        is_last: u8::from(entries.is_last),
        entries: &entries.entries,
        events: &entries.events,
        resolved: &entries.resolved,
        heads: &entries.heads,
        blob: &entries.blob,
        verdicts: &entries.verdicts,
    };
    Ok(Plan::new(vec![call(partition, Route::Leader, &request)?], |answers| {
        let reply = open::<ImportLogReply<'_>>(first(&answers)?)?;
        // Opening has checked the number.
        let state = ImportState::try_from(reply.state).unwrap_or(ImportState::OtherOffset);
        Ok(ImportedSome {
            state,
            next_offset: Offset(reply.next_offset.to_native()),
            now: Timestamp(reply.now.to_native()),
            message: reply.message.to_string(),
        })
    }))
}
