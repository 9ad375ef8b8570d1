//! A private PostgreSQL server from the installed binaries. It has its own directory, listens on a
//! socket only, runs as an unprivileged user if the projector is root, and stops with the
//! projector.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::config::Target;
use crate::fatal::{Fatal, Reason};
use crate::limits::{MANAGED_WITHIN, POLL_INTERVAL, SOCKET_PATH_MAX};

/// Oldest supported release.
const RELEASE_MIN: u32 = 15;
/// Where distributions install the releases.
const INSTALLED: [&str; 2] = ["/usr/lib/postgresql", "/opt/postgresql"];
/// Unprivileged users, in the order of preference.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Name of its superuser and of the database.
const OWNER: &str = "walengine";

/// A running server; stopped when it is dropped.
#[derive(Debug)]
pub struct Managed {
    /// `None` if a killed projector left it running.
    child: Option<Child>,
    /// Held, so that no other projector uses or stops the server.
    _lock: fs::File,
    directory: PathBuf,
    owner: Option<(u32, u32)>,
    binaries: PathBuf,
}

impl Managed {
    /// Starts the server in `directory`. Creates it first if it does not exist.
    pub fn start(directory: &Path) -> Result<Self, Fatal> {
        let binaries = binaries()?;
        fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
        let directory = fs::canonicalize(directory).map_err(|error| unusable(directory, &error))?;
        if directory.as_os_str().len() > SOCKET_PATH_MAX {
            let message = format!(
                "the path {} is too long for a socket: name a directory with a shorter one",
                directory.display()
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        let lock = lock(&directory)?.ok_or_else(|| {
            let message = format!(
                "another projector manages {0}: name another directory, or its server with \
                 --postgres \"host={0} user={OWNER} dbname={OWNER}\"",
                directory.display()
            );
            Fatal::new(Reason::Postgres, message)
        })?;
        let owner = unprivileged(&directory)?;
        if let Some((user, group)) = owner {
            chown(&directory, Some(user), Some(group))
                .map_err(|error| unusable(&directory, &error))?;
            reachable(&directory, &binaries, owner)?;
        }
        let data = directory.join("data");
        if !data.join("PG_VERSION").exists() {
            let mut initdb = command(&binaries.join("initdb"), owner, &directory);
            initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]);
            initdb.arg(format!("--username={OWNER}")).arg("-D").arg(&data);
            succeeded("initdb", &run(&mut initdb)?)?;
        }
        let mut managed = Self { child: None, _lock: lock, directory, owner, binaries };
        if !managed.is_ready()? {
            managed.child = Some(managed.spawn()?);
            managed.wait_until_ready()?;
        }
        managed.create_database()?;
        tracing::info!(
            "PostgreSQL runs in {0}: psql -h {0} -U {OWNER} {OWNER}",
            managed.directory.display()
        );
        Ok(managed)
    }

