//! Who asks, what it may do, and what verdicts mean: what a page needs to know before it shows anything.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use walengine_net::model::Verdict;

use super::asked::Unasked;
use super::document::AnyProblem;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::shared::Shared;
use crate::policy::Right;

/// What the caller may do, in some book and ledger at least.
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct ShownRights {
    /// Who it is by its certificate; there is none without TLS, where everybody may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    write: bool,
    read: bool,
    read_log: bool,
    admin: bool,
}

/// Who asks, and what it may do.
#[utoipa::path(
    get, path = "/api/v1/rights", tag = "cluster",
    operation_id = "getRights",
    responses((status = 200, body = ShownRights, description = "By the policy of this node"), AnyProblem)
)]
pub async fn rights(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
) -> Result<Json<ShownRights>, Problem> {
    let node = shared.opened()?;
    let Some(identity) = caller.identity()? else {
        let all = ShownRights { name: None, write: true, read: true, read_log: true, admin: true };
        return Ok(Json(all));
    };
    let (_, rights) = node.policies.rights(&identity);
    Ok(Json(ShownRights {
        name: Some(identity.to_string()),
        write: rights.has(Right::Write),
        read: rights.has(Right::Read),
        read_log: rights.has(Right::ReadLog),
        admin: rights.has(Right::Admin),
    }))
}

/// A verdict.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownVerdict {
    name: &'static str,
    /// In words.
    meaning: &'static str,
}

/// Every verdict that there is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verdicts {
    verdicts: Vec<ShownVerdict>,
}

/// What verdicts mean.
#[utoipa::path(
    get, path = "/api/v1/verdicts", tag = "transfers",
    operation_id = "listVerdicts",
    responses((status = 200, body = Verdicts, description = "All of them"), AnyProblem)
)]
pub async fn verdicts(_: Unasked) -> Json<Verdicts> {
    let all = Verdict::all();
    let shown = all.map(|one| ShownVerdict { name: one.name(), meaning: one.meaning() });
    Json(Verdicts { verdicts: shown.collect() })
}
