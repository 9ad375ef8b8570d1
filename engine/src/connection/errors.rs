//! Answers to frames and messages that can't be acted on.

use std::io::ErrorKind;

use walengine_net::frame::{FrameError, FrameHead, Kind};
use walengine_net::message::{ErrorCode, ErrorReply, MessageError};
use walengine_net::model::PartitionId;

use super::outbox::Outbox;
use crate::limits::CONNECTIONS_RETRY_MILLIS;
use crate::policy::Forbidden;
use crate::storage::error::ReadError;

/// Answers that a frame is none that this server knows: its length, or that nothing behind it can be
/// understood.
pub fn put_frame_error(
    outbox: &Outbox,
    partition: PartitionId,
    error: &FrameError,
) -> Option<usize> {
    let code = match error {
        FrameError::Version { .. } => ErrorCode::UnsupportedVersion,
        FrameError::Kind { .. } => ErrorCode::UnknownKind,
        FrameError::Length { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::Malformed,
    };
    outbox.put_error(FrameHead::reply(partition, error.request()), code, &error.to_string());
    match error {
        FrameError::Kind { frame_bytes, .. } | FrameError::Flags { frame_bytes, .. } => {
            Some(*frame_bytes)
        }
        _ => None,
    }
}

/// Answers that a message is not what its kind asks for.
pub fn put_message_error(outbox: &Outbox, head: FrameHead, error: &MessageError) {
    let code = match error {
        MessageError::TooMany { .. } => ErrorCode::TooLarge,
        MessageError::Kind { .. } => ErrorCode::UnknownKind,
        _ => ErrorCode::Malformed,
    };
    outbox.put_error(head, code, &error.to_string());
}

/// Answers that the id of a request is none, or was used before.
pub fn put_bad_request_id(outbox: &Outbox, head: FrameHead) {
    let message = "request ids begin at 1, and each may be used once on a connection";
    outbox.put_error(head, ErrorCode::Malformed, message);
}

/// Answers that the node has as many connections as it takes. This one is there for operators.
pub fn put_too_many_connections(outbox: &Outbox, head: FrameHead) {
    let message = "too many connections: this one is answered status and administration only";
    let reply = ErrorReply::new(ErrorCode::Busy, message);
    outbox.put(Kind::Error, head, &reply.retry_after_millis(CONNECTIONS_RETRY_MILLIS));
}

/// Answers that the caller may not do that.
pub fn put_forbidden(outbox: &Outbox, head: FrameHead, forbidden: &Forbidden) {
    outbox.put_error(head, ErrorCode::Forbidden, &forbidden.to_string());
}

/// Answers that there is no such subscription.
pub fn put_no_subscription(outbox: &Outbox, head: FrameHead) {
    let message = "no such subscription on this connection";
    outbox.put_error(head, ErrorCode::Malformed, message);
}

/// Answers with why the log could not be read.
pub fn put_read_error(outbox: &Outbox, head: FrameHead, error: &ReadError) {
    let code = match error {
        ReadError::Corrupt { .. } | ReadError::Malformed { .. } => ErrorCode::Corrupt,
        ReadError::Run(error) if error.kind() == ErrorKind::InvalidData => ErrorCode::Corrupt,
        _ => ErrorCode::Internal,
    };
    tracing::error!("reading partition {}: {error}", head.partition);
    outbox.put_error(head, code, &error.to_string());
}
