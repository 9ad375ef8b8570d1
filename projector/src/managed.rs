//! A private PostgreSQL server from the installed binaries. It has its own directory, listens on a
//! socket only, runs as an unprivileged user if the projector is root, and stops with the
//! projector.

mod directory;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use self::directory::Directory;

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
    files: Directory,
    owner: Option<(u32, u32)>,
    binaries: PathBuf,
}

impl Managed {
    /// Starts the server in `directory`. Creates it first if it does not exist.
    pub fn start(directory: &Path) -> Result<Self, Fatal> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| unusable(directory, &error))?;
        let directory = fs::canonicalize(directory).map_err(|error| unusable(directory, &error))?;
        if directory.as_os_str().len() > SOCKET_PATH_MAX {
            let message = format!(
                "the path {} is too long for a socket: name a directory with a shorter one",
                directory.display()
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        let owner = unprivileged()?;
        let files = Directory::open(&directory, owner)?;
        let binaries = binaries(files.release()?, &directory)?;
        let lock = files.lock()?.ok_or_else(|| {
            let message = format!(
                "another projector manages {0}: name another directory, or its server with \
                 --postgres \"host={0} user={OWNER} dbname={OWNER}\"",
                directory.display()
            );
            Fatal::new(Reason::Postgres, message)
        })?;
        if owner.is_some() {
            files.give_away()?;
            reachable(&directory, &binaries, owner)?;
        }
        let data = directory.join("data");
        if files.release()?.is_none() {
            let mut initdb = command(&binaries.join("initdb"), owner, &directory);
            initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]);
            initdb.arg(format!("--username={OWNER}")).arg("-D").arg(&data);
            succeeded("initdb", &run(&mut initdb)?)?;
        }
        let mut managed = Self { child: None, _lock: lock, directory, files, owner, binaries };
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
        let Self { directory, owner, binaries, files, .. } = self;
        let log = files.log()?;
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
        let files = Directory::open(&there, unprivileged()?)?;
        if files.release()?.is_none() {
            let message = format!("there is no managed PostgreSQL in {}", there.display());
            return Err(Fatal::new(Reason::Postgres, message));
        }
        if files.lock()?.is_none() {
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
                let log = self.files.end_of_log();
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

/// Binaries of the release that made the data; for a new server those of the newest one, or those on
/// the path.
fn binaries(release: Option<u32>, directory: &Path) -> Result<PathBuf, Fatal> {
    let mut releases: Vec<(u32, PathBuf)> = Vec::new();
    for parent in INSTALLED {
        let found = fs::read_dir(parent).into_iter().flatten().flatten();
        releases.extend(found.filter_map(|entry| {
            let release = entry.file_name().to_str()?.parse().ok()?;
            Some((release, entry.path().join("bin")))
        }));
    }
    releases.retain(|(release, path)| *release >= RELEASE_MIN && path.join("initdb").exists());
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).find(|path| path.join("initdb").exists());
    let on_path = on_path.and_then(|path| Some((release_of(&path)?, path)));
    choose(release, &releases, on_path).ok_or_else(|| {
        let message = match release {
            Some(release) => format!(
                "PostgreSQL {release} made the data in {0}, and is not installed here: install it \
                 (Debian: apt-get install postgresql-{release}), or bring the data to another release \
                 with pg_upgrade, or name a new directory, which is filled from the log",
                directory.display()
            ),
            None => format!(
                "PostgreSQL {RELEASE_MIN} or newer is not installed here: install it (Debian: apt-get \
                 install postgresql), or name a server with --postgres"
            ),
        };
        Fatal::new(Reason::Postgres, message)
    })
}

/// The release that made the data, or the newest one where there is none yet.
fn choose(
    release: Option<u32>,
    installed: &[(u32, PathBuf)],
    on_path: Option<(u32, PathBuf)>,
) -> Option<PathBuf> {
    let fits = |found: &u32| release.map_or(*found >= RELEASE_MIN, |release| *found == release);
    let newest = installed.iter().filter(|(found, _)| fits(found)).max().cloned();
    newest.or(on_path.filter(|(found, _)| fits(found))).map(|(_, path)| path)
}

/// The release of the binaries in a directory.
fn release_of(path: &Path) -> Option<u32> {
    let output = Command::new(path.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The user that the server runs as: `None` for the current one, or an unprivileged user instead of
/// root, which PostgreSQL refuses.
fn unprivileged() -> Result<Option<(u32, u32)>, Fatal> {
    if !rustix::process::geteuid().is_root() {
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
        // Debian's would tell the supervisor that this program is ready, or stops.
        if name.to_string_lossy().starts_with("PG") || name == "NOTIFY_SOCKET" {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_that_made_the_data_is_started_and_the_newest_makes_new_data() {
        let installed: Vec<_> = [15, 16, 17].map(|n| (n, PathBuf::from(format!("/{n}")))).to_vec();
        let path = |release, on_path| {
            choose(release, &installed, on_path).map(|path| path.display().to_string())
        };
        assert_eq!(path(None, None).as_deref(), Some("/17"));
        assert_eq!(path(Some(15), None).as_deref(), Some("/15"));
        assert_eq!(path(Some(18), None), None, "never another one than that");
        let on_path = Some((18, PathBuf::from("/local")));
        assert_eq!(path(Some(18), on_path.clone()).as_deref(), Some("/local"));
        assert_eq!(path(Some(14), on_path), None);
        let fatal = binaries(Some(3), Path::new("/there")).unwrap_err();
        for what in ["PostgreSQL 3 made the data in /there", "postgresql-3", "pg_upgrade"] {
            assert!(fatal.message.contains(what), "{}", fatal.message);
        }
    }
}
