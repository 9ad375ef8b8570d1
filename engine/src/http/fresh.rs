//! How fresh a read must be, and the tokens of writes: as headers.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use utoipa::{IntoParams, ToSchema};
use walengine_net::client::ReadFrom;
use walengine_net::client::tokio::Client;
use walengine_net::limits::TOKENS_MAX;
use walengine_net::model::Token;

use super::problem::{Kind, Problem};

/// Tokens, separated by commas: of the writes that a read must include, and of what a write has logged.
pub const TOKEN: HeaderName = HeaderName::from_static("walengine-token");
/// Which nodes answer: `any`, `leader` or `linearizable`.
pub const READ: HeaderName = HeaderName::from_static("walengine-read");

/// Which nodes answer a read.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "stands in the document")]
pub enum Reads {
    /// Any, with the state that it has.
    Any,
    /// The one that leads, as far as it knows.
    Leader,
    /// The one that leads, with everything that was acknowledged before.
    Linearizable,
}

/// The headers of a read, in the document.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "stands in the document")]
pub struct HowFresh {
    /// Writes that the answer must include: tokens of earlier answers, separated by commas.
    #[param(
        rename = "Walengine-Token",
        value_type = String,
        required = false,
        pattern = r"^[0-9a-f]{32}-[0-9]{1,5}-[0-9]{1,20}(,[0-9a-f]{32}-[0-9]{1,5}-[0-9]{1,20})*$"
    )]
    tokens: Option<String>,
    /// Which nodes answer.
    #[param(rename = "Walengine-Read", value_type = Reads, required = false, inline)]
    read: Option<Reads>,
}

/// What a request says of it.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    /// Writes that the state must include.
    pub tokens: Vec<Token>,
    from: ReadFrom,
}

impl Fresh {
    /// A client whose reads are as fresh.
    pub fn client(&self, client: &Client) -> Client {
        client.reading(self.from)
    }
}

impl<S: Sync> FromRequestParts<S> for Fresh {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let from = match text(&parts.headers, &READ)? {
            None | Some("any") => ReadFrom::Any,
            Some("leader") => ReadFrom::Leader,
            Some("linearizable") => ReadFrom::Linearizable,
            Some(other) => {
                let detail = format!("{READ} is '{other}': it must be any, leader or linearizable");
                return Err(Problem::new(Kind::Malformed, detail));
            }
        };
        // A list may come in several headers as well (RFC 9110, section 5.3): a token that is overlooked is a write
        // that the answer may lack.
        let said: Vec<&str> = parts
            .headers
            .get_all(&TOKEN)
            .iter()
            .map(|one| plain(one, &TOKEN))
            .collect::<Result<_, _>>()?;
        let tokens = said
            .iter()
            .flat_map(|one| one.split(','))
            .map(str::trim)
            .filter(|token| !token.is_empty());
        let tokens: Result<Vec<Token>, _> = tokens.map(str::parse).collect();
        let tokens = tokens
            .map_err(|expected| Problem::new(Kind::Malformed, format!("{TOKEN}: {expected}")))?;
        if tokens.len() > TOKENS_MAX {
            let detail =
                format!("{TOKEN} has {} tokens, and at most {TOKENS_MAX} may be", tokens.len());
            return Err(Problem::new(Kind::Malformed, detail));
        }
        Ok(Self { tokens, from })
    }
}

/// The text of a header.
///
/// # Errors
/// It is no ASCII text, or is there twice: what one of them says would not count.
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Kind::Malformed, format!("{name} is there more than once")));
    }
    plain(value, name).map(Some)
}

fn plain<'a>(value: &'a HeaderValue, name: &HeaderName) -> Result<&'a str, Problem> {
    let text = value.to_str();
    let text =
        text.map_err(|_| Problem::new(Kind::Malformed, format!("{name} is no ASCII text")))?;
    Ok(text.trim())
}

/// Tokens as the header's value; `None` without any.
pub fn value(tokens: &[Token]) -> Option<HeaderValue> {
    let tokens: Vec<String> = tokens.iter().map(Token::to_string).collect();
    if tokens.is_empty() { None } else { HeaderValue::from_str(&tokens.join(",")).ok() }
}
