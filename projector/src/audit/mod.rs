//! Proves that the tables equal the log at the position that they claim.
//!
//! Each table is read over its own connection, all from one repeatable-read snapshot. The log is
//! read from its start and its chain is verified; every record is encoded as a row and compared
//! with the table's row, byte for byte. Accounts, reservations and what is under way are held in
//! memory. Projection continues meanwhile.
//!
//! What one partition has sent to another is then held against what has arrived there, in SQL: by then
//! each side's rows are what its log says.

mod across;
pub mod compare;
mod marks;
pub mod record;
mod rows;
mod state;
mod volumes;

use std::sync::Arc;

use walengine_net::client::tokio::Client;
use walengine_net::entry::EntryError;
use walengine_net::model::{Offset, PartitionId, Word};

use self::compare::{Comparison, TableReport};
use self::rows::TableRows;
use self::state::{Contradiction, KnownAccount, LedgerState};
use crate::across::Prepared;
use crate::copy::Rows;
use crate::database::{Connection, Database, within};
use crate::facts::{self, Fact, Movement, Record, Refusal};
use crate::fatal::{Fatal, Reason};
use crate::feed::{Feed, passes};
use crate::history::{History, HistoryError, Position};
use crate::metrics::PartitionMetrics;
use crate::position;
use crate::schema;
use crate::tables::{
    self, ACCOUNT_EVENTS, ACCOUNTS, ARRIVALS, OPAQUE_RECORDS, REFUSED_EVENTS, RESERVATIONS, TABLES,
    TRANSFERS, Table, UNDER_WAY,
};
use crate::trouble::{Herald, Trouble};

/// Result of the audit of a partition.
#[derive(Clone, Debug)]
pub struct PartitionReport {
    /// The partition.
    pub partition: PartitionId,
    /// First record that the tables don't claim to contain.
    pub position: Offset,
    /// Result for each table.
    pub tables: Vec<TableReport>,
    /// How many transfers to other partitions have no word yet, by the log.
    pub under_way: usize,
    /// Descriptions of the first rows that do not fit those of another partition.
    pub across: Vec<String>,
}

impl PartitionReport {
    /// Whether all tables equal the log, and fit those of other partitions.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(TableReport::is_equal) && self.across.is_empty()
    }

    /// How many rows differ. Of those that do not fit another partition's, the ones that are described count.
    pub fn differing(&self) -> u64 {
        let rows: u64 = self.tables.iter().map(|table| table.differing).sum();
        rows + self.across.len() as u64
    }
}

/// A snapshot that several connections share.
struct Snapshot {
    database: Database,
    first: Connection,
    id: String,
}

impl Snapshot {
    async fn take(database: &Database) -> Result<Self, Trouble> {
        let first = database.connect().await?;
        let begin = "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        within(first.batch_execute(begin)).await?;
        let row = within(first.query_one("SELECT pg_export_snapshot()", &[])).await?;
        Ok(Self { database: database.clone(), id: row.try_get(0)?, first })
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let connection = self.database.connect().await?;
        let begin = format!(
            "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             SET TRANSACTION SNAPSHOT '{}'",
            self.id
        );
        within(connection.batch_execute(&begin)).await?;
        Ok(connection)
    }
}

/// Audits every partition, and reports progress to `metrics`.
pub async fn audit(
    database: &Database,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
) -> Result<Vec<PartitionReport>, Fatal> {
    let snapshot = Snapshot::take(database).await?;
    schema::check(database, &snapshot.first, client.info()).await?;
    check_parts(&snapshot, metrics.len()).await?;
    for metrics in metrics {
        let position = position::read(database, &snapshot.first, metrics.partition).await?;
        metrics.log_reaches(position.next_offset);
    }
    let mut reports = Vec::new();
    for metrics in metrics {
        reports.push(audit_partition(&snapshot, client, metrics).await?);
    }
    for (partition, what) in across::differences(database, &snapshot.first).await? {
        if let Some(report) = reports.iter_mut().find(|report| report.partition == partition) {
            report.across.push(what);
        }
    }
    Ok(reports)
}

/// Checks that there are no further partitions of the tables: readers would see their rows, the
/// audit would not.
async fn check_parts(snapshot: &Snapshot, partitions: usize) -> Result<(), Trouble> {
    for table in TABLES {
        let name = snapshot.database.name(table.name);
        let count = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass($1)";
        let row = within(snapshot.first.query_one(count, &[&name])).await?;
        let found: i64 = row.try_get(0)?;
        if usize::try_from(found) != Ok(partitions) {
            let message = format!(
                "table {name} has {found} parts, the log {partitions} partitions: the tables were \
                 changed by hand; `walengine-projector rebuild` recreates them"
            );
            return Err(Fatal::new(Reason::Schema, message).into());
        }
    }
    Ok(())
}

