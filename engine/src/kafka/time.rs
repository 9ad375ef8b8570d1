//! The first record from a moment on: a search over a partition's log through the client library.

use walengine_net::client::tokio::Client;
use walengine_net::client::{ClientError, Page};
use walengine_net::model::{Offset, PartitionId, Timestamp};
use walengine_net::records::records;

/// Its offset and log time; `None` if there is no such record below `end`. Reads an entry for each halving.
///
/// # Errors
/// No node answers, or its answer is no log.
pub async fn first_from(
    client: &Client,
    partition: PartitionId,
    from: Timestamp,
    end: Offset,
) -> Result<Option<(Offset, Timestamp)>, ClientError> {
    let (mut low, mut high) = (0, end.0);
    let mut found = None;
    // Records below `low` are before it, those from `high` on are not; `found` is at `high`.
    while low < high {
        let middle = low + (high - low) / 2;
        let page = client.read_log(partition, Offset(middle), 0, &[]).await?;
        let time = time_of(&page, Offset(middle))?;
        if time >= from {
            (high, found) = (middle, Some((Offset(middle), time)));
        } else {
            low = middle + 1;
        }
    }
    Ok(found)
}

fn time_of(page: &Page, offset: Offset) -> Result<Timestamp, ClientError> {
    let answer = |what: String| ClientError::Answer(what);
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| answer(error.to_string()))?;
        let records = records(&header, body).map_err(|error| answer(error.to_string()))?;
        if let Some(record) = records.into_iter().find(|record| record.offset == offset) {
            return Ok(record.timestamp);
        }
    }
    Err(answer(format!("a page from {} on without it", offset.0)))
}
