//! Log times as people read and give them.

use walengine_net::model::Timestamp;

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
}
