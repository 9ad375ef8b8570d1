//! What the projector makes in its schema. Everything else there, and everything that depends on it
//! from elsewhere, belongs to somebody else: it is named, and never dropped.

use tokio_postgres::Client;

use crate::database::{Database, within};
use crate::fatal::{Fatal, Reason};
use crate::limits::LISTED_MAX;
use crate::tables::TABLES;
use crate::trouble::Trouble;

/// Tables beside those of [`TABLES`] and their parts.
pub const SMALL_TABLES: [&str; 6] =
    ["schema_versions", "log", "positions", "verdicts", "log_ends", "audits"];
/// Views, those that others are made of last.
pub const VIEWS: [&str; 15] = [
    "named_balances",
    "account_names",
    "ledgers",
    "transfer_states",
    "pending_transfers",
    "account_statements",
    "movements",
    "volume_by_day",
    "volume_by_booked_day",
    "newest_time",
    "balances",
    "account_stripes",
    "spanning_transfers",
    "in_transit",
    "trial_balance",
];
/// Types of columns.
pub const TYPES: [&str; 2] = ["transfer_kind", "reservation_state"];
/// The functions of readers, and their arguments.
pub const FUNCTIONS: [(&str, &str); 16] = [
    ("with_decimals", "(numeric, bigint)"),
    ("walengine_wait_for", "(text, interval)"),
    ("partition_of", "(uuid, integer)"),
    ("partition_of", "(uuid)"),
    ("offset_at", "(integer, timestamptz)"),
    ("booked_span", "(date)"),
    ("booked_bounds", "(timestamptz)"),
    ("sums_before", "(uuid, integer, bigint)"),
    ("posted_before", "(uuid, integer, bigint)"),
    ("booked_before", "(uuid, integer, timestamptz)"),
    ("balance_of", "(uuid)"),
    ("balance_at", "(uuid, timestamptz, text)"),
    ("balance_after", "(uuid, bigint)"),
    ("statement", "(uuid, timestamptz, timestamptz, text)"),
    ("newest_movements", "(uuid, integer)"),
    ("balances_at", "(timestamptz, text)"),
];
/// Begins the comment on every schema that the projector makes; see `schema::migrate`.
const MARK: &str = "Derived from a walengine log by walengine-projector";

/// Names of the functions.
pub fn functions() -> Vec<&'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name).collect()
}

/// Names of all tables and views, without those of partitions.
pub fn relations() -> Vec<&'static str> {
    let large = TABLES.iter().map(|table| table.name);
    SMALL_TABLES.into_iter().chain(large).chain(VIEWS).collect()
}

/// Regular expression of the names of partitions' tables.
pub fn parts() -> String {
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    format!("^({})_p[0-9]{{4,5}}$", names.join("|"))
}

/// Descriptions of what somebody else has put into the schema.
pub async fn foreign(client: &Client, schema: &str) -> Result<Vec<String>, Trouble> {
    // Members of an extension are told by the extension.
    let statement = "SELECT i.type || ' ' || i.identity
          FROM pg_depend d
          CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
          LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
          LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
          LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
         WHERE d.refclassid = 'pg_namespace'::regclass AND d.deptype = 'n'
           AND d.refobjid = (SELECT oid FROM pg_namespace WHERE nspname = $1)
           AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid
                              AND e.objid = d.objid AND e.deptype = 'e')
           AND NOT coalesce(c.relname = ANY ($2) OR c.relname ~ $3, false)
           AND NOT coalesce(t.typname = ANY ($4), false)
           AND NOT coalesce(p.proname = ANY ($5), false)
         ORDER BY 1";
    let (relations, parts, types) = (relations(), parts(), TYPES.to_vec());
    let rows =
        within(client.query(statement, &[&schema, &relations, &parts, &types, &functions()]))
            .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Refuses to begin in a schema that holds something. An empty one, made by an administrator, is