async fn audit_partition(
    snapshot: &Snapshot,
    client: &Client,
    metrics: &Arc<PartitionMetrics>,
) -> Result<PartitionReport, Fatal> {
    let (database, partition) = (&snapshot.database, metrics.partition);
    schema::check_columns(database, &snapshot.first, partition).await?;
    let position = position::read(database, &snapshot.first, partition).await?;
    Feed::new(client.clone(), partition, metrics.clone()).check(&position).await?;
    let mut log = LogSide {
        partition,
        partitions: client.info().partitions,
        position,
        state: LedgerState::default(),
        row: Rows::default(),
        streams: Streams::begin(snapshot, partition).await?,
    };
    log.read(client, metrics).await?;
    let LogSide { state, streams, .. } = log;
    let mut tables = streams.finish().await?;
    tables.insert(0, compare_accounts(snapshot, partition, &state).await?);
    tables.insert(2, compare_reservations(snapshot, partition, &state).await?);
    tables.push(compare_under_way(snapshot, partition, &state).await?);
    tables.push(volumes::compare(database, &snapshot.first, partition).await?);
    tables.extend(marks::compare(database, &snapshot.first, partition).await?);
    let (position, under_way) = (position.next_offset, state.under_way().len());
    Ok(PartitionReport { partition, position, tables, under_way, across: Vec::new() })
}

/// Tables whose rows come from single records, each with its own connection.
struct Streams {
    transfers: Comparison,
    account_events: Comparison,
    refused_events: Comparison,
    opaque_records: Comparison,
    arrivals: Comparison,
    /// Kept open until the streams have ended.
    _connections: Vec<Connection>,
}

impl Streams {
    async fn begin(snapshot: &Snapshot, partition: PartitionId) -> Result<Self, Trouble> {
        let mut connections = Vec::new();
        let mut begin = async |table| {
            let (comparison, connection) = begin(snapshot, partition, table).await?;
            connections.push(connection);
            Ok::<_, Trouble>(comparison)
        };
        let transfers = begin(TRANSFERS).await?;
        let account_events = begin(ACCOUNT_EVENTS).await?;
        let refused_events = begin(REFUSED_EVENTS).await?;
        let opaque_records = begin(OPAQUE_RECORDS).await?;
        let arrivals = begin(ARRIVALS).await?;
        Ok(Self {
            transfers,
            account_events,
            refused_events,
            opaque_records,
            arrivals,
            _connections: connections,
        })
    }

    async fn finish(self) -> Result<Vec<TableReport>, Trouble> {
        let mut reports = Vec::new();
        let Self { transfers, account_events, refused_events, opaque_records, arrivals, .. } = self;
        for comparison in [transfers, account_events, refused_events, opaque_records, arrivals] {
            reports.push(comparison.finish().await?);
        }
        Ok(reports)
    }
}

async fn begin(
    snapshot: &Snapshot,
    partition: PartitionId,
    table: Table,
) -> Result<(Comparison, Connection), Trouble> {
    let connection = snapshot.connect().await?;
    let rows = TableRows::begin(&snapshot.database, &connection, table, partition).await?;
    Ok((Comparison::new(table, rows), connection))
}

/// The side of the log in the comparison.
struct LogSide {
    partition: PartitionId,
    partitions: u16,
    position: Position,
    state: LedgerState,
    row: Rows,
    streams: Streams,
}

