//! Says what a statement waits for in PostgreSQL, when that takes more than a few seconds: a lock,
//! with the session that holds it, or a synchronous standby that is missing.

use std::time::Instant;

use crate::database::{Database, within};
use crate::limits::WAIT_TOLD_AFTER;
use crate::trouble::Trouble;

/// Does some work of the connection with this number of a process. While the work waits for
/// something that has a name, the log says so: once for each name, and once that it goes on.
/// Returns the last name, too.
pub async fn told<T>(
    database: &Database,
    pid: i32,
    what: &str,
    work: impl Future<Output = T>,
) -> (T, Option<String>) {
    let mut work = std::pin::pin!(work);
    let begun = Instant::now();
    let mut told: Option<String> = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                if told.is_some() {
                    let seconds = begun.elapsed().as_secs_f64();
                    tracing::info!("{what}: has waited for {seconds:.1} s, and goes on");
                }
                return (result, told);
            }
            () = tokio::time::sleep(WAIT_TOLD_AFTER) => {}
        }
        // Asked beside the work, which may end meanwhile.
        let reason = tokio::select! {
            biased;
            result = &mut work => return (result, told),
            reason = reason(database, pid) => reason.unwrap_or_default(),
        };
        if let Some(reason) = reason
            && told.as_ref() != Some(&reason)
        {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::warn!("{what}: waits since {seconds:.0} s for {reason}");
            told = Some(reason);
        }
    }
}

/// What a process waits for, if it is somebody else.
async fn reason(database: &Database, pid: i32) -> Result<Option<String>, Trouble> {
    let connection = database.connect().await?;
    let row = within(connection.query_opt(REASON, &[&pid])).await?;
    let Some(row) = row else { return Ok(None) };
    let (event, blockers): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let standbys: Option<String> = row.try_get(2)?;
    Ok(match (event.as_deref(), blockers) {
        (Some("SyncRep"), _) => Some(format!(
            "a synchronous standby, and none answers: start one, or take it off PostgreSQL's \
             synchronous_standby_names (now '{}')",
            standbys.unwrap_or_default()
        )),
        (_, Some(blockers)) => Some(format!("a lock that is held by {blockers}")),
        (Some(event), None) if event.starts_with("BufferPin") => {
            Some(format!("PostgreSQL's {event}"))
        }
        _ => None,
    })
}

/// Sessions that hold locks on tables of the schema, for people; `None` if there is none.
pub async fn holders(database: &Database) -> Result<Option<String>, Trouble> {
    let connection = database.connect().await?;
    let row = within(connection.query_one(HOLDERS, &[&database.schema()])).await?;
    Ok(row.try_get(0)?)
}

const HOLDERS: &str = "
SELECT string_agg(format('session %s (%s, user %s, %s)', b.pid,
            coalesce(nullif(b.application_name, ''), b.backend_type, 'of another user'),
            coalesce(b.usename::text, 'unknown'), coalesce(b.state, 'state unknown')), ' and '
            ORDER BY b.pid)
  FROM pg_stat_activity b
 WHERE b.pid <> pg_backend_pid()
   AND b.pid IN (SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                  WHERE l.granted AND c.relnamespace =
                        (SELECT oid FROM pg_namespace WHERE nspname = $1)
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

const REASON: &str = "
SELECT a.wait_event,
       (SELECT string_agg(format('session %s (%s, user %s, %s)', b.pid,
                    coalesce(nullif(b.application_name, ''), b.backend_type, 'of another user'),
                    coalesce(b.usename::text, 'unknown'), coalesce(b.state, 'state unknown')), ' and '
                    ORDER BY b.pid)
          FROM pg_stat_activity b WHERE b.pid = ANY (pg_blocking_pids(a.pid))),
       current_setting('synchronous_standby_names', true)
  FROM pg_stat_activity a WHERE a.pid = $1";
