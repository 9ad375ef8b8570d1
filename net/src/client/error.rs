//! Errors of calls, and what to do about them.

use std::time::Duration;

use crate::frame::{EncodeError, FrameError, Kind, PROTOCOL_VERSION};
use crate::message::{ArchivedErrorReply, ErrorCode, MessageError};
use crate::model::PartitionId;

use super::session::LinkError;

/// Why a call failed. Business refusals are verdicts, never errors.
///
/// Only [`ClientError::OutcomeUnknown`] and, if [`ErrorCode::may_have_changed`] says so,
/// [`ClientError::Refused`] leave open whether a write took effect. All others changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Connecting failed.
    #[error(
        "no server at {address} ({reason}): start one with `walengine --data DIR`, or name \
         another with --server"
    )]
    Unreachable {
        /// Address of the server.
        address: String,
        /// The system's error.
        reason: String,
    },
    /// Who is there was not proven, or does not believe who asks.
    #[error("no secured connection to {address}: {reason}")]
    Insecure {
        /// Address of the server.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Another program listens there, or the stream was damaged.
    #[error("{address} does not speak walengine's protocol ({reason}): is the port right?")]
    NotWalengine {
        /// Address of the server.
        address: String,
        /// What was wrong.
        reason: String,
    },
    /// The server speaks another version of the protocol.
    #[error(
        "the server at {address} speaks protocol version {theirs}, this client {PROTOCOL_VERSION}: \
         use a client of the server's release"
    )]
    Version {
        /// Address of the server.
        address: String,
        /// The server's version.
        theirs: u16,
    },
    /// The server answered with an error.
    #[error("{}: {message}", code.map_or("unknown_error", ErrorCode::name))]
    Refused {
        /// Its code; `None` if this version does not know it.
        code: Option<ErrorCode>,
        /// The reason and what to do.
        message: String,
        /// When to retry; zero: no hint.
        retry_after: Duration,
    },
    /// No node that leads the partition was found. Nothing was changed.
    #[error(
        "no leader of partition {partition} was found within {waited:?} (last asked {address}: \
         {reason}): `walengine cluster` shows who is there"
    )]
    NoLeader {
        /// The partition.
        partition: PartitionId,
        /// The node that was asked last.
        address: String,
        /// Its answer.
        reason: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// The deadline passed. Nothing was changed: the request was never sent, or was a read.
    #[error("no answer within {waited:?}; nothing was changed ({reason})")]
    Deadline {
        /// How long the call waited.
        waited: Duration,
        /// What was in the way.
        reason: String,
    },
    /// A write was sent and not answered, and its verdicts could not be found out either.
    #[error(
        "no answer within {waited:?}, and the outcome is not known: ask for the ids' status, or \
         send the same events again, which is safe"
    )]
    OutcomeUnknown {
        /// How long the call waited.
        waited: Duration,
    },
    /// The caller asked for too much at once.
    #[error("{what}: {found} is more than the limit of {limit}; split it")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The event does not tell its partition.
    #[error(
        "event {index} names no account, so its partition can't be told: name the accounts of the \
         pending transfer, or submit to a partition"
    )]
    Unroutable {
        /// Place in the batch, from 0.
        index: usize,
    },
    /// A token or a server belongs to another cluster.
    #[error("this is cluster {found:032x}, not {expected:032x}")]
    WrongCluster {
        /// The expected cluster.
        expected: u128,
        /// The cluster found.
        found: u128,
    },
    /// The answer does not fit the request. The server is at fault.
    #[error("the server's answer makes no sense: {0}")]
    Answer(String),
    /// The client has been shut down, or its runtime has ended.
    #[error("the client has been closed")]
    Closed,
}

impl ClientError {
    /// The code, if the server refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }

    pub(super) fn refused(reply: &ArchivedErrorReply<'_>) -> Self {
        Self::Refused {
            code: reply.code(),
            message: reply.message.to_string(),
            retry_after: Duration::from_millis(reply.retry_after_millis.to_native().into()),
        }
    }

    fn of_frame(address: &str, error: FrameError) -> Self {
        match error {
            FrameError::Version { found, .. } => {
                Self::Version { address: address.to_owned(), theirs: found }
            }
            error => Self::NotWalengine { address: address.to_owned(), reason: error.to_string() },
        }
    }

    /// What the end of a connection means for the requests that wait.
    pub(super) fn of_link(address: &str, partition: PartitionId, error: &LinkError) -> Self {
        match error {
            LinkError::Frame(error) => Self::of_frame(address, *error),
            LinkError::ComeBack {
                code: Some(ErrorCode::NotLeader | ErrorCode::LeadershipLost),
                message,
                ..
            } => Self::no_leader(partition, address, message.clone()),
            LinkError::ComeBack { code: Some(ErrorCode::Busy), message, .. } => {
                Self::Unreachable { address: address.to_owned(), reason: message.clone() }
            }
            LinkError::Refused { code, message } | LinkError::ComeBack { code, message, .. } => {
                Self::Refused { code: *code, message: message.clone(), retry_after: Duration::ZERO }
            }
            LinkError::Message(_) | LinkError::OutOfTurn(_) => Self::Answer(error.to_string()),
        }
    }

    pub(super) fn no_leader(partition: PartitionId, address: &str, reason: String) -> Self {
        Self::NoLeader { partition, address: address.to_owned(), reason, waited: Duration::ZERO }
    }

    pub(super) fn unreachable(address: &str, error: &std::io::Error) -> Self {
        if let Some(reason) = crate::tls::explained(error) {
            return Self::Insecure { address: address.to_owned(), reason };
        }
        Self::Unreachable { address: address.to_owned(), reason: reason_of(error) }
    }
}

/// Why a request ended without an answer. A write with `was_sent` may have taken effect. `refusal`
/// is the last code with which a server asked for a repetition. `link` is the trouble with the
/// connection, if any.
pub(super) fn explain(
    kind: Kind,
    was_sent: bool,
    refusal: Option<ErrorCode>,
    waited: Duration,
    link: Option<&ClientError>,
) -> ClientError {
    if was_sent && (kind.submits() || matches!(kind, Kind::Append | Kind::ImportLog)) {
        return ClientError::OutcomeUnknown { waited };
    }
    let reason = match (link, refusal) {
        (Some(ClientError::NoLeader { partition, address, reason, .. }), _) => {
            return ClientError::NoLeader {
                partition: *partition,
                address: address.clone(),
                reason: reason.clone(),
                waited,
            };
        }
        (Some(error), _) => return error.clone(),
        (None, Some(code)) => format!("the server answered {code}"),
        (None, None) => "the server did not answer".to_owned(),
    };
    ClientError::Deadline { waited, reason }
}

/// An I/O error in a few words, without the system's number.
fn reason_of(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

impl From<MessageError> for ClientError {
    fn from(error: MessageError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<EncodeError> for ClientError {
    fn from(error: EncodeError) -> Self {
        Self::TooMany {
            what: "bytes of the request",
            found: error.body_bytes,
            limit: error.limit_bytes,
        }
    }
}
