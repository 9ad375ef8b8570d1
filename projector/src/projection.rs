//! Projects one partition: feed, then builder, then writer, each a task, so that the next batch is
//! received and encoded while the one before is in its transaction.
//!
//! Batches are as large as what arrives during a transaction: a lone record goes at once, a backlog
//! goes in full batches. No timer.

use std::sync::Arc;

use tokio::task::JoinSet;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId};

use crate::batch::{Batch, Builder};
use crate::database::Database;
use crate::fatal::{Fatal, Reason};
use crate::feed::{self, Feed, Held};
use crate::history::{History, HistoryError, Position};
use crate::metrics::PartitionMetrics;
use crate::writer::{Outcome, Writer};

/// What one partition is projected with.
pub struct Projection {
    /// The cluster.
    pub client: Client,
    /// The partition.
    pub partition: PartitionId,
    /// Where to.
    pub database: Database,
    /// What is told about it.
    pub metrics: Arc<PartitionMetrics>,
}

impl Projection {
    /// Projects until something lasting goes wrong, or, with `until`, up to that offset at least.
    pub async fn run(self, until: Option<Offset>) -> Result<Position, Fatal> {
        let Self { client, partition, database, metrics } = self;
        let mut writer = Writer::new(database, partition, metrics.clone());
        loop {
            let position = writer.position().await?;
            metrics.found(&position);
            let feed = Feed::new(client.clone(), partition, metrics.clone());
            feed.check(&position).await?;
            if until.is_some_and(|until| position.next_offset >= until) {
                return Ok(position);
            }
            let mut tasks = JoinSet::new(); // ends its tasks when it is dropped
            let (pages_in, pages) = feed::queue();
            tasks.spawn(feed.run(position.next_offset, pages_in));
            let history = History::from(client.info().cluster, partition, &position);
            let builder = Builder::new(partition, position);
            // The writer asks for a batch when it has none, so none waits in a queue.
            let (asks, asked) = flume::bounded(1);
            let (batches_in, batches) = flume::bounded(1);
            let gathering = Gathering { partition, history, builder, pages, asked, batches_in };
            tasks.spawn(gathering.run());
            loop {
                let batch = tokio::select! {
                    batch = ask(&asks, &batches) => batch,
                    ended = tasks.join_next() => return Err(why_ended(partition, ended)),
                };
                let Some(batch) = batch else {
                    return Err(why_ended(partition, tasks.join_next().await));
                };
                match writer.write(&batch).await? {
                    Outcome::Written
                        if until.is_some_and(|until| batch.to.next_offset >= until) =>
                    {
                        return Ok(batch.to);
                    }
                    Outcome::Written => {}
                    Outcome::Moved(position) => {
                        tracing::warn!(
                            "partition {partition}: the database is at position {}, not {}: \
                             going on from there",
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
    // Full: it was asked before, and the answer is on its way.
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

/// Makes batches of pages.
struct Gathering {
    partition: PartitionId,
    history: History,
    builder: Builder,
    pages: flume::Receiver<Held>,
    asked: flume::Receiver<()>,
    batches_in: flume::Sender<Batch>,
}

impl Gathering {
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
                    let Ok(held) = page else { return Ok(()) };
                    self.take(&held)?;
                }
            }
        }
    }

    fn take(&mut self, held: &Held) -> Result<(), Fatal> {
        for entry in held.page.entries() {
            let (header, body) = entry.map_err(|error| self.damaged(&error.into()))?;
            let is_new = self.history.take(&header, body).map_err(|error| self.damaged(&error))?;
            if is_new {
                self.builder.add(&header, body).map_err(|error| self.damaged(&error))?;
            }
        }
        Ok(())
    }

    fn damaged(&self, error: &HistoryError) -> Fatal {
        let message = format!(
            "partition {}, after offset {}: what the server sent does not continue the log \
             ({error}); nothing of it was written. Check the nodes with `walengine verify`, and \
             start again",
            self.partition,
            self.history.next_offset()
        );
        Fatal::new(Reason::DamagedFeed, message)
    }
}
