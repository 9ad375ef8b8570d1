//! What is carried over from replaced tables to their successors: whatever `pg_dump` writes about a
//! table and somebody may have set, except for what stops a rebuild (see [`super::dependents`]).
//!
//! What makes PostgreSQL write a table anew is done while nobody uses it ([`shape`], [`indexes`]), the
//! rest under the lock of the exchange ([`settings`]).

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::pairs::{Extent, Pair};
use crate::database::{Database, within};
use crate::schema::own;
use crate::trouble::Trouble;

/// Indexes that somebody has added to a table, and how to make them for its successor.
const INDEXES: &str = include_str!("carried_indexes.sql");
/// How the files of a table and of its indexes are kept.
const SHAPE: &str = include_str!("carried_shape.sql");
/// Everything else of a table and its indexes.
const SETTINGS: &str = include_str!("carried_settings.sql");
/// What is set for the functions and the types.
const OTHERS: &str = include_str!("carried_others.sql");

/// What is carried over, for people.
pub async fn told(
    client: &Client,
    schema: &str,
    pairs: &[Pair],
    extent: Extent,
) -> Result<Vec<String>, Trouble> {
    let mut found = Vec::new();
    for pair in pairs {
        let mut set = Vec::new();
        for query in [INDEXES, SHAPE] {
            set.extend(carried(client, query, &[&pair.old, &pair.new]).await?);
        }
        set.extend(carried(client, SETTINGS, &[&pair.old, &pair.new, &"", &""]).await?);
        found.extend(set.into_iter().map(|one| format!("{} of {schema}.{}", one.what, pair.name)));
    }
    if extent == Extent::Everything {
        found.extend(others(client, schema).await?.into_iter().map(|one| one.what));
    }
    Ok(found)
}

/// Takes over what is known of audits. Where the old table is not what this program makes, that stays with it.
pub async fn audits(client: &Client, old: &Database, fresh: &Database) -> Result<(), Trouble> {
    let (from, to) = (old.name("audits"), fresh.name("audits"));
    let carry = format!(
        "DO $$ BEGIN
             INSERT INTO {to} SELECT * FROM {from} ON CONFLICT DO NOTHING;
         EXCEPTION WHEN undefined_table OR datatype_mismatch OR syntax_error OR integrity_constraint_violation THEN NULL;
         END $$"
    );
    within(client.batch_execute(&carry)).await
}

/// Keeps the files of the new tables as those of the old ones are kept. Best done before they are
/// filled.
pub async fn shape(client: &Client, pairs: &[Pair]) -> Result<(), Trouble> {
    run_each(client, pairs, SHAPE).await
}

/// Makes the indexes that somebody has added to the old tables on the new ones, before anything is
/// locked.
pub async fn indexes(client: &Client, pairs: &[Pair]) -> Result<(), Trouble> {
    run_each(client, pairs, INDEXES).await?;
    shape(client, pairs).await
}

async fn run_each(client: &Client, pairs: &[Pair], query: &str) -> Result<(), Trouble> {
    for pair in pairs {
        for Carried { what, statement } in carried(client, query, &[&pair.old, &pair.new]).await? {
            tracing::info!("{what} of {}: the same for the new table", pair.name);
            // It takes as long as the table is large.
            within(client.batch_execute("SET statement_timeout = 0")).await?;
            client.batch_execute(&statement).await?;
        }
    }
    Ok(())
}

/// Statements that give the new tables everything else, once they are in place: the new ones in
/// `schema`, the old ones in `replaced`. Read with the old tables locked, so that nothing is missed.
pub async fn settings(
    client: &Client,
    schema: &str,
    replaced: &str,
    pairs: &[Pair],
    extent: Extent,
) -> Result<Vec<String>, Trouble> {
    let mut found = Vec::new();
    for pair in pairs {
        found.extend(carried(client, SETTINGS, &[&pair.old, &pair.new, &schema, &replaced]).await?);
    }
    if extent == Extent::Everything {
        found.extend(others(client, schema).await?);
    }
    Ok(found.into_iter().map(|one| one.statement).collect())
}

/// Of the functions and the types.
async fn others(client: &Client, schema: &str) -> Result<Vec<Carried>, Trouble> {
    carried(client, OTHERS, &[&schema, &own::functions(), &own::TYPES.to_vec()]).await
}

/// Something that somebody has set.
struct Carried {
    /// For people.
    what: String,
    /// Sets it.
    statement: String,
}

async fn carried(
    client: &Client,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Carried>, Trouble> {
    let rows = within(client.query(query, parameters)).await?;
    let read = |row: &Row| Ok(Carried { what: row.try_get(0)?, statement: row.try_get(1)? });
    rows.iter().map(read).collect()
}
