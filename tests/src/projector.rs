//! A real `walengine-projector` process, which is killed when it is dropped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::log_file::LogFile;
use crate::postgres::{POLL_INTERVAL, Postgres};
use crate::server;

/// How long it may take to catch up, or to end.
const PATIENCE: Duration = Duration::from_mins(2);

/// The binary, which is beside the tests.
///
/// # Panics
/// If it has not been built.
pub fn binary() -> PathBuf {
    let path = server::binary().with_file_name("walengine-projector");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p walengine-projector` with the same profile first, as \
         scripts/test.sh does",
        path.display()
    );
    path
}

/// How to start it.
#[derive(Clone, Debug)]
pub struct Projecting {
    log: PathBuf,
    through: Vec<String>,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Projecting {
    /// From these servers to this database. Its messages go to `dir/projector.log`.
    pub fn new(dir: &Path, servers: &str, postgres: &str) -> Self {
        let arguments = ["--server", servers, "--postgres", postgres].map(str::to_owned).to_vec();
        let log = dir.join("projector.log");
        Self { log, through: Vec::new(), arguments, variables: Vec::new() }
    }

    /// From these servers to a PostgreSQL of its own in `home`.
    pub fn managed(dir: &Path, servers: &str, home: &Path) -> Self {
        let home = home.to_str().unwrap();
        let arguments = ["--server", servers, "--managed-postgres", home].map(str::to_owned);
        Self { arguments: arguments.to_vec(), ..Self::new(dir, servers, "") }
    }

    /// Runs it in a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: &str) -> Self {
        self.through = ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec();
        self
    }

    /// Adds a flag.
    #[must_use]
    pub fn set(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends its messages to another file.
    #[must_use]
    pub fn log_to(mut self, log: &Path) -> Self {
        log.clone_into(&mut self.log);
        self
    }

    fn command(&self, subcommand: &[&str]) -> Command {
        let words = [self.through.as_slice(), &[binary().to_str().unwrap().to_owned()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(subcommand).args(&self.arguments).stdin(Stdio::null());
        let ours = |name: &str| name.starts_with("WALENGINE_") || name.starts_with("PG");
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Starts it.
    ///
    /// # Panics
    /// If the process can't be started.
    pub fn spawn(&self) -> Projector {
        self.start(&[])
    }

    /// Starts a command without waiting for it.
    ///
    /// # Panics
    /// If the process can't be started.
    pub fn spawn_command(&self, command: &str) -> Projector {
        self.start(&[command])
    }

    fn start(&self, subcommand: &[&str]) -> Projector {
        let (log, file) = LogFile::begin(&self.log);
        let mut command = self.command(subcommand);
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Projector { child, log }
    }

    /// Runs a command to its end: `audit`, `rebuild`, `status` or `wait-for`; without a command the
    /// projector itself, which is expected to fail.
    ///
    /// # Panics
    /// If the process can't be started, or does not end.
    pub fn run(&self, subcommand: &[&str]) -> Output {
        let mut command = self.command(subcommand);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let by = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > by {
                let _ = child.kill();
                panic!("it does not end: {:?}", child.wait_with_output());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        child.wait_with_output().unwrap()
    }

    /// Runs an audit. Returns whether everything is equal, and the printed report.
    ///
    /// # Panics
    /// If the audit fails.
    pub fn audit(&self) -> (bool, String) {
        let output = self.run(&["audit"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => (true, said),
            Some(1) => (false, said),
            _ => panic!("the audit ends with {:?}: {said}{error}", output.status),
        }
    }

    /// How many differences a printed report of an audit names. Sums differ with each of their rows, and are no difference
    /// of their own.
    pub fn differences(report: &str) -> usize {
        const SUMS: [&str; 4] =
            ["  daily_volumes", "  account_marks", "  balance_marks", "  booked_sums"];
        let is_sum = |line: &str| SUMS.iter().any(|sum| line.starts_with(sum));
        let is_named = |line: &&str| line.starts_with("  ") && !is_sum(line);
        report.lines().filter(is_named).count()
    }

    /// Runs an audit that must find no difference. Returns the printed report.
    ///
    /// # Panics
    /// If it finds one, or fails.
    pub fn audit_finds_no_difference(&self) -> String {
        let (equal, report) = self.audit();
        assert!(equal, "{report}");
        report
    }

    /// Runs the projector, which must end by itself with this code. Returns its last line.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub fn fails_with(&self, code: i32) -> String {
        let output = self.run(&[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(!error.contains("panicked"), "{error}");
        error.lines().last().unwrap_or_default().to_owned()
    }
}

/// A running projector.
#[derive(Debug)]
pub struct Projector {
    child: Child,
    log: LogFile,
}

impl Projector {
    /// Its messages.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a message that contains `what`.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait_to_say(&mut self, what: &str) {
        let by = Instant::now() + PATIENCE;
        while !self.log().contains(what) {
            let ended = self.child.try_wait().unwrap();
            let is_late = ended.is_some() || Instant::now() > by;
            assert!(!is_late, "it does not say {what:?}: {ended:?}\n{}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// If it is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    /// If it can't be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // fails if it has ended
        self.child.wait().unwrap();
    }

    /// Its page of metrics, which `--metrics 127.0.0.1:0` serves.
    ///
    /// # Panics
    /// If it does not say where that is, or does not serve it.
    pub fn page(&mut self) -> String {
        self.wait_to_say("metrics on http://");
        let log = self.log();
        let (_, behind) = log.split_once("metrics on http://").unwrap();
        let mut stream = TcpStream::connect(behind.split('/').next().unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        text
    }

    /// Waits until its page has this line, without what all names begin with.
    ///
    /// # Panics
    /// If it is not there in time.
    pub fn wait_to_show(&mut self, line: &str) {
        let (line, by) = (format!("walengine_projector_{line}"), Instant::now() + PATIENCE);
        loop {
            let page = self.page();
            if page.lines().any(|found| found == line) {
                return;
            }
            assert!(Instant::now() < by, "{line} is not in {page}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// If it can't be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Stops it with SIGTERM and checks that it ends in order.
    ///
    /// # Panics
    /// If not.
    pub fn stop(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let by = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < by, "it does not stop:\n{}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Waits until the database holds everything below these offsets, one for each partition.
    ///
    /// # Panics
    /// If that takes too long, or the projector ends.
    pub fn wait_until_at(&mut self, postgres: &Postgres, ends: &[u64]) {
        let by = Instant::now() + PATIENCE;
        let ask = "SELECT next_offset FROM walengine.positions ORDER BY partition";
        loop {
            let found = postgres.ask_as(crate::postgres::OWNER, ask).unwrap_or_default();
            let found: Vec<u64> = found.lines().filter_map(|line| line.parse().ok()).collect();
            let is_there = |(found, end): (&u64, &u64)| found >= end;
            if found.len() == ends.len() && found.iter().zip(ends).all(is_there) {
                return;
            }
            let ended = self.ended();
            let is_late = ended.is_some() || Instant::now() > by;
            assert!(!is_late, "{found:?} instead of {ends:?}, {ended:?}:\n{}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends a load when it is dropped, so also when its test fails.
#[derive(Debug)]
pub struct EndsLoad<'a>(pub &'a AtomicBool);

impl Drop for EndsLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
