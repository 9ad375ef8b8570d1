//! Bodies of requests: JSON, strictly, within bounds of size, time and all bodies together.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::fresh;
use super::json::Object;
use super::problem::{Kind, Problem};
use super::room::{Room, Taken};
use super::shared::Shared;
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_BODY_WITHIN};

/// A body of this type, and its room, to be kept until it is acted on.
#[derive(Debug)]
pub struct Given<T>(pub T, pub Taken);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let expected = expected_bytes(&parts.headers)?;
        let whole = timeout(HTTP_BODY_WITHIN, read(body, expected, &shared.bodies)).await;
        let (bytes, taken) = whole.map_err(|_| {
            let seconds = HTTP_BODY_WITHIN.as_secs();
            Problem::new(Kind::TooSlow, format!("the body was not there within {seconds} s"))
        })??;
        parse(&bytes).map(|value| Self(value, taken))
    }
}

/// A web page may send bodies of other types to any host, and only this one with the host's leave. What says that it is
/// packed, or text in another encoding than JSON's, would be read as what it is not.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = fresh::text(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    if is_json && parts.all(is_utf8) {
        let Some(packed) = fresh::text(headers, &CONTENT_ENCODING)? else { return Ok(()) };
        if packed.eq_ignore_ascii_case("identity") {
            return Ok(());
        }
        let detail = format!("the body is packed by '{packed}': send it as it is");
        return Err(Problem::new(Kind::MediaType, detail));
    }
    let detail = format!("the body is '{given}': send it with `Content-Type: application/json`");
    Err(Problem::new(Kind::MediaType, detail))
}

/// A parameter of the type that does not say of another encoding.
fn is_utf8(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return true };
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
}

/// How much room the body needs, at most.
fn expected_bytes(headers: &HeaderMap) -> Result<usize, Problem> {
    let Some(said) = headers.get(CONTENT_LENGTH) else { return Ok(HTTP_BODY_BYTES_MAX) };
    let bytes = said.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    if bytes > HTTP_BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Problem {
    let mib = HTTP_BODY_BYTES_MAX >> 20;
    Problem::new(Kind::TooLarge, format!("a body has at most {mib} MiB: send several"))
}

async fn read(body: Body, expected: usize, room: &Room) -> Result<(Bytes, Taken), Problem> {
    let mut taken = room.take(0)?;
    let mut bytes = Vec::with_capacity(expected.min(64 << 10));
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| Problem::new(Kind::Malformed, error))?;
        if bytes.len() + part.len() > expected {
            return Err(too_large());
        }
        taken.merge(room.take(part.len())?);
        bytes.extend_from_slice(&part);
    }
    Ok((Bytes::from(bytes), taken))
}

/// Reads the whole text as one value, or says where it is no such value.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        Problem::at(pointer, Kind::Malformed, error.into_inner())
    })?;
    json.end().map_err(|error| Problem::new(Kind::Malformed, error))?;
    Ok(value)
}

/// As a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.extend(["/", &index.to_string()]),
            Segment::Map { key } => {
                pointer.extend(["/", &key.replace('~', "~0").replace('/', "~1")]);
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}
