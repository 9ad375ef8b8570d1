//! Makes a new data directory of a backup: for a node that serves alone, or for the first node of a new
//! cluster.
//!
//! The new directory is of a new cluster. Every entry is written again under its id, so checksums and
//! chain are new; records, their offsets, times and verdicts are what they were, and so is the state at
//! every offset. Nobody who knows the old cluster takes the new one for it: members, clients with tokens
//! and projectors see another id.
//!
//! ```text
//!  all that is wanted is checked ─ `restoring` ─ each partition: empty log, votes, entries
//!   ─ `restored-from` ─ superblock ─ `restoring` removed
//!     ^ from here on it is a data directory
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use walengine_net::entry::{EntryError, EntryHeader, EntryKind, EntryMeta, is_amid_import};
use walengine_net::model::{ClusterId, PartitionId, Timestamp};
use walengine_replication::membership_codec;
use walengine_replication::types::{Member, Membership, NodeId};

use super::cut;
use super::inspect::Backup;
use super::{create_dir, create_file, file_failed, hex};
use crate::data_dir::lock::{self, DirectoryLock};
use crate::data_dir::{RESTORING, create_partition, log_config, of_partition, open_failed};
use crate::executor::on_executor;
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Ledger, LedgerTotals};
use crate::limits::REPLAY_BYTES;
use crate::memory;
use crate::partition::restore::apply;
use crate::runtime::Runtime as _;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::contents::is_partition_name;
use crate::storage::error::{AppendError, LogStopped};
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::{HardState, Superblock, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::{partition_dir, superblock};

/// Says in a restored directory where it comes from, for people.
const RESTORED_FROM: &str = "restored-from";

/// What is restored, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Records below these offsets; partitions that are not named are restored whole.
    pub to_offset: BTreeMap<PartitionId, u64>,
    /// Records up to this log time.
    pub to_time: Option<Timestamp>,
    /// The peer address of the node, if it is to be the first of a new cluster.
    pub peer_address: Option<String>,
    /// Length of a segment.
    pub segment_bytes: u64,
}

/// A partition that was restored.
#[derive(Clone, Copy, Debug)]
pub struct RestoredPartition {
    /// Which one.
    pub partition: PartitionId,
    /// The end of its log, by the new chain.
    pub end: Tail,
    /// The chain hash of the backup's last entry that was used.
    pub source: Tail,
    /// Digest of the state.
    pub digest: [u8; 32],
    /// Its log ends amid an import, which has to be finished first.
    pub is_amid_import: bool,
    /// It was asked for up to this offset, which is inside a chain that takes effect whole.
    pub cut_before_chain: Option<u64>,
}

/// What was made.
pub struct Made {
    /// The new directory's superblock.
    pub superblock: Superblock,
    /// Its partitions.
    pub partitions: Vec<RestoredPartition>,
}

