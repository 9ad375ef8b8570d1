//! One replica of a partition's ledger: what is committed, and behind it what this node has decided
//! and not seen committed yet. Lives on the partition's shard; no I/O.
//!
//! A leader decides against the state at the tail, its own proposals included. If they are never
//! committed they are taken back, and what another leader made of the same requests is applied in
//! their place. Every entry that this node did not decide itself is decided again while it is
//! applied, and each verdict compared. A node that serves alone leads from its start to its end.
//!
//! ```text
//!  offset  0 ─────────── committed ─────────── sealed ──────────── tail
//!          │  final         │  decided: sealed,  │  open draft      │
//!          │                │  on their way      │                  │
//!  apply/settle move ───────▶      seal moves ───▶   deciding moves ▶
//!  taking back moves the tail to the left, never past `committed`
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use walengine_net::entry::{
    EntryKind, EventsBody, RecordHead, access_events, access_records, is_amid_import,
};
use walengine_net::message::{ContentToImport, EntryToImport};
use walengine_net::model::{Offset, ResolvedBytes, Timestamp};
use walengine_replication::types::Batch;

use super::apply::{ApplyError, apply_body, unknown_in};
use super::drafts::{DraftHead, Drafts};
use super::older_ids::Wanted;
use super::taken::Taken;
use crate::ids::key::Key;
use crate::ledger::{Disagreement, Draft, Fact, Ledger, Outcomes, SnapshotCut};
use crate::limits::EXPIRIES_AT_ONCE_MAX;
use crate::planted::{self, Planted};

/// See the module.
///
/// Invariant: the records of `decided` and behind them those of `open` are the newest of `ledger`,
/// in order; below them everything is committed.
pub struct Replica {
    /// The state at the tail. Invariant: `committed <= ledger.next_offset()`.
    ledger: Ledger,
    /// Sealed batches on their way, oldest first. Invariant: without gaps, from `committed` on.
    decided: VecDeque<Decided>,
    /// Invariant: the sum of `body_bytes` over `decided`.
    decided_bytes: usize,
    open: Drafts,
    /// Term in which this node decides.
    leads: Option<u64>,
    /// Never moves back.
    committed: Offset,
    /// The newest committed entry with records says that an import is under way.
    committed_amid_import: bool,
    /// The lowest tail that taking back has left since [`Self::take_cut`].
    cut: Option<Offset>,
    /// Batches that consensus has refused.
    refusals: u64,
    /// An entry could not be applied: the state is that of no offset, for good.
    broken: bool,
}

/// A sealed batch of this node's with what taking it back needs.
struct Decided {
    head: DraftHead,
    body_bytes: usize,
    /// `None` on a node that serves alone, where nothing is ever taken back.
    kept: Option<Batch>,
}

impl Decided {
    fn is(&self, batch: &Batch) -> bool {
        self.kept.as_ref() == Some(batch)
    }
}

impl Replica {
    /// A replica that has applied what `ledger` holds.
    pub fn new(ledger: Ledger) -> Self {
        Self {
            committed: ledger.next_offset(),
            ledger,
            decided: VecDeque::new(),
            decided_bytes: 0,
            open: Drafts::default(),
            leads: None,
            committed_amid_import: false,
            cut: None,
            refusals: 0,
            broken: false,
        }
    }

    /// The same; `is_amid_import` is what the newest entry that it has applied says.
    #[must_use]
    pub fn amid_import(self, is_amid_import: bool) -> Self {
        Self { committed_amid_import: is_amid_import, ..self }
    }

    /// The newest entry at the tail says that an import is under way: nothing else is decided.
    pub fn is_importing(&self) -> bool {
        if !self.open.is_empty() {
            return self.open.is_amid_import;
        }
        self.decided.back().map_or(self.committed_amid_import, |last| last.head.is_amid_import)
    }

    /// State at the tail; only what is below [`Self::committed`] is visible to clients.
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

    /// If anything was taken back since the last call: the lowest offset behind which it was.
    /// Requests that wait for a later offset will not get their outcome, whatever comes in its place.
    pub fn take_cut(&mut self) -> Option<Offset> {
        self.cut.take()
    }

    /// Batches that are sealed and not committed.
    pub fn decided(&self) -> usize {
        self.decided.len()
    }

    /// Bytes of their bodies.
    pub fn decided_bytes(&self) -> usize {
        self.decided_bytes
    }

    /// The draft: decided and not sealed.
    pub fn open(&self) -> &Drafts {
        &self.open
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
        if planted::has(Planted::DecisionsKept) {
            self.open.clear();
            self.decided_bytes = 0;
            return self.decided.clear();
        }
        self.take_back();
    }

