//! Batches of events, and what is known about an id.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use walengine_net::client::Submitted;
use walengine_net::limits::EVENTS_MAX;
use walengine_net::message::IdNamespace;
use walengine_net::model::{Event, EventBytes, Verdict, event_id};

use super::asked::{Asked, InPath, Unasked, the_one};
use super::document::{AnyProblem, BodyProblem, TokenProblem};
use crate::http::body::Given;
use crate::http::caller::Caller;
use crate::http::fresh::{self, Fresh, HowFresh};
use crate::http::json::{
    AccountText, AnyText, Digits, EventText, GivenEvent, OneId as _, ShownOutcome, bounded_objects,
};
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;

/// Events to be decided, in this order within each partition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// At most 8,190. Those that are `linked` to the next succeed or fail together with it.
    #[serde(deserialize_with = "bounded_objects::<_, _, EVENTS_MAX>")]
    #[schema(max_items = 8190)]
    events: Vec<GivenEvent>,
}
const _: () = assert!(EVENTS_MAX == 8190);

/// What was decided, in the order of the events.
#[derive(Debug, Serialize, ToSchema)]
pub struct Outcomes {
    outcomes: Vec<ShownOutcome>,
}

/// Submit a batch of events. The answer has an outcome for each; refusals are outcomes.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "transfers",
    operation_id = "submitEvents",
    request_body = Batch,
    responses(
        (status = 200, body = Outcomes, description = "An outcome for each event", headers(("Walengine-Token" = String))),
        AnyProblem, BodyProblem,
    )
)]
pub async fn submit(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    _: Unasked,
    Given(batch, _room): Given<Batch>,
) -> Result<Response, Problem> {
    let without = batch.events.iter().position(|event| !event.has_id());
    if let Some(place) = without {
        let detail = "an event has an id: without one it can't be sent again safely";
        return Err(Problem::at(format!("/events/{place}/id"), Kind::Malformed, detail));
    }
    let client = shared.client(&caller).await?;
    let scales = if batch.events.iter().any(GivenEvent::has_decimals) {
        shared.scales.get(&client).await?
    } else {
        Arc::default()
    };
    let mut events: Vec<EventBytes> = Vec::with_capacity(batch.events.len());
    for (place, given) in batch.events.iter().enumerate() {
        let event =
            given.event(&scales).map_err(|problem| problem.below(&format!("/events/{place}")))?;
        events.push(bytes(&event));
    }
    // Parts of it may go to several partitions, of which one fails and another has decided.
    let submitted = client.submit_all(&events).await.map_err(Problem::of_several)?;
    let outcomes = events.iter().zip(submitted.outcomes());
    let outcomes =
        outcomes.map(|(event, outcome)| ShownOutcome::new(event_id(event), &outcome)).collect();
    if batch.events.iter().any(|given| matches!(given, GivenEvent::Describe(_))) {
        shared.scales.forget();
    }
    Ok(with_tokens(Json(Outcomes { outcomes }).into_response(), &submitted))
}

fn bytes(event: &Event) -> EventBytes {
    match event {
        Event::Account(account) => account.to_bytes(),
        Event::Transfer(transfer) => transfer.to_bytes(),
        Event::Guard(guard) => guard.to_bytes(),
        Event::Close(close) => close.to_bytes(),
        Event::Name(name) => name.to_bytes(),
        Event::Describe(describe) => describe.to_bytes(),
        // No request has such an event: see `GivenEvent::event`.
        Event::Expire(_) | Event::Mail(_) | Event::Arrival(_) | Event::Word(_) => [0; _],
    }
}

/// The answer to a request with one event: by its status whether it was accepted.
pub fn answer_to_one(id: u128, submitted: &Submitted) -> Response {
    let Some(outcome) = submitted.outcomes().next() else {
        return Problem::bad_answer(&"no outcome").into_response();
    };
    let status = match (outcome.verdict, outcome.fresh) {
        (Verdict::Ok, true) => StatusCode::CREATED,
        (Verdict::Ok, false) => StatusCode::OK,
        (Verdict::Forbidden, _) => {
            let detail = "the policy does not allow the caller this event";
            return Problem::new(Kind::Forbidden, detail).into_response();
        }
        _ => StatusCode::CONFLICT,
    };
    let outcome = Json(ShownOutcome::new(id, &outcome));
    with_tokens((status, outcome).into_response(), submitted)
}

fn with_tokens(mut response: Response, submitted: &Submitted) -> Response {
    if let Some(tokens) = fresh::value(&submitted.tokens) {
        response.headers_mut().insert(fresh::TOKEN, tokens);
    }
    response
}

/// Which kind of id.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// Of transfers, guards, closes and opaque records.
    #[default]
    Event,
    /// Of accounts.
    Account,
}

/// Which id.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatusOf {
    /// What the id is of.
    #[serde(default)]
    #[param(inline)]
    of: Namespace,
}

/// What was decided about an id.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownStatus {
    /// `ok`, or why it was refused: the name of a verdict.
    verdict: &'static str,
    /// The partition that decided it.
    partition: u16,
    /// Place of its record.
    #[schema(value_type = String)]
    offset: Digits<u64>,
}

/// What was decided about an id. 404: nothing was, when this was asked.
#[utoipa::path(
    get, path = "/api/v1/status/{id}", tag = "transfers",
    operation_id = "getStatus",
    params(
        StatusOf,
        ("id" = String, Path, description = "UUID, number or any other text", min_length = 1, max_length = 256),
        HowFresh,
    ),
    responses((status = 200, body = ShownStatus, description = "Its verdict"), AnyProblem, TokenProblem)
)]
pub async fn status(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    fresh: Fresh,
    Asked(asked): Asked<StatusOf>,
    InPath(AnyText(id)): InPath<AnyText>,
) -> Result<Json<ShownStatus>, Problem> {
    let malformed = |why| Problem::new(Kind::Malformed, why);
    let (namespace, id) = match asked.of {
        Namespace::Event => (IdNamespace::Event, EventText::of_text(&id).map_err(malformed)?.0.0),
        Namespace::Account => {
            (IdNamespace::Account, AccountText::of_text(&id).map_err(malformed)?.0.0)
        }
    };
    let client = fresh.client(&shared.client(&caller).await?);
    let found = client.status(namespace, &[id], &fresh.tokens).await?;
    let found = the_one(found, || format!("id {id} was not decided"))?;
    let (verdict, partition) = (found.verdict.name(), found.partition.0);
    Ok(Json(ShownStatus { verdict, partition, offset: Digits(found.offset.0) }))
}
