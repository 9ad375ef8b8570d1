//! Writes the batches of one partition, each in one transaction with its position, and tries again
//! until PostgreSQL has it. Knows after every failure whether the transaction took place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::{CopyInSink, Statement};
use walengine_net::model::PartitionId;

use crate::batch::{Batch, End};
use crate::copy::{HEADER, TRAILER};
use crate::database::{Connection, Database, columns, within};
use crate::fatal::{Fatal, Reason};
use crate::fold::Fold;
use crate::history::Position;
use crate::limits::{
    COPY_CHUNK_BYTES, HOST_SILENT_MAX, KEEPALIVE_EVERY, KEEPALIVE_IDLE, LOCK_RETRY,
};
use crate::metrics::PartitionMetrics;
use crate::position;
use crate::schema;
use crate::tables::{TABLES, Table};
use crate::trouble::{Herald, Trouble};
use crate::values::{Numeric, Time, Uuid};

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed: now, or by the transaction whose answer was lost.
    Written,
    /// The position is elsewhere, because someone else wrote or the server lost what it had
    /// committed. Nothing was written; go on from there.
    Moved(Position),
}

/// Writer of one partition. One task; holds one connection.
pub struct Writer {
    database: Database,
    partition: PartitionId,
    metrics: Arc<PartitionMetrics>,
    session: Option<Session>,
    herald: Herald,
}

/// A connection with its statements, which has the partition's lock.
struct Session {
    connection: Connection,
    copies: Vec<(Table, Statement)>,
    changes: Statement,
    ends: Statement,
    advance: Statement,
}

impl Writer {
    /// Not connected yet.
    pub fn new(database: Database, partition: PartitionId, metrics: Arc<PartitionMetrics>) -> Self {
        let herald = Herald::new(format!("PostgreSQL, partition {partition}"));
        Self { database, partition, metrics, session: None, herald }
    }

    /// The position in the database, once it answers and no other projector is at work.
    pub async fn position(&mut self) -> Result<Position, Fatal> {
        loop {
            match self.try_position().await {
                Ok(position) => {
                    self.herald.works();
                    return Ok(position);
                }
                Err(trouble) => self.pause(trouble).await?,
            }
        }
    }

    async fn try_position(&mut self) -> Result<Position, Trouble> {
        self.session().await?;
        let Some(session) = &self.session else { return Err(Trouble::gone()) };
        position::read(&self.database, &session.connection, self.partition).await
    }

    async fn session(&mut self) -> Result<&Session, Trouble> {
        if self.session.is_none() {
            self.session = Some(Session::open(&self.database, self.partition).await?);
        }
        self.session.as_ref().ok_or_else(Trouble::gone)
    }

    async fn pause(&mut self, trouble: Trouble) -> Result<(), Fatal> {
        self.session = None;
        match trouble {
            Trouble::Lasting(fatal) => Err(fatal),
            Trouble::Passing(why) => {
                self.metrics.retried();
                self.herald.failed(&why).await;
                Ok(())
            }
        }
    }

