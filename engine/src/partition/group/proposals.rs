//! What a leader has decided on its way through openraft: handed over in order, and taken back if
//! refused. On the partition's shard.

use openraft::impls::ProgressResponder;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::LeaderId;
use walengine_replication::types::Batch;

use super::Consensus;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

impl<D: Disk, R: Runtime> Consensus<D, R> {
    /// Hands a batch to openraft, in its own term or not at all. False if consensus has stopped; its
    /// metrics say so, too.
    pub(super) async fn hand_to_openraft(&self, batch: Batch) -> bool {
        let leader = LeaderId::new(batch.term, self.id.node).to_committed();
        let (responder, outcome) = ProgressResponder::complete_only();
        let write = self.raft.write(batch.clone()).with_leader(leader).responder(responder);
        if write.await.is_err() {
            return false;
        }
        self.handed.borrow_mut().push_back((batch, outcome));
        self.handed_changed.notify_all();
        true
    }

    /// Hears what became of the batches that were handed to openraft, in their order: one that was
    /// refused is taken back. Leadership has ended then, or its lease; in the same term others may
    /// be taken again.
    pub(super) async fn hear(&self) {
        loop {
            let changed = self.handed_changed.changed();
            let next = self.handed.borrow_mut().pop_front();
            let Some((batch, outcome)) = next else {
                if self.is_closed.get() {
                    return;
                }
                changed.await;
                continue;
            };
            if let Ok(Err(_)) = outcome.await {
                self.take_back(&batch);
            }
        }
    }

    fn take_back(&self, batch: &Batch) {
        if self.replica.borrow_mut().refused(batch) {
            // All of them were decided behind it.
            self.proposals.borrow_mut().clear();
        }
        self.apply.changed().notify_all();
    }
}
