//! Open reservations.

use crate::limits::LIST_RESERVATIONS_MAX;
use crate::message::{ListReservations, ListReservationsReply, ReservationRow, open};
use crate::model::{AccountId, Amount, Code, EventId, LedgerId, Offset, PartitionId, Timestamp};

use super::super::{ClientError, ClusterInfo};
use super::read::Reading;
use super::{Plan, call, first, known};

/// A pending transfer that was neither posted nor voided and has not expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReservation {
    /// The transfer.
    pub id: EventId,
    /// The account whose debits are reserved.
    pub debit_account_id: AccountId,
    /// The account whose credits are reserved.
    pub credit_account_id: AccountId,
    /// What is reserved.
    pub amount: Amount,
    /// Ledger of the accounts.
    pub ledger: LedgerId,
    /// Code of the transfer.
    pub code: Code,
    /// Offset of the transfer's record.
    pub offset: Offset,
    /// Log time at which it ends by itself; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// Another partition has not said yet whether it holds.
    pub in_doubt: bool,
}

/// Some of a partition's open reservations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationsPage {
    /// In no order that means anything.
    pub reservations: Vec<OpenReservation>,
    /// Where the next page starts; `None` on the last page. A page may be empty without being the last.
    pub next_cursor: Option<u64>,
    /// The state includes everything below this offset and nothing else.
    pub next_offset: Offset,
}

/// A page of a partition's open reservations; `after` is `None` for the first page.
pub fn list_reservations(
    info: &ClusterInfo,
    partition: PartitionId,
    after: Option<u64>,
    limit: usize,
    reading: Reading<'_>,
) -> Result<Plan<ReservationsPage>, ClientError> {
    known(info, partition)?;
    let at_least = reading.at_least(info, partition)?;
    let limit = limit.min(LIST_RESERVATIONS_MAX) as u32;
    let request = ListReservations { at_least, after: after.unwrap_or(0), limit };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
        let reply = open::<ListReservationsReply<'_>>(first(&answers)?)?;
        let next_cursor = reply.next_cursor.to_native();
        Ok(ReservationsPage {
            reservations: reply.reservations.iter().map(OpenReservation::of).collect(),
            next_cursor: (next_cursor != 0).then_some(next_cursor),
            next_offset: Offset(reply.next_offset.to_native()),
        })
    }))
}

impl OpenReservation {
    fn of(row: &<ReservationRow as rkyv::Archive>::Archived) -> Self {
        let expires_at = row.expires_at.to_native();
        Self {
            id: EventId(row.id.to_native()),
            debit_account_id: AccountId(row.debit_account_id.to_native()),
            credit_account_id: AccountId(row.credit_account_id.to_native()),
            amount: Amount(row.amount.to_native()),
            ledger: LedgerId(row.ledger.to_native()),
            code: Code(row.code.to_native()),
            offset: Offset(row.offset.to_native()),
            expires_at: (expires_at != 0).then_some(Timestamp(expires_at)),
            in_doubt: row.in_doubt == 1,
        }
    }
}
