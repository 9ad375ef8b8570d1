//! A rebuild from a later position keeps a part of the old tables: rows of records before the
//! position, and accounts and reservations as they were there, summed up from those rows. What was
//! under way there and has its word by now is read from the log again. The audit that follows checks
//! all of it against the log.

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client as Postgres;
use walengine_net::client::ReadFrom;
use walengine_net::client::tokio::Client;
use walengine_net::entry::{EntryError, EntryHeader};
use walengine_net::model::{Offset, PartitionId, Timestamp};

use crate::copy::{HEADER, Rows, TRAILER};
use crate::database::{Database, columns, within};
use crate::facts::{self, Fact};
use crate::fatal::{Fatal, Reason};
use crate::history::Position;
use crate::tables::{
    self, ACCOUNT_EVENTS, ACCOUNT_MARKS, ACCOUNTS, ARRIVALS, BALANCE_MARKS, BOOKED_SUMS,
    DAILY_VOLUMES, OPAQUE_RECORDS, REFUSED_EVENTS, RESERVATIONS, TRANSFERS, UNDER_WAY,
};
use crate::trouble::Trouble;
use crate::{booked, position, schema, volumes};

/// Tables whose rows never change.
const UNCHANGING: [tables::Table; 4] = [ACCOUNT_EVENTS, REFUSED_EVENTS, OPAQUE_RECORDS, ARRIVALS];

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
    with_entry_at(client, partition, offset, |header, _| Ok(*header)).await
}

/// Does something with the entry that holds `offset`.
async fn with_entry_at<T>(
    client: &Client,
    partition: PartitionId,
    offset: Offset,
    work: impl FnOnce(&EntryHeader, &[u8]) -> Result<T, EntryError>,
) -> Result<T, Fatal> {
    let page = client.reading(ReadFrom::Linearizable).read_log(partition, offset, 1, &[]).await?;
    let bad = |error: EntryError| {
        let message = format!("partition {partition}: the server sent a bad entry: {error}");
        Fatal::new(Reason::DamagedFeed, message)
    };
    let Some((header, body)) = page.entries().next().transpose().map_err(bad)? else {
        let message = format!(
            "partition {partition} ends at offset {}: --from must name an earlier one",
            page.durable_offset
        );
        return Err(Fatal::new(Reason::Usage, message));
    };
    work(&header, body).map_err(bad)
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
    let kept = copy(old, fresh, &connection, client, partition, begin).await;
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
    client: &Client,
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
    for table in UNCHANGING.into_iter().chain([UNDER_WAY]) {
        connection.batch_execute(&rows_before(old, fresh, table, partition, offset)).await?;
    }
    ended_later(old, fresh, connection, client, partition, offset).await?;
    for statement in [transfers, reservations, accounts, volumes, booked_sums, marks] {
        connection.batch_execute(&statement(old, fresh, partition, offset)).await?;
    }
    Ok(true)
}

fn rows_before(
    old: &Database,
    fresh: &Database,
    table: tables::Table,
    partition: PartitionId,
    end: Offset,
) -> String {
    let (from, to) = (old.part(table.name, partition), fresh.part(table.name, partition));
    let columns = columns(&table);
    format!("INSERT INTO {to} ({columns}) SELECT {columns} FROM {from} WHERE log_offset < {end}")
}

