//! Projects one partition with three tasks: feed, batcher and writer. So the next batch is received
//! and encoded while the previous one is in its transaction.
//!
//! A batch holds what arrives during a transaction: a lone record is written at once, a backlog in
//! full batches. There is no timer.

use std::sync::Arc;

use tokio::task::JoinSet;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId};

use crate::batch::{Batch, Builder};
use crate::database::Database;
use crate::fatal::{Fatal, Reason};
use crate::feed::{self, Feed, QueuedPage};
use crate::history::{History, HistoryError, Position};
use crate::marks::Marker;
use crate::metrics::PartitionMetrics;
use crate::writer::{WriteOutcome, Writer};

/// Everything that the projection of one partition needs.
pub struct Projection {
    /// The cluster.
    pub client: Client,
    /// The partition.
    pub partition: PartitionId,
    /// The database that is projected to.
    pub database: Database,
    /// Its metrics.
    pub metrics: Arc<PartitionMetrics>,
}

impl Projection {
    /// Projects until something fails for good or, with `until`, to at least that offset.
    pub async fn run(self, until: Option<Offset>) -> Result<Position, Fatal> {
        let Self { client, partition, database, metrics } = self;
        let marked = database.clone();
        let mut writer = Writer::new(database, partition, metrics.clone());
        loop {
            let (position, under_way) = writer.start().await?;
            metrics.found(&position);
            let feed = Feed::new(client.clone(), partition, metrics.clone());
            feed.check(&position).await?;
            if until.is_some_and(|until| position.next_offset >= until) {
                return Ok(position);
            }
            let mut marker = Marker::new(marked.clone(), partition, position.next_offset);
            let mut tasks = JoinSet::new(); // aborts its tasks when it is dropped
            let (pages_in, pages) = feed::queue();
            tasks.spawn(feed.run(position.next_offset, pages_in));
            let history = History::from(client.info().cluster, partition, &position);
            let partitions = client.info().partitions;
            let builder = Builder::new(partition, partitions, position, under_way);
            // The writer asks for a batch when it has none, so that no batch waits in a queue.
            let (asks, asked) = flume::bounded(1);
            let (batches_in, batches) = flume::bounded(1);
            let batcher = Batcher { partition, history, builder, pages, asked, batches_in };
            tasks.spawn(batcher.run());
            loop {
                let batch = tokio::select! {
                    batch = ask(&asks, &batches) => batch,
                    ended = tasks.join_next() => return Err(why_ended(partition, ended)),
                };
                let Some(batch) = batch else {
                    return Err(why_ended(partition, tasks.join_next().await));
                };
                let outcome = writer.write(&batch).await?;
                if outcome == WriteOutcome::Written {
                    marker.written(batch.to.next_offset);
                }
                match outcome {
                    WriteOutcome::Written
                        if until.is_some_and(|until| batch.to.next_offset >= until) =>
                    {
                        return Ok(batch.to);
                    }
                    WriteOutcome::Written => {}
                    WriteOutcome::Moved(position) => {
                        tracing::warn!(
                            "partition {partition}: the database is at position {}, not {}: \
                             continuing from there",
                            position.next_offset,
                            batch.from.next_offset
                        );
                        break;
                    }
                }
            }
        }
    }
}

async fn ask(asks: &flume::Sender<()>, batches: &flume::Receiver<Batch>) -> Option<Batch> {
    // If the queue is full, an earlier request is still unanswered.
    if let Err(flume::TrySendError::Disconnected(())) = asks.try_send(()) {
        return None;
    }
    batches.recv_async().await.ok()
}

type Ended = Option<Result<Result<(), Fatal>, tokio::task::JoinError>>;

fn why_ended(partition: PartitionId, ended: Ended) -> Fatal {
    match ended {
        Some(Ok(Err(fatal))) => fatal,
        Some(Err(error)) if error.is_panic() => {
            std::panic::resume_unwind(error.into_panic());
        }
        _ => {
            let message = format!("partition {partition}: the feed ended without a reason");
            Fatal::new(Reason::Server, message)
        }
    }
}

/// Turns pages into batches.
struct Batcher {
    partition: PartitionId,
    history: History,
    builder: Builder,
    pages: flume::Receiver<QueuedPage>,
    asked: flume::Receiver<()>,
    batches_in: flume::Sender<Batch>,
}

impl Batcher {
    async fn run(mut self) -> Result<(), Fatal> {
        let mut is_asked = false;
        loop {
            if is_asked && !self.builder.is_empty() {
                is_asked = false;
                let batch = self.builder.seal().map_err(|error| self.damaged(&error))?;
                if self.batches_in.send_async(batch).await.is_err() {
                    return Ok(());
                }
            }
            let wants_more = !self.builder.is_full();
            tokio::select! {
                biased;
                ask = self.asked.recv_async(), if !is_asked => {
                    if ask.is_err() {
                        return Ok(());
                    }
                    is_asked = true;
                }
                page = self.pages.recv_async(), if wants_more => {
                    let Ok(queued) = page else { return Ok(()) };
                    self.take(&queued)?;
                }
            }
        }
    }

    fn take(&mut self, queued: &QueuedPage) -> Result<(), Fatal> {
        for entry in queued.page.entries() {
            let (header, body) = entry.map_err(|error| self.damaged(&error.into()))?;
            let is_new = self.history.take(&header, body).map_err(|error| self.damaged(&error))?;
            if is_new {
                self.builder.add(&header, body).map_err(|error| self.damaged(&error))?;
            }
        }
        Ok(())
    }

    fn damaged(&self, error: &HistoryError) -> Fatal {
        if let HistoryError::NotUnderWay(_) = error {
            // The log has what it ends, so the table lacks it.
            let message = format!(
                "partition {}: {error} by table under_way: the table was changed by hand; \
                 `walengine-projector audit` lists the change, `rebuild` recreates the tables",
                self.partition
            );
            return Fatal::new(Reason::Schema, message);
        }
        let message = format!(
            "partition {}, after offset {}: what the server sent does not continue the log \
             ({error}); none of it was written. Check the nodes with `walengine verify` and start \
             again",
            self.partition,
            self.history.next_offset()
        );
        Fatal::new(Reason::DamagedFeed, message)
    }
}
