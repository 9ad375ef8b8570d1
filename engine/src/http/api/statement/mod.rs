//! What has moved an account's money, newest first, with the balance after each row.

mod booked;
mod by_log;
mod look;
mod place;
mod query;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::partition::of_account;

use super::asked::{Asked, InPath, between, known, the_one};
use super::document::{AnyProblem, TokenProblem};
use crate::business_time::shown_business;
use crate::effect::{Moved, Whose};
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{AccountText, Digits, rfc3339, uuid_text};
use crate::http::problem::{PROBLEM_TYPE, Problem};
use crate::http::scales::Scales;
use crate::http::shared::Shared;
use crate::limits::HTTP_SCAN_ROWS_MAX;
use look::{Found, Look};
use place::Place;
use query::{By, Rows};

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
    /// Time of business, if its sender has given one: the day, or a time in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    booked: Option<String>,
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

/// What has moved an account's money, newest first. Reservations move nothing.
///
/// With `by=booked` in order of times of business, with the balances of that order. All of the log since the account's
/// first movement is read for that; if it is too long, the answer is 422, and SQL has the function `statement`.
#[utoipa::path(
    get, path = "/api/v1/accounts/{id}/statement", tag = "accounts",
    operation_id = "getStatement",
    params(
        ("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256),
        Rows,
        HowFresh,
    ),
    responses(
        (status = 200, body = Statement, description = "A page"),
        (
            status = 422, body = Problem, content_type = PROBLEM_TYPE,
            description = "By time of business it needs more of the log than a request reads"
        ),
        AnyProblem, TokenProblem,
    )
)]
pub async fn statement(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    InPath(AccountText(id)): InPath<AccountText>,
    Asked(asked): Asked<Rows>,
) -> Result<Json<Statement>, Problem> {
    between("limit", asked.limit, 1, HTTP_SCAN_ROWS_MAX)?;
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
    let look = Look {
        shared: &shared,
        client: &client,
        whose: Whose { account: id, here, partitions },
        now,
    };
    let page = match asked.by {
        By::Log => by_log::page(&look, &asked).await?,
        By::Booked => booked::page(&look, &asked).await?,
    };
    let (ledger, scales) = (account.ledger.0, shared.scales.get(&client).await?);
    let row = |Found { offset, time, moved, after }: &Found| {
        StatementRow::new(*offset, *time, moved, after).scaled(ledger, &scales, after)
    };
    Ok(Json(Statement {
        account: uuid_text(id.0),
        ledger,
        partition: here.0,
        rows: page.rows.iter().map(row).collect(),
        covered_from: Digits(page.covered_from),
        next: page.next,
    }))
}

impl StatementRow {
    fn new(offset: u64, time: Timestamp, moved: &Moved, after: &Place) -> Self {
        Self {
            offset: Digits(offset),
            time: rfc3339(time),
            booked: moved.booked.map(shown_business),
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
