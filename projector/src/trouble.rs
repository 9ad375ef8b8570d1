//! What goes wrong with PostgreSQL: what passes by itself, and what a person must mend.

use std::error::Error as _;
use std::time::{Duration, Instant};

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::fatal::{Fatal, Reason};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// A failure. The transaction that it met has changed nothing, unless it was the COMMIT.
#[derive(Debug)]
pub enum Trouble {
    /// It may pass: try again.
    Passing(String),
    /// It does not pass by itself.
    Lasting(Fatal),
}

impl Trouble {
    /// There is no connection.
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
    /// For commands that don't try again.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(why) => Self::new(
                Reason::Postgres,
                format!("PostgreSQL: {why}: see whether it runs, or name another with --postgres"),
            ),
            Trouble::Lasting(fatal) => fatal,
        }
    }
}

/// Classes and codes are those of the manual's appendix "PostgreSQL Error Codes".
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
        // A statement was prepared before its tables were replaced; the next connection is new.
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
                     `walengine-projector audit` shows rows that differ, `rebuild` makes them anew"
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

/// Pauses between attempts, each about twice the one before.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    /// Waits for the next pause: between half of it and all of it, by chance.
    pub async fn pause(&mut self) {
        let chance = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
        let part = 0.5 + f64::from(chance % 1_000) / 2_000.0;
        tokio::time::sleep(self.0.mul_f64(part)).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

/// Says that something fails, once, and that it works again.
#[derive(Debug)]
pub struct Herald {
    /// Who fails, for the sentence "... does not ...".
    whom: String,
    since: Option<Instant>,
    backoff: Backoff,
}

impl Herald {
    /// Nothing has failed yet.
    pub fn new(whom: impl Into<String>) -> Self {
        Self { whom: whom.into(), since: None, backoff: Backoff::default() }
    }

    /// It has failed: says so if it did not before, and pauses.
    pub async fn failed(&mut self, why: &str) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!("{}: {why}; trying again until it works", self.whom);
        }
        self.backoff.pause().await;
    }

    /// It works.
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

    /// It has failed and not worked since.
    pub fn is_failing(&self) -> bool {
        self.since.is_some()
    }
}
