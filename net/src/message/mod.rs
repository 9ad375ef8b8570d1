//! Bodies of frames. Requests and replies are views over borrowed slices: encoding copies once,
//! [`open`] checks and copies nothing. Layout: PROTOCOL.md, section 4.

mod admin;
mod cluster;
pub(crate) mod encode;
mod error;
mod freshness;
mod hello;
mod import_log;
mod log;
mod lookup;
mod naming;
mod outcome;
mod reservations;
mod server_status;
mod submit;

use rkyv::api::low::{LowSerializer, LowValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;

use crate::frame::{Frame, Kind};
use crate::limits::LABEL_BYTES_MAX;
use crate::model::Offset;

pub use admin::{
    AdminReply, AdminState, AdmitNode, ArchivedAdminReply, ArchivedAdmitNode, ArchivedLeave,
    ArchivedLeaveAnyway, ArchivedRemoveNode, ArchivedTransferLeadership, Leave, LeaveAnyway,
    RemoveNode, TransferLeadership,
};
pub use cluster::{
    ArchivedClusterStatus, ArchivedClusterStatusReply, ArchivedGroupRow, ArchivedNodeRow,
    ArchivedReplicaRow, ClusterStatus, ClusterStatusReply, GroupRow, NO_NODE, NodeHealth, NodeRow,
    ReplicaRole, ReplicaRow,
};
pub use error::{ArchivedErrorReply, ErrorCode, ErrorReply};
pub use freshness::{Freshness, LINEARIZABLE};
pub use hello::{
    ActFor, ActForReply, ArchivedActFor, ArchivedActForReply, ArchivedHello, ArchivedHelloReply,
    Hello, HelloReply,
};
pub use import_log::{
    ArchivedImportLog, ArchivedImportLogReply, ArchivedStateDigestReply, ContentToImport,
    EntryToImport, ImportLog, ImportLogReply, ImportState, ImportedEntry, StateDigest,
    StateDigestReply,
};
pub use log::{
    ArchivedCredit, ArchivedLogPage, ArchivedReadEntries, ArchivedReadLog, ArchivedSubscribe,
    ArchivedUnsubscribe, ArchivedUnsubscribeReply, Credit, Entries, LogPage, ReadEntries, ReadLog,
    Subscribe, Unsubscribe, UnsubscribeReply,
};
pub use lookup::{
    ArchivedEventState, ArchivedListAccounts, ArchivedListAccountsReply, ArchivedLookupAccounts,
    ArchivedLookupAccountsReply, ArchivedLookupTransfers, ArchivedLookupTransfersReply,
    ArchivedStatus, ArchivedStatusReply, ArchivedVerdictState, EventState, IdNamespace,
    ListAccounts, ListAccountsReply, LookupAccounts, LookupAccountsReply, LookupTransfers,
    LookupTransfersReply, Status, StatusReply, VerdictState,
};
pub use naming::{
    ArchivedFindNames, ArchivedFindNamesReply, ArchivedLedgerRow, ArchivedListLedgers,
    ArchivedListLedgersReply, ArchivedLookupNames, ArchivedLookupNamesReply, FindNames,
    FindNamesReply, LedgerRow, ListLedgers, ListLedgersReply, LookupNames, LookupNamesReply,
};
pub use outcome::{ArchivedOutcomeRun, EventOutcome, OutcomeRun, OutcomeRuns, Outcomes};
pub use reservations::{
    ArchivedListReservations, ArchivedListReservationsReply, ArchivedReservationRow,
    ListReservations, ListReservationsReply, ReservationRow,
};
pub use server_status::{
    ArchivedNumberRow, ArchivedServerStatus, ArchivedServerStatusReply, ArchivedTextRow,
    NO_PARTITION, NumberRow, ServerStatus, ServerStatusReply, TROUBLE, TextRow,
};
pub use submit::{
    Append, AppendHead, ArchivedAppend, ArchivedAppendHead, ArchivedReached, ArchivedSubmit,
    ArchivedSubmitReply, ArchivedSubmitSpanning, ArchivedSubmitSpanningReply, Reached, Submit,
    SubmitReply, SubmitSpanning, SubmitSpanningReply, events_in,
};

/// Stands for "none" where a message has an optional offset.
pub const NO_OFFSET: u64 = u64::MAX;

/// An offset of a message; `None` for [`NO_OFFSET`].
pub fn offset_of(number: u64) -> Option<Offset> {
    (number != NO_OFFSET).then_some(Offset(number))
}

/// The number that stands in a message for an optional offset.
pub fn offset_number(offset: Option<Offset>) -> u64 {
    offset.map_or(NO_OFFSET, |offset| offset.0)
}

/// Why a body is not the message that its kind promises. The connection can go on: answer
/// `Malformed`, or `TooLarge` for [`MessageError::TooMany`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Another kind of frame than the caller asked for.
    #[error("a frame of kind {found:?} where {expected:?} was expected")]
    Kind {
        /// What the caller asked for.
        expected: Kind,
        /// What the frame is.
        found: Kind,
    },
    /// Not a valid archive.
    #[error("the body is malformed")]
    Body,
    /// A list or text is longer than its limit.
    #[error("{what} has {found} elements, the limit is {limit}")]
    TooMany {
        /// Which one.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Parts of the message contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A body that can be encoded, and opened again as its [`Message::View`].
pub trait Message:
    for<'out, 'arena> rkyv::Serialize<LowSerializer<&'out mut Vec<u8>, ArenaHandle<'arena>, Failure>>
{
    /// Kind of the frames that carry it.
    const KIND: Kind;
    /// The archived form, checked and used in place.
    type View: rkyv::Portable + for<'a> CheckBytes<LowValidator<'a, Failure>> + 'static;

    /// Checks what the archive's own check can't: limits, and that the parts agree with each other.
    fn check(view: &Self::View) -> Result<(), MessageError>;
}

/// Checks a body and opens it without copying. No bytes make it panic or allocate.
pub fn open<M: Message>(body: &[u8]) -> Result<&M::View, MessageError> {
    let view = rkyv::api::low::access::<M::View, Failure>(body).map_err(|_| MessageError::Body)?;
    M::check(view)?;
    Ok(view)
}

/// As [`open`], for a frame that must have the message's kind.
pub fn open_frame<'a, M: Message>(frame: &Frame<'a>) -> Result<&'a M::View, MessageError> {
    if frame.kind == M::KIND {
        open::<M>(frame.body)
    } else {
        Err(MessageError::Kind { expected: M::KIND, found: frame.kind })
    }
}

/// Checks that a list or text is within its limit.
fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), MessageError> {
    if found <= limit { Ok(()) } else { Err(MessageError::TooMany { what, found, limit }) }
}

/// Checks that a short text is within the common limit.
fn label(what: &'static str, text: &str) -> Result<(), MessageError> {
    at_most(what, text.len(), LABEL_BYTES_MAX)
}

/// The start of `text` that fits in `bytes_max` without splitting a character.
pub fn bounded(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
