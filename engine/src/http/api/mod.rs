//! The API, version 1: paths under `/api/v1`, and the document that describes them.

mod accounts;
mod cluster;
mod document;
mod events;
mod log;
mod stream;
mod transfers;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use walengine_net::client::tokio::Client;
use walengine_net::model::PartitionId;

use super::json::OneId;
use super::problem::{Kind, Problem};
use super::shared::Shared;

/// Every path of the API.
pub fn router() -> Router<Arc<Shared>> {
    let (router, document) = OpenApiRouter::with_openapi(document::base())
        .routes(routes!(accounts::create))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::one))
        .routes(routes!(accounts::look_up))
        .routes(routes!(transfers::submit))
        .routes(routes!(transfers::one))
        .routes(routes!(transfers::look_up))
        .routes(routes!(events::submit))
        .routes(routes!(events::status))
        .routes(routes!(log::page))
        .routes(routes!(stream::follow))
        .routes(routes!(cluster::status))
        .split_for_parts();
    router.merge(document::router(&document))
}

/// An id in the path.
struct InPath<T>(T);

impl<T: OneId, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        T::of_text(&text).map(Self).map_err(|why| Problem::new(Kind::Malformed, why))
    }
}

/// A number in the path.
struct Partition(PartitionId);

impl<S: Send + Sync> FromRequestParts<S> for Partition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let number = Path::<u16>::from_request_parts(parts, state).await;
        let Path(number) =
            number.map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        Ok(Self(PartitionId(number)))
    }
}

/// What stands behind the question mark.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        let Query(asked) =
            asked.map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        Ok(Self(asked))
    }
}

/// A number is within its bounds.
fn between(what: &str, found: usize, least: usize, most: usize) -> Result<(), Problem> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let detail = format!("{what}: {found}; it must be from {least} to {most}");
    Err(Problem::new(Kind::Malformed, detail))
}

/// A partition, if the cluster has it.
fn known(client: &Client, partition: PartitionId) -> Result<PartitionId, Problem> {
    let partitions = client.info().partitions;
    if partition.0 < partitions {
        return Ok(partition);
    }
    let detail = format!("there is no partition {partition}: the cluster has {partitions}");
    Err(Problem::new(Kind::NotFound, detail))
}
