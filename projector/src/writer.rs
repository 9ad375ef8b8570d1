//! Writes the batches of one partition, each in one transaction with its position, and retries
//! until PostgreSQL has committed it. After every failure it finds out whether the transaction took
//! place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::{CopyInSink, Statement};
use walengine_net::model::{Offset, PartitionId};

use crate::across::UnderWay;
use crate::batch::{Batch, ReservationEnd};
use crate::booked::BookedSums;
use crate::copy::{HEADER, TRAILER};
use crate::database::{Connection, Database, columns, within};
use crate::fatal::{Fatal, Reason};
use crate::fold::Fold;
use crate::history::Position;
use crate::limits::{
    COPY_CHUNK_BYTES, HOST_SILENT_MAX, KEEPALIVE_EVERY, KEEPALIVE_IDLE, LOCK_RETRY, MARK_CHANGES,
};
use crate::metrics::PartitionMetrics;
use crate::position;
use crate::schema;
use crate::tables::{TABLES, Table};
use crate::trouble::{Herald, Trouble};
use crate::values::{Date, Numeric, Time, Uuid};
use crate::volumes::Volumes;
use crate::waits;

/// Result of writing a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Committed, now or by an earlier attempt whose answer was lost.
    Written,
    /// Not written, because the position is another one: another projector wrote, or the server
    /// lost committed transactions. Continue from this position.
    Moved(Position),
}

/// Writer of one partition. Used by one task; holds one connection.
pub struct Writer {
    database: Database,
    partition: PartitionId,
    metrics: Arc<PartitionMetrics>,
    session: Option<WriterSession>,
    herald: Herald,
}

/// A connection that holds the partition's lock, with its prepared statements.
struct WriterSession {
    connection: Connection,
    copies: Vec<(Table, Statement)>,
    changes: Statement,
    ends: Statement,
    words: Statement,
    volumes: Statement,
    booked: Statement,
    advance: Statement,
}

impl Writer {
    /// Not connected yet.
    pub fn new(database: Database, partition: PartitionId, metrics: Arc<PartitionMetrics>) -> Self {
        let herald = Herald::new(format!("PostgreSQL, partition {partition}"));
        Self { database, partition, metrics, session: None, herald }
    }

    /// The position in the database, and what is under way there. Waits until it answers and no other
    /// projector writes.
    pub async fn start(&mut self) -> Result<(Position, UnderWay), Fatal> {
        loop {
            match self.try_start().await {
                Ok(start) => {
                    self.herald.works();
                    return Ok(start);
                }
                Err(trouble) => self.pause(trouble).await?,
            }
        }
    }

    async fn try_start(&mut self) -> Result<(Position, UnderWay), Trouble> {
        self.session().await?;
        let Some(session) = &self.session else { return Err(Trouble::gone()) };
        let (database, connection) = (&self.database, &session.connection);
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        within(connection.batch_execute(begin)).await?;
        let position = position::read(database, connection, self.partition).await?;
        let under_way = position::under_way(database, connection, self.partition).await?;
        within(connection.batch_execute("COMMIT")).await?;
        Ok((position, under_way))
    }

    async fn try_position(&mut self) -> Result<Position, Trouble> {
        self.session().await?;
        let Some(session) = &self.session else { return Err(Trouble::gone()) };
        position::read(&self.database, &session.connection, self.partition).await
    }

    async fn session(&mut self) -> Result<&WriterSession, Trouble> {
        if self.session.is_none() {
            self.session =
                Some(WriterSession::open(&self.database, self.partition, &self.metrics).await?);
            self.metrics.has_postgres(true);
        }
        self.session.as_ref().ok_or_else(Trouble::gone)
    }

    async fn pause(&mut self, trouble: Trouble) -> Result<(), Fatal> {
        self.session = None;
        self.metrics.has_postgres(false);
        self.metrics.stands_by(false);
        match trouble {
            Trouble::Lasting(fatal) => Err(fatal),
            Trouble::Passing(why) => {
                self.metrics.retried();
                self.herald.failed(&why).await;
                Ok(())
            }
        }
    }

