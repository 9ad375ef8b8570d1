//! Reads a backup: which points it has, and whether it is what was written.

use std::path::{Path, PathBuf};

use walengine_net::entry::EntryHeader;
use walengine_net::model::PartitionId;

use super::manifest::{self, Manifest, Part};
use super::part::{EXTENSION_NEW, PartError, PartReader};
use super::parts_dir;
use crate::across::ties::Ties;
use crate::data_dir::of_partition;
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Ledger, LedgerTotals};
use crate::limits::REPLAY_BYTES;
use crate::memory;
use crate::partition::restore::apply;
use crate::storage::ids::Ids;
use crate::storage::layout::Tail;

/// A backup, opened to be read.
pub struct Backup<'a> {
    /// Its directory.
    pub dir: &'a Path,
    /// What it holds.
    pub manifest: Manifest,
}

/// What a partition of a backup comes to.
pub struct Contained {
    /// The end of its log.
    pub end: Tail,
    /// Entries and their bytes.
    pub entries: u64,
    /// See `entries`.
    pub bytes: u64,
    /// The state behind it.
    pub ledger: Ledger,
    /// How it is tied to other partitions' logs.
    pub ties: Ties,
}

/// The directory holds a backup, or what a run has left of one.
pub fn is_backup(dir: &Path) -> bool {
    dir.join(manifest::NAME).exists()
}

impl<'a> Backup<'a> {
    /// Opens the one in `dir`.
    ///
    /// # Errors
    /// There is none, or its manifest can't be read.
    pub fn open(dir: &'a Path) -> Result<Self, Fatal> {
        let Some(manifest) = Manifest::read(dir)? else {
            let what = if dir.exists() { "holds no backup" } else { "is not there" };
            let message = format!("{} {what}: name the directory of a backup", dir.display());
            return Err(Fatal::new(Reason::DataDirectory, message));
        };
        Ok(Self { dir, manifest })
    }

    /// The parts of a partition that belong to the newest point.
    ///
    /// # Errors
    /// No run came to its end.
    pub fn parts(&self, partition: PartitionId) -> Result<&[Part], Fatal> {
        let at = usize::from(partition.0);
        if let Some(point) = self.manifest.points.last() {
            return Ok(&self.manifest.parts[at][..point.parts[at]]);
        }
        let message = format!(
            "the backup in {} never came to its end: run `walengine backup` again, which goes on where \
             it ended",
            self.dir.display()
        );
        Err(Fatal::new(Reason::DataDirectory, message))
    }

