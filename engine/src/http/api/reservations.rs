//! Reservations that are open, found in the log: whoever reads it backwards meets the end of a reservation
//! before its beginning, so one that is met without its end is open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::model::{
    Amount, Arrival, Event, PartitionId, Sent, Timestamp, Transfer, TransferFlags, Verdict, Word,
};

use super::asked::{Asked, known};
use super::backwards::{Backwards, end_of};
use super::document::{AnyProblem, TokenProblem};
use crate::effect::Record;
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{Digits, rfc3339, uuid_text};
use crate::http::problem::Problem;
use crate::http::scales::Scales;
use crate::http::shared::Shared;
use crate::limits::HTTP_SCAN_ROWS_MAX;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Whose reservations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Where {
    /// The partition where the accounts live that are debited.
    #[serde(default)]
    #[param(minimum = 0, maximum = 65_535)]
    partition: u16,
}

/// Open reservations, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenReservations {
    /// At most 500, the oldest of those that were found.
    reservations: Vec<Reservation>,
    /// How many were found.
    found: u32,
    /// Those that were made before this offset were not looked for; 0: all were.
    #[schema(value_type = String)]
    covered_from: Digits<u64>,
}
const _: () = assert!(HTTP_SCAN_ROWS_MAX == 500);

/// A reservation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reservation {
    /// The pending transfer.
    #[schema(format = "uuid")]
    id: String,
    #[schema(value_type = String)]
    offset: Digits<u64>,
    /// Log time at which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// Log time at which it ends by itself; there is none if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[schema(format = "uuid")]
    debit_account: String,
    #[schema(format = "uuid")]
    credit_account: String,
    /// What it holds, in minor units.
    #[schema(value_type = String)]
    amount: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_decimal: Option<String>,
    ledger: u32,
    code: u16,
    /// The other partition has not said yet whether it holds.
    in_doubt: bool,
}

/// List the open reservations of a partition, oldest first.
#[utoipa::path(
    get, path = "/api/v1/reservations", tag = "transfers",
    operation_id = "listReservations",
    params(Where, HowFresh),
    responses((status = 200, body = OpenReservations, description = "What was found"), AnyProblem, TokenProblem)
)]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Asked(Where { partition }): Asked<Where>,
) -> Result<Json<OpenReservations>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let partition = known(&client, PartitionId(partition))?;
    let end = end_of(&client, partition, &fresh.tokens).await?;
    let mut log = Backwards::new(&shared.scans, &client, partition, end).await?;
    let mut open = Open::default();
    while let Some(window) = log.window().await? {
        for (offset, time, record) in window.events()?.into_iter().rev() {
            open.before(offset, time, &record);
        }
    }
    let scales = shared.scales.get(&client).await?;
    let oldest = open.found.iter().rev().take(HTTP_SCAN_ROWS_MAX);
    Ok(Json(OpenReservations {
        reservations: oldest.map(|found| Reservation::new(found, &scales)).collect(),
        found: open.found.len() as u32,
        covered_from: Digits(log.covered_from()),
    }))
}

/// What is known at a place of the log of what comes after it. Bounded by the records that are looked at.
#[derive(Default)]
struct Open {
    /// Reservations that end later.
    ended: HashSet<u128>,
    /// What was said later of transfers in doubt.
    said: HashMap<u128, (Verdict, Amount)>,
    /// Newest first.
    found: Vec<Found>,
}

/// A reservation that does not end later.
struct Found {
    offset: u64,
    time: Timestamp,
    transfer: Transfer,
    amount: Amount,
    in_doubt: bool,
}

impl Open {
    /// Takes the record before those that it has.
    fn before(&mut self, offset: u64, time: Timestamp, record: &Record) {
        let Ok(event) = Event::from_bytes(&record.event) else { return };
        match event {
            Event::Transfer(transfer) => self.before_transfer(offset, time, record, &transfer),
            Event::Expire(expire) if record.verdict.is_ok() => {
                self.ended.insert(expire.pending_id.0);
            }
            Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. })
                if record.verdict.is_ok() =>
            {
                self.before_word(&word);
            }
            _ => {}
        }
    }

    fn before_word(&mut self, word: &Word) {
        if word.verdict.is_ok() && word.pending_id.0 != 0 {
            self.ended.insert(word.pending_id.0);
        }
        if word.verdict != Verdict::InDoubt {
            self.said.insert(word.id.0, (word.verdict, word.amount));
        }
    }

    fn before_transfer(&mut self, offset: u64, time: Timestamp, record: &Record, sent: &Transfer) {
        let ends = TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING);
        if sent.flags.intersects(ends) {
            if record.verdict.is_ok() {
                self.ended.insert(sent.pending_id.0);
            }
            return;
        }
        if !sent.flags.contains(TransferFlags::PENDING) || self.ended.contains(&sent.id.0) {
            return;
        }
        let own = record.resolved.map_or(sent.amount, |resolved| resolved.amount);
        let (amount, in_doubt) = match (record.verdict, self.said.get(&sent.id.0)) {
            (Verdict::Ok, _) => (own, false),
            (Verdict::InDoubt, Some((Verdict::Ok, amount))) => (*amount, false),
            (Verdict::InDoubt, None) => (own, true),
            _ => return,
        };
        self.found.push(Found { offset, time, transfer: *sent, amount, in_doubt });
    }
}

