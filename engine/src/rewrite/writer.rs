//! Writes the log of one partition again, as that of a new cluster.

use std::collections::BTreeMap;

use walengine_net::entry::{EntryHeader, EntryKind, EntryMeta, is_amid_import};
use walengine_net::model::{Offset, PartitionId};
use walengine_replication::membership_codec;
use walengine_replication::types::{Member, Membership, NodeId};

use super::directory::NewDirectory;
use super::{Rewritten, cut};
use crate::data_dir::{create_partition, log_config, of_partition, open_failed};
use crate::fatal::{Fatal, Reason};
use crate::ledger::{Ledger, LedgerTotals};
use crate::limits::REPLAY_BYTES;
use crate::memory;
use crate::partition::restore::apply;
use crate::runtime_glommio::GlommioRuntime;
use crate::storage::error::{AppendError, LogStopped};
use crate::storage::glommio_disk::GlommioDisk;
use crate::storage::layout::{HardState, Superblock, Tail};
use crate::storage::log::{Log, LogConfig};
use crate::storage::partition_dir;

/// See the module. Lives on an executor of glommio.
pub struct Writer {
    log: Log<GlommioDisk, GlommioRuntime>,
    superblock: Superblock,
    partition: PartitionId,
    ledger: Ledger,
    source: Tail,
    is_amid_import: bool,
    /// Bytes of bodies since it was looked how much memory is left.
    unweighed_bytes: usize,
}

impl Writer {
    /// Creates the partition's log. With the peer address of its node, that is the first member of a new
    /// group.
    ///
    /// # Errors
    /// The disk's.
    pub async fn begin(
        new: &NewDirectory,
        partition: PartitionId,
        peer_address: Option<&str>,
    ) -> Result<Self, Fatal> {
        let (data, superblock) = (new.path(), new.superblock());
        let (disk, runtime) = (GlommioDisk::new(data), GlommioRuntime::new());
        let failed = |error| of_partition(partition, &open_failed(&error));
        create_partition(&disk, runtime, data, &superblock, partition).await.map_err(failed)?;
        let dir = partition_dir(data, partition);
        // Nobody waits for this log in bursts.
        let config = LogConfig { prepared_segments: 1, ..log_config(&superblock, partition) };
        let opened = Log::open(disk, runtime, dir, config, Tail::default()).await;
        let mut writer = Self {
            log: opened.map_err(failed)?.log,
            superblock,
            partition,
            ledger: Ledger::new(partition, superblock.partitions),
            source: Tail::default(),
            is_amid_import: false,
            unweighed_bytes: 0,
        };
        if let Some(address) = peer_address {
            writer.begin_group(address).await?;
        }
        Ok(writer)
    }

    /// Offset of the record that comes next.
    pub fn next_offset(&self) -> Offset {
        self.ledger.next_offset()
    }

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

    /// Writes the first `records` records of an entry whose whole body this is.
    ///
    /// # Errors
    /// The body can't be read; and as [`Self::write`].
    pub async fn write_first(
        &mut self,
        source: &EntryHeader,
        body: &[u8],
        records: u32,
    ) -> Result<(), Fatal> {
        if records == 0 || records == source.meta.records {
            return self.write(source, body, records).await;
        }
        let first = cut::first_records(source.meta.kind, body, records);
        let first = first.map_err(|error| {
            let message = format!("entry {}: {error}", source.meta.index);
            of_partition(self.partition, &Fatal::new(Reason::Damaged, message))
        })?;
        self.write(source, &first, records).await
    }

    /// Writes the first `records` records of an entry, which `body` holds. One without records is passed
    /// over: it is blank, or the members of the old cluster.
    ///
    /// # Errors
    /// This program derives another verdict, the memory does not suffice, or the disk's.
    pub async fn write(
        &mut self,
        source: &EntryHeader,
        body: &[u8],
        records: u32,
    ) -> Result<(), Fatal> {
        if records == 0 {
            return Ok(());
        }
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
                    let message =
                        "the disk is full: make room and run it again, into the same directory";
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

    /// Closes the log.
    ///
    /// # Errors
    /// The books don't balance, or the disk's.
    pub async fn finish(self) -> Result<Rewritten, Fatal> {
        let Self { log, partition, ledger, source, is_amid_import, .. } = self;
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
        Ok(Rewritten { partition, end, source, digest, is_amid_import })
    }
}
