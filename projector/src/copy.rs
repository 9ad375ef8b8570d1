//! Rows in PostgreSQL's binary COPY format. Pure: values to bytes.
//!
//! The format is described in PostgreSQL's manual, COPY, "Binary Format". Values are in the form
//! that the types' receive functions take. Each value has one canonical form, so these are also,
//! byte for byte, the results of the send functions. The audit relies on that.

use walengine_net::model::{Timestamp, Transfer};

use crate::limits::NUMERIC_DIGITS_MAX;

/// Signature, flags, and length of the header extension.
pub const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Takes the place of the next row's number of fields.
pub const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// Seconds from 1970 to 2000, at which PostgreSQL's time begins.
const EPOCH_SECONDS: i64 = 946_684_800;
/// Base of the digits of PostgreSQL's numerics.
const NUMERIC_BASE: u128 = 10_000;
/// Sign word of a negative numeric.
const NUMERIC_NEGATIVE: u16 = 0x4000;

/// Rows of one table, one after another, without header and trailer.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    count: u64,
}

impl Rows {
    /// Begins a row. Exactly `columns` fields must follow.
    pub fn begin(&mut self, columns: usize) -> &mut Self {
        self.bytes.extend_from_slice(&(columns as i16).to_be_bytes());
        self.count += 1;
        self
    }

    /// Number of rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows' bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rows' bytes, by value.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Removes the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn field(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// SQL null.
    pub fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }

    /// `boolean`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.field(&[u8::from(value)])
    }

    /// `smallint`.
    pub fn int2(&mut self, value: i16) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// `integer`.
    pub fn int4(&mut self, value: i32) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// `bigint`.
    pub fn int8(&mut self, value: i64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// `bigint`, null if 0.
    pub fn int8_or_null(&mut self, value: u32) -> &mut Self {
        if value == 0 { self.null() } else { self.int8(value.into()) }
    }

    /// `uuid`.
    pub fn uuid(&mut self, value: u128) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// `uuid`, null if 0.
    pub fn uuid_or_null(&mut self, value: u128) -> &mut Self {
        if value == 0 { self.null() } else { self.uuid(value) }
    }

    /// `text`, or the label of an enum.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.field(value.as_bytes())
    }

    /// `bytea`.
    pub fn bytea(&mut self, value: &[u8]) -> &mut Self {
        self.field(value)
    }

    /// `timestamptz`, cut to microseconds.
    pub fn time(&mut self, value: Timestamp) -> &mut Self {
        self.int8(micros_of(value))
    }

    /// The time of business of a transfer, null if it has none. `-infinity` if PostgreSQL's time does not go back so far.
    pub fn booked_at(&mut self, transfer: &Transfer) -> &mut Self {
        match transfer.booked_micros() {
            None => self.null(),
            Some(micros) => self.int8(booked_since_2000(micros)),
        }
    }

    /// `numeric` of scale 0.
    pub fn numeric(&mut self, value: u128) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        put_numeric(&mut self.bytes, false, value);
        let length = (self.bytes.len() - start - 4) as i32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self
    }

    /// `numeric` of scale 0, null if 0.
    pub fn numeric_or_null(&mut self, value: u128) -> &mut Self {
        if value == 0 { self.null() } else { self.numeric(value) }
    }
}

/// Microseconds since 2000, as PostgreSQL counts time.
pub fn micros_of(time: Timestamp) -> i64 {
    // At most 2^64 / 1000, which fits, and so does the difference.
    (time.0 / 1_000) as i64 - EPOCH_SECONDS * 1_000_000
}

/// The first microsecond that `timestamptz` and `date` know, 24 November 4714 BC, since 2000.
const FIRST_MICROS: i64 = -211_813_488_000_000_000;
/// Its day, from which spans of days are counted.
const FIRST_DAY: i32 = (FIRST_MICROS / DAY_MICROS) as i32;
/// Days whose bookings are summed up. As SQL function `booked_span` has it. A month, for people's habits, and always of one length.
const BOOKED_SPAN_DAYS: i32 = 32;
/// `-infinity` of `timestamptz`.
const BEFORE_ALL_MICROS: i64 = i64::MIN;
/// `-infinity` of `date`.
const BEFORE_ALL_DAYS: i32 = i32::MIN;
const DAY_MICROS: i64 = 86_400_000_000;

/// Microseconds since 2000 of a time of business, which anybody may have set to anything.
fn booked_since_2000(since_1970: i64) -> i64 {
    // The greatest one, 292277 AD, is within what PostgreSQL knows.
    let micros = since_1970.saturating_sub(EPOCH_SECONDS * 1_000_000);
    if micros < FIRST_MICROS { BEFORE_ALL_MICROS } else { micros }
}

