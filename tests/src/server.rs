//! A real `walengine` process: on a free port, with a data directory on a real file system, killed
//! when it is dropped. What it writes to stderr goes to a file beside the data, for the test to read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use walengine_net::client::{Config, blocking::Client};

use crate::log_file::LogFile;
use crate::wire::Wire;

/// How long a server may take to start or to stop. Generous: the machine has other work.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What the server says when it serves; the address follows.
const SERVING: &str = "serving on ";

/// The server's binary, which is built beside the tests.
///
/// # Panics
/// If it has not been built.
pub fn binary() -> PathBuf {
    let path = target_dir().join("walengine");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p walengine` with the same profile first, as \
         scripts/test.sh does",
        path.display()
    );
    path
}

/// Where cargo puts this profile's binaries: two steps above the test.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in a directory");
    deps.parent().expect("that directory lies in the target directory").to_owned()
}

/// All that a command said.
pub fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A directory of one test, under the target directory and so on a real file system; removed at
/// the end.
#[derive(Debug)]
pub struct TestDir(PathBuf);

impl TestDir {
    /// A new, empty one.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new(test: &str) -> Self {
        let path = target_dir().join("tmp").join(format!("{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // of an older process with this number
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // only disk space is lost
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Launch {
    data: PathBuf,
    log: PathBuf,
    through: Vec<String>,
    arguments: Vec<String>,
}

impl Launch {
    /// One core, a free port, no HTTP, small segments, data in `dir/data`, stderr in `dir/log`.
    pub fn new(dir: &Path) -> Self {
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--cores",
            "1",
            "--segment-mib",
            "8",
            "--reserve-mib",
            "16",
            "--http",
            "off",
        ];
        Self {
            data: dir.join("data"),
            log: dir.join("log"),
            through: Vec::new(),
            arguments: arguments.map(str::to_owned).to_vec(),
        }
    }

    /// With data elsewhere.
    #[must_use]
    pub fn data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        self
    }

    /// With another value of a flag, or one more flag.
    #[must_use]
    pub fn set(mut self, flag: &str, value: &str) -> Self {
        match self.arguments.iter().position(|argument| argument == flag) {
            Some(place) => value.clone_into(&mut self.arguments[place + 1]),
            None => self.arguments.extend([flag.to_owned(), value.to_owned()]),
        }
        self
    }

    /// Started by another command, such as `prlimit`.
    #[must_use]
    pub fn through(mut self, command: &[&str]) -> Self {
        self.through = command.iter().map(ToString::to_string).collect();
        self
    }

    fn command(&self) -> Command {
        let binary = binary();
        let mut command = match self.through.split_first() {
            None => Command::new(binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command.arg("--data").arg(&self.data).args(&self.arguments);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WALENGINE_")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts it and waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not end, because it serves.
    pub fn fails(&self) -> Output {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let by = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > by {
                let _ = child.kill();
                panic!("the server serves: {:?}", child.wait_with_output());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        child.wait_with_output().unwrap()
    }

    /// Starts it, without waiting.
    ///
    /// # Panics
    /// If the process can't be started.
    pub fn spawn(&self) -> Server {
        let (log, file) = LogFile::begin(&self.log);
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap();
        Server { child, log, address: None }
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// If it does not; the message has what it said.
    pub fn serve(&self) -> Server {
        let mut server = self.spawn();
        server.wait_until_serving();
        server
    }
}

/// Runs a command of the binary to its end in `dir`, on a server if it needs one.
///
/// # Panics
/// If the process can't be started.
pub fn run_command(server: Option<&Server>, dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir).env_remove("WALENGINE_SERVER");
    if let Some(server) = server {
        command.env("WALENGINE_SERVER", server.address().to_string());
    }
    command.output().unwrap()
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: LogFile,
    address: Option<SocketAddr>,
}

impl Server {
    /// Waits until it serves.
    ///
    /// # Panics
    /// If it does not; the message has what it said.
    pub fn wait_until_serving(&mut self) {
        let by = Instant::now() + PATIENCE;
        loop {
            self.address = address_in(&self.log());
            if self.address.is_some() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status} instead of serving:\n{}", self.log());
            }
            assert!(Instant::now() < by, "the server does not serve:\n{}", self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    ///
    /// # Panics
    /// If it was not waited for.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the server was waited for")
    }

    /// Where it takes HTTP: `http://ADDR:PORT`, or `https`.
    ///
    /// # Panics
    /// If it has not said so.
    pub fn http_url(&self) -> String {
        let log = self.log();
        let (_, behind) = log.split_once("HTTP on ").unwrap_or_else(|| panic!("no HTTP:\n{log}"));
        behind.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// What it has said since it was started.
    ///
    /// # Panics
    /// If the file can't be read.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// A connection to a partition, greeted.
    ///
    /// # Panics
    /// If there is none.
    pub fn wire(&self, partition: u16) -> Wire {
        Wire::greeted(self.address(), partition).unwrap()
    }

    /// A client.
    ///
    /// # Panics
    /// If it can't connect.
    pub fn client(&self) -> Client {
        let config = Config::new(self.address().to_string());
        let config = Config { deadline: PATIENCE, ..config };
        Client::connect(config).unwrap()
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    /// Sockets that it has open.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn open_sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    /// If the process can't be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM, without waiting.
    ///
    /// # Panics
    /// If `kill` can't be run.
    pub fn signal_term(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(status.success(), "the process is gone:\n{}", self.log());
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let by = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < by, "the server does not end:\n{}", self.log());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Stops it with SIGTERM and checks that it ends well and never panicked.
    ///
    /// # Panics
    /// If not.
    pub fn stop(&mut self) {
        self.signal_term();
        let status = self.wait();
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, behind) = log.split_once(SERVING)?;
    let (line, _) = behind.split_once('\n')?;
    line.split(": ").next()?.parse().ok()
}
