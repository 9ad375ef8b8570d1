//! What table `audits` says of the audits that were made: for metrics, for `status`, and for people. Written by
//! [`crate::audit::record`].

use crate::database::{Connection, Database, within};
use crate::trouble::Trouble;
use crate::values::Time;

/// How an audit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tables are what the log says.
    Equal,
    /// They are not, or what one partition has sent is not what has arrived at another.
    Different,
    /// It did not come to its end, so neither is known.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Equal, Self::Different, Self::Failed];

    /// As the table and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Failed => "failed",
        }
    }
}

/// An audit that has ended. Times in nanoseconds since 1970, by the clock of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began.
    pub began_at: u64,
    /// When it ended.
    pub ended_at: u64,
    /// How.
    pub outcome: Outcome,
    /// Rows that differ; `None` if it did not come to its end.
    pub differences: Option<u64>,
    /// Records below were compared, by partition; empty if it did not come to its end.
    pub next_offsets: Vec<u64>,
    /// Release of the program that made it.
    pub program: String,
}

/// What is known of audits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audits {
    /// The one that has ended last.
    pub last: Option<Ended>,
    /// When a later one began that has not ended: it runs, or was killed.
    pub unfinished: Option<u64>,
}

/// Reads what the table has; nothing if the schema is of a release without it.
pub async fn read(database: &Database, connection: &Connection) -> Result<Audits, Trouble> {
    let table = database.name("audits");
    let there = "SELECT to_regclass($1) IS NOT NULL";
    if !within(connection.query_one(there, &[&table])).await?.try_get::<_, bool>(0)? {
        return Ok(Audits::default());
    }
    let statement = format!(
        "SELECT a.began_at, a.ended_at, a.outcome, a.differences, a.next_offsets, a.program, u.began_at
           FROM (SELECT max(began_at) AS began_at FROM {table} WHERE ended_at IS NULL) AS u
           LEFT JOIN (SELECT * FROM {table} WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 1) AS a ON true"
    );
    let row = within(connection.query_one(&statement, &[])).await?;
    let time = |at: usize| Ok::<_, Trouble>(row.try_get::<_, Option<Time>>(at)?.map(|it| it.0.0));
    let name: Option<&str> = row.try_get(2)?;
    let outcome =
        name.and_then(|name| Outcome::ALL.into_iter().find(|outcome| outcome.name() == name));
    let last = match (time(0)?, time(1)?, outcome) {
        (Some(began_at), Some(ended_at), Some(outcome)) => Some(Ended {
            began_at,
            ended_at,
            outcome,
            differences: row.try_get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
            next_offsets: row
                .try_get::<_, Option<Vec<i64>>>(4)?
                .unwrap_or_default()
                .into_iter()
                .map(i64::unsigned_abs)
                .collect(),
            program: row.try_get(5)?,
        }),
        _ => None,
    };
    let ended = last.as_ref().map_or(0, |last| last.began_at);
    Ok(Audits { unfinished: time(6)?.filter(|began| *began > ended), last })
}
