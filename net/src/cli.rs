//! What the programs' command lines share: how arguments are read, and how a program ends.

use std::fmt;
use std::process::ExitCode;

use crate::client::ClientError;

/// Why a program ends. The number is its exit code, so that a supervisor can tell. A condition has
/// the same code in every program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A command did its work and found something wrong: refused rows, damage, a difference, a
    /// missing id, a timeout.
    Findings = 1,
    /// Arguments or settings make no sense. The argument parser exits with it too.
    Usage = 2,
    /// This machine can't run the engine: kernel, `io_uring`, memlock, direct I/O, clock.
    Preflight = 3,
    /// Another process holds the data directory.
    Locked = 4,
    /// The data directory is missing, of another version, or of another cluster.
    DataDirectory = 5,
    /// Bytes on disk are damaged before the durable point.
    Damaged = 6,
    /// The device failed a write, a flush or a read.
    Disk = 7,
    /// An address can't be listened on.
    Listen = 8,
    /// No server answers, or it does not speak our protocol.
    Server = 9,
    /// A replica derived other verdicts than the log holds.
    Disagreement = 10,
    /// A file that was named can't be read or written.
    File = 11,
    /// PostgreSQL refuses: wrong password, no such database, no privilege, not installed.
    Postgres = 12,
    /// The tables are of a newer version, or were changed by hand.
    Schema = 13,
    /// The database is derived from another log, or from another history of this one.
    OtherLog = 14,
    /// The log that the server sent is damaged.
    DamagedFeed = 15,
    /// A user interrupted it.
    Interrupted = 130,
}

/// Why a program ends, in one line that says what to do about it.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// Which condition.
    pub reason: Reason,
    /// What happened, to which thing, and what to do.
    pub message: String,
}

impl Fatal {
    /// Ends with `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}

impl From<ClientError> for Fatal {
    fn from(error: ClientError) -> Self {
        Self::new(Reason::Server, error.to_string())
    }
}

/// Reads the command line. Prints help and version. A mistake is told in one line, as all errors
/// are, with what was probably meant.
///
/// # Errors
/// The exit code, once everything has been printed.
pub fn arguments<A: clap::Parser>() -> Result<A, ExitCode> {
    let error = match A::try_parse() {
        Ok(arguments) => return Ok(arguments),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // Help that nobody reads is no failure.
        let _ = error.print();
        return Err(ExitCode::SUCCESS);
    }
    let command = A::command();
    let program = command.get_name();
    eprintln!("{program}: {} (see --help)", one_line(program, &error.to_string()));
    Err(ExitCode::from(Reason::Usage as u8))
}

/// The argument parser's text without headings, usage and line breaks.
fn one_line(program: &str, text: &str) -> String {
    let usage = format!("{program} ");
    let told = text.lines().map(str::trim).filter(|line| {
        let noise = ["Usage:", &usage, "For more information"];
        !line.is_empty() && !noise.iter().any(|start| line.starts_with(start))
    });
    let told = told.collect::<Vec<_>>().join(" ");
    told.trim_start_matches("error: ").replace(" tip: ", "; ")
}

/// Prints the error of a program in one line.
pub fn print(program: &str, fatal: &Fatal) {
    eprintln!("{program}: {fatal}");
}

/// Prints the error of a program, if there is one, and gives its exit code.
pub fn end(program: &str, result: Result<(), Fatal>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            print(program, &fatal);
            ExitCode::from(fatal.reason as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "program")]
    struct Arguments {
        #[arg(long)]
        server: Option<String>,
    }

    #[test]
    fn a_mistake_is_one_line_with_what_was_meant() {
        let error = Arguments::try_parse_from(["program", "--servr", "x"]).unwrap_err();
        assert_eq!(
            one_line("program", &error.to_string()),
            "unexpected argument '--servr' found; a similar argument exists: '--server'"
        );
    }
}
