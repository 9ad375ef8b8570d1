//! Where a page of a statement ends, and the next one begins: what `next` says, and `before`.

use std::fmt;
use std::str::FromStr;

use crate::decimals;
use crate::effect::Moved;
use crate::http::problem::{Kind, Problem};
use crate::http::scales::Scales;

const NO_PLACE: &str = "before: it is `next` of a page of the same statement, and nothing else";

/// The state of the account at an offset: where a page ends, and the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The state includes everything below this offset.
    pub end: u64,
    /// Posted debits.
    pub debits: u128,
    /// Posted credits.
    pub credits: u128,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.end, self.debits, self.credits)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(NO_PLACE);
        let (end, debits, credits) = (part()?, part()?, part()?);
        let place = Self {
            end: end.parse().map_err(|_| NO_PLACE)?,
            debits: debits.parse().map_err(|_| NO_PLACE)?,
            credits: credits.parse().map_err(|_| NO_PLACE)?,
        };
        if part().is_ok() { Err(NO_PLACE) } else { Ok(place) }
    }
}

impl Place {
    /// What was credited without what was debited.
    pub fn balance(&self) -> String {
        decimals::difference(self.credits, self.debits, 0)
    }

    /// The same with the decimals of a ledger, if that was described.
    pub fn balance_decimal(&self, ledger: u32, scales: &Scales) -> Option<String> {
        scales.difference(ledger, self.credits, self.debits)
    }

    /// Before something was moved, by the record at `end`.
    ///
    /// # Errors
    /// There was no such state.
    pub fn before(self, end: u64, moved: &Moved) -> Result<Self, Problem> {
        let debits = self.debits.checked_sub(moved.debit.0);
        let credits = self.credits.checked_add(moved.given.0);
        let credits = credits.and_then(|sum| sum.checked_sub(moved.credit.0));
        let (Some(debits), Some(credits)) = (debits, credits) else {
            return Err(contradicted());
        };
        Ok(Self { end, debits, credits })
    }
}

/// The log says otherwise than `before`.
pub fn contradicted() -> Problem {
    let detail = "the sums and the log do not agree: `before` is not of this account's statement";
    Problem::new(Kind::Malformed, detail)
}

/// Where a page by time of business ends: the state that its first page began with, so that all pages are of one state, and
/// the oldest row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookedPlace {
    /// See above.
    pub of: Place,
    /// Time of that row, in microseconds since 1970.
    pub micros: i64,
    /// Offset of its record.
    pub offset: u64,
}

impl fmt::Display for BookedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.of, self.micros, self.offset)
    }
}

impl FromStr for BookedPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(NO_PLACE);
        let (of, micros, offset) = (part()?.parse()?, part()?, part()?);
        let micros = micros.parse().map_err(|_| NO_PLACE)?;
        let offset = offset.parse().map_err(|_| NO_PLACE)?;
        if part().is_ok() { Err(NO_PLACE) } else { Ok(Self { of, micros, offset }) }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Amount};

    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let place = Place { end: 7, debits: u128::MAX, credits: 3 };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!(place.balance(), format!("-{}", u128::MAX - 3));
        for bad in
            ["", "7", "7-1", "7-1-2-3", "x-1-2", "7-1-340282366920938463463374607431768211456"]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_by_time_of_business_is_read_as_it_was_written() {
        let of = Place { end: 7, debits: 0, credits: 3 };
        for micros in [i64::MIN, 0, i64::MAX] {
            let place = BookedPlace { of, micros, offset: u64::MAX };
            assert_eq!(place.to_string().parse(), Ok(place));
            assert!(place.to_string().parse::<Place>().is_err());
        }
        for bad in ["7-1-2", "7-1-2.", "7-1-2.5", "7-1-2.5.6.7", "7-1.5.6", "7-1-2.5.-6"] {
            assert!(bad.parse::<BookedPlace>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_that_the_log_contradicts_are_refused() {
        let moved = Moved {
            kind: "transfer",
            id: 1,
            other: AccountId(2),
            debit: Amount(5),
            credit: Amount(0),
            given: Amount(0),
            booked: None,
        };
        let place = |debits| Place { end: 9, debits, credits: 0 };
        assert_eq!(place(5).before(8, &moved), Ok(Place { end: 8, debits: 0, credits: 0 }));
        assert!(place(4).before(8, &moved).is_err());
    }
}
