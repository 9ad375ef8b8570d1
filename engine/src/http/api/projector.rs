//! How far PostgreSQL is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::asked::Unasked;
use super::document::AnyProblem;
use crate::http::caller::Caller;
use crate::http::problem::Problem;
use crate::http::projector::ShownProjector;
use crate::http::shared::Shared;

/// How far PostgreSQL is behind the log.
#[utoipa::path(
    get, path = "/api/v1/projector", tag = "cluster",
    operation_id = "getProjector",
    responses((status = 200, body = ShownProjector, description = "As it says itself"), AnyProblem)
)]
pub async fn status(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
) -> Result<Json<ShownProjector>, Problem> {
    shared.may_look(&caller)?;
    Ok(Json(shared.projector.says().await))
}
