//! What a request's path and query say.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use walengine_net::client::tokio::Client;
use walengine_net::model::PartitionId;

use crate::http::json::OneId;
use crate::http::problem::{Kind, Problem};

/// An id in the path.
pub struct InPath<T>(pub T);

impl<T: OneId, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        T::of_text(&text).map(Self).map_err(|why| Problem::new(Kind::Malformed, why))
    }
}

/// A number in the path.
pub struct Partition(pub PartitionId);

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
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        let Query(asked) =
            asked.map_err(|error| Problem::new(Kind::Malformed, error.body_text()))?;
        Ok(Self(asked))
    }
}

/// Nothing stands behind the question mark: what is misspelt, or is of another path, would be overlooked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A path that takes no parameters, and got none.
pub struct Unasked;

impl<S: Send + Sync> FromRequestParts<S> for Unasked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Asked::<Nothing>::from_request_parts(parts, state).await.map(|_| Self)
    }
}

/// A number is within its bounds.
pub fn between(what: &str, found: usize, least: usize, most: usize) -> Result<(), Problem> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let detail = format!("{what}: {found}; it must be from {least} to {most}");
    Err(Problem::new(Kind::Malformed, detail))
}

/// A request for one event is no part of a chain.
pub fn unlinked(is_linked: bool) -> Result<(), Problem> {
    if !is_linked {
        return Ok(());
    }
    let detail = "a single event is linked to nothing: chains are sent to /api/v1/events";
    Err(Problem::at("/linked", Kind::Malformed, detail))
}

/// What was found of the only id that was asked for; `missing` says in words that there is nothing.
pub fn the_one<T>(found: Vec<Option<T>>, missing: impl FnOnce() -> String) -> Result<T, Problem> {
    let found = found.into_iter().flatten().next();
    found.ok_or_else(|| Problem::new(Kind::NotFound, missing()))
}

/// A partition, if the cluster has it.
pub fn known(client: &Client, partition: PartitionId) -> Result<PartitionId, Problem> {
    let partitions = client.info().partitions;
    if partition.0 < partitions {
        return Ok(partition);
    }
    let detail = format!("there is no partition {partition}: the cluster has {partitions}");
    Err(Problem::new(Kind::NotFound, detail))
}
