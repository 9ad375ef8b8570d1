//! The command line: `walengine` serves, its subcommands ask a server or read files.

mod accounts;
mod asking;
mod backup;
mod cert;
mod cluster;
mod csv_file;
mod export;
mod import;
mod interrupt;
mod leave;
mod log;
mod log_time;
mod new_directory;
mod output;
mod policy;
mod progress;
mod recover;
mod restore;
mod sample;
mod status;
mod take_over;
mod verify;

use std::process::ExitCode;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use walengine_net::cli::{self, LogLines};
use walengine_net::say;

use crate::config::{Config, ServeOptions};
use crate::data_dir;
use crate::fatal::{Fatal, Reason};
use crate::node;
use output::NAME;

/// A distributed write-ahead log for a ledger of money transactions.
///
/// Without a command it serves. The commands ask a running server, or read files.
#[derive(Debug, clap::Parser)]
#[command(name = NAME, version, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// TOML file with settings of the same names, such as `segment_mib` for --segment-mib; flags
    /// and environment take precedence
    #[arg(long, value_name = "FILE", env = "WALENGINE_CONFIG")]
    config: Option<std::path::PathBuf>,

    #[command(flatten)]
    options: ServeOptions,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Format a data directory without serving it
    Format(Box<ServeArguments>),
    /// Import transfers from a CSV file, or the log of another cluster from an export; importing it
    /// again changes nothing
    Import(import::Arguments),
    Export(export::Arguments),
    Digest(export::DigestArguments),
    Sample(sample::Arguments),
    Accounts(accounts::Arguments),
    Account(accounts::OneArguments),
    Transfer(log::TransferArguments),
    Log(log::Arguments),
    Status(status::Arguments),
    /// Print nodes, leaders and progress; move leaderships and remove nodes
    Cluster(cluster::Arguments),
    Leave(leave::LeaveArguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Recover(recover::Arguments),
    Policy(policy::Arguments),
    Verify(verify::Arguments),
    Cert(cert::Arguments),
    Dump(verify::DumpArguments),
}

/// Runs the command and returns the exit code. An error goes to stderr in one line.
pub fn run(arguments: Arguments) -> ExitCode {
    cli::end_on_panic(NAME);
    let result = match arguments.command {
        None => serve(arguments.serve),
        Some(Command::Format(arguments)) => format(*arguments),
        Some(Command::Import(arguments)) => import::run(&arguments),
        Some(Command::Export(arguments)) => export::run(&arguments),
        Some(Command::Digest(arguments)) => export::run_digest(&arguments),
        Some(Command::Sample(arguments)) => sample::run(&arguments),
        Some(Command::Accounts(arguments)) => accounts::run(&arguments),
        Some(Command::Account(arguments)) => accounts::run_one(&arguments),
        Some(Command::Transfer(arguments)) => log::run_transfer(&arguments),
        Some(Command::Log(arguments)) => log::run(&arguments),
        Some(Command::Status(arguments)) => status::run(&arguments),
        Some(Command::Cluster(arguments)) => cluster::run(&arguments),
        Some(Command::Leave(arguments)) => leave::run(&arguments),
        Some(Command::Backup(arguments)) => backup::run(&arguments),
        Some(Command::Restore(arguments)) => restore::run(&arguments),
        Some(Command::Recover(arguments)) => recover::run(&arguments),
        Some(Command::Policy(arguments)) => policy::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Cert(arguments)) => cert::run(&arguments),
        Some(Command::Dump(arguments)) => verify::run_dump(&arguments),
    };
    cli::end(NAME, result)
}

impl ServeArguments {
    fn resolve(self) -> Result<Config, Fatal> {
        let options = match &self.config {
            Some(path) => self.options.or_file(path)?,
            None => self.options,
        };
        options.resolve()
    }
}

fn serve(arguments: ServeArguments) -> Result<(), Fatal> {
    let config = arguments.resolve()?;
    keep_private()?;
    // openraft's messages are for its developers. The engine reports their consequences.
    let said = Targets::new().with_default(Level::INFO).with_target("openraft", Level::ERROR);
    let lines = tracing_subscriber::fmt().with_writer(|| LogLines).with_target(false);
    lines.finish().with(said).init();
    node::serve(config)
}

/// For what keeps the books: see [`cli::keep_private`].
fn keep_private() -> Result<(), Fatal> {
    cli::keep_private().map_err(|error| {
        Fatal::new(Reason::Preflight, format!("cannot forbid core dumps: {error}"))
    })
}

fn format(arguments: ServeArguments) -> Result<(), Fatal> {
    let config = arguments.resolve()?;
    keep_private()?;
    let superblock = data_dir::format_alone(&config)?;
    say!(
        "formatted {}: cluster {:032x}, {} partitions, segments of {} MiB",
        config.data.display(),
        superblock.cluster.0,
        superblock.partitions,
        superblock.segment_bytes >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// A line at the variant would hide what is written at the arguments.
    #[test]
    fn the_help_of_a_command_is_what_is_written_at_its_arguments() {
        let command = Arguments::command();
        for name in ["backup", "cert", "export", "leave", "log", "recover", "restore", "verify"] {
            let found = command.find_subcommand(name).unwrap();
            let (short, long) = (found.get_about().unwrap(), found.get_long_about());
            let long = long.unwrap_or_else(|| panic!("{name} has one line only")).to_string();
            assert!(short.to_string().len() < 100, "{name}: {short}");
            assert!(long.len() > 200, "{name}: {long}");
        }
    }
}
