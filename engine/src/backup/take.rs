//! Takes a backup of a running cluster, or adds to an earlier one what has come since.
//!
//! ```text
//!  manifest: which cluster ─ [partition: subscribe ─ part written ─ synced ─ named ─ manifest]...
//!   ─ parts read back ─ manifest: one more point
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, ReadFrom};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

use super::manifest::{self, Manifest, Point};
use super::part::{PartWriter, check_part};
use super::parts_dir;
use crate::data_dir::lock::{self, DirectoryLock};
use crate::fatal::{Fatal, Reason};
use crate::limits::{BACKUP_PART_BYTES, BACKUP_WAIT};
use crate::private_files::{create_dir, file_failed};
use crate::storage::contents::is_partition_name;
use crate::storage::ids::Ids;
use crate::storage::layout::Tail;
use crate::storage::superblock;

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Records of all partitions that are in the backup.
    pub records: u64,
    /// Records that it is to have.
    pub wanted: u64,
    /// Bytes that this run has written.
    pub bytes: u64,
}

/// What a run has added to a partition.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The partition.
    pub partition: PartitionId,
    /// Where the backup ended before.
    pub before: Tail,
    /// Where it ends now.
    pub end: Tail,
    /// Bytes added.
    pub bytes: u64,
}

/// How a backup is taken.
pub struct Taking<'a> {
    /// Its directory.
    pub backup: &'a Path,
    /// The cluster.
    pub client: &'a Client,
    /// Take what one node has, without asking a leader.
    pub any_node: bool,
    /// How long a server may be silent.
    pub patience: Duration,
    /// Set when a person wants it to end.
    pub interrupted: &'a AtomicBool,
    /// Is told how far it is.
    pub tell: &'a mut dyn FnMut(Progress),
}

