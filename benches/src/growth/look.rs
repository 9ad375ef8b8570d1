//! A look at a server: its process, its files and what its status says.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use walengine_net::client::Config;
use walengine_net::client::blocking::Client;
use walengine_net::model::PartitionId;

use crate::error::{During, Result};
use crate::server::Server;
use crate::system;

/// Unit of a file's blocks, stat(2).
const BLOCK_BYTES: u64 = 512;
/// Directories of a partition, see FORMAT.md.
const SEGMENTS: &str = "segments";
const RUNS: &str = "ids";

/// What there is at one moment. A figure of the status is `None` if the server does not have it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Look {
    /// CPU time of all of the server's threads so far.
    pub cpu_micros: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Bytes that the process had written to devices, the zeros ahead of the log too.
    pub process_written_bytes: u64,
    /// Ids in memory, and what they take there.
    pub ids_in_memory: Option<u64>,
    /// See [`Self::ids_in_memory`].
    pub ids_in_memory_bytes: Option<u64>,
    /// Ids in runs.
    pub ids_on_disk: Option<u64>,
    /// Memory of the filter before the runs.
    pub filter_bytes: Option<u64>,
    /// Memory of the runs' fences.
    pub fences_bytes: Option<u64>,
    /// Allocated by segments, the one that is prepared too.
    pub log_disk_bytes: u64,
    /// Allocated by runs, also those that are to be removed.
    pub runs_disk_bytes: u64,
    /// Flushed to the log since the server was started.
    pub log_written_bytes: Option<u64>,
    /// Written to runs since then, merges included.
    pub runs_written_bytes: Option<u64>,
}

impl Look {
    /// Looks. `client` is connected to the server.
    pub fn at(server: &Server, client: &Client) -> Result<Self> {
        let pid = server.pid();
        let status = client.server_status(PartitionId(0)).during("asking for the status")?;
        let number = |wanted: &str| {
            let found = status.numbers.iter().find(|(_, name, _)| name == wanted);
            found.map(|&(_, _, value)| value)
        };
        Ok(Self {
            cpu_micros: system::cpu_micros_of(pid)?,
            resident_bytes: system::resident_bytes_of(pid)?,
            process_written_bytes: system::written_bytes_of(pid)?,
            ids_in_memory: number("ids_in_memory"),
            ids_in_memory_bytes: number("ids_in_memory_bytes"),
            ids_on_disk: number("ids_on_disk"),
            filter_bytes: number("ids_filter_bytes"),
            fences_bytes: number("ids_fences_bytes"),
            log_disk_bytes: allocated(&server.data, SEGMENTS, false),
            runs_disk_bytes: allocated(&server.data, RUNS, false),
            log_written_bytes: number("flush_bytes_since_start"),
            runs_written_bytes: number("ids_written_bytes_since_start"),
        })
    }

    /// Bytes written to runs for each byte of the log.
    pub fn runs_per_log_byte(&self) -> Option<f64> {
        let (runs, log) = (self.runs_written_bytes?, self.log_written_bytes?);
        Some(crate::stats::ratio(runs, log))
    }
}

/// A client for [`Look::at`].
pub fn client_of(server: &Server) -> Result<Client> {
    Client::connect(Config::new(server.address.to_string())).during("connecting for the status")
}

/// What the files in all directories `name` below `dir` have allocated. Files come and go meanwhile.
fn allocated(dir: &Path, name: &str, is_inside: bool) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| {
        let Ok(metadata) = entry.metadata() else { return 0 };
        if metadata.is_dir() {
            allocated(&entry.path(), name, is_inside || entry.file_name() == name)
        } else if is_inside {
            metadata.blocks() * BLOCK_BYTES
        } else {
            0
        }
    };
    entries.map(of_entry).sum()
}
