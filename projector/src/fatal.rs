//! Conditions that end the program, each with its own exit code. Where the engine has the same
//! condition, it has the same code.

use std::fmt;

use walengine_net::client::ClientError;

/// Why the program ends. The number is its exit code, so that a supervisor can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A command did its work and found something wrong: a difference, a timeout.
    Findings = 1,
    /// Arguments or settings make no sense. Also what the argument parser exits with.
    Usage = 2,
    /// An address can't be listened on.
    Listen = 8,
    /// No server of walengine answers, or it does not speak our protocol.
    Server = 9,
    /// A file that was named can't be read or written.
    File = 11,
    /// PostgreSQL refuses: wrong password, no such database, no privilege, not installed.
    Postgres = 12,
    /// The tables are of a newer version, or were changed by hand.
    Schema = 13,
    /// The database is derived from another log, or from another history of this one.
    OtherLog = 14,
    /// What the server sent as its log is damaged.
    DamagedFeed = 15,
    /// A user interrupted it.
    Interrupted = 130,
}

/// A one-line reason to end, with what to do about it.
#[derive(Clone, Debug)]
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

impl From<ClientError> for Fatal {
    fn from(error: ClientError) -> Self {
        Self::new(Reason::Server, error.to_string())
    }
}
