//! Writes down that an audit begins and how it ends, in table `audits`. It is for those who look later: an audit whose outcome can't be
//! written tells it all the same.
//!
//! ```text
//! begin ─ a row without an end ─ the audit ─ its outcome is printed ─ the row has it ─ the program ends
//!                                    └─ killed: the row stays without an end, and nobody takes it for passed
//! ```

use std::time::Instant;

use super::PartitionReport;
use crate::audited::Outcome;
use crate::database::{Database, within};
use crate::fatal::Fatal;
use crate::limits::{AUDIT_NOTED_WITHIN, AUDIT_SAID_CHARS_MAX, AUDITS_KEPT_MAX};
use crate::schema;
use crate::trouble::Trouble;
use crate::values::Uuid;

/// An audit that is being made.
pub struct Record {
    database: Database,
    begun: Instant,
    /// Its row, if that could be written.
    row: Option<Uuid>,
}

impl Record {
    /// Writes down that an audit begins. If that fails, the end tries to write all of it.
    pub async fn begin(database: &Database) -> Self {
        let mut record = Self::unbegun(database);
        record.row = bounded(record.insert()).await.unwrap_or_default();
        record
    }

    /// For what is written down only when it has ended.
    pub fn unbegun(database: &Database) -> Self {
        Self { database: database.clone(), begun: Instant::now(), row: None }
    }

    async fn insert(&self) -> Result<Option<Uuid>, Trouble> {
        let connection = self.database.connect().await?;
        let statement = format!(
            "INSERT INTO {} (program) VALUES ($1) RETURNING id",
            self.database.name("audits")
        );
        let program = env!("CARGO_PKG_VERSION");
        Ok(Some(within(connection.query_one(&statement, &[&program])).await?.try_get(0)?))
    }

    /// Writes down how it has ended.
    ///
    /// # Errors
    /// Why that could not be written, for people; nothing was changed then.
    pub async fn end(self, result: Result<&[PartitionReport], &Fatal>) -> Result<(), String> {
        bounded(self.update(result)).await.map_err(|trouble| {
            let why = match trouble {
                Trouble::Passing(why) => why,
                Trouble::Lasting(fatal) => fatal.message,
            };
            format!(
                "the outcome of this audit is not in table {}: {why}",
                self.database.name("audits")
            )
        })
    }

    async fn update(&self, result: Result<&[PartitionReport], &Fatal>) -> Result<(), Trouble> {
        let connection = self.database.connect().await?;
        if let Some(why) = &connection.read_only {
            return Err(Trouble::Passing(why.clone()));
        }
        if schema::version(&self.database, &connection).await? != Some(schema::VERSION) {
            return Ok(()); // what the audit itself has failed for
        }
        let (outcome, said) = told(result);
        let reports = result.ok();
        let differences = reports.map(|reports| {
            i64::try_from(reports.iter().map(PartitionReport::differing).sum::<u64>())
                .unwrap_or(i64::MAX)
        });
        let next_offsets: Option<Vec<i64>> =
            reports.map(|reports| reports.iter().map(|report| report.position.0 as i64).collect());
        let table = self.database.name("audits");
        // The row may be gone, by whoever cleans up.
        let statement = format!(
            "WITH known AS (
                 UPDATE {table} SET ended_at = clock_timestamp(), outcome = $2, said = $3, differences = $4, next_offsets = $5
                  WHERE id = $1 RETURNING id)
             INSERT INTO {table} (began_at, ended_at, outcome, said, differences, next_offsets, program)
             SELECT clock_timestamp() - make_interval(secs => $6), clock_timestamp(), $2::text, $3::text, $4::bigint,
                    $5::bigint[], $7::text
              WHERE NOT EXISTS (SELECT FROM known)"
        );
        let (name, seconds) = (outcome.name(), self.begun.elapsed().as_secs_f64());
        let program = env!("CARGO_PKG_VERSION");
        within(connection.execute(
            &statement,
            &[&self.row, &name, &said, &differences, &next_offsets, &seconds, &program],
        ))
        .await?;
        // Whoever may write, but not delete, leaves this to others.
        let old = format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY began_at DESC OFFSET {AUDITS_KEPT_MAX})"
        );
        let _ = within(connection.batch_execute(&old)).await;
        Ok(())
    }
}

/// Gives up on a PostgreSQL that does not answer: the outcome is known without it.
async fn bounded<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match tokio::time::timeout(AUDIT_NOTED_WITHIN, work).await {
        Ok(done) => done,
        Err(_) => Err(Trouble::Passing(format!("no answer within {AUDIT_NOTED_WITHIN:?}"))),
    }
}

/// The outcome, and the same in words.
fn told(result: Result<&[PartitionReport], &Fatal>) -> (Outcome, String) {
    let (outcome, said) = match result {
        Err(fatal) => (Outcome::Failed, fatal.message.clone()),
        Ok(reports) if reports.iter().all(PartitionReport::is_equal) => {
            (Outcome::Equal, "All tables are what the log says.".to_owned())
        }
        Ok(reports) => {
            let lines = reports.iter().flat_map(|report| {
                let rows = report.tables.iter().flat_map(|table| &table.differences);
                let partition = report.partition;
                rows.chain(&report.across).map(move |what| format!("partition {partition}, {what}"))
            });
            (Outcome::Different, lines.collect::<Vec<_>>().join("\n"))
        }
    };
    let Some((end, _)) = said.char_indices().nth(AUDIT_SAID_CHARS_MAX) else {
        return (outcome, said);
    };
    (outcome, format!("{} ...", &said[..end]))
}
