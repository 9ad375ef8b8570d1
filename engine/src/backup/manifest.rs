//! What a backup holds: one file, replaced whole.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walengine_net::entry::ChainHash;
use walengine_net::model::{ClusterId, Offset, Timestamp};

use crate::fatal::{Fatal, Reason};
use crate::private_files::{create_file, file_failed, hex, sync_dir};
use crate::storage::layout::Tail;

/// Name of the file in a backup.
pub const NAME: &str = "manifest";
const NAME_NEW: &str = "manifest.new";
/// The first line, up to the checksum.
const HEADING: &str = "walengine backup, version 1, crc32c ";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The cluster that it is of, in hexadecimal.
    cluster: String,
    /// The parts of each partition, without a gap.
    pub parts: Vec<Vec<Part>>,
    /// What can be restored whole, the oldest first.
    pub points: Vec<Point>,
}

/// A file of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Offset of its first record.
    pub first: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The end of the log behind its last entry.
    pub end: End,
}

/// The end of a log, in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Offset of the record that comes next.
    pub next_offset: u64,
    /// Index and term of the last entry.
    pub index: u64,
    /// See `index`.
    pub term: u64,
    /// Log time of the last record.
    pub log_time: u64,
    /// Chain hash of the last entry, in hexadecimal.
    pub chain: String,
}

/// A backup that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// When, in nanoseconds since 1970.
    pub taken: u64,
    /// How many parts of each partition it has.
    pub parts: Vec<usize>,
}

impl End {
    /// Of the end of a log.
    pub fn of(tail: &Tail) -> Self {
        Self {
            next_offset: tail.next_offset.0,
            index: tail.index,
            term: tail.term,
            log_time: tail.timestamp.0,
            chain: hex(&tail.chain.0),
        }
    }

    /// As the end of a log.
    fn tail(&self) -> Option<Tail> {
        let mut chain = [0; 32];
        if self.chain.len() != 2 * chain.len() || !self.chain.is_ascii() {
            return None;
        }
        for (byte, at) in chain.iter_mut().zip((0..self.chain.len()).step_by(2)) {
            *byte = u8::from_str_radix(&self.chain[at..at + 2], 16).ok()?;
        }
        Some(Tail {
            index: self.index,
            term: self.term,
            next_offset: Offset(self.next_offset),
            timestamp: Timestamp(self.log_time),
            chain: ChainHash(chain),
        })
    }
}

impl Part {
    /// Name of its file.
    pub fn name(&self) -> String {
        name_of(self.first)
    }

    /// The end of the log behind it.
    pub fn tail(&self) -> Tail {
        self.end.tail().expect("it was checked when the manifest was read")
    }
}

/// Name of the part whose first record has this offset.
pub fn name_of(first: u64) -> String {
    format!("{first:020}.entries")
}

impl Manifest {
    /// Of a backup that holds nothing yet.
    pub fn new(cluster: ClusterId, partitions: u16) -> Self {
        let parts = vec![Vec::new(); partitions.into()];
        Self { cluster: format!("{:032x}", cluster.0), parts, points: Vec::new() }
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(u128::from_str_radix(&self.cluster, 16).unwrap_or_default())
    }

    /// Partitions of that cluster.
    pub fn partitions(&self) -> u16 {
        self.parts.len() as u16
    }

    /// The end of what is there of a partition.
    pub fn end(&self, partition: usize) -> Tail {
        self.parts[partition].last().map_or(Tail::default(), Part::tail)
    }

