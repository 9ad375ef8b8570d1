//! The rows of a log as the projector writes them, and two ways to write them: a bare COPY, and the
//! projector's own writer. Rows and transactions are the same for both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt as _;
use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::Offset;
use walengine_projector::across::UnderWay;
use walengine_projector::batch::{Batch, Builder};
use walengine_projector::copy::{HEADER, TRAILER};
use walengine_projector::database::{Connection, Database, columns};
use walengine_projector::fatal::Fatal;
use walengine_projector::fold::Fold;
use walengine_projector::history::{History, Position};
use walengine_projector::limits::COPY_CHUNK_BYTES;
use walengine_projector::metrics::PartitionMetrics;
use walengine_projector::schema;
use walengine_projector::tables::Table;
use walengine_projector::writer::{WriteOutcome, Writer};

use super::sql::Sql;
use crate::cluster::PARTITION;
use crate::error::{During, Result, failed};
use crate::stats::ratio;

/// Bytes of log in one page.
const PAGE_BYTES: usize = 1 << 20;

/// Encoded rows of a log.
pub struct LogRows {
    cluster: walengine_net::client::ClusterInfo,
    /// The accounts, which are written before the clock starts.
    accounts: Batch,
    /// The transfers, in transactions as large as those of a projector that is far behind.
    pub transfers: Vec<Batch>,
}

/// A bare COPY: the rows of each transaction, and when it ended since the start.
#[derive(Clone, Debug, Default)]
pub struct Copied(Vec<(u64, Duration)>);

impl Copied {
    /// Rows a second over all transactions.
    pub fn per_second(&self) -> f64 {
        let rows = self.0.iter().map(|(rows, _)| rows).sum();
        self.0.last().map_or(0.0, |(_, took)| ratio(rows, 1) / took.as_secs_f64())
    }

    /// Rows a second after the transaction that completes the first `rows`; over all if there is
    /// none.
    pub fn per_second_behind(&self, rows: u64) -> f64 {
        let (mut before, mut from) = (0, Duration::ZERO);
        for (place, &(of_transaction, at)) in self.0.iter().enumerate() {
            if before >= rows {
                let rest = &self.0[place..];
                let rows = rest.iter().map(|(rows, _)| rows).sum();
                let until = rest.last().map_or(from, |&(_, at)| at);
                return ratio(rows, 1) / until.saturating_sub(from).as_secs_f64();
            }
            (before, from) = (before + of_transaction, at);
        }
        self.per_second()
    }
}

/// The work of the projector's writer besides the COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It advances the position.
    PositionOnly,
    /// It advances the position and changes the balances.
    Balances,
}

impl LogRows {
    /// Reads a log of `records` records, of which the first `accounts` create accounts.
    pub fn read(server: SocketAddr, accounts: u64, records: u64) -> Result<Self> {
        let what = "reading the log";
        let client = Client::connect(Config::new(server.to_string())).during(what)?;
        let cluster = client.info().clone();
        let mut history = History::from(cluster.cluster, PARTITION, &Position::START);
        let (partitions, under_way) = (cluster.partitions, UnderWay::default());
        let mut builder = Builder::new(PARTITION, partitions, Position::START, under_way);
        let (mut created, mut transfers) = (None, Vec::new());
        while history.next_offset().0 < records {
            let from: Offset = history.next_offset();
            let page = client.read_log(PARTITION, from, PAGE_BYTES, &[]).during(what)?;
            for entry in page.entries() {
                let (header, body) = entry.during(what)?;
                if !history.take(&header, body).during(what)? {
                    continue;
                }
                builder.add(&header, body).during(what)?;
                if history.next_offset().0 == accounts {
                    created = Some(builder.seal().during(what)?);
                } else if builder.is_full() {
                    transfers.push(builder.seal().during(what)?);
                }
            }
        }
        if !builder.is_empty() {
            transfers.push(builder.seal().during(what)?);
        }
        match created {
            Some(accounts) => Ok(Self { cluster, accounts, transfers }),
            None => failed("the log does not begin with the accounts"),
        }
    }