    fn spawn(&self) -> Result<Child, Fatal> {
        let Self { directory, owner, binaries, .. } = self;
        let log = fs::File::options().create(true).append(true).open(directory.join("log"));
        let log = log.map_err(|error| unusable(directory, &error))?;
        let mut postgres = command(&binaries.join("postgres"), *owner, directory);
        postgres.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
        postgres.args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]);
        postgres.args(["-c", "max_wal_size=4GB", "-c", "shared_buffers=256MB"]);
        postgres.args(["-c", "wal_compression=on", "-c", "autovacuum_naptime=20s"]);
        // Its own process group: a terminal's Ctrl-C stops the projector, which then stops the
        // server.
        postgres.process_group(0).stdout(Stdio::null()).stderr(log);
        postgres.spawn().map_err(|error| {
            Fatal::new(Reason::Postgres, format!("cannot start PostgreSQL: {error}"))
        })
    }

    /// How to connect to it.
    pub fn target(&self) -> Target {
        Target::of_socket(&self.directory, OWNER, OWNER)
    }

    /// For commands: starts the server, or uses it while another process manages it.
    pub fn start_or_join(directory: &Path) -> Result<(Option<Self>, Target), Fatal> {
        let there = fs::canonicalize(directory).map_err(|error| unusable(directory, &error))?;
        if !there.join("data/PG_VERSION").exists() {
            let message = format!("there is no managed PostgreSQL in {}", there.display());
            return Err(Fatal::new(Reason::Postgres, message));
        }
        if lock(&there)?.is_none() {
            return Ok((None, Target::of_socket(&there, OWNER, OWNER)));
        }
        let managed = Self::start(&there)?;
        let target = managed.target();
        Ok((Some(managed), target))
    }

    fn is_ready(&self) -> Result<bool, Fatal> {
        let mut ready = command(&self.binaries.join("pg_isready"), self.owner, &self.directory);
        ready.arg("-q").arg("-h").arg(&self.directory);
        Ok(run(&mut ready)?.status.success())
    }

    fn wait_until_ready(&mut self) -> Result<(), Fatal> {
        let by = Instant::now() + MANAGED_WITHIN;
        loop {
            if self.is_ready()? {
                return Ok(());
            }
            let child = self.child.as_mut();
            let ended = child.and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > by {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(3).collect();
                let said = lines.into_iter().rev().collect::<Vec<_>>().join(" / ");
                let log = self.directory.join("log");
                let message = format!("PostgreSQL does not start ({}): {said}", log.display());
                return Err(Fatal::new(Reason::Postgres, message));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn create_database(&self) -> Result<(), Fatal> {
        let mut create = command(&self.binaries.join("createdb"), self.owner, &self.directory);
        create.arg("-h").arg(&self.directory).args(["-U", OWNER, OWNER]);
        let output = run(&mut create)?;
        if String::from_utf8_lossy(&output.stderr).contains("already exists") {
            return Ok(());
        }
        succeeded("createdb", &output)
    }
}

impl Drop for Managed {
    /// A fast shutdown: closes connections and flushes everything. Kills the server only if that
    /// takes too long.
    fn drop(&mut self) {
        let mut stop = command(&self.binaries.join("pg_ctl"), self.owner, &self.directory);
        stop.arg("-D").arg(self.directory.join("data")).args(["-m", "fast", "stop"]);
        let seconds = MANAGED_WITHIN.as_secs().to_string();
        let _ = run(stop.args(["-w", "-t", &seconds])); // fails if the server has ended
        if let Some(child) = &mut self.child {
            let _ = child.kill(); // if it is still running, it recovers at the next start
            let _ = child.wait();
        }
    }
}

/// Locks the directory. `None` if another process holds the lock.
fn lock(directory: &Path) -> Result<Option<fs::File>, Fatal> {
    let path = directory.join("lock");
    let file = fs::File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| unusable(directory, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::Error(error)) => Err(unusable(directory, &error)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
    }
}

/// Binaries of the newest installed release, or those on the path.
fn binaries() -> Result<PathBuf, Fatal> {
    let mut releases: Vec<(u32, PathBuf)> = Vec::new();
    for parent in INSTALLED {
        let found = fs::read_dir(parent).into_iter().flatten().flatten();
        releases.extend(found.filter_map(|entry| {
            let release = entry.file_name().to_str()?.parse().ok()?;
            Some((release, entry.path().join("bin")))
        }));
    }
    releases.retain(|(release, path)| *release >= RELEASE_MIN && path.join("initdb").exists());
    if let Some((_, newest)) = releases.into_iter().max() {
        return Ok(newest);
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&on_path).find(|path| path.join("initdb").exists());
    found.ok_or_else(|| {
        let message = format!(
            "PostgreSQL {RELEASE_MIN} or newer is not installed here: install it (Debian: apt-get \
             install postgresql), or name a server with --postgres"
        );
        Fatal::new(Reason::Postgres, message)
    })
}

/// The user that the server runs as: `None` for the current one, or an unprivileged user instead of
/// root, which PostgreSQL refuses.
fn unprivileged(directory: &Path) -> Result<Option<(u32, u32)>, Fatal> {
    // A new file belongs to the effective user of this process.
    let probe = directory.join(".owner");
    fs::write(&probe, []).map_err(|error| unusable(directory, &error))?;
    let user = fs::metadata(&probe).map(|metadata| metadata.uid());
    let _ = fs::remove_file(&probe);
    if user.map_err(|error| unusable(directory, &error))? != 0 {
        return Ok(None);
    }
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = known.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = USERS.iter().find_map(|name| ids(name));
    found.map(Some).ok_or_else(|| {
        let message = "PostgreSQL does not run as root, and there is no user postgres or nobody: \
                       start the projector as another user";
        Fatal::new(Reason::Postgres, message)
    })
}

/// Checks that the unprivileged user can enter the directory.
fn reachable(directory: &Path, binaries: &Path, owner: Option<(u32, u32)>) -> Result<(), Fatal> {
    let mut look = command(&binaries.join("postgres"), owner, directory);
    look.arg("--version");
    if look.output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let message = format!(
        "the user that PostgreSQL runs as can't enter {}: name a directory that others may enter \
         (chmod o+x on those above it), or start the projector as another user",
        directory.display()
    );
    Err(Fatal::new(Reason::Postgres, message))
}

fn command(program: &Path, owner: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

fn run(command: &mut Command) -> Result<Output, Fatal> {
    command.output().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        Fatal::new(Reason::Postgres, format!("cannot run {program}: {error}"))
    })
}

fn succeeded(name: &str, output: &Output) -> Result<(), Fatal> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it printed nothing");
    Err(Fatal::new(Reason::Postgres, format!("{name} failed: {said}")))
}

fn unusable(directory: &Path, error: &std::io::Error) -> Fatal {
    let message = format!("cannot use {} for PostgreSQL: {error}", directory.display());
    Fatal::new(Reason::File, message)
}