impl Reservation {
    fn new(found: &Found, scales: &Scales) -> Self {
        let Found { offset, time, transfer, amount, in_doubt } = found;
        let timeout = u64::from(transfer.timeout_seconds).checked_mul(NANOS_PER_SECOND);
        let expires =
            timeout.filter(|nanos| *nanos > 0).and_then(|nanos| time.0.checked_add(nanos));
        Self {
            id: uuid_text(transfer.id.0),
            offset: Digits(*offset),
            time: rfc3339(*time),
            expires: expires.and_then(|nanos| rfc3339(Timestamp(nanos))),
            debit_account: uuid_text(transfer.debit_account_id.0),
            credit_account: uuid_text(transfer.credit_account_id.0),
            amount: Digits(amount.0),
            amount_decimal: scales.shown(transfer.ledger.0, amount.0),
            ledger: transfer.ledger.0,
            code: transfer.code.0,
            in_doubt: *in_doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{EventId, Expire};

    use super::*;

    fn transfer(id: u128, pending_id: u128, flags: TransferFlags) -> Event {
        let (id, pending_id) = (EventId(id), EventId(pending_id));
        Event::Transfer(Transfer {
            id,
            pending_id,
            flags,
            amount: Amount(9),
            ..Transfer::default()
        })
    }

    /// Ids of what is open, with what it holds and whether it is in doubt, oldest first.
    fn open(log: &[(Event, Verdict)]) -> Vec<(u128, u128, bool)> {
        let mut open = Open::default();
        for (offset, (event, verdict)) in log.iter().enumerate().rev() {
            let record = Record { event: event.to_bytes(), verdict: *verdict, resolved: None };
            open.before(offset as u64, Timestamp(1), &record);
        }
        let found = open.found.iter().rev();
        found.map(|found| (found.transfer.id.0, found.amount.0, found.in_doubt)).collect()
    }

    #[test]
    fn what_was_posted_voided_refused_or_has_expired_is_not_open() {
        let (pending, post, void) =
            (TransferFlags::PENDING, TransferFlags::POST_PENDING, TransferFlags::VOID_PENDING);
        let expire = Event::Expire(Expire { pending_id: EventId(3) });
        let log = [
            (transfer(1, 0, pending), Verdict::Ok),
            (transfer(2, 0, pending), Verdict::Ok),
            (transfer(3, 0, pending), Verdict::Ok),
            (transfer(4, 0, pending), Verdict::Ok),
            (transfer(5, 0, pending), Verdict::ExceedsCredits),
            (transfer(6, 1, post), Verdict::Ok),
            (transfer(7, 2, void), Verdict::Ok),
            (expire, Verdict::Ok),
            (transfer(8, 4, post), Verdict::PendingAmountExceeded),
            (transfer(9, 0, TransferFlags::default()), Verdict::Ok),
        ];
        assert_eq!(open(&log), [(4, 9, false)]);
    }

    #[test]
    fn what_another_partition_has_not_spoken_about_is_in_doubt() {
        let pending = TransferFlags::PENDING;
        let word = |id, verdict, amount, pending_id| {
            let (id, amount, pending_id) = (EventId(id), Amount(amount), EventId(pending_id));
            let place = 0;
            (
                Event::Word(Word { id, place, verdict, amount, pending_id, is_linked: false }),
                Verdict::Ok,
            )
        };
        let log = [
            (transfer(1, 0, pending), Verdict::InDoubt),
            (transfer(2, 0, pending), Verdict::InDoubt),
            (transfer(3, 0, pending), Verdict::InDoubt),
            (transfer(4, 0, pending), Verdict::InDoubt),
            word(2, Verdict::Ok, 8, 0),
            word(3, Verdict::CreditAccountNotFound, 0, 0),
            word(4, Verdict::Ok, 9, 0),
            (transfer(5, 4, TransferFlags::POST_PENDING), Verdict::InDoubt),
            word(5, Verdict::Ok, 9, 4),
        ];
        assert_eq!(open(&log), [(1, 9, true), (2, 8, false)]);
    }
}
