//! What the database knows of the log's end: written every few seconds, so that `status`, and a projector
//! that starts while no server of walengine answers, have the last that was seen.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use walengine_net::model::{PartitionId, Timestamp};

use crate::audited::{self, Audits};
use crate::board::Board;
use crate::database::{Connection, Database, within};
use crate::fatal::Fatal;
use crate::history::Position;
use crate::limits::NOTE_EVERY;
use crate::metrics::{PartitionMetrics, now_nanos};
use crate::trouble::Trouble;
use crate::values::Time;
use crate::{position, schema};

/// What the database knows of a partition, beside its position. Times in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// The partition.
    pub partition: PartitionId,
    /// When its position was written.
    pub written_at: u64,
    /// Offset after the newest record of its log.
    pub log_end: Option<u64>,
    /// When that was heard of.
    pub seen_at: Option<u64>,
    /// Since when no server has answered.
    pub gone_since: Option<u64>,
    /// When all this was noted.
    pub noted_at: Option<u64>,
}

/// All partitions, by number.
pub async fn read(database: &Database, connection: &Connection) -> Result<Vec<Noted>, Trouble> {
    // The schema may be of a release that does not note it.
    let notes = database.name("log_ends");
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let row = within(connection.query_one(there, &[&notes])).await?;
    let columns = if row.try_get(0)? {
        format!(
            "n.log_end, n.seen_at, n.gone_since, n.noted_at
               FROM {} p LEFT JOIN {notes} n USING (partition)",
            database.name("positions")
        )
    } else {
        let none = "null::timestamptz";
        format!("null::bigint, {none}, {none}, {none} FROM {} p", database.name("positions"))
    };
    let statement = format!("SELECT p.partition, p.written_at, {columns} ORDER BY 1");
    let mut all = Vec::new();
    for row in within(connection.query(&statement, &[])).await? {
        let time =
            |at: usize| row.try_get::<_, Option<Time>>(at).map(|time| time.map(|time| time.0.0));
        let partition: i32 = row.try_get(0)?;
        all.push(Noted {
            partition: PartitionId(u16::try_from(partition).unwrap_or_default()),
            written_at: time(1)?.unwrap_or_default(),
            log_end: row.try_get::<_, Option<i64>>(2)?.map(i64::unsigned_abs),
            seen_at: time(3)?,
            gone_since: time(4)?,
            noted_at: time(5)?,
        });
    }
    Ok(all)
}

/// Puts what the database knows on the board, until somebody drops it because a server answers. Waits
/// for PostgreSQL without a word: whoever needs it tells what is wrong with it.
pub async fn remember(database: &Database, board: &Board) -> Infallible {
    let mut connection = None;
    loop {
        if let Ok((partitions, audits)) = known(database, &mut connection).await {
            // First: nobody shall see what PostgreSQL says beside a word that it does not answer.
            board.has_postgres(true);
            for (noted, position) in partitions {
                let seen = noted.log_end.zip(noted.seen_at);
                board.of(noted.partition).remembers(&position, seen, noted.gone_since);
            }
            board.audited(audits);
        } else {
            board.has_postgres(false);
            connection = None;
        }
        tokio::time::sleep(NOTE_EVERY).await;
    }
}

async fn known(
    database: &Database,
    kept: &mut Option<Connection>,
) -> Result<(Vec<(Noted, Position)>, Audits), Trouble> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(database.connect().await?),
    };
    let mut partitions = Vec::new();
    if schema::version(database, connection).await?.is_none() {
        return Ok((partitions, Audits::default())); // nothing was projected yet
    }
    for noted in read(database, connection).await? {
        let position = position::read(database, connection, noted.partition).await?;
        partitions.push((noted, position));
    }
    Ok((partitions, audited::read(database, connection).await?))
}

/// Writes what is known to the database every few seconds, for `status` and for people, and reads what it
/// says of audits. Nobody waits for it. Its failures are those of the writer, which reports them.
pub async fn write(database: Database, board: Board) -> Result<(), Fatal> {
    let mut kept = None;
    loop {
        if kept.is_none() {
            kept = database.connect().await.ok();
        }
        if let Some(connection) = &kept
            && exchange(&database, connection, &board).await.is_err()
        {
            kept = None;
        }
        tokio::time::sleep(NOTE_EVERY).await;
    }
}

async fn exchange(
    database: &Database,
    connection: &Connection,
    board: &Board,
) -> Result<(), Trouble> {
    note(database, connection, &board.partitions()).await?;
    board.audited(audited::read(database, connection).await?);
    Ok(())
}

async fn note(
    database: &Database,
    connection: &Connection,
    partitions: &[Arc<PartitionMetrics>],
) -> Result<(), Trouble> {
    let now = now_nanos();
    let before = |age: f64| {
        Time(Timestamp(now.saturating_sub(Duration::from_secs_f64(age).as_nanos() as u64)))
    };
    let seen: Vec<_> = partitions.iter().filter(|metrics| metrics.was_seen()).collect();
    let numbers: Vec<i32> = seen.iter().map(|metrics| metrics.partition.0.into()).collect();
    let ends: Vec<i64> = seen.iter().map(|metrics| metrics.log_end() as i64).collect();
    let times: Vec<Time> =
        seen.iter().map(|metrics| before(metrics.log_end_age_seconds())).collect();
    let gone: Vec<Option<Time>> =
        seen.iter().map(|metrics| metrics.engine_gone_seconds().map(before)).collect();
    let statement = format!(
        "INSERT INTO {} AS known (partition, log_end, seen_at, gone_since, noted_at)
         SELECT n.*, clock_timestamp()
           FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::timestamptz[]) AS n
         ON CONFLICT (partition) DO UPDATE SET log_end = excluded.log_end,
            seen_at = excluded.seen_at, gone_since = excluded.gone_since, noted_at = excluded.noted_at",
        database.name("log_ends")
    );
    within(connection.execute(&statement, &[&numbers, &ends, &times, &gone])).await?;
    Ok(())
}
