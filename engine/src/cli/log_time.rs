//! Log times as people read and give them.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{NaiveDate, NaiveDateTime};
use walengine_net::model::Timestamp;

use crate::business_time::WITHOUT_ZONE;

/// Units of a length of time, in seconds.
const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];

/// A log time as a person gives it.
///
/// # Errors
/// What to write instead.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(nanos) = text.parse() {
        return Ok(Timestamp(nanos));
    }
    let wanted = "2026-11-26T07:30:00Z, with any zone, or nanoseconds since 1970";
    let time = chrono::DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|error| format!("{error}; write {wanted}"))?;
    let nanos = time.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Timestamp).ok_or_else(|| format!("it is before 1970 or after 2262; write {wanted}"))
}

/// A time for looking at a log, more freely: a date, a time without a zone, which is UTC, or how long ago,
/// such as `-2h`. What changes anything takes [`time`].
///
/// # Errors
/// What to write instead.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment_at(text, Timestamp(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)))
}

fn moment_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    const WANTED: &str =
        "write 2026-11-01, \"2026-11-01 14:00\" (UTC), 2026-11-01T14:00:00+01:00, or -2h";
    if let Some(ago) = text.strip_prefix('-') {
        let nanos = seconds(ago).map_err(|_| WANTED.to_owned())?;
        return Ok(Timestamp(now.0.saturating_sub(u64::from(nanos) * 1_000_000_000)));
    }
    if let Ok(zoned) = chrono::DateTime::parse_from_rfc3339(text) {
        let nanos = zoned.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok());
        return nanos.map(Timestamp).ok_or_else(|| WANTED.to_owned());
    }
    let at = WITHOUT_ZONE.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let nanos = at.or_else(date).and_then(|at| at.and_utc().timestamp_nanos_opt());
    let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Timestamp).ok_or_else(|| WANTED.to_owned())
}

/// A length of time in seconds: `90`, `90s`, `30m`, `2h`, `3d`, `1w`.
///
/// # Errors
/// What to write instead.
pub fn seconds(text: &str) -> Result<u32, &'static str> {
    const WANTED: &str =
        "a length of time is such as 90 (seconds), 30m, 2h, 3d or 1w, and not zero";
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, times) = unit.map_or((text, 1), |(_, times)| (&text[..text.len() - 1], *times));
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = if is_plain { number.parse().map_err(|_| WANTED)? } else { 0 };
    let seconds = number.checked_mul(times).and_then(|seconds| u32::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).ok_or(WANTED)
}

/// A log time for people who look at many: to the microsecond.
pub fn shown_micros(time: Timestamp) -> String {
    let text = shown(time);
    match text.len() {
        30 => format!("{}Z", &text[..26]),
        _ => text,
    }
}

/// A log time as [`time`] takes it.
pub fn shown(time: Timestamp) -> String {
    match i64::try_from(time.0) {
        Ok(nanos) => {
            let time = chrono::DateTime::from_timestamp_nanos(nanos);
            time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
        }
        Err(_) => time.to_string(), // after 2262
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_strictly() {
        let at = Timestamp(1_764_142_200_000_000_000);
        let expected = Ok(at);
        assert_eq!(time("2025-11-26T07:30:00Z"), expected);
        assert_eq!(time("2025-11-26T08:30:00+01:00"), expected);
        assert_eq!(time("1764142200000000000"), expected);
        assert_eq!(time(&shown(at)), expected);
        assert_eq!(time("2025-11-26T07:30:00.000000001Z").unwrap().0, at.0 + 1);
        for wrong in ["", "yesterday", "2025-11-26", "2025-11-26T07:30:00", "1960-01-01T00:00:00Z"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_for_looking_are_read_as_people_write_them() {
        let now = Timestamp(1_764_142_200_000_000_000); // 2025-11-26T07:30:00Z
        let at = |text| moment_at(text, now).map(shown);
        for (text, expected) in [
            ("2025-11-26", "2025-11-26T00:00:00.000000000Z"),
            ("2025-11-26 07:30", "2025-11-26T07:30:00.000000000Z"),
            ("2025-11-26T07:30:01.5", "2025-11-26T07:30:01.500000000Z"),
            ("2025-11-26T08:30:00+01:00", "2025-11-26T07:30:00.000000000Z"),
            ("-2h", "2025-11-26T05:30:00.000000000Z"),
            ("-90", "2025-11-26T07:28:30.000000000Z"),
            ("-1w", "2025-11-19T07:30:00.000000000Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expected), "{text}");
        }
        for wrong in
            ["", "yesterday", "2025-13-01", "2025-11", "-2x", "-", "2h", "1960-01-01", "--2h"]
        {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert_eq!(shown_micros(Timestamp(now.0 + 1999)), "2025-11-26T07:30:00.000001Z");
    }

    #[test]
    fn lengths_of_time_have_units() {
        let all = ["90", "90s", "30m", "2h", "3d", "1w"].map(|text| seconds(text).unwrap());
        assert_eq!(all, [90, 90, 1800, 7200, 259_200, 604_800]);
        for wrong in ["", "0", "h", "-1h", "1.5h", "1y", "9999999999", "5000000w", "+1"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
