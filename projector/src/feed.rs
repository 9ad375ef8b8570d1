//! The log of one partition from a position on, page by page, across lost connections and nodes;
//! and the check that it is the log that the database was derived from.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use walengine_net::client::tokio::Client;
use walengine_net::client::{ClientError, Page, ReadFrom};
use walengine_net::message::ErrorCode;
use walengine_net::model::{Offset, PartitionId};

use crate::fatal::{Fatal, Reason};
use crate::history::Position;
use crate::limits::{FEED_BYTES_MAX, FEED_PAGES_MAX};
use crate::metrics::PartitionMetrics;
use crate::trouble::Herald;

/// A page with its share of the queue's bytes, which is released when it is dropped.
#[derive(Debug)]
pub struct QueuedPage {
    /// The page.
    pub page: Page,
    _share: OwnedSemaphorePermit,
}

/// Source of pages.
pub struct Feed {
    client: Client,
    partition: PartitionId,
    metrics: Arc<PartitionMetrics>,
}

impl Feed {
    /// Of one partition.
    pub fn new(client: Client, partition: PartitionId, metrics: Arc<PartitionMetrics>) -> Self {
        Self { client, partition, metrics }
    }

    /// Checks that the log contains everything that was projected: the leader's log reaches the
    /// position, and the entry before it has the chain hash that the database recorded.
    pub async fn check(&self, position: &Position) -> Result<(), Fatal> {
        let mut herald = Herald::new(format!("walengine, partition {}", self.partition));
        let leader = self.client.reading(ReadFrom::Linearizable);
        // Read at offset 0, too: the page also carries the end of the log.
        let last = Offset(position.next_offset.0.saturating_sub(1));
        let page = loop {
            match leader.read_log(self.partition, last, 1, &[]).await {
                Ok(page) => break page,
                Err(error) if passes(&error) => herald.failed(&error.to_string()).await,
                Err(error) => return Err(error.into()),
            }
        };
        herald.works();
        self.metrics.log_reaches(page.durable_offset);
        if position.next_offset == Offset(0) {
            return Ok(());
        }
        let (partition, next) = (self.partition, position.next_offset);
        if page.durable_offset < next {
            let message = format!(
                "partition {partition}: the database is at position {next}, the log ends at {}: \
                 the log was restored from an older copy, or is another one; use the log that the \
                 database was derived from, or run `walengine-projector rebuild`",
                page.durable_offset
            );
            return Err(Fatal::new(Reason::OtherLog, message));
        }
        let mut entries = page.entries();
        let damaged = |why: String| {
            let message = format!("partition {partition}: the server sent a bad entry: {why}");
            Fatal::new(Reason::DamagedFeed, message)
        };
        let entry = entries.find_map(|entry| match entry {
            Ok((header, _)) => (header.meta.records > 0).then_some(Ok(header)),
            Err(error) => Some(Err(damaged(error.to_string()))),
        });
        let header = entry.ok_or_else(|| damaged("there is none".into()))??;
        if header.next_offset() == next && header.chain == position.chain {
            return Ok(());
        }
        let message = format!(
            "partition {partition}: the log's history up to position {next} is not the one that \
             the database was derived from (chain hash {}, in the database {}): use that log, or \
             run `walengine-projector rebuild`",
            header.chain, position.chain
        );
        Err(Fatal::new(Reason::OtherLog, message))
    }

    /// Sends pages from `from` on until the receiver is dropped.
    pub async fn run(self, from: Offset, pages: flume::Sender<QueuedPage>) -> Result<(), Fatal> {
        let mut herald = Herald::new(format!("walengine, partition {}", self.partition));
        let room = Arc::new(Semaphore::new(FEED_BYTES_MAX));
        let mut subscription = self.client.subscribe(self.partition, from);
        loop {
            let page = match subscription.next().await {
                Ok(page) => page,
                Err(error) if passes(&error) => {
                    self.metrics.retried();
                    herald.failed(&error.to_string()).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            herald.works();
            self.metrics.log_reaches(page.durable_offset);
            // A page is smaller than the queue; see limits.rs.
            let share = page.bytes.len().min(FEED_BYTES_MAX) as u32;
            let Ok(share) = room.clone().acquire_many_owned(share).await else { return Ok(()) };
            if pages.send_async(QueuedPage { page, _share: share }).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// A queue of pages, bounded here in pages and by [`Feed::run`] in bytes.
pub fn queue() -> (flume::Sender<QueuedPage>, flume::Receiver<QueuedPage>) {
    flume::bounded(FEED_PAGES_MAX)
}

/// Whether an error of the client may pass by itself: nodes come and go, and a busy node is asked
/// again. A malformed answer does not pass.
pub fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::NoLeader { .. }
        | ClientError::Deadline { .. } => true,
        ClientError::Refused { code, .. } => matches!(
            code,
            Some(
                ErrorCode::Busy
                    | ErrorCode::NotLeader
                    | ErrorCode::DeadlineExceeded
                    | ErrorCode::Stopped
                    | ErrorCode::NotYet
                    | ErrorCode::ShuttingDown
                    | ErrorCode::Corrupt
                    | ErrorCode::Internal
                    | ErrorCode::LeadershipLost
            )
        ),
        _ => false,
    }
}