    /// Reads the one of a backup; `None` if there is none.
    ///
    /// # Errors
    /// It can't be read, is damaged, or of another version.
    pub fn read(backup: &Path) -> Result<Option<Self>, Fatal> {
        let path = backup.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_failed("read", &path, &error)),
        };
        let damaged = |why: &str| {
            let message = format!("{} is damaged: {why}", path.display());
            Fatal::new(Reason::Damaged, message)
        };
        let text = String::from_utf8(text).map_err(|_| damaged("it is no text"))?;
        let (heading, rest) = text.split_once('\n').ok_or_else(|| damaged("it is cut"))?;
        let Some(sum) = heading.strip_prefix(HEADING) else {
            if heading.starts_with("walengine backup, version ") {
                let message = format!(
                    "{} was written by another version of the program: use that one to restore it",
                    path.display()
                );
                return Err(Fatal::new(Reason::DataDirectory, message));
            }
            return Err(damaged("its first line is another"));
        };
        if u32::from_str_radix(sum, 16) != Ok(crc32c::crc32c(rest.as_bytes())) {
            return Err(damaged("its checksum differs"));
        }
        let manifest: Self =
            serde_json::from_str(rest).map_err(|error| damaged(&error.to_string()))?;
        manifest.check().map_err(damaged)?;
        Ok(Some(manifest))
    }

    /// It makes sense.
    fn check(&self) -> Result<(), &'static str> {
        if self.parts.is_empty() || self.parts.len() > usize::from(u16::MAX) {
            return Err("it has an impossible number of partitions");
        }
        if self.cluster.len() != 32 || u128::from_str_radix(&self.cluster, 16).is_err() {
            return Err("its cluster is no number");
        }
        for parts in &self.parts {
            let mut next = 0;
            for part in parts {
                if part.first != next || part.end.next_offset <= next {
                    return Err("its parts do not follow each other");
                }
                part.end.tail().ok_or("a chain hash is no number")?;
                next = part.end.next_offset;
            }
        }
        let mut before = vec![0; self.parts.len()];
        for point in &self.points {
            let grows = point.parts.len() == before.len()
                && point.parts.iter().zip(&before).all(|(now, before)| now >= before)
                && point.parts.iter().zip(&self.parts).all(|(now, all)| *now <= all.len());
            if !grows {
                return Err("its points name parts that are not there");
            }
            before.clone_from(&point.parts);
        }
        Ok(())
    }

    /// Replaces the one of a backup, durably.
    ///
    /// # Errors
    /// The disk's. The old one is still there then.
    pub fn save(&self, backup: &Path) -> Result<(), Fatal> {
        let path = backup.join(NAME);
        let text = serde_json::to_string_pretty(self).map_err(|error| {
            Fatal::new(Reason::File, format!("cannot write {}: {error}", path.display()))
        })?;
        let text = format!("{text}\n");
        let new: PathBuf = backup.join(NAME_NEW);
        let write = || {
            let mut file = create_file(&new)?;
            writeln!(file, "{HEADING}{:08x}", crc32c::crc32c(text.as_bytes()))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_dir(backup)
        };
        write().map_err(|error| file_failed("write", &path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let end = |next: u64| {
            let (index, term, timestamp) = (next / 10, 3, Timestamp(5));
            let tail =
                Tail { index, term, next_offset: Offset(next), timestamp, ..Tail::default() };
            End::of(&tail)
        };
        let part = |first, next| Part { first, bytes: 1000, end: end(next) };
        let mut manifest = Manifest::new(ClusterId(0xfeed), 2);
        manifest.parts = vec![vec![part(0, 40), part(40, 60)], vec![part(0, 10)]];
        manifest.points =
            [[1, 0], [2, 1]].map(|parts| Point { taken: 9, parts: parts.to_vec() }).to_vec();
        manifest
    }

    #[test]
    fn what_is_saved_is_read_and_every_change_is_noticed() {
        let dir = std::env::temp_dir().join(format!("walengine-manifest-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(Manifest::read(&dir).unwrap(), None);
        manifest().save(&dir).unwrap();
        assert_eq!(Manifest::read(&dir).unwrap(), Some(manifest()));
        let path = dir.join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            std::fs::write(&path, other).unwrap();
            assert!(Manifest::read(&dir).is_err(), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(Manifest::read(&dir).is_err(), "cut at {at}");
        }
        let newer = String::from_utf8(bytes).unwrap().replacen("version 1", "version 2", 1);
        std::fs::write(&path, newer).unwrap();
        let error = Manifest::read(&dir).unwrap_err();
        assert_eq!(error.reason, Reason::DataDirectory, "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_refused() {
        let wrong: [fn(&mut Manifest); 7] = [
            |manifest| manifest.parts.clear(),
            |manifest| manifest.cluster = "feed".to_owned(),
            |manifest| manifest.parts[0][1].first = 41,
            |manifest| manifest.parts[0][1].end.next_offset = 40,
            |manifest| manifest.parts[1][0].end.chain = "é".repeat(32),
            |manifest| manifest.points[1].parts[0] = 3,
            |manifest| manifest.points[1].parts[0] = 0,
        ];
        assert_eq!(manifest().check(), Ok(()));
        for (number, change) in wrong.iter().enumerate() {
            let mut manifest = manifest();
            change(&mut manifest);
            assert!(manifest.check().is_err(), "{number}");
        }
    }
}
