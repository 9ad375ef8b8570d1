//! Where a log time is in a partition's log. Log times rise strictly, so it is found by halving.

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, ReadFrom};
use walengine_net::model::{Offset, PartitionId, Timestamp, Token};

use crate::cli::log_time;

/// A place in a log as a person gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An offset.
    Offset(Offset),
    /// A log time.
    Time(Timestamp),
}

/// A place as a person gives it: a whole number is an offset, anything else a time.
///
/// # Errors
/// What to write instead.
pub fn place(text: &str) -> Result<Place, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let offset = text.parse().map_err(|_| "no offset is that large".to_owned())?;
        return Ok(Place::Offset(Offset(offset)));
    }
    log_time::moment(text).map(Place::Time)
}

/// Where the log ends, with everything that was acknowledged before.
pub fn end(client: &Client, partition: PartitionId) -> Result<Offset, ClientError> {
    let client = client.reading(ReadFrom::Linearizable);
    Ok(client.read_log(partition, Offset(u64::MAX), 1, &[])?.durable_offset)
}

/// The first offset whose record has this log time or a later one; the end of the log if there is none.
pub fn first_at(
    client: &Client,
    partition: PartitionId,
    time: Timestamp,
    tokens: &[Token],
) -> Result<Offset, ClientError> {
    let end = end(client, partition)?;
    first(end, time, |offset| {
        let page = client.read_log(partition, offset, 1, tokens)?;
        let Some(Ok((header, _))) = page.entries().next() else { return Ok(None) };
        let meta = header.meta;
        Ok(Some((meta.base_offset, meta.timestamp, u64::from(meta.records))))
    })
}

/// As [`first_at`], of a log of which `entry` tells the entry with an offset: its first offset, the log time of
/// that, and how many records it has, each a nanosecond after the one before.
fn first(
    end: Offset,
    time: Timestamp,
    mut entry: impl FnMut(Offset) -> Result<Option<(Offset, Timestamp, u64)>, ClientError>,
) -> Result<Offset, ClientError> {
    let (mut low, mut high) = (0, end.0);
    while low < high {
        let middle = low + (high - low) / 2;
        // A node that lags ends sooner.
        let Some((base, begins, records)) = entry(Offset(middle))? else {
            high = middle;
            continue;
        };
        let behind = base.0.saturating_add(records);
        if base.0 > middle || behind <= middle {
            let message = format!("offset {middle} was asked for, and {} sent", base.0);
            return Err(ClientError::Answer(message));
        }
        if time <= begins {
            high = base.0;
        } else if time.0 - begins.0 < records {
            return Ok(Offset(base.0 + (time.0 - begins.0)));
        } else {
            low = behind;
        }
    }
    Ok(Offset(low.min(end.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_offset_and_anything_else_a_time() {
        assert_eq!(place("1000"), Ok(Place::Offset(Offset(1000))));
        assert!(matches!(place("2026-11-01"), Ok(Place::Time(_))));
        assert!(matches!(place("-2h"), Ok(Place::Time(_))));
        for bad in ["", "x", "-", "99999999999999999999", "1.5"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_time_is_found_where_it_is() {
        // Entries of several records, a nanosecond apart, with gaps of time between entries.
        let entries = [(0, 100, 3), (3, 200, 1), (4, 201, 5), (9, 1000, 2)];
        let times: Vec<u64> =
            entries.iter().flat_map(|(_, time, records)| *time..time + records).collect();
        let entry = |offset: Offset| {
            let holds =
                |(base, _, records): &&(u64, u64, u64)| (*base..base + records).contains(&offset.0);
            let found = entries.iter().find(holds);
            Ok(found.map(|(base, time, records)| (Offset(*base), Timestamp(*time), *records)))
        };
        for wanted in 0..1100 {
            let expected = times.iter().position(|time| *time >= wanted).unwrap_or(times.len());
            let found = first(Offset(11), Timestamp(wanted), entry).unwrap();
            assert_eq!(found, Offset(expected as u64), "{wanted}");
        }
        assert_eq!(first(Offset(0), Timestamp(5), entry).unwrap(), Offset(0));
        let nonsense = |_| Ok(Some((Offset(50), Timestamp(1), 0)));
        assert!(first(Offset(11), Timestamp(5), nonsense).is_err());
    }
}
