//! A walengine server that the benchmark starts, and stops when it is dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{During, Result, failed};
use crate::load;
use crate::system;

/// How long a server may take to answer for the first time, and to end.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
}

/// How to start servers.
#[derive(Clone, Debug)]
pub struct Program {
    /// The `walengine` binary.
    pub path: PathBuf,
}

impl Program {
    /// The one that was named, or the one beside this binary.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => {
                std::env::current_exe().during("looking for walengine")?.with_file_name("walengine")
            }
        };
        if !path.exists() {
            let path = path.display();
            return failed(format!("{path} is missing: cargo build --release -p walengine"));
        }
        Ok(Self { path })
    }

    /// Starts a server and waits until it answers. Its log goes to `data` with `.log` behind it.
    pub fn start(&self, data: &Path, cores: usize) -> Result<Server> {
        let what = format!("starting {}", self.path.display());
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.during(&what)?;
        let log = data.with_extension("log");
        let child = Command::new(&self.path)
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
        while let Err(error) = load::probe(address) {
            let ended = server.child.try_wait().during(&what)?;
            if ended.is_some() || since.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("its log is empty");
                return failed(format!("{what}: {error}; {last}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) -> Result<()> {
        system::signal(self.pid(), libc::SIGTERM)?;
        let since = Instant::now();
        while self.child.try_wait().during("stopping the server")?.is_none() {
            if since.elapsed() > PATIENCE {
                return failed("the server does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends it without notice.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().during("killing the server")?;
        self.child.wait().during("killing the server")?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

    /// What the names of all of this process's begin with.
    pub fn prefix() -> String {
        format!("walengine-bench-{}-", std::process::id())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is left for the user to see.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
