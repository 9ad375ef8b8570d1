//! Transfers: submitted one by one, and looked up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use walengine_net::limits::LOOKUP_IDS_MAX;
use walengine_net::model::EventId;

use super::asked::{InPath, Unasked, the_one, unlinked};
use super::document::{AnyProblem, BodyProblem, TokenProblem};
use super::events::answer_to_one;
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::fresh::{self, Fresh, HowFresh};
use crate::http::json::{
    EventText, GivenTransfer, OneId as _, ShownDecision, ShownOutcome, bounded,
};
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;

/// Is the id of the transfer, if the body has none.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Submit a transfer. Sent again with the same id, it gets the same verdict and moves nothing more.
#[utoipa::path(
    post, path = "/api/v1/transfers", tag = "transfers",
    operation_id = "createTransfer",
    params(("Idempotency-Key" = Option<String>, Header, description = "The id, if the body has none")),
    request_body = GivenTransfer,
    responses(
        (status = 201, body = ShownOutcome, description = "Accepted", headers(("Walengine-Token" = String))),
        (status = 200, body = ShownOutcome, description = "It was accepted before", headers(("Walengine-Token" = String))),
        (
            status = 409,
            content((ShownOutcome = "application/json"), (Problem = "application/problem+json")),
            description = "Refused; the verdict says why",
            headers(("Walengine-Token" = String))
        ),
        AnyProblem, BodyProblem,
    )
)]
pub async fn submit(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    headers: HeaderMap,
    Given(mut given, _room): Given<GivenTransfer>,
) -> Result<Response, Problem> {
    if let Some(key) = fresh::text(&headers, &IDEMPOTENCY_KEY)? {
        // The draft of the header's standard has it in quotes.
        let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
        let key = EventText::of_text(bare).map_err(|why| Problem::new(Kind::Malformed, why))?;
        if given.id.is_some_and(|id| id != key) {
            let detail = format!("{IDEMPOTENCY_KEY} and the body's `id` are different ids");
            return Err(Problem::at("/id", Kind::KeyDiffers, detail));
        }
        given.id = Some(key);
    }
    if given.id.is_none() {
        let detail = format!(
            "a transfer has an id, in the body or as {IDEMPOTENCY_KEY}: without one it can't be sent again safely"
        );
        return Err(Problem::at("/id", Kind::Malformed, detail));
    }
    unlinked(given.linked)?;
    let client = shared.client(&caller).await?;
    let scales = match given.amount_decimal {
        Some(_) => shared.scales.get(&client).await?,
        None => Arc::default(),
    };
    let transfer = given.transfer(&scales)?;
    let submitted = client.submit_all(&[transfer.to_bytes()]).await?;
    Ok(answer_to_one(transfer.id.0, &submitted))
}

/// Look at a transfer, guard or close, and its verdict.
#[utoipa::path(
    get, path = "/api/v1/transfers/{id}", tag = "transfers",
    operation_id = "getTransfer",
    params(
        ("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256),
        HowFresh,
    ),
    responses((status = 200, body = ShownDecision, description = "The event and its verdict"), AnyProblem, TokenProblem)
)]
pub async fn one(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    fresh: Fresh,
    InPath(EventText(id)): InPath<EventText>,
) -> Result<Json<ShownDecision>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let found = client.lookup_transfers(&[id], &fresh.tokens).await?;
    let found = the_one(found, || format!("id {id} was not decided"))?;
    Ok(Json(ShownDecision::new(&found, &*shared.scales.get(&client).await?)))
}

/// Transfers to look up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventIds {
    /// UUIDs, numbers or any other texts, at most 4,096.
    #[serde(deserialize_with = "bounded::<_, _, LOOKUP_IDS_MAX>")]
    #[schema(value_type = Vec<String>, max_items = 4096)]
    ids: Vec<EventText>,
}
const _: () = assert!(LOOKUP_IDS_MAX == 4096);

/// Events in the order in which they were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decisions {
    /// `null`: nothing was decided about the id.
    transfers: Vec<Option<ShownDecision>>,
}

/// Look up many transfers, guards and closes.
#[utoipa::path(
    post, path = "/api/v1/transfers/lookup", tag = "transfers",
    operation_id = "lookUpTransfers",
    params(
        HowFresh,
    ),
    request_body = EventIds,
    responses((status = 200, body = Decisions, description = "In the order of the ids"), AnyProblem, TokenProblem, BodyProblem)
)]
pub async fn look_up(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    fresh: Fresh,
    Given(given, _room): Given<EventIds>,
) -> Result<Json<Decisions>, Problem> {
    let client = fresh.client(&shared.client(&caller).await?);
    let ids: Vec<EventId> = given.ids.iter().map(|id| id.0).collect();
    let found = client.lookup_transfers(&ids, &fresh.tokens).await?;
    let scales = shared.scales.get(&client).await?;
    let shown = |found: &Option<_>| found.as_ref().map(|it| ShownDecision::new(it, &scales));
    let transfers = found.iter().map(shown).collect();
    Ok(Json(Decisions { transfers }))
}
