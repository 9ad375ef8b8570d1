//! How a command that takes long ends when it is told to. The work is done on a thread of its own; the
//! main thread waits for it or for a signal, so that Ctrl-C ends it whatever it waits for: a server that
//! does not answer, standard input, a question, a slow disk.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use walengine_net::cli::{Fatal, Reason};

use crate::limits::{IMPORT_END_WITHIN, WORK_LOOK_EVERY};

/// What is said if nobody knows more.
const INTERRUPTED: &str = "interrupted";

enum Event {
    Done(Result<(), Fatal>),
    Signal,
}

/// Whether the command was told to end.
#[derive(Clone, Copy, Debug)]
pub struct Stop(&'static AtomicBool);

impl Stop {
    /// Whether it was.
    pub fn is_told(self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if it was.
    pub fn look(self) -> Result<(), Fatal> {
        if self.is_told() {
            return Err(interrupted());
        }
        Ok(())
    }

    /// The flag itself, for what takes one.
    pub fn flag(self) -> &'static AtomicBool {
        self.0
    }
}

/// Does `work`, once in a process. When a signal comes, tells it to stop and gives it a moment to end
/// what is on its way; then the result is [`Reason::Interrupted`], though the thread may still wait for
/// something. A signal that whoever started the process has set to be ignored, as `nohup` does, is.
pub fn interruptible(
    work: impl FnOnce(Stop) -> Result<(), Fatal> + Send + 'static,
) -> Result<(), Fatal> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (events, coming) = mpsc::sync_channel(2);
    let ignored = ignored_signals();
    let watched = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| *signal == SIGTERM || ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(watched)
        .map_err(|error| Fatal::new(Reason::File, format!("cannot watch for signals: {error}")))?;
    let told = events.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            // The main thread may have ended.
            let _ = told.try_send(Event::Signal);
        }
    });
    let worker = thread::Builder::new().name("command".into()).spawn(move || {
        let _ = events.send(Event::Done(work(Stop(&STOP))));
    });
    let worker = worker
        .map_err(|error| Fatal::new(Reason::File, format!("cannot start a thread: {error}")))?;
    loop {
        match coming.recv_timeout(WORK_LOOK_EVERY) {
            Ok(Event::Done(result)) => return result,
            Ok(Event::Signal) => break,
            Err(RecvTimeoutError::Timeout) if !worker.is_finished() => {}
            Err(_) => match (coming.try_recv(), worker.join()) {
                (Ok(Event::Done(result)), _) => return result,
                (_, Err(cause)) => panic::resume_unwind(cause),
                _ => break,
            },
        }
    }
    STOP.store(true, Ordering::Relaxed);
    match coming.recv_timeout(IMPORT_END_WITHIN) {
        // It may have come to its end just then.
        Ok(Event::Done(Ok(()))) => Ok(()),
        // It knows best how far it came.
        Ok(Event::Done(Err(fatal))) if fatal.reason == Reason::Interrupted => Err(fatal),
        _ => Err(interrupted()),
    }
}

/// An interruption of which nobody knows more.
pub fn interrupted() -> Fatal {
    Fatal::new(Reason::Interrupted, INTERRUPTED)
}

/// The error with `message` in its place if it is an interruption that says no more: a thread that still
/// waits can't tell how far it came.
pub fn explained(error: Fatal, message: &str) -> Fatal {
    if error.reason == Reason::Interrupted && error.message == INTERRUPTED {
        return Fatal::new(error.reason, message);
    }
    error
}

/// A bit for each signal that this process was started to ignore; none if that can't be read.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
