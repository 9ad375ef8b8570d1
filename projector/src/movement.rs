//! What a transfer does to money. Pure.

use walengine_net::model::{Transfer, TransferFlags};

/// Kind of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovementKind {
    /// Money moved.
    Transfer,
    /// Money was reserved.
    Pending,
    /// A reservation was posted: money moved.
    Post,
    /// A reservation was voided.
    Void,
    /// A reservation expired.
    Expire,
}

impl MovementKind {
    /// By its flags.
    pub fn of(transfer: &Transfer) -> Self {
        let has = |flag| transfer.flags.contains(flag);
        if has(TransferFlags::POST_PENDING) {
            Self::Post
        } else if has(TransferFlags::VOID_PENDING) {
            Self::Void
        } else if has(TransferFlags::PENDING) {
            Self::Pending
        } else {
            Self::Transfer
        }
    }

    /// Its name in the SQL type `transfer_kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Pending => "pending",
            Self::Post => "post",
            Self::Void => "void",
            Self::Expire => "expire",
        }
    }
}
