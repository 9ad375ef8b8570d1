//! Puts the new tables in place, in one transaction and with bounded waits.
//!
//! Usually only the partitions change places: the tables, their views, grants and whatever somebody
//! has attached to them stay as they are. Where the tables are not what this program makes, all of
//! them are replaced.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Client as Postgres;
use walengine_net::client::tokio::Client;
use walengine_net::model::Offset;

use super::carried;
use super::pairs::{self, Extent, Pair};
use super::plan::Rebuild;
use crate::database::{Connection, Database, within};
use crate::fatal::{Fatal, Reason};
use crate::limits::{SWAP_CATCH_UP_WITHIN, SWAP_LOCK_WITHIN, SWAP_RETRY_EVERY, SWAP_WITHIN};
use crate::metrics::PartitionMetrics;
use crate::schema::{self, own};
use crate::tables::{PART, TABLES};
use crate::trouble::Trouble;
use crate::{position, service, waits};

/// Tries until the new tables are in place, or until what is in the way has stayed for too long.
pub async fn swap(
    rebuild: &Rebuild<'_>,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
    extent: Option<Extent>,
) -> Result<(), Fatal> {
    let begun = Instant::now();
    loop {
        let connection = rebuild.old.connect().await?;
        let lock = format!("SET lock_timeout = {}", SWAP_LOCK_WITHIN.as_millis());
        within(connection.batch_execute(&lock)).await?;
        let what = format!("replacing the tables of schema {}", rebuild.old.schema());
        let attempt = attempt(rebuild, &connection, client, metrics, extent);
        let (done, _) = waits::told(&rebuild.old, connection.pid, &what, attempt).await;
        let why = match done {
            Ok(()) => return Ok(()),
            Err(Trouble::Lasting(fatal)) => return Err(fatal),
            Err(Trouble::Passing(why)) => why,
        };
        drop(connection);
        let why = match waits::holders(&rebuild.old).await? {
            Some(holders) => format!("{why}: its tables are held by {holders}"),
            None => why,
        };
        if begun.elapsed() > SWAP_WITHIN {
            let message = format!(
                "the new tables are ready, but schema {} stayed in use for {SWAP_WITHIN:?} ({why}): \
                 nothing was changed; end that session, or wait for it, and run rebuild again, which \
                 goes on from here",
                rebuild.old.schema()
            );
            return Err(Fatal::new(Reason::Postgres, message));
        }
        tracing::warn!("{what}: {why}; trying again until {SWAP_WITHIN:?} have passed");
        tokio::time::sleep(SWAP_RETRY_EVERY).await;
        // What was written meanwhile is caught up without a lock.
        let reached = rebuild.reached(client).await?;
        service::catch_up(&rebuild.fresh, client, metrics, &reached).await?;
    }
}

async fn attempt(
    rebuild: &Rebuild<'_>,
    connection: &Connection,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
    extent: Option<Extent>,
) -> Result<(), Trouble> {
    within(connection.batch_execute("BEGIN")).await?;
    let done = replace(rebuild, connection, client, metrics, extent).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = within(connection.batch_execute(end)).await;
    done.and(ended)
}

async fn replace(
    rebuild: &Rebuild<'_>,
    connection: &Postgres,
    client: &Client,
    metrics: &[Arc<PartitionMetrics>],
    extent: Option<Extent>,
) -> Result<(), Trouble> {
    let Rebuild { old, fresh, replaced, .. } = rebuild;
    own::drop_schema(connection, replaced.schema()).await?;
    let Some(extent) = extent else {
        create_schema(connection, old.schema(), "read only.").await?;
        move_everything(connection, fresh.schema(), old.schema(), true).await?;
        return own::drop_schema(connection, fresh.schema()).await;
    };
    // Writers wait for the lock on positions before they look at any other table; those who wait for
    // a token look at the table log before that.
    let log = if extent == Extent::Everything { "log" } else { "positions" };
    within(connection.batch_execute(&lock_all(old, [log, "positions"].into_iter()))).await?;
    // Readers must not see an older state than before.
    let mut reached = Vec::new();
    for partition in client.info().partitions() {
        let position = position::read(old, connection, partition).await;
        let is_same = rebuild.is_same_history(partition);
        let next = position.map_or(Offset(0), |position| position.next_offset);
        reached.push(if is_same { next } else { Offset(0) });
    }
    let caught_up = service::catch_up(fresh, client, metrics, &reached);
    let Ok(caught_up) = tokio::time::timeout(SWAP_CATCH_UP_WITHIN, caught_up).await else {
        let why =
            format!("the log was not read to position {reached:?} within {SWAP_CATCH_UP_WITHIN:?}");
        return Err(Trouble::Passing(why));
    };
    caught_up?;
    let pairs = pairs::pairs(old, fresh, connection, extent).await?;
    within(connection.batch_execute(&locks(old, &pairs))).await?;
    let settings =
        carried::settings(connection, old.schema(), replaced.schema(), &pairs, extent).await?;
    create_schema(connection, replaced.schema(), "tables that a rebuild has replaced.").await?;
    match extent {
        Extent::Parts => exchange_parts(old, fresh, replaced, connection).await?,
        Extent::Everything => {
            let with_types = fresh.types() == fresh.schema();
            carried::audits(connection, old, fresh).await?;
            move_everything(connection, old.schema(), replaced.schema(), with_types).await?;
            move_everything(connection, fresh.schema(), old.schema(), with_types).await?;
            own::drop_schema(connection, fresh.schema()).await?;
        }
    }
    for statement in settings {
        within(connection.batch_execute(&statement)).await?;
    }
    Ok(())
}

