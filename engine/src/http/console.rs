//! The console: a page of this program that shows what the API says, in a browser.
//!
//! Its files are in the binary, as `scripts/console.sh` has built them. The page asks nobody but the node that it
//! comes from, and its policy of content keeps the browser to that. It can do nothing that its user could not do
//! by the API: the files are the same for everybody, and what they ask for goes the API's way.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::shared::Shared;

/// A file: its path, its type and its bytes.
type File = (&'static str, &'static str, &'static [u8]);

/// Every file. The page is at `/console` itself.
const FILES: [File; 4] = [
    ("/console", "text/html; charset=utf-8", include_bytes!("../../console/dist/index.html")),
    (
        "/console/app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../console/dist/app.js"),
    ),
    ("/console/app.css", "text/css; charset=utf-8", include_bytes!("../../console/dist/app.css")),
    ("/console/icon.svg", "image/svg+xml", include_bytes!("../../console/dist/icon.svg")),
];

/// Nothing but this node's own files and answers, no script or style within the page, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The paths of the console.
pub fn router() -> Router<Arc<Shared>> {
    // Whoever types the node's address into a browser looks for a page.
    let to_the_page = || get(async || Redirect::temporary("/console"));
    let mut router = Router::new().route("/", to_the_page()).route("/console/", to_the_page());
    for file in FILES {
        // Kept by browsers, and asked for again each time: a new version is seen at once.
        let tag = format!("\"{}\"", &blake3::hash(file.2).to_hex()[..16]);
        router =
            router.route(file.0, get(async move |headers: HeaderMap| answer(file, &tag, &headers)));
    }
    router
}

fn answer((_, kind, bytes): File, tag: &str, asked: &HeaderMap) -> Response {
    let is_known = asked.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, kind)], bytes).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    let fixed: [(HeaderName, &'static str); 3] = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
