//! Creates, upgrades and checks the tables. Migrations are numbered SQL files; each runs once, in
//! one transaction with the record of its number. They only go forward: a newer database is not
//! touched.

#[cfg(test)]
mod answers;
pub mod own;

use tokio_postgres::Client;
use walengine_net::client::ClusterInfo;
use walengine_net::model::{PartitionId, Verdict};

use crate::database::{Connection, Database, suffix, within};
use crate::fatal::{Fatal, Reason};
use crate::tables::{PART, TABLES};
use crate::trouble::Trouble;
use crate::values::Uuid;
use crate::waits;

/// All versions in order: number, name, statements.
const MIGRATIONS: [(i32, &str, &str); 12] = [
    (1, "tables", include_str!("001_tables.sql")),
    (2, "questions", include_str!("002_questions.sql")),
    (3, "what is known of the log", include_str!("003_log_ends.sql")),
    (4, "transfers between partitions", include_str!("004_across.sql")),
    (5, "reservations between partitions", include_str!("005_reservations.sql")),
    (6, "chains between partitions", include_str!("006_chains.sql")),
    (7, "chains through several partitions", include_str!("007_stops.sql")),
    (8, "striped accounts", include_str!("008_stripes.sql")),
    (9, "time of business, and answers at once", include_str!("009_answers.sql")),
    (10, "marks of balances", include_str!("010_marks.sql")),
    (11, "names", include_str!("011_names.sql")),
    (12, "audits, and answers in less time", include_str!("012_audits.sql")),
];
/// Versions that brought tables of partitions, with the statements for each partition.
const PARTS: [(i32, &str); 8] = [
    (1, include_str!("partition.sql")),
    (4, include_str!("004_partition.sql")),
    (5, include_str!("005_partition.sql")),
    (6, include_str!("006_partition.sql")),
    (7, include_str!("007_partition.sql")),
    (9, include_str!("009_partition.sql")),
    (10, include_str!("010_partition.sql")),
    (11, include_str!("011_partition.sql")),
];
/// Belongs to version 1; left out where the types of another schema are used.
const COLUMN_TYPES: &str = include_str!("001_types.sql");
const GRANTS: &str = include_str!("grants.sql");
/// The version that this program writes.
pub const VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// First key of the advisory lock under which the schema is changed.
const MIGRATION_LOCK: i32 = 0x5741_4c45;

/// Creates or upgrades the schema for a cluster. Two projectors at once wait for each other.
///
/// # Errors
/// [`Trouble::Lasting`] if the schema is newer, belongs to another cluster, or can't be created.
pub async fn prepare(
    database: &Database,
    connection: &Connection,
    cluster: &ClusterInfo,
) -> Result<(), Trouble> {
    let schema = database.schema();
    let found = version(database, connection).await?;
    refuse_newer(schema, found)?;
    let is_current = found == Some(VERSION)
        && partitions(connection, schema).await? == Some(cluster.partitions.into());
    if !is_current {
        if found.is_none() {
            own::refuse_to_share(connection, schema).await?;
        }
        let what = format!("preparing schema {schema}");
        let work = upgrade(database, connection, cluster);
        waits::told(database, connection.pid, &what, work).await.0?;
    }
    check_cluster(database, connection, cluster).await?;
    // If this fails, readers lack rights, but the projection can continue.
    let grants = GRANTS.replace("{schema}", &format!("\"{schema}\""));
    if let Err(error) = within(connection.batch_execute(&grants)).await {
        let why = Fatal::from(error).message;
        tracing::warn!("walengine_reader may not read schema {schema}: {why}");
    }
    Ok(())
}

/// Brings the schema to this program's version, in one transaction.
pub async fn upgrade(
    database: &Database,
    connection: &Connection,
    cluster: &ClusterInfo,
) -> Result<(), Trouble> {
    within(connection.batch_execute("BEGIN")).await?;
    let done = migrate(database, connection, cluster).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = within(connection.batch_execute(end)).await;
    done.and(ended)
}

