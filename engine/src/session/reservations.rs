//! Reads of open reservations. Lives on the connection's shard core; not `Send`.

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::message::{
    Freshness, ListReservations, ListReservationsReply, MessageError, ReservationRow, open_frame,
};
use walengine_replication::budget::Held;

use super::bounded::Touched;
use super::replies::Replies;
use crate::ledger::OpenPending;
use crate::limits::RESERVATIONS_LOOK_MAX;
use crate::partition::commit::Commit;
use crate::policy::Rights;

/// How fresh the state must be for such a request, and the most that its answer takes.
pub fn asked(frame: &Frame<'_>) -> Result<(Freshness, usize), MessageError> {
    let request = open_frame::<ListReservations>(frame)?;
    Ok((request.freshness(), request.limit.to_native() as usize * size_of::<ReservationRow>()))
}

/// Answers such a request.
pub fn answer<C: Commit>(
    replies: &Replies<C>,
    frame: &Frame<'_>,
    head: FrameHead,
    held: Held,
    bounded: Option<&Rights>,
) -> Result<(), MessageError> {
    let request = open_frame::<ListReservations>(frame)?;
    let (after, limit) = (request.after.to_native(), request.limit.to_native() as usize);
    let first = u32::try_from(after).unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    let (next_offset, next_cursor) = replies.partition.with_ledger(|ledger| {
        let (mut behind, total) = (first, ledger.reservation_slots());
        let left = total.saturating_sub(first) as usize;
        for found in ledger.reservations_from(first).take(left.min(RESERVATIONS_LOOK_MAX)) {
            if rows.len() == limit {
                break;
            }
            behind += 1;
            // Those that are left out make a page shorter, or none of it in the end.
            let Some((open, in_doubt)) = found else { continue };
            let sees = |rights: &Rights| Touched::of_reservation(&open).is_in(&rights.read, ledger);
            if bounded.is_none_or(sees) {
                rows.push(row(&open, in_doubt));
            }
        }
        let is_last = behind >= total || behind == first;
        (ledger.next_offset().0, if is_last { 0 } else { u64::from(behind) })
    });
    let reply = ListReservationsReply { next_offset, next_cursor, reservations: &rows };
    replies.put_read_when_visible(Kind::ListReservationsReply, head, &reply, held);
    Ok(())
}

fn row(open: &OpenPending, in_doubt: bool) -> ReservationRow {
    ReservationRow {
        id: open.id.0,
        debit_account_id: open.debit_account_id.0,
        credit_account_id: open.credit_account_id.0,
        amount: open.amount.0,
        offset: open.offset.0,
        expires_at: open.expires_at.map_or(0, |at| at.0),
        ledger: open.ledger.0,
        code: open.code.0,
        in_doubt: in_doubt.into(),
    }
}
