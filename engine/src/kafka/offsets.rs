//! How far groups have read: a file beside the partitions of a node that serves alone.
//!
//! It is written anew and whole with each commit, and is on the disk under its name before the commit is answered. Where it is not
//! known whether it is, no more is committed before a restart, which reads what is there.
//! One that is damaged or of another cluster ends the start: a group that was silently forgotten could skip records.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fatal::{Fatal, Reason};
use crate::limits::{KAFKA_OFFSETS_KEPT, KAFKA_OFFSETS_MAX};
use crate::private_files::{create_file, file_failed, sync_parent};

const NAME: &str = "kafka-offsets";

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The next offset that it wants.
    pub offset: i64,
    /// A note of the reader's.
    pub note: String,
    /// When it said so, in seconds since 1970, by this machine's clock.
    pub at: u64,
}

/// By group and partition.
pub type All = BTreeMap<String, BTreeMap<u16, Committed>>;

fn has_room(all: &All) -> bool {
    all.values().map(BTreeMap::len).sum::<usize>() <= KAFKA_OFFSETS_MAX
}

/// Forgets groups that have not committed for long, those that did longest ago first, until there is room; none that is `needed`.
/// Their names.
pub fn make_room(all: &mut All, now: u64, needed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut forgotten = Vec::new();
    while !has_room(all) {
        let last = |offsets: &BTreeMap<u16, Committed>| offsets.values().map(|one| one.at).max();
        let groups = all.iter().map(|(name, offsets)| (last(offsets).unwrap_or(0), name));
        let oldest = groups.filter(|(_, name)| !needed(name)).min();
        let Some((at, name)) = oldest else { break };
        if at.saturating_add(KAFKA_OFFSETS_KEPT.as_secs()) > now {
            break;
        }
        let name = name.clone();
        all.remove(&name);
        forgotten.push(name);
    }
    forgotten
}

/// See the module.
#[derive(Clone, Debug)]
pub struct OffsetsFile {
    path: PathBuf,
    cluster: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    cluster: String,
    groups: All,
}

/// A commit was not kept; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// There are too many.
    #[error("groups have committed {KAFKA_OFFSETS_MAX} offsets, and more are not kept")]
    Full,
    /// The file can't be written.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// It has its new content under its name, and may have its old one after a power cut.
    #[error("{0}; none are kept any more until this node is restarted")]
    Unknown(std::io::Error),
}

impl OffsetsFile {
    /// Opens the one of a data directory, or begins it.
    ///
    /// # Errors
    /// It is damaged, of another cluster, or can't be read or written.
    pub fn open(data: &Path, cluster: u128) -> Result<(Self, All), Fatal> {
        let file = Self { path: data.join(NAME), cluster: format!("{cluster:032x}") };
        let text = match std::fs::read_to_string(&file.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                file.write(&All::new()).map_err(|error| match error {
                    NotKept::File(error) | NotKept::Unknown(error) => {
                        file_failed("write", &file.path, &error)
                    }
                    full @ NotKept::Full => Fatal::new(Reason::File, full.to_string()),
                })?;
                tracing::info!(
                    "{} is begun: groups of Kafka consumers begin where their auto.offset.reset says",
                    file.path.display()
                );
                return Ok((file, All::new()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(file.damaged("it is no text"));
            }
            Err(error) => return Err(file_failed("read", &file.path, &error)),
        };
        let (sum, rest) =
            text.split_once('\n').ok_or_else(|| file.damaged("it has no checksum"))?;
        if blake3::hash(rest.as_bytes()).to_hex().as_str() != sum {
            return Err(file.damaged("its checksum does not fit"));
        }
        let content: Content =
            serde_json::from_str(rest).map_err(|error| file.damaged(&error.to_string()))?;
        if content.cluster != file.cluster {
            return Err(file.damaged(&format!("it is of cluster {}", content.cluster)));
        }
        Ok((file, content.groups))
    }

    fn damaged(&self, why: &str) -> Fatal {
        let message = format!(
            "{}, how far readers by Kafka's protocol have come, can't be used: {why}; restore it, or move it away \
             and set the offsets of the groups anew",
            self.path.display()
        );
        Fatal::new(Reason::Damaged, message)
    }

    /// Writes all, durably. Blocks.
    ///
    /// # Errors
    /// The file has its old content, but for [`NotKept::Unknown`].
    pub fn write(&self, all: &All) -> Result<(), NotKept> {
        if !has_room(all) {
            return Err(NotKept::Full);
        }
        let content = Content { cluster: self.cluster.clone(), groups: all.clone() };
        let text = serde_json::to_string(&content).map_err(std::io::Error::other)?;
        let sum = blake3::hash(text.as_bytes()).to_hex();
        let beside = self.path.with_extension("new");
        let mut file = create_file(&beside)?;
        file.write_all(format!("{sum}\n{text}").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        sync_parent(&self.path).map_err(NotKept::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_told() {
        let dir = std::env::temp_dir().join(format!("walengine-kafka-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, mut all) = OffsetsFile::open(&dir, 7).unwrap();
        assert!(all.is_empty());
        let committed = Committed { offset: 5, note: "n".to_owned(), at: 7 };
        all.entry("g".to_owned()).or_default().insert(1, committed);
        file.write(&all).unwrap();
        assert_eq!(OffsetsFile::open(&dir, 7).unwrap().1, all);
        assert_eq!(OffsetsFile::open(&dir, 8).unwrap_err().reason, Reason::Damaged);
        let good = std::fs::read(dir.join(NAME)).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(dir.join(NAME), &bad).unwrap();
            assert!(OffsetsFile::open(&dir, 7).is_err(), "byte {place}");
            std::fs::write(dir.join(NAME), &good[..place]).unwrap();
            assert!(OffsetsFile::open(&dir, 7).is_err(), "cut at {place}");
        }
        let many = (0..=KAFKA_OFFSETS_MAX as u16)
            .map(|partition| (partition, Committed { offset: 0, note: String::new(), at: 0 }));
        let many = All::from([("g".to_owned(), many.collect())]);
        assert!(matches!(file.write(&many), Err(NotKept::Full)));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn groups_that_were_silent_longest_make_room_and_none_that_was_not_for_long() {
        let of = |at: u64, count: u16| {
            let one = Committed { offset: 1, note: String::new(), at };
            (0..count).map(|partition| (partition, one.clone())).collect::<BTreeMap<_, _>>()
        };
        let day = KAFKA_OFFSETS_KEPT.as_secs();
        let half = KAFKA_OFFSETS_MAX as u16 / 2;
        let full = All::from([
            ("older".to_owned(), of(5, half)),
            ("oldest".to_owned(), of(4, 1)),
            ("older with members".to_owned(), of(3, 1)),
            ("new".to_owned(), of(9, half)),
        ]);
        let forget = |now: u64| {
            let mut all = full.clone();
            let names = make_room(&mut all, now, |name| name.contains("members"));
            (names, all.len())
        };
        assert_eq!(forget(3 + day), (vec![], 4));
        assert_eq!(forget(4 + day), (vec!["oldest".to_owned()], 3));
        assert_eq!(forget(5 + day), (vec!["oldest".to_owned(), "older".to_owned()], 2));
    }
}
