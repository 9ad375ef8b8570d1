//! Standard output and standard error of a program, written so that nothing ends or waits because
//! they can't be written: a disk may be full, and a pipe may have no reader or one that sleeps.
//! `println!` and `eprintln!` panic there, and so does a plain subscriber of log lines.
//!
//! What is said is one line, whatever stands in it from outside: see [`crate::text`].

use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fatal::{Fatal, Reason};
use crate::text::{json_escaped, printable, printable_lines};

/// What a pipe takes at once without blocking whenever it takes anything: `PIPE_BUF` of Linux.
const PIECE_BYTES: usize = 4096;
/// How long a last line waits for a reader.
const LAST_LINE_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Lines that standard error did not take since the last one that it took. The lock is held while a
/// line is written, so that lines do not mix.
static LOST_LINES: Mutex<u64> = Mutex::new(0);
/// Why standard output takes nothing any more.
static STDOUT_ERROR: OnceLock<(io::ErrorKind, String)> = OnceLock::new();

/// Prints a line on standard output, as `println!` does, and never panics. What could not be printed
/// becomes the error of the program at its end.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::say(::std::format_args!($($text)*)) };
}

/// Prints a line on standard error, as `eprintln!` does, and never panics or waits.
#[macro_export]
macro_rules! say_aside {
    ($($text:tt)*) => { $crate::cli::say_aside(::std::format_args!($($text)*)) };
}

/// See [`say!`](crate::say).
pub fn say(line: fmt::Arguments<'_>) {
    if STDOUT_ERROR.get().is_some() {
        return;
    }
    let line = line.to_string();
    let mut out = io::stdout().lock();
    let printed = out.write_all(printable(&line).as_bytes()).and_then(|()| out.write_all(b"\n"));
    if let Err(error) = printed {
        note_stdout_error(&error);
    }
}

/// Prints a text of several lines on standard output.
///
/// # Errors
/// As of [`unwritten`].
pub fn show(text: &str) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    let written = out.write_all(printable_lines(text).as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| unwritten(&error))
}

/// See [`say_aside!`](crate::say_aside).
pub fn say_aside(line: fmt::Arguments<'_>) {
    to_stderr(&one_line(&line.to_string()), NO_WAIT);
}

/// Prints the last line of a program on standard error: it waits a moment for a slow reader.
pub fn say_last(line: fmt::Arguments<'_>) {
    to_stderr(&one_line(&line.to_string()), LAST_LINE_WAIT);
}

/// Shows a question on standard error, without a line break. If it can't be shown, the answer counts
/// all the same.
pub fn ask(question: &str) {
    to_stderr(&printable_lines(question), LAST_LINE_WAIT);
}

fn one_line(text: &str) -> String {
    format!("{}\n", printable(text))
}

/// What a failure to write to standard output means for the program.
pub fn unwritten(error: &io::Error) -> Fatal {
    of_stdout(error.kind(), &error.to_string())
}

fn of_stdout(kind: io::ErrorKind, why: &str) -> Fatal {
    let reason = if kind == io::ErrorKind::BrokenPipe { Reason::NoReader } else { Reason::File };
    Fatal::new(reason, format!("cannot write to standard output: {why}"))
}

fn note_stdout_error(error: &io::Error) {
    let _ = STDOUT_ERROR.set((error.kind(), error.to_string())); // the first one stands
}

/// Why something that was said on standard output did not get there.
pub(super) fn stdout_error() -> Option<Fatal> {
    STDOUT_ERROR.get().map(|(kind, why)| of_stdout(*kind, why))
}

/// Where log lines go: standard error. A line that it does not take at once is lost and counted, and
/// the next one that it takes says how many were.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLines;

impl io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A whole event, with the end of its line.
        let text = String::from_utf8_lossy(bytes);
        to_stderr(&one_line(text.strip_suffix('\n').unwrap_or(&text)), NO_WAIT);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As [`LogLines`], of lines that are JSON: they stay that.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLines;

impl io::Write for JsonLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        to_stderr(&json_line(&String::from_utf8_lossy(bytes)), NO_WAIT);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn json_line(text: &str) -> String {
    format!("{}\n", json_escaped(text.strip_suffix('\n').unwrap_or(text)))
}

fn to_stderr(text: &str, wait: Timespec) {
    let mut lost = LOST_LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let before = match *lost {
        0 => String::new(),
        1 => "1 line before this one was lost: standard error did not take it\n".to_owned(),
        lines => {
            format!("{lines} lines before this one were lost: standard error did not take them\n")
        }
    };
    if write_pieces(before.as_bytes(), wait) && write_pieces(text.as_bytes(), wait) {
        *lost = 0;
    } else {
        *lost += 1;
    }
}

/// False if standard error did not take all of it.
fn write_pieces(text: &[u8], wait: Timespec) -> bool {
    let stderr = io::stderr();
    for piece in text.chunks(PIECE_BYTES) {
        let mut rest = piece;
        while !rest.is_empty() {
            let mut watched = [PollFd::new(&stderr, PollFlags::OUT)];
            let ready = poll(&mut watched, Some(&wait));
            if !matches!(ready, Ok(1..)) || !watched[0].revents().contains(PollFlags::OUT) {
                return false;
            }
            match rustix::io::write(&stderr, rest) {
                Ok(written) if written > 0 => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                _ => return false,
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_stays_json_and_moves_no_cursor() {
        let line = json_line("{\"message\":\"a\u{9b}31m\"}\n");
        assert_eq!(line, "{\"message\":\"a\\u009b31m\"}\n");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error_to_tell_and_a_full_disk_is() {
        let gone = unwritten(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(gone.reason, Reason::NoReader);
        let full = unwritten(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.reason, Reason::File);
        assert!(full.message.contains("standard output"), "{full}");
    }
}
