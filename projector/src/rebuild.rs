//! Recreates the tables. Replays the log, or its end, into a new schema while the old one serves,
//! audits the new schema, and renames both in one transaction. After an interruption at any point
//! the next run continues, because the new schema has its own positions.

use std::sync::Arc;

use tokio_postgres::Client as Postgres;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId};

use crate::audit::{self, PartitionReport};
use crate::database::{Database, within};
use crate::fatal::{Fatal, Reason};
use crate::limits::REBUILD_LAG_RECORDS_MAX;
use crate::metrics::PartitionMetrics;
use crate::trouble::Trouble;
use crate::{keep, position, schema, service};

/// Suffix of the new schema's name.
const FRESH: &str = "_rebuild";
/// Suffix of the replaced schema's name; it is kept until the next rebuild.
const REPLACED: &str = "_old";

/// Rebuilds, and reports progress to `metrics`. Rows before the positions in `from` are kept and
/// audited; partitions without a position there are replayed from the first record. With `anew`,
/// the remains of an interrupted rebuild are dropped first.
pub async fn rebuild(
    database: &Database,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
    from: &[(PartitionId, Offset)],
    anew: bool,
) -> Result<Vec<PartitionReport>, Fatal> {
    let fresh = database.with_schema(&format!("{}{FRESH}", database.schema()));
    if anew {
        drop_schema(&fresh).await?;
    }
    service::prepare(&fresh, client).await?;
    for &(partition, offset) in from {
        let begin = keep::position_at(client, partition, offset).await?;
        if begin.next_offset > Offset(0) {
            keep::keep(database, &fresh, client, partition, &begin).await?;
        }
    }
    let mut ends = log_ends(client).await?;
    loop {
        service::catch_up(&fresh, client, metrics, &ends).await?;
        let reached = std::mem::replace(&mut ends, log_ends(client).await?);
        let left: u64 = ends.iter().zip(&reached).map(|(end, was)| end.0 - was.0.min(end.0)).sum();
        if left < REBUILD_LAG_RECORDS_MAX {
            break;
        }
    }
    tracing::info!("{} is caught up: auditing it", fresh.schema());
    let reports = audit::audit(&fresh, client, metrics).await?;
    if !reports.iter().all(PartitionReport::is_equal) {
        return Ok(reports);
    }
    swap(database, &fresh, client, metrics).await?;
    Ok(reports)
}

async fn log_ends(client: &Client) -> Result<Vec<Offset>, Fatal> {
    let mut ends = Vec::new();
    for partition in client.info().partitions() {
        ends.push(service::log_end(client, partition).await?);
    }
    Ok(ends)
}

async fn drop_schema(database: &Database) -> Result<(), Fatal> {
    let connection = database.connect().await?;
    let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", database.schema());
    Ok(within(connection.batch_execute(&drop)).await?)
}

/// Replaces the old schema by the new one.
async fn swap(
    old: &Database,
    fresh: &Database,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
) -> Result<(), Fatal> {
    let replaced = old.with_schema(&format!("{}{REPLACED}", old.schema()));
    drop_schema(&replaced).await?;
    let connection = old.connect().await?;
    within(connection.batch_execute("BEGIN")).await?;
    let swapped = swap_within(old, fresh, &replaced, &connection, client, metrics).await;
    let end = if swapped.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = within(connection.batch_execute(end)).await;
    swapped?;
    ended?;
    tracing::info!(
        "schema {0} is the new one; the old one is now {1}: when it is no longer needed, DROP \
         SCHEMA {1} CASCADE",
        old.schema(),
        replaced.schema()
    );
    Ok(())
}

async fn swap_within(
    old: &Database,
    fresh: &Database,
    replaced: &Database,
    connection: &Postgres,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
) -> Result<(), Fatal> {
    // Writers wait for this lock before they resolve the table's name, so their next transaction
    // finds the new table.
    if schema::version(old, connection).await?.is_some() {
        let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", old.name("positions"));
        let locked = within(connection.batch_execute(&lock)).await;
        if let Err(trouble) = locked {
            return Err(unlockable(old, trouble));
        }
        // Readers must not see an older state than before.
        let mut reached = Vec::new();
        for partition in client.info().partitions() {
            let position = position::read(old, connection, partition).await;
            reached.push(position.map_or(Offset(0), |position| position.next_offset));
        }
        service::catch_up(fresh, client, metrics, &reached).await?;
        rename(connection, old.schema(), replaced.schema()).await?;
    }
    rename(connection, fresh.schema(), old.schema()).await?;
    let path = format!(
        "ALTER FUNCTION {}(text, interval) SET search_path = \"{}\", pg_temp",
        old.name("walengine_wait_for"),
        old.schema()
    );
    Ok(within(connection.batch_execute(&path)).await?)
}

fn unlockable(old: &Database, trouble: Trouble) -> Fatal {
    let why = Fatal::from(trouble).message;
    let message = format!(
        "cannot replace schema {}: {why}; if its tables are too damaged for that, rename it by \
         hand (ALTER SCHEMA {0} RENAME TO ...) and run rebuild again",
        old.schema()
    );
    Fatal::new(Reason::Schema, message)
}

async fn rename(connection: &Postgres, from: &str, to: &str) -> Result<(), Fatal> {
    let rename = format!("ALTER SCHEMA \"{from}\" RENAME TO \"{to}\"");
    Ok(within(connection.batch_execute(&rename)).await?)
}
