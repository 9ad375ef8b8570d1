//! Connections to PostgreSQL, and names of tables.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use walengine_net::model::PartitionId;

use crate::config::Target;
use crate::fatal::{Fatal, Reason};
use crate::limits::{SCHEMA_NAME_BYTES_MAX, STATEMENT_TIMEOUT};
use crate::tables::Table;
use crate::tls;
use crate::trouble::Trouble;

/// A database, and the schema that is projected to.
#[derive(Clone)]
pub struct Database {
    target: Target,
    tls: Option<MakeRustlsConnect>,
    schema: String,
}

/// A connection; closed when it is dropped.
pub struct Connection {
    /// Runs statements.
    pub client: Client,
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
        let tls = target.tls.as_ref().map(tls::connector).transpose()?;
        Ok(Self { target, tls, schema: schema.to_owned() })
    }

    /// The same database with another schema. The name is not checked.
    #[must_use]
    pub fn with_schema(&self, schema: &str) -> Self {
        Self { schema: schema.to_owned(), ..self.clone() }
    }

    /// Name of the schema; it needs no quotes.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Database and host, for people.
    pub fn shown(&self) -> &str {
        &self.target.shown
    }

    /// Full name of a partition's table.
    pub fn part(&self, table: &str, partition: PartitionId) -> String {
        format!("\"{}\".\"{table}_{}\"", self.schema, suffix(partition))
    }

    /// Full name of something in the schema.
    pub fn name(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.schema)
    }

    /// Connects. A server that does not answer is [`Trouble::Passing`].
    pub async fn connect(&self) -> Result<Connection, Trouble> {
        let connection = match &self.tls {
            None => {
                let (client, driver) = self.target.config.connect(NoTls).await?;
                // Its error reaches every waiting statement.
                Connection { client, driver: tokio::spawn(async move { drop(driver.await) }) }
            }
            Some(tls) => {
                let (client, driver) = self.target.config.connect(tls.clone()).await?;
                Connection { client, driver: tokio::spawn(async move { drop(driver.await) }) }
            }
        };
        let timeout = STATEMENT_TIMEOUT.as_millis();
        let setup = format!(
            "SET statement_timeout = {timeout}; SET client_min_messages = warning; \
             SET search_path = \"{}\", pg_temp; SET timezone = 'UTC'",
            self.schema
        );
        within(connection.batch_execute(&setup)).await?;
        Ok(connection)
    }
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
