//! Writes an export.

use std::io::{self, Write};

use walengine_net::entry::{
    EntryError, EntryHeader, EntryKind, RecordHead, access_events, access_records,
};
use walengine_net::model::{Resolved, Verdict};

use super::line::{FIRST_KEY, Place, put_event, put_record};
use super::{Header, PartitionEnd, VERSION, hex};

/// Writes an export line by line. What it was given is whole only after [`Self::finish`].
pub struct Writer<W: Write> {
    out: W,
    /// Over every byte that was written.
    hasher: blake3::Hasher,
    lines: String,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the first line.
    ///
    /// # Errors
    /// `out` fails.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer =
            Self { out, hasher: blake3::Hasher::new(), lines: String::new(), records: 0 };
        let ends: Vec<String> = header.ends.iter().map(ToString::to_string).collect();
        // A program's name and version; quoted all the same.
        let program = serde_json::Value::from(header.program.as_str());
        let line = format!(
            "{FIRST_KEY}{VERSION},\"cluster\":\"{:032x}\",\"partitions\":{},\"created\":\"{}\",\
             \"program\":{program},\"ends\":[{}]}}\n",
            header.cluster.0,
            header.ends.len(),
            header.created,
            ends.iter().map(|end| format!("\"{end}\"")).collect::<Vec<_>>().join(","),
        );
        writer.put(line.as_bytes())?;
        Ok(writer)
    }

    /// Writes an entry as it stands in a log, with a line that closes it. One without records is left
    /// out.
    ///
    /// # Errors
    /// `out` fails, or the body is not one of an entry.
    pub fn entry(&mut self, header: &EntryHeader, body: &[u8]) -> io::Result<()> {
        let bad = |error: EntryError| io::Error::new(io::ErrorKind::InvalidData, error);
        let meta = &header.meta;
        let place = |index: usize| Place {
            partition: meta.partition.0,
            offset: meta.base_offset.0 + index as u64,
            time: meta.timestamp.0.saturating_add(index as u64),
        };
        // Unknown numbers were refused when the body was opened.
        let verdict = |number: u8| Verdict::from_number(number).unwrap_or(Verdict::Ok);
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        match meta.kind {
            EntryKind::Events => {
                let body = access_events(body).map_err(bad)?;
                let mut resolved = body.resolved.iter().map(Resolved::from_bytes).peekable();
                for (index, (event, number)) in
                    body.events.iter().zip(body.verdicts.iter()).enumerate()
                {
                    let effective = resolved.next_if(|next| next.index as usize == index);
                    put_event(
                        &mut lines,
                        place(index),
                        verdict(*number),
                        event,
                        effective.as_ref(),
                    );
                }
            }
            EntryKind::Records => {
                let body = access_records(body).map_err(bad)?;
                let mut blob = body.blob.as_slice();
                for (index, (head, number)) in
                    body.heads.iter().zip(body.verdicts.iter()).enumerate()
                {
                    let head = RecordHead {
                        id: head.id.to_native(),
                        expected_offset: head.expected_offset.to_native(),
                        bytes: head.bytes.to_native(),
                    };
                    // The lengths add up to the blob's: the body was opened.
                    let (data, behind) = blob.split_at(head.bytes as usize);
                    blob = behind;
                    put_record(&mut lines, place(index), verdict(*number), &head, data);
                }
            }
            EntryKind::Blank | EntryKind::Membership => return Ok(()),
        }
        self.put(lines.as_bytes())?;
        self.lines = lines;
        self.records += u64::from(meta.records);
        let (partition, offset, records) = (meta.partition, meta.base_offset, meta.records);
        self.close(&format!(
            "{{\"entry\":{{\"partition\":{partition},\"offset\":\"{offset}\",\"records\":{records}}}"
        ))
    }

    /// Writes the last line, and gives back what was written to. The caller flushes it.
    ///
    /// # Errors
    /// `out` fails.
    pub fn finish(mut self, ends: &[PartitionEnd]) -> io::Result<W> {
        let each = ends.iter().zip(0u16..).map(|(end, partition)| {
            format!(
                "{{\"partition\":{partition},\"next_offset\":\"{}\",\"last_time\":\"{}\",\
                 \"accounts\":\"{}\",\"reservations\":\"{}\",\"ids\":\"{}\",\"digest\":\"{}\"}}",
                end.next_offset,
                end.last_timestamp,
                end.accounts,
                end.pendings,
                end.ids,
                hex(&end.digest)
            )
        });
        let each = each.collect::<Vec<_>>().join(",");
        let records = self.records;
        self.close(&format!("{{\"end\":[{each}],\"records\":\"{records}\""))?;
        Ok(self.out)
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Writes a line that ends with the hash over everything before its first digit.
    fn close(&mut self, line: &str) -> io::Result<()> {
        self.put(format!("{line},\"hash\":\"").as_bytes())?;
        let hash = self.hasher.finalize().to_hex();
        self.put(format!("{hash}\"}}\n").as_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }
}
