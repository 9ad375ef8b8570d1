//! The ledger of a replicated partition: what is committed, and behind it what this node has decided
//! as leader and not seen committed yet. Lives on the partition's shard; no I/O.
//!
//! A leader decides against the state at the tail, its own proposals included. If they are never
//! committed they are taken back, and what another leader made of the same requests is applied in
//! their place. Every entry that this node has not decided itself is decided again while it is
//! applied, and each verdict compared.

use std::collections::VecDeque;
use std::rc::Rc;

use rkyv::rancor;
use walengine_net::entry::{EntryKind, RecordHead, access_events, access_records};
use walengine_net::model::{EventBytes, Offset, PartitionId, ResolvedBytes, Timestamp};
use walengine_replication::types::{Batch, NodeId};

use crate::ledger::{Disagreement, Draft, Ledger, Outcomes, RecordsDraft};
use crate::planted::{Bug, is_planted};

/// See the module.
///
/// Invariant: the records of `decided` are the newest of `ledger`, in order; below them everything
/// is committed.
pub struct Replica {
    ledger: Ledger,
    decided: VecDeque<Decided>,
    /// Term in which this node decides.
    leads: Option<u64>,
    committed: Offset,
    /// Counts the times that decided batches were taken back.
    undone: u64,
    /// An entry could not be applied: the state is that of no offset, for good.
    broken: bool,
}

/// A batch of this node's with what taking it back needs.
struct Decided {
    batch: Batch,
    previous_timestamp: Timestamp,
}

/// Why an entry can't be applied. This replica must stop serving: it knows no state any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The body is not one of a batch.
    #[error("the body of the batch at offset {0} can't be read")]
    Malformed(Offset),
    /// This replica comes to other verdicts than the leader did.
    #[error("this replica and the log disagree: {0}")]
    Disagreement(#[from] Disagreement),
}

/// What a leader has decided at once.
pub struct Proposal {
    /// To be replicated; `None` if every event was a repeat or malformed.
    pub batch: Option<Batch>,
    /// The outcomes count once everything below this offset is committed.
    pub counts_from: Offset,
}

impl Replica {
    /// A replica that has applied what `ledger` holds.
    pub fn new(ledger: Ledger) -> Self {
        let committed = ledger.next_offset();
        Self { ledger, decided: VecDeque::new(), leads: None, committed, undone: 0, broken: false }
    }

    /// Of a partition that holds nothing.
    pub fn empty(partition: PartitionId, partitions: u16) -> Self {
        Self::new(Ledger::new(partition, partitions))
    }

    /// State at the tail; only what is below [`Self::committed`] may be told to anyone.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Everything below this offset is committed and applied.
    pub fn committed(&self) -> Offset {
        self.committed
    }

    /// Term in which this node decides, if it does.
    pub fn leads(&self) -> Option<u64> {
        self.leads
    }

    /// How often decided batches were taken back. Whoever waits for one knows by it that it is lost
    /// to him, whatever comes in its place.
    pub fn undone(&self) -> u64 {
        self.undone
    }

    /// This node leads in `term`, and has applied everything before that term's first entry.
    pub fn lead(&mut self, term: u64) {
        if self.leads != Some(term) && !self.broken {
            self.take_back();
            self.leads = Some(term);
        }
    }

    /// This node does not lead any more: what it decided and did not see committed is taken back.
    pub fn follow(&mut self) {
        self.leads = None;
        if is_planted(Bug::DecisionsNotTakenBack) {
            return self.decided.clear();
        }
        self.take_back();
    }

    /// Decides events in order. `None` if this node does not lead.
    pub fn decide_events(
        &mut self,
        node: NodeId,
        events: &[EventBytes],
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) -> Option<Proposal> {
        let term = self.leads?;
        let mut draft = Draft::new();
        self.ledger.submit(events, &mut draft, now, outcomes);
        let first = (draft.base_offset, draft.timestamp, draft.previous_timestamp);
        let body = (!draft.is_empty()).then(|| encode(&draft.body));
        Some(self.propose(EntryKind::Events, term, node, first, draft.len(), body))
    }

    /// Decides opaque records in order. `None` if this node does not lead.
    pub fn decide_records(
        &mut self,
        node: NodeId,
        heads: &[RecordHead],
        blob: &[u8],
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) -> Option<Proposal> {
        let term = self.leads?;
        let mut draft = RecordsDraft::new();
        self.ledger.append_records(heads, blob, &mut draft, now, outcomes);
        let first = (draft.base_offset, draft.timestamp, draft.previous_timestamp);
        let body = (!draft.is_empty()).then(|| encode(&draft.body));
        Some(self.propose(EntryKind::Records, term, node, first, draft.len(), body))
    }

