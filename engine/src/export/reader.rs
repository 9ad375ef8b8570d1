//! Reads an export, entry by entry. Nothing in it is trusted: an entry is given out only when the hash
//! behind it fits everything before, and it stands where it belongs.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use walengine_net::entry::{BODY_BYTES_MAX, EventsBody, RecordsBody};
use walengine_net::model::{
    ClusterId, EVENT_BYTES, Offset, PartitionId, RESOLVED_BYTES, Resolved, Timestamp, Verdict,
};

use super::line::{self, FIRST_KEY, Long, Place, Recorded};
use super::{Content, ExportedEntry, Header, PartitionEnd, VERSION, from_hex};
use crate::limits::EXPORT_LINE_BYTES_MAX;

/// Why a file is not an export, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ExportError {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// The hash of 64 digits, a quotation mark and a brace.
const HASH_END_BYTES: usize = 66;
/// Size of an opaque record's head in a body.
const RECORD_HEAD_BYTES: usize = 28;

/// See the module.
pub struct Reader<R: BufRead> {
    from: R,
    header: Header,
    hasher: blake3::Hasher,
    line: Vec<u8>,
    /// Number of the line that was read last.
    number: u64,
    /// For each partition: where its next entry begins, and the log time of the newest record.
    reached: Vec<(Offset, Timestamp)>,
    records: u64,
    ends: Option<Vec<PartitionEnd>>,
}