    /// Writes a batch, however long it takes.
    pub async fn write(&mut self, batch: &Batch) -> Result<Outcome, Fatal> {
        loop {
            let started = Instant::now();
            match self.attempt(batch).await {
                Ok(outcome) => {
                    self.herald.works();
                    if outcome == Outcome::Written {
                        self.metrics.committed(batch, started.elapsed());
                    }
                    return Ok(outcome);
                }
                Err(trouble) => self.pause(trouble).await?,
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<Outcome, Trouble> {
        if self.session.is_none() {
            // After a failure the answer of a COMMIT may be what was lost.
            let position = self.try_position().await?;
            if same(&position, &batch.to) {
                return Ok(Outcome::Written);
            }
            if !same(&position, &batch.from) {
                return Ok(Outcome::Moved(position));
            }
        }
        let partition = self.partition;
        let session = self.session().await?;
        if within_transaction(session.transact(partition, batch)).await? {
            return Ok(Outcome::Written);
        }
        let position = self.try_position().await?;
        Ok(Outcome::Moved(position))
    }
}

/// The time was cut to microseconds on its way through the database, and is told by the rest.
fn same(one: &Position, other: &Position) -> bool {
    (one.next_offset, one.chain) == (other.next_offset, other.chain)
}

async fn within_transaction(
    work: impl Future<Output = Result<bool, Trouble>>,
) -> Result<bool, Trouble> {
    let limit = crate::limits::STATEMENT_TIMEOUT * 2;
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Trouble::Passing(format!("a transaction took longer than {limit:?}"))),
    }
}

impl Session {
    /// Connects, waits for the lock, checks the tables, prepares the statements.
    async fn open(database: &Database, partition: PartitionId) -> Result<Self, Trouble> {
        let connection = database.connect().await?;
        // Its transaction and its lock must not outlive a host that is gone without a word.
        let (idle, every) = (KEEPALIVE_IDLE.as_secs(), KEEPALIVE_EVERY.as_secs());
        let silent = HOST_SILENT_MAX.as_millis();
        let setup = format!(
            "SET tcp_keepalives_idle = {idle}; SET tcp_keepalives_interval = {every}; \
             SET tcp_user_timeout = {silent}"
        );
        within(connection.batch_execute(&setup)).await?;
        let mut told = false;
        while !position::try_lock(database, &connection, partition).await? {
            if !told {
                told = true;
                tracing::warn!(
                    "another projector writes partition {partition} of {}, schema {}: waiting \
                     until it is gone",
                    database.shown(),
                    database.schema()
                );
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        if told {
            tracing::info!("the other projector is gone from partition {partition}");
        }
        schema::check_columns(database, &connection, partition).await?;
        let mut copies = Vec::new();
        for table in TABLES {
            let name = database.part(table.name, partition);
            let copy = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", columns(&table));
            copies.push((table, within(connection.prepare(&copy)).await?));
        }
        let changes = format!(
            "UPDATE {} AS a SET
                 debits_pending = a.debits_pending + c.debits_pending,
                 debits_posted = a.debits_posted + c.debits_posted,
                 credits_pending = a.credits_pending + c.credits_pending,
                 credits_posted = a.credits_posted + c.credits_posted,
                 version = a.version + c.versions,
                 closed = coalesce(c.closed, a.closed)
               FROM unnest($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::numeric[],
                           $6::bigint[], $7::boolean[])
                 AS c (id, debits_pending, debits_posted, credits_pending, credits_posted,
                       versions, closed)
              WHERE a.id = c.id",
            database.part("accounts", partition)
        );
        let ends = format!(
            "UPDATE {} AS r SET
                 state = e.state::text::\"{}\".reservation_state, resolved_offset = e.resolved_offset,
                 resolved_at = e.resolved_at, amount_posted = e.amount_posted
               FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::numeric[])
                 AS e (id, state, resolved_offset, resolved_at, amount_posted)
              WHERE r.id = e.id AND r.state = 'pending'
             RETURNING r.id, r.amount",
            database.part("reservations", partition),
            database.schema()
        );
        let changes = within(connection.prepare(&changes)).await?;
        let ends = within(connection.prepare(&ends)).await?;
        let advance = position::prepare(database, &connection).await?;
        Ok(Self { connection, copies, changes, ends, advance })
    }

    /// One transaction; false if the position is not the batch's, and nothing was written.
    async fn transact(&self, partition: PartitionId, batch: &Batch) -> Result<bool, Trouble> {
        // Both are on their way at once; the first thing that the transaction does is to take the
        // row of the position, so that two writers meet there and nowhere else.
        let (begun, advanced) = tokio::join!(
            biased;
            self.connection.batch_execute("BEGIN"),
            position::advance(&self.connection, &self.advance, partition, &batch.from, &batch.to),
        );
        begun?;
        if !advanced? {
            self.connection.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
        for (table, rows) in &batch.copies {
            self.copy(table, rows).await?;
        }
        if batch.ends.is_empty() {
            self.merge(&batch.changes).await?;
        } else {
            let mut changes = batch.changes.clone();
            self.end_reservations(&batch.ends, &mut changes).await?;
            self.merge(&changes).await?;
        }
        self.connection.batch_execute("COMMIT").await?;
        Ok(true)
    }

    async fn copy(&self, table: &Table, rows: &Bytes) -> Result<(), Trouble> {
        let (_, statement) = self
            .copies
            .iter()
            .find(|(known, _)| known == table)
            .expect("every table has its statement");
        let sink: CopyInSink<Bytes> = self.connection.copy_in(statement).await?;
        let mut sink = std::pin::pin!(sink);
        sink.feed(Bytes::from_static(&HEADER)).await?;
        let mut rest = rows.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(COPY_CHUNK_BYTES));
            sink.feed(chunk).await?;
        }
        sink.feed(Bytes::from_static(&TRAILER)).await?;
        sink.finish().await?;
        Ok(())
    }

