//! The answer to a request that failed without an answer from openraft.

use num_enum::TryFromPrimitive;

use super::bytes::Reader;
use super::error::{DecodeError, EncodeError, at_most};
use super::limits::ERROR_TEXT_BYTES_MAX;

/// What went wrong, and who has to act. 9 is reserved: PEER.md, section 4.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[non_exhaustive]
#[repr(u16)]
pub enum PeerErrorCode {
    /// A queue is full. Nothing was changed; come back after the hint.
    Busy = 1,
    /// The body does not match its kind. Nothing was changed; the sender is at fault.
    Malformed = 2,
    /// Frame or list above a limit. Nothing was changed; the sender is at fault.
    TooLarge = 3,
    /// The version is not spoken here. Nothing was changed; the connection is closed.
    UnsupportedVersion = 4,
    /// No such kind, or one that is an answer. Nothing was changed.
    UnknownKind = 5,
    /// The frame is for another partition than its connection. Nothing was changed.
    WrongPartition = 6,
    /// The connection did not begin with a hello that was accepted; it is closed.
    NotIntroduced = 7,
    /// The deadline passed first; the request may still take effect.
    DeadlineExceeded = 8,
    /// The replica's disk failed or is full. The replica has stopped or will stop.
    Storage = 10,
    /// The replica has stopped; its node's log says why. A person has to act.
    Stopped = 11,
    /// The node is shutting down. Come back later.
    ShuttingDown = 12,
    /// A fault in the program that answers.
    Internal = 13,
    /// The sender was set back to an older copy of its data directory. Nothing was changed; a person has
    /// to act there.
    SetBack = 14,
    /// No honest node asks for this. Nothing was changed; a person has to act at the sender.
    Dishonest = 15,
}

impl PeerErrorCode {
    /// Every code, in order of number.
    pub const ALL: &[Self] = &[
        Self::Busy,
        Self::Malformed,
        Self::TooLarge,
        Self::UnsupportedVersion,
        Self::UnknownKind,
        Self::WrongPartition,
        Self::NotIntroduced,
        Self::DeadlineExceeded,
        Self::Storage,
        Self::Stopped,
        Self::ShuttingDown,
        Self::Internal,
        Self::SetBack,
        Self::Dishonest,
    ];

    /// Code of this number; `None` if this version does not know it.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::try_from(number).ok()
    }
}

/// Answer to a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerError {
    /// What went wrong.
    pub code: PeerErrorCode,
    /// When to come back in milliseconds; 0: no hint.
    pub retry_after_millis: u32,
    /// For people; at most [`ERROR_TEXT_BYTES_MAX`] bytes.
    pub message: String,
}

impl PeerError {
    /// An error without a hint. A text that is too long is truncated.
    pub fn new(code: PeerErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        Self { code, retry_after_millis: 0, message }
    }
}

pub(super) fn put_error(out: &mut Vec<u8>, error: &PeerError) -> Result<(), EncodeError> {
    at_most("text of an error", error.message.len(), ERROR_TEXT_BYTES_MAX)?;
    out.extend_from_slice(&(error.code as u16).to_le_bytes());
    out.extend_from_slice(&error.retry_after_millis.to_le_bytes());
    out.extend_from_slice(&(error.message.len() as u16).to_le_bytes());
    out.extend_from_slice(error.message.as_bytes());
    Ok(())
}

pub(super) fn error(reader: &mut Reader<'_>) -> Result<PeerError, DecodeError> {
    const WHAT: &str = "code of an error";
    const TEXT: &str = "text of an error";
    let number = reader.u16(WHAT)?;
    let code = PeerErrorCode::from_number(number)
        .ok_or(DecodeError::Unknown { what: WHAT, found: u64::from(number) })?;
    let retry_after_millis = reader.u32("time to come back")?;
    let found = usize::from(reader.u16(TEXT)?);
    if found > ERROR_TEXT_BYTES_MAX {
        return Err(DecodeError::TooMany { what: TEXT, found, limit: ERROR_TEXT_BYTES_MAX });
    }
    let message = std::str::from_utf8(reader.take(TEXT, found)?).map_err(|_| DecodeError::Text)?;
    Ok(PeerError { code, retry_after_millis, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_codes_holds_every_number_that_is_known() {
        let known: Vec<_> = (0..=u16::MAX).filter_map(PeerErrorCode::from_number).collect();
        assert_eq!(known, PeerErrorCode::ALL);
        assert!(known.is_sorted_by_key(|code| *code as u16));
    }
}