/// Checks that the schema exists and fits this program and the cluster. Changes nothing.
pub async fn check(
    database: &Database,
    client: &Client,
    cluster: &ClusterInfo,
) -> Result<(), Trouble> {
    let schema = database.schema();
    let found = version(database, client).await?;
    refuse_newer(schema, found)?;
    if found != Some(VERSION) {
        let message = format!(
            "nothing is projected to schema {schema} of {} yet: run `walengine-projector` first",
            database.shown()
        );
        return Err(Fatal::new(Reason::Schema, message).into());
    }
    check_cluster(database, client, cluster).await
}

/// An error if the schema is of a later release.
pub fn refuse_newer(schema: &str, found: Option<i32>) -> Result<(), Fatal> {
    match found {
        Some(newer) if newer > VERSION => {
            let message = format!(
                "schema {schema} has version {newer}, this program supports {VERSION}: use the \
                 newer walengine-projector, or another schema with --schema"
            );
            Err(Fatal::new(Reason::Schema, message))
        }
        _ => Ok(()),
    }
}

/// Whether there is such a schema.
pub async fn exists(client: &Client, schema: &str) -> Result<bool, Trouble> {
    let statement = "SELECT FROM pg_namespace WHERE nspname = $1";
    Ok(within(client.query_opt(statement, &[&schema])).await?.is_some())
}

/// Version of the schema; `None` if it does not exist.
pub async fn version(database: &Database, client: &Client) -> Result<Option<i32>, Trouble> {
    let table = database.name("schema_versions");
    // Other programs have a table of this name, too.
    let statement = "SELECT count(*) = 3 FROM pg_attribute
                      WHERE attrelid = to_regclass($1)
                        AND attname IN ('version', 'name', 'applied_at')
                        AND to_regclass($2) IS NOT NULL";
    let positions = database.name("positions");
    let there = within(client.query_one(statement, &[&table, &positions])).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let row = within(client.query_one(&format!("SELECT max(version) FROM {table}"), &[])).await?;
    Ok(row.try_get(0)?)
}

