//! The newest records of a partition's log, and those that were refused.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::model::Offset;

use super::asked::{Asked, Partition, between, known};
use super::backwards::{Backwards, end_of};
use super::document::{AnyProblem, TokenProblem};
use super::naming::with_names;
use crate::http::caller::Caller;
use crate::http::fresh::{Fresh, HowFresh};
use crate::http::json::{Digits, Record, records};
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::limits::HTTP_SCAN_ROWS_MAX;

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// `next` of the page before: only what is before this offset.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    before: Option<u64>,
    /// At most so many records.
    #[serde(default = "page_of")]
    #[param(minimum = 1, maximum = 500)]
    limit: usize,
    /// Only what was refused.
    #[serde(default)]
    refused: bool,
    /// With what accounts are called now, beside their ids: `debit_account_name`, `credit_account_name`, `account_name`.
    #[serde(default)]
    names: bool,
}
const _: () = assert!(HTTP_SCAN_ROWS_MAX == 500);

fn page_of() -> usize {
    50
}

/// Records, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewestPage {
    records: Vec<Record>,
    /// What to give as `before` for older ones; there is none at the log's beginning. A page may be empty and
    /// have it: a request looks at so many records and no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    next: Option<Digits<u64>>,
}

/// Read a partition's log from its end backwards.
#[utoipa::path(
    get, path = "/api/v1/log/{partition}/newest", tag = "log",
    operation_id = "readNewest",
    params(
        Which,
        ("partition" = u16, Path, description = "Its number, from 0", maximum = 65_535),
        HowFresh,
    ),
    responses((status = 200, body = NewestPage, description = "A page"), AnyProblem, TokenProblem)
)]
pub async fn newest(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Partition(partition): Partition,
    Asked(which): Asked<Which>,
) -> Result<Json<NewestPage>, Problem> {
    between("limit", which.limit, 1, HTTP_SCAN_ROWS_MAX)?;
    let client = fresh.client(&shared.client(&caller).await?);
    let partition = known(&client, partition)?;
    let end = end_of(&client, partition, &fresh.tokens).await?;
    let end = which.before.map_or(end, |before| end.min(before));
    let mut log = Backwards::new(&shared.scans, &client, partition, end).await?;
    let scales = shared.scales.get(&client).await?;
    let (mut found, mut next) = (Vec::new(), end);
    'windows: while let Some(window) = log.window().await? {
        for page in window.pages.iter().rev() {
            let records = records(page, Offset(window.begin), usize::MAX, &scales)?;
            for record in records.into_iter().rev() {
                if record.offset.0 >= next || which.refused && !record.is_refused() {
                    continue;
                }
                next = record.offset.0;
                found.push(record);
                if found.len() >= which.limit {
                    break 'windows;
                }
            }
        }
        next = log.covered_from();
    }
    if which.names {
        found = with_names(&client, found, &fresh.tokens).await?;
    }
    Ok(Json(NewestPage { records: found, next: Some(Digits(next)).filter(|next| next.0 > 0) }))
}