    /// Ends reservations of earlier batches, and takes off what they held.
    async fn end_reservations(&self, ends: &[End], changes: &mut Fold) -> Result<(), Trouble> {
        let ids: Vec<Uuid> = ends.iter().map(|end| Uuid(end.id)).collect();
        let states: Vec<&str> = ends.iter().map(|end| end.resolution.state()).collect();
        let offsets: Vec<i64> = ends.iter().map(|end| end.resolution.offset.0 as i64).collect();
        let times: Vec<Time> = ends.iter().map(|end| Time(end.resolution.time)).collect();
        let posted: Vec<Numeric> = ends.iter().map(|end| end.resolution.posted.into()).collect();
        let rows =
            self.connection.query(&self.ends, &[&ids, &states, &offsets, &times, &posted]).await?;
        if rows.len() != ends.len() {
            return Err(missing("reservations", ends.len(), rows.len()).into());
        }
        let mut held = HashMap::with_capacity(rows.len());
        for row in rows {
            let (Uuid(id), amount): (Uuid, Numeric) = (row.try_get(0)?, row.try_get(1)?);
            held.insert(id, amount.magnitude);
        }
        for end in ends {
            let amount = held.get(&end.id).copied().unwrap_or_default();
            changes.release(end.debit, end.credit, amount).map_err(|error| {
                Fatal::new(Reason::DamagedFeed, format!("account {:032x}: {error}", end.debit))
            })?;
        }
        Ok(())
    }

    /// Changes the balances: one statement, each account once.
    async fn merge(&self, changes: &Fold) -> Result<(), Trouble> {
        if changes.is_empty() {
            return Ok(());
        }
        let all = changes.changes();
        let ids: Vec<Uuid> = all.iter().map(|(id, _)| Uuid(*id)).collect();
        let numbers = |of: fn(&crate::fold::Change) -> crate::fold::Difference| {
            all.iter().map(|(_, change)| Numeric::from(of(change))).collect::<Vec<_>>()
        };
        let debits_pending = numbers(|change| change.debits_pending);
        let debits_posted = numbers(|change| change.debits_posted);
        let credits_pending = numbers(|change| change.credits_pending);
        let credits_posted = numbers(|change| change.credits_posted);
        let versions: Vec<i64> = all.iter().map(|(_, change)| change.versions as i64).collect();
        let closed: Vec<Option<bool>> = all.iter().map(|(_, change)| change.closed).collect();
        let changed = self
            .connection
            .execute(
                &self.changes,
                &[
                    &ids,
                    &debits_pending,
                    &debits_posted,
                    &credits_pending,
                    &credits_posted,
                    &versions,
                    &closed,
                ],
            )
            .await?;
        if changed as usize == all.len() {
            Ok(())
        } else {
            Err(missing("accounts", all.len(), changed as usize).into())
        }
    }
}

/// What the log knows is not in the table.
fn missing(table: &str, expected: usize, found: usize) -> Fatal {
    let message = format!(
        "{} of {expected} rows of {table} that the log changes are missing: the tables were \
         changed by hand; `walengine-projector audit` names them, `rebuild` makes them anew",
        expected - found.min(expected)
    );
    Fatal::new(Reason::Schema, message)
}
