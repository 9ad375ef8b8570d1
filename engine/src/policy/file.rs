//! The policy file: TOML to rules, whole or not at all.

use serde::Deserialize;
use thiserror::Error;
use toml::{Spanned, Value};
use walengine_net::identity::{Identity, Role};

use super::area::Ranges;
use super::rights::Right;
use super::rules::{Rule, Who};

/// What is wrong in a policy, and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {message}")]
pub struct PolicyError {
    /// Where, counted from 1.
    pub line: usize,
    /// What.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    allow: Vec<Spanned<Allow>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allow {
    who: Spanned<Value>,
    may: Spanned<Value>,
    books: Option<Spanned<Value>>,
    ledgers: Option<Spanned<Value>>,
}

/// The rules of a policy file.
///
/// # Errors
/// The first thing that is wrong in it.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, PolicyError> {
    let line_at = |byte: usize| {
        let before = text.get(..byte).unwrap_or(text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    };
    let file: File = toml::from_str(text).map_err(|error| PolicyError {
        line: error.span().map_or(1, |span| line_at(span.start)),
        message: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    file.allow
        .iter()
        .map(|allow| {
            rule(allow).map_err(|(byte, message)| PolicyError { line: line_at(byte), message })
        })
        .collect()
}

/// Something wrong, and the byte where.
type Wrong = (usize, String);

fn rule(allow: &Spanned<Allow>) -> Result<Rule, Wrong> {
    let (start, allow) = (allow.span().start, allow.get_ref());
    let who = texts("who", &allow.who)?.map(who).collect::<Result<Vec<_>, _>>();
    let who = at(&allow.who, who)?;
    let may = texts("may", &allow.may)?.map(right).collect::<Result<Vec<_>, _>>();
    let may = at(&allow.may, may)?;
    let books = numbers("books", "book", 0, allow.books.as_ref())?;
    let ledgers = numbers("ledgers", "ledger", 1, allow.ledgers.as_ref())?;
    let is_whole = |set: &Option<Ranges>| set.as_ref().is_none_or(Ranges::is_all);
    if let Some(right) = may.iter().find(|right| !right.is_of_books())
        && !(is_whole(&books) && is_whole(&ledgers))
    {
        let message = format!(
            "`{right}` is about the whole cluster, not about some books or ledgers: give it in an \
             [[allow]] of its own, without books and ledgers"
        );
        return Err((start, message));
    }
    if let Some(right) = may.iter().find(|right| right.is_of_books()) {
        for (name, set) in [("books", &books), ("ledgers", &ledgers)] {
            if set.is_none() {
                let message = format!(
                    "`{right}` needs {name}: add {name} = \"all\", or a list such as {name} = [7, \
                     \"100-199\"]"
                );
                return Err((start, message));
            }
        }
    }
    let (books, ledgers) = (books.unwrap_or_else(Ranges::all), ledgers.unwrap_or_else(Ranges::all));
    Ok(Rule { who, may, books, ledgers })
}

fn at<T>(place: &Spanned<Value>, result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(|message| (place.span().start, message))
}

/// One text, or a list of them that is not empty.
fn texts<'a>(
    name: &str,
    value: &'a Spanned<Value>,
) -> Result<impl Iterator<Item = &'a str>, Wrong> {
    let texts = match value.get_ref() {
        Value::String(one) => Some(vec![one.as_str()]),
        Value::Array(many) => many.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts| !texts.is_empty());
    let message = || format!("`{name}` is a text, or a list of texts that is not empty");
    Ok(texts.ok_or_else(|| (value.span().start, message()))?.into_iter())
}

fn who(text: &str) -> Result<Who, String> {
    let parts = text.split_once('/').and_then(|(role, name)| Some((Role::of_name(role)?, name)));
    let Some((role, name)) = parts else {
        return Err(format!(
            "{text:?} is nobody: write ROLE/NAME or ROLE/*, with one of the roles client, projector, \
             admin and node"
        ));
    };
    if name == "*" {
        return Ok(Who::Every(role));
    }
    match Identity::new("any", role, name) {
        Ok(_) => Ok(Who::One(role, name.into())),
        Err(error) => Err(format!("{text:?} is nobody: {error}")),
    }
}

fn right(text: &str) -> Result<Right, String> {
    let right = Right::ALL.into_iter().find(|right| right.name() == text);
    right.ok_or_else(|| {
        format!("{text:?} is no right: there are `write`, `read`, `read-log` and `admin`")
    })
}

/// `None` if it is left out.
fn numbers(
    name: &str,
    of: &str,
    least: u32,
    value: Option<&Spanned<Value>>,
) -> Result<Option<Ranges>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    let ranges = match value.get_ref() {
        Value::String(all) if all == "all" => return Ok(Some(Ranges::all())),
        Value::Array(many) if !many.is_empty() => {
            many.iter().map(|one| range(of, least, one)).collect()
        }
        _ => Err(format!(
            "`{name}` is \"all\", or a list of numbers and ranges such as [7, \"100-199\"]"
        )),
    };
    at(value, ranges).map(|ranges| Some(Ranges::of(ranges)))
}

fn range(of: &str, least: u32, value: &Value) -> Result<(u32, u32), String> {
    let range = match value {
        Value::Integer(one) => u32::try_from(*one).ok().map(|one| (one, one)),
        Value::String(text) => {
            let number = |text: &str| {
                let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|_| is_plain)
            };
            let ends = text.split_once('-');
            ends.and_then(|(first, last)| Some((number(first)?, number(last)?)))
        }
        _ => None,
    };
    let range = range.filter(|(first, last)| *first >= least && first <= last);
    range.ok_or_else(|| {
        let shown = match value {
            Value::Integer(number) => number.to_string(),
            Value::String(text) => format!("{text:?}"),
            other => format!("a {}", other.type_str()),
        };
        format!(
            "{shown} is no {of} and no range of them: a {of} is a number from {least} to {}, a range \
             is \"FIRST-LAST\"",
            u32::MAX
        )
    })
}
