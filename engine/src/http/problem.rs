//! What went wrong, as RFC 9457 has it: `application/problem+json`.

use std::fmt::Display;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use walengine_net::client::ClientError;
use walengine_net::message::ErrorCode;

use crate::limits::HTTP_RETRY_AFTER_SECONDS;

/// The content type of a problem.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem: `urn:walengine:problem:` and the `code`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words, always the same.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened, and what to do.
    detail: String,
    /// The kind, for programs.
    code: &'static str,
    /// A write may have taken effect all the same: ask for the ids' status, or send the same again.
    may_have_changed: bool,
    /// Where in the request, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// In seconds.
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// The kinds of problems that are not a server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Malformed,
    /// Nothing is there.
    NotFound,
    /// There is no such path.
    NoSuchPath,
    /// The path does not have this method.
    MethodNotAllowed,
    /// The header and the body name different ids.
    KeyDiffers,
    /// The body did not come.
    TooSlow,
    /// The body is too large.
    TooLarge,
    /// The body is no JSON by its type.
    MediaType,
    /// The request is for somebody else.
    Misdirected,
    /// A certificate proves nothing any more.
    Unproven,
    /// The policy does not allow it.
    Forbidden,
    /// The log ends before what was asked for.
    PastTheEnd,
    /// The node has not begun to serve.
    NotReady,
    /// All places are taken.
    TooMany,
    /// More of the log is needed than a request reads.
    TooMuch,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => {
                (StatusCode::BAD_REQUEST, "malformed", "The request can't be understood")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Nothing is there"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no_such_path", "There is no such path"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The path does not have this method",
            ),
            Self::KeyDiffers => {
                (StatusCode::CONFLICT, "key_differs", "The header and the body name different ids")
            }
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "too_slow", "The request did not come in time")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is larger than the limit")
            }
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "The body must be application/json",
            ),
            Self::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "misdirected", "The request is for another host")
            }
            Self::Unproven => {
                (StatusCode::UNAUTHORIZED, "unproven", "The certificate proves nothing any more")
            }
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "forbidden", "The policy does not allow this")
            }
            Self::PastTheEnd => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "past_the_end",
                "The log ends before that offset",
            ),
            Self::NotReady => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "The node does not serve yet")
            }
            Self::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "busy", "All places are taken"),
            Self::TooMuch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "too_much_log",
                "The answer needs more of the log than a request reads",
            ),
        }
    }
}

impl Problem {
    /// The caller has no right, or is not known any more: to try again is of no use.
    pub fn is_of_rights(&self) -> bool {
        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]
            .map(|one| one.as_u16())
            .contains(&self.status)
    }

    /// Of a kind; nothing was changed.
    pub fn new(kind: Kind, detail: impl Display) -> Self {
        let (status, code, title) = kind.parts();
        let is_passing = matches!(kind, Kind::NotReady | Kind::TooMany);
        let retry_after = is_passing.then_some(HTTP_RETRY_AFTER_SECONDS);
        Self { retry_after, ..Self::of(status, code, title, detail.to_string()) }
    }

    /// Of a kind, at this JSON pointer; nothing was changed.
    pub fn at(pointer: impl Into<String>, kind: Kind, detail: impl Display) -> Self {
        Self { pointer: Some(pointer.into()), ..Self::new(kind, detail) }
    }

    /// In this part of the request.
    #[must_use]
    pub fn below(self, pointer: &str) -> Self {
        Self { pointer: Some(format!("{pointer}{}", self.pointer.unwrap_or_default())), ..self }
    }

    /// Of a request that was sent in parts: the others may have taken effect, unless nothing was sent at all.
    pub fn of_several(error: ClientError) -> Self {
        let is_before =
            matches!(error, ClientError::TooMany { .. } | ClientError::Unroutable { .. });
        let problem = Self::from(error);
        Self { may_have_changed: problem.may_have_changed || !is_before, ..problem }
    }

    /// A node has sent what makes no sense.
    pub fn bad_answer(error: &impl Display) -> Self {
        Self::from(ClientError::Answer(error.to_string()))
    }

    fn of(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Self {
        Self {
            kind: format!("urn:walengine:problem:{code}"),
            title,
            status: status.as_u16(),
            detail,
            code,
            may_have_changed: false,
            pointer: None,
            retry_after: None,
        }
    }

    fn refused(code: Option<ErrorCode>, detail: String, retry_after: Duration) -> Self {
        let (status, title) = of_code(code);
        let is_unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
        let hint = Some(retry_after).filter(|after| !after.is_zero());
        let hint = hint.map(|after| after.as_millis().div_ceil(1000) as u32);
        Self {
            may_have_changed: code.is_none_or(ErrorCode::may_have_changed),
            retry_after: hint.or(is_unavailable.then_some(HTTP_RETRY_AFTER_SECONDS)),
            ..Self::of(status, code.map_or("unknown_error", ErrorCode::name), title, detail)
        }
    }
}

