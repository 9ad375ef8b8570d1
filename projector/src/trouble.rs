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

    /// What it says.
    fn message(&self) -> &str {
        match self {
            Self::Passing(why) => why,
            Self::Lasting(fatal) => &fatal.message,
        }
    }

    /// With the reason of a further attempt, if that is another one.
    #[must_use]
    pub fn and_also(self, how: &str, other: &Self) -> Self {
        if self.message() == other.message() {
            return self;
        }
        let both = format!("{}; {how}: {}", self.message(), other.message());
        match (self, other) {
            (Self::Lasting(fatal), Self::Lasting(_)) => Fatal::new(fatal.reason, both).into(),
            _ => Self::Passing(both),
        }
    }

    /// Of all hosts together. While one of them may come back, that is waited for.
    pub fn of_all(troubles: Vec<(&str, Self)>) -> Self {
        let is_one = troubles.len() == 1;
        let mut all = troubles.into_iter().map(|(host, trouble)| {
            if is_one {
                return trouble;
            }
            let said = format!("{host}: {}", trouble.message());
            match trouble {
                Self::Passing(_) => Self::Passing(said),
                Self::Lasting(fatal) => Fatal::new(fatal.reason, said).into(),
            }
        });
        let first = all.next().unwrap_or_else(Self::gone);
        all.fold(first, |so_far, next| so_far.and_also("and", &next))
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
        // again. The name of the routine is the same in every language.
        (_, "0A000") if refusal.routine() == Some("RevalidateCachedQuery") => {
            Trouble::Passing(said.to_owned())
        }
        // Statements and settings of a session are gone: it was another session.
        ("26", _) | (_, "42P05") => lasting(Reason::Postgres, pooled(said)),
        // No PostgreSQL says this to a well-formed message, but poolers do.
        (_, "08P01") if said.contains("pool") || said.contains("startup parameter") => {
            lasting(Reason::Postgres, pooled(said))
        }
        (_, "25006") => Trouble::Passing(format!(
            "{said}: the server is a standby or is set to default_transaction_read_only"
        )),
        (_, "42939") => {
            lasting(Reason::Usage, format!("PostgreSQL: {said}: name another schema with --schema"))
        }
        // A lock was not given in time.
        (_, "55P03") => Trouble::Passing(format!("{said} (another session holds it)")),
        (_, "57014") => Trouble::Passing(format!("{said} (code {code})")),
        ("2B", _) => {
            let detail = refusal.detail().unwrap_or_default().replace('\n', ", ");
            lasting(
                Reason::Schema,
                format!(
                    "{said} ({detail}): nothing was dropped; drop that first, or move it to other \
                     tables, and run this again"
                ),
            )
        }
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
        (_, "42501") if refusal.routine() == Some("check_enable_rls") => lasting(
            Reason::Schema,
            format!(
                "PostgreSQL: {said}: policies must not hide rows from the projector; ALTER TABLE ... NO \
                 FORCE ROW LEVEL SECURITY, and connect as the role that owns the tables"
            ),
        ),
        (_, "42501") => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL: {said}: the projector's role must own its schema, and may need \
                 CREATE on the database to make it"
            ),
        ),
        // Not said of a table: our statements and this server do not go together.
        (_, "42601" | "42P02" | "42P18" | "42846") if refusal.table().is_none() => lasting(
            Reason::Postgres,
            format!(
                "PostgreSQL: {said} (code {code}): this server does not do what PostgreSQL 15 does; \
                 check what --postgres names"
            ),
        ),
        ("42" | "3F" | "22" | "23", _) => {
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

/// What to say of a pooler that lends its sessions out for a transaction only.
pub fn pooled(found: &str) -> String {
    format!(
        "between the projector and PostgreSQL is a pooler that gives each transaction another session \
         ({found}), and the projector needs a session of its own for its locks and statements: connect \
         to PostgreSQL itself, or to a database of the pooler with pool_mode=session"
    )
}

/// Whether TLS failed, on either side.
pub fn is_tls(error: &Error) -> bool {
    let mut source = error.source();
    let mut found = error.to_string().contains("TLS");
    while let Some(cause) = source {
        found |= cause.is::<rustls::Error>() || is_tls_inside(cause);
        found |= cause.to_string().contains("does not support TLS");
        source = cause.source();
    }
    found
}

fn of_connection(error: &Error) -> Trouble {
    let mut said = error.to_string();
    let mut source = error.source();
    let is_tls = is_tls(error);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = cause.source();
    }
    if is_tls {
        let message = format!(
            "no TLS with PostgreSQL ({said}){}: a host that is not this machine needs a certificate with \
             its name, signed by an authority of the system or of sslrootcert, unless sslmode says \
             otherwise (PGSSLROOTCERT, PGSSLMODE)",
            of_certificate(&said).unwrap_or_default()
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

/// What is the matter with a certificate, where rustls says no more than a word.
fn of_certificate(said: &str) -> Option<&'static str> {
    let known = [
        (
            "UnsupportedCertVersion",
            ", because its certificate is of version 1 of X.509, as `openssl x509 -req` makes it \
             without extensions, and libpq alone takes that: make it again with -extfile and a \
             subjectAltName",
        ),
        (
            "CaUsedAsEndEntity",
            ", because its certificate is that of an authority: make one for the server, or name this \
             one with sslrootcert",
        ),
        (
            "UnknownRevocationStatus",
            ", because no list of revoked certificates (sslcrl, or ~/.postgresql/root.crl) covers its \
             authority: add the list of every authority",
        ),
        ("ExpiredRevocationList", ", because the list of revoked certificates is out of date"),
        ("Revoked", ", because its certificate is on the list of revoked ones"),
    ];
    known.into_iter().find(|(word, _)| said.contains(word)).map(|(_, why)| why)
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