impl Taking<'_> {
    /// Takes the backup. `now` is noted in it.
    ///
    /// # Errors
    /// Why it did not come to its end. What was there before can be restored as before, and the next run
    /// goes on where this one ended.
    pub fn run(&mut self, now: Timestamp) -> Result<Vec<Taken>, Fatal> {
        create_dir(self.backup)?;
        foreign_names(self.backup)?;
        let _lock = lock(self.backup)?;
        let info = self.client.info().clone();
        let mut manifest = if let Some(found) = Manifest::read(self.backup)? {
            found
        } else {
            let new = Manifest::new(info.cluster, info.partitions);
            new.save(self.backup)?;
            new
        };
        same_cluster(self.backup, &manifest, info.cluster, info.partitions)?;
        let before: Vec<Tail> = (0..manifest.parts.len()).map(|at| manifest.end(at)).collect();
        let mut ends = Vec::new();
        for (partition, tail) in info.partitions().zip(&before) {
            ends.push(self.log_end(partition, tail)?);
        }
        let mut progress = Progress {
            records: before.iter().map(|tail| tail.next_offset.0).sum(),
            wanted: ends.iter().map(|end| end.0).sum(),
            bytes: 0,
        };
        let mut taken = Vec::new();
        for (partition, end) in info.partitions().zip(ends) {
            let (bytes, at) = (progress.bytes, usize::from(partition.0));
            self.copy(&mut manifest, partition, end, &mut progress)?;
            let (before, end) = (before[at], manifest.end(at));
            taken.push(Taken { partition, before, end, bytes: progress.bytes - bytes });
        }
        self.read_back(&mut manifest, &before)?;
        let parts = manifest.parts.iter().map(Vec::len).collect();
        manifest.points.push(Point { taken: now.0, parts });
        manifest.save(self.backup)?;
        Ok(taken)
    }

    /// Where the log ends, once it is known to be the one that the backup is of.
    fn log_end(&self, partition: PartitionId, tail: &Tail) -> Result<Offset, Fatal> {
        let from = if self.any_node { ReadFrom::Any } else { ReadFrom::Linearizable };
        let client = self.client.reading(from);
        let last = Offset(tail.next_offset.0.saturating_sub(1));
        let asked = Instant::now();
        let page = loop {
            match client.read_log(partition, last, 1, &[]) {
                Ok(page) => break page,
                Err(error) => self.wait_or_end(&error, asked)?,
            }
        };
        if tail.next_offset.0 == 0 {
            return Ok(page.durable_offset);
        }
        let at = self.backup.display();
        if page.durable_offset < tail.next_offset {
            if self.any_node {
                return Ok(tail.next_offset); // that node lags
            }
            let message = format!(
                "partition {partition}: the backup in {at} reaches offset {}, the log ends at {}: an \
                 older copy of the log is being served; see to that first, or back up into another \
                 directory. Nothing was changed",
                tail.next_offset, page.durable_offset
            );
            return Err(Fatal::new(Reason::OtherLog, message));
        }
        let mut newest = None;
        for entry in page.entries() {
            let (header, _) = entry.map_err(|error| bad_entry(partition, &error.to_string()))?;
            if header.meta.records > 0 {
                newest = Some(header);
                break;
            }
        }
        let header = newest.ok_or_else(|| bad_entry(partition, "there is none"))?;
        // Blank entries behind the last record may or may not be in the backup.
        let is_same = header.next_offset() == tail.next_offset
            && (header.meta.index < tail.index || header.chain == tail.chain);
        if is_same {
            return Ok(page.durable_offset);
        }
        let message = format!(
            "partition {partition}: the log has another history than the one in {at}, up to offset {}: \
             back up into another directory. Nothing was changed",
            tail.next_offset
        );
        Err(Fatal::new(Reason::OtherLog, message))
    }

    /// Copies what is behind the parts of a partition, up to `end`.
    fn copy(
        &mut self,
        manifest: &mut Manifest,
        partition: PartitionId,
        end: Offset,
        progress: &mut Progress,
    ) -> Result<(), Fatal> {
        let at = usize::from(partition.0);
        let dir = parts_dir(self.backup, partition);
        create_dir(&dir)?;
        let ids = Ids { cluster: manifest.cluster(), partition };
        if manifest.end(at).next_offset >= end {
            return Ok(());
        }
        let mut part = PartWriter::begin(&dir, ids, manifest.end(at))?;
        if part.tail() != manifest.end(at)
            && let Err(fatal) = self.log_end(partition, &part.tail())
        {
            // What an interrupted run has left is of a history that is gone.
            if fatal.reason != Reason::OtherLog {
                return Err(fatal);
            }
            part.discard()?;
            part = PartWriter::begin(&dir, ids, manifest.end(at))?;
        }
        // What an interrupted run has left counts.
        progress.records += part.tail().next_offset.0 - manifest.end(at).next_offset.0;
        let mut subscription = self.client.subscribe(partition, part.tail().next_offset);
        let mut heard = Instant::now();
        while part.tail().next_offset < end {
            (self.tell)(*progress);
            if self.interrupted.load(Ordering::Relaxed) {
                part.leave();
                let message = format!(
                    "interrupted with {} of {} records in the backup: run it again to go on; what was \
                     backed up before can be restored",
                    progress.records, progress.wanted
                );
                return Err(Fatal::new(Reason::Interrupted, message));
            }
            let page = match subscription.next_within(BACKUP_WAIT) {
                Ok(Some(page)) => page,
                Ok(None) if heard.elapsed() < self.patience => continue,
                Ok(None) => {
                    part.leave();
                    let message = format!(
                        "partition {partition}: no server has sent anything for {} s; run it again to \
                         go on",
                        self.patience.as_secs()
                    );
                    return Err(Fatal::new(Reason::Server, message));
                }
                Err(error) => {
                    if let Err(fatal) = self.wait_or_end(&error, heard) {
                        part.leave();
                        return Err(fatal);
                    }
                    subscription = self.client.subscribe(partition, part.tail().next_offset);
                    continue;
                }
            };
            heard = Instant::now();
            for entry in page.entries() {
                let (header, body) =
                    entry.map_err(|error| bad_entry(partition, &error.to_string()))?;
                if part.tail().next_offset >= end {
                    break;
                }
                let records = part.tail().next_offset.0;
                match part.add(&header, body)? {
                    Ok(true) => {
                        progress.bytes += header.entry_bytes() as u64;
                        progress.records += part.tail().next_offset.0 - records;
                    }
                    Ok(false) => {}
                    Err(why) => return Err(bad_entry(partition, &why)),
                }
                if part.bytes() >= BACKUP_PART_BYTES {
                    finish(self.backup, manifest, partition, part)?;
                    part = PartWriter::begin(&dir, ids, manifest.end(at))?;
                }
            }
        }
        (self.tell)(*progress);
        finish(self.backup, manifest, partition, part)
    }

    /// Reads what this run has written. What can't be read is taken out of the backup again.
    fn read_back(&self, manifest: &mut Manifest, before: &[Tail]) -> Result<(), Fatal> {
        for (partition, before) in (0..).map(PartitionId).zip(before) {
            let at = usize::from(partition.0);
            let ids = Ids { cluster: manifest.cluster(), partition };
            let old = manifest.parts[at].iter();
            let old = old.take_while(|part| part.end.next_offset <= before.next_offset.0).count();
            let mut tail = *before;
            for number in old..manifest.parts[at].len() {
                let part = &manifest.parts[at][number];
                let path = parts_dir(self.backup, partition).join(part.name());
                let Err(why) = check_part(&path, ids, tail, part) else {
                    tail = part.tail();
                    continue;
                };
                manifest.parts[at].truncate(number);
                manifest.save(self.backup)?;
                let message = format!(
                    "what was written to {} can't be read back: {why}; see the kernel log, and run it \
                     again, or into another directory; what was backed up before is as it was",
                    path.display()
                );
                return Err(Fatal::new(Reason::Disk, message));
            }
        }
        Ok(())
    }

    /// After an error that may pass by itself, waits a moment; unless a server was silent since `since`
    /// for too long.
    fn wait_or_end(&self, error: &ClientError, since: Instant) -> Result<(), Fatal> {
        let passes = matches!(
            error,
            ClientError::Unreachable { .. }
                | ClientError::NoLeader { .. }
                | ClientError::Deadline { .. }
        );
        let is_wanted = !self.interrupted.load(Ordering::Relaxed);
        if passes && is_wanted && since.elapsed() < self.patience {
            std::thread::sleep(BACKUP_WAIT);
            return Ok(());
        }
        let mut fatal = Fatal::new(Reason::Server, error.to_string());
        if !self.any_node && passes {
            fatal.message += "; --any-node backs up what one node has, without a leader";
        }
        Err(fatal)
    }
}