/// Day of a log time, UTC, in days since 2000, as PostgreSQL counts dates.
pub fn day_of(time: Timestamp) -> i32 {
    micros_of(time).div_euclid(DAY_MICROS) as i32 // at most 106 million
}

/// Day of business of a transfer: that of its time of business, or of the log.
pub fn booked_day_of(transfer: &Transfer, time: Timestamp) -> i32 {
    match transfer.booked_micros().map(booked_since_2000) {
        None => day_of(time),
        Some(BEFORE_ALL_MICROS) => BEFORE_ALL_DAYS,
        Some(micros) => micros.div_euclid(DAY_MICROS) as i32,
    }
}

/// First day of the span of days that the time of business of a transfer is in, in days since 2000; `None` if it has no such
/// time.
pub fn booked_span_of(transfer: &Transfer) -> Option<i32> {
    let micros = booked_since_2000(transfer.booked_micros()?);
    if micros == BEFORE_ALL_MICROS {
        return Some(BEFORE_ALL_DAYS);
    }
    let day = micros.div_euclid(DAY_MICROS) as i32;
    Some(day - (day - FIRST_DAY) % BOOKED_SPAN_DAYS)
}

/// Appends the binary form of a `numeric` without its length: number of digits, weight of the first
/// digit, sign, scale, and digits to the base 10,000 without zeros at either end.
pub fn put_numeric(bytes: &mut Vec<u8>, negative: bool, value: u128) {
    let mut digits = [0u16; NUMERIC_DIGITS_MAX];
    let mut count = 0;
    let mut rest = value;
    // Dividing 128 bits is slow, and most amounts are small.
    while rest > u128::from(u64::MAX) {
        digits[count] = (rest % NUMERIC_BASE) as u16;
        rest /= NUMERIC_BASE;
        count += 1;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        digits[count] = (rest % NUMERIC_BASE as u64) as u16;
        rest /= NUMERIC_BASE as u64;
        count += 1;
    }
    let zeros = digits[..count].iter().take_while(|&&digit| digit == 0).count();
    let weight = count.saturating_sub(1) as u16;
    let sign = if negative && value > 0 { NUMERIC_NEGATIVE } else { 0 };
    for word in [(count - zeros) as u16, weight, sign, 0] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for digit in digits[zeros..count].iter().rev() {
        bytes.extend_from_slice(&digit.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(negative: bool, value: u128) -> Vec<u16> {
        let mut bytes = Vec::new();
        put_numeric(&mut bytes, negative, value);
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// Words as PostgreSQL's `numeric_send` gives them.
    #[test]
    fn numerics_are_as_postgresql_sends_them() {
        assert_eq!(numeric(false, 0), [0, 0, 0, 0]);
        assert_eq!(numeric(true, 0), [0, 0, 0, 0]);
        assert_eq!(numeric(false, 1), [1, 0, 0, 0, 1]);
        assert_eq!(numeric(false, 9_999), [1, 0, 0, 0, 9_999]);
        assert_eq!(numeric(false, 10_000), [1, 1, 0, 0, 1]);
        assert_eq!(numeric(true, 12_345), [2, 1, NUMERIC_NEGATIVE, 0, 1, 2_345]);
        assert_eq!(numeric(false, 100_000_000), [1, 2, 0, 0, 1]);
        let max = [10, 9, 0, 0, 340, 2823, 6692, 938, 4634, 6337, 4607, 4317, 6821, 1455];
        assert_eq!(numeric(false, u128::MAX), max);
        let two_to_64 = [5, 4, 0, 0, 1844, 6744, 737, 955, 1616];
        assert_eq!(numeric(false, 1 << 64), two_to_64);
    }

    #[test]
    fn times_count_from_2000_in_microseconds() {
        assert_eq!(micros_of(Timestamp(946_684_800_000_000_000)), 0);
        assert_eq!(micros_of(Timestamp(946_684_800_000_001_999)), 1);
        assert_eq!(micros_of(Timestamp(0)), -946_684_800_000_000);
    }

    #[test]
    fn a_row_is_its_number_of_fields_and_each_with_its_length() {
        let mut rows = Rows::default();
        rows.begin(3).int4(7).null().text("ok");
        let row = [0, 3, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255, 0, 0, 0, 2, b'o', b'k'];
        assert_eq!(rows.bytes(), row);
        assert_eq!(rows.count(), 1);
    }
}
