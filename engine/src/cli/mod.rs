//! The command line: `walengine` serves, its subcommands ask a server or look at files.

use std::process::ExitCode;

use crate::config::ServeOptions;
use crate::fatal::{Fatal, Reason};
use crate::node;

/// A distributed write-ahead log for a ledger of money transactions. Without a command it serves.
#[derive(Debug, clap::Parser)]
#[command(name = "walengine", version, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// TOML file with settings of the same names; flags and environment win over it
    #[arg(long, value_name = "FILE", env = "WALENGINE_CONFIG")]
    config: Option<std::path::PathBuf>,

    #[command(flatten)]
    options: ServeOptions,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Format a data directory without serving it
    Format(ServeArguments),
}

/// Runs the command and gives the process's exit code; an error goes to stderr in one line.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        None => serve(arguments.serve),
        Some(Command::Format(options)) => format(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal { reason, message }) => {
            eprintln!("walengine: {message}");
            ExitCode::from(reason as u8)
        }
    }
}

impl ServeArguments {
    fn resolve(self) -> Result<crate::config::Config, Fatal> {
        let options = match &self.config {
            Some(path) => self.options.or_file(path)?,
            None => self.options,
        };
        options.resolve()
    }
}

fn serve(arguments: ServeArguments) -> Result<(), Fatal> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    node::serve(arguments.resolve()?)
}

fn format(arguments: ServeArguments) -> Result<(), Fatal> {
    let config = arguments.resolve()?;
    let superblock = node::format(&config)?;
    println!(
        "formatted {}: cluster {:032x}, {} partitions, segments of {} MiB",
        config.data.display(),
        superblock.cluster.0,
        superblock.partitions,
        superblock.segment_bytes >> 20
    );
    Ok(())
}

impl From<std::io::Error> for Fatal {
    fn from(error: std::io::Error) -> Self {
        Self::new(Reason::File, error.to_string())
    }
}
