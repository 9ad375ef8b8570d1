//! What a leader decides on its way into consensus: sealed into batches, proposed in order, and
//! taken back if refused. One task each for proposing and hearing; on the partition's shard.

use openraft::impls::ProgressResponder;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::LeaderId;
use walengine_replication::types::Batch;

use super::replicated::Replicated;
use crate::limits::FLUSH_PARALLEL_BYTES_MIN;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

impl<D: Disk, R: Runtime> Replicated<D, R> {
    /// Seals batches and hands them to consensus until the partition has closed; the only task that
    /// does.
    pub(super) async fn run(&self) {
        let inner = &*self.inner;
        loop {
            let (work, applied) = (inner.work.changed(), inner.apply.changed());
            let applied = applied.changed();
            self.settle();
            inner.changed.notify_all();
            if self.stopped().is_some() || inner.closed.get() {
                return;
            }
            while let Some(batch) = self.next_proposal() {
                if !self.propose(batch).await {
                    return; // consensus has stopped; its metrics say so, too
                }
            }
            futures_lite::future::or(applied, work).await;
        }
    }

    /// One small batch on its way at a time gathers what arrives meanwhile; large ones go side by
    /// side.
    fn next_proposal(&self) -> Option<Batch> {
        let inner = &*self.inner;
        let mut proposals = inner.proposals.borrow_mut();
        let mut replica = inner.replica.borrow_mut();
        let open_bytes = replica.open().body_bytes();
        let alone = replica.decided() == 0;
        if proposals.is_empty() && (alone || open_bytes >= FLUSH_PARALLEL_BYTES_MIN) {
            proposals.extend(replica.seal());
        }
        proposals.pop_front()
    }

    /// Hands a batch to consensus, in its own term or not at all. False if consensus has stopped.
    async fn propose(&self, batch: Batch) -> bool {
        let inner = &*self.inner;
        self.count(|counters| {
            counters.entries += 1;
            counters.records += u64::from(batch.records);
        });
        let leader = LeaderId::new(batch.term, inner.identity.node).to_committed();
        let (responder, told) = ProgressResponder::complete_only();
        let write = inner.raft.write(batch.clone()).with_leader(leader).responder(responder);
        if write.await.is_err() {
            return false;
        }
        inner.proposed.borrow_mut().push_back((batch, told));
        inner.handed.notify_all();
        true
    }

    /// Hears what came of the batches that were handed to consensus, in their order: one that was
    /// refused is taken back. Leadership has ended then, or its lease; in the same term others may
    /// be taken again.
    pub(super) async fn hear(&self) {
        let inner = &*self.inner;
        loop {
            let handed = inner.handed.changed();
            let next = inner.proposed.borrow_mut().pop_front();
            let Some((batch, told)) = next else {
                if inner.closed.get() {
                    return;
                }
                handed.await;
                continue;
            };
            if let Ok(Err(_)) = told.await {
                self.refused(&batch);
            }
        }
    }

    fn refused(&self, batch: &Batch) {
        let inner = &*self.inner;
        if inner.replica.borrow_mut().refused(batch) {
            // All of them were decided behind it.
            inner.proposals.borrow_mut().clear();
        }
        inner.work.notify_all();
    }
}