/// taken.
pub async fn refuse_to_share(client: &Client, schema: &str) -> Result<(), Trouble> {
    let mut found = foreign(client, schema).await?;
    if found.is_empty() {
        // Nothing was made here yet, so what has such a name is somebody else's.
        let statement = "SELECT 'table ' || c.relname FROM pg_class c
                          WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                            AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1";
        let rows = within(client.query(statement, &[&schema])).await?;
        found = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "schema {schema} holds what the projector did not make ({}): it needs a schema of its own; \
         name a new one with --schema",
        listed(&found)
    );
    Err(Fatal::new(Reason::Schema, message).into())
}

/// Drops a schema that the projector has made beside its own: its own tables one by one, so that
/// PostgreSQL refuses if anything of somebody else's is in it or depends on it. Does nothing if
/// there is no such schema. All in one transaction, or in the caller's.
pub async fn drop_schema(client: &Client, schema: &str) -> Result<(), Trouble> {
    let statement = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '')
                       FROM pg_namespace WHERE nspname = $1";
    let Some(row) = within(client.query_opt(statement, &[&schema])).await? else { return Ok(()) };
    let comment: String = row.try_get(0)?;
    let mut found = foreign(client, schema).await?;
    if !comment.starts_with(MARK) {
        found.push("the schema itself, which does not carry the projector's comment".to_owned());
    }
    if !found.is_empty() {
        let message = format!(
            "schema {schema} holds what the projector did not make ({}), so it is not dropped: move \
             that elsewhere, or rename the schema (ALTER SCHEMA {schema} RENAME TO ...), and run \
             this again",
            listed(&found)
        );
        return Err(Fatal::new(Reason::Schema, message).into());
    }
    let dropped = within(client.batch_execute(&drops(client, schema).await?)).await;
    dropped.map_err(|trouble| match trouble {
        Trouble::Lasting(fatal) if fatal.reason == Reason::Schema => {
            let message = format!(
                "schema {schema}, which an earlier rebuild has left, can't be dropped: {}",
                fatal.message
            );
            Fatal::new(Reason::Schema, message).into()
        }
        other => other,
    })
}

/// Statements that drop what is there, without CASCADE.
async fn drops(client: &Client, schema: &str) -> Result<String, Trouble> {
    let statement = "SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
                            string_agg(format('%I.%I', $1::text, c.relname), ', ')
                       FROM pg_class c
                      WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                        AND c.relkind IN ('r', 'p', 'v')
                      GROUP BY 1 ORDER BY 1 DESC";
    let mut statements = Vec::new();
    for row in within(client.query(statement, &[&schema])).await? {
        let (kind, names): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        statements.push(format!("DROP {kind} {names};\n"));
    }
    for (function, arguments) in FUNCTIONS {
        statements.push(format!("DROP FUNCTION IF EXISTS \"{schema}\".{function}{arguments};\n"));
    }
    for kind in TYPES {
        statements.push(format!("DROP TYPE IF EXISTS \"{schema}\".{kind};\n"));
    }
    statements.push(format!("DROP SCHEMA \"{schema}\";"));
    Ok(statements.concat())
}

/// Marks a schema as the projector's, so that a later rebuild may drop it.
pub fn mark(schema: &str, more: &str) -> String {
    format!("COMMENT ON SCHEMA \"{schema}\" IS '{MARK}; {more}'")
}

/// The schema of a database, without what somebody else has put there. Views may stand there: they
/// stay, and stay attached.
pub async fn refuse_strangers(database: &Database, client: &Client) -> Result<(), Trouble> {
    let mut found = foreign(client, database.schema()).await?;
    found.retain(|what| !what.starts_with("view ") && !what.starts_with("materialized view "));
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "schema {} holds what the projector did not make ({}), and a rebuild replaces only a schema \
         of its own: nothing was changed; move that elsewhere (ALTER ... SET SCHEMA ...), or project \
         to a new schema with --schema",
        database.schema(),
        listed(&found)
    );
    Err(Fatal::new(Reason::Schema, message).into())
}

/// The first of them, and how many more there are.
pub fn listed(all: &[String]) -> String {
    let shown = all.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}
