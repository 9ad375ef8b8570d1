//! A look for what has moved an account's money, in either order.

use std::convert::Infallible;
use std::str::FromStr;

use walengine_net::client::tokio::Client;
use walengine_net::model::Timestamp;

use super::place::Place;
use crate::effect::{Moved, Record, Whose, effect, prepared_at};
use crate::http::api::backwards::Backwards;
use crate::http::problem::{Kind, Problem};
use crate::http::shared::Shared;

/// Where rows are looked for.
pub struct Look<'a> {
    /// Of the node.
    pub shared: &'a Shared,
    /// Who asks.
    pub client: &'a Client,
    /// Whose rows.
    pub whose: Whose,
    /// The account's state.
    pub now: Place,
}

/// What was found.
pub struct Page {
    /// Newest first.
    pub rows: Vec<Found>,
    /// Nothing below this offset was looked at.
    pub covered_from: u64,
    /// `before` of the next page.
    pub next: Option<String>,
}

/// A row.
pub struct Found {
    /// Of its record.
    pub offset: u64,
    /// Log time.
    pub time: Timestamp,
    /// What was moved.
    pub moved: Moved,
    /// The sums afterwards.
    pub after: Place,
}

impl Look<'_> {
    /// Before it moved for the first time there is nothing. A stripe may have given away all that it had.
    pub fn is_done(&self, at: &Place) -> bool {
        at.end == 0 || !self.whose.account.is_striped() && at.debits == 0 && at.credits == 0
    }

    /// Where to begin: now, unless a page has ended elsewhere.
    ///
    /// # Errors
    /// The log does not reach there.
    pub fn begin(&self, before: Option<Place>) -> Result<Place, Problem> {
        let (now, begin) = (self.now.end, before.unwrap_or(self.now));
        if begin.end > now {
            let detail = format!("before: the log has {now} records, and not {}", begin.end);
            return Err(Problem::new(Kind::Malformed, detail));
        }
        Ok(begin)
    }

    /// What one of a window's events has moved.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn moved(
        &self,
        log: &Backwards<'_>,
        window: &[(u64, Timestamp, Record)],
        record: &Record,
    ) -> Result<Option<Moved>, Problem> {
        let prepared = match prepared_at(record) {
            None => None,
            Some(at) => match window.binary_search_by_key(&at, |(offset, ..)| *offset) {
                Ok(place) => Some(window[place].2),
                Err(_) => log.record_at(at).await?,
            },
        };
        let moved = effect(&self.whose, record, |_| Ok::<_, Infallible>(prepared));
        Ok(moved.unwrap_or_else(|never| match never {}))
    }
}

/// What `before` says.
///
/// # Errors
/// It is no such place.
pub fn read<T: FromStr<Err = &'static str>>(before: Option<&str>) -> Result<Option<T>, Problem> {
    let read = before.map(str::parse).transpose();
    read.map_err(|why| Problem::new(Kind::Malformed, why))
}
