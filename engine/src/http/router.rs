//! Paths, and what every request goes through.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::api;
use super::caller::Caller;
use super::console;
use super::health;
use super::problem::{Kind, Problem};
use super::shared::Shared;
use crate::metrics;

/// Every path.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics_page))
        .merge(api::router())
        .merge(console::router())
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), checked))
        .with_state(shared)
}

/// The page for Prometheus, for whoever may see anything.
async fn metrics_page(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<Response, Problem> {
    let node = shared.may_look(&caller)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(node)).into_response())
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchPath, format!("there is no {}: see /api/v1/openapi.json", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not have {method}", uri.path()))
}

/// Whom a request is for; empty if it does not say.
fn host_of(request: &Request) -> String {
    // Two of them, joined, are nobody's name: who stands before this node may have gone by the other one.
    let said = || {
        let hosts = request.headers().get_all(HOST).iter();
        let hosts: Vec<_> = hosts.map(|host| String::from_utf8_lossy(host.as_bytes())).collect();
        hosts.join(", ")
    };
    request.uri().host().map_or_else(said, str::to_owned)
}

/// Turns away requests that were meant for another host, and marks answers: nothing here may be guessed at, nor kept, unless it says so.
async fn checked(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = host_of(&request);
    // What watches nodes may be too simple to say whom it asks, and learns nothing that is worth a lie.
    let is_health = host.is_empty() && request.uri().path().starts_with("/health/");
    let mut response = if is_health || shared.hosts.knows(&host) {
        next.run(request).await
    } else {
        let detail = format!(
            "this node is not known as '{host}': give it its names with --http-names, or ask by its number"
        );
        Problem::new(Kind::Misdirected, detail).into_response()
    };
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
