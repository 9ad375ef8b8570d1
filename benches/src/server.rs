//! A single walengine server, which is killed when it is dropped.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use walengine_net::tls::Tls;

use crate::error::{During, Result, failed};
use crate::limits::{POLL_INTERVAL, SERVER_PATIENCE};
use crate::load;
use crate::system;
use crate::system::free_address;

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
}

/// The server's binary.
#[derive(Clone, Debug)]
pub struct Program {
    /// The `walengine` binary.
    pub path: PathBuf,
    /// Where `walengine cert` has made certificates of node 1 and of the client `bench`.
    credentials: Option<PathBuf>,
}

impl Program {
    /// The one that was named, or the one beside this binary.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        Ok(Self { path: find_binary(named, "walengine")?, credentials: None })
    }

    /// The same with certificates.
    pub fn secured(self, credentials: &Path) -> Self {
        Self { credentials: Some(credentials.to_owned()), ..self }
    }

    /// Starts a server and waits until it answers. Its log file is `data` with the extension `log`.
    pub fn start(&self, data: &Path, cores: usize) -> Result<Server> {
        let what = format!("starting {}", self.path.display());
        let address = free_address()?;
        let log = data.with_extension("log");
        let tls = |who: &str| self.credentials.as_ref().map(|dir| dir.join(who));
        let child = Command::new(&self.path)
            .args(tls("node-1").iter().flat_map(|dir| [Path::new("--tls"), dir]))
            .args(["--cores", &cores.to_string(), "--listen", &address.to_string()])
            .args(["--reserve-mib", "64", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).during(&what)?)
            .spawn()
            .during(&what)?;
        let mut server = Server { child, address, data: data.to_owned() };
        let since = Instant::now();
        let client = tls("client-bench").as_deref().map(Tls::open).transpose().during(&what)?;
        while let Err(error) = load::connect(address, client.as_ref()) {
            let ended = server.child.try_wait().during(&what)?;
            if ended.is_some() || since.elapsed() > SERVER_PATIENCE {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("its log is empty");
                return failed(format!("{what}: {error}; {last}"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(server)
    }
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it with SIGTERM and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        system::signal(self.pid(), Signal::TERM)?;
        let since = Instant::now();
        while self.child.try_wait().during("stopping the server")?.is_none() {
            if since.elapsed() > SERVER_PATIENCE {
                return failed("the server does not end");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Kills it.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().during("killing the server")?;
        self.child.wait().during("killing the server")?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary that was named, or the one with this name beside this program.
pub fn find_binary(named: Option<&Path>, package: &str) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .during(&format!("looking for {package}"))?
            .with_file_name(package),
    };
    if !path.exists() {
        let path = path.display();
        return failed(format!("{path} is missing: cargo build --release -p {package}"));
    }
    Ok(path)
}

/// A directory for one measurement; removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Creates `name` in `dir`.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(Self::prefix() + name);
        std::fs::create_dir_all(&path).during(&format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Prefix of the names of all scratch directories of this process.
    pub fn prefix() -> String {
        format!("walengine-bench-{}-", std::process::id())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever can't be removed is left for the user to see.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