    /// Where a partition ends at the newest point.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub fn end(&self, partition: PartitionId) -> Result<Tail, Fatal> {
        Ok(self.parts(partition)?.last().map_or(Tail::default(), Part::tail))
    }

    /// Something stands behind the newest point: a run was cut short, or is under way.
    pub fn is_unfinished(&self) -> bool {
        let finished = self.manifest.points.last().map(|point| &point.parts[..]);
        let named: Vec<_> = self.manifest.parts.iter().map(Vec::len).collect();
        let is_new = |partition: u16| {
            let end = self.manifest.end(usize::from(partition)).next_offset.0;
            let path = parts_dir(self.dir, PartitionId(partition)).join(manifest::name_of(end));
            path.exists() || path.with_extension(EXTENSION_NEW).exists()
        };
        finished != Some(&named[..]) || (0..self.manifest.partitions()).any(is_new)
    }

    /// Every entry of a partition up to the newest point, each checked when it is reached.
    ///
    /// # Errors
    /// As [`Self::parts`].
    pub fn entries(&self, partition: PartitionId) -> Result<Entries<'_>, Fatal> {
        let ids = Ids { cluster: self.manifest.cluster(), partition };
        let parts = self.parts(partition)?.iter();
        let dir = parts_dir(self.dir, partition);
        Ok(Entries { dir, ids, parts, part: None, tail: Tail::default() })
    }

    /// Checks a partition: every checksum, the chain, every verdict, and that its books balance.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, partition: PartitionId) -> Result<Contained, Fatal> {
        let ledger = Ledger::new(partition, self.manifest.partitions());
        let ties = Ties::new(partition, self.manifest.partitions());
        let mut contained = Contained { end: Tail::default(), entries: 0, bytes: 0, ledger, ties };
        let mut entries = self.entries(partition)?;
        let mut unweighed_bytes = 0;
        while let Some((header, body)) = entries.next_entry()? {
            unweighed_bytes += header.entry_bytes();
            if unweighed_bytes >= REPLAY_BYTES {
                unweighed_bytes = 0;
                memory::require_room()?;
            }
            let ledger = &mut contained.ledger;
            apply(ledger, &header, body).map_err(|fatal| of_partition(partition, &fatal))?;
            ledger.release(ledger.next_offset());
            let taken = contained.ties.take_entry(&header, body, header.meta.records);
            taken.map_err(|error| Fatal::new(Reason::Damaged, error.to_string()))?;
            contained.entries += 1;
            contained.bytes += header.entry_bytes() as u64;
        }
        contained.end = self.end(partition)?;
        if !contained.ledger.totals().values().all(LedgerTotals::balanced) {
            let message = format!("partition {partition}: debits and credits differ");
            return Err(Fatal::new(Reason::Disagreement, message));
        }
        Ok(contained)
    }
}

/// The entries of one partition of a backup, in order.
pub struct Entries<'a> {
    dir: PathBuf,
    ids: Ids,
    parts: std::slice::Iter<'a, Part>,
    part: Option<(&'a Part, PartReader)>,
    tail: Tail,
}

impl Entries<'_> {
    /// The next entry; `None` behind the last.
    ///
    /// # Errors
    /// What is damaged, by file and byte.
    pub fn next_entry(&mut self) -> Result<Option<(EntryHeader, &[u8])>, Fatal> {
        loop {
            if self.part.is_none() {
                let Some(part) = self.parts.next() else { return Ok(None) };
                let opened = PartReader::open(&self.path(part), self.ids, self.tail);
                let opened = opened.map_err(|error| self.damaged(part, &error.into()))?;
                self.part = Some((part, opened));
            }
            let Some((part, reader)) = &mut self.part else { continue };
            let part = *part;
            let ended = match reader.advance() {
                Ok(true) => None,
                Ok(false) => Some(reader.is_whole(part)),
                Err(error) => Some(Err(error)),
            };
            match ended {
                None => break,
                Some(Ok(())) => (self.tail, self.part) = (part.tail(), None),
                Some(Err(error)) => return Err(self.damaged(part, &error)),
            }
        }
        Ok(self.part.as_ref().and_then(|(_, reader)| reader.entry()))
    }

    fn path(&self, part: &Part) -> PathBuf {
        self.dir.join(part.name())
    }

    fn damaged(&self, part: &Part, error: &PartError) -> Fatal {
        damaged(&self.path(part), self.ids.partition, &self.tail, error)
    }
}

fn damaged(path: &Path, partition: PartitionId, before: &Tail, error: &PartError) -> Fatal {
    let at = path.display();
    let whole = match error {
        PartError::Damaged { next_offset, .. } => *next_offset,
        PartError::Io(_) => before.next_offset.0,
    };
    let what = match error {
        PartError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("{at} is missing")
        }
        PartError::Io(error) => {
            let message = format!("cannot read {at}: {error}");
            return Fatal::new(Reason::Disk, message);
        }
        PartError::Damaged { .. } => format!("{at} is damaged {error}"),
    };
    let message = format!(
        "{what}; partition {partition} is whole up to offset {whole}, which `walengine restore \
         --to-offset {partition}:{whole}` gives back; take a new backup into another directory"
    );
    Fatal::new(Reason::Damaged, message)
}
