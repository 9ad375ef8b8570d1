//! The answer to a request that failed. Business refusals are verdicts and never come this way.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::ERROR_TEXT_BYTES_MAX;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $changed:ident $retry:ident,)*) => {
        /// Why a request failed. Says two things besides: whether anything may have been changed,
        /// and whether the same bytes may help when they are sent again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ErrorCode {
            /// Every code, in order of number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Code of this number; `None` if a newer version sent it.
            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Stable name in `snake_case`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The request may have taken effect nevertheless: ask for the ids' verdicts, or send
            /// the same bytes again.
            pub fn may_have_changed(self) -> bool {
                match self {
                    $(Self::$variant => codes!(@ $changed),)*
                }
            }

            /// Sending the same bytes again, here or where the answer points, may succeed.
            pub fn may_retry(self) -> bool {
                match self {
                    $(Self::$variant => codes!(@ $retry),)*
                }
            }
        }
    };
    (@ unchanged) => { false };
    (@ unknown) => { true };
    (@ retry) => { true };
    (@ final) => { false };
}

codes! {
    /// A queue is full. Nothing was changed; come back after `retry_after_millis`.
    Busy = 1 "busy" unchanged retry,
    /// Another node leads the partition; `leader` says which if it is known. Nothing was changed.
    NotLeader = 2 "not_leader" unchanged retry,
    /// The body is not what its kind says. Nothing was changed; the sender is at fault.
    Malformed = 3 "malformed" unchanged final,
    /// Body or list past a limit. Nothing was changed; send smaller batches.
    TooLarge = 4 "too_large" unchanged final,
    /// The protocol version is not spoken here. Nothing was changed; the connection is closed.
    UnsupportedVersion = 5 "unsupported_version" unchanged final,
    /// No such kind of request. Nothing was changed.
    UnknownKind = 6 "unknown_kind" unchanged final,
    /// The connection was opened for another partition, or not opened by a `Hello`. Nothing was
    /// changed; open one for this partition.
    WrongPartition = 7 "wrong_partition" unchanged final,
    /// The cluster has no such partition. Nothing was changed.
    NoSuchPartition = 8 "no_such_partition" unchanged final,
    /// The deadline passed before the answer was there. A write may have taken effect.
    DeadlineExceeded = 9 "deadline_exceeded" unknown retry,
    /// The disk is nearly full. Nothing was changed; writes are taken again when there is room.
    StorageFull = 10 "storage_full" unchanged retry,
    /// The shard has stopped; the message says why. A write may have taken effect.
    Stopped = 11 "stopped" unknown final,
    /// The state does not include the wanted offset yet. Nothing was changed.
    NotYet = 12 "not_yet" unchanged retry,
    /// The server ends. A write may have taken effect; another node, or this one later, takes it.
    ShuttingDown = 13 "shutting_down" unknown retry,
    /// What was asked for is damaged on this server's disk. Nothing was changed.
    Corrupt = 14 "corrupt" unchanged final,
    /// The server is at fault. A write may have taken effect.
    Internal = 15 "internal" unknown final,
    /// Leadership ended before the outcome was known. A write may have taken effect: ask for the
    /// ids' verdicts where the partition is led now, or send the same bytes again.
    LeadershipLost = 16 "leadership_lost" unknown retry,
}

impl ErrorCode {
    /// The number in the body.
    pub fn number(self) -> u16 {
        self as u16
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
    /// When to come back; 0: no hint.
    pub retry_after_millis: u32,
    /// Address of the node that leads, as `host:port`; empty if not known.
    #[rkyv(with = InlineAsBox)]
    pub leader: &'a str,
    /// The reason in words, with what to do; for people.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
}

impl<'a> ErrorReply<'a> {
    /// An answer without hints.
    pub fn new(code: ErrorCode, message: &'a str) -> Self {
        let message = super::bounded(message, ERROR_TEXT_BYTES_MAX);
        Self { code: code.number(), retry_after_millis: 0, leader: "", message }
    }

    /// The same with a time to come back.
    #[must_use]
    pub fn retry_after_millis(self, retry_after_millis: u32) -> Self {
        Self { retry_after_millis, ..self }
    }

    /// The same with the node that leads.
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
