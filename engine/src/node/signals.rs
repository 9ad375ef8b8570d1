//! Signals: those that end the node, and the one that has it look at its files again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::fatal::{Fatal, Reason};

/// Hears SIGTERM and SIGINT on a thread of its own. A second one ends the process at once: what is in
/// flight is not waited for, and the log can take that.
///
/// # Errors
/// `Preflight` if the system has no thread or handler left.
pub fn watch() -> Result<flume::Receiver<i32>, Fatal> {
    let failed = |error: std::io::Error| {
        Fatal::new(Reason::Preflight, format!("cannot watch for signals: {error}"))
    };
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ])
    .map_err(failed)?;
    let (sender, receiver) = flume::bounded(4);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    std::process::exit(i32::from(Reason::Interrupted as u8));
                }
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(receiver)
}

/// Becomes true with a SIGHUP: certificates and policy are looked at again. They are anyway, once a second.
///
/// # Errors
/// `Preflight` if the system has no handler left.
pub fn watch_reloads() -> Result<Arc<AtomicBool>, Fatal> {
    let wanted = Arc::<AtomicBool>::default();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, wanted.clone()).map_err(|error| {
        Fatal::new(Reason::Preflight, format!("cannot watch for SIGHUP: {error}"))
    })?;
    Ok(wanted)
}