/// Adds what was under way at `end` and has its word behind it.
async fn ended_later(
    old: &Database,
    fresh: &Database,
    connection: &Postgres,
    client: &Client,
    partition: PartitionId,
    end: Offset,
) -> Result<(), Trouble> {
    let ended = |table| {
        let from = old.part(table, partition);
        format!(
            "SELECT prepared_offset FROM {from} WHERE prepared_offset < {end} AND log_offset >= {end}"
        )
    };
    let all = [TRANSFERS, REFUSED_EVENTS, ARRIVALS].map(|table| ended(table.name)).join(" UNION ");
    let mut places = Vec::new();
    for row in connection.query(&format!("{all} ORDER BY 1"), &[]).await? {
        places.push(Offset(row.try_get::<_, i64>(0)?.unsigned_abs()));
    }
    let mut rows = Rows::default();
    let mut rest = places.as_slice();
    while let Some(&first) = rest.first() {
        let partitions = client.info().partitions;
        let behind = with_entry_at(client, partition, first, |header, body| {
            facts::for_each(header, body, partitions, |record| {
                if let Fact::Prepared(prepared) = &record.fact
                    && rest.binary_search(&record.offset).is_ok()
                {
                    tables::put_under_way(&mut rows, partition, prepared);
                }
                Ok::<_, EntryError>(())
            })?;
            Ok(rest.partition_point(|place| *place < header.next_offset()))
        });
        rest = &rest[behind.await?..];
    }
    let to = fresh.part(UNDER_WAY.name, partition);
    let copy = format!("COPY {to} ({}) FROM STDIN (FORMAT binary)", columns(&UNDER_WAY));
    let mut sink = std::pin::pin!(connection.copy_in(&copy).await?);
    for part in [&HEADER[..], rows.bytes(), &TRAILER] {
        sink.send(Bytes::copy_from_slice(part)).await?;
    }
    sink.finish().await?;
    Ok(())
}

/// In SQL, the in-transit account of the partition in one column and the ledger in another.
fn in_transit(other: &str, ledger: &str) -> String {
    let low = format!("lpad(to_hex({other}::bigint << 32 | {ledger}), 16, '0')");
    format!("('ffffffff00000000' || {low})::uuid")
}

fn transfers(old: &Database, fresh: &Database, partition: PartitionId, end: Offset) -> String {
    let (from, to) = (old.part(TRANSFERS.name, partition), fresh.part(TRANSFERS.name, partition));
    let (columns, kind) = (columns(&TRANSFERS), fresh.type_name("transfer_kind"));
    // Each schema may have its own type.
    let values = columns.replace("\"kind\"", &format!("kind::text::{kind}"));
    format!("INSERT INTO {to} ({columns}) SELECT {values} FROM {from} WHERE log_offset < {end}")
}

/// Of the transfers that are kept.
fn volumes(_: &Database, fresh: &Database, partition: PartitionId, _: Offset) -> String {
    format!(
        "INSERT INTO {} ({}) {}",
        fresh.part(DAILY_VOLUMES.name, partition),
        columns(&DAILY_VOLUMES),
        volumes::of_transfers(&fresh.part(TRANSFERS.name, partition), partition)
    )
}

/// Of the transfers and arrivals that are kept.
fn booked_sums(_: &Database, fresh: &Database, partition: PartitionId, _: Offset) -> String {
    let (movements, span) = (fresh.name("movements"), fresh.name("booked_span"));
    format!(
        "INSERT INTO {} ({}) {}",
        fresh.part(BOOKED_SUMS.name, partition),
        columns(&BOOKED_SUMS),
        booked::of_movements(&movements, &span, partition)
    )
}

