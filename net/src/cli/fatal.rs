//! Conditions that end a program, each with its own exit code.

use std::fmt;

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
    /// A part of the program panicked: a defect of the program.
    Panicked = 16,
    /// Memory does not suffice for what the data directory holds.
    Memory = 17,
    /// Bytes on disk are damaged, or contradict each other, where a start does not read: it goes on.
    DamagedInFront = 18,
    /// The other members of its cluster refuse the node: it was set back to an older copy of its data
    /// directory, or its disk has lost what it had promised to hold.
    SetBack = 19,
    /// The disk does not come back, and so an orderly stop was given up.
    StuckStop = 20,
    /// A user interrupted it.
    Interrupted = 130,
    /// What it prints has no reader any more, as `head` leaves it. Nothing is told: it is no failure.
    NoReader = 141,
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
