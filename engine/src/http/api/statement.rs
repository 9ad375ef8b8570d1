//! What has moved an account's money, newest first, with the balance after each row.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::partition::of_account;

use super::asked::{Asked, InPath, between, known, the_one};
use super::backwards::Backwards;
use super::document::{AnyProblem, TokenProblem};
use crate::decimals;
use crate::effect::{Moved, Whose, effect, prepared_at};
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{AccountText, Digits, rfc3339, uuid_text};
use crate::http::problem::{Kind, Problem};
use crate::http::scales::Scales;
use crate::http::shared::Shared;
use crate::limits::HTTP_SCAN_ROWS_MAX;

/// Which part of the statement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Rows {
    /// At most so many rows.
    #[serde(default = "page_of")]
    #[param(minimum = 1, maximum = 500)]
    limit: usize,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,20}-[0-9]{1,39}-[0-9]{1,39}$")]
    before: Option<String>,
    /// Of a striped account: whose stripe; without it, that of partition 0.
    #[param(minimum = 0, maximum = 65_535)]
    partition: Option<u16>,
}
const _: () = assert!(HTTP_SCAN_ROWS_MAX == 500);

fn page_of() -> usize {
    50
}

/// Rows of a statement.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statement {
    #[schema(format = "uuid")]
    account: String,
    ledger: u32,
    /// The partition whose log it is from.
    partition: u16,
    /// Newest first.
    rows: Vec<StatementRow>,
    /// Nothing below this offset was looked at.
    #[schema(value_type = String)]
    covered_from: Digits<u64>,
    /// What to give as `before` for older rows; there is none where nothing is left. A page may be empty
    /// and have it: a request looks at so many records and no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What one record has moved.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatementRow {
    #[schema(value_type = String)]
    offset: Digits<u64>,
    /// Log time.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// `transfer`, `post` or `between stripes`.
    kind: &'static str,
    /// The transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    id: Option<String>,
    /// On the other side.
    #[schema(format = "uuid")]
    other_account: String,
    /// Moved out of the account.
    #[schema(value_type = String)]
    debit: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_decimal: Option<String>,
    /// Moved into it.
    #[schema(value_type = String)]
    credit: Digits<u128>,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_decimal: Option<String>,
    /// What was credited without what was debited, afterwards. May be below zero.
    #[schema(pattern = "^-?[0-9]{1,39}$")]
    balance: String,
    /// With the decimals of its ledger, if that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    balance_decimal: Option<String>,
}

/// The state of the account at an offset: where a page ends, and the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    end: u64,
    debits: u128,
    credits: u128,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.end, self.debits, self.credits)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "before: it is `next` of a page, and nothing else";
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(what);
        let (end, debits, credits) = (part()?, part()?, part()?);
        let place = Self {
            end: end.parse().map_err(|_| what)?,
            debits: debits.parse().map_err(|_| what)?,
            credits: credits.parse().map_err(|_| what)?,
        };
        if part().is_ok() { Err(what) } else { Ok(place) }
    }
}

impl Place {
    /// What was credited without what was debited.
    fn balance(&self) -> String {
        decimals::difference(self.credits, self.debits, 0)
    }

    /// The same with the decimals of a ledger, if that was described.
    fn balance_decimal(&self, ledger: u32, scales: &Scales) -> Option<String> {
        scales.difference(ledger, self.credits, self.debits)
    }

    /// Before something was moved.
    fn before(self, end: u64, moved: &Moved) -> Result<Self, Problem> {
        let debits = self.debits.checked_sub(moved.debit.0);
        let credits = self.credits.checked_add(moved.given.0);
        let credits = credits.and_then(|sum| sum.checked_sub(moved.credit.0));
        let (Some(debits), Some(credits)) = (debits, credits) else {
            let detail =
                "the sums and the log do not agree: `before` is not of this account's statement";
            return Err(Problem::new(Kind::Malformed, detail));
        };
        Ok(Self { end, debits, credits })
    }
}

