//! Open reservations of a partition.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most};
use crate::frame::Kind;
use crate::limits::LIST_RESERVATIONS_MAX;

/// Asks for a page of all open reservations whose home is the partition.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListReservations {
    /// Number of the [`super::Freshness`] asked for.
    pub at_least: u64,
    /// 0 for the first page, then [`ListReservationsReply::next_cursor`].
    pub after: u64,
    /// Reservations wanted.
    pub limit: u32,
}

/// An open reservation.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ReservationRow {
    /// The pending transfer's id.
    pub id: u128,
    /// The account whose debits are reserved.
    pub debit_account_id: u128,
    /// The account whose credits are reserved.
    pub credit_account_id: u128,
    /// What is reserved.
    pub amount: u128,
    /// Offset of the transfer's record.
    pub offset: u64,
    /// Log time at which it ends by itself; 0 if it does not.
    pub expires_at: u64,
    /// Ledger of the accounts.
    pub ledger: u32,
    /// Code of the transfer.
    pub code: u16,
    /// 1 if another partition has not said yet whether it holds, else 0.
    pub in_doubt: u8,
}

/// A page of open reservations, in no order that means anything.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListReservationsReply<'a> {
    /// The state includes everything below this offset and nothing else.
    pub next_offset: u64,
    /// Where the next page starts; 0 on the last page.
    pub next_cursor: u64,
    /// The reservations.
    #[rkyv(with = InlineAsBox)]
    pub reservations: &'a [ReservationRow],
}

impl Message for ListReservations {
    const KIND: Kind = Kind::ListReservations;
    type View = ArchivedListReservations;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.limit.to_native() as usize, LIST_RESERVATIONS_MAX)
    }
}

impl Message for ListReservationsReply<'_> {
    const KIND: Kind = Kind::ListReservationsReply;
    type View = ArchivedListReservationsReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.reservations.len(), LIST_RESERVATIONS_MAX)?;
        if view.reservations.iter().all(|row| row.in_doubt <= 1) {
            Ok(())
        } else {
            Err(MessageError::Contradiction("a reservation is in doubt, or is not"))
        }
    }
}
