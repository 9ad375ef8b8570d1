//! Times of business as people and files write them. Pure.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat};

/// How a time without a zone may be written.
pub const WITHOUT_ZONE: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

/// A time of business in microseconds since 1970, as files have it: a date, a time without a zone, which is UTC, or one with
/// a zone. Before 1970, too. Nothing is rounded.
///
/// # Errors
/// What to write instead.
pub fn business_micros(text: &str) -> Result<i64, String> {
    const WANTED: &str = "no time: it is such as 2026-11-01, \"2026-11-01 14:00\" (UTC) or 2026-11-01T14:00:00+01:00";
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let plain =
        || WITHOUT_ZONE.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let time = zoned.or_else(|| plain().or_else(date).map(|time| time.and_utc()));
    let time = time.ok_or(WANTED)?;
    // "26-11-01" is taken for the year 26, and a second 60 for what comes after.
    if !(1000..=9999).contains(&time.year()) || time.timestamp_subsec_nanos() >= 1_000_000_000 {
        return Err(WANTED.to_owned());
    }
    if time.timestamp_subsec_nanos() % 1000 != 0 {
        return Err("finer than a microsecond, which is not kept".to_owned());
    }
    Ok(time.timestamp_micros())
}

/// A time of business for people: a day, if it is the beginning of one, or else to the microsecond.
pub fn shown_business(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(time) if time.time() == NaiveTime::MIN => time.format("%Y-%m-%d").to_string(),
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => micros.to_string(), // after 262142
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_business_are_exact_and_go_back_before_1970() {
        for (text, micros, again) in [
            ("1993-03-01", 730_944_000_000_000, "1993-03-01"),
            ("1970-01-01", 0, "1970-01-01"),
            ("1993-03-01 00:00:00", 730_944_000_000_000, "1993-03-01"),
            ("1993-03-01T01:30+01:00", -1, ""),
            ("1993-03-01T01:30:00+01:00", 730_945_800_000_000, "1993-03-01T00:30:00.000000Z"),
            ("1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"),
        ] {
            match business_micros(text) {
                Ok(found) => assert_eq!((found, shown_business(found).as_str()), (micros, again)),
                Err(_) => assert_eq!(again, "", "{text}"),
            }
        }
        let wrong =
            ["", "1993", "930301", "19930301", "93-03-01", "1993-02-29", "01.03.1993", "-2h"];
        for wrong in
            wrong.into_iter().chain(["1993-03-01 23:59:60", "1993-03-01T00:00:00.0000001Z"])
        {
            assert!(business_micros(wrong).is_err(), "{wrong}");
        }
        assert_eq!(shown_business(i64::MAX), i64::MAX.to_string());
    }
}
