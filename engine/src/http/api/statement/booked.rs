//! Rows by time of business. What was booked early may stand late in the log, so all of it is read since the account's
//! first movement, within bounds, and the rows of one page are held. The pages of one statement are of one state.

use std::time::Instant;

use walengine_net::model::{Offset, PartitionId};

use super::look::{Found, Look, Page, read};
use super::place::{BookedPlace, Place, contradicted};
use super::query::Rows;
use crate::business_time::business_micros;
use crate::by_business::{self, ByBusiness, SumTooLarge};
use crate::http::api::backwards::Backwards;
use crate::http::problem::{Kind, Problem};
use crate::limits::{HTTP_BOOKED_RECORDS_MAX, HTTP_BOOKED_WITHIN};

/// The newest rows of the span, or the next ones.
///
/// # Errors
/// Those of the client, what makes no sense, and a log that is too long.
pub async fn page(look: &Look<'_>, asked: &Rows) -> Result<Page, Problem> {
    let (from, to) = (time("from", asked.from.as_deref())?, time("to", asked.to.as_deref())?);
    let before: Option<BookedPlace> = read(asked.before.as_deref())?;
    let here = look.whose.here;
    let of_page = before.map(|before| by_business::Place {
        micros: before.micros,
        partition: here,
        offset: Offset(before.offset),
    });
    let first =
        |micros| by_business::Place { micros, partition: PartitionId(0), offset: Offset(0) };
    let bound = of_page.into_iter().chain(to.map(first)).min();
    let begin = look.begin(before.map(|before| before.of))?;
    let mut rows = ByBusiness::new(from, bound, asked.limit);
    let covered_from = read_all(look, begin, &mut rows).await?;
    let is_cut = rows.is_cut();
    let mut rows = rows.rows().map_err(|SumTooLarge| contradicted())?;
    rows.reverse();
    let next = rows.last().filter(|_| is_cut).map(|row| {
        let place = BookedPlace { of: begin, micros: row.place.micros, offset: row.place.offset.0 };
        place.to_string()
    });
    let found = |row: by_business::Row| Found {
        offset: row.place.offset.0,
        time: row.time,
        moved: row.moved,
        after: Place { end: begin.end, debits: row.after[0].0, credits: row.after[1].0 },
    };
    Ok(Page { rows: rows.into_iter().map(found).collect(), covered_from, next })
}

/// Takes all of the account's movements before a state of it, and says where the first one is. So much of the log at once as
/// any request reads, and then others have their turn.
async fn read_all(look: &Look<'_>, begin: Place, rows: &mut ByBusiness) -> Result<u64, Problem> {
    let (mut place, here, by) = (begin, look.whose.here, Instant::now() + HTTP_BOOKED_WITHIN);
    while !look.is_done(&place) {
        if begin.end - place.end >= HTTP_BOOKED_RECORDS_MAX || Instant::now() >= by {
            return Err(too_much());
        }
        let mut log = Backwards::new(&look.shared.scans, look.client, here, place.end).await?;
        while !look.is_done(&place)
            && let Some(window) = log.window().await?
        {
            let events = window.events()?;
            for (offset, time, record) in events.iter().rev() {
                let Some(moved) = look.moved(&log, &events, record).await? else { continue };
                place = place.before(*offset, &moved)?;
                let added = rows.add(here, Offset(*offset), *time, moved);
                added.map_err(|SumTooLarge| contradicted())?;
            }
            place.end = window.begin;
        }
    }
    // Something is left though the log is not.
    if !look.whose.account.is_striped() && (place.debits, place.credits) != (0, 0) {
        return Err(contradicted());
    }
    Ok(place.end)
}

/// A time of business that a request names, in microseconds since 1970.
fn time(what: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let read = text.map(business_micros).transpose();
    read.map_err(|why| Problem::new(Kind::Malformed, format!("{what}: {why}")))
}

fn too_much() -> Problem {
    let detail = format!(
        "by time of business all of the log is read since the account's first movement, at most \
         {HTTP_BOOKED_RECORDS_MAX} records and for {} seconds: ask PostgreSQL, SELECT * FROM \
         walengine.statement(account, since, until, by => 'booked'), or `walengine statement --by booked`",
        HTTP_BOOKED_WITHIN.as_secs()
    );
    Problem::new(Kind::TooMuch, detail)
}
