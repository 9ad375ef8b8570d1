//! What can be wrong with a body, in decoding and encoding.

/// Why a body is not a message of its kind. The checksum is right, so the sender is at fault:
/// answer [`super::PeerErrorCode::Malformed`] and keep the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body ends too early.
    #[error("{what} needs {needed} bytes, {found} are left")]
    Short {
        /// What should be there.
        what: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes left.
        found: usize,
    },
    /// The message ends before the body does.
    #[error("{bytes} bytes behind the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A number that has no meaning in this version.
    #[error("{found} is no {what} of this version")]
    Unknown {
        /// What it should be.
        what: &'static str,
        /// What is there.
        found: u64,
    },
    /// Something is longer than its limit.
    #[error("{what} has a length of {found}, the limit is {limit}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the bytes of a membership.
    #[error("the membership is malformed")]
    Membership,
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    Text,
    /// Parts of the message contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Why a message was not encoded. The buffer is unchanged, and the caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Above a limit of the protocol. For entries, [`super::fitting`] says how many to send.
    #[error("{what} has a length of {found}, the limit is {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Parts of the message contradict each other: the peer would refuse it.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// Checks that `found` is at most `limit`.
pub(super) fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), EncodeError> {
    if found <= limit { Ok(()) } else { Err(EncodeError::TooLarge { what, found, limit }) }
}
