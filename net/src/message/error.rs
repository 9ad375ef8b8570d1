//! The answer to a request that failed. Business refusals are verdicts, never errors.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::ERROR_TEXT_BYTES_MAX;

/// Why a request failed, and whether anything may have been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u16)]
pub enum ErrorCode {
    /// A queue is full. Nothing was changed; retry after `retry_after_millis`.
    Busy = 1,
    /// Another node leads the partition: `leader`, if it is known. Nothing was changed.
    NotLeader = 2,
    /// The body does not fit its kind. Nothing was changed; the sender is at fault.
    Malformed = 3,
    /// Body or list past a limit. Nothing was changed; send smaller batches.
    TooLarge = 4,
    /// The server does not speak this protocol version. Nothing was changed; the connection is
    /// closed.
    UnsupportedVersion = 5,
    /// No such kind of request. Nothing was changed.
    UnknownKind = 6,
    /// The connection is for another partition, or did not begin with a `Hello`. Nothing was
    /// changed; open one for this partition.
    WrongPartition = 7,
    /// The cluster has no such partition. Nothing was changed.
    NoSuchPartition = 8,
    /// The deadline passed before there was an answer. A write may have taken effect.
    DeadlineExceeded = 9,
    /// The disk is nearly full. Nothing was changed; writes are accepted again when there is room.
    StorageFull = 10,
    /// The shard has stopped; the message says why. A write may have taken effect.
    Stopped = 11,
    /// The state does not include the wanted offset yet. Nothing was changed.
    NotYet = 12,
    /// The server is stopping. A write may have taken effect; retry at another node, or here later.
    ShuttingDown = 13,
    /// The data asked for is damaged on this server's disk. Nothing was changed.
    Corrupt = 14,
    /// The server is at fault. A write may have taken effect.
    Internal = 15,
    /// Leadership ended before the outcome was known. A write may have taken effect: ask the new
    /// leader for the ids' verdicts, or send the same bytes again.
    LeadershipLost = 16,
    /// The partition takes an import of another cluster's log, and nothing else until that is
    /// finished. Nothing was changed.
    Importing = 20,
    /// Who asks may not do that. Nothing was changed; the message says which right lacks.
    Forbidden = 21,
}

impl ErrorCode {
    /// Code of this number; `None` if a newer version sent it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::try_from(number).ok()
    }

    /// The number in the body.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Stable name in `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotLeader => "not_leader",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownKind => "unknown_kind",
            Self::WrongPartition => "wrong_partition",
            Self::NoSuchPartition => "no_such_partition",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::StorageFull => "storage_full",
            Self::Stopped => "stopped",
            Self::NotYet => "not_yet",
            Self::ShuttingDown => "shutting_down",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
            Self::LeadershipLost => "leadership_lost",
            Self::Importing => "importing",
            Self::Forbidden => "forbidden",
        }
    }

    /// The request may have taken effect all the same: ask for the ids' verdicts, or send the same
    /// bytes again.
    pub fn may_have_changed(self) -> bool {
        matches!(
            self,
            Self::DeadlineExceeded
                | Self::Stopped
                | Self::ShuttingDown
                | Self::Internal
                | Self::LeadershipLost
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A request failed.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ErrorReply<'a> {
    /// Number of the [`ErrorCode`].
    pub code: u16,
    /// When to retry; 0: no hint.
    pub retry_after_millis: u32,
    /// Address of the leader, as `host:port`; empty if not known.
    #[rkyv(with = InlineAsBox)]
    pub leader: &'a str,
    /// The reason and what to do, for people.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
}

impl<'a> ErrorReply<'a> {
    /// An answer without hints.
    pub fn new(code: ErrorCode, message: &'a str) -> Self {
        let message = super::bounded(message, ERROR_TEXT_BYTES_MAX);
        Self { code: code.number(), retry_after_millis: 0, leader: "", message }
    }

    /// The same with a hint when to retry.
    #[must_use]
    pub fn retry_after_millis(self, retry_after_millis: u32) -> Self {
        Self { retry_after_millis, ..self }
    }

    /// The same with the leader's address.
    #[must_use]
    pub fn leader(self, leader: &'a str) -> Self {
        Self { leader, ..self }
    }
}

impl Message for ErrorReply<'_> {
    const KIND: Kind = Kind::Error;
    type View = ArchivedErrorReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        label("the leader's address", &view.leader)?;
        at_most("the message", view.message.len(), ERROR_TEXT_BYTES_MAX)
    }
}

impl ArchivedErrorReply<'_> {
    /// The code; `None` if a newer version sent it: treat it as [`ErrorCode::Internal`].
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.code.to_native())
    }
}
