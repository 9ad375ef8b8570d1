//! The API, version 1: paths under `/api/v1`, and the document that describes them.

mod accounts;
mod asked;
mod backwards;
mod cluster;
mod document;
mod events;
mod log;
mod naming;
mod newest;
mod projector;
mod reservations;
mod rights;
mod statement;
mod stream;
mod transfers;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::shared::Shared;

/// Every path of the API.
pub fn router() -> Router<Arc<Shared>> {
    let (router, document) = OpenApiRouter::with_openapi(document::base())
        .routes(routes!(accounts::create))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::one))
        .routes(routes!(accounts::look_up))
        .routes(routes!(naming::name))
        .routes(routes!(naming::describe))
        .routes(routes!(naming::ledgers))
        .routes(routes!(statement::statement))
        .routes(routes!(transfers::submit))
        .routes(routes!(transfers::one))
        .routes(routes!(transfers::look_up))
        .routes(routes!(reservations::list))
        .routes(routes!(events::submit))
        .routes(routes!(events::status))
        .routes(routes!(log::page))
        .routes(routes!(newest::newest))
        .routes(routes!(stream::follow))
        .routes(routes!(cluster::status))
        .routes(routes!(projector::status))
        .routes(routes!(rights::rights))
        .routes(routes!(rights::verdicts))
        .split_for_parts();
    router.merge(document::router(&document))
}
