//! Marks of all accounts of a partition: what each had moved before an offset. Functions count on from the nearest mark.
//!
//! They are taken beside the writer, on a connection of their own that is open as long as it takes, and from one snapshot: that
//! has the balances and the position that they are of, so a mark is exact, and nobody waits for it. A mark is for speed alone.
//! One that can't be taken is left out, and the next batch tries again.

use tokio::task::JoinSet;
use walengine_net::model::{Offset, PartitionId};

use crate::database::{Connection, Database};
use crate::limits::{MARK_ACCOUNTS_TIMES, MARK_LOOK_RECORDS, MARK_RECORDS_MIN};
use crate::tables::{ACCOUNT_MARKS, ACCOUNTS, BALANCE_MARKS, BOOKED_SUMS};
use crate::trouble::Trouble;

/// First account that is striped, and first that is in transit: FORMAT.md, section 3.
const STRIPED: &str = "'fffffffe-0000-0000-0000-000000000000'";
const IN_TRANSIT: &str = "'ffffffff-0000-0000-0000-000000000000'";

/// Takes marks of one partition while it is projected. Dropping it gives up the one that is being taken.
pub struct Marker {
    database: Database,
    partition: PartitionId,
    /// The next look is at this offset or behind it.
    next_look: Offset,
    work: JoinSet<Result<(), Trouble>>,
}

impl Marker {
    /// Takes none before much is written behind this position: a rebuild that puts its tables in place catches up with a little,
    /// and a mark would hold them meanwhile.
    pub fn new(database: Database, partition: PartitionId, next_offset: Offset) -> Self {
        let next_look = next_offset.plus(MARK_LOOK_RECORDS);
        Self { database, partition, next_look, work: JoinSet::new() }
    }

    /// A batch up to here was written. Takes a mark if the last one is far behind, and does not wait for it.
    pub fn written(&mut self, next_offset: Offset) {
        while let Some(ended) = self.work.try_join_next() {
            if let Ok(Err(trouble)) = ended {
                let partition = self.partition;
                let why = match trouble {
                    Trouble::Passing(why) => why,
                    Trouble::Lasting(fatal) => fatal.message,
                };
                tracing::warn!("partition {partition}: balances were not marked: {why}");
            }
        }
        if next_offset < self.next_look || !self.work.is_empty() {
            return;
        }
        self.next_look = next_offset.plus(MARK_LOOK_RECORDS);
        let (database, partition) = (self.database.clone(), self.partition);
        self.work.spawn(async move {
            let connection = database.connect().await?;
            if is_due(&database, &connection, partition).await? {
                take(&database, &connection, partition).await?;
            }
            Ok(())
        });
    }
}

/// Whether so much has been written since the last mark that another one costs little in proportion.
async fn is_due(
    database: &Database,
    connection: &Connection,
    partition: PartitionId,
) -> Result<bool, Trouble> {
    // An estimate is enough, and -1 if there is none.
    let statement = format!(
        "SELECT p.next_offset - coalesce((SELECT max(log_offset) FROM {marks}), 0)
                >= greatest({MARK_RECORDS_MIN}, {MARK_ACCOUNTS_TIMES} * greatest(
                       (SELECT reltuples::bigint FROM pg_class WHERE oid = '{accounts}'::regclass),
                       (SELECT accounts FROM {marks} ORDER BY log_offset DESC LIMIT 1)))
           FROM {positions} p WHERE p.partition = {partition}",
        marks = database.part(BALANCE_MARKS.name, partition),
        accounts = database.part(ACCOUNTS.name, partition),
        positions = database.name("positions"),
    );
    Ok(connection.query_one(&statement, &[]).await?.try_get(0)?)
}

/// Takes a mark of all accounts at the present position. Does nothing if there is one.
///
/// # Errors
/// Nothing was written.
pub async fn take(
    database: &Database,
    connection: &Connection,
    partition: PartitionId,
) -> Result<(), Trouble> {
    let part = |name| database.part(name, partition);
    let positions = database.name("positions");
    // The locks come before the snapshot: a rebuild that replaces the tables is before all of it, or behind.
    let begin = format!(
        "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ;
         LOCK TABLE {positions}, {}, {}, {}, {} IN ACCESS SHARE MODE",
        part(ACCOUNTS.name),
        part(ACCOUNT_MARKS.name),
        part(BALANCE_MARKS.name),
        part(BOOKED_SUMS.name),
    );
    let accounts = format!(
        "INSERT INTO {marks} (partition, account_id, log_offset, debits_posted, credits_posted, debits_booked, credits_booked)
         SELECT p.partition, s.* FROM {positions} p CROSS JOIN LATERAL (
                SELECT a.id, p.next_offset, a.debits_posted, a.credits_posted, coalesce(b.debits, 0), coalesce(b.credits, 0)
                  FROM {accounts} a LEFT JOIN (
                       SELECT account_id, sum(debits) AS debits, sum(credits) AS credits FROM {booked} GROUP BY 1) AS b
                    ON b.account_id = a.id
                 WHERE a.version > 0 AND a.id < {STRIPED}
                UNION ALL
                SELECT a.id, p.next_offset, b.debits, b.credits, b.debits_booked, b.credits_booked
                  FROM {accounts} a CROSS JOIN LATERAL {sums_before}(a.id, p.partition, p.next_offset) AS b
                 WHERE a.version > 0 AND a.id >= {STRIPED} AND a.id < {IN_TRANSIT}) AS s
          WHERE p.partition = {partition}
             ON CONFLICT DO NOTHING",
        marks = part(ACCOUNT_MARKS.name),
        accounts = part(ACCOUNTS.name),
        booked = part(BOOKED_SUMS.name),
        sums_before = database.name("sums_before"),
    );
    let all = format!(
        "INSERT INTO {} (partition, log_offset, accounts)
         SELECT p.partition, p.next_offset, (SELECT count(*) FROM {} WHERE version > 0 AND id < {IN_TRANSIT})
           FROM {positions} p WHERE p.partition = {partition}
             ON CONFLICT DO NOTHING",
        part(BALANCE_MARKS.name),
        part(ACCOUNTS.name),
    );
    connection.batch_execute(&begin).await?;
    let done = connection.batch_execute(&format!("{accounts}; {all}")).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.batch_execute(end).await;
    Ok(done.and(ended)?)
}
