//! Holds the runs of ids against the log, while that is read from its beginning.
//!
//! ```text
//!  before   each run's file, entry by entry ─▶ its sum
//!  then     records ─ ledger ─ their keys, a million at a time ─▶ the sum of the run that covers them
//!                        ▲                 │
//!                        └─ facts ◀─ runs ─┘ what is no more in memory is looked up there, and in the log
//! ```
//! Equal sums are equal entries: a key that the file lacks, has too often, or with another verdict or
//! offset changes them. So few ids are in memory however many there are; those behind the runs are. What a
//! look-up finds counts only when the record in the log has the id, and what it does not find because the
//! file lacks it shows in the sum at the latest.

use std::collections::HashMap;
use std::io;

use futures_lite::future::block_on;
use walengine_net::entry::{EntryHeader, EntryKind, RecordHead, access_events, access_records};
use walengine_net::model::Offset;
use xxhash_rust::xxh3::xxh3_128;

use super::apply::unknown_in;
use super::older_ids::fact_of;
use crate::ids::RunRange;
use crate::ids::Sought;
use crate::ids::key::{Key, Space};
use crate::ids::run::RunEntry;
use crate::ids::runs::Runs;
use crate::ledger::{Fact, Ledger};
use crate::limits::FLUSH_STEP_KEYS;
use crate::storage::disk::Disk;
use crate::storage::records::Record;
use crate::storage::shown::Shown;
use crate::storage::verify::Checked;

/// See the module.
pub(super) struct CheckedIds<D: Disk> {
    runs: Runs<D>,
    /// Of each run: its offsets, what its file comes to, and what the log does.
    sums: Vec<(RunRange, Sum, Sum)>,
    shown: Shown<D>,
    /// Records whose keys the ledger keeps, as far as runs have them.
    records_max: u64,
    held_max: usize,
}

/// Of entries, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    entries: u64,
    sum: u128,
}

impl Sum {
    fn add(&mut self, entry: RunEntry) {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&RunEntry::cut(entry.hash).to_le_bytes());
        bytes[8..16].copy_from_slice(&entry.offset.to_le_bytes());
        bytes[16] = entry.code;
        self.entries += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(&bytes));
    }
}

impl<D: Disk> CheckedIds<D> {
    /// Of runs that were opened; `shown` gives the log's records.
    ///
    /// # Errors
    /// The disk's.
    pub async fn new(runs: Runs<D>, shown: Shown<D>, records_max: u64) -> io::Result<Self> {
        let none = Sum::default();
        let mut sums: Vec<_> = runs.list().into_iter().map(|range| (range, none, none)).collect();
        runs.each(|run, entry| sums[run].1.add(entry)).await?;
        Ok(Self { runs, sums, shown, records_max, held_max: 0 })
    }

    /// Has the ledger know what it must before it takes this entry in. The disk must wait for nothing.
    ///
    /// # Errors
    /// The disk's, or a file is not what it was a moment ago.
    pub fn prepare(
        &mut self,
        ledger: &mut Ledger,
        entry: &Checked<'_>,
        body: &[u8],
    ) -> io::Result<()> {
        self.shown.note(entry);
        // What is learned may take the place of what was known before: it is asked until nothing is missing.
        loop {
            let unknown = unknown_in(ledger, entry.header.meta.kind, body);
            if unknown.is_empty() {
                return Ok(());
            }
            let keys: Vec<Key> = unknown.into_iter().map(|one| one.key).collect();
            let facts = block_on(self.look_up(&keys, ledger.runs_end()))?;
            ledger.learn(ledger.facts_version(), facts);
        }
    }

    async fn look_up(&self, keys: &[Key], below: u64) -> io::Result<Vec<(Key, Fact)>> {
        let mut facts: HashMap<(u128, Space), Fact> = HashMap::new();
        let mut look_up = self.runs.look_up(keys.iter().map(Sought::key).collect());
        while let Some(entries) = look_up.next().await? {
            // The files have what comes later, too.
            for entry in entries.into_iter().filter(|entry| entry.offset < below) {
                let (header, bytes) = self.shown.entry_of(Offset(entry.offset)).await?;
                let record = record_of(&header, &bytes, entry.offset);
                let record = record.ok_or(io::ErrorKind::InvalidData)?;
                facts.extend(
                    fact_of(&entry, &record).map(|(key, fact)| ((key.id, key.space), fact)),
                );
            }
        }
        let of = |key: &Key| facts.get(&(key.id, key.space)).cloned().unwrap_or(Fact::Unknown);
        Ok(keys.iter().map(|key| (*key, of(key))).collect())
    }