    /// Has events decided in order, into the open draft, which must take them: `decide` is
    /// [`Ledger::submit`] or [`Ledger::submit_but`]. `None` if this node does not lead.
    pub fn decide_events(&mut self, decide: impl FnOnce(&mut Ledger, &mut Draft)) -> Option<Taken> {
        self.leads?;
        let fresh_from = self.ledger.next_offset();
        let draft = &mut self.open.events;
        decide(&mut self.ledger, draft);
        let (base_offset, base_timestamp) = (draft.base_offset, draft.timestamp);
        Some(Taken { fresh_from, base_offset, base_timestamp })
    }

    /// Decides opaque records in order, as [`Self::decide_events`] does events.
    pub fn decide_records(
        &mut self,
        heads: &[RecordHead],
        blob: &[u8],
        now: Timestamp,
        outcomes: &mut Outcomes,
    ) -> Option<Taken> {
        self.leads?;
        let fresh_from = self.ledger.next_offset();
        let draft = &mut self.open.records;
        self.ledger.append_records(heads, blob, draft, now, outcomes);
        let (base_offset, base_timestamp) = (draft.base_offset, draft.timestamp);
        Some(Taken { fresh_from, base_offset, base_timestamp })
    }

    /// Decides an entry of another cluster's log again, into the open draft, which must be empty.
    /// `None` if this node does not lead.
    ///
    /// # Errors
    /// This ledger decides otherwise. Nothing was decided.
    pub fn decide_import(
        &mut self,
        entry: &EntryToImport<'_>,
        is_last: bool,
    ) -> Option<Result<(), Disagreement>> {
        self.leads?;
        let (ledger, timestamp) = (&mut self.ledger, Timestamp(entry.timestamp));
        let imported = match entry.content {
            ContentToImport::Events(events, resolved) => {
                let draft = &mut self.open.events;
                ledger.import_events(timestamp, events, entry.verdicts, resolved, draft)
            }
            ContentToImport::Records(heads, blob) => {
                let draft = &mut self.open.records;
                ledger.import_records(timestamp, heads, blob, entry.verdicts, draft)
            }
        };
        self.open.is_imported = imported.is_ok();
        self.open.is_amid_import = imported.is_ok() && !is_last;
        Some(imported)
    }

    /// A reservation's time is over at the log time of the next event. Never while an import is under
    /// way: its log says what ended when.
    pub fn is_due(&self, now: Timestamp) -> bool {
        !self.is_importing() && self.ledger.is_due(&self.open.events, now)
    }

