//! What a rebuild is about to do, and whether it may: nothing is changed before that is certain.

use std::sync::Arc;

use walengine_net::client::tokio::Client;
use walengine_net::model::{ClusterId, Offset, PartitionId};

use super::pairs::Extent;
use crate::database::{Connection, Database, within};
use crate::fatal::{Fatal, Reason};
use crate::feed::Feed;
use crate::metrics::PartitionMetrics;
use crate::schema::{self, own};
use crate::tables::PART;
use crate::trouble::Trouble;
use crate::values::Uuid;
use crate::{position, service};

/// Suffix of the new schema's name.
const FRESH: &str = "_rebuild";
/// Suffix of the schema that gets the replaced tables; it is kept until the next rebuild.
const REPLACED: &str = "_old";

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Rows before these positions are kept and audited; partitions without one are replayed from
    /// the first record.
    pub from: Vec<(PartitionId, Offset)>,
    /// The remains of an interrupted rebuild are dropped first.
    pub anew: bool,
    /// What can't be carried over stays with the replaced tables, and stops nothing.
    pub leaves_behind: bool,
    /// The tables may be derived from another cluster's log.
    pub other_cluster: bool,
}

/// One rebuild.
pub struct Rebuild<'a> {
    /// The schema whose tables are replaced.
    pub old: Database,
    /// The schema that is filled.
    pub fresh: Database,
    /// The schema that gets the replaced tables.
    pub replaced: Database,
    choices: &'a Choices,
    /// Partitions whose old tables are not derived from the log as it is now.
    strayed: Vec<PartitionId>,
}

impl<'a> Rebuild<'a> {
    /// Finds out what there is.
    pub async fn of(
        database: &Database,
        connection: &Connection,
        choices: &'a Choices,
    ) -> Result<Self, Trouble> {
        let name = format!("{}{FRESH}", database.schema());
        // New partitions fit old tables if they have the same types.
        let fresh = if has_types(connection, database.schema()).await? {
            database.with_schema_of_same_types(&name)
        } else {
            database.with_schema(&name)
        };
        let replaced = database.with_schema(&format!("{}{REPLACED}", database.schema()));
        Ok(Self { old: database.clone(), fresh, replaced, choices, strayed: Vec::new() })
    }

    /// Whether the old tables of a partition are derived from the log as it is now.
    pub fn is_same_history(&self, partition: PartitionId) -> bool {
        !self.strayed.contains(&partition)
    }

    /// Refuses what must not be replaced, before anything is changed. False if there is nothing to
    /// replace.
    pub async fn check(
        &mut self,
        connection: &Connection,
        client: &Client,
        metrics: &[Arc<PartitionMetrics>],
    ) -> Result<bool, Fatal> {
        // A trial: the replaced tables of the last rebuild are still of use until the end.
        within(connection.batch_execute("BEGIN")).await?;
        let can_drop = own::drop_schema(connection, self.replaced.schema()).await;
        within(connection.batch_execute("ROLLBACK")).await?;
        can_drop?;
        let old = &self.old;
        let Some(version) = schema::version(old, connection).await? else {
            if self.is_there(connection).await? {
                own::refuse_strangers(old, connection).await?;
                return Ok(true); // damaged
            }
            own::refuse_to_share(connection, old.schema()).await?;
            return Ok(false);
        };
        schema::refuse_newer(old.schema(), Some(version))?;
        own::refuse_strangers(old, connection).await?;
        self.check_cluster(connection, client).await?;
        if version < schema::VERSION {
            schema::upgrade(old, connection, client.info()).await?;
        }
        for metrics in metrics {
            self.check_history(connection, client, metrics).await?;
        }
        Ok(true)
    }

    /// Whether the old schema has any table of the projector's beside which there are others of it:
    /// somebody else's table of the same name stands alone.
    async fn is_there(&self, connection: &Connection) -> Result<bool, Trouble> {
        let statement = "SELECT count(*) >= 6 FROM pg_class c
             WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
               AND (relname ~ $2 OR relname = ANY ($3))";
        let (schema, parts, names) = (self.old.schema(), own::parts(), own::relations());
        let row = within(connection.query_one(statement, &[&schema, &parts, &names])).await?;
        Ok(row.try_get(0)?)
    }

    async fn check_cluster(&self, connection: &Connection, client: &Client) -> Result<(), Fatal> {
        let statement = format!("SELECT cluster FROM {}", self.old.name("log"));
        let Ok(Some(row)) = within(connection.query_opt(&statement, &[])).await else {
            return Ok(()); // damaged: its successor will be in order
        };
        let Uuid(found): Uuid =
            row.try_get(0).map_err(|error| Fatal::from(Trouble::from(error)))?;
        let ClusterId(expected) = client.info().cluster;
        if found == expected || self.choices.other_cluster {
            return Ok(());
        }
        let message = format!(
            "schema {} is derived from cluster {found:032x}, the server belongs to cluster \
             {expected:032x}: nothing was changed; name that cluster's server with --server, or, if \
             its log was restored here and has a new id for that reason, say --other-cluster",
            self.old.schema()
        );
        Err(Fatal::new(Reason::OtherLog, message))
    }

