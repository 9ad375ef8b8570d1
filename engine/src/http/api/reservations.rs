//! Open reservations of a partition, oldest first, as its state has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::client::{EventDecision, OpenReservation};
use walengine_net::limits::LIST_RESERVATIONS_MAX;
use walengine_net::model::{PartitionId, Timestamp};

use super::asked::{Asked, known};
use super::backwards::place;
use super::document::{AnyProblem, TokenProblem};
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{Digits, rfc3339, uuid_text};
use crate::http::problem::Problem;
use crate::http::scales::Scales;
use crate::http::shared::Shared;
use crate::limits::{HTTP_SCAN_ROWS_MAX, HTTP_SCAN_WITHIN};

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
    /// At most 500: the oldest.
    reservations: Vec<Reservation>,
    /// How many were found.
    found: u64,
    /// Whether all were looked at. Where that would take too long, these are the oldest of those that were, and
    /// `found` is how many that is.
    complete: bool,
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
    responses((status = 200, body = OpenReservations, description = "What is open"), AnyProblem, TokenProblem)
)]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Asked(Where { partition }): Asked<Where>,
) -> Result<Json<OpenReservations>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let partition = known(&client, PartitionId(partition))?;
    let _place = place(&shared.scans).await?;
    let (mut oldest, mut after) = (Oldest::default(), None);
    let by = Instant::now() + HTTP_SCAN_WITHIN;
    let complete = loop {
        let (most, tokens) = (LIST_RESERVATIONS_MAX, &fresh.tokens);
        let page = client.list_reservations(partition, after, most, tokens).await?;
        page.reservations.into_iter().for_each(|open| oldest.meet(open));
        after = page.next_cursor;
        if after.is_none() || Instant::now() >= by {
            break after.is_none();
        }
    };
    let ids: Vec<_> = oldest.kept.values().map(|open| open.id).collect();
    let decided = client.lookup_transfers(&ids, &fresh.tokens).await?;
    // Another partition may have refused something under the same id.
    let is_home = |decided: &EventDecision| decided.partition == partition;
    let scales = shared.scales.get(&client).await?;
    let shown = oldest.kept.values().zip(decided).map(|(open, decided)| {
        let time = decided.filter(is_home).map(|decided| decided.timestamp);
        Reservation::new(open, time, &scales)
    });
    Ok(Json(OpenReservations { reservations: shown.collect(), found: oldest.met, complete }))
}

/// The oldest of what was met.
#[derive(Default)]
struct Oldest {
    /// By offset. A page may have what an earlier one had: places are used again.
    kept: BTreeMap<u64, OpenReservation>,
    met: u64,
}

impl Oldest {
    fn meet(&mut self, open: OpenReservation) {
        self.met += u64::from(self.kept.insert(open.offset.0, open).is_none());
        if self.kept.len() > HTTP_SCAN_ROWS_MAX {
            self.kept.pop_last();
        }
    }
}

impl Reservation {
    fn new(open: &OpenReservation, time: Option<Timestamp>, scales: &Scales) -> Self {
        Self {
            id: uuid_text(open.id.0),
            offset: Digits(open.offset.0),
            time: time.and_then(rfc3339),
            expires: open.expires_at.and_then(rfc3339),
            debit_account: uuid_text(open.debit_account_id.0),
            credit_account: uuid_text(open.credit_account_id.0),
            amount: Digits(open.amount.0),
            amount_decimal: scales.shown(open.ledger.0, open.amount.0),
            ledger: open.ledger.0,
            code: open.code.0,
            in_doubt: open.in_doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Amount, Code, EventId, LedgerId, Offset};

    use super::*;

    #[test]
    fn the_oldest_are_kept_however_many_there_are_and_in_whatever_order() {
        let open = |offset: u64| OpenReservation {
            id: EventId(u128::from(offset) + 1),
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(9),
            ledger: LedgerId(1),
            code: Code(1),
            offset: Offset(offset),
            expires_at: None,
            in_doubt: false,
        };
        let mut oldest = Oldest::default();
        // 7 and 2000 have no common divisor: all of them, in an order of their own.
        (0..2000_u64).for_each(|at| oldest.meet(open(at * 7 % 2000)));
        oldest.meet(open(0));
        assert_eq!(oldest.met, 2000);
        let kept: Vec<u64> = oldest.kept.into_keys().collect();
        assert_eq!(kept, (0..500).collect::<Vec<_>>());
    }
}
