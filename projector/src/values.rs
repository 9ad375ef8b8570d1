//! Values of the column types, for parameters and results of statements.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use walengine_net::model::Timestamp;

use crate::copy::{micros_of, put_numeric};
use crate::fold::Difference;

type BoxedError = Box<dyn Error + Sync + Send>;

/// A `uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxedError> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

/// A `numeric` of scale 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numeric {
    /// Whether it is below zero.
    pub negative: bool,
    /// Its absolute value.
    pub magnitude: u128,
}

impl From<u128> for Numeric {
    fn from(magnitude: u128) -> Self {
        Self { negative: false, magnitude }
    }
}

impl From<Difference> for Numeric {
    fn from(difference: Difference) -> Self {
        let (negative, magnitude) = difference.sign_and_magnitude();
        Self { negative, magnitude }
    }
}

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        let mut bytes = Vec::with_capacity(32);
        put_numeric(&mut bytes, self.negative, self.magnitude);
        out.extend_from_slice(&bytes);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxedError> {
        let mut words = raw.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
        let mut word = || words.next().ok_or("a numeric is too short");
        let (count, weight, sign, scale) = (word()?, word()?, word()?, word()?);
        if scale != 0 || (sign != 0 && sign != 0x4000) {
            return Err("a numeric is not a whole number".into());
        }
        let mut magnitude = 0u128;
        for place in 0..=i32::from(weight).min(if count == 0 { -1 } else { i32::MAX }) {
            let digit = if place < i32::from(count) { u128::try_from(word()?)? } else { 0 };
            let next = magnitude.checked_mul(10_000).and_then(|sum| sum.checked_add(digit));
            magnitude = next.ok_or("a numeric passes 2^128")?;
        }
        Ok(Self { negative: sign != 0, magnitude })
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }
}

/// A `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        out.extend_from_slice(&micros_of(self.0).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, BoxedError> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        let zero = micros_of(Timestamp(0));
        let micros = u64::try_from(since_2000.checked_sub(zero).ok_or("a time out of range")?)?;
        Ok(Self(Timestamp(micros.checked_mul(1_000).ok_or("a time out of range")?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

/// A `date`: days since 2000, the smallest number for `-infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub i32);

impl ToSql for Date {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_and_times_survive_their_bytes() {
        for magnitude in [0, 1, 9_999, 10_000, 10_001, 100_000_000, 12_345_678_901, u128::MAX] {
            for negative in [false, magnitude > 0] {
                let number = Numeric { negative, magnitude };
                let mut bytes = BytesMut::new();
                number.to_sql(&Type::NUMERIC, &mut bytes).unwrap();
                assert_eq!(Numeric::from_sql(&Type::NUMERIC, &bytes).unwrap(), number);
            }
        }
        let time = Time(Timestamp(1_700_000_000_123_456_000));
        let mut bytes = BytesMut::new();
        time.to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
        assert_eq!(Time::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap(), time);
    }
}
