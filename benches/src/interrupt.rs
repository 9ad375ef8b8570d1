//! Ctrl-C in a measurement whose servers are not in the terminal's process group: ends every child
//! process, removes the scratch directories, and exits.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{During, Result};
use crate::limits::SAMPLE_INTERVAL;
use crate::server::Scratch;
use crate::system;

/// How long the children may take before they are killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an ended child may remain a zombie before it is left to init.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// Watches for signals.
pub struct InterruptWatch(Arc<AtomicBool>);

impl InterruptWatch {
    /// From now on SIGINT and SIGTERM clean up. Scratch directories are in `dirs`.
    pub fn begin(dirs: &[&Path]) -> Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).during("watching for signals")?;
        let dirs: Vec<PathBuf> = dirs.iter().map(|&dir| dir.to_owned()).collect();
        let interrupted = Arc::new(AtomicBool::new(false));
        let watch = Self(interrupted.clone());
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("walengine-bench: interrupted; stopping what was started");
                interrupted.store(true, Ordering::Relaxed);
                end_children();
                for dir in &dirs {
                    remove_scratch(dir);
                }
                std::process::exit(128 + signal);
            }
        });
        Ok(watch)
    }

    /// Passes the result on. After an interrupt errors are not reported: this waits for the exit.
    pub fn settle<T>(&self, result: Result<T>) -> Result<T> {
        while self.0.load(Ordering::Relaxed) {
            std::thread::park();
        }
        result
    }
}

/// Sends SIGINT, on which every child shuts down in order; PostgreSQL does not wait for its
/// clients.
///
/// The threads that started the children reap them. Children that no thread reaps are left to init.
fn end_children() {
    let since = Instant::now();
    let mut signalled = Vec::new();
    let mut waits_until = None;
    loop {
        let children = children();
        let living: Vec<u32> =
            children.iter().filter(|child| child.lives).map(|child| child.pid).collect();
        if living.is_empty() {
            let until = *waits_until.get_or_insert_with(|| Instant::now() + REAPED_WITHIN);
            if children.is_empty() || Instant::now() > until {
                return;
            }
        }
        let is_late = since.elapsed() > PATIENCE;
        for pid in living {
            if is_late || !signalled.contains(&pid) {
                signalled.push(pid);
                // Fails only if it has ended already.
                let _ = system::signal(pid, if is_late { Signal::KILL } else { Signal::INT });
            }
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}

struct Child {
    pid: u32,
    /// Not a zombie.
    lives: bool,
}

fn children() -> Vec<Child> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name is followed by state and parent, proc_pid_stat(5).
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?);
            let is_own = parent.parse() == Ok(own);
            is_own.then_some(Child { pid, lives: state != "Z" })
        })
        .collect()
}

fn remove_scratch(dir: &Path) {
    let prefix = Scratch::prefix();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let own = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    };
    for path in entries.map(|entry| entry.path()).filter(own) {
        // Whatever can't be removed is left for the user to see.
        let _ = fs::remove_dir_all(path);
    }
}
