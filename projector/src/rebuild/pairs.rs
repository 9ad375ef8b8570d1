//! Tables that are replaced, each with the one that takes its place.

use tokio_postgres::Client;

use crate::database::{Database, within};
use crate::schema::own;
use crate::trouble::Trouble;

/// A table that is replaced, and the one that takes its place.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Name of both, without the schema.
    pub name: String,
    /// The table that is replaced.
    pub old: u32,
    /// The one that takes its place.
    pub new: u32,
}

/// How much of the schema is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The partitions of the tables. The tables themselves stay, and all that hangs on them.
    Parts,
    /// Tables, views and function, because the tables are not what this program makes.
    Everything,
}

/// All pairs of tables, found by name.
pub async fn pairs(
    old: &Database,
    fresh: &Database,
    client: &Client,
    extent: Extent,
) -> Result<Vec<Pair>, Trouble> {
    let statement = "SELECT o.relname::text, o.oid, n.oid
          FROM pg_class o JOIN pg_class n USING (relname)
         WHERE o.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
           AND n.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $2)
           AND (o.relname ~ $3 OR $4 AND o.relname = ANY ($5)) ORDER BY 1";
    let all = extent == Extent::Everything;
    let (schema, to, parts, names) = (old.schema(), fresh.schema(), own::parts(), own::relations());
    let rows = within(client.query(statement, &[&schema, &to, &parts, &all, &names])).await?;
    let pair = |row: &tokio_postgres::Row| {
        Ok(Pair { name: row.try_get(0)?, old: row.try_get(1)?, new: row.try_get(2)? })
    };
    rows.iter().map(pair).collect()
}