    /// Number of transfers.
    pub fn count(&self) -> u64 {
        self.transfers.iter().map(|batch| batch.rows).sum()
    }

    /// Writes everything by bare COPY BINARY into a fresh schema; the accounts are not timed.
    pub fn copy(&self, database: &Database) -> Result<Copied> {
        let sql = self.fresh_schema(database)?;
        sql.runtime.block_on(async {
            copy(&sql.connection, database, std::slice::from_ref(&self.accounts)).await?;
            sql.connection.batch_execute("CHECKPOINT").await.during("CHECKPOINT")?;
            copy(&sql.connection, database, &self.transfers).await
        })
    }

    /// Writes everything with the projector's writer into a fresh schema. Returns its time without
    /// that for the accounts.
    pub fn write(&self, database: &Database, merge: Merge) -> Result<Duration> {
        let sql = self.fresh_schema(database)?;
        let batches: Vec<Batch> = self.transfers.iter().map(|batch| with(batch, merge)).collect();
        let metrics = Arc::new(PartitionMetrics::new(PARTITION));
        let mut writer = Writer::new(database.clone(), PARTITION, metrics);
        sql.runtime.block_on(async {
            let what = "writing as the projector does";
            writer.start().await.during(what)?;
            writer.write(&self.accounts).await.during(what)?;
            sql.connection.batch_execute("CHECKPOINT").await.during("CHECKPOINT")?;
            let started = Instant::now();
            for batch in &batches {
                if writer.write(batch).await.during(what)? != WriteOutcome::Written {
                    return failed(format!("{what}: the position has moved"));
                }
            }
            Ok(started.elapsed())
        })
    }

    fn fresh_schema(&self, database: &Database) -> Result<Sql> {
        let sql = Sql::connect(database)?;
        let made = sql.runtime.block_on(schema::prepare(database, &sql.connection, &self.cluster));
        made.map_err(Fatal::from).during("making the tables")?;
        Ok(sql)
    }
}

fn with(batch: &Batch, merge: Merge) -> Batch {
    match merge {
        Merge::Balances => batch.clone(),
        Merge::PositionOnly => Batch { changes: Fold::default(), ..batch.clone() },
    }
}

/// Copies each batch in a transaction with nothing else in it.
async fn copy(connection: &Connection, database: &Database, batches: &[Batch]) -> Result<Copied> {
    let what = "bare COPY";
    let (started, mut copied) = (Instant::now(), Copied::default());
    for batch in batches {
        connection.batch_execute("BEGIN").await.during(what)?;
        for (table, rows) in &batch.copies {
            copy_table(connection, database, table, rows).await?;
        }
        connection.batch_execute("COMMIT").await.during(what)?;
        copied.0.push((batch.rows, started.elapsed()));
    }
    Ok(copied)
}

async fn copy_table(
    connection: &Connection,
    database: &Database,
    table: &Table,
    rows: &Bytes,
) -> Result<()> {
    let name = database.part(table.name, PARTITION);
    let statement = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", columns(table));
    let sink = connection.copy_in::<_, Bytes>(&statement).await.during(&statement)?;
    let mut sink = std::pin::pin!(sink);
    sink.feed(Bytes::from_static(&HEADER)).await.during(&statement)?;
    let mut rest = rows.clone();
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(COPY_CHUNK_BYTES));
        sink.feed(chunk).await.during(&statement)?;
    }
    sink.feed(Bytes::from_static(&TRAILER)).await.during(&statement)?;
    sink.finish().await.during(&statement)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_first_can_be_left_out() {
        let second = Duration::from_secs(1);
        let copied = Copied(vec![(100, second), (100, 3 * second), (100, 5 * second)]);
        let same = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(same(copied.per_second(), 60.0));
        assert!(
            same(copied.per_second_behind(100), 50.0) && same(copied.per_second_behind(1), 50.0)
        );
        assert!(
            same(copied.per_second_behind(0), 60.0) && same(copied.per_second_behind(999), 60.0)
        );
    }
}
