//! The `OpenAPI` document: made of the handlers and forms themselves, so that it can't differ from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi as _, ToSchema as _};

use crate::http::problem::{PROBLEM_TYPE, Problem};
use crate::http::shared::Shared;
use crate::version::SERVER_VERSION;

/// Where it is served.
const PATH: &str = "/api/v1/openapi.json";

/// What is not in any handler.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "walengine",
        description = "Accounts and transfers of a ledger whose source of truth is a distributed log.\n\n\
            Numbers of 64 and 128 bits are text. Amounts are minor units; beside those of a described ledger \
            stands the same with decimals. Every event has an id and one \
            verdict, for ever: sending it again gets the first verdict, so whatever is sent with an id may be \
            sent again. Header `Walengine-Token` of an answer names what was logged; given back with a read, \
            the read includes it.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Problem)),
    tags(
        (name = "accounts", description = "Accounts and their balances"),
        (name = "transfers", description = "Money that moves"),
        (name = "ledgers", description = "What amounts are"),
        (name = "log", description = "What was decided, in order"),
        (name = "cluster", description = "Nodes and partitions"),
    )
)]
struct Base;

/// The document without paths.
pub fn base() -> OpenApi {
    let mut document = Base::openapi();
    SERVER_VERSION.clone_into(&mut document.info.version);
    document
}

/// The path of the whole document.
pub fn router(document: &OpenApi) -> Router<Arc<Shared>> {
    let text = document.to_json().unwrap_or_default(); // names and texts only
    let text = Bytes::from(text);
    let answer = async move || ([(CONTENT_TYPE, "application/json")], text.clone());
    Router::new().route(PATH, get(answer))
}

/// The problems that any request may have.
pub struct AnyProblem;

impl IntoResponses for AnyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            ("400", "It makes no sense"),
            ("401", "The certificate proves nothing any more"),
            ("403", "The policy does not allow it"),
            ("404", "Nothing is there"),
            ("421", "It is for another host"),
            ("500", "The server is at fault"),
            ("502", "A node's answer makes no sense"),
            ("503", "Not now: `Retry-After` says when"),
            ("504", "No answer in time; `may_have_changed` says whether the outcome is known"),
        ];
        all.into_iter().map(|(status, text)| (status.to_owned(), problem(text))).collect()
    }
}

/// The problems that a request with a body may have, besides.
pub struct BodyProblem;

impl IntoResponses for BodyProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            ("408", "The body did not come in time"),
            ("413", "The body is too large"),
            ("415", "The body is not `application/json`"),
        ];
        all.into_iter().map(|(status, text)| (status.to_owned(), problem(text))).collect()
    }
}

/// The problem of a read whose token is another cluster's.
pub struct TokenProblem;

impl IntoResponses for TokenProblem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [("409".to_owned(), problem("The token is of another cluster"))].into()
    }
}

fn problem(text: &str) -> RefOr<Response> {
    let schema = utoipa::openapi::Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(text).content(PROBLEM_TYPE, content).build().into()
}
