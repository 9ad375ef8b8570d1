//! Ids, numbers and times as text.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;
use walengine_net::model::{AccountId, Book, EventId, Timestamp};
use walengine_net::names;

use crate::limits::HTTP_NAME_BYTES_MAX;

/// A number of 64 or 128 bits, as digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digits<N>(pub N);

/// A number of at most 32 bits. `12.0` is one, as JSON has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole<N>(pub N);

/// The id of an account: its UUID, its number, or any other text that is its name in book 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountText(pub AccountId);

/// The id of an account as an answer has it: its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountUuid(pub AccountId);

impl Serialize for AccountUuid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&uuid_text(self.0.0))
    }
}

/// The id of a transfer, guard or close: its UUID, its number, or any other text that is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventText(pub EventId);

/// An id of either kind, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyText(pub String);

/// What [`AccountText`] and [`EventText`] are.
pub trait OneId: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// It is empty, longer than a name may be, or a UUID with something around it.
    fn of_text(text: &str) -> Result<Self, &'static str>;
}

impl OneId for AccountText {
    fn of_text(text: &str) -> Result<Self, &'static str> {
        Ok(Self(names::account_id(Book(0), checked(text)?)))
    }
}

impl OneId for EventText {
    fn of_text(text: &str) -> Result<Self, &'static str> {
        Ok(Self(names::event_id(checked(text)?)))
    }
}

impl OneId for u32 {
    fn of_text(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "it is a number below 2^32")
    }
}

impl OneId for AnyText {
    fn of_text(text: &str) -> Result<Self, &'static str> {
        Ok(Self(checked(text)?.to_owned()))
    }
}

fn checked(text: &str) -> Result<&str, &'static str> {
    match text.len() {
        0 => Err("an id is not empty"),
        1..=HTTP_NAME_BYTES_MAX if names::decorates_uuid(text) => Err(names::DECORATED_UUID),
        1..=HTTP_NAME_BYTES_MAX => Ok(text),
        _ => Err("an id has at most 256 bytes"),
    }
}
const _: () = assert!(HTTP_NAME_BYTES_MAX == 256);

impl<'de> Deserialize<'de> for AccountText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfText("an id as text", |text: &str| {
            Self::of_text(text).map_err(str::to_owned)
        }))
    }
}

impl<'de> Deserialize<'de> for EventText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfText("an id as text", |text: &str| {
            Self::of_text(text).map_err(str::to_owned)
        }))
    }
}

impl<'de, N: FromStr> Deserialize<'de> for Digits<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfText("a whole number as text, such as \"1250\"", |text: &str| {
            let is_plain = text == "0" || !text.starts_with('0');
            let is_number = is_plain && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if is_number { text.parse().ok() } else { None };
            number.map(Self).ok_or_else(|| format!("'{text}' is no such number"))
        }))
    }
}

impl<N: fmt::Display> Serialize for Digits<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de, N: TryFrom<u64>> Deserialize<'de> for Whole<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfNumber).and_then(|number| {
            let most = size_of::<N>() * 8;
            N::try_from(number).map(Self).map_err(|_| {
                de::Error::custom(format_args!("{number} does not fit into {most} bits"))
            })
        })
    }
}

/// Takes a number without a fraction.
struct OfNumber;

impl Visitor<'_> for OfNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        // As text it has a fraction, a sign or an exponent, if it has any.
        let whole = format!("{number}").parse();
        whole.map_err(|_| E::invalid_value(Unexpected::Float(number), &self))
    }
}

/// Reads a list that has no more than `N` elements: it ends there, so that a body can't become much more than it is.
pub fn bounded<'de, D, T, const N: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(OfList::<T, N>(PhantomData))
}

struct OfList<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for OfList<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == N {
                return Err(de::Error::invalid_length(N + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

/// Takes text, and says to a number why it must be text.
struct OfText<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for OfText<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(|why| E::custom(format_args!("expected {}: {why}", self.0)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        Err(E::custom(format_args!(
            "expected {}: send \"{number}\", since readers of JSON lose digits past 2^53",
            self.0
        )))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Err(E::invalid_type(Unexpected::Float(number), &self))
    }
}

/// An id in the form of a UUID, as PostgreSQL shows it.
pub fn uuid_text(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

/// Log time to the nanosecond. `None` past the year 9999 or so.
pub fn rfc3339(time: Timestamp) -> Option<String> {
    const SECOND: u64 = 1_000_000_000;
    let (seconds, nanos) = (time.0 / SECOND, (time.0 % SECOND) as u32);
    let time = DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_text_and_say_so() {
        let read = |json: &str| {
            serde_json::from_str::<Digits<u128>>(json).map_err(|error| error.to_string())
        };
        assert_eq!(read("\"0\"").unwrap().0, 0);
        assert_eq!(read("\"340282366920938463463374607431768211455\"").unwrap().0, u128::MAX);
        for bad in [
            "\"\"",
            "\"-1\"",
            "\"+1\"",
            "\"01\"",
            "\"1.5\"",
            "\"1e3\"",
            "\" 1\"",
            "\"340282366920938463463374607431768211456\"",
        ] {
            assert!(read(bad).unwrap_err().contains("is no such number"), "{bad}");
        }
        assert!(read("9007199254740993").unwrap_err().contains("\"9007199254740993\""));
        assert!(read("12.5").is_err() && read("null").is_err() && read("[]").is_err());
        assert_eq!(
            serde_json::to_string(&Digits(u128::MAX)).unwrap(),
            "\"340282366920938463463374607431768211455\""
        );
    }

    #[test]
    fn small_numbers_are_whole() {
        let read = |json: &str| serde_json::from_str::<Whole<u16>>(json).map(|whole| whole.0).ok();
        assert_eq!(
            ["0", "65535", "12.0", "1e2"].map(read),
            [Some(0), Some(65535), Some(12), Some(100)]
        );
        assert_eq!(["-1", "65536", "1.5", "1e9", "\"1\"", "null"].map(read), [None; 6]);
    }

    #[test]
    fn times_are_exact() {
        assert_eq!(
            rfc3339(Timestamp(1_700_000_000_000_000_007)).unwrap(),
            "2023-11-14T22:13:20.000000007Z"
        );
    }
}
