//! Ctrl-C in a part that starts servers which a terminal does not reach: ends every process that this
//! one has started, removes what they wrote, and then exits.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{During, Result};
use crate::server::Scratch;
use crate::system;

/// How long the processes may take before they are killed.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// From now on SIGINT and SIGTERM clean up; scratch directories are in `dir`.
pub fn watch(dir: &Path) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).during("watching for signals")?;
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("walengine-bench: interrupted; stopping what was started");
            end_children();
            remove_scratch(&dir);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// All of them take SIGINT for an orderly end; to PostgreSQL it says not to wait for clients.
fn end_children() {
    let since = Instant::now();
    let mut told = Vec::new();
    loop {
        let living = living_children();
        if living.is_empty() {
            return;
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

/// Without those that have ended and were not waited for.
fn living_children() -> Vec<u32> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name: state and parent, proc_pid_stat(5).
            let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
            let (state, parent) = (fields.next(), fields.next());
            parent.and_then(|parent| parent.parse().ok()) == Some(own) && state != Some("Z")
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
