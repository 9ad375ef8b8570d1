//! The command line: `walengine` serves, its subcommands ask a server or read files.

mod account_rows;
mod accounts;
mod amounts;
mod asking;
mod backup;
mod called;
mod capacity;
mod cert;
mod cluster;
mod colour;
mod csv_file;
mod export;
mod health;
mod ids;
mod import;
mod interrupt;
mod leave;
mod log;
mod log_time;
mod manual;
mod money_rows;
mod new_directory;
mod output;
mod policy;
mod progress;
mod recover;
mod repl;
mod restore;
mod sample;
mod settings;
mod sizes;
mod statement;
mod status;
mod support_bundle;
mod take_over;
mod verbs;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use walengine_net::cli;
use walengine_net::say;

use crate::config::{Config, ServeOptions};
use crate::data_dir;
use crate::fatal::{Fatal, Reason};
use crate::node;
use output::NAME;
use verbs::{balance, end, naming, transfer};

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
    Balance(balance::Arguments),
    /// Describe a ledger
    Ledger(naming::LedgerArguments),
    Ledgers(naming::LedgersArguments),
    Transfer(transfer::Arguments),
    Pending(transfer::PendingArguments),
    Post(end::PostArguments),
    Void(end::VoidArguments),
    Statement(statement::Arguments),
    Log(log::Arguments),
    Status(status::Arguments),
    Health(health::Arguments),
    Capacity(capacity::Arguments),
    Watch(watch::Arguments),
    Repl(repl::Arguments),
    SupportBundle(support_bundle::Arguments),
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
    Settings(Box<settings::Arguments>),
    Completions(manual::CompletionsArguments),
    Man(manual::ManArguments),
}

/// Runs the command and returns the exit code. An error goes to stderr in one line.
pub fn run(arguments: Arguments) -> ExitCode {
    cli::end_on_panic(NAME);
    let result = match arguments.command {
        None => serve(arguments.serve),
        Some(command) => dispatch(command),
    };
    cli::end(NAME, result)
}

fn dispatch(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Format(arguments) => format(*arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Digest(arguments) => export::run_digest(&arguments),
        Command::Sample(arguments) => sample::run(&arguments),
        Command::Accounts(arguments) => accounts::run(&arguments),
        Command::Account(arguments) => accounts::run_one(&arguments),
        Command::Balance(arguments) => balance::run(&arguments),
        Command::Ledger(arguments) => naming::run_ledger(&arguments),
        Command::Ledgers(arguments) => naming::run_ledgers(&arguments),
        Command::Transfer(arguments) => transfer::run(&arguments),
        Command::Pending(arguments) => transfer::run_pending(&arguments),
        Command::Post(arguments) => end::run_post(&arguments),
        Command::Void(arguments) => end::run_void(&arguments),
        Command::Statement(arguments) => statement::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Capacity(arguments) => capacity::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Repl(arguments) => repl::run(&arguments, &Arguments::command(), carry_out),
        Command::SupportBundle(arguments) => support_bundle::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Leave(arguments) => leave::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Policy(arguments) => policy::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Cert(arguments) => cert::run(&arguments),
        Command::Dump(arguments) => verify::run_dump(&arguments),
        Command::Settings(arguments) => settings::run(&arguments),
        Command::Completions(arguments) => {
            manual::run_completions(&arguments, Arguments::command())
        }
        Command::Man(arguments) => manual::run_man(&arguments, Arguments::command()),
    }
}

/// Carries out a line of `repl`, which begins with the program's name.
fn carry_out(line: Vec<String>) -> Result<(), Fatal> {
    parsed(line)?.map_or(Ok(()), dispatch)
}

/// The command of such a line; `None` if it has none, or if all that it wants to know was printed.
fn parsed(line: Vec<String>) -> Result<Option<Command>, Fatal> {
    match Arguments::try_parse_from(line) {
        Ok(arguments) => Ok(arguments.command),
        Err(error) if !error.use_stderr() => cli::show(&error.to_string()).map(|()| None),
        Err(error) => {
            let message = cli::one_line(NAME, &error.to_string());
            Err(Fatal::new(Reason::Usage, message))
        }
    }
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
    cli::begin_log(config.log_format, config.log_level, &["openraft"]);
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

    /// Commands without --format, and why.
    const WITHOUT_FORMAT: [(&str, &str); 18] = [
        ("format", "says one line"),
        ("sample", "writes the CSV that import takes"),
        ("restore", "tells in sentences what it made, as a person must read it"),
        ("recover", "tells in sentences what is lost, as a person must read it"),
        ("verify", "tells in sentences what is damaged; programs take its exit code"),
        ("dump", "is for developers, who read the bytes"),
        ("policy check", "tells in sentences what somebody may do"),
        ("cert ca", "makes files, and names them"),
        ("cert node", "makes files, and names them"),
        ("cert admin", "makes files, and names them"),
        ("cert client", "makes files, and names them"),
        ("cert projector", "makes files, and names them"),
        ("cert gossip-key", "makes files, and names them"),
        ("cert revoke", "makes files, and names them"),
        ("cert show", "tells in sentences what a person must compare"),
        ("settings", "prints what --config takes"),
        ("completions", "prints what a shell takes"),
        ("man", "writes files"),
    ];

    /// Paths of all commands below that do something themselves.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, bool)>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name()).trim_start().to_owned();
            leaves(below, &path, found);
            let has_format = below.get_arguments().any(|one| one.get_long() == Some("format"));
            if has_format || below.get_subcommands().next().is_none() {
                found.push((path, has_format));
            }
        }
    }

    #[test]
    fn every_command_has_a_format_or_a_reason_why_not() {
        Arguments::command().debug_assert();
        let mut found = Vec::new();
        leaves(&Arguments::command(), "", &mut found);
        assert!(found.len() > 30, "{found:?}");
        for (path, has_format) in &found {
            let excused = WITHOUT_FORMAT.iter().any(|(name, _)| name == path);
            assert_ne!(*has_format, excused, "{path}: give it --format, or say why not");
        }
        for (name, _) in WITHOUT_FORMAT {
            assert!(found.iter().any(|(path, _)| path == name), "there is no {name}");
        }
    }
}