/// Locks the tables among these that are there.
fn lock_all<'a>(old: &Database, names: impl Iterator<Item = &'a str>) -> String {
    let lock = |name: &str| {
        let place = old.name(name);
        format!(
            "IF to_regclass('{place}') IS NOT NULL THEN LOCK TABLE {place} IN ACCESS EXCLUSIVE MODE; \
             END IF; "
        )
    };
    let all: String = names.map(lock).collect();
    format!("DO $$ BEGIN {all} END $$")
}

/// Locks what is replaced. A view is not locked, but all tables below it are.
fn locks(old: &Database, pairs: &[Pair]) -> String {
    let tables = TABLES.iter().map(|table| table.name);
    let parts = pairs.iter().map(|pair| pair.name.as_str());
    lock_all(old, tables.chain(parts.filter(|name| !own::VIEWS.contains(name))))
}

async fn create_schema(connection: &Postgres, name: &str, what: &str) -> Result<(), Trouble> {
    if !schema::exists(connection, name).await? {
        within(connection.batch_execute(&format!("CREATE SCHEMA \"{name}\""))).await?;
    }
    within(connection.batch_execute(&own::mark(name, what))).await
}

/// The partitions of both schemas change places; the old ones are then no partitions any more.
async fn exchange_parts(
    old: &Database,
    fresh: &Database,
    replaced: &Database,
    connection: &Postgres,
) -> Result<(), Trouble> {
    let mut statements = Vec::new();
    for table in TABLES {
        let (place, from) = (old.name(table.name), fresh.name(table.name));
        for part in children(connection, &place).await? {
            statements.push(format!(
                "ALTER TABLE {place} DETACH PARTITION {0};
                 ALTER TABLE {0} SET SCHEMA \"{1}\";\n",
                old.name(&part),
                replaced.schema()
            ));
        }
        for part in children(connection, &from).await? {
            // As `suffix` makes it.
            let number = part.rsplit_once("_p").map_or("", |(_, number)| number);
            let number = number.trim_start_matches('0');
            let number = if number.is_empty() { "0" } else { number };
            statements.push(format!(
                "ALTER TABLE {from} DETACH PARTITION {0};
                 ALTER TABLE {0} SET SCHEMA \"{1}\";
                 ALTER TABLE {place} ATTACH PARTITION {2} FOR VALUES IN ({number});
                 ALTER TABLE {2} DROP CONSTRAINT {PART};\n",
                fresh.name(&part),
                old.schema(),
                old.name(&part)
            ));
        }
    }
    for table in ["log", "positions"] {
        let (place, from) = (old.name(table), fresh.name(table));
        statements
            .push(format!("DELETE FROM {place}; INSERT INTO {place} SELECT * FROM {from};\n"));
    }
    statements.push(format!("DELETE FROM {};\n", old.name("log_ends")));
    within(connection.batch_execute(&statements.concat())).await?;
    own::drop_schema(connection, fresh.schema()).await
}

async fn children(connection: &Postgres, table: &str) -> Result<Vec<String>, Trouble> {
    // Somebody's own table may be a part, too, and stays one.
    let statement =
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           JOIN pg_class p ON p.oid = i.inhparent AND p.relnamespace = c.relnamespace
          WHERE i.inhparent = to_regclass($1) AND c.relname ~ $2 ORDER BY 1";
    let rows = within(connection.query(statement, &[&table, &own::parts()])).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Moves all that the projector has made to another schema.
async fn move_everything(
    connection: &Postgres,
    from: &str,
    to: &str,
    with_types: bool,
) -> Result<(), Trouble> {
    let statement = "SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relname::text,
                            EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND conname = $4)
                       FROM pg_class c
                      WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                        AND relkind IN ('r', 'p', 'v') AND (relname ~ $2 OR relname = ANY ($3))";
    let (parts, names) = (own::parts(), own::relations());
    let mut statements = Vec::new();
    for row in within(connection.query(statement, &[&from, &parts, &names, &PART])).await? {
        let (kind, name, has_constraint): (String, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if has_constraint {
            statements.push(format!("ALTER TABLE \"{from}\".\"{name}\" DROP CONSTRAINT {PART};\n"));
        }
        statements.push(format!("ALTER {kind} \"{from}\".\"{name}\" SET SCHEMA \"{to}\";\n"));
    }
    // One that reads no table has no path.
    for (function, arguments) in own::FUNCTIONS {
        statements.push(format!(
            "DO $$ DECLARE it regprocedure := to_regprocedure('\"{from}\".{function}{arguments}');
             BEGIN IF it IS NOT NULL THEN
                 ALTER FUNCTION \"{from}\".{function}{arguments} SET SCHEMA \"{to}\";
                 IF (SELECT proconfig IS NOT NULL FROM pg_proc WHERE oid = it) THEN
                     ALTER FUNCTION \"{to}\".{function}{arguments} SET search_path = \"{to}\", pg_temp;
                 END IF;
             END IF; END $$;\n"
        ));
    }
    for kind in own::TYPES.iter().filter(|_| with_types) {
        statements.push(format!(
            "DO $$ BEGIN IF to_regtype('\"{from}\".{kind}') IS NOT NULL THEN
                 ALTER TYPE \"{from}\".{kind} SET SCHEMA \"{to}\";
             END IF; END $$;\n"
        ));
    }
    within(connection.batch_execute(&statements.concat())).await
}
