//! Holds the volumes of days against the rows of table transfers, which the audit has compared with the log.

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;
use walengine_net::model::PartitionId;

use super::compare::TableReport;
use crate::database::{Database, columns};
use crate::limits::DIFFERENCES_MAX;
use crate::tables::{DAILY_VOLUMES, TRANSFERS};
use crate::trouble::Trouble;
use crate::volumes::of_transfers;

/// Compares the table of a partition, in the client's transaction.
pub async fn compare(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<TableReport, Trouble> {
    let statement = format!(
        "WITH expected ({0}) AS ({1})
         SELECT format('ledger %s, day %s, booked day %s', ledger, day, booked_day),
                e.movements || ' of ' || e.amount, d.movements || ' of ' || d.amount
           FROM expected e FULL JOIN {2} d USING (partition, ledger, day, booked_day)
          ORDER BY partition, ledger, day, booked_day",
        columns(&DAILY_VOLUMES),
        of_transfers(&database.part(TRANSFERS.name, partition), partition),
        database.part(DAILY_VOLUMES.name, partition)
    );
    let (mut rows, mut differences) = (0, Vec::new());
    let mut digests = [blake3::Hasher::new(), blake3::Hasher::new()];
    // It takes as long as the table of transfers is large.
    let nothing: [&str; 0] = [];
    let mut found = std::pin::pin!(client.query_raw(&statement, nothing).await?);
    while let Some(row) = found.try_next().await? {
        let key: &str = row.try_get(0)?;
        let both: [Option<&str>; 2] = [row.try_get(1)?, row.try_get(2)?];
        for (digest, what) in digests.iter_mut().zip(both) {
            what.map(|what| digest.update(key.as_bytes()).update(what.as_bytes()));
        }
        let [expected, is] = both;
        rows += u64::from(expected.is_some());
        if expected != is && differences.len() < DIFFERENCES_MAX {
            let [expected, is] = both.map(|what| what.unwrap_or("nothing"));
            differences
                .push(format!("{}, {key}: it has {is}, by the log {expected}", DAILY_VOLUMES.name));
        }
    }
    let [log_digest, table_digest] = digests.map(|digest| *digest.finalize().as_bytes());
    Ok(TableReport { table: DAILY_VOLUMES.name, rows, log_digest, table_digest, differences })
}
