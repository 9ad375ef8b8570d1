//! How an import ends when it is told to. The work is done on a thread of its own; the main thread
//! waits for it or for a signal, so that Ctrl-C ends it whatever it waits for.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use walengine_net::cli::{Fatal, Reason};

use crate::limits::IMPORT_END_WITHIN;

enum Event {
    Done(Result<(), Fatal>),
    Signal,
}

/// Does `work`. When a signal comes, sets `stop` and gives it a moment to end what is on its way;
/// then the result is [`Reason::Interrupted`], though the thread may still wait for something.
pub fn interruptible(
    stop: &'static AtomicBool,
    work: impl FnOnce() -> Result<(), Fatal> + Send + 'static,
) -> Result<(), Fatal> {
    let (events, coming) = mpsc::sync_channel(2);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Fatal::new(Reason::File, format!("cannot watch for signals: {error}")))?;
    let told = events.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            // The main thread may have ended.
            let _ = told.try_send(Event::Signal);
        }
    });
    let worker = thread::Builder::new().name("import".into()).spawn(move || {
        let _ = events.send(Event::Done(work()));
    });
    let worker = worker
        .map_err(|error| Fatal::new(Reason::File, format!("cannot start a thread: {error}")))?;
    loop {
        match coming.recv_timeout(std::time::Duration::from_millis(200)) {
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
    stop.store(true, Ordering::Relaxed);
    match coming.recv_timeout(IMPORT_END_WITHIN) {
        // It may have come to its end just then.
        Ok(Event::Done(Ok(()))) => Ok(()),
        _ => Err(Fatal::new(Reason::Interrupted, "interrupted")),
    }
}
