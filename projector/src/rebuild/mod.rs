//! Recreates the tables. Replays the log, or its end, into a new schema while the old one serves,
//! audits the new tables, and puts them in the place of the old ones in one transaction. After an
//! interruption at any point the next run continues, because the new schema has its own positions.
//!
//! Nothing is dropped that the projector did not make. What somebody else has attached to the tables
//! is found and told before anything is replaced; see [`dependents`].

mod carried;
pub mod dependents;
pub mod keep;
mod pairs;
mod plan;
mod swap;

use std::sync::Arc;

use walengine_net::client::tokio::Client;
use walengine_net::model::Offset;

use self::dependents::Dependents;
pub use self::plan::Choices;
use self::plan::Rebuild;
use crate::audit::{self, PartitionReport};
use crate::database::Database;
use crate::fatal::Fatal;
use crate::limits::REBUILD_LAG_RECORDS_MAX;
use crate::metrics::PartitionMetrics;
use crate::service;

/// Rebuilds, and reports progress to `metrics`.
pub async fn rebuild(
    database: &Database,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
    choices: &Choices,
) -> Result<Vec<PartitionReport>, Fatal> {
    let connection = database.connect().await?;
    let mut rebuild = Rebuild::of(database, &connection, choices).await?;
    let found = rebuild.check(&connection, client, metrics).await?;
    rebuild.prepare_fresh(&connection, client).await?;
    let Rebuild { old, fresh, .. } = &rebuild;
    let mut extent = None;
    if found {
        let how = rebuild.extent(&connection).await?;
        let pairs = pairs::pairs(old, fresh, &connection, how).await?;
        let dependents = Dependents::find(old, &connection, &pairs, how).await?;
        dependents.tell(old.schema(), choices.leaves_behind)?;
        carried::shape(&connection, &pairs).await?;
        extent = Some(how);
    }
    for &(partition, offset) in &choices.from {
        let begin = keep::position_at(client, partition, offset).await?;
        if begin.next_offset > Offset(0) {
            keep::keep(old, fresh, client, partition, &begin).await?;
        }
    }
    fill(fresh, client, metrics).await?;
    tracing::info!("{} is caught up: auditing it", fresh.schema());
    let reports = audit::audit(fresh, client, metrics).await?;
    if !reports.iter().all(PartitionReport::is_equal) {
        return Ok(reports);
    }
    if let Some(how) = extent {
        let pairs = pairs::pairs(old, fresh, &connection, how).await?;
        carried::indexes(&connection, &pairs).await?;
    }
    swap::swap(&rebuild, client, metrics, extent).await?;
    if extent.is_some() {
        tracing::info!(
            "schema {} has the new tables; the replaced ones are in {} until the next rebuild drops them",
            rebuild.old.schema(),
            rebuild.replaced.schema()
        );
    }
    Ok(reports)
}

/// Projects to the end of the log, until only a small part of it is left.
async fn fill(
    fresh: &Database,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
) -> Result<(), Fatal> {
    let mut ends = log_ends(client).await?;
    loop {
        service::catch_up(fresh, client, metrics, &ends).await?;
        let reached = std::mem::replace(&mut ends, log_ends(client).await?);
        let left: u64 = ends.iter().zip(&reached).map(|(end, was)| end.0 - was.0.min(end.0)).sum();
        if left < REBUILD_LAG_RECORDS_MAX {
            return Ok(());
        }
    }
}

async fn log_ends(client: &Client) -> Result<Vec<Offset>, Fatal> {
    let mut ends = Vec::new();
    for partition in client.info().partitions() {
        ends.push(service::log_end(client, partition).await?);
    }
    Ok(ends)
}
