//! `walengine-bench`: drives a walengine server and measures it against the bare disk and network.

#![forbid(unsafe_code)]
#![allow(
    clippy::doc_markdown,
    reason = "doc comments of arguments are shown to people as they are"
)]

use std::process::ExitCode;

use clap::Parser as _;

mod arguments;
mod chart;
mod cluster;
mod cluster_faults;
mod error;
mod figures;
mod floor;
mod growth;
mod interrupt;
mod leader_counts;
mod limits;
mod load;
mod log_only;
mod memory;
mod peers;
mod plots;
mod postgres;
mod report;
mod run;
mod scaling;
mod secured;
mod server;
mod stats;
mod system;
mod targets;
mod throttle;

/// Benchmarks of walengine. `run` is the whole benchmark; the other commands are parts of it.
#[derive(Debug, clap::Parser)]
#[command(name = "walengine-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure all cases, floor and engine in turn, and compare with the targets
    Run(run::RunArguments),
    /// Load one running server and report the results
    Load(load::LoadArguments),
    /// Measure the log alone, without network and ledger, against raw writes
    Log(log_only::LogArguments),
    /// Measure memory for each account and remembered id, and the time of a restart
    Memory(memory::MemoryArguments),
    /// Measure whether rate, CPU and memory stay as they are while the history of ids grows
    Growth(growth::GrowthArguments),
    /// Measure what certificates cost: rates beside those without, handshakes, idle connections
    Secured(secured::SecuredArguments),
    /// Measure the cost of a slow follower, a joining node and a dead leader in a cluster of three
    ClusterFaults(cluster_faults::FaultsArguments),
    /// Measure the projector: rows a second beside a bare COPY, latency, and its cost to the engine
    Postgres(postgres::PostgresArguments),
    /// Measure Redis Streams, etcd and PostgreSQL, as far as they are installed
    Peers(peers::PeersArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Load(arguments) => load::command(&arguments),
        Command::Log(arguments) => log_only::command(&arguments),
        Command::Memory(arguments) => memory::command(&arguments).map(|_| ()),
        Command::Growth(arguments) => growth::command(&arguments),
        Command::Secured(arguments) => secured::command(&arguments),
        Command::ClusterFaults(arguments) => cluster_faults::command(&arguments),
        Command::Postgres(arguments) => postgres::command(&arguments),
        Command::Peers(arguments) => {
            peers::command(&arguments);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walengine-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