    /// Writes a batch. Retries without limit.
    pub async fn write(&mut self, batch: &Batch) -> Result<WriteOutcome, Fatal> {
        loop {
            let started = Instant::now();
            match self.attempt(batch).await {
                Ok(outcome) => {
                    self.herald.works();
                    if outcome == WriteOutcome::Written {
                        self.metrics.committed(batch, started.elapsed());
                    }
                    return Ok(outcome);
                }
                Err(trouble) => self.pause(trouble).await?,
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<WriteOutcome, Trouble> {
        if self.session.is_none() {
            // The failure may have lost the answer to a COMMIT.
            let position = self.try_position().await?;
            if same(&position, &batch.to) {
                return Ok(WriteOutcome::Written);
            }
            if !same(&position, &batch.from) {
                return Ok(WriteOutcome::Moved(position));
            }
        }
        let partition = self.partition;
        self.session().await?;
        let Some(session) = &self.session else { return Err(Trouble::gone()) };
        let what = format!("PostgreSQL, partition {partition}: a transaction");
        let work = within_transaction(session.transact(partition, batch));
        let (done, waited) = waits::told(&self.database, session.connection.pid, &what, work).await;
        let done = done.map_err(|trouble| match (trouble, waited) {
            (Trouble::Passing(why), Some(waited)) => {
                Trouble::Passing(format!("{why}; it has waited for {waited}"))
            }
            (trouble, _) => trouble,
        });
        if done? {
            return Ok(WriteOutcome::Written);
        }
        let position = self.try_position().await?;
        Ok(WriteOutcome::Moved(position))
    }
}

/// Compares without the time, which the database cuts to microseconds; the offset implies it.
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

impl WriterSession {
    /// Connects, waits for the lock, checks the tables, and prepares the statements.
    async fn open(
        database: &Database,
        partition: PartitionId,
        metrics: &PartitionMetrics,
    ) -> Result<Self, Trouble> {
        let connection = database.connect().await?;
        if let Some(why) = &connection.read_only {
            return Err(Trouble::Passing(why.clone()));
        }
        // If this host vanishes, PostgreSQL must soon end its transaction and release its lock.
        let (idle, every) = (KEEPALIVE_IDLE.as_secs(), KEEPALIVE_EVERY.as_secs());
        let silent = HOST_SILENT_MAX.as_millis();
        let setup = format!(
            "SET tcp_keepalives_idle = {idle}; SET tcp_keepalives_interval = {every}; \
             SET tcp_user_timeout = {silent}"
        );
        within(connection.batch_execute(&setup)).await?;
        let mut has_warned = false;
        while !position::try_lock(database, &connection, partition).await? {
            if !has_warned {
                has_warned = true;
                tracing::warn!(
                    "another projector writes partition {partition} of {}, schema {}: waiting \
                     for its end",
                    database.shown(),
                    database.schema()
                );
            }
            // It is connected, and knows how far the other one is.
            metrics.has_postgres(true);
            metrics.stands_by(true);
            if let Ok(position) = position::read(database, &connection, partition).await {
                metrics.found(&position);
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        metrics.stands_by(false);
        if has_warned {
            tracing::info!("partition {partition}: the other projector has ended, taking over");
        }
        schema::check_columns(database, &connection, partition).await?;
        let mut copies = Vec::new();
        for table in TABLES {
            let name = database.part(table.name, partition);
            let copy = format!("COPY {name} ({}) FROM STDIN (FORMAT binary)", columns(&table));
            copies.push((table, within(connection.prepare(&copy)).await?));
        }
        // An account that has changed often is marked: what it has moved below the batch's end.
        let changes = format!(
            "WITH changed AS (
             UPDATE {0} AS a SET
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
              WHERE a.id = c.id
             RETURNING a.id, a.version / {MARK_CHANGES} <> (a.version - c.versions) / {MARK_CHANGES} AS is_due,
                       a.debits_posted, a.credits_posted), marked AS (
             INSERT INTO {1} (partition, account_id, log_offset, debits_posted, credits_posted, debits_booked, credits_booked)
             SELECT {2}, c.id, $8, m.* FROM changed c CROSS JOIN LATERAL (
                    SELECT c.debits_posted, c.credits_posted, coalesce(sum(b.debits), 0), coalesce(sum(b.credits), 0)
                      FROM {3} b WHERE b.account_id = c.id HAVING c.id < 'fffffffe-0000-0000-0000-000000000000'
                    UNION ALL
                    SELECT s.debits, s.credits, s.debits_booked, s.credits_booked FROM {4}(c.id, {2}, $8) AS s
                     WHERE c.id >= 'fffffffe-0000-0000-0000-000000000000') AS m
              WHERE c.is_due AND c.id < 'ffffffff-0000-0000-0000-000000000000'
                 ON CONFLICT DO NOTHING)
             SELECT count(*) FROM changed",
            database.part("accounts", partition),
            database.part("account_marks", partition),
            partition.0,
            database.part("booked_sums", partition),
            database.name("sums_before"),
        );
        let ends = format!(
            "UPDATE {} AS r SET
                 state = e.state::text::{}, resolved_offset = e.resolved_offset,
                 resolved_at = e.resolved_at, amount_posted = e.amount_posted
               FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::numeric[])
                 AS e (id, state, resolved_offset, resolved_at, amount_posted)
              WHERE r.id = e.id AND r.state = 'pending'
             RETURNING r.id, r.amount",
            database.part("reservations", partition),
            database.type_name("reservation_state")
        );
        let words = format!(
            "DELETE FROM {} WHERE log_offset = ANY ($1::bigint[])",
            database.part("under_way", partition)
        );
        let volumes = format!(
            "INSERT INTO {} AS d (partition, ledger, day, booked_day, movements, amount)
             SELECT {}, v.ledger, v.day, v.booked_day, sum(v.movements)::bigint, sum(v.amount)
               FROM unnest($1::bigint[], $2::date[], $3::date[], $4::bigint[], $5::numeric[])
                 AS v (ledger, day, booked_day, movements, amount)
              GROUP BY v.ledger, v.day, v.booked_day
             ON CONFLICT (ledger, day, booked_day) DO UPDATE
                SET movements = d.movements + excluded.movements, amount = d.amount + excluded.amount",
            database.part("daily_volumes", partition),
            partition.0
        );
        let booked = format!(
            "INSERT INTO {} AS d (partition, account_id, first_day, debits, credits)
             SELECT {}, v.account_id, v.first_day, sum(v.debits), sum(v.credits)
               FROM unnest($1::uuid[], $2::date[], $3::numeric[], $4::numeric[]) AS v (account_id, first_day, debits, credits)
              GROUP BY v.account_id, v.first_day
             ON CONFLICT (account_id, first_day) DO UPDATE
                SET debits = d.debits + excluded.debits, credits = d.credits + excluded.credits",
            database.part("booked_sums", partition),
            partition.0
        );
        let changes = within(connection.prepare(&changes)).await?;
        let ends = within(connection.prepare(&ends)).await?;
        let words = within(connection.prepare(&words)).await?;
        let volumes = within(connection.prepare(&volumes)).await?;
        let booked = within(connection.prepare(&booked)).await?;
        let advance = position::prepare(database, &connection).await?;
        Ok(Self { connection, copies, changes, ends, words, volumes, booked, advance })
    }

    /// Runs the transaction. False if the position is not the batch's; then nothing was written.
    async fn transact(&self, partition: PartitionId, batch: &Batch) -> Result<bool, Trouble> {
        // Both statements are sent at once. The transaction locks the position's row first, so that
        // two writers meet there and nowhere else.
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
        self.end_under_way(&batch.words).await?;
        let mut changes = std::borrow::Cow::Borrowed(&batch.changes);
        if !batch.ends.is_empty() {
            self.end_reservations(&batch.ends, changes.to_mut()).await?;
        }
        // All are sent at once, so that the small ones cost no time of their own. Marks read the sums by time of business, so
        // those come first.
        let booked = self.add_booked(&batch.booked);
        let merge = self.merge(&changes, batch.to.next_offset);
        let volumes = self.add_volumes(&batch.volumes);
        let (booked, merged, added) =
            tokio::join!(biased; Box::pin(booked), Box::pin(merge), Box::pin(volumes));
        booked?;
        merged?;
        added?;
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

    /// Removes transfers of earlier batches that have their word now.
    async fn end_under_way(&self, words: &[Offset]) -> Result<(), Trouble> {
        if words.is_empty() {
            return Ok(());
        }
        let offsets: Vec<i64> = words.iter().map(|offset| offset.0 as i64).collect();
        let ended = self.connection.execute(&self.words, &[&offsets]).await? as usize;
        if ended == words.len() {
            Ok(())
        } else {
            Err(missing("under_way", words.len(), ended).into())
        }
    }

    /// Ends reservations of earlier batches, and releases the amounts that they held.
    async fn end_reservations(
        &self,
        ends: &[ReservationEnd],
        changes: &mut Fold,
    ) -> Result<(), Trouble> {
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

    /// Adds what was moved to its days: few rows, since most of a batch is of one.
    async fn add_volumes(&self, volumes: &Volumes) -> Result<(), Trouble> {
        let all = volumes.all();
        if all.is_empty() {
            return Ok(());
        }
        let ledgers: Vec<i64> = all.iter().map(|volume| volume.ledger.0.into()).collect();
        let days: Vec<Date> = all.iter().map(|volume| Date(volume.day)).collect();
        let booked: Vec<Date> = all.iter().map(|volume| Date(volume.booked_day)).collect();
        let movements: Vec<i64> = all.iter().map(|volume| volume.movements).collect();
        let amounts: Vec<Numeric> = all.iter().map(|volume| volume.amount.into()).collect();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&ledgers, &days, &booked, &movements, &amounts];
        self.connection.execute(&self.volumes, &values).await?;
        Ok(())
    }

    /// Adds what has a time of business to its sums.
    async fn add_booked(&self, booked: &BookedSums) -> Result<(), Trouble> {
        let all = booked.all();
        if all.is_empty() {
            return Ok(());
        }
        let accounts: Vec<Uuid> = all.iter().map(|sum| Uuid(sum.account)).collect();
        let days: Vec<Date> = all.iter().map(|sum| Date(sum.first_day)).collect();
        let debits: Vec<Numeric> = all.iter().map(|sum| sum.debits.into()).collect();
        let credits: Vec<Numeric> = all.iter().map(|sum| sum.credits.into()).collect();
        self.connection.execute(&self.booked, &[&accounts, &days, &debits, &credits]).await?;
        Ok(())
    }

    /// Updates the balances, as of an offset: one statement, each account once.
    async fn merge(&self, changes: &Fold, next_offset: Offset) -> Result<(), Trouble> {
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
        let row = self
            .connection
            .query_one(
                &self.changes,
                &[
                    &ids,
                    &debits_pending,
                    &debits_posted,
                    &credits_pending,
                    &credits_posted,
                    &versions,
                    &closed,
                    &(next_offset.0 as i64),
                ],
            )
            .await?;
        let changed = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0); // a count
        if changed == all.len() {
            Ok(())
        } else {
            Err(missing("accounts", all.len(), changed).into())
        }
    }
}

/// The error for rows that the log changes and the table lacks.
fn missing(table: &str, expected: usize, found: usize) -> Fatal {
    let message = format!(
        "{} of {expected} rows of {table} that the log changes are missing: the tables were \
         changed by hand; `walengine-projector audit` lists them, `rebuild` recreates the tables",
        expected - found.min(expected)
    );
    Fatal::new(Reason::Schema, message)
}
