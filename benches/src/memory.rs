//! Memory for each account and each remembered id, and the time that a restart with them takes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::limits::SETTLE;
use crate::load::{self, LoadArguments};
use crate::server::{Program, Scratch, Server};
use crate::stats::ratio;
use crate::system;

/// Transfers in a request: divides the usual counts.
const BATCH: usize = 8000;

/// Extent of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct MemoryArguments {
    /// Directory on the disk to use
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Accounts to create
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub accounts: u32,

    /// Transfers to send, rounded to whole batches of 8,000
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub transfers: u64,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
}

impl Default for MemoryArguments {
    fn default() -> Self {
        let dir = PathBuf::from(".");
        Self { dir, accounts: 1_000_000, transfers: 10_000_000, server: None }
    }
}

/// Results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Accounts created.
    pub accounts: u32,
    /// Transfers accepted.
    pub transfers: u64,
    /// Resident bytes of the empty server, with the accounts, and with the transfers.
    pub resident_bytes: [u64; 3],
    /// Memory that an account adds.
    pub bytes_per_account: f64,
    /// Memory that a remembered transfer adds.
    pub bytes_per_id: f64,
    /// From start to first answer after an orderly stop.
    pub restart_seconds: f64,
    /// From start to first answer after `kill -9`.
    pub restart_after_kill_seconds: f64,
    /// Resident bytes after each of the two restarts.
    pub resident_bytes_restarted: [u64; 2],
}

/// Measures and prints.
pub fn command(arguments: &MemoryArguments) -> Result<MemoryReport> {
    let program = Program::find(arguments.server.as_deref())?;
    let scratch = Scratch::create(&arguments.dir, "memory")?;
    let data = scratch.0.join("data");
    let server = program.start(&data, 1)?;
    let empty = settled(&server)?;
    send(&server, arguments.accounts, 0)?;
    let with_accounts = settled(&server)?;
    let requests = arguments.transfers.div_ceil(BATCH as u64);
    send(&server, arguments.accounts, requests)?;
    let with_transfers = settled(&server)?;
    server.stop()?;
    let (server, restart_seconds) = restart(&program, &data)?;
    let restarted = system::resident_bytes_of(server.pid())?;
    server.kill()?;
    let (server, restart_after_kill_seconds) = restart(&program, &data)?;
    let restarted_after_kill = system::resident_bytes_of(server.pid())?;
    server.stop()?;
    let transfers = requests * BATCH as u64;
    let report = MemoryReport {
        accounts: arguments.accounts,
        transfers,
        resident_bytes: [empty, with_accounts, with_transfers],
        bytes_per_account: ratio(with_accounts.saturating_sub(empty), arguments.accounts.into()),
        bytes_per_id: ratio(with_transfers.saturating_sub(with_accounts), transfers),
        restart_seconds,
        restart_after_kill_seconds,
        resident_bytes_restarted: [restarted, restarted_after_kill],
    };
    print!("{}", report.to_text());
    Ok(report)
}

/// Creates the missing accounts, then sends `requests` requests.
fn send(server: &Server, accounts: u32, requests: u64) -> Result<()> {
    load::run(&LoadArguments {
        batch: BATCH,
        inflight: 2,
        requests: Some(requests),
        accounts,
        ..LoadArguments::to(server.address)
    })?;
    Ok(())
}

fn settled(server: &Server) -> Result<u64> {
    std::thread::sleep(SETTLE);
    system::resident_bytes_of(server.pid())
}

fn restart(program: &Program, data: &Path) -> Result<(Server, f64)> {
    let start = Instant::now();
    let server = program.start(data, 1)?;
    Ok((server, start.elapsed().as_secs_f64()))
}

impl MemoryReport {
    fn to_text(&self) -> String {
        let [empty, accounts, transfers] = self.resident_bytes.map(|bytes| bytes >> 20);
        let verdict = |met| if met { "met" } else { "NOT MET" };
        let slowest = self.restart_seconds.max(self.restart_after_kill_seconds);
        format!(
            "memory: empty {empty} MiB, with {} accounts {accounts} MiB, with {} transfers \
             {transfers} MiB\n\
             {:>8.1} bytes per account        (at most 200: {})\n\
             {:>8.1} bytes per remembered id  (at most 40: {})\n\
             {:>8.2} s to restart after SIGTERM, {:.2} s after kill -9  (at most 5: {})\n",
            self.accounts,
            self.transfers,
            self.bytes_per_account,
            verdict(self.bytes_per_account <= 200.0),
            self.bytes_per_id,
            verdict(self.bytes_per_id <= 40.0),
            self.restart_seconds,
            self.restart_after_kill_seconds,
            verdict(slowest <= 5.0),
        )
    }
}
