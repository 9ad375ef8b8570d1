//! Pages of a partition's log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::model::Offset;

use super::asked::{Asked, Partition, between, known};
use super::document::{AnyProblem, TokenProblem};
use super::naming::with_names;
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{Digits, Record, records};
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::limits::{HTTP_LOG_PAGE_BYTES, HTTP_LOG_PAGE_RECORDS_MAX};

/// Which part of the log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// The first offset.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    from: u64,
    /// At most so many records.
    #[serde(default = "page_of")]
    #[param(minimum = 1, maximum = 1000)]
    limit: usize,
    /// With what accounts are called now, beside their ids: `debit_account_name`, `credit_account_name`, `account_name`.
    #[serde(default)]
    names: bool,
}

fn page_of() -> usize {
    100
}

/// A page of a partition's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogPage {
    records: Vec<Record>,
    /// What to give as `from` for the next page.
    #[schema(value_type = String)]
    next: Digits<u64>,
    /// Everything below is durable.
    #[schema(value_type = String)]
    durable: Digits<u64>,
}

/// Read a partition's log: refusals too, in order.
#[utoipa::path(
    get, path = "/api/v1/log/{partition}", tag = "log",
    operation_id = "readLog",
    params(
        Part,
        ("partition" = u16, Path, description = "Its number, from 0", maximum = 65_535),
        HowFresh,
    ),
    responses((status = 200, body = LogPage, description = "A page; empty at the end of the log"), AnyProblem, TokenProblem)
)]
pub async fn page(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Partition(partition): Partition,
    Asked(part): Asked<Part>,
) -> Result<Json<LogPage>, Problem> {
    between("limit", part.limit, 1, HTTP_LOG_PAGE_RECORDS_MAX)?;
    let client = fresh.client(&shared.client(&caller).await?);
    let partition = known(&client, partition)?;
    let from = Offset(part.from);
    let page = client.read_log(partition, from, HTTP_LOG_PAGE_BYTES, &fresh.tokens).await?;
    let scales = shared.scales.get(&client).await?;
    let mut records = records(&page, from, part.limit, &scales)?;
    // What did not fit is on the next page.
    let next = match records.last() {
        Some(last) if records.len() == part.limit => last.offset.0 + 1,
        _ => page.next_offset.0.max(part.from),
    };
    if part.names {
        records = with_names(&client, records, &fresh.tokens).await?;
    }
    Ok(Json(LogPage { records, next: Digits(next), durable: Digits(page.durable_offset.0) }))
}
