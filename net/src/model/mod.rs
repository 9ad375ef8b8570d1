//! Data that every part of walengine uses: ids, events, verdicts. No behaviour beyond encoding.

mod event;
mod ids;
mod verdict;

pub use event::{
    Account, AccountFlags, Arrival, Close, CloseFlags, Decided, Describe, DescribeFlags,
    EVENT_BYTES, Event, EventBytes, EventKind, Expire, FLAG_LINKED, Guard, GuardFlags, Mail,
    NAME_BYTES_MAX, Name, NameError, NameFlags, NameText, RESOLVED_BYTES, Resolved, ResolvedBytes,
    SCALE_MAX, Sent, Transfer, TransferFlags, Word, event_flags, event_id, event_kind,
};
pub use ids::{
    AccountId, Amount, Book, ClusterId, Code, EventId, LedgerId, Offset, PartitionId, Timestamp,
    Token,
};
pub use verdict::Verdict;
