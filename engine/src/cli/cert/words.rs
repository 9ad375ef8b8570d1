//! Times of certificates in words.

use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_hours(24);
/// With less left than this, it is said how much.
const SOON: Duration = Duration::from_hours(24 * 30);

/// When a certificate is valid, and how that is now.
///
/// # Errors
/// The same, if it is not valid.
pub fn in_time(from: SystemTime, until: SystemTime, now: SystemTime) -> Result<String, String> {
    let times = format!("{} to {}", date(from), date(until));
    if let Ok(ahead) = from.duration_since(now)
        && !ahead.is_zero()
    {
        return Err(format!("{times}: not yet valid, begins in {}", span(ahead)));
    }
    match until.duration_since(now) {
        Ok(left) if left < SOON => Ok(format!("{times}: expires in {}", span(left))),
        Ok(_) => Ok(times),
        Err(error) => Err(format!("{times}: expired {} ago", span(error.duration()))),
    }
}

fn span(time: Duration) -> String {
    let counted = |count: u64, one: &str| {
        if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
    };
    let seconds = time.as_secs();
    if time >= DAY {
        counted(seconds / DAY.as_secs(), "day")
    } else if seconds >= 3600 {
        counted(seconds / 3600, "hour")
    } else {
        counted(seconds / 60, "minute")
    }
}

/// A moment as people read it, in UTC.
pub fn date(time: SystemTime) -> String {
    let time = chrono::DateTime::<chrono::Utc>::from(time);
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
