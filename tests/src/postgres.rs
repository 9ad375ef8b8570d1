//! A real PostgreSQL server for one test: in a directory of the test, on a socket only, as an
//! unprivileged user if the test is root. It can be stopped and killed in every way. Queries go
//! through psql, so that none of the tested code takes part in them.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start, including recovery, and to stop.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at a process that starts or ends.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Name of its superuser and of its database.
pub const OWNER: &str = "owner";

/// A server; killed when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    data: PathBuf,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    child: Option<Child>,
    settings: Vec<String>,
    port: u16,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections end, everything is written.
    Fast,
    /// At once, without flushing; the next start recovers.
    Immediate,
    /// `kill -9` of the postmaster; its children follow when they notice.
    Kill,
}

impl Postgres {
    /// Creates a server in `directory` and starts it.
    ///
    /// # Panics
    /// If PostgreSQL is not installed, or does not start.
    pub fn start(directory: &Path) -> Self {
        Self::start_in(directory, &directory.join("data"))
    }

    /// The same with its data in another directory.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_in(directory: &Path, data: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let user = unprivileged(directory);
        if let Some((user, group)) = user {
            chown(directory, Some(user), Some(group)).unwrap();
            chown(data.parent().unwrap(), Some(user), Some(group)).unwrap();
        }
        let (directory, data) = (directory.to_owned(), data.to_owned());
        let mut postgres = Self {
            directory,
            data,
            binaries: binaries(),
            user,
            child: None,
            settings: Vec::new(),
            port: 5432,
        };
        let data = postgres.data.to_str().unwrap().to_owned();
        let made = postgres.command("initdb", &["-A", "trust", "-U", OWNER, "-N", "-D", &data]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.serve();
        let made = postgres.command("createdb", &["-h", postgres.host(), "-U", OWNER, OWNER]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.current_dir(&self.directory).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("PGPORT", self.port.to_string());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Output {
        self.program(name).args(arguments).output().unwrap()
    }

    /// Starts it, also after a stop, and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn serve(&mut self) {
        let by = Instant::now() + PATIENCE;
        loop {
            let log = self.directory.join("log");
            let log = File::options().create(true).append(true).open(log).unwrap();
            let mut postgres = self.program("postgres");
            postgres.arg("-D").arg(&self.data).arg("-k").arg(&self.directory);
            postgres.args(["-c", "listen_addresses=", "-c", "max_wal_size=2GB"]);
            for setting in &self.settings {
                postgres.args(["-c", setting]);
            }
            postgres.stdout(Stdio::null()).stderr(log);
            let mut child = postgres.spawn().unwrap();
            loop {
                if self.command("pg_isready", &["-q", "-h", self.host()]).status.success() {
                    self.child = Some(child);
                    return;
                }
                // Children of a killed postmaster hold its memory for a moment.
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                assert!(Instant::now() < by, "PostgreSQL does not start: {}", self.log());
                std::thread::sleep(POLL_INTERVAL);
            }
            assert!(Instant::now() < by, "PostgreSQL does not start: {}", self.log());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Restarts it with a port on an address of this machine, where its owner needs no password.
    /// Returns how to connect.
    ///
    /// # Panics
    /// If it does not start.
    pub fn serve_on(&mut self, address: Ipv4Addr) -> String {
        let access = format!("local all all trust\nhost all {OWNER} samenet trust\n");
        fs::write(self.data.join("pg_hba.conf"), access).unwrap();
        self.stop(Stop::Fast);
        self.settings = vec![format!("listen_addresses={address}")];
        self.serve();
        format!("host={address} port={} user={OWNER} dbname={OWNER} sslmode=disable", self.port)
    }

    /// Restarts it on a port of the loopback interface with TLS. Its certificate is for
    /// `localhost`, signed by a new authority. The user needs TLS and a password; a user `plain` may
    /// have no TLS, and a user `either` does as he likes, neither with a password; a user `certified`
    /// needs `client.crt` and `client.key`, beside the authority's file. Its log tells of connections. Returns the port and the authority's file.
    ///
    /// # Panics
    /// If openssl is missing, or the server does not start.
    pub fn serve_tls(&mut self, user: &str) -> (u16, PathBuf) {
        let script = format!(
            "set -e; umask 077
             openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 9
             openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=localhost
             printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >tls.ext
             openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt \
                 -days 9 -extfile tls.ext
             openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=certified
             printf 'basicConstraints=CA:FALSE\n' >client.ext
             openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
                 -out client.crt -days 9 -extfile client.ext
             printf 'local all all trust\nhostssl all {user} 127.0.0.1/32 scram-sha-256\n' \
                 >{0}/pg_hba.conf
             printf 'hostssl all certified 127.0.0.1/32 cert\n' >>{0}/pg_hba.conf
             printf 'hostnossl all plain 127.0.0.1/32 trust\nhost all either 127.0.0.1/32 trust\n' \
                 >>{0}/pg_hba.conf",
            self.data.display()
        );
        let mut shell = Command::new("sh");
        shell.current_dir(&self.directory).args(["-c", &script]);
        if let Some((user, group)) = self.user {
            shell.uid(user).gid(group);
        }
        let made = shell.output().unwrap();
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        self.stop(Stop::Fast);
        let file = |name: &str| self.directory.join(name).display().to_string();
        self.settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            "log_connections=on".to_owned(),
            format!("ssl_ca_file={}", file("ca.crt")),
            format!("ssl_cert_file={}", file("tls.crt")),
            format!("ssl_key_file={}", file("tls.key")),
        ];
        self.port = port;
        self.serve();
        (port, self.directory.join("ca.crt"))
    }

    /// After [`Self::serve_tls`]: with another certificate and its key.
    ///
    /// # Panics
    /// If they can't be read, or it does not start.
    pub fn serve_certificate(&mut self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "tls.crt"), (key, "tls.key")] {
            // Keeps the owner.
            fs::write(self.directory.join(name), fs::read(from).unwrap()).unwrap();
        }
        self.stop(Stop::Fast);
        self.serve();
    }

