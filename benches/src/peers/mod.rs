//! Other programs with the same durability, if they are installed: Redis Streams, etcd, PostgreSQL.

mod etcd;
mod postgres;
mod redis;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{During, Result, failed};
use crate::system::free_address;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Extent of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct PeersArguments {
    /// Directory on the disk to measure; an unprivileged user must be able to reach it
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// How long each load takes, in seconds
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,
}

/// A load of another program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// Program and load.
    pub name: String,
    /// Why it was not run, and what to do about it.
    pub not_run: Option<String>,
    /// Records or transfers a second.
    pub events_per_second: f64,
    /// Half of the requests are faster, in microseconds.
    pub p50_micros: f64,
    /// 99 in 100 are faster.
    pub p99_micros: f64,
    /// The slowest.
    pub max_micros: f64,
}

impl PeerReport {
    fn absent(name: &str, package: &str, program: &str) -> Vec<Self> {
        let why = format!("not run: {program} is not installed (apt-get install {package})");
        vec![Self { name: name.into(), not_run: Some(why), ..Self::default() }]
    }

    fn to_line(&self) -> String {
        match &self.not_run {
            Some(why) => format!("{:<44} {why}", self.name),
            None => format!(
                "{:<44} {:>10.0} {:>10.1} {:>10.1} {:>10.1}",
                self.name,
                self.events_per_second,
                self.p50_micros,
                self.p99_micros,
                self.max_micros
            ),
        }
    }
}

/// Measures a program; an error says why that was not possible.
type Measure = fn(&PeersArguments) -> Result<Vec<PeerReport>>;

/// Measures and prints.
pub fn command(arguments: &PeersArguments) -> Vec<PeerReport> {
    println!(
        "{:<44} {:>10} {:>10} {:>10} {:>10}",
        "others, flushed before the answer", "events/s", "p50 us", "p99 us", "max us"
    );
    let mut reports = Vec::new();
    let peers: [(&str, Measure); 3] = [
        ("Redis Streams", redis::measure),
        ("etcd", etcd::measure),
        ("PostgreSQL", postgres::measure),
    ];
    for (name, measure) in peers {
        let of_peer = measure(arguments).unwrap_or_else(|error| {
            let why = Some(format!("not run: {error}"));
            vec![PeerReport { name: name.into(), not_run: why, ..PeerReport::default() }]
        });
        for report in &of_peer {
            println!("{}", report.to_line());
        }
        reports.extend(of_peer);
    }
    reports
}

/// A server, killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Finds a program on the path, or where Debian keeps PostgreSQL.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        dirs.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    dirs.into_iter().map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn free_port() -> Result<u16> {
    Ok(free_address()?.port())
}

fn wait_for_port(port: u16, what: &str) -> Result<()> {
    let since = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if since.elapsed() > PATIENCE {
            return failed(format!("{what} does not answer"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs a command to its end. Returns its output, or the last line of its errors.
fn output(command: &mut Command, what: &str) -> Result<Output> {
    let output = command.output().during(what)?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    failed(format!("{what}: {}", words.lines().last().unwrap_or("it failed without a message")))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