/// What has moved an account's money, newest first. Reservations move nothing.
#[utoipa::path(
    get, path = "/api/v1/accounts/{id}/statement", tag = "accounts",
    operation_id = "getStatement",
    params(
        ("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256),
        Rows,
        HowFresh,
    ),
    responses((status = 200, body = Statement, description = "A page"), AnyProblem, TokenProblem)
)]
pub async fn statement(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    InPath(AccountText(id)): InPath<AccountText>,
    Asked(asked): Asked<Rows>,
) -> Result<Json<Statement>, Problem> {
    between("limit", asked.limit, 1, HTTP_SCAN_ROWS_MAX)?;
    let before: Option<Place> = match asked.before.as_deref().map(str::parse) {
        None => None,
        Some(place) => Some(place.map_err(|why| Problem::new(Kind::Malformed, why))?),
    };
    let client = fresh.client(&shared.client(&caller).await?);
    let partitions = client.info().partitions;
    let here = match asked.partition {
        Some(asked) if id.is_striped() => known(&client, PartitionId(asked))?,
        _ if id.is_striped() => PartitionId(0),
        _ => of_account(id, partitions),
    };
    let at = client.accounts_of_partition(here, &[id], &fresh.tokens).await?;
    let account = the_one(at.accounts, || format!("no account {id}"))?;
    let now = Place {
        end: at.next_offset.0,
        debits: account.debits_posted.0,
        credits: account.credits_posted.0,
    };
    let mut place = before.unwrap_or(now);
    if place.end > now.end {
        let detail = format!("before: the log has {} records, and not {}", now.end, place.end);
        return Err(Problem::new(Kind::Malformed, detail));
    }
    let whose = Whose { account: id, here, partitions };
    let mut log = Backwards::new(&shared.scans, &client, here, place.end).await?;
    let (ledger, scales) = (account.ledger.0, shared.scales.get(&client).await?);
    let mut rows = Vec::new();
    // Before it moved for the first time there is nothing. A stripe may have given away all that it had.
    let is_done = |place: &Place| !id.is_striped() && place.debits == 0 && place.credits == 0;
    'windows: while !is_done(&place)
        && let Some(window) = log.window().await?
    {
        for (offset, time, record) in window.events()?.into_iter().rev() {
            let prepared = match prepared_at(&record) {
                Some(at) => log.record_at(at).await?,
                None => None,
            };
            let moved = effect(&whose, &record, |_| Ok::<_, Infallible>(prepared));
            let Some(moved) = moved.unwrap_or_else(|never| match never {}) else { continue };
            rows.push(
                StatementRow::new(offset, time, &moved, &place).scaled(ledger, &scales, &place),
            );
            place = place.before(offset, &moved)?;
            if rows.len() >= asked.limit {
                break 'windows;
            }
        }
        place.end = window.begin;
    }
    let is_more = place.end > 0 && !is_done(&place);
    Ok(Json(Statement {
        account: uuid_text(id.0),
        ledger: account.ledger.0,
        partition: here.0,
        rows,
        covered_from: Digits(place.end),
        next: is_more.then(|| place.to_string()),
    }))
}

impl StatementRow {
    fn new(offset: u64, time: Timestamp, moved: &Moved, after: &Place) -> Self {
        Self {
            offset: Digits(offset),
            time: rfc3339(time),
            kind: moved.kind,
            id: (moved.id != 0).then(|| uuid_text(moved.id)),
            other_account: uuid_text(moved.other.0),
            // What a stripe gives away is like a debit for who reads, though it counts in no sum of debits.
            debit: Digits(moved.debit.0.saturating_add(moved.given.0)),
            credit: Digits(moved.credit.0),
            balance: after.balance(),
            debit_decimal: None,
            credit_decimal: None,
            balance_decimal: None,
        }
    }

    fn scaled(self, ledger: u32, scales: &Scales, after: &Place) -> Self {
        Self {
            debit_decimal: scales.shown(ledger, self.debit.0),
            credit_decimal: scales.shown(ledger, self.credit.0),
            balance_decimal: after.balance_decimal(ledger, scales),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Amount};

    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let place = Place { end: 7, debits: u128::MAX, credits: 3 };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!(place.balance(), format!("-{}", u128::MAX - 3));
        for bad in
            ["", "7", "7-1", "7-1-2-3", "x-1-2", "7-1-340282366920938463463374607431768211456"]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_that_the_log_contradicts_are_refused() {
        let moved = Moved {
            kind: "transfer",
            id: 1,
            other: AccountId(2),
            debit: Amount(5),
            credit: Amount(0),
            given: Amount(0),
        };
        let place = |debits| Place { end: 9, debits, credits: 0 };
        assert_eq!(place(5).before(8, &moved), Ok(Place { end: 8, debits: 0, credits: 0 }));
        assert!(place(4).before(8, &moved).is_err());
    }
}
