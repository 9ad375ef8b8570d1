//! The rows of a statement by time of business. What was booked early may stand late in the log, so all of the account's
//! rows are read, within a bound, and those that are wanted are held.

use walengine_net::client::blocking::Client;
use walengine_net::model::{Offset, PartitionId, Token};

use super::backwards::{Backwards, Line, bad};
use super::found::{Covered, Found, now};
use crate::by_business::{ByBusiness, Place, Row, SumTooLarge};
use crate::cli::log::seek;
use crate::effect::Whose;
use crate::fatal::{Fatal, Reason};
use crate::limits::STATEMENT_BOOKED_RECORDS_MAX;

/// The newest rows from a time on and before another, of all partitions, oldest first. Times are microseconds since 1970.
pub fn read(
    client: &Client,
    homes: impl Iterator<Item = Whose>,
    [from, to]: [Option<i64>; 2],
    rows_max: usize,
) -> Result<Found, Fatal> {
    let first = |micros| Place { micros, partition: PartitionId(0), offset: Offset(0) };
    let mut rows = ByBusiness::new(from, to.map(first), rows_max);
    let (mut covered, mut left) = (Vec::new(), STATEMENT_BOOKED_RECORDS_MAX);
    for whose in homes {
        covered.extend(one(client, whose, &mut rows, &mut left)?);
    }
    let is_cut = rows.is_cut();
    let cluster = client.info().cluster;
    let line = |Row { place, time, moved, after }: Row| {
        let token = Token { cluster, partition: place.partition, offset: place.offset };
        Line { token, time, moved, after }
    };
    let lines = rows.rows().map_err(too_large)?.into_iter().map(line).collect();
    Ok(Found { lines, covered, is_cut })
}

/// All rows of one partition. So many records may be read, of which it takes its part.
fn one(
    client: &Client,
    whose: Whose,
    rows: &mut ByBusiness,
    left: &mut u64,
) -> Result<Option<Covered>, Fatal> {
    let Some((account, end)) = now(client, whose)? else { return Ok(None) };
    let partition = whose.here;
    let is_striped = whose.account.is_striped();
    let floor = if is_striped {
        seek::first_at(client, partition, account.timestamp, &[])?
    } else {
        Offset(0) // it ends at the first movement
    };
    let mut log = Backwards::new(client, whose, &account, end, floor);
    while let Some(window) = log.window()? {
        for Line { token, time, moved, .. } in window {
            // Over all stripes it moves nothing.
            if !moved.is_between_stripes() {
                rows.add(partition, token.offset, time, moved).map_err(too_large)?;
            }
        }
        if end.0 - log.covered_from().0 > *left {
            let message = format!(
                "by time of business all of the log is read since the account's first movement, at most \
                 {STATEMENT_BOOKED_RECORDS_MAX} records, and there are more: ask PostgreSQL, SELECT * FROM \
                 walengine.statement(account, since, until, by => 'booked')"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
    }
    if !is_striped && !log.is_at_nothing() {
        return Err(bad("the account's balance and the log do not agree"));
    }
    *left -= end.0 - log.covered_from().0;
    let offsets = [log.covered_from(), end];
    Ok(Some(Covered { partition, offsets, account }))
}

fn too_large(_: SumTooLarge) -> Fatal {
    let message = "the sums of the account's stripes pass 2^128: a balance has no room for them";
    Fatal::new(Reason::Findings, message)
}
