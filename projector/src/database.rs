//! Connections to PostgreSQL, and names of tables.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use walengine_net::model::PartitionId;

use crate::config::hosts::Attempt;
use crate::config::{Host, Target};
use crate::fatal::{Fatal, Reason};
use crate::limits::{LOCK_TIMEOUT, SCHEMA_NAME_BYTES_MAX, STATEMENT_TIMEOUT};
use crate::tables::Table;
use crate::tls;
use crate::trouble::Trouble;

/// Settings of every session, whatever is set for the role, the database or the server: how names and
/// values are written and read, that what is committed can be seen, that no session is ended because
/// it is idle, and that no row is hidden from its owner.
const SESSION: [(&str, &str); 16] = [
    ("client_min_messages", "warning"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("quote_all_identifiers", "off"),
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// A database, and the schema that is projected to.
#[derive(Clone)]
pub struct Database {
    hosts: Vec<Reach>,
    shown: String,
    schema: String,
    /// Schema of the columns' types.
    types: String,
}

/// One host, and what is tried with it.
#[derive(Clone)]
struct Reach {
    host: Host,
    /// In the order of the host's attempts.
    ways: Vec<(SslMode, Option<MakeRustlsConnect>)>,
}

/// A connection; closed when it is dropped.
pub struct Connection {
    /// Runs statements.
    pub client: Client,
    /// Number of the server's process, by which others see what it waits for.
    pub pid: i32,
    /// Why it takes no writes, and what to do about it.
    pub read_only: Option<String>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::ops::Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Database {
    /// Does not connect yet.
    pub fn new(target: Target, schema: &str) -> Result<Self, Fatal> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if schema.is_empty() || schema.len() > SCHEMA_NAME_BYTES_MAX || !schema.bytes().all(plain) {
            let message = format!(
                "the schema's name {schema:?} has characters other than a-z, 0-9 and _, or more \
                 than {SCHEMA_NAME_BYTES_MAX} of them"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        if schema.starts_with("pg_") || schema == "information_schema" {
            let message = format!(
                "the schema's name {schema:?} is reserved: PostgreSQL keeps names that begin with pg_ \
                 for itself; name another with --schema"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        let reach = |host: Host| {
            let way = |attempt: &Attempt| {
                Ok(match attempt {
                    Attempt::Plain => (SslMode::Disable, None),
                    Attempt::TlsIfThere(tls) => (SslMode::Prefer, Some(tls::connector(tls)?)),
                    Attempt::Tls(tls) => (SslMode::Require, Some(tls::connector(tls)?)),
                })
            };
            let ways = host.attempts.iter().map(way).collect::<Result<_, Fatal>>()?;
            Ok::<_, Fatal>(Reach { host, ways })
        };
        let hosts = target.hosts.into_iter().map(reach).collect::<Result<_, _>>()?;
        let schema = schema.to_owned();
        Ok(Self { hosts, shown: target.shown, types: schema.clone(), schema })
    }

    /// The same database with another schema. The name is not checked.
    #[must_use]
    pub fn with_schema(&self, schema: &str) -> Self {
        Self { schema: schema.to_owned(), types: schema.to_owned(), ..self.clone() }
    }

    /// The same with a further schema, whose tables have this one's types.
    #[must_use]
    pub fn with_schema_of_same_types(&self, schema: &str) -> Self {
        Self { schema: schema.to_owned(), ..self.clone() }
    }

    /// Name of the schema of the columns' types.
    pub fn types(&self) -> &str {
        &self.types
    }

    /// Full name of a type.
    pub fn type_name(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.types)
    }

    /// Name of the schema; it needs no quotes.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Database and host, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Full name of a partition's table.
    pub fn part(&self, table: &str, partition: PartitionId) -> String {
        format!("\"{}\".\"{table}_{}\"", self.schema, suffix(partition))
    }

    /// Full name of something in the schema.
    pub fn name(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.schema)
    }

    /// Connects to the first host that lets us in. If none answers, that is [`Trouble::Passing`].
    pub async fn connect(&self) -> Result<Connection, Trouble> {
        let mut troubles = Vec::new();
        for reach in &self.hosts {
            let trouble = match reach.connect().await {
                Ok(mut connection) => match self.set_up(&mut connection).await {
                    Ok(()) => return Ok(connection),
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            troubles.push((reach.host.shown.as_str(), trouble));
        }
        Err(Trouble::of_all(troubles))
    }

    /// Sets for the session whatever a role, a database or a server may have set otherwise, and
    /// that changes what our statements do or how they are answered.
    async fn set_up(&self, connection: &mut Connection) -> Result<(), Trouble> {
        // First and alone, because a role's own timeout may be shorter than what follows takes.
        within(connection.batch_execute("SET statement_timeout = 0")).await?;
        let path = format!("\"{}\", pg_temp", self.schema);
        let (statement, lock) =
            (STATEMENT_TIMEOUT.as_millis().to_string(), LOCK_TIMEOUT.as_millis().to_string());
        let ours = [
            ("search_path", path.as_str()),
            ("statement_timeout", &statement),
            ("lock_timeout", &lock),
        ];
        let values: Vec<String> = SESSION
            .iter()
            .chain(&ours)
            .map(|(name, value)| format!("('{name}', '{value}')"))
            .collect();
        // A release may lack some of them. With simple statements, since a pooler may be between.
        let set = format!(
            "SELECT count(set_config(s.name, v.value, false)) FROM (VALUES {}) AS v (name, value)
               JOIN pg_catalog.pg_settings s ON s.name = v.name",
            values.join(", ")
        );
        within(connection.batch_execute(&set)).await?;
        let look = "SELECT pg_backend_pid(), pg_is_in_recovery(), setting, source, current_user
                      FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'";
        for message in within(connection.simple_query(look)).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            connection.pid = row.get(0).and_then(|pid| pid.parse().ok()).unwrap_or_default();
            connection.read_only = match (row.get(1), row.get(2), row.get(3)) {
                (Some("t"), ..) => Some(
                    "this server is a standby, which takes no writes: name the primary with \
                     --postgres, several hosts with target_session_attrs=read-write, or promote it"
                        .to_owned(),
                ),
                (_, Some("on"), Some("user" | "database user")) => {
                    // What is set for the role alone is meant for people who share it.
                    let set = "SET default_transaction_read_only = off";
                    within(connection.batch_execute(set)).await?;
                    None
                }
                (_, Some("on"), source) => Some(format!(
                    "default_transaction_read_only is on ({}): it is a read-only transaction until \
                     that is taken back (ALTER DATABASE ... or ALTER SYSTEM RESET \
                     default_transaction_read_only)",
                    source.unwrap_or("unknown source")
                )),
                _ => None,
            };
        }
        Ok(())
    }
}

impl Reach {
    /// Tries one way after the other. What one of them is refused for, the next may be let in for.
    async fn connect(&self) -> Result<Connection, Trouble> {
        let mut refused: Option<Trouble> = None;
        for (mode, tls) in &self.ways {
            let mut config = self.host.config.clone();
            config.ssl_mode(*mode);
            match tokio::time::timeout(self.host.within, connect(&config, tls.as_ref())).await {
                Ok(Ok(connection)) => return Ok(connection),
                // Nobody answers: neither will they in another way.
                Ok(Err(error)) if !is_answer(&error) => return Err(error.into()),
                Ok(Err(error)) => {
                    let trouble = Trouble::from(error);
                    refused = Some(match refused {
                        Some(first) => first.and_also("without TLS or with it", &trouble),
                        None => trouble,
                    });
                }
                Err(_) => {
                    let why = format!("it did not let us in within {:?}", self.host.within);
                    return Err(Trouble::Passing(why));
                }
            }
        }
        Err(refused.unwrap_or_else(Trouble::gone))
    }
}

/// Whether somebody has answered: the server by a refusal, or by a handshake that failed.
fn is_answer(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some() || crate::trouble::is_tls(error)
}

async fn connect(
    config: &tokio_postgres::Config,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Connection, tokio_postgres::Error> {
    let (client, driver) = match tls {
        None => {
            let (client, driver) = config.connect(NoTls).await?;
            // Its error reaches every waiting statement.
            (client, tokio::spawn(async move { drop(driver.await) }))
        }
        Some(tls) => {
            let (client, driver) = config.connect(tls.clone()).await?;
            (client, tokio::spawn(async move { drop(driver.await) }))
        }
    };
    Ok(Connection { client, pid: 0, read_only: None, driver })
}

/// Suffix of a partition's tables.
pub fn suffix(partition: PartitionId) -> String {
    format!("p{:04}", partition.0)
}

/// Column names, as COPY and SELECT take them.
pub fn columns(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// Gives up on a server that does not answer, because its host may have vanished.
pub async fn within<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(STATEMENT_TIMEOUT + Duration::from_secs(10), work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Passing(format!("no answer within {STATEMENT_TIMEOUT:?}"))),
    }
}
