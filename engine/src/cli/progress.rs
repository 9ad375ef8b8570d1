//! What a command that takes long shows, and what stops it.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fatal::{Fatal, Reason};

/// A bar that counts records.
pub const RECORDS_BAR: &str = "{bar:30} {percent:>3} %  {pos} of {len} records  {eta}";
/// A bar that counts bytes.
pub const BYTES_BAR: &str = "{bar:30} {percent:>3} %  {bytes} of {total_bytes}  {eta}";

/// A bar on standard error, where a person looks. `template` is indicatif's.
pub fn progress_bar(total: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// Becomes true when somebody wants the command to stop.
///
/// # Errors
/// The signals can't be watched.
pub fn watch_for_signals() -> Result<Arc<AtomicBool>, Fatal> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone()).map_err(|error| {
            Fatal::new(Reason::File, format!("cannot watch for signals: {error}"))
        })?;
    }
    Ok(interrupted)
}