/// Gives a part its name, and notes it.
fn finish(
    backup: &Path,
    manifest: &mut Manifest,
    partition: PartitionId,
    part: PartWriter,
) -> Result<(), Fatal> {
    if let Some(part) = part.finish()? {
        manifest.parts[usize::from(partition.0)].push(part);
        manifest.save(backup)?;
    }
    Ok(())
}

fn bad_entry(partition: PartitionId, why: &str) -> Fatal {
    let message = format!(
        "partition {partition}: the server sent an entry that does not follow the backup: {why}; run \
         `walengine verify` where the server's data is"
    );
    Fatal::new(Reason::DamagedFeed, message)
}

/// Keeps other runs out.
fn lock(backup: &Path) -> Result<DirectoryLock, Fatal> {
    DirectoryLock::take(backup).map_err(|fatal| match fatal.reason {
        Reason::Locked => {
            let at = backup.display();
            let message = format!("another backup into {at} is under way: wait for its end");
            Fatal::new(Reason::Locked, message)
        }
        _ => fatal,
    })
}

/// Refuses a directory that is something else's.
fn foreign_names(backup: &Path) -> Result<(), Fatal> {
    let failed = |error: io::Error| file_failed("read", backup, &error);
    let at = backup.display();
    if backup.join(superblock::NAME).exists() {
        let message = format!("{at} is a data directory: name another directory for the backup");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let is_backup = backup.join(manifest::NAME).exists();
    for entry in std::fs::read_dir(backup).map_err(failed)? {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        let own = [lock::NAME, manifest::NAME, "manifest.new", "lost+found"];
        let is_own =
            own.iter().any(|own| name.as_os_str() == *own) || is_backup && is_partition_name(&name);
        if !is_own {
            let message = format!(
                "{at} is not empty and no backup, it holds {}: name an empty or new directory",
                name.display()
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
    }
    File::open(backup).map(drop).map_err(failed)
}

fn same_cluster(
    backup: &Path,
    manifest: &Manifest,
    cluster: ClusterId,
    partitions: u16,
) -> Result<(), Fatal> {
    if (manifest.cluster(), manifest.partitions()) == (cluster, partitions) {
        return Ok(());
    }
    let message = format!(
        "{} is a backup of cluster {:032x} ({} partitions), the server belongs to cluster {:032x} ({} \
         partitions): back it up into another directory. Nothing was changed",
        backup.display(),
        manifest.cluster().0,
        manifest.partitions(),
        cluster.0,
        partitions
    );
    Err(Fatal::new(Reason::OtherLog, message))
}
