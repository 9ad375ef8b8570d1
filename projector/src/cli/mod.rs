//! The command line: `walengine-projector` projects, its subcommands ask or mend.

mod manual;
mod reports;
#[cfg(test)]
mod settings_file;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory as _;
use walengine_net::cli::{self, LogFormat, LogLevel};
use walengine_net::client::tokio::Client;
use walengine_net::client::{ADDRESS_DEFAULT, Config as ClientConfig};
use walengine_net::model::{Offset, PartitionId, Token};

use crate::audit::{self, record::Record};
use crate::config::{Given, Target};
use crate::database::Database;
use crate::fatal::{Fatal, Reason};
use crate::managed::Managed;
use crate::metrics::PartitionMetrics;
use crate::progress::ProjectorProgress;
use crate::rebuild;
use crate::service::{self, Service, Signals};

/// The program, in its messages.
const NAME: &str = "walengine-projector";

/// Keeps PostgreSQL exactly equal to walengine's log.
///
/// Without a command it projects, from where it left off, until it is stopped. PostgreSQL is named
/// by --postgres, or by the usual PG* variables, or started privately with --managed-postgres.
#[derive(Debug, clap::Parser)]
#[command(name = NAME, version, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100)]
#[command(after_help = "Examples:\n  walengine-projector --managed-postgres ./postgres\n  \
    walengine-projector --postgres postgres://ledger@db.example/ledger --password-file /run/secret")]
pub struct Arguments {
    #[command(flatten)]
    run: RunArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command needs: both sides.
#[derive(Debug, clap::Args)]
pub struct Sides {
    /// Address of a server of walengine, or of several of one cluster with commas between
    #[arg(long, value_name = "ADDR:PORT", env = "WALENGINE_SERVER", default_value = ADDRESS_DEFAULT)]
    pub(crate) server: String,

    /// Directory with a certificate and whom to believe, as `walengine cert projector` makes it
    #[arg(long, value_name = "DIR", env = "WALENGINE_TLS")]
    tls: Option<PathBuf>,

    /// Database: `postgres://user@host/database`, or "host=... dbname=..."; what it does not say is
    /// taken from PGHOST, PGUSER, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT and so on
    #[arg(
        long,
        value_name = "URL",
        env = "WALENGINE_POSTGRES",
        hide_env_values = true,
        conflicts_with = "managed_postgres"
    )]
    postgres: Option<String>,

    /// File whose first line is the password; nobody else may be able to read it
    #[arg(long, value_name = "FILE", env = "WALENGINE_POSTGRES_PASSWORD_FILE")]
    password_file: Option<PathBuf>,

    /// Use a private PostgreSQL in this directory: made, started and stopped with the program, or
    /// joined by commands if a projector runs it
    #[arg(long, value_name = "DIR", env = "WALENGINE_MANAGED_POSTGRES")]
    managed_postgres: Option<PathBuf>,

    /// Schema that the tables are in
    #[arg(long, value_name = "NAME", env = "WALENGINE_SCHEMA", default_value = "walengine")]
    schema: String,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    #[command(flatten)]
    sides: Sides,

    /// Serve metrics for Prometheus at this address or host name, under /metrics
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_METRICS")]
    metrics: Option<String>,

    /// How log lines are written to standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, env = "WALENGINE_LOG_FORMAT")]
    log_format: LogFormat,

    /// The least important log lines that are written
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t, env = "WALENGINE_LOG_LEVEL")]
    log_level: LogLevel,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prove that the tables are what the log says, or name the first rows that differ. The outcome is kept
    /// in table audits
    Audit(AskArguments),
    Completions(manual::CompletionsArguments),
    Man(manual::ManArguments),
    /// Make the tables anew from the log while the old ones serve, audit them, and put them in place
    Rebuild(RebuildArguments),
    /// Print how far every partition is projected, how far behind the log, and how the last audit ended
    Status(AskArguments),
    /// Wait until the database includes a write, by its token
    WaitFor(WaitArguments),
}

#[derive(Debug, clap::Args)]
struct AskArguments {
    #[command(flatten)]
    sides: Sides,
}

