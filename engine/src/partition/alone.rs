//! A partition that this node serves alone: what it decides is final once this disk has it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use rkyv::util::AlignedVec;
use walengine_net::entry::EntryMeta;
use walengine_net::model::Offset;
use walengine_replication::types::{Batch, NodeId};

use super::commit::{Commit, Point};
use super::drafts::{DraftHead, Drafts};
use super::replica::Replica;
use super::replica_id::ReplicaId;
use crate::ledger::SnapshotCut;
use crate::limits::FLUSH_PARALLEL_BYTES_MIN;
use crate::local::Notify;
use crate::refused::{BUSY, Refused};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::AppendError;
use crate::storage::log::Log;
use crate::visible::Visible;

/// See the module. Lives on the partition's shard core; not `Send`.
pub struct Alone<D: Disk, R: Runtime> {
    id: ReplicaId,
    /// In which this node decides.
    term: u64,
    log: Log<D, R>,
    runtime: R,
    /// Memory that bodies are encoded in.
    encoded: RefCell<AlignedVec>,
    /// Entries that are not durable yet, oldest first: index, and the offset behind them.
    in_flight: RefCell<VecDeque<(u64, Offset)>>,
    /// Invariant: `visible.index <= log.durable_index()`; never moves back.
    visible: Cell<Visible>,
    /// Bytes of entries, those included that were replayed at the opening.
    appended_bytes: Cell<u64>,
}

impl<D: Disk, R: Runtime> Alone<D, R> {
    /// Goes on from a recovered log whose records end at `next_offset`, and for which
    /// `replayed_bytes` of entries were replayed. This node decides in `term`.
    pub fn new(
        id: ReplicaId,
        term: u64,
        log: Log<D, R>,
        next_offset: Offset,
        replayed_bytes: u64,
        runtime: R,
    ) -> Self {
        let visible = Visible { index: log.durable_index(), next_offset };
        Self {
            id,
            term,
            log,
            runtime,
            encoded: RefCell::default(),
            in_flight: RefCell::default(),
            visible: Cell::new(visible),
            appended_bytes: Cell::new(replayed_bytes),
        }
    }
}

impl<D: Disk, R: Runtime> Commit for Alone<D, R> {
    type Disk = D;
    type Runtime = R;

    fn log(&self) -> &Log<D, R> {
        &self.log
    }

    /// One small flush at a time gathers what arrives meanwhile; large ones go side by side.
    fn wants_batch(&self, replica: &Replica) -> bool {
        let waiting_bytes = replica.open().body_bytes() + self.log.backlog_bytes();
        let is_idle = self.log.inflight() == 0;
        waiting_bytes > 0
            && (is_idle || (waiting_bytes >= FLUSH_PARALLEL_BYTES_MIN && self.log.can_flush()))
    }

    /// The log says so itself when it takes no more.
    fn has_room(&self, _replica: &Replica) -> bool {
        true
    }

    fn propose(
        &self,
        term: u64,
        head: &DraftHead,
        draft: &Drafts,
    ) -> Result<Option<Batch>, Refused> {
        let ReplicaId { cluster, partition, node } = self.id;
        let meta = EntryMeta {
            cluster,
            partition,
            kind: head.kind,
            term,
            leader_node: node,
            index: self.log.last().index + 1,
            base_offset: head.base_offset,
            records: head.records,
            timestamp: head.timestamp,
        };
        let encoded = draft.encode(self.encoded.take());
        let appended = self.log.append(&meta, &encoded);
        let bytes = encoded.len();
        self.encoded.replace(encoded);
        appended.map_err(|error| match error {
            // Otherwise the next segment is only not ready yet.
            AppendError::Full if self.log.no_room() => Refused::StorageFull,
            _ => BUSY,
        })?;
        self.in_flight.borrow_mut().push_back((meta.index, head.end()));
        self.appended_bytes.set(self.appended_bytes.get() + bytes as u64);
        Ok(None)
    }

    fn flush(&self) {
        self.log.flush();
    }

    async fn push(&self) -> bool {
        false
    }

    fn committed(&self) -> Visible {
        let durable = self.log.durable_index();
        let mut in_flight = self.in_flight.borrow_mut();
        while let Some((index, next_offset)) =
            in_flight.pop_front_if(|(index, _)| *index <= durable)
        {
            assert!(next_offset > self.visible.get().next_offset, "visible moved back");
            self.visible.set(Visible { index, next_offset });
        }
        self.visible.get()
    }

    fn settle(&self, replica: &mut Replica) {
        replica.commit_own(self.committed().next_offset);
    }

    fn changed(&self) -> Notify {
        self.log.changed()
    }

    fn leader(&self) -> Option<NodeId> {
        Some(self.id.node)
    }

    fn term(&self) -> u64 {
        self.term
    }

    fn is_readable(&self) -> bool {
        true
    }

    /// The word can be lost with this node only, and then it is asked for before the next start shows anything.
    fn answers_at_word(&self) -> bool {
        true
    }

    async fn barrier(&self) -> Result<(), Refused> {
        Ok(())
    }

    /// The cut is of the newest entry, which was sealed with it.
    async fn point_of(&self, cut: &SnapshotCut) -> Option<Point> {
        let applied = self.log.last();
        assert!(applied.next_offset == cut.next_offset(), "{applied:?} at another offset");
        Some(Point { applied, members: Vec::new() })
    }

    fn written_bytes(&self) -> u64 {
        self.appended_bytes.get()
    }

    fn newest_bytes(&self) -> usize {
        0
    }

    fn stopped(&self) -> Option<Refused> {
        self.log.stopped().map(|reason| Refused::Stopped(reason.to_string()))
    }

    /// What needs none of what can't be read is decided still.
    async fn can_not_look_up(&self, _why: String) {}

    async fn close(&self, is_finished: bool) -> Result<(), Refused> {
        if let Some(refused) = self.stopped() {
            return Err(refused);
        }
        if !is_finished {
            // Nobody was told of it, so it may be lost.
            return Err(Refused::StorageFull);
        }
        let closed = self.log.clone().close().await;
        closed.map_err(|error| Refused::Stopped(error.to_string()))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.runtime.spawn(task);
    }

    fn runtime(&self) -> &R {
        &self.runtime
    }
}