    /// Stops it.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self, how: Stop) {
        let mut child = self.child.take().expect("it runs");
        let signal = match how {
            Stop::Fast => "-INT",
            Stop::Immediate => "-QUIT",
            Stop::Kill => "-KILL",
        };
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        child.wait().unwrap();
    }

    /// Kills it if it still runs.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop_if_it_runs(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // fails if it has ended
            child.wait().unwrap();
        }
    }

    /// Directory of its socket, the value of `host`.
    ///
    /// # Panics
    /// If the path is not UTF-8.
    pub fn host(&self) -> &str {
        self.directory.to_str().unwrap()
    }

    /// Connection string of its owner.
    pub fn url(&self) -> String {
        self.url_of(OWNER, OWNER)
    }

    /// Connection string of any user.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("host={} user={user} dbname={database}", self.host())
    }

    /// Directory of its data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Runs statements as a user. Returns rows as CSV without a heading.
    ///
    /// # Errors
    /// psql's message.
    ///
    /// # Panics
    /// If psql can't be run.
    pub fn ask_as(&self, user: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.program("psql");
        psql.args(["-X", "-q", "--csv", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.host()]);
        let output = psql.args(["-U", user, "-d", OWNER, "-c", sql]).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// The same as its owner.
    ///
    /// # Panics
    /// If it fails.
    pub fn ask(&self, sql: &str) -> String {
        self.ask_as(OWNER, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// psql as the user of the test, who names the database.
    pub fn psql(&self) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            psql.env_remove(name);
        }
        psql.args(["-X", "-A", "-t", "-w"]).stdin(Stdio::null());
        psql
    }

    /// What `pg_dump` writes about a schema without its rows, line by line.
    ///
    /// # Panics
    /// If it fails.
    pub fn dump(&self, schema: &str) -> Vec<String> {
        let of = ["-h", self.host(), "-U", OWNER, "-d", OWNER, "-n", schema, "--schema-only"];
        let output = self.command("pg_dump", &of);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // Newer ones write a key that differs each time.
        let counts = |line: &&str| !line.starts_with("--") && !line.contains("restrict ");
        text.lines().filter(counts).map(str::to_owned).collect()
    }

    /// Rows of a query, split at commas.
    ///
    /// # Panics
    /// If it fails.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let split = |line: &str| line.split(',').map(str::to_owned).collect();
        self.ask(sql).lines().map(split).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // At once, because its data is no longer needed.
            let id = child.id().to_string();
            let _ = Command::new("kill").args(["-QUIT", &id]).status();
            let _ = child.wait();
        }
    }
}

fn binaries() -> PathBuf {
    let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = releases
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .max();
    let found = newest.map(|(_, path)| path.join("bin")).filter(|path| path.exists());
    found.expect("PostgreSQL is missing: apt-get install postgresql")
}

/// The user to run PostgreSQL as, because it refuses to run as root.
fn unprivileged(directory: &Path) -> Option<(u32, u32)> {
    if directory.metadata().unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("the user postgres comes with the package").split(':').skip(2);
    let mut id = || fields.next().unwrap().parse().unwrap();
    Some((id(), id()))
}