/// Status and title of what a server answered.
fn of_code(code: Option<ErrorCode>) -> (StatusCode, &'static str) {
    const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    let Some(code) = code else {
        return (StatusCode::BAD_GATEWAY, "The server answered with an error of a newer version");
    };
    match code {
        ErrorCode::Busy => (UNAVAILABLE, "The server is busy"),
        ErrorCode::NotLeader => (UNAVAILABLE, "Another node leads the partition"),
        ErrorCode::Malformed => (StatusCode::BAD_REQUEST, "The request can't be understood"),
        ErrorCode::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The request is larger than the limit")
        }
        ErrorCode::UnsupportedVersion | ErrorCode::UnknownKind | ErrorCode::WrongPartition => {
            (StatusCode::BAD_GATEWAY, "The nodes of the cluster have different versions")
        }
        ErrorCode::NoSuchPartition => (StatusCode::NOT_FOUND, "There is no such partition"),
        ErrorCode::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "There was no answer in time"),
        ErrorCode::StorageFull => (UNAVAILABLE, "The disk is nearly full"),
        ErrorCode::Stopped => (UNAVAILABLE, "The partition has stopped"),
        ErrorCode::NotYet => (UNAVAILABLE, "The node does not have that write yet"),
        ErrorCode::ShuttingDown => (UNAVAILABLE, "The server is stopping"),
        ErrorCode::Corrupt => {
            (StatusCode::INTERNAL_SERVER_ERROR, "What was asked for is damaged on the disk")
        }
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "The server is at fault"),
        ErrorCode::LeadershipLost => (UNAVAILABLE, "Leadership ended before the outcome was known"),
        ErrorCode::Importing => (UNAVAILABLE, "The partition takes an import, and nothing else"),
        ErrorCode::Forbidden => (StatusCode::FORBIDDEN, "The policy does not allow this"),
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let detail = error.to_string();
        let unavailable = |code, title| Self {
            retry_after: Some(HTTP_RETRY_AFTER_SECONDS),
            ..Self::of(StatusCode::SERVICE_UNAVAILABLE, code, title, detail.clone())
        };
        match error {
            ClientError::Refused { code, message, retry_after } => {
                Self::refused(code, message, retry_after)
            }
            ClientError::NoLeader { .. } => unavailable("no_leader", "No node leads the partition"),
            ClientError::Deadline { .. } => Self::of(
                StatusCode::GATEWAY_TIMEOUT,
                "deadline",
                "There was no answer in time; nothing was changed",
                detail,
            ),
            ClientError::OutcomeUnknown { .. } => Self {
                may_have_changed: true,
                ..Self::of(
                    StatusCode::GATEWAY_TIMEOUT,
                    "outcome_unknown",
                    "There was no answer in time, and the outcome is not known",
                    detail,
                )
            },
            ClientError::TooMany { .. } => Self::of(
                StatusCode::BAD_REQUEST,
                "too_many",
                "More than one request may have",
                detail,
            ),
            ClientError::Unroutable { .. } => Self::of(
                StatusCode::BAD_REQUEST,
                "unroutable",
                "The partition can't be told",
                detail,
            ),
            ClientError::WrongCluster { .. } => Self::of(
                StatusCode::CONFLICT,
                "wrong_cluster",
                "The token is of another cluster",
                detail,
            ),
            ClientError::Answer(_) => Self::of(
                StatusCode::BAD_GATEWAY,
                "answer",
                "A node's answer makes no sense",
                detail,
            ),
            _ => unavailable("unreachable", "The cluster can't be reached"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default(); // text and numbers only
        let mut response = (status, [(CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_whether_anything_may_have_changed() {
        let unknown = Problem::from(ClientError::OutcomeUnknown { waited: Duration::from_secs(1) });
        assert_eq!(
            (unknown.status, unknown.code, unknown.may_have_changed),
            (504, "outcome_unknown", true)
        );
        let refused = |code| {
            Problem::from(ClientError::Refused {
                code: Some(code),
                message: "why".to_owned(),
                retry_after: Duration::ZERO,
            })
        };
        let busy = refused(ErrorCode::Busy);
        assert_eq!((busy.status, busy.may_have_changed), (503, false));
        assert_eq!(busy.into_response().headers()[RETRY_AFTER], "1");
        let forbidden = refused(ErrorCode::Forbidden);
        assert_eq!(
            (forbidden.status, forbidden.kind.as_str()),
            (403, "urn:walengine:problem:forbidden")
        );
        assert!(refused(ErrorCode::LeadershipLost).may_have_changed);
    }
}
