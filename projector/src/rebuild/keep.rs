//! A rebuild from a later position keeps a part of the old tables: rows of records before the
//! position, and accounts and reservations as they were there, summed up from those rows. The audit
//! that follows checks all of it against the log.

use tokio_postgres::Client as Postgres;
use walengine_net::client::ReadFrom;
use walengine_net::client::tokio::Client;
use walengine_net::entry::EntryHeader;
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::database::{Database, columns, within};
use crate::fatal::{Fatal, Reason};
use crate::history::Position;
use crate::tables::{
    ACCOUNT_EVENTS, ACCOUNTS, OPAQUE_RECORDS, REFUSED_EVENTS, RESERVATIONS, TRANSFERS,
};
use crate::trouble::Trouble;
use crate::{position, schema};

/// Tables whose rows never change.
const UNCHANGING: [crate::tables::Table; 3] = [ACCOUNT_EVENTS, REFUSED_EVENTS, OPAQUE_RECORDS];

/// The position of `partition` at the start of the entry that holds `offset`.
pub async fn position_at(
    client: &Client,
    partition: PartitionId,
    offset: Offset,
) -> Result<Position, Fatal> {
    let header = entry_at(client, partition, offset).await?;
    let Some(last) = header.meta.base_offset.0.checked_sub(1) else { return Ok(Position::START) };
    let before = entry_at(client, partition, Offset(last)).await?;
    let records = u64::from(before.meta.records);
    Ok(Position {
        next_offset: before.next_offset(),
        index: before.meta.index,
        chain: before.chain,
        time: Some(Timestamp(before.meta.timestamp.0.saturating_add(records - 1))),
    })
}

async fn entry_at(
    client: &Client,
    partition: PartitionId,
    offset: Offset,
) -> Result<EntryHeader, Fatal> {
    let page = client.reading(ReadFrom::Linearizable).read_log(partition, offset, 1, &[]).await?;
    let entry = page.entries().next().transpose().map_err(|error| {
        let message = format!("partition {partition}: the server sent a bad entry: {error}");
        Fatal::new(Reason::DamagedFeed, message)
    })?;
    entry.map(|(header, _)| header).ok_or_else(|| {
        let message = format!(
            "partition {partition} ends at offset {}: --from must name an earlier one",
            page.durable_offset
        );
        Fatal::new(Reason::Usage, message)
    })
}

/// Copies the rows of records before `begin` from `old` to `fresh`, which is then at that position.
/// Does nothing if `fresh` has left its start: then an interrupted rebuild continues.
pub async fn keep(
    old: &Database,
    fresh: &Database,
    client: &Client,
    partition: PartitionId,
    begin: &Position,
) -> Result<(), Fatal> {
    let connection = fresh.connect().await?;
    schema::check(old, &connection, client.info()).await?;
    let reached = position::read(old, &connection, partition).await?.next_offset;
    if reached < begin.next_offset {
        let message = format!(
            "partition {partition}: the tables end at position {reached}: --from must name an \
             earlier one"
        );
        return Err(Fatal::new(Reason::Usage, message));
    }
    // Reservations may end during the copy, so everything is read from one snapshot.
    let start = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = 0";
    within(connection.batch_execute(start)).await?;
    let kept = copy(old, fresh, &connection, partition, begin).await;
    let end = if kept.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = within(connection.batch_execute(end)).await;
    if kept? {
        ended?;
        tracing::info!("partition {partition}: kept the rows before {}", begin.next_offset);
    }
    Ok(())
}

/// False if `fresh` is not at its start.
async fn copy(
    old: &Database,
    fresh: &Database,
    connection: &Postgres,
    partition: PartitionId,
    begin: &Position,
) -> Result<bool, Trouble> {
    // First, because this keeps other writers out.
    let advance = position::prepare(fresh, connection).await?;
    let start = &Position::START;
    if !position::advance(connection, &advance, partition, start, begin).await? {
        return Ok(false);
    }
    let offset = begin.next_offset;
    for table in UNCHANGING {
        let (from, to) = (old.part(table.name, partition), fresh.part(table.name, partition));
        let columns = columns(&table);
        let insert = format!(
            "INSERT INTO {to} ({columns}) SELECT {columns} FROM {from} WHERE log_offset < {offset}"
        );
        connection.batch_execute(&insert).await?;
    }
    for statement in [transfers, reservations, accounts] {
        connection.batch_execute(&statement(old, fresh, partition, offset)).await?;
    }
    Ok(true)
}