/// Restores a backup into the directory `data`, which is created if need be.
///
/// # Errors
/// The backup is damaged or incomplete, or `data` is not empty: nothing was changed. Or the disk's: then
/// `data` holds what an interrupted restore leaves, and can be restored into again.
pub fn restore(
    backup: &Backup<'_>,
    data: &Path,
    wanted: &Wanted,
    mut tell: impl FnMut(u64, u64),
) -> Result<Made, Fatal> {
    let partitions: Vec<_> = (0..backup.manifest.partitions()).map(PartitionId).collect();
    let unknown = wanted.to_offset.keys().find(|partition| !partitions.contains(partition));
    if let Some(partition) = unknown {
        let message = format!(
            "there is no partition {partition}: the backup has {}",
            backup.manifest.partitions()
        );
        return Err(Fatal::new(Reason::Usage, message));
    }
    let mut all = 0;
    for &partition in &partitions {
        let end = backup.end(partition)?.next_offset.0;
        if let Some(&to) = wanted.to_offset.get(&partition)
            && to > end
        {
            let message = format!(
                "partition {partition} of the backup ends at offset {end}, before {to}: name an \
                 earlier one"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        all += 2 * wanted.offset(partition).min(end);
    }
    is_free(data)?;
    let mut done = 0;
    for &partition in &partitions {
        // All of it is read before anything is made of any of it.
        let (mut entries, mut next) = (backup.entries(partition)?, 0);
        while next < wanted.offset(partition)
            && let Some((header, body)) = entries.next_entry()?
        {
            let records = wanted.records(partition, &header, body)?;
            (next, done) = (header.next_offset().0, done + u64::from(records));
            tell(done, all);
            if records < header.meta.records {
                break;
            }
        }
    }
    create_dir(data)?;
    let lock = DirectoryLock::take(data)?;
    is_free(data)?;
    clear(data)?;
    let random = || uuid::Uuid::new_v4().as_u128();
    let superblock = Superblock {
        cluster: ClusterId(random()),
        node: (random() as u64).max(1),
        partitions: backup.manifest.partitions(),
        segment_bytes: wanted.segment_bytes,
        created: GlommioRuntime::new().now(),
        replicated: wanted.peer_address.is_some(),
        logs_created: wanted.peer_address.is_none(),
    };
    let mut made = Made { superblock, partitions: Vec::new() };
    for &partition in &partitions {
        let write = write_partition(backup, data, wanted, &superblock, partition, |records| {
            done += records;
            tell(done, all);
        });
        made.partitions.push(on_executor(write)??);
    }
    note_source(backup, data, &made)?;
    let write = async { superblock::write(&GlommioDisk::new(data), data, &superblock).await };
    on_executor(write)?.map_err(|error| open_failed(&error))?;
    let removed = std::fs::remove_file(data.join(RESTORING)).and_then(|()| sync_dir(data));
    removed.map_err(|error| file_failed("remove", &data.join(RESTORING), &error))?;
    drop(lock);
    Ok(made)
}

impl Wanted {
    fn offset(&self, partition: PartitionId) -> u64 {
        self.to_offset.get(&partition).copied().unwrap_or(u64::MAX)
    }

    /// How many of an entry's records are wanted.
    fn records(
        &self,
        partition: PartitionId,
        header: &EntryHeader,
        body: &[u8],
    ) -> Result<u32, Fatal> {
        let time = self.to_time.map_or(u64::MAX, |time| time.0);
        cut::wanted(header, body, self.offset(partition), time)
            .map_err(|error| unreadable(partition, header, &error))
    }
}

fn unreadable(partition: PartitionId, header: &EntryHeader, error: &EntryError) -> Fatal {
    let index = header.meta.index;
    let message = format!("partition {partition}: entry {index} of the backup: {error}");
    Fatal::new(Reason::Damaged, message)
}

/// Nothing of anybody's is in the directory, but perhaps what an interrupted restore has left.
fn is_free(data: &Path) -> Result<(), Fatal> {
    let failed = |error: io::Error| file_failed("read", data, &error);
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let is_interrupted = data.join(RESTORING).exists() && !data.join(superblock::NAME).exists();
    for entry in entries {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        let own = [lock::NAME, "lost+found"].iter().any(|own| name.as_os_str() == *own);
        if !own && !is_interrupted {
            let message = format!(
                "{} is not empty, it holds {}: restore into a new directory. Nothing was changed",
                data.display(),
                name.display()
            );
            return Err(Fatal::new(Reason::DataDirectory, message));
        }
    }
    Ok(())
}

/// Marks the directory as one that is being restored into, and removes what an earlier try has left.
fn clear(data: &Path) -> Result<(), Fatal> {
    let clear = || {
        let mut mark = create_file(&data.join(RESTORING))?;
        mark.write_all(b"a restore into this directory has not ended\n")?;
        mark.sync_all()?;
        sync_dir(data)?;
        for entry in std::fs::read_dir(data)? {
            let path = entry?.path();
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            if is_partition_name(&name) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        sync_dir(data)
    };
    clear().map_err(|error: io::Error| file_failed("write into", data, &error))
}

fn sync_dir(data: &Path) -> io::Result<()> {
    File::open(data)?.sync_all()
}

/// Writes the log of one partition.
async fn write_partition(
    backup: &Backup<'_>,
    data: &Path,
    wanted: &Wanted,
    superblock: &Superblock,
    partition: PartitionId,
    mut tell: impl FnMut(u64),
) -> Result<RestoredPartition, Fatal> {
    let (disk, runtime) = (GlommioDisk::new(data), GlommioRuntime::new());
    let failed = |error| of_partition(partition, &open_failed(&error));
    create_partition(&disk, runtime, data, superblock, partition).await.map_err(failed)?;
    let dir = partition_dir(data, partition);
    // Nobody waits for this log in bursts.
    let config = LogConfig { prepared_segments: 1, ..log_config(superblock, partition) };
    let log = Log::open(disk, runtime, dir, config, Tail::default()).await.map_err(failed)?.log;
    let mut writer = Writer {
        log,
        superblock: *superblock,
        partition,
        ledger: Ledger::new(partition, superblock.partitions),
        source: Tail::default(),
        is_amid_import: false,
        cut_before_chain: None,
        unweighed_bytes: 0,
    };
    if let Some(address) = &wanted.peer_address {
        writer.begin_group(address).await?;
    }
    let mut entries = backup.entries(partition)?;
    // What is behind the last record wanted is not looked at: it may be damaged.
    while writer.ledger.next_offset().0 < wanted.offset(partition)
        && let Some((header, body)) = entries.next_entry()?
    {
        if header.meta.records == 0 {
            continue; // blank, or members of the old cluster
        }
        let records = wanted.records(partition, &header, body)?;
        if records == header.meta.records {
            writer.write(&header, body, records).await?;
        } else if records > 0 {
            let first = cut::first_records(header.meta.kind, body, records);
            let first = first.map_err(|error| unreadable(partition, &header, &error))?;
            writer.write(&header, &first, records).await?;
        }
        tell(records.into());
        if records < header.meta.records {
            writer.note_cut(wanted.offset(partition), &header);
            break;
        }
    }
    writer.finish().await
}

/// Writes entries again, as those of the new cluster.
struct Writer {
    log: Log<GlommioDisk, GlommioRuntime>,
    superblock: Superblock,
    partition: PartitionId,
    ledger: Ledger,
    source: Tail,
    is_amid_import: bool,
    cut_before_chain: Option<u64>,
    /// Bytes of bodies since it was looked how much memory is left.
    unweighed_bytes: usize,
}

impl Writer {
    fn failed(&self, error: &dyn std::fmt::Display) -> Fatal {
        of_partition(self.partition, &Fatal::new(Reason::Disk, error.to_string()))
    }

    /// The first entry: the members of the new group, which are this node.
    async fn begin_group(&mut self, address: &str) -> Result<(), Fatal> {
        let node: NodeId = self.superblock.node;
        let nodes = BTreeMap::from([(
            node,
            Member { peer_address: address.to_owned(), ..Member::default() },
        )]);
        let membership = Membership::new(vec![[node].into()], nodes);
        let membership = membership.map_err(|error| self.failed(&error))?;
        let body = membership_codec::encode(&membership);
        let last = self.log.last();
        let meta = EntryMeta {
            cluster: self.superblock.cluster,
            partition: self.partition,
            kind: EntryKind::Membership,
            term: 1,
            leader_node: 0,
            index: last.index + 1,
            base_offset: last.next_offset,
            records: 0,
            timestamp: last.timestamp,
        };
        self.append(&meta, &body).await.map(drop)
    }

    /// Writes the first `records` records of an entry, which `body` holds.
    async fn write(
        &mut self,
        source: &EntryHeader,
        body: &[u8],
        records: u32,
    ) -> Result<(), Fatal> {
        let meta = EntryMeta {
            cluster: self.superblock.cluster,
            index: self.log.last().index + 1,
            // Blank entries had terms of their own, so the first can't be before that of the members.
            term: source.meta.term.max(1),
            records,
            ..source.meta
        };
        self.unweighed_bytes += body.len();
        if self.unweighed_bytes >= REPLAY_BYTES {
            self.unweighed_bytes = 0;
            memory::require_room()?;
        }
        let written = self.append(&meta, body).await?;
        let applied = apply(&mut self.ledger, &written, body);
        applied.map_err(|fatal| of_partition(self.partition, &fatal))?;
        self.ledger.release(self.ledger.next_offset());
        self.source = Tail::of(source);
        self.is_amid_import = is_amid_import(body);
        Ok(())
    }

    /// A term is saved before its first entry is appended, as whoever decides in it does.
    async fn append(&mut self, meta: &EntryMeta, body: &[u8]) -> Result<EntryHeader, Fatal> {
        if meta.term > self.log.hard_state().term {
            let state = HardState {
                term: meta.term,
                voted_for: Some(self.superblock.node),
                vote_committed: true,
                commit_index: 0,
                durable_index: 0, // the log saves its own
            };
            self.log.save_hard_state(state).await.map_err(|error| self.failed(&error))?;
        }
        loop {
            let changed = self.log.changed().changed();
            match self.log.append(meta, body) {
                Ok(header) => return Ok(header),
                Err(AppendError::Full) if self.log.no_room() => {
                    let message = "the disk is full: make room and restore again, into the same \
                                   directory";
                    return Err(of_partition(self.partition, &Fatal::new(Reason::Disk, message)));
                }
                Err(AppendError::Backlog(_) | AppendError::Full) => {
                    self.log.flush();
                    changed.await;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// The log ends in the middle of `header`'s entry, as `offset` or a time wanted it.
    fn note_cut(&mut self, offset: u64, header: &EntryHeader) {
        let meta = &header.meta;
        let is_inside = (meta.base_offset.0 + 1..meta.base_offset.0 + u64::from(meta.records))
            .contains(&offset);
        if is_inside && self.ledger.next_offset().0 < offset {
            self.cut_before_chain = Some(offset);
        }
    }

    async fn finish(self) -> Result<RestoredPartition, Fatal> {
        let Self { log, partition, ledger, source, is_amid_import, cut_before_chain, .. } = self;
        let failed = |error: &LogStopped| {
            of_partition(partition, &Fatal::new(Reason::Disk, error.to_string()))
        };
        if !ledger.totals().values().all(LedgerTotals::balanced) {
            let fatal = Fatal::new(Reason::Disagreement, "debits and credits differ");
            return Err(of_partition(partition, &fatal));
        }
        let end = log.last();
        log.note_committed(end.index);
        log.close().await.map_err(|error| failed(&error))?;
        let digest = ledger.digest();
        Ok(RestoredPartition { partition, end, source, digest, is_amid_import, cut_before_chain })
    }
}

/// Leaves a note in the directory. No program reads it.
fn note_source(backup: &Backup<'_>, data: &Path, made: &Made) -> Result<(), Fatal> {
    let ClusterId(source) = backup.manifest.cluster();
    let partitions = made.partitions.iter().map(|one| {
        serde_json::json!({
            "partition": one.partition.0,
            "next_offset": one.end.next_offset.0,
            "log_time": one.end.timestamp.0,
            "source_chain": hex(&one.source.chain.0),
            "chain": hex(&one.end.chain.0),
        })
    });
    let note = serde_json::json!({
        "source_cluster": format!("{source:032x}"),
        "cluster": format!("{:032x}", made.superblock.cluster.0),
        "restored": made.superblock.created.0,
        "partitions": partitions.collect::<Vec<_>>(),
    });
    let path = data.join(RESTORED_FROM);
    let write = || {
        let mut file = create_file(&path)?;
        writeln!(file, "{note:#}")?;
        file.sync_all()?;
        sync_dir(data)
    };
    write().map_err(|error: io::Error| file_failed("write", &path, &error))
}
