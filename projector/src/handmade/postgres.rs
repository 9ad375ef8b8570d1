//! A PostgreSQL that logs made by hand are written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use walengine_net::client::ClusterInfo;
use walengine_net::model::{ClusterId, PartitionId};

use super::{Decided, PARTITIONS, entry};
use crate::batch::Builder;
use crate::database::{Connection, Database};
use crate::managed::Managed;
use crate::marks;
use crate::metrics::PartitionMetrics;
use crate::schema;
use crate::writer::{WriteOutcome, Writer};

/// A server of its own; it is removed at the end.
pub struct Server {
    managed: Option<Managed>,
    directory: PathBuf,
    database: Database,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.managed = None;
        let _ = std::fs::remove_dir_all(&self.directory); // it is a temporary one
    }
}

impl Server {
    pub fn start(test: &str) -> Self {
        let directory = format!("walengine-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let managed = Managed::start(Path::new(&directory)).unwrap();
        let database = Database::new(managed.target(), "walengine").unwrap();
        Self { managed: Some(managed), directory, database }
    }

    /// A new schema without rows.
    pub async fn schema(&self, schema: &str) -> (Database, Connection) {
        let database = self.database.with_schema(schema);
        let (cluster, server_version) = (ClusterId(7), String::new());
        let cluster = ClusterInfo { cluster, partitions: PARTITIONS, server_version };
        let connection = database.connect().await.unwrap();
        schema::prepare(&database, &connection, &cluster).await.unwrap();
        // For what is made behind it, too.
        (database.clone(), database.connect().await.unwrap())
    }

    /// A new schema with the logs of all partitions, each entry in a transaction of its own.
    pub async fn write(
        &self,
        schema: &str,
        log: impl Fn(PartitionId) -> Vec<Vec<Decided>>,
    ) -> (Database, Connection) {
        self.write_marked(schema, log, |_| false).await
    }

    /// The same, with marks of all accounts behind the entries of these numbers.
    pub async fn write_marked(
        &self,
        schema: &str,
        log: impl Fn(PartitionId) -> Vec<Vec<Decided>>,
        is_marked: impl Fn(usize) -> bool,
    ) -> (Database, Connection) {
        let (database, connection) = self.schema(schema).await;
        for partition in (0..PARTITIONS).map(PartitionId) {
            let metrics = Arc::new(PartitionMetrics::new(partition));
            let mut writer = Writer::new(database.clone(), partition, metrics);
            let mut offset = 0;
            for (number, decided) in log(partition).into_iter().enumerate() {
                let (header, body) = entry(partition, offset, &decided);
                // What is under way is loaded each time.
                let (position, under_way) = writer.start().await.unwrap();
                let mut builder = Builder::new(partition, PARTITIONS, position, under_way);
                builder.add(&header, &body).unwrap();
                let batch = builder.seal().unwrap();
                assert_eq!(writer.write(&batch).await.unwrap(), WriteOutcome::Written);
                offset = header.next_offset().0;
                if is_marked(number) {
                    marks::take(&database, &connection, partition).await.unwrap();
                }
            }
        }
        (database, connection)
    }
}

/// Rows of a query as text, a line for each, with its columns between commas; null is nothing.
pub async fn ask(connection: &Connection, query: &str) -> String {
    let mut lines = Vec::new();
    for message in connection.simple_query(query).await.unwrap() {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let columns = (0..row.len()).map(|place| row.get(place).unwrap_or_default());
            lines.push(columns.collect::<Vec<_>>().join(","));
        }
    }
    lines.join("\n")
}
