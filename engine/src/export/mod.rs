//! The file of an export: every record of a log as a line of JSON, checksummed, so that another
//! cluster can take it over. EXPORT.md specifies it. No I/O but on what it is given; bounded memory.

mod line;
mod reader;
mod writer;

use walengine_net::entry::{EventsBody, RecordsBody};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

pub use line::FIRST_KEY;
pub use reader::{ExportError, Reader};
pub use writer::Writer;

/// Version of the file that this program writes and reads.
pub const VERSION: u32 = 1;

/// What the first line of an export says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// When it was begun.
    pub created: Timestamp,
    /// The program that wrote it.
    pub program: String,
    /// For each partition, the offset behind its last record.
    pub ends: Vec<Offset>,
}

/// What the last line says of a partition: its state behind its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Offset behind the last record.
    pub next_offset: Offset,
    /// Log time of the last record; zero without any.
    pub last_timestamp: Timestamp,
    /// Accounts.
    pub accounts: u64,
    /// Open reservations.
    pub pendings: u64,
    /// Ids that are remembered.
    pub ids: u64,
    /// Digest of the state.
    pub digest: [u8; 32],
}

/// An entry of a log, with its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedEntry {
    /// Its partition.
    pub partition: PartitionId,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Log time of its first record; record `i` has this plus `i`.
    pub timestamp: Timestamp,
    /// Its records.
    pub content: Content,
}

/// The records of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Events with verdicts and resolutions.
    Events(EventsBody),
    /// Opaque records with verdicts.
    Records(RecordsBody),
}

impl ExportedEntry {
    /// Number of its records.
    pub fn records(&self) -> u64 {
        match &self.content {
            Content::Events(body) => body.events.len() as u64,
            Content::Records(body) => body.heads.len() as u64,
        }
    }

    /// First offset behind it.
    pub fn end(&self) -> Offset {
        self.base_offset.plus(self.records())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // to a string it never fails
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_hex = text.len() == 2 * N && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
