//! Answers to frames and messages that can't be acted on.

use walengine_net::frame::{FrameError, FrameHead};
use walengine_net::message::{ErrorCode, MessageError};
use walengine_net::model::PartitionId;

use super::outbox::Outbox;
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

/// Answers that there is no such subscription.
pub fn put_no_subscription(outbox: &Outbox, head: FrameHead) {
    let message = "no such subscription on this connection";
    outbox.put_error(head, ErrorCode::Malformed, message);
}

/// Answers with why the log could not be read.
pub fn put_read_error(outbox: &Outbox, head: FrameHead, error: &ReadError) {
    let code = match error {
        ReadError::Corrupt { .. } => ErrorCode::Corrupt,
        _ => ErrorCode::Internal,
    };
    tracing::error!("reading partition {}: {error}", head.partition);
    outbox.put_error(head, code, &error.to_string());
}
