//! Conditions that end the program, each with its own exit code.

use std::fmt;

/// Why the program ends. The number is its exit code, so that a supervisor can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A command did its work and found something wrong: refused rows, damage, a missing id.
    Findings = 1,
    /// Arguments or settings make no sense. Also what the argument parser exits with.
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
    /// The address can't be listened on.
    Listen = 8,
    /// No server answers, or it does not speak our protocol.
    Server = 9,
    /// A replica derived other verdicts than the log holds.
    Disagreement = 10,
    /// A file that was named can't be read or written.
    File = 11,
    /// A user interrupted it.
    Interrupted = 130,
}

/// A one-line reason to end, with what to do about it.
#[derive(Debug)]
pub struct Fatal {
    /// Which condition.
    pub reason: Reason,
    /// What happened, on which thing, and what to do.
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
