//! Arguments of a load.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The load, and the server that takes it.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArguments {
    /// Server to load
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7450")]
    pub server: SocketAddr,

    /// Connections, spread over threads and partitions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: usize,

    /// Transfers in a request, up to 8,190; or records, up to 1,000
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,

    /// Requests in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub inflight: u16,

    /// How long to measure, in seconds
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,

    /// How long to load before measuring, in seconds
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub warmup: f64,

    /// Send this many requests instead, and measure all of them
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,

    /// Requests a second over all connections, however fast the answers are (open loop); without
    /// it, each answer is followed by the next request (closed loop)
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,

    /// Opaque records of 1 KiB instead of transfers
    #[arg(long)]
    pub records: bool,

    /// Use only the first N partitions [default: all]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u16>,

    /// Of 100 transfers, so many go to accounts of the next partition
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub spanning: u8,

    /// Accounts in each partition
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub accounts: u32,

    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,

    /// Process ids of the server's nodes, separated by commas, to measure their total CPU time
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub server_pid: Vec<u32>,

    /// The server's data directory, to read its block device's counters
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Directory with a certificate, for a server that wants one
    #[arg(long, value_name = "DIR", env = "WALENGINE_TLS")]
    pub tls: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl LoadArguments {
    /// One connection with one transfer in flight.
    pub fn to(server: SocketAddr) -> Self {
        Self { server, ..Self::default() }
    }
}

impl Default for LoadArguments {
    fn default() -> Self {
        Self {
            server: SocketAddr::from(([127, 0, 0, 1], 7450)),
            connections: 1,
            batch: 1,
            inflight: 1,
            seconds: 1.0,
            warmup: 0.0,
            requests: None,
            rate: None,
            records: false,
            partitions: None,
            accounts: 10_000,
            spanning: 0,
            threads: 1,
            server_pid: Vec::new(),
            data: None,
            tls: None,
            json: false,
        }
    }
}