    fn propose(
        &mut self,
        kind: EntryKind,
        term: u64,
        leader_node: NodeId,
        (base_offset, timestamp, previous_timestamp): (Offset, Timestamp, Timestamp),
        records: usize,
        body: Option<Rc<[u8]>>,
    ) -> Proposal {
        let records = records as u32; // a batch is at most a frame
        let batch = body.map(|body| Batch {
            kind,
            term,
            leader_node,
            base_offset,
            records,
            timestamp,
            body,
        });
        if let Some(batch) = &batch {
            self.decided.push_back(Decided { batch: batch.clone(), previous_timestamp });
        }
        Proposal { batch, counts_from: self.ledger.next_offset() }
    }

    /// Consensus has refused a batch of this node's: it is taken back with all that was decided
    /// behind it. Those before it may still be committed.
    pub fn refused(&mut self, batch: &Batch) {
        let same = |decided: &Decided| Rc::ptr_eq(&decided.batch.body, &batch.body);
        if let Some(place) = self.decided.iter().position(same) {
            self.take_back_from(place);
        }
    }

    /// Applies a committed batch: this node's own, which it has decided already, or another's, whose
    /// verdicts it derives again. After an error the replica leads no more and must not be shown.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let applied = self.apply_whole(batch);
        if applied.is_err() {
            (self.broken, self.leads) = (true, None);
            self.undone += 1;
            self.decided.clear();
        }
        applied
    }

    fn apply_whole(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let end = batch.base_offset.plus(u64::from(batch.records));
        let is_own = self.decided.front().is_some_and(|decided| decided.batch == *batch);
        if is_own {
            self.decided.pop_front();
            self.ledger.release(end);
        } else {
            // Another leader's: ours behind the same offset will never be committed.
            self.take_back();
            let malformed = |_| ApplyError::Malformed(batch.base_offset);
            match batch.kind {
                EntryKind::Events => {
                    let body = access_events(&batch.body).map_err(malformed)?;
                    self.ledger.apply_events(batch.base_offset, batch.timestamp, body)?;
                }
                EntryKind::Records => {
                    let body = access_records(&batch.body).map_err(malformed)?;
                    self.ledger.apply_records(batch.base_offset, batch.timestamp, body)?;
                }
                EntryKind::Blank | EntryKind::Membership => {
                    return Err(ApplyError::Malformed(batch.base_offset));
                }
            }
        }
        assert!(end > self.committed, "committed moved back: {end} < {}", self.committed);
        self.committed = end;
        Ok(())
    }

    /// The committed state as the chunks of a snapshot, each of about `chunk_bytes`. What is decided
    /// and not committed is taken back first, as when leadership ends: a leader takes none.
    pub fn committed_chunks(&mut self, chunk_bytes: usize) -> Vec<Vec<u8>> {
        self.follow();
        let mut cut = self.ledger.snapshot();
        std::iter::from_fn(|| cut.next_chunk(&self.ledger, chunk_bytes)).collect()
    }

    /// Takes another state, that of a snapshot.
    pub fn replace(&mut self, ledger: Ledger) {
        self.leads = None;
        self.undone += u64::from(!self.decided.is_empty());
        self.decided.clear();
        self.committed = ledger.next_offset();
        self.ledger = ledger;
    }

    fn take_back(&mut self) {
        self.take_back_from(0);
        assert!(
            self.broken || self.ledger.next_offset() == self.committed,
            "{} is left where {} is committed",
            self.ledger.next_offset(),
            self.committed
        );
    }

    fn take_back_from(&mut self, place: usize) {
        self.undone += u64::from(place < self.decided.len());
        for Decided { batch, previous_timestamp } in self.decided.drain(place..).rev() {
            let own = "a body that this node has encoded";
            let base_offset = batch.base_offset;
            if batch.kind == EntryKind::Events {
                let body = access_events(&batch.body).expect(own);
                let resolved: &[ResolvedBytes] = body.resolved.as_slice();
                let (events, verdicts) = (body.events.as_slice(), body.verdicts.as_slice());
                self.ledger.undo_events(
                    base_offset,
                    previous_timestamp,
                    events,
                    verdicts,
                    resolved,
                );
            } else {
                let body = access_records(&batch.body).expect(own);
                let ids = body.heads.as_slice().iter().map(|head| head.id.to_native());
                self.ledger.undo_records(base_offset, previous_timestamp, ids);
            }
        }
    }
}

fn encode<B>(body: &B) -> Rc<[u8]>
where
    B: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                rkyv::util::AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rancor::Error,
            >,
        >,
{
    let bytes = rkyv::to_bytes::<rancor::Error>(body);
    Rc::from(&bytes.expect("a body of plain lists, below the size limit, always encodes")[..])
}
