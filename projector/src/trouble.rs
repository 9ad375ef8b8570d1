//! Failures of PostgreSQL: those that pass by themselves, and those that a person must fix.

use std::error::Error as _;
use std::time::{Duration, Instant};

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::fatal::{Fatal, Reason};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// A failure. Its transaction has changed nothing, unless the COMMIT failed.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass by itself: try again.
    Passing(String),
    /// It does not pass by itself.
    Lasting(Fatal),
}

impl Trouble {
    /// The connection was lost.
    pub fn gone() -> Self {
        Self::Passing("the connection is gone".to_owned())
    }
}

impl From<Fatal> for Trouble {
    fn from(fatal: Fatal) -> Self {
        Self::Lasting(fatal)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => of_refusal(refusal),
            None => of_connection(&error),
        }
    }
}

impl From<Trouble> for Fatal {
    /// For commands that don't retry.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(why) => Self::new(
                Reason::Postgres,
                format!(
                    "PostgreSQL: {why}: check that it runs, or name another server with --postgres"
                ),
            ),
            Trouble::Lasting(fatal) => fatal,
        }
    }
}

/// For classes and codes see the manual's appendix "PostgreSQL Error Codes".
fn of_refusal(refusal: &DbError) -> Trouble {
    let (code, said) = (refusal.code().code(), refusal.message());
    let lasting = |reason, message: String| Trouble::Lasting(Fatal::new(reason, message));
    let class = code.get(..2).unwrap_or_default();
    match (class, code) {
        // Data corrupted, index corrupted.
        (_, "XX001" | "XX002") => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL's files are damaged ({said}): restore it, or `rebuild` from the log"
            ),
        ),
        // The tables were replaced after the statement was prepared. A new connection prepares it
        // again.
        (_, "0A000") if said.contains("cached plan") => Trouble::Passing(said.to_owned()),
        ("28", _) => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL refuses the login ({said}): check user and password (PGUSER, \
                 PGPASSWORD, --password-file, ~/.pgpass) and the server's pg_hba.conf"
            ),
        ),
        ("3D", _) => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL: {said}: create it with `createdb`, or name another with --postgres"
            ),
        ),
        (_, "42501") => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL: {said}: the projector's role must own its schema, and may need \
                 CREATE on the database to make it"
            ),
        ),
        ("42" | "3F" | "22" | "23" | "2B", _) => {
            let table = refusal.table().map_or(String::new(), |table| format!(", table {table}"));
            lasting(
                Reason::Schema,
                format!(
                    "PostgreSQL: {said} (code {code}{table}): the tables were changed by hand; \
                     `walengine-projector audit` shows rows that differ, `rebuild` recreates the \
                     tables"
                ),
            )
        }
        ("08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX", _) => {
            Trouble::Passing(format!("{said} (code {code})"))
        }
        _ => lasting(Reason::Postgres, format!("PostgreSQL: {said} (code {code})")),
    }
}

fn of_connection(error: &Error) -> Trouble {
    let mut said = error.to_string();
    let mut source = error.source();
    let mut is_tls = said.contains("does not support TLS");
    while let Some(cause) = source {
        is_tls |= cause.is::<rustls::Error>() || is_tls_inside(cause);
        let more = cause.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = cause.source();
    }
    if is_tls {
        let message = format!(
            "no TLS with PostgreSQL ({said}): check sslmode and sslrootcert (PGSSLMODE, PGSSLROOTCERT)"
        );
        return Trouble::Lasting(Fatal::new(Reason::Postgres, message));
    }
    if said.contains("password missing") || said.contains("invalid configuration") {
        let message = format!(
            "PostgreSQL asks for what is not set ({said}): set PGPASSWORD, --password-file or \
             ~/.pgpass"
        );
        return Trouble::Lasting(Fatal::new(Reason::Postgres, message));
    }
    Trouble::Passing(said)
}

/// tokio-rustls wraps its errors in I/O errors.
fn is_tls_inside(cause: &(dyn std::error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>();
    io.and_then(std::io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// Pauses between attempts, each about twice the previous one.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    /// Waits for a random time between half of the next pause and all of it.
    pub async fn pause(&mut self) {
        let chance = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
        let part = 0.5 + f64::from(chance % 1_000) / 2_000.0;
        tokio::time::sleep(self.0.mul_f64(part)).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

/// Logs once that something fails, and once that it works again.
#[derive(Debug)]
pub struct Herald {
    /// What fails; begins the message.
    whom: String,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Herald {
    /// For something that has not failed yet.
    pub fn new(whom: impl Into<String>) -> Self {
        Self { whom: whom.into(), since: None, backoff: Backoff::default() }
    }

    /// Logs the first of a series of failures, and pauses.
    pub async fn failed(&mut self, why: &str) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!("{}: {why}; trying again until it works", self.whom);
        }
        self.backoff.pause().await;
    }

    /// Logs the end of a series of failures.
    pub fn works(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(
                "{}: works again after {:.1} s",
                self.whom,
                since.elapsed().as_secs_f64()
            );
            self.backoff = Backoff::default();
        }
    }
}
