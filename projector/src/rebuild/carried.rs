//! What is carried over from replaced tables to their successors: whatever `pg_dump` writes about a
//! table and somebody may have set, except for what stops a rebuild (see [`super::dependents`]).
//!
//! What makes PostgreSQL write a table anew is done while nobody uses it ([`shape`], [`indexes`]), the
//! rest under the lock of the exchange ([`settings`]).

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::pairs::{Extent, Pair};
use crate::database::within;
use crate::schema::own;
use crate::trouble::Trouble;

/// Indexes that somebody has added to a table, and how to make them for its successor.
const INDEXES: &str = include_str!("carried_indexes.sql");
/// How the files of a table and of its indexes are kept.
const SHAPE: &str = include_str!("carried_shape.sql");
/// Everything else of a table and its indexes.
const SETTINGS: &str = include_str!("carried_settings.sql");
/// What is set for the function and the types.
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
        for statement in [INDEXES, SHAPE] {
            for row in within(client.query(statement, &[&pair.old, &pair.new])).await? {
                found.push(format!("{} of {schema}.{}", row.try_get::<_, String>(0)?, pair.name));
            }
        }
        for row in within(client.query(SETTINGS, &[&pair.old, &pair.new, &"", &""])).await? {
            found.push(format!("{} of {schema}.{}", row.try_get::<_, String>(0)?, pair.name));
        }
    }
    if extent == Extent::Everything {
        found.extend(others(client, schema).await?.into_iter().map(|(what, _)| what));
    }
    Ok(found)
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
        for row in within(client.query(query, &[&pair.old, &pair.new])).await? {
            let (what, statement): (String, String) = (row.try_get(0)?, row.try_get(1)?);
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
        let parameters: [&(dyn ToSql + Sync); 4] = [&pair.old, &pair.new, &schema, &replaced];
        for row in within(client.query(SETTINGS, &parameters)).await? {
            found.push(row.try_get(1)?);
        }
    }
    if extent == Extent::Everything {
        found.extend(others(client, schema).await?.into_iter().map(|(_, statement)| statement));
    }
    Ok(found)
}

/// Of the function and the types: for people, and as a statement.
async fn others(client: &Client, schema: &str) -> Result<Vec<(String, String)>, Trouble> {
    let (function, arguments) = own::FUNCTION;
    let types = own::TYPES.to_vec();
    let rows = within(client.query(OTHERS, &[&schema, &function, &arguments, &types])).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