    /// Finds out whether the old tables can be caught up with: not if the log was restored from an
    /// older copy. Then the new tables will show an older state, and the user learns why.
    async fn check_history(
        &mut self,
        connection: &Connection,
        client: &Client,
        metrics: &Arc<PartitionMetrics>,
    ) -> Result<(), Fatal> {
        let partition = metrics.partition;
        let position = position::read(&self.old, connection, partition).await;
        let Ok(position) = position else { return Ok(()) }; // damaged, or of a partition too many
        let feed = Feed::new(client.clone(), partition, metrics.clone());
        match feed.check(&position).await {
            Err(fatal) if fatal.reason == Reason::OtherLog => {
                tracing::warn!(
                    "{}. The new tables will show what the log says now; the old ones stay in schema \
                     {}",
                    cause(&fatal.message),
                    self.replaced.schema()
                );
                self.strayed.push(partition);
                Ok(())
            }
            result => result,
        }
    }

    /// Where the old tables are now, as far as the new ones must come.
    pub async fn reached(&self, client: &Client) -> Result<Vec<Offset>, Fatal> {
        let connection = self.old.connect().await?;
        let mut reached = Vec::new();
        for partition in client.info().partitions() {
            let position = position::read(&self.old, &connection, partition).await;
            let next = position.map_or(Offset(0), |position| position.next_offset);
            reached.push(if self.is_same_history(partition) { next } else { Offset(0) });
        }
        Ok(reached)
    }

    /// Makes the new schema, or continues with what an interrupted rebuild has left of it.
    pub async fn prepare_fresh(
        &self,
        connection: &Connection,
        client: &Client,
    ) -> Result<(), Fatal> {
        let fresh = &self.fresh;
        let mut drops = self.choices.anew;
        if !drops && schema::exists(connection, fresh.schema()).await? {
            drops = !self.fits(connection, client).await?;
            if drops {
                tracing::info!(
                    "schema {} was left by a rebuild that began otherwise: making it anew",
                    fresh.schema()
                );
            }
        }
        if drops {
            within(connection.batch_execute("BEGIN")).await?;
            let dropped = own::drop_schema(connection, fresh.schema()).await;
            let end = if dropped.is_ok() { "COMMIT" } else { "ROLLBACK" };
            within(connection.batch_execute(end)).await?;
            dropped?;
        }
        service::prepare(fresh, client).await
    }

    /// Whether what is left of an interrupted rebuild is of this log and has the right types.
    async fn fits(&self, connection: &Connection, client: &Client) -> Result<bool, Trouble> {
        let fresh = &self.fresh;
        if schema::version(fresh, connection).await? != Some(schema::VERSION)
            || schema::check(fresh, connection, client.info()).await.is_err()
        {
            return Ok(false);
        }
        let statement = format!(
            "SELECT (SELECT n.nspname = $1 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                       JOIN pg_namespace n ON n.oid = t.typnamespace
                      WHERE a.attrelid = to_regclass('{}') AND a.attname = 'kind')
                AND ($2 OR EXISTS (SELECT FROM pg_constraint
                                    WHERE conrelid = to_regclass('{}') AND conname = '{PART}'))",
            fresh.name("transfers"),
            fresh.part("transfers", PartitionId(0))
        );
        let owns_types = fresh.types() == fresh.schema();
        let row = within(connection.query_one(&statement, &[&fresh.types(), &owns_types])).await?;
        Ok(row.try_get::<_, Option<bool>>(0)?.unwrap_or(false))
    }

    /// How much has to be replaced: all of it if any table is not what this program makes.
    pub async fn extent(&self, connection: &Connection) -> Result<Extent, Trouble> {
        let shape = async |schema: &str| {
            let statement = "SELECT c.relname || '.' || a.attname, a.atttypid::bigint, a.atttypmod,
                                    a.attnotnull, c.relkind::text
                  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                   AND c.relname = ANY ($2) AND a.attnum > 0 AND NOT a.attisdropped
                UNION ALL SELECT proname, 0, 0, true, '' FROM pg_proc
                 WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
                   AND proname = ANY ($3)
                 ORDER BY 1";
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&schema, &own::relations(), &own::functions()];
            let mut found = Vec::new();
            for row in within(connection.query(statement, &parameters)).await? {
                let column: (String, i64, i32) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                found.push((column, row.try_get::<_, bool>(3)?, row.try_get::<_, String>(4)?));
            }
            Ok::<_, Trouble>(found)
        };
        let (found, expected) =
            (shape(self.old.schema()).await?, shape(self.fresh.schema()).await?);
        if found == expected {
            return Ok(Extent::Parts);
        }
        let differs = found.iter().find(|one| !expected.contains(one));
        let differs = differs.or_else(|| expected.iter().find(|one| !found.contains(one)));
        tracing::warn!(
            "schema {} is not as this program makes it ({} differs): replacing its tables and views \
             as a whole",
            self.old.schema(),
            differs.map_or("something", |one| one.0.0.as_str())
        );
        Ok(Extent::Everything)
    }
}

/// A message without its advice, which is what is being done.
fn cause(message: &str) -> &str {
    let end = message.find("; use ").or_else(|| message.find(": use "));
    &message[..end.unwrap_or(message.len())]
}

async fn has_types(connection: &Connection, schema: &str) -> Result<bool, Trouble> {
    let statement = "SELECT count(*) = 9 FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
         WHERE t.typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
           AND (t.typname = 'transfer_kind'
                AND e.enumlabel IN ('transfer', 'pending', 'post', 'void', 'expire')
                OR t.typname = 'reservation_state'
                AND e.enumlabel IN ('pending', 'posted', 'voided', 'expired'))";
    let row = within(connection.query_one(statement, &[&schema])).await?;
    Ok(row.try_get(0)?)
}