/// They are of records that are kept, and the audit holds them against those.
fn marks(old: &Database, fresh: &Database, partition: PartitionId, end: Offset) -> String {
    let upto = Offset(end.0 + 1);
    let kept = |table| rows_before(old, fresh, table, partition, upto);
    format!("{}; {}", kept(ACCOUNT_MARKS), kept(BALANCE_MARKS))
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
    let (under_way, arrivals) = (part(fresh, UNDER_WAY.name), part(fresh, ARRIVALS.name));
    let (events, refused) = (part(fresh, ACCOUNT_EVENTS.name), part(fresh, REFUSED_EVENTS.name));
    // Where the account that lives elsewhere does.
    let to_other = in_transit("coalesce(transit_partition, other_partition)", "ledger");
    let held_for = in_transit("coalesce(t.transit_partition, t.other_partition)", "t.ledger");
    // Bits 4 and 8 of an event's flags: FORMAT.md, section 3.
    let is_no_end = "get_byte(body, 118) & 12 = 0";
    let from_home = in_transit("coalesce(transit_partition, home)", "ledger");
    // Of a chain: the debit account lives here, the credit account does, one of them does.
    let (debits, credits) = ("sides & 1 = 1", "sides & 2 = 2");
    let is_here = "sides IS DISTINCT FROM 0";
    // A gathering: flag 2048.
    let gives = "flags & 2048 <> 0";
    let columns = columns(&ACCOUNTS);
    let values = columns
        .replace("\"version\"", "coalesce(changed.count, 0) + coalesce(switched.count, 0)")
        .replace("\"closed\"", "coalesce(switched.closed, account.closed)")
        .replace("\"debits_pending\"", "coalesce(changed.debits_held, 0)")
        .replace("\"credits_pending\"", "coalesce(changed.credits_held, 0)")
        .replace("\"debits_posted\"", "coalesce(changed.debits, 0)")
        .replace("\"credits_posted\"", "coalesce(changed.credits, 0)");
    // What goes to another partition changes its accounts twice: it is prepared, and it ends. So does what has arrived
    // and was handed on. One that was refused has the ledger of its debit account, or it would not have been prepared.
    // The end of a reservation changes them once, and not at all if it was refused. A reservation that has arrived ends
    // by what comes from its own home, which is where its debit account lives. A gathering takes credits from the stripe
    // that gives, and leaves its debits alone.
    format!(
        "WITH moves (debit, credit, amount, held, changes) AS (
             SELECT NULL::uuid, debit_account_id, -amount, 0, 2 FROM {transfers} WHERE {gives}
             UNION ALL
             SELECT CASE WHEN {gives} THEN NULL WHEN sides IS NULL OR {debits} THEN debit_account_id ELSE {to_other} END,
                    CASE WHEN other_partition IS NULL OR {credits} THEN credit_account_id ELSE {to_other} END,
                    CASE WHEN kind IN ('transfer', 'post') THEN amount ELSE 0 END, 0,
                    CASE WHEN other_partition IS NULL OR kind NOT IN ('transfer', 'pending') THEN 1 ELSE 2 END
               FROM {transfers} WHERE {is_here}
             UNION ALL
             SELECT r.debit_account_id,
                    CASE WHEN t.other_partition IS NULL OR t.{credits} THEN r.credit_account_id ELSE {held_for} END,
                    0, r.amount, 0
               FROM {reservations} AS r JOIN {transfers} AS t ON t.kind = 'pending' AND t.id = r.id
              WHERE r.state = 'pending'
             UNION ALL
             SELECT CASE WHEN sides IS NULL OR {debits} THEN debit_account_id ELSE {to_other} END,
                    CASE WHEN {credits} THEN credit_account_id ELSE {to_other} END, 0, amount, 1
               FROM {under_way} WHERE {is_no_end} AND {is_here}
             UNION ALL
             SELECT CASE WHEN sides IS NULL OR {debits} THEN debit_account_id ELSE {to_other} END,
                    CASE WHEN {credits} THEN credit_account_id ELSE {to_other} END, 0, 0, 2
               FROM {refused} AS refused
                    JOIN {from} AS one ON one.id = CASE WHEN sides IS NULL OR {debits} THEN debit_account_id ELSE credit_account_id END
              WHERE other_partition IS NOT NULL AND {is_no_end} AND {is_here}
             UNION ALL
             SELECT CASE WHEN {debits} THEN debit_account_id ELSE {from_home} END,
                    CASE WHEN sides IS NULL OR {credits} THEN credit_account_id ELSE {from_home} END,
                    CASE WHEN kind IN ('transfer', 'post') THEN amount ELSE 0 END,
                    CASE WHEN kind = 'pending' AND NOT EXISTS (
                              SELECT FROM {arrivals} AS ending
                               WHERE ending.home = coalesce(arrived.transit_partition, arrived.home)
                                 AND ending.pending_id = arrived.id AND ending.sides IS NULL
                                 AND ending.verdict = 0)
                         THEN amount ELSE 0 END,
                    CASE WHEN other_partition IS NULL THEN 1 ELSE 2 END
               FROM {arrivals} AS arrived
              WHERE (verdict = 0 OR other_partition IS NOT NULL) AND {is_here}
         ), changed AS (
             SELECT id, sum(debit) AS debits, sum(credit) AS credits, sum(debit_held) AS debits_held,
                    sum(credit_held) AS credits_held, sum(changes) AS count
               FROM (SELECT debit AS id, amount AS debit, 0 AS credit, held AS debit_held,
                            0 AS credit_held, changes
                       FROM moves
                     UNION ALL
                     SELECT credit, 0, amount, 0, held, changes FROM moves) AS sides
              GROUP BY id
         ), switched AS (
             SELECT account_id, count(*),
                    (array_agg(kind = 'close' ORDER BY log_offset DESC))[1] AS closed
               FROM {events} WHERE kind IN ('close', 'reopen') GROUP BY account_id
         )
         INSERT INTO {to} ({columns})
         SELECT {values} FROM {from} AS account
                LEFT JOIN changed USING (id)
                LEFT JOIN switched ON switched.account_id = account.id
          WHERE account.log_offset < {end}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handmade::PARTITIONS;
    use crate::handmade::postgres::{Server, ask};
    use crate::handmade::stripes::log;

    /// Wherever the logs are cut. What was under way there is read from the log again: here it is as it was written.
    #[tokio::test]
    async fn accounts_are_summed_up_as_they_were_with_stripes_and_gatherings() {
        const ENTRIES: usize = 4;
        let server = Server::start("keep");
        let (old, _old) = server.write("whole", |partition| log(partition, ENTRIES)).await;
        for entries in 0..=ENTRIES {
            let logs = |partition| log(partition, entries);
            let (was, _was) = server.write(&format!("was_{entries}"), logs).await;
            let (fresh, connection) = server.schema(&format!("fresh_{entries}")).await;
            for partition in (0..PARTITIONS).map(PartitionId) {
                let position = position::read(&was, &connection, partition).await.unwrap();
                let end = position.next_offset;
                let rows = |table| rows_before(&old, &fresh, table, partition, end);
                let mut statements: Vec<String> = UNCHANGING.into_iter().map(rows).collect();
                statements.push(rows_before(&was, &fresh, UNDER_WAY, partition, end));
                for statement in
                    [transfers, reservations, accounts, super::volumes, booked_sums, marks]
                {
                    statements.push(statement(&old, &fresh, partition, end));
                }
                for statement in statements {
                    connection.batch_execute(&statement).await.unwrap();
                }
            }
            let moved = "SELECT * FROM daily_volumes ORDER BY partition, ledger, day, booked_day";
            let of = |database: &Database| {
                moved.replace("daily", &format!("\"{}\".daily", database.schema()))
            };
            assert_eq!(ask(&connection, &of(&fresh)).await, ask(&connection, &of(&was)).await);
            let (was, fresh) = (was.name("accounts"), fresh.name("accounts"));
            let all = format!("SELECT count(*) > 6 FROM {fresh}");
            assert_eq!(ask(&connection, &all).await, "t");
            for (one, other) in [(&was, &fresh), (&fresh, &was)] {
                // What is closed later is closed again by the log.
                let columns = columns(&ACCOUNTS).replace("\"closed\", ", "");
                let differs =
                    format!("SELECT {columns} FROM {one} EXCEPT SELECT {columns} FROM {other}");
                assert_eq!(ask(&connection, &differs).await, "", "{entries} entries, of {one}");
            }
        }
    }
}
