//! Ctrl-C in a part that starts servers which a terminal does not reach: ends every process that this
//! one has started, removes what they wrote, and then exits.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{During, Result};
use crate::server::Scratch;
use crate::system;

/// How long the processes may take before they are killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what has ended may go without being waited for.
const WAITED_FOR_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// That signals are watched for.
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// From now on SIGINT and SIGTERM clean up; scratch directories are in `dirs`.
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

    /// What fails because its servers were interrupted is not told: the process ends.
    pub fn settle<T>(&self, result: Result<T>) -> Result<T> {
        while self.0.load(Ordering::Relaxed) {
            std::thread::park();
        }
        result
    }
}

/// All of them take SIGINT for an orderly end; to PostgreSQL it says not to wait for clients.
///
/// Who started them waits for them when that fails; those that nobody waits for are left to init.
fn end_children() {
    let since = Instant::now();
    let mut told = Vec::new();
    let mut waits_until = None;
    loop {
        let children = children();
        let living: Vec<u32> =
            children.iter().filter(|child| child.lives).map(|child| child.pid).collect();
        if living.is_empty() {
            let until = *waits_until.get_or_insert_with(|| Instant::now() + WAITED_FOR_WITHIN);
            if children.is_empty() || Instant::now() > until {
                return;
            }
        }
        let is_late = since.elapsed() > PATIENCE;
        for pid in living {
            if is_late || !told.contains(&pid) {
                told.push(pid);
                // It may have ended by itself.
                let _ = system::signal(pid, if is_late { libc::SIGKILL } else { SIGINT });
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Child {
    pid: u32,
    /// It has not ended.
    lives: bool,
}

fn children() -> Vec<Child> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Behind the name: state and parent, proc_pid_stat(5).
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
        // What can't be removed is left for the user to see.
        let _ = fs::remove_dir_all(path);
    }
}