#[derive(Debug, clap::Args)]
struct RebuildArguments {
    /// Keep what stands before this position, such as 0-500000, and replay the partition from there;
    /// may be given for each partition. The audit compares all of it
    #[arg(long, value_name = "PARTITION-OFFSET", value_parser = position)]
    from: Vec<(PartitionId, Offset)>,

    /// Throw away what an interrupted rebuild has left, instead of going on with it
    #[arg(long)]
    anew: bool,

    /// Go on although something hangs on replaced tables that can't be carried over, such as a trigger
    /// or a foreign key: it stays with them, in the schema whose name ends with _old
    #[arg(long)]
    leave_behind: bool,

    /// Replace tables that are derived from another cluster, whose log was restored to this one
    #[arg(long)]
    other_cluster: bool,

    #[command(flatten)]
    sides: Sides,
}

#[derive(Debug, clap::Args)]
struct WaitArguments {
    /// As the acknowledgement of the write carries it: cluster-partition-offset
    #[arg(value_name = "TOKEN")]
    token: Token,

    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=300))]
    timeout: u64,

    #[command(flatten)]
    sides: Sides,
}

/// Runs the command and gives the process's exit code; an error goes to stderr in one line.
pub fn run(arguments: Arguments) -> ExitCode {
    cli::end_on_panic(NAME);
    if let Err(error) = cli::keep_private() {
        let message = format!("cannot forbid core dumps: {error}");
        return cli::end(NAME, Err(Fatal::new(Reason::File, message)));
    }
    cli::begin_log(arguments.run.log_format, arguments.run.log_level, &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(arguments)),
        Err(error) => Err(Fatal::new(Reason::File, format!("cannot start threads: {error}"))),
    };
    cli::end(NAME, result)
}

async fn dispatch(arguments: Arguments) -> Result<(), Fatal> {
    // Watching for signals comes first, so that a managed server is never left behind.
    let mut signals = Signals::watch()?;
    let is_command = arguments.command.is_some();
    let work = async {
        match arguments.command {
            None => project(arguments.run).await,
            Some(command) => run_command(command).await,
        }
    };
    tokio::select! {
        result = work => result,
        signal = signals.next() => {
            if is_command {
                let message = format!("{signal}: interrupted; run it again, it goes on");
                return Err(Fatal::new(Reason::Interrupted, message));
            }
            // A transaction that is under way is taken back, and written again at the next start.
            tracing::info!("{signal}: stopping");
            cli::supervisor::stops();
            Ok(())
        }
    }
}

async fn run_command(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Audit(arguments) => run_audit(&arguments.sides).await,
        Command::Completions(arguments) => {
            manual::run_completions(&arguments, Arguments::command())
        }
        Command::Man(arguments) => manual::run_man(&arguments, Arguments::command()),
        Command::Rebuild(arguments) => run_rebuild(&arguments).await,
        Command::Status(arguments) => status::run(&arguments.sides).await,
        Command::WaitFor(arguments) => {
            let WaitArguments { token, timeout, sides } = arguments;
            status::wait(&sides, token, Duration::from_secs(timeout)).await
        }
    }
}

impl Sides {
    pub(crate) fn servers(&self) -> Result<ClientConfig, Fatal> {
        let config = ClientConfig {
            client_name: "walengine-projector".to_owned(),
            deadline: Duration::from_secs(30),
            ..ClientConfig::new(&self.server)
        };
        let Some(dir) = &self.tls else { return Ok(config) };
        config.secured(dir).map_err(|error| Fatal::new(Reason::Usage, format!("--tls: {error}")))
    }

    /// The database; a managed one is used as it runs, or started for as long as this lives.
    pub(crate) fn database(&self) -> Result<Opened, Fatal> {
        let (managed, target) = match &self.managed_postgres {
            Some(directory) => Managed::start_or_join(directory)?,
            None => (None, self.target()?),
        };
        Ok(Opened { database: Database::new(target, &self.schema)?, _managed: managed })
    }

