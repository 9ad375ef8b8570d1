//! The whole projector: connects to both sides, creates the schema, projects every partition, and
//! reports progress.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use walengine_net::cli::supervisor;
use walengine_net::client::Config as ClientConfig;
use walengine_net::client::tokio::Client;
use walengine_net::model::{Offset, PartitionId};

use crate::board::Board;
use crate::database::Database;
use crate::engine;
use crate::fatal::{Fatal, Reason};
use crate::feed;
use crate::limits::COMMAND_CONNECTS_WITHIN;
use crate::metrics::PartitionMetrics;
use crate::noted;
use crate::pooler;
use crate::progress::ProjectorProgress;
use crate::projection::Projection;
use crate::schema;
use crate::trouble::{Herald, Trouble};

/// Settings of the program.
#[derive(Clone)]
pub struct Service {
    /// Addresses of the cluster's servers.
    pub servers: ClientConfig,
    /// The database that is projected to.
    pub database: Database,
    /// Where metrics are served: host and port.
    pub metrics: Option<String>,
}

/// Connects to the cluster. Waits for it while no server answers.
pub async fn connect(config: &ClientConfig) -> Result<Client, Fatal> {
    connect_noting(config, || ()).await
}

/// The same, with a note of every attempt that fails.
async fn connect_noting(config: &ClientConfig, failed: impl Fn()) -> Result<Client, Fatal> {
    let mut herald = Herald::new("walengine");
    loop {
        match Client::connect(config.clone()).await {
            Ok(client) => {
                herald.works();
                return Ok(client);
            }
            Err(error) if feed::passes(&error) => {
                failed();
                herald.failed(&error.to_string()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to the cluster for a command, which ends if no server answers for a while.
pub async fn connect_soon(config: &ClientConfig) -> Result<Client, Fatal> {
    if let Ok(result) = tokio::time::timeout(COMMAND_CONNECTS_WITHIN, connect(config)).await {
        return result;
    }
    let message = format!(
        "no server of walengine answers at {} for {COMMAND_CONNECTS_WITHIN:?}: start one, or name \
         another with --server",
        config.addresses.join(",")
    );
    Err(Fatal::new(Reason::Server, message))
}

/// Creates or upgrades the schema. Waits for PostgreSQL while it does not answer.
pub async fn prepare(database: &Database, client: &Client) -> Result<(), Fatal> {
    let mut herald = Herald::new("PostgreSQL");
    loop {
        let prepared = async {
            let connection = database.connect().await?;
            if let Some(why) = &connection.read_only {
                return Err(Trouble::Passing(why.clone()));
            }
            pooler::refuse(database).await?;
            schema::prepare(database, &connection, client.info()).await
        };
        match prepared.await {
            Ok(()) => {
                herald.works();
                return Ok(());
            }
            Err(Trouble::Passing(why)) => herald.failed(&why).await,
            Err(Trouble::Lasting(fatal)) => return Err(fatal),
        }
    }
}

impl Service {
    /// Runs until something fails for good.
    pub async fn run(self) -> Result<(), Fatal> {
        let board = Board::default();
        let mut tasks = JoinSet::new();
        supervisor::does("Connecting to walengine and PostgreSQL");
        // First, so that it is seen if neither side answers.
        if let Some(address) = &self.metrics {
            let server = crate::http::bind(address).await?;
            tasks.spawn(crate::http::serve(server, board.clone()));
        }
        let client = tokio::select! {
            client = connect_noting(&self.servers, || board.engine_is_gone()) => client?,
            never = noted::remember(&self.database, &board) => match never {},
        };
        board.has_postgres(false); // until a writer says otherwise
        let info = client.info().clone();
        let partitions: Vec<_> = info.partitions().map(|partition| board.of(partition)).collect();
        tasks.spawn(engine::watch(client.clone(), partitions.clone()));
        prepare(&self.database, &client).await?;
        tracing::info!(
            "projecting {} partitions of cluster {:032x} to {}, schema {}",
            info.partitions,
            info.cluster.0,
            self.database.shown(),
            self.database.schema()
        );
        supervisor::serves(&format!("Projecting to {}", self.database.shown()));
        for metrics in &partitions {
            let projection = Projection {
                client: client.clone(),
                partition: metrics.partition,
                database: self.database.clone(),
                metrics: metrics.clone(),
            };
            tasks.spawn(async move { projection.run(None).await.map(|_| ()) });
        }
        tasks.spawn(noted::write(self.database.clone(), board));
        tasks.spawn(ProjectorProgress::catch_up().follow(partitions));
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => Ok(()),
        }
    }
}

/// Projects every partition to at least its offset in `ends`.
pub async fn catch_up(
    database: &Database,
    client: &Client,
    partitions: &[Arc<PartitionMetrics>],
    ends: &[Offset],
) -> Result<(), Fatal> {
    let mut tasks = JoinSet::new();
    for (metrics, &end) in partitions.iter().zip(ends) {
        metrics.log_reaches(end);
        let projection = Projection {
            client: client.clone(),
            partition: metrics.partition,
            database: database.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(async move { projection.run(Some(end)).await.map(|_| ()) });
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    Ok(())
}

/// End of a partition's log as some node knows it.
pub async fn log_end(client: &Client, partition: PartitionId) -> Result<Offset, Fatal> {
    Ok(client.list_accounts(partition, None, 1, &[]).await?.next_offset)
}

/// SIGTERM and SIGINT, watched from its creation on.
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Begins to watch.
    pub fn watch() -> Result<Self, Fatal> {
        let watch = |kind| {
            signal(kind).map_err(|error| {
                Fatal::new(Reason::File, format!("cannot watch for signals: {error}"))
            })
        };
        Ok(Self { term: watch(SignalKind::terminate())?, int: watch(SignalKind::interrupt())? })
    }

    /// Waits for a signal. Returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