async fn partitions(client: &Client, schema: &str) -> Result<Option<i32>, Trouble> {
    let row =
        within(client.query_opt(&format!("SELECT partitions FROM \"{schema}\".log"), &[])).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

async fn migrate(
    database: &Database,
    client: &Client,
    cluster: &ClusterInfo,
) -> Result<(), Trouble> {
    let schema = database.schema();
    within(
        client
            .execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", &[&MIGRATION_LOCK, &schema]),
    )
    .await?;
    if !exists(client, schema).await? {
        within(client.batch_execute(&format!("CREATE SCHEMA \"{schema}\""))).await?;
    }
    let path = if database.types() == schema {
        format!("\"{schema}\", pg_temp")
    } else {
        format!("\"{schema}\", \"{}\", pg_temp", database.types())
    };
    let comment = own::mark(schema, "read only.");
    let first = format!(
        "SET LOCAL search_path = {path};
         SET LOCAL statement_timeout = 0;
         {comment};
         CREATE TABLE IF NOT EXISTS schema_versions (
             version integer PRIMARY KEY,
             name text NOT NULL,
             applied_at timestamptz NOT NULL DEFAULT now()
         );
         COMMENT ON TABLE schema_versions IS 'Migrations that have run.';
         COMMENT ON COLUMN schema_versions.version IS 'Number of the migration.';
         COMMENT ON COLUMN schema_versions.name IS 'Name of the migration.';
         COMMENT ON COLUMN schema_versions.applied_at IS 'When it ran.';"
    );
    within(client.batch_execute(&first)).await?;
    let found = version(database, client).await?;
    refuse_newer(schema, found)?;
    for (number, name, statements) in MIGRATIONS {
        if found.is_some_and(|found| found >= number) {
            continue;
        }
        if number == 1 && database.types() == schema {
            within(client.batch_execute(COLUMN_TYPES)).await?;
        }
        within(client.batch_execute(statements)).await?;
        let insert = "INSERT INTO schema_versions (version, name) VALUES ($1, $2)";
        within(client.execute(insert, &[&number, &name])).await?;
        tracing::info!("schema {schema}: version {number}, {name}");
    }
    name_verdicts(client).await?;
    let begins = begin_log(client, cluster).await?;
    let parts_of = if begins { None } else { found };
    make_parts(client, schema, parts_of).await?;
    if begins && database.types() != schema {
        // Proves later, without reading them, that all rows are of their partition.
        for partition in cluster.partitions() {
            for table in TABLES {
                let add = format!(
                    "ALTER TABLE {} ADD CONSTRAINT {PART} CHECK (partition = {})",
                    database.part(table.name, partition),
                    partition.0
                );
                within(client.batch_execute(&add)).await?;
            }
        }
    }
    Ok(())
}

/// Adds the verdicts that this program knows. A newer program adds its own.
async fn name_verdicts(client: &Client) -> Result<(), Trouble> {
    let numbers: Vec<i16> = Verdict::all().map(|verdict| verdict.number().into()).collect();
    let names: Vec<&str> = Verdict::all().map(Verdict::name).collect();
    let reasons: Vec<&str> = Verdict::all().map(Verdict::meaning).collect();
    let insert = "INSERT INTO verdicts SELECT * FROM unnest($1::smallint[], $2::text[], $3::text[])
                  ON CONFLICT (number) DO NOTHING";
    within(client.execute(insert, &[&numbers, &names, &reasons])).await?;
    Ok(())
}

/// False if it had begun before.
async fn begin_log(client: &Client, cluster: &ClusterInfo) -> Result<bool, Trouble> {
    let known = within(client.query_opt("SELECT FROM log", &[])).await?;
    if known.is_some() {
        return Ok(false); // `check_cluster` checks that it is the right one
    }
    let (id, count) = (Uuid(cluster.cluster.0), i32::from(cluster.partitions));
    let insert = "INSERT INTO log (cluster, partitions) VALUES ($1, $2)";
    within(client.execute(insert, &[&id, &count])).await?;
    for partition in cluster.partitions() {
        let insert = "INSERT INTO positions (partition, next_offset, entry_index, chain_hash)
                      VALUES ($1, 0, 0, decode(repeat('00', 32), 'hex'))";
        within(client.execute(insert, &[&i32::from(partition.0)])).await?;
    }
    Ok(true)
}

/// Makes the tables of the log's partitions that versions after `found` brought.
async fn make_parts(client: &Client, schema: &str, found: Option<i32>) -> Result<(), Trouble> {
    let partitions = partitions(client, schema).await?.unwrap_or_default();
    for (number, statements) in PARTS {
        if found.is_some_and(|found| found >= number) {
            continue;
        }
        for partition in 0..u16::try_from(partitions).unwrap_or_default() {
            let statements = statements
                .replace("{number}", &partition.to_string())
                .replace("{suffix}", &suffix(PartitionId(partition)));
            // It takes as long as the tables are large.
            client.batch_execute(&statements).await?;
        }
    }
    Ok(())
}

async fn check_cluster(
    database: &Database,
    client: &Client,
    cluster: &ClusterInfo,
) -> Result<(), Trouble> {
    let statement = format!("SELECT cluster, partitions FROM {}", database.name("log"));
    let row = within(client.query_opt(&statement, &[])).await?.ok_or_else(|| {
        let message = format!(
            "table {} is empty: it was changed by hand; `walengine-projector rebuild` recreates \
             the tables",
            database.name("log")
        );
        Fatal::new(Reason::Schema, message)
    })?;
    let (Uuid(id), count): (Uuid, i32) = (row.try_get(0)?, row.try_get(1)?);
    if id == cluster.cluster.0 && count == i32::from(cluster.partitions) {
        return Ok(());
    }
    let message = format!(
        "schema {} of {} is derived from cluster {id:032x} ({count} partitions), the server \
         belongs to cluster {:032x} ({} partitions): name that cluster's server with --server, or another \
         schema with --schema; if the log was restored and has a new id for that reason, \
         `walengine-projector rebuild --other-cluster` replaces the tables by what it says",
        database.schema(),
        database.shown(),
        cluster.cluster.0,
        cluster.partitions
    );
    Err(Fatal::new(Reason::OtherLog, message).into())
}

/// Checks that every column has the name and the type that this program writes.
pub async fn check_columns(
    database: &Database,
    client: &Client,
    partition: PartitionId,
) -> Result<(), Trouble> {
    let changed = |what: String| {
        let message = format!(
            "{what}: the tables were changed by hand; undo the change, or recreate them with \
             `walengine-projector rebuild`"
        );
        Trouble::from(Fatal::new(Reason::Schema, message))
    };
    for table in TABLES {
        let name = database.part(table.name, partition);
        let select = "SELECT attname::text, format_type(atttypid, atttypmod)
                        FROM pg_attribute
                       WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = within(client.query(select, &[&name])).await?;
        if rows.is_empty() {
            return Err(changed(format!("table {name} is missing")));
        }
        let mut found = std::collections::HashMap::<String, String>::new();
        for row in rows {
            found.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for (column, expected) in table.columns {
            match found.get(*column) {
                None => return Err(changed(format!("column {column} of {name} is missing"))),
                // The name of a type in the schema is qualified, unless the schema is in the search
                // path.
                Some(kind) if kind.rsplit('.').next() != Some(expected) => {
                    let what = format!("column {column} of {name} is {kind}, not {expected}");
                    return Err(changed(what));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use walengine_net::model::ClusterId;

    use super::*;
    use crate::handmade::PARTITIONS;
    use crate::handmade::postgres::{Server, ask};

    /// With views of somebody else's on those that change.
    #[tokio::test]
    async fn earlier_versions_are_upgraded_in_place_to_what_is_made_anew() {
        let server = Server::start("upgrade");
        let (fresh, connection) = server.schema("fresh").await;
        let old = fresh.with_schema("old");
        for before in [9, 11] {
            is_upgraded(&connection, &old, before).await;
            connection.batch_execute("DROP SCHEMA old CASCADE").await.unwrap();
        }
    }

    async fn is_upgraded(connection: &Connection, old: &Database, before: i32) {
        let cluster = ClusterInfo {
            cluster: ClusterId(7),
            partitions: PARTITIONS,
            server_version: String::new(),
        };
        let mut made = "CREATE SCHEMA old; SET search_path = old, pg_temp;
             CREATE TABLE schema_versions (version integer PRIMARY KEY, name text NOT NULL,
                                           applied_at timestamptz NOT NULL DEFAULT now());"
            .to_owned();
        made.push_str(COLUMN_TYPES);
        for (number, name, statements) in MIGRATIONS.into_iter().filter(|it| it.0 <= before) {
            made.push_str(statements);
            let noted = format!("INSERT INTO schema_versions VALUES ({number}, '{name}');");
            made.push_str(&noted);
        }
        connection.batch_execute(&made).await.unwrap();
        begin_log(connection, &cluster).await.unwrap();
        for (_, statements) in PARTS.into_iter().filter(|(number, _)| *number <= before) {
            for partition in 0..PARTITIONS {
                let statements = statements
                    .replace("{number}", &partition.to_string())
                    .replace("{suffix}", &suffix(PartitionId(partition)));
                connection.batch_execute(&statements).await.unwrap();
            }
        }
        let account = "INSERT INTO accounts VALUES (gen_random_uuid(), 3, now(), 2, 840, 1, 7, false, false, true,
                                                    1, 2, 3, 40)";
        connection.batch_execute(account).await.unwrap();
        let transfer = "INSERT INTO transfers (id, debit_account_id, credit_account_id, log_offset, time, ledger, partition, code, kind, flags, amount, booked_at)
             SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), n, '2026-01-01 22:00:00Z'::timestamptz + n * interval '1 hour',
                    840, 2, 7, CASE n WHEN 4 THEN 'pending' ELSE 'transfer' END::transfer_kind, CASE n WHEN 5 THEN 2048 ELSE 0 END, n,
                    CASE n WHEN 1 THEN '-infinity' WHEN 3 THEN '1993-03-01 00:00:00Z'::timestamptz END
               FROM generate_series(1, 5) n";
        connection.batch_execute(transfer).await.unwrap();
        let views = ["balances", "account_statements", "transfer_states", "spanning_transfers"];
        for view in views {
            let kept = format!("CREATE VIEW public.kept_{view} AS SELECT * FROM {view}");
            connection.batch_execute(&kept).await.unwrap();
        }
        let connection = old.connect().await.unwrap();
        prepare(old, &connection, &cluster).await.unwrap();
        assert_eq!(version(old, &connection).await.unwrap(), Some(VERSION));
        for view in views {
            connection.batch_execute(&format!("SELECT * FROM public.kept_{view}")).await.unwrap();
        }
        let kept = "SELECT balance, available, version, closed FROM public.kept_balances";
        assert_eq!(ask(&connection, kept).await, "38,37,2,t");
        let sums = "SELECT partition, first_day, count(*), sum(debits), sum(credits) FROM old.booked_sums GROUP BY 1, 2 ORDER BY 2";
        // Later ones have summed up as they wrote.
        let summed = if before < 10 { "2,-infinity,2,1,1\n2,1993-02-05,2,3,3" } else { "" };
        assert_eq!(ask(&connection, sums).await, summed);
        let functions = |schema: &str| {
            format!(
                "SELECT p.oid::regprocedure::text, provolatile, proparallel, prosrc, obj_description(p.oid),
                        ARRAY(SELECT c FROM unnest(proconfig) AS c WHERE c NOT LIKE 'search_path=%')
                   FROM pg_proc p WHERE pronamespace = '{schema}'::regnamespace ORDER BY proname, pronargs, 1"
            )
        };
        let made = ask(&connection, &functions("old")).await;
        let fresh_made = ask(&connection, &functions("fresh")).await.replace("fresh.", "");
        assert_eq!(made.replace("old.", ""), fresh_made);
        let indexes = |schema: &str| {
            format!("SELECT indexdef FROM pg_indexes WHERE schemaname = '{schema}' ORDER BY 1")
        };
        let made = ask(&connection, &indexes("old")).await;
        assert!(made.contains("(account_id, first_day)"), "{made}");
        assert_eq!(
            made.replace("old.", ""),
            ask(&connection, &indexes("fresh")).await.replace("fresh.", "")
        );
        let shape = |schema: &str| {
            format!(
                "SELECT table_name, column_name, data_type, numeric_precision, is_nullable, ordinal_position,
                        col_description(format('%I.%I', table_schema, table_name)::regclass, ordinal_position)
                   FROM information_schema.columns WHERE table_schema = '{schema}' AND table_name <> 'schema_versions'
                  ORDER BY 1, 6"
            )
        };
        let upgraded = ask(&connection, &shape("old")).await;
        assert!(upgraded.contains("account_stripes,partition,integer"), "{upgraded}");
        assert_eq!(upgraded, ask(&connection, &shape("fresh")).await);
        let undescribed =
            upgraded.lines().find(|line| line.ends_with(',') && !line.contains("transfer_states"));
        let undescribed = undescribed.filter(|line| !line.contains("_p0"));
        assert_eq!(undescribed, None, "every column has a comment");
    }
}