    fn target(&self) -> Result<Target, Fatal> {
        let given =
            Given { postgres: self.postgres.clone(), password_file: self.password_file.clone() };
        let target = Target::resolve(&given, |name| std::env::var(name).ok())?;
        let is_argument = |text: &String| std::env::args().any(|argument| argument.contains(text));
        if self.postgres.as_ref().is_some_and(is_argument)
            && given.postgres.is_some_and(|text| cli::redacted(&text) != text)
        {
            tracing::warn!(
                "everybody on this machine can see the password in --postgres: use --password-file, \
                 PGPASSWORD or ~/.pgpass"
            );
        }
        Ok(target)
    }
}

/// A database, and its server if that is one's own.
pub struct Opened {
    database: Database,
    _managed: Option<Managed>,
}

impl std::ops::Deref for Opened {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

async fn run_rebuild(arguments: &RebuildArguments) -> Result<(), Fatal> {
    let RebuildArguments { from, anew, leave_behind, other_cluster, sides } = arguments;
    let choices = rebuild::Choices {
        from: from.clone(),
        anew: *anew,
        leaves_behind: *leave_behind,
        other_cluster: *other_cluster,
    };
    let database = sides.database()?;
    let client = service::connect_soon(&sides.servers()?).await?;
    let partitions = client.info().partitions;
    if let Some((partition, _)) = from.iter().find(|(partition, _)| partition.0 >= partitions) {
        let message =
            format!("--from names partition {partition}: there are 0 to {}", partitions - 1);
        return Err(Fatal::new(Reason::Usage, message));
    }
    let record = Record::unbegun(&database);
    let reports = with_progress("rebuilding", &client, async |metrics| {
        rebuild::rebuild(&database, &client, metrics, &choices).await
    });
    let reports = reports.await?;
    reports::print(&reports);
    audit::verdict(&reports)?;
    // The tables that it has audited serve now.
    note(record.end(Ok(&reports)).await);
    Ok(())
}

/// Tells that an outcome is not where others look for it.
fn note(noted: Result<(), String>) {
    if let Err(why) = noted {
        tracing::warn!("{why}");
    }
}

fn position(text: &str) -> Result<(PartitionId, Offset), &'static str> {
    const EXPECTED: &str = "a position is partition-offset, such as 0-500000";
    let (partition, offset) = text.split_once('-').ok_or(EXPECTED)?;
    let partition = partition.parse().map_err(|_| EXPECTED)?;
    let offset = offset.parse().map_err(|_| EXPECTED)?;
    Ok((PartitionId(partition), Offset(offset)))
}

async fn run_audit(sides: &Sides) -> Result<(), Fatal> {
    let database = sides.database()?;
    let servers = sides.servers()?;
    let record = Record::begin(&database).await;
    let reports = async {
        let client = service::connect_soon(&servers).await?;
        let work = async |metrics: &[_]| audit::audit(&database, &client, metrics).await;
        with_progress("auditing", &client, work).await
    };
    match reports.await {
        Ok(reports) => {
            reports::print(&reports);
            note(record.end(Ok(&reports)).await);
            audit::verdict(&reports)
        }
        Err(fatal) => {
            note(record.end(Err(&fatal)).await);
            Err(fatal)
        }
    }
}

/// Does something with a bar over it.
pub async fn with_progress<T>(
    title: &'static str,
    client: &Client,
    work: impl AsyncFnOnce(&[Arc<PartitionMetrics>]) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    let partitions = client.info().partitions();
    let metrics: Vec<_> =
        partitions.map(|partition| Arc::new(PartitionMetrics::new(partition))).collect();
    let bar = ProjectorProgress::task(title).follow(metrics.clone());
    tokio::select! {
        result = work(&metrics) => result,
        never = bar => Err(never.err().unwrap_or_else(|| {
            Fatal::new(Reason::Interrupted, "the progress bar ended")
        })),
    }
}

async fn project(arguments: RunArguments) -> Result<(), Fatal> {
    let RunArguments { sides, metrics, .. } = arguments;
    let mut managed = None; // stopped when this ends
    let target = match &sides.managed_postgres {
        None => sides.target()?,
        Some(directory) => managed.insert(Managed::start(directory)?).target(),
    };
    let database = Database::new(target, &sides.schema)?;
    Service { servers: sides.servers()?, database, metrics }.run().await
}
