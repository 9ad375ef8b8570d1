//! Holds the volumes of days against the rows of table transfers, which the audit has compared with the log.

use tokio_postgres::Client;
use walengine_net::model::PartitionId;

use super::compare::TableReport;
use super::marks::report;
use crate::database::{Database, columns};
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
    report(client, DAILY_VOLUMES, &statement).await
}
