//! Bounds an orderly stop. A disk that does not answer any more, as when its controller or network hangs,
//! would hold it up for ever: what it waits for is told, and the process ends with a code of its own.
//! Everything that was acknowledged is on disk, so that costs nothing but the last snapshot.
//!
//! Whether the disk answers is tried with a small file beside the data, on a thread of its own: what the
//! shards wait for may hang in any of their steps.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fatal::{Fatal, Reason};
use crate::limits::{STOP_LOOK_EVERY, STOP_SAY_EVERY, STUCK_STOP_WITHIN};

/// Name of the file; other files with this ending are left over, too.
const PROBE: &str = "stopping.new";

/// What the stop waits for.
pub struct Stop {
    waits_for: Mutex<&'static str>,
}

impl Stop {
    /// The stop has begun in the data directory `data`. `fail` ends the process if the disk holds it up.
    pub fn begin(data: &Path, fail: impl FnOnce(&Fatal) + Send + 'static) -> std::sync::Arc<Self> {
        let stop = std::sync::Arc::new(Self { waits_for: Mutex::new("the shards") });
        let (watched, data) = (std::sync::Arc::downgrade(&stop), data.to_owned());
        let watch = move || {
            let began = Instant::now();
            let mut said = began;
            let mut probe = Probe::start(&data);
            while let Some(stop) = watched.upgrade() {
                let waits_for = *stop.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
                drop(stop);
                if probe.hangs_for() >= STUCK_STOP_WITHIN {
                    return fail(&given_up(&data, waits_for, probe.hangs_for()));
                }
                if said.elapsed() >= STOP_SAY_EVERY {
                    said = Instant::now();
                    let (seconds, data) = (began.elapsed().as_secs(), data.display());
                    let disk = match probe.hangs_for().as_secs() {
                        0..2 => "its disk answers".to_owned(),
                        hangs => format!("its disk has not answered for {hangs} s"),
                    };
                    tracing::warn!(
                        "stopping for {seconds} s, and waiting for {waits_for} to write to {data}: {disk}"
                    );
                }
                std::thread::sleep(STOP_LOOK_EVERY);
                probe.again(&data);
            }
        };
        // Without a thread left the stop is unbounded, as it would be without this.
        let _ = std::thread::Builder::new().name("stopping".to_owned()).spawn(watch);
        stop
    }

    /// What it waits for from now on.
    pub fn waits_for(&self, what: &'static str) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

fn given_up(data: &Path, waits_for: &str, hangs_for: Duration) -> Fatal {
    let (data, seconds) = (data.display(), hangs_for.as_secs());
    let message = format!(
        "the stop is given up: {waits_for} wait for the disk of {data}, which has not answered for \
         {seconds} s; nothing that was acknowledged is lost; look at that disk and its cable, controller or \
         network before the next start"
    );
    Fatal::new(Reason::StuckStop, message)
}

/// One try to write.
struct Probe {
    began: Instant,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Probe {
    fn start(data: &Path) -> Self {
        let path = data.join(PROBE);
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            let _ = write(&path); // a full disk answers, too
        });
        Self { began: Instant::now(), thread: thread.ok() }
    }

    /// Begins the next try once the last one has ended.
    fn again(&mut self, data: &Path) {
        if self.hangs_for() == Duration::ZERO {
            *self = Self::start(data);
        }
    }

    fn hangs_for(&self) -> Duration {
        match &self.thread {
            Some(thread) if !thread.is_finished() => self.began.elapsed(),
            _ => Duration::ZERO,
        }
    }
}

fn write(path: &PathBuf) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let written = file.write_all(b"the node is stopping\n").and_then(|()| file.sync_all());
    fs::remove_file(path)?;
    written
}
