//! What can be wrong with a body, on either side.

/// Why a body is not the message that its kind promises. The frame came as it was sent, so its
/// sender is at fault: answer [`super::PeerErrorCode::Malformed`] and go on.
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
    /// A number that stands for nothing in this version.
    #[error("{found} is no {what} of this version")]
    Unknown {
        /// What it should say.
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

/// Why a message was not encoded. The buffer is as it was, and the caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Past a limit of the protocol; of entries, [`super::fitting`] tells how many to send.
    #[error("{what} has a length of {found}, the limit is {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Parts of the message contradict each other: the other side would refuse it.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// `found` is within `limit`.
pub(super) fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), EncodeError> {
    if found <= limit { Ok(()) } else { Err(EncodeError::TooLarge { what, found, limit }) }
}
