//! A projector process, which is stopped when it is dropped.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use super::sql::OWNER;
use crate::error::{During, Result, failed};
use crate::limits::{POLL_INTERVAL, SERVER_PATIENCE};
use crate::server::find_binary;
use crate::system;
use crate::system::free_address;

/// The `walengine-projector` binary.
#[derive(Clone, Debug)]
pub struct ProjectorProgram(PathBuf);

/// The PostgreSQL that it projects to.
#[derive(Clone, Copy, Debug)]
pub enum Postgres<'a> {
    /// A running one, with its socket in this directory.
    Running(&'a Path),
    /// One that the projector manages in this directory. Both stay off the engine's core, which is
    /// the first, and run only while the others are idle.
    ManagedAndIdle(&'a Path),
}

/// A running projector.
pub struct Projector {
    child: Child,
    metrics: SocketAddr,
    log: PathBuf,
}

impl ProjectorProgram {
    /// The one that was named, or the one beside this binary.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        Ok(Self(find_binary(named, "walengine-projector")?))
    }

    /// Starts it. Its messages go to `log`.
    pub fn start(
        &self,
        server: SocketAddr,
        postgres: Postgres<'_>,
        schema: &str,
        log: &Path,
    ) -> Result<Projector> {
        let what = format!("starting {}", self.0.display());
        let metrics = free_address()?;
        let mut command = match postgres {
            Postgres::Running(directory) => {
                let mut command = Command::new(&self.0);
                let host = directory.display();
                let url = format!("host={host} user={OWNER} dbname={OWNER}");
                command.args(["--postgres", &url]);
                command
            }
            Postgres::ManagedAndIdle(directory) => {
                let cores = std::thread::available_parallelism().during(&what)?.get();
                if cores < 2 {
                    return failed("the engine's cost takes two cores: one is the engine's alone");
                }
                let mut command = Command::new("taskset");
                command.args(["-c", &format!("1-{}", cores - 1), "chrt", "--idle", "0"]);
                command.arg(&self.0).arg("--managed-postgres").arg(directory);
                command
            }
        };
        let said = File::options().create(true).append(true).open(log).during(&what)?;
        command
            .args(["--server", &server.to_string(), "--schema", schema])
            .args(["--metrics", &metrics.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let child = command.spawn().during(&what)?;
        Ok(Projector { child, metrics, log: log.to_owned() })
    }
}

impl Projector {
    /// Fails with the last line of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if self.child.try_wait().during("looking at the projector")?.is_none() {
            return Ok(());
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        failed(format!("the projector has ended: {}", log.lines().last().unwrap_or_default()))
    }

    /// Number of partition 0's transactions, and the seconds that they took.
    pub fn transactions(&self) -> Result<(f64, f64)> {
        let what = "asking the projector for metrics";
        let mut stream = TcpStream::connect(self.metrics).during(what)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").during(what)?;
        let mut page = String::new();
        stream.read_to_string(&mut page).during(what)?;
        let value = |name: &str| {
            let name =
                format!("walengine_projector_transaction_seconds_{name}{{partition=\"0\"}} ");
            let number = page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
            number.map_or_else(|| failed(format!("{what}: {name}is missing")), Ok)
        };
        Ok((value("count")?, value("sum")?))
    }

    /// Stops it with SIGTERM and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        self.check()?;
        system::signal(self.child.id(), Signal::TERM)?;
        if self.ends() { Ok(()) } else { failed("the projector does not end") }
    }

    fn ends(&mut self) -> bool {
        let since = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if since.elapsed() > SERVER_PATIENCE {
                return false;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        true
    }
}

impl Drop for Projector {
    /// Gives it time to stop the PostgreSQL that it manages.
    fn drop(&mut self) {
        let has_ended = self.child.try_wait().is_ok_and(|ended| ended.is_some());
        if !has_ended && system::signal(self.child.id(), Signal::TERM).is_ok() && self.ends() {
            return;
        }
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