    /// Ends reservations whose time is over, at most [`EXPIRIES_AT_ONCE_MAX`], into the open draft,
    /// which must take as many events. Returns how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        match self.leads {
            Some(_) if !self.is_importing() => {
                self.ledger.expire(&mut self.open.events, now, EXPIRIES_AT_ONCE_MAX)
            }
            _ => 0,
        }
    }

    /// Hands the open draft to `propose` as a batch of the current term, and keeps what that returns.
    /// `None` if the draft is empty or this node does not lead.
    ///
    /// # Errors
    /// What `propose` says. The draft stays open then.
    pub fn seal<E>(
        &mut self,
        propose: impl FnOnce(u64, &DraftHead, &Drafts) -> Result<Option<Batch>, E>,
    ) -> Result<Option<DraftHead>, E> {
        let (Some(term), Some(head)) = (self.leads, self.open.head()) else { return Ok(None) };
        let body_bytes = self.open.body_bytes();
        let kept = propose(term, &head, &self.open)?;
        let follows = self.decided.back().map_or(self.committed, |last| last.head.end());
        assert!(follows == head.base_offset, "{head:?} sealed behind {follows}");
        self.open.clear();
        self.decided_bytes += body_bytes;
        self.decided.push_back(Decided { head, body_bytes, kept });
        Ok(Some(head))
    }

    /// This node's own batches are committed up to `end`.
    pub fn commit_own(&mut self, end: Offset) {
        if end == self.committed {
            return;
        }
        assert!(end > self.committed, "committed moved back: {end} < {}", self.committed);
        while let Some(one) = self.decided.pop_front_if(|one| one.head.end() <= end) {
            self.decided_bytes -= one.body_bytes;
            self.committed_amid_import = one.head.is_amid_import;
        }
        let next = self.decided.front().map(|one| one.head.base_offset);
        assert!(next.is_none_or(|next| next == end), "{end} is inside a batch");
        self.ledger.release(end);
        self.committed = end;
    }

    /// Consensus has refused a batch of this node's: it is taken back with all that was decided
    /// behind it. Those before it may still be committed. False if it was taken back already.
    pub fn refused(&mut self, batch: &Batch) -> bool {
        let same = |decided: &Decided| {
            decided.kept.as_ref().is_some_and(|kept| Rc::ptr_eq(&kept.body, &batch.body))
        };
        let place = self.decided.iter().position(same);
        if let Some(place) = place {
            self.refusals += 1;
            self.take_back_from(place);
        }
        place.is_some()
    }

    /// How often consensus has refused a batch.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Applies a committed batch: this node's own, which it has decided already, or another's, whose
    /// verdicts it derives again. After an error the replica leads no more and must not be shown.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let applied = self.apply_whole(batch);
        if applied.is_err() {
            (self.broken, self.leads) = (true, None);
            self.forget_decided();
        }
        applied
    }

    fn apply_whole(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let end = batch.base_offset.plus(u64::from(batch.records));
        if self.decided.front().is_some_and(|decided| decided.is(batch)) {
            self.commit_own(end);
            return Ok(());
        }
        // Another leader's: ours behind the same offset will never be committed.
        self.take_back();
        if matches!(batch.kind, EntryKind::Blank | EntryKind::Membership) {
            return Err(ApplyError::Malformed(batch.base_offset));
        }
        let Batch { kind, base_offset, timestamp, .. } = *batch;
        apply_body(&mut self.ledger, kind, base_offset, timestamp, &batch.body)?;
        assert!(end > self.committed, "committed moved back: {end} < {}", self.committed);
        self.committed = end;
        self.committed_amid_import = is_amid_import(&batch.body);
        Ok(())
    }

    /// The ledger, for what changes nothing of its state: where its ids are.
    pub(super) fn with_ledger<T>(&mut self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.ledger)
    }

    /// Takes what was looked up: see [`Ledger::learn`].
    pub fn learn(&mut self, version: u64, found: Vec<(Key, Fact)>) {
        self.ledger.learn(version, found);
    }

    /// What must be looked up before this batch can be applied. What this node has decided itself and another
    /// leader's batch replaces is taken back before.
    pub fn unknown(&mut self, batch: &Batch) -> Vec<Wanted> {
        if self.broken || self.decided.front().is_some_and(|decided| decided.is(batch)) {
            return Vec::new();
        }
        self.take_back();
        unknown_in(&self.ledger, batch.kind, &batch.body)
    }

    /// Cuts a snapshot at the tail. It counts once everything below the tail is committed.
    pub fn cut(&mut self) -> SnapshotCut {
        self.ledger.snapshot()
    }

    /// The committed state as the chunks of a snapshot, each of about `chunk_bytes`. What is decided
    /// and not committed is taken back first, as when leadership ends.
    pub fn committed_chunks(&mut self, chunk_bytes: usize) -> Vec<Vec<u8>> {
        self.follow();
        let mut cut = self.ledger.snapshot();
        std::iter::from_fn(|| cut.next_chunk(&self.ledger, chunk_bytes)).collect()
    }

    /// Takes another state, that of a snapshot.
    pub fn replace(&mut self, ledger: Ledger) {
        self.leads = None;
        self.forget_decided();
        self.committed = ledger.next_offset();
        self.committed_amid_import = false;
        self.ledger = ledger;
    }

    fn forget_decided(&mut self) {
        self.cut_at(self.committed);
        self.decided.clear();
        self.decided_bytes = 0;
        self.open.clear();
    }

    fn cut_at(&mut self, tail: Offset) {
        self.cut = Some(self.cut.map_or(tail, |cut| cut.min(tail)));
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
        if place >= self.decided.len() && self.open.is_empty() {
            return;
        }
        if let Some(head) = self.open.head() {
            let (base_offset, previous) = (head.base_offset, head.previous_timestamp);
            if head.kind == EntryKind::Events {
                let EventsBody { events, verdicts, resolved } = &self.open.events.body;
                self.ledger.undo_events(base_offset, previous, events, verdicts, resolved);
            } else {
                let ids = self.open.records.body.heads.iter().map(|head| head.id);
                self.ledger.undo_records(base_offset, previous, ids);
            }
            self.open.clear();
        }
        for Decided { head, body_bytes, kept } in self.decided.drain(place..).rev() {
            let own = "a body that this node has encoded";
            let batch = kept.expect("a node that serves alone takes nothing back");
            let DraftHead { base_offset, previous_timestamp, .. } = head;
            self.decided_bytes -= body_bytes;
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
        self.cut_at(self.ledger.next_offset());
    }
}
