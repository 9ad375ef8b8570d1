//! What a command that takes long shows.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

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