fn transfers(old: &Database, fresh: &Database, partition: PartitionId, end: Offset) -> String {
    let (from, to) = (old.part(TRANSFERS.name, partition), fresh.part(TRANSFERS.name, partition));
    let (columns, kind) = (columns(&TRANSFERS), fresh.type_name("transfer_kind"));
    // Each schema may have its own type.
    let values = columns.replace("\"kind\"", &format!("kind::text::{kind}"));
    format!("INSERT INTO {to} ({columns}) SELECT {values} FROM {from} WHERE log_offset < {end}")
}

fn reservations(old: &Database, fresh: &Database, partition: PartitionId, end: Offset) -> String {
    let name = RESERVATIONS.name;
    let (from, to) = (old.part(name, partition), fresh.part(name, partition));
    let (columns, state) = (columns(&RESERVATIONS), fresh.type_name("reservation_state"));
    let ended = format!("resolved_offset < {end}");
    let values = columns
        .replace("\"resolved_offset\"", &format!("CASE WHEN {ended} THEN resolved_offset END"))
        .replace("\"resolved_at\"", &format!("CASE WHEN {ended} THEN resolved_at END"))
        .replace(
            "\"state\"",
            &format!("(CASE WHEN {ended} THEN state::text ELSE 'pending' END)::{state}"),
        )
        .replace("\"amount_posted\"", &format!("CASE WHEN {ended} THEN amount_posted ELSE 0 END"));
    format!("INSERT INTO {to} ({columns}) SELECT {values} FROM {from} WHERE log_offset < {end}")
}

/// An account that was not closed or reopened before the position keeps its present flag. If it was
/// closed or reopened later, the replay sets the flag again; if never, the flag is that of its
/// creation.
fn accounts(old: &Database, fresh: &Database, partition: PartitionId, end: Offset) -> String {
    let part = |database: &Database, name| database.part(name, partition);
    let (from, to) = (part(old, ACCOUNTS.name), part(fresh, ACCOUNTS.name));
    let (transfers, reservations) = (part(fresh, TRANSFERS.name), part(fresh, RESERVATIONS.name));
    let events = part(fresh, ACCOUNT_EVENTS.name);
    let columns = columns(&ACCOUNTS);
    let values = columns
        .replace("\"version\"", "coalesce(moved.count, 0) + coalesce(switched.count, 0)")
        .replace("\"closed\"", "coalesce(switched.closed, account.closed)")
        .replace("\"debits_pending\"", "coalesce(held.debits, 0)")
        .replace("\"credits_pending\"", "coalesce(held.credits, 0)")
        .replace("\"debits_posted\"", "coalesce(moved.debits, 0)")
        .replace("\"credits_posted\"", "coalesce(moved.credits, 0)");
    format!(
        "WITH moves AS (
             SELECT debit_account_id, credit_account_id,
                    CASE WHEN kind IN ('transfer', 'post') THEN amount ELSE 0 END AS amount
               FROM {transfers}
         ), moved AS (
             SELECT id, sum(debit) AS debits, sum(credit) AS credits, count(*)
               FROM (SELECT debit_account_id AS id, moves.amount AS debit, 0 AS credit FROM moves
                     UNION ALL
                     SELECT credit_account_id, 0, moves.amount FROM moves) AS sides
              GROUP BY id
         ), held AS (
             SELECT id, sum(debit) AS debits, sum(credit) AS credits
               FROM (SELECT debit_account_id AS id, amount AS debit, 0 AS credit
                       FROM {reservations} WHERE state = 'pending'
                     UNION ALL
                     SELECT credit_account_id, 0, amount
                       FROM {reservations} WHERE state = 'pending') AS sides
              GROUP BY id
         ), switched AS (
             SELECT account_id, count(*),
                    (array_agg(kind = 'close' ORDER BY log_offset DESC))[1] AS closed
               FROM {events} WHERE kind IN ('close', 'reopen') GROUP BY account_id
         )
         INSERT INTO {to} ({columns})
         SELECT {values} FROM {from} AS account
                LEFT JOIN moved USING (id)
                LEFT JOIN held USING (id)
                LEFT JOIN switched ON switched.account_id = account.id
          WHERE account.log_offset < {end}"
    )
}
