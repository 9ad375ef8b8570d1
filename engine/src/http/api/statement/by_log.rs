//! Rows by log time: as the log has them, from its end backwards, as far as one request looks.

use super::look::{Found, Look, Page, read};
use super::query::Rows;
use crate::http::api::backwards::Backwards;
use crate::http::problem::{Kind, Problem};

/// The next rows.
///
/// # Errors
/// Those of the client, and what makes no sense.
pub async fn page(look: &Look<'_>, asked: &Rows) -> Result<Page, Problem> {
    if asked.from.is_some() || asked.to.is_some() {
        let detail = "from and to are times of business: they go with by=booked";
        return Err(Problem::new(Kind::Malformed, detail));
    }
    let mut place = look.begin(read(asked.before.as_deref())?)?;
    let mut log =
        Backwards::new(&look.shared.scans, look.client, look.whose.here, place.end).await?;
    let mut rows = Vec::new();
    'windows: while !look.is_done(&place)
        && let Some(window) = log.window().await?
    {
        let events = window.events()?;
        for (offset, time, record) in events.iter().rev() {
            let Some(moved) = look.moved(&log, &events, record).await? else { continue };
            let before = place.before(*offset, &moved)?;
            rows.push(Found { offset: *offset, time: *time, moved, after: place });
            place = before;
            if rows.len() >= asked.limit {
                break 'windows;
            }
        }
        place.end = window.begin;
    }
    let next = (!look.is_done(&place)).then(|| place.to_string());
    Ok(Page { rows, covered_from: place.end, next })
}