    /// Takes keys out of the ledger that the runs have, if it has many.
    pub fn keep_few(&mut self, ledger: &mut Ledger) {
        self.held_max = self.held_max.max(ledger.recent_len());
        if ledger.next_offset().0 - ledger.runs_end() >= self.records_max {
            self.take(ledger);
        }
    }

    /// The most keys that the ledger had in memory.
    pub fn held_max(&self) -> usize {
        self.held_max
    }

    /// What is wrong with the runs, once the ledger has all of the log that could be read.
    pub fn complaints(mut self, ledger: &mut Ledger) -> Vec<String> {
        self.take(ledger);
        let reached = ledger.runs_end();
        let wrong =
            self.sums.iter().filter(|(range, file, log)| range.end <= reached && file != log);
        let wrong = wrong.map(|(range, file, log)| {
            let path = self.runs.path_of(*range);
            format!(
                "{} has other ids than the log: {} entries, where the log gives {}; remove it, and the next \
                 start makes it again from the log",
                path.display(),
                file.entries,
                log.entries
            )
        });
        wrong.collect()
    }

    fn take(&mut self, ledger: &mut Ledger) {
        let first = ledger.runs_end();
        let end = self.runs.end().min(ledger.next_offset().0);
        if end <= first {
            return;
        }
        let (mut next, mut keys) = (Some(0), Vec::new());
        while let Some(from) = next {
            keys.clear();
            next = ledger.leaving(from, Offset(end), FLUSH_STEP_KEYS, &mut keys);
            ledger.note_older(keys.iter().map(|leaving| leaving.key.hash));
            for leaving in &keys {
                let run = self.sums.partition_point(|(range, ..)| range.end <= leaving.offset);
                let (hash, code, offset) = (leaving.key.hash, leaving.code, leaving.offset);
                self.sums[run].2.add(RunEntry { hash, code, offset });
            }
        }
        ledger.add_run(RunRange { first, end });
        ledger.set_runs(vec![RunRange { first: 0, end }]);
    }
}

/// The record at `offset` of an entry that was checked.
fn record_of(header: &EntryHeader, body: &[u8], offset: u64) -> Option<Record> {
    let place = usize::try_from(offset.checked_sub(header.meta.base_offset.0)?).ok()?;
    match header.meta.kind {
        EntryKind::Events => {
            let body = access_events(body).ok()?;
            Some(Record::Event(*body.events.as_slice().get(place)?))
        }
        EntryKind::Records => {
            let body = access_records(body).ok()?;
            let before = body.heads.get(..place)?.iter();
            let from: usize = before.map(|head| head.bytes.to_native() as usize).sum();
            let head = body.heads.get(place)?;
            let head = RecordHead {
                id: head.id.to_native(),
                expected_offset: head.expected_offset.to_native(),
                bytes: head.bytes.to_native(),
            };
            let bytes = body.blob.get(from..from + head.bytes as usize)?;
            Some(Record::Opaque { head, bytes: Some(bytes.to_vec()) })
        }
        EntryKind::Blank | EntryKind::Membership => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use glommio::LocalExecutorBuilder;
    use walengine_net::model::{ClusterId, PartitionId};

    use super::*;
    use crate::ids::run::RunMeta;
    use crate::storage::glommio_disk::GlommioDisk;

    /// A run that `verify` reads holds what comes only later, too: it must not make a new id look known.
    #[test]
    fn what_comes_later_in_the_log_is_unknown_still() {
        let dir = std::env::temp_dir().join(format!("walengine-check-ids-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let executor = LocalExecutorBuilder::default().make().unwrap();
        executor.run(looks_up_what_comes_later(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    async fn looks_up_what_comes_later(dir: &Path) {
        let disk = GlommioDisk::new(dir);
        let (cluster, partition, key) = (ClusterId(1), PartitionId(0), Key::new(7, Space::Event));
        let opened =
            Runs::open(disk.clone(), dir, (cluster, partition), &[], &[], |_| {}, async |_| {});
        let runs = opened.await.unwrap();
        let meta = RunMeta { first: 0, end: 100, entries: 1, id_low: 7, id_high: 7 };
        let mut writer = runs.begin(meta).await.unwrap();
        writer.push(RunEntry { hash: key.hash, code: 0, offset: 50 }).await.unwrap();
        runs.add(writer).await.unwrap();
        let shown = Shown::new(disk, dir.to_owned(), 8 << 20);
        let checked = CheckedIds::new(runs, shown, 1).await.unwrap();
        let later = checked.look_up(&[key], 50).await.unwrap();
        assert_eq!(later, [(key, Fact::Unknown)]);
        // What is behind is held against the log, which is empty here.
        assert!(checked.look_up(&[key], 51).await.is_err());
    }
}