#[derive(Deserialize)]
struct FirstLine<'a> {
    walengine_export: u32,
    #[serde(borrow)]
    cluster: Option<&'a str>,
    partitions: Option<u16>,
    created: Option<Long<u64>>,
    program: Option<String>,
    ends: Option<Vec<Long<u64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseLine {
    entry: CloseEntry,
    #[serde(rename = "hash")]
    _hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseEntry {
    partition: u16,
    offset: Long<u64>,
    records: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LastLine<'a> {
    #[serde(borrow)]
    end: Vec<EndLine<'a>>,
    records: Long<u64>,
    #[serde(rename = "hash")]
    _hash: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine<'a> {
    partition: u16,
    next_offset: Long<u64>,
    last_time: Long<u64>,
    accounts: Long<u64>,
    reservations: Long<u64>,
    ids: Long<u64>,
    digest: &'a str,
}

/// The records of an entry so far.
struct Gathered {
    first: Place,
    content: Content,
    bytes: usize,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is not that of an export of this version.
    pub fn new(from: R) -> Result<Self, ExportError> {
        let header = Header {
            cluster: ClusterId(0),
            created: Timestamp(0),
            program: String::new(),
            ends: Vec::new(),
        };
        let mut reader = Self {
            from,
            header,
            hasher: blake3::Hasher::new(),
            line: Vec::new(),
            number: 0,
            reached: Vec::new(),
            records: 0,
            ends: None,
        };
        if !reader.next_line()? || !reader.line.starts_with(FIRST_KEY.as_bytes()) {
            return Err(reader.error("this is not the first line of an export"));
        }
        reader.header = reader.first_line().map_err(|why| reader.error(why))?;
        reader.reached = vec![(Offset(0), Timestamp(0)); reader.header.ends.len()];
        reader.hasher.update(&reader.line);
        Ok(reader)
    }

    /// What the first line says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the last line says of each partition, once [`Self::next_entry`] has come to it.
    pub fn ends(&self) -> Option<&[PartitionEnd]> {
        self.ends.as_deref()
    }

    /// The next entry; `None` behind the last one, when everything was whole.
    ///
    /// # Errors
    /// The file is damaged, or ends too early. Nothing behind it can be read.
    pub fn next_entry(&mut self) -> Result<Option<ExportedEntry>, ExportError> {
        if self.ends.is_some() {
            return Ok(None);
        }
        let mut gathered: Option<Gathered> = None;
        loop {
            if !self.next_line()? {
                return Err(self.error(
                    "the file ends here, before the last line of an export: it was cut; export again, \
                     or copy it again",
                ));
            }
            if self.line.starts_with(b"{\"entry\":") {
                self.check_hash()?;
                let Some(gathered) = gathered else {
                    return Err(self.error("an entry without records"));
                };
                return self.entry(gathered).map(Some).map_err(|why| self.error(why));
            }
            if self.line.starts_with(b"{\"end\":") {
                self.check_hash()?;
                if gathered.is_some() {
                    return Err(self.error("the records before it have no line that closes them"));
                }
                let ends = self.last_line().map_err(|why| self.error(why))?;
                self.ends = Some(ends);
                if self.next_line()? {
                    return Err(self.error("there is more behind the last line of the export"));
                }
                return Ok(None);
            }
            let added = line::read(trimmed(&self.line))
                .and_then(|record| add(&mut gathered, record, &self.header));
            added.map_err(|why| self.error(why))?;
            self.hasher.update(&self.line);
        }
    }

    /// Reads a line with its break into `line`; false at the end.
    fn next_line(&mut self) -> Result<bool, ExportError> {
        self.line.clear();
        let limit = EXPORT_LINE_BYTES_MAX as u64;
        let read = (&mut self.from).take(limit).read_until(b'\n', &mut self.line);
        self.number += 1;
        match read {
            Ok(0) => Ok(false),
            Ok(_) if self.line.ends_with(b"\n") => Ok(true),
            Ok(bytes) if bytes as u64 == limit => {
                Err(self.error("it is longer than any line of an export"))
            }
            Ok(_) => Err(self.error(
                "the file ends inside this line: it was cut; export again, or copy it again",
            )),
            Err(error) => Err(self.error(reason(&error))),
        }
    }

    fn error(&self, why: impl Into<String>) -> ExportError {
        ExportError { line: self.number, why: why.into() }
    }

    fn first_line(&self) -> Result<Header, String> {
        let line: FirstLine<'_> =
            serde_json::from_slice(trimmed(&self.line)).map_err(|error| error.to_string())?;
        if line.walengine_export != VERSION {
            return Err(format!(
                "an export of version {}, this program reads version {VERSION}: use the program \
                 that wrote it, or a newer one",
                line.walengine_export
            ));
        }
        let missing = "a part of the first line is missing";
        let cluster = line.cluster.ok_or(missing)?;
        let cluster = u128::from_str_radix(cluster, 16).map_err(|error| error.to_string())?;
        let ends: Vec<_> = line.ends.ok_or(missing)?.into_iter().map(|end| Offset(end.0)).collect();
        if ends.is_empty() || Some(ends.len()) != line.partitions.map(usize::from) {
            return Err("the numbers of partitions differ".to_owned());
        }
        Ok(Header {
            cluster: ClusterId(cluster),
            created: Timestamp(line.created.ok_or(missing)?.0),
            program: line.program.ok_or(missing)?,
            ends,
        })
    }

    /// Compares the hash at the end of `line` with everything before it.
    fn check_hash(&mut self) -> Result<(), ExportError> {
        let line = trimmed(&self.line);
        let at = line.len().saturating_sub(HASH_END_BYTES);
        self.hasher.update(&line[..at]);
        let expected = format!("{}\"}}", self.hasher.finalize().to_hex());
        if line[at..] != *expected.as_bytes() {
            return Err(self.error(
                "the hash differs: something between the hash before and here was changed, left out, \
                 doubled or moved; an export can't be edited, and is copied or made again",
            ));
        }
        self.hasher.update(&self.line[at..]);
        Ok(())
    }

    fn entry(&mut self, gathered: Gathered) -> Result<ExportedEntry, String> {
        let Place { partition, offset, time } = gathered.first;
        let entry = ExportedEntry {
            partition: PartitionId(partition),
            base_offset: Offset(offset),
            timestamp: Timestamp(time),
            content: gathered.content,
        };
        let line: CloseLine =
            serde_json::from_slice(trimmed(&self.line)).map_err(|error| error.to_string())?;
        let closes = (line.entry.partition, line.entry.offset.0, line.entry.records);
        if closes != (partition, offset, entry.records()) {
            return Err("it closes another entry than the one before it".to_owned());
        }
        // The partition was checked when its first record was read.
        let (next, newest) = &mut self.reached[usize::from(partition)];
        if entry.base_offset != *next || entry.timestamp <= *newest {
            return Err(format!(
                "an entry at offset {offset} and time {time}, where partition {partition} goes on at \
                 {next} after time {newest}"
            ));
        }
        let last = time.checked_add(entry.records() - 1).ok_or("a time past 2^64")?;
        (*next, *newest) = (entry.end(), Timestamp(last));
        if *next > self.header.ends[usize::from(partition)] {
            return Err("more records than the first line says".to_owned());
        }
        self.records += entry.records();
        Ok(entry)
    }

    fn last_line(&self) -> Result<Vec<PartitionEnd>, String> {
        let line: LastLine<'_> =
            serde_json::from_slice(trimmed(&self.line)).map_err(|error| error.to_string())?;
        let ends = line.end.iter().zip(0u16..).map(|(end, partition)| {
            let digest = (end.partition == partition).then(|| from_hex(end.digest)).flatten();
            Ok(PartitionEnd {
                next_offset: Offset(end.next_offset.0),
                last_timestamp: Timestamp(end.last_time.0),
                accounts: end.accounts.0,
                pendings: end.reservations.0,
                ids: end.ids.0,
                digest: digest.ok_or("a partition's end can't be read")?,
            })
        });
        let ends = ends.collect::<Result<Vec<_>, String>>()?;
        let reached = ends.iter().map(|end| (end.next_offset, end.last_timestamp));
        let is_whole = reached.eq(self.reached.iter().copied())
            && ends.iter().map(|end| end.next_offset).eq(self.header.ends.iter().copied())
            && line.records.0 == self.records;
        if !is_whole {
            return Err("the export has not the records that it says it has".to_owned());
        }
        Ok(ends)
    }
}

/// A line without its break.
fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn reason(error: &io::Error) -> String {
    format!("it can't be read: {error}")
}

/// Adds a record to an entry, which it may begin.
fn add(
    gathered: &mut Option<Gathered>,
    (place, verdict, record): (Place, Verdict, Recorded),
    header: &Header,
) -> Result<(), String> {
    if usize::from(place.partition) >= header.ends.len() {
        return Err(format!("there is no partition {}", place.partition));
    }
    let is_event = matches!(record, Recorded::Event(..));
    let gathered = gathered.get_or_insert_with(|| Gathered {
        first: place,
        content: if is_event {
            Content::Events(EventsBody::default())
        } else {
            Content::Records(RecordsBody::default())
        },
        bytes: 0,
    });
    let first = gathered.first;
    let index = match &gathered.content {
        Content::Events(body) => body.events.len(),
        Content::Records(body) => body.heads.len(),
    };
    let expected = Place {
        partition: first.partition,
        offset: first.offset.saturating_add(index as u64),
        time: first.time.saturating_add(index as u64),
    };
    if place != expected {
        return Err(format!(
            "a record at offset {} and time {}, where {} and {} come next",
            place.offset, place.time, expected.offset, expected.time
        ));
    }
    gathered.bytes += match (&mut gathered.content, record) {
        (Content::Events(body), Recorded::Event(event, effective)) => {
            body.events.push(event);
            body.verdicts.push(verdict.number());
            let resolved = effective.map(|one| Resolved { index: index as u32, ..one }.to_bytes());
            body.resolved.extend(resolved);
            EVENT_BYTES + 1 + if resolved.is_some() { RESOLVED_BYTES } else { 0 }
        }
        (Content::Records(body), Recorded::Opaque(head, data)) => {
            body.heads.push(head);
            body.verdicts.push(verdict.number());
            body.blob.extend_from_slice(&data);
            RECORD_HEAD_BYTES + 1 + data.len()
        }
        _ => return Err("events and opaque records in one entry".to_owned()),
    };
    if gathered.bytes > BODY_BYTES_MAX {
        return Err("more records than an entry holds".to_owned());
    }
    Ok(())
}
