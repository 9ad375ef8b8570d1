//! A stream of chunks in a snapshot's file: the length of each stands before it (FORMAT.md, section 6).

use std::io;

use crate::storage::disk::Disk;
use crate::storage::snapshot::{SnapshotReader, SnapshotWriter};

/// Reads chunks one by one.
pub struct Chunks<D: Disk> {
    reader: SnapshotReader<D>,
    bytes_max: usize,
    pending: Vec<u8>,
    /// What was given of `pending`.
    given: usize,
}

impl<D: Disk> Chunks<D> {
    /// Of a file whose chunks have at most `bytes_max` bytes.
    pub fn new(reader: SnapshotReader<D>, bytes_max: usize) -> Self {
        Self { reader, bytes_max, pending: Vec::new(), given: 0 }
    }

    /// The next chunk; `None` behind the last, and only if the file is whole.
    ///
    /// # Errors
    /// The disk's; `InvalidData` if the file is not what was written.
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let end = loop {
            if let Some(length) = self.pending[self.given..].first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                if length > self.bytes_max {
                    return Err(invalid(&format!("a chunk of {length} bytes")));
                }
                let end = self.given + 4 + length;
                if end <= self.pending.len() {
                    break end;
                }
            }
            self.pending.drain(..self.given);
            self.given = 0;
            match self.reader.next_chunk().await? {
                Some(bytes) => self.pending.extend_from_slice(bytes),
                None if self.pending.is_empty() => return Ok(None),
                None => return Err(invalid("it ends inside a chunk")),
            }
        };
        let start = std::mem::replace(&mut self.given, end) + 4;
        Ok(Some(&self.pending[start..end]))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Adds a chunk. Returns the bytes that it takes.
///
/// # Errors
/// As [`SnapshotWriter::write`].
pub async fn write_chunk<D: Disk>(chunk: &[u8], writer: &mut SnapshotWriter<D>) -> io::Result<u64> {
    writer.write(&(chunk.len() as u32).to_le_bytes()).await?;
    writer.write(chunk).await?;
    Ok(4 + chunk.len() as u64)
}
