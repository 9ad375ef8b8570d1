//! What can go wrong in storage. Each error says whether anything was changed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use walengine_net::model::Offset;

use super::layout::BlockError;

/// Where damage was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File name, such as `00000001.seg`.
    pub segment: String,
    /// Position of the bad bytes in the file, in bytes.
    pub position: u64,
    /// Index of the entry that should stand there.
    pub index: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}, entry {}", self.segment, self.position, self.index)
    }
}

/// A part of a data directory that is not as its superblock promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It should be there.
    Missing(PathBuf),
    /// It looks like a part of a data directory and is none of this one.
    Unexpected(PathBuf),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{} is missing", path.display()),
            Self::Unexpected(path) => {
                write!(f, "{} is no part of this data directory, move it away", path.display())
            }
        }
    }
}

/// Why a data directory or a partition could not be opened. No variant has modified acknowledged
/// bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is there, and nothing was to be created.
    #[error("{} is not formatted: run `walengine format` first", .0.display())]
    Missing(PathBuf),
    /// Parts of it are not there, or are there twice. Nothing was modified.
    #[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
    Incomplete(Vec<Fault>),
    /// Written by another version of the program.
    #[error(
        "{} has format version {found}, this program reads version {known}: use the program that \
         wrote it", .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u16,
        /// What this program reads.
        known: u16,
    },
    /// A file other than a segment can't be used. Nothing was modified.
    #[error("{} is damaged: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Bytes before the durable point are not what was written. Nothing was modified.
    #[error("the log is damaged in {place}: {why}")]
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong.
        why: String,
    },
    /// The disk failed. Opening again begins anew.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the disk said.
        error: io::Error,
    },
}

impl OpenError {
    /// For `map_err`: the disk failed at `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what: what.into(), error }
    }

    /// A block of `path` was refused.
    pub(super) fn block(path: PathBuf, error: BlockError) -> Self {
        match error {
            BlockError::Version { found } => {
                Self::Version { path, found, known: super::layout::FORMAT_VERSION }
            }
            other => Self::File { path, why: other.to_string() },
        }
    }
}

/// Why a log takes no more entries. It stays so until the partition is opened again.
#[derive(Clone, Debug)]
pub struct StopReason {
    /// What was being done.
    pub what: &'static str,
    /// What the disk said.
    pub error: Rc<io::Error>,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.what, self.error)
    }
}

/// The log has stopped after a disk error; nothing that was not durable by then will become so.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log has stopped: {0}")]
pub struct LogStopped(pub StopReason);

/// Why an entry was not taken. Nothing was staged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log has stopped after a disk error.
    #[error(transparent)]
    Stopped(#[from] LogStopped),
    /// No prepared segment has room. Try again when [`changed`](super::log::Log::changed) wakes.
    #[error("no prepared segment has room for the entry")]
    Full,
    /// Too much waits to be written. Try again when [`changed`](super::log::Log::changed) wakes.
    #[error("{0} bytes wait to be written")]
    Backlog(usize),
    /// The entry would not fit in an empty segment.
    #[error("an entry of {0} bytes does not fit in a segment")]
    TooLarge(usize),
}

/// Why entries could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log does not hold this entry.
    #[error("entry {index} is not in the log, which holds {first} to {last}")]
    NoEntry {
        /// What was asked for.
        index: u64,
        /// First index of the log.
        first: u64,
        /// Last index of the log.
        last: u64,
    },
    /// The log does not hold this record.
    #[error("offset {offset} is not in the log, which ends before {next}")]
    NoOffset {
        /// What was asked for.
        offset: Offset,
        /// Next offset that will be given.
        next: Offset,
    },
    /// The bytes are not what was written.
    #[error("the log is damaged in {place}: {why}")]
    Corrupt {
        /// Where.
        place: Place,
        /// What is wrong.
        why: String,
    },
    /// An entry is what was written, and its body is none that this program knows.
    #[error("entry {index} of the log is malformed: {why}")]
    Malformed {
        /// Its index.
        index: u64,
        /// What is wrong.
        why: String,
    },
    /// A run of ids can't be read, or is not what was written; `InvalidData` then.
    #[error("reading a run of ids: {0}")]
    Run(io::Error),
    /// The disk failed.
    #[error("reading the log: {0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// The first block of a segment, in which entry `index` should be the first, is not its own.
    pub(super) fn segment(sequence: u64, index: u64, why: String) -> Self {
        let segment = super::segment::name(sequence);
        Self::Corrupt { place: Place { segment, position: 0, index }, why }
    }
}