impl LogSide {
    /// Reads the log from its start to the position.
    async fn read(&mut self, client: &Client, metrics: &PartitionMetrics) -> Result<(), Fatal> {
        let cluster = client.info().cluster;
        let mut history = History::from(cluster, self.partition, &Position::START);
        let mut subscription = client.subscribe(self.partition, Offset(0));
        let mut herald = Herald::new(format!("walengine, partition {}", self.partition));
        while history.next_offset() < self.position.next_offset {
            let page = match subscription.next().await {
                Ok(page) => page,
                Err(error) if passes(&error) => {
                    herald.failed(&error.to_string()).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            herald.works();
            for entry in page.entries() {
                let (header, body) = entry.map_err(|error| self.damaged(&error.into()))?;
                if header.next_offset() > self.position.next_offset {
                    break;
                }
                if !history.take(&header, body).map_err(|error| self.damaged(&error))? {
                    continue;
                }
                let mut records = Vec::new();
                facts::for_each(&header, body, self.partitions, |record| {
                    records.push(record);
                    Ok::<_, EntryError>(())
                })
                .map_err(|error| self.damaged(&error.into()))?;
                for record in &records {
                    self.compare(record).await?;
                }
            }
            metrics.found(&Position { next_offset: history.next_offset(), ..self.position });
        }
        Ok(())
    }

    async fn compare(&mut self, record: &Record<'_>) -> Result<(), Fatal> {
        let partition = self.partition;
        let contradicts = |error: Contradiction| {
            Fatal::new(Reason::DamagedFeed, format!("partition {partition}, {error}"))
        };
        if let Fact::Ended { word, may_be_known } = &record.fact {
            match self.state.ended_by(word) {
                Some(ended) => self.compare_ended(record, word, &ended).await?,
                None if *may_be_known => {}
                None => return Err(contradicts(Contradiction(record.offset))),
            }
        }
        self.state.apply(record).map_err(contradicts)?;
        let Self { row, streams, .. } = self;
        row.clear();
        let comparison = match &record.fact {
            // Compared at the end, with the balances; what has ended, above.
            Fact::Created { .. }
            | Fact::Prepared(_)
            | Fact::Ended { .. }
            | Fact::Mail
            | Fact::Known => return Ok(()),
            Fact::Arrived(arrived) => {
                tables::put_arrival(row, record, arrived);
                &mut streams.arrivals
            }
            Fact::Moved(movement) => {
                tables::put_transfer(row, record, movement);
                &mut streams.transfers
            }
            Fact::Guarded(guard) => {
                tables::put_guard(row, record, guard);
                &mut streams.account_events
            }
            Fact::Closed(close) => {
                tables::put_close(row, record, close);
                &mut streams.account_events
            }
            Fact::Named(name) => {
                tables::put_name(row, record, name);
                &mut streams.account_events
            }
            Fact::Described(describe) => {
                tables::put_described(row, record, describe);
                &mut streams.account_events
            }
            Fact::Opaque { id, data } => {
                tables::put_opaque(row, record, *id, data);
                &mut streams.opaque_records
            }
            Fact::Refused(refusal) => {
                tables::put_refused(row, record, refusal);
                &mut streams.refused_events
            }
        };
        Ok(comparison.expect(record.offset.0, row).await?)
    }

    async fn compare_ended(
        &mut self,
        record: &Record<'_>,
        word: &Word,
        ended: &Prepared,
    ) -> Result<(), Fatal> {
        let Self { row, streams, .. } = self;
        row.clear();
        let comparison = if let Some(arrived) = ended.decided(word) {
            tables::put_arrival(row, record, &arrived);
            &mut streams.arrivals
        } else if word.verdict.is_ok() {
            tables::put_transfer(row, record, &Movement::settled(ended, word.amount));
            &mut streams.transfers
        } else {
            tables::put_refused(row, record, &Refusal::of_prepared(ended, word.verdict));
            &mut streams.refused_events
        };
        Ok(comparison.expect(record.offset.0, row).await?)
    }

    fn damaged(&self, error: &HistoryError) -> Fatal {
        let message = format!(
            "partition {}: the log that the server sent is damaged: {error}; check its node with \
             `walengine verify`",
            self.partition
        );
        Fatal::new(Reason::DamagedFeed, message)
    }
}

async fn compare_accounts(
    snapshot: &Snapshot,
    partition: PartitionId,
    state: &LedgerState,
) -> Result<TableReport, Trouble> {
    let rows = state.accounts().iter().map(|known| {
        let mut row = Rows::default();
        let KnownAccount { offset, time, created, home, state } = known;
        tables::put_account(&mut row, partition, *offset, *time, created, *home, state);
        (*offset, row)
    });
    compare_table(snapshot, partition, ACCOUNTS, rows).await
}

async fn compare_reservations(
    snapshot: &Snapshot,
    partition: PartitionId,
    state: &LedgerState,
) -> Result<TableReport, Trouble> {
    let rows = state.reservations().iter().map(|reservation| {
        let mut row = Rows::default();
        reservation.put(&mut row, partition);
        (reservation.offset, row)
    });
    compare_table(snapshot, partition, RESERVATIONS, rows).await
}

async fn compare_under_way(
    snapshot: &Snapshot,
    partition: PartitionId,
    state: &LedgerState,
) -> Result<TableReport, Trouble> {
    let rows = state.under_way().map(|prepared| {
        let mut row = Rows::default();
        tables::put_under_way(&mut row, partition, prepared);
        (prepared.across.prepared, row)
    });
    compare_table(snapshot, partition, UNDER_WAY, rows).await
}

/// Compares a table with the rows that it should have, in order of offset.
async fn compare_table(
    snapshot: &Snapshot,
    partition: PartitionId,
    table: Table,
    rows: impl Iterator<Item = (Offset, Rows)>,
) -> Result<TableReport, Trouble> {
    let (mut comparison, _connection) = begin(snapshot, partition, table).await?;
    for (offset, row) in rows {
        comparison.expect(offset.0, &row).await?;
    }
    comparison.finish().await
}

/// An error if anything differs.
pub fn verdict(reports: &[PartitionReport]) -> Result<(), Fatal> {
    if reports.iter().all(PartitionReport::is_equal) {
        return Ok(());
    }
    let tables_are_equal =
        |report: &PartitionReport| report.tables.iter().all(TableReport::is_equal);
    let message = if reports.iter().all(tables_are_equal) {
        "what one partition has sent is not what has arrived at another: the first differences are \
         listed above; the tables are what the logs say, so the logs contradict each other, and no \
         rebuild mends that"
    } else {
        "PostgreSQL differs from the log: the first differences are listed above; \
         `walengine-projector rebuild` recreates the tables"
    };
    Err(Fatal::new(Reason::Findings, message))
}
