//! `walengine-bench`: drives a walengine server and measures it against the bare disk and network.

use std::process::ExitCode;

use clap::Parser as _;

mod error;
mod floor;
mod load;
mod log_only;
mod server;
mod stats;
mod system;

/// Benchmarks of walengine. `run` is the whole of it; the others are its parts.
#[derive(Debug, clap::Parser)]
#[command(name = "walengine-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load one running server and report what came of it
    Load(load::LoadArguments),
    /// Measure the log alone, without network and ledger, against raw writes
    Log(log_only::LogArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Load(arguments) => load::command(&arguments),
        Command::Log(arguments) => log_only::command(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walengine-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
