//! Finds a pooler that lends its sessions out for a transaction only, such as pgbouncer with
//! `pool_mode=transaction`. The projector holds locks, settings and prepared statements in a session
//! of its own, which such a pooler gives to others in between.

use tokio_postgres::SimpleQueryMessage;

use crate::database::{Connection, Database, within};
use crate::fatal::{Fatal, Reason};
use crate::trouble::{Trouble, pooled};

/// Times that a session is looked at.
const LOOKS: usize = 3;

/// An error if two connections share a session, or if one changes its session.
pub async fn refuse(database: &Database) -> Result<(), Trouble> {
    // A role may have no room for two more connections, which are only for this.
    let (Ok(one), Ok(other)) = (database.connect().await, database.connect().await) else {
        return Ok(());
    };
    for _ in 0..LOOKS {
        let before = session(&one).await?;
        // A transaction of the other connection takes the session that is free, which is the last
        // one that was used.
        within(other.simple_query("BEGIN")).await?;
        let held = session(&other).await;
        let meanwhile = session(&one).await;
        within(other.simple_query("ROLLBACK")).await?;
        let (held, meanwhile) = (held?, meanwhile?);
        if before == held || before != meanwhile {
            let found = format!("sessions {before}, {held} and {meanwhile} for two connections");
            return Err(Fatal::new(Reason::Postgres, pooled(&found)).into());
        }
    }
    Ok(())
}

async fn session(connection: &Connection) -> Result<i64, Trouble> {
    for message in within(connection.simple_query("SELECT pg_backend_pid()")).await? {
        if let SimpleQueryMessage::Row(row) = message {
            return Ok(row.get(0).and_then(|pid| pid.parse().ok()).unwrap_or_default());
        }
    }
    Ok(0)
}
