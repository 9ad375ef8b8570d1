//! Watches the servers of walengine, beside the feed: how far the log reaches, and whether anybody
//! answers. So the lag is known while the feed waits for PostgreSQL, and a dead engine is told apart
//! from one that has nothing to say.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::fatal::Fatal;
use crate::feed::passes;
use crate::limits::{ENGINE_ANSWERS_WITHIN, LAG_INTERVAL};
use crate::metrics::{LogSeen, PartitionMetrics};

/// Asks how far a partition's log reaches, and when the record at `next` was written.
pub async fn look(
    client: &Client,
    partition: PartitionId,
    next: Offset,
) -> Result<LogSeen, String> {
    let asked =
        tokio::time::timeout(ENGINE_ANSWERS_WITHIN, client.read_log(partition, next, 1, &[]));
    match asked.await {
        Ok(Ok(page)) => {
            let time = page.entries().find_map(|entry| {
                let (header, _) = entry.ok()?;
                let place = next.0.checked_sub(header.meta.base_offset.0)?;
                let is_in = place < u64::from(header.meta.records);
                is_in.then(|| Timestamp(header.meta.timestamp.0.saturating_add(place)))
            });
            Ok(LogSeen { end: page.durable_offset, time })
        }
        Ok(Err(error)) if passes(&error) => Err(error.to_string()),
        // Somebody answers. What is wrong is reported by the feed.
        Ok(Err(error)) => Err(format!("it answers with an error: {error}")),
        Err(_) => Err(format!("no server answers within {ENGINE_ANSWERS_WITHIN:?}")),
    }
}

/// Looks once a second until the program ends.
pub async fn watch(client: Client, partitions: Vec<Arc<PartitionMetrics>>) -> Result<(), Fatal> {
    let mut gone: Option<(Instant, usize)> = None;
    loop {
        let failures = look_at_all(&client, &partitions).await;
        let was = gone.map_or(0, |(_, count)| count);
        if failures.len() > was {
            let since = gone.map_or_else(Instant::now, |(since, _)| since);
            gone = Some((since, failures.len()));
            let (partition, why) = &failures[0];
            let which = match (failures.len(), partitions.len()) {
                (count, all) if count == all => "walengine".to_owned(),
                (1, _) => format!("walengine, partition {partition}"),
                (count, _) => format!("walengine, {count} partitions, first {partition}"),
            };
            tracing::warn!(
                "{which}: the engine is gone: {why}; {}; trying again until it answers",
                state(&partitions)
            );
        } else if failures.is_empty()
            && let Some((since, _)) = gone.take()
        {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(
                "walengine: the engine is back after {seconds:.1} s; {}",
                state(&partitions)
            );
        }
        tokio::time::sleep(LAG_INTERVAL).await;
    }
}

/// Partitions for which nobody answers, and why.
async fn look_at_all(
    client: &Client,
    partitions: &[Arc<PartitionMetrics>],
) -> Vec<(PartitionId, String)> {
    let mut looks = JoinSet::new();
    for metrics in partitions {
        let (client, metrics) = (client.clone(), metrics.clone());
        looks.spawn(async move {
            let next = Offset(metrics.next_offset());
            match look(&client, metrics.partition, next).await {
                Ok(seen) => {
                    metrics.engine_answers(next, seen);
                    None
                }
                Err(why) => {
                    metrics.engine_is_gone();
                    Some((metrics.partition, why))
                }
            }
        });
    }
    let mut failures = Vec::new();
    while let Some(look) = looks.join_next().await {
        match look {
            Ok(failure) => failures.extend(failure),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    failures.sort_unstable_by_key(|(partition, _)| partition.0);
    failures
}

/// The position, the log's end as last known and the lag, of the partition with the largest lag.
fn state(partitions: &[Arc<PartitionMetrics>]) -> String {
    let Some(metrics) = partitions.iter().max_by_key(|metrics| metrics.lag_records()) else {
        return "there are no partitions".to_owned();
    };
    format!(
        "partition {} is at position {}, its log ended at {} when last seen {:.1} s ago, lag {} \
         records, {:.1} s",
        metrics.partition,
        metrics.next_offset(),
        metrics.log_end(),
        metrics.log_end_age_seconds(),
        metrics.lag_records(),
        metrics.lag_seconds()
    )
}
