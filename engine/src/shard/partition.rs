//! One partition: its ledger, its log, and who waits for what to become durable.
//!
//! Lives on its shard's core; not `Send`. Generic over disk and executor, so that the same code
//! runs in simulation. Requests are decided at once, against the state at the tail; an answer goes
//! out when the log is durable up to the tail that it was decided on, reads included, so that
//! nobody sees what a power cut could take back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rkyv::util::AlignedVec;
use walengine_net::entry::{EntryKind, EntryMeta, RecordHead};
use walengine_net::model::{EVENT_BYTES, EventBytes, Offset};

use super::drafts::Drafts;
use super::request::{BUSY, Counters, Identity, Refused, Taken};
use super::snapshots::{Cut, Progress, Snapshotting};
use super::waiters::{Answer, Waiters};
use crate::feed::published::Told;
use crate::ledger::{Ledger, Outcomes};
use crate::limits::{CLOSE_WITHIN, FLUSH_PARALLEL_BYTES_MIN, IDLE_AFTER};
use crate::local::Notify;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::error::AppendError;
use crate::storage::log::Log;

/// A partition that serves. Clones are handles to the same one.
pub struct Partition<D: Disk, R: Runtime> {
    inner: Rc<Inner<D, R>>,
}

impl<D: Disk, R: Runtime> Clone for Partition<D, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<D: Disk, R: Runtime> {
    identity: Identity,
    /// In which this node decides.
    term: u64,
    log: Log<D, R>,
    runtime: R,
    ledger: RefCell<Ledger>,
    open: RefCell<Drafts>,
    encoded: RefCell<AlignedVec>,
    /// By index.
    waiters: Waiters,
    /// Entries that are not durable yet: index, and the offset behind them.
    committing: RefCell<VecDeque<(u64, Offset)>>,
    /// Newest entry that is durable with all before it.
    told: Cell<Told>,
    /// Wakes when that has moved, or the log has stopped.
    told_changed: Notify,
    /// There is something to seal, or a reason to stop.
    work: Notify,
    full: Cell<bool>,
    closing: Cell<bool>,
    /// Set once, when the log stops.
    stopped: RefCell<Option<Refused>>,
    counters: Cell<Counters>,
    /// Bytes of entries, those included that were replayed at the opening.
    appended_bytes: Cell<u64>,
    snapshots: Progress,
}

impl<D: Disk, R: Runtime> Partition<D, R> {
    /// Serves from a recovered log and the ledger at its tail, for which `replayed_bytes` of entries
    /// were replayed; `run` must be polled for anything to become durable.
    pub fn new(
        identity: Identity,
        term: u64,
        log: Log<D, R>,
        ledger: Ledger,
        replayed_bytes: u64,
        runtime: R,
    ) -> Self {
        let inner = Inner {
            identity,
            term,
            told_changed: Notify::new(),
            told: Cell::new(Told { index: log.durable_index(), next_offset: ledger.next_offset() }),
            log,
            runtime,
            ledger: RefCell::new(ledger),
            open: RefCell::default(),
            encoded: RefCell::default(),
            waiters: Waiters::default(),
            committing: RefCell::default(),
            work: Notify::new(),
            full: Cell::new(false),
            closing: Cell::new(false),
            stopped: RefCell::default(),
            counters: Cell::default(),
            appended_bytes: Cell::new(replayed_bytes),
            snapshots: Progress::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Who this partition is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// Term in which this node decides.
    pub fn term(&self) -> u64 {
        self.inner.term
    }

    /// Its log, for readers.
    pub fn log(&self) -> &Log<D, R> {
        &self.inner.log
    }

    /// Its executor.
    pub fn runtime(&self) -> &R {
        &self.inner.runtime
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        self.inner.counters.get()
    }

    /// Looks at the state at the tail. What it shows may be told to anyone only by
    /// [`Partition::when_durable`] of the tail.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.inner.ledger.borrow())
    }

    /// Decides events in order; one outcome each is appended to `outcomes`. They may be told when
    /// the tail is durable.
    pub fn submit(&self, events: &[EventBytes], outcomes: &mut Outcomes) -> Result<Taken, Refused> {
        let inner = &*self.inner;
        // An accepted post needs its resolution beside it.
        self.admit(EntryKind::Events, std::mem::size_of_val(events) * 2)?;
        let now = inner.runtime.now();
        let draft = &mut inner.open.borrow_mut().events;
        let mut ledger = inner.ledger.borrow_mut();
        let fresh_from = ledger.next_offset();
        ledger.submit(events, draft, now, outcomes);
        inner.work.notify_all();
        let (base_offset, base_timestamp) = (draft.base_offset, draft.timestamp);
        Ok(Taken { fresh_from, base_offset, base_timestamp })
    }

    /// Decides opaque records in order, as [`Partition::submit`] does events.
    pub fn append_records(
        &self,
        heads: &[RecordHead],
        blob: &[u8],
        outcomes: &mut Outcomes,
    ) -> Result<Taken, Refused> {
        let inner = &*self.inner;
        let heads_bytes = std::mem::size_of_val(heads);
        self.admit(EntryKind::Records, heads_bytes + blob.len())?;
        let now = inner.runtime.now();
        let draft = &mut inner.open.borrow_mut().records;
        let mut ledger = inner.ledger.borrow_mut();
        let fresh_from = ledger.next_offset();
        ledger.append_records(heads, blob, draft, now, outcomes);
        inner.work.notify_all();
        let (base_offset, base_timestamp) = (draft.base_offset, draft.timestamp);
        Ok(Taken { fresh_from, base_offset, base_timestamp })
    }

    /// Everything below this offset is durable.
    pub fn durable_offset(&self) -> Offset {
        self.told_entry().next_offset
    }

    /// Wakes when [`Self::durable_offset`] has moved, or the log has stopped.
    pub fn changed(&self) -> Notify {
        self.inner.told_changed.clone()
    }

    /// Newest entry that is durable with all before it.
    pub fn told_entry(&self) -> Told {
        self.inner.told.get()
    }

    /// Calls `answer` when everything decided so far is durable; at once if it is already.
    /// `bytes` is what the answer holds in memory.
    pub fn when_durable(&self, bytes: usize, answer: Answer) {
        let inner = &*self.inner;
        if let Some(refused) = &*inner.stopped.borrow() {
            return answer(Err(refused));
        }
        let index = self.tail_index();
        if index <= inner.log.durable_index() {
            return answer(Ok(()));
        }
        inner.waiters.push(index, bytes, answer);
    }

    /// Index of the entry that holds, or will hold, the newest record.
    pub fn tail_index(&self) -> u64 {
        self.inner.log.last().index + u64::from(!self.inner.open.borrow().is_empty())
    }

    /// Writes are refused for want of room, or taken again.
    pub fn set_full(&self, full: bool) {
        self.inner.full.set(full);
        if !full && self.inner.log.no_room() {
            self.inner.log.prepare_again();
        }
        self.inner.work.notify_all();
    }

    /// Writes are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.inner.full.get() || self.inner.log.no_room()
    }

    /// Why the partition takes nothing any more.
    pub fn stopped(&self) -> Option<Refused> {
        self.inner.stopped.borrow().clone()
    }

    /// Ends reservations whose time is over.
    pub fn expire(&self) {
        let inner = &*self.inner;
        let now = inner.runtime.now();
        let due = inner.ledger.borrow().next_expiry().is_some_and(|at| at <= now);
        if !due || self.admit(EntryKind::Events, EVENT_BYTES).is_err() {
            return;
        }
        let open = &mut *inner.open.borrow_mut();
        inner.ledger.borrow_mut().expire(&mut open.events, now);
        inner.work.notify_all();
    }

    /// Makes entries and flushes them until [`Partition::close`]; the only task that does.
    pub async fn run(&self) {
        let inner = &*self.inner;
        loop {
            let work = inner.work.changed();
            let log = inner.log.changed().changed();
            if self.ready_to_flush() && self.seal().is_ok() {
                inner.log.flush();
            }
            self.answer();
            if inner.stopped.borrow().is_some() {
                break;
            }
            if inner.closing.get() && inner.open.borrow().is_empty() && self.is_durable() {
                break;
            }
            futures_lite::future::or(work, log).await;
        }
    }

    /// Records the durable index while nothing is written, so that the newest entries have a
    /// witness; ends when the partition does.
    pub async fn watch_idle(&self) {
        let inner = &*self.inner;
        let mut seen = inner.log.durable_index();
        let mut marked = seen;
        while inner.stopped.borrow().is_none() && !inner.closing.get() {
            inner.runtime.sleep(IDLE_AFTER).await;
            let durable = inner.log.durable_index();
            if durable == seen && durable != marked && inner.log.mark_idle().await.is_ok() {
                marked = durable;
            }
            seen = durable;
        }
    }

    /// Takes nothing more, waits until what was decided is durable, and closes the log.
    pub async fn close(&self) -> Result<(), Refused> {
        let inner = &*self.inner;
        inner.closing.set(true);
        inner.work.notify_all();
        let deadline = inner.runtime.elapsed() + CLOSE_WITHIN;
        while !(self.is_durable() && inner.open.borrow().is_empty()) {
            if let Some(refused) = self.stopped() {
                return Err(refused);
            }
            if inner.runtime.elapsed() >= deadline {
                // Nobody was told of it, so it may be lost.
                return Err(Refused::StorageFull);
            }
            inner.runtime.sleep(Duration::from_millis(1)).await;
        }
        let closed = inner.log.clone().close().await;
        closed.map_err(|error| Refused::Stopped(error.to_string()))
    }

    fn is_durable(&self) -> bool {
        self.inner.log.durable_index() >= self.inner.log.last().index
    }

    /// Checks bounds and makes place in the draft before anything is decided.
    fn admit(&self, kind: EntryKind, bytes: usize) -> Result<(), Refused> {
        let inner = &*self.inner;
        if let Some(refused) = self.stopped() {
            return Err(refused);
        }
        if inner.closing.get() {
            return Err(Refused::ShuttingDown);
        }
        if self.is_full() {
            self.count(|counters| counters.refused_full += 1);
            return Err(Refused::StorageFull);
        }
        if self.is_busy() {
            return Err(BUSY);
        }
        if inner.open.borrow().takes(kind, bytes) {
            return Ok(());
        }
        self.seal().map_err(|error| match error {
            // Otherwise the next segment is only not ready yet.
            AppendError::Full if inner.log.no_room() => Refused::StorageFull,
            _ => BUSY,
        })
    }

    /// Too many answers wait. Writes may be told to come back although it is not.
    pub fn is_busy(&self) -> bool {
        self.inner.waiters.is_full()
    }

    /// One small flush at a time gathers what arrives meanwhile; large ones go side by side.
    fn ready_to_flush(&self) -> bool {
        let inner = &*self.inner;
        let open_bytes = inner.open.borrow().body_bytes();
        let staged = inner.log.backlog_bytes();
        let something = open_bytes + staged > 0;
        let alone = inner.log.inflight() == 0;
        something
            && (alone || (open_bytes + staged >= FLUSH_PARALLEL_BYTES_MIN && inner.log.can_flush()))
    }

    /// Makes an entry of the draft and stages it.
    fn seal(&self) -> Result<(), AppendError> {
        let inner = &*self.inner;
        let open = &mut *inner.open.borrow_mut();
        let Some(head) = open.head() else { return Ok(()) };
        let Identity { cluster, partition, node } = inner.identity;
        let meta = EntryMeta {
            cluster,
            partition,
            kind: head.kind,
            term: inner.term,
            leader_node: node,
            index: inner.log.last().index + 1,
            base_offset: head.base_offset,
            records: head.records,
            timestamp: head.timestamp,
        };
        let encoded = open.encode(inner.encoded.take());
        let appended = inner.log.append(&meta, &encoded);
        let bytes = encoded.len();
        inner.encoded.replace(encoded);
        appended?;
        open.clear();
        inner.committing.borrow_mut().push_back((meta.index, head.end()));
        inner.appended_bytes.set(inner.appended_bytes.get() + bytes as u64);
        self.count(|counters| {
            counters.entries += 1;
            counters.records += u64::from(head.records);
        });
        Ok(())
    }

    /// Calls whom the durable index has reached; after a stop, everybody.
    fn answer(&self) {
        let inner = &*self.inner;
        let durable = inner.log.durable_index();
        self.release(durable);
        inner.waiters.reached(durable);
        inner.told_changed.notify_all();
        let Some(reason) = inner.log.stopped() else { return };
        let refused = Refused::Stopped(reason.to_string());
        *inner.stopped.borrow_mut() = Some(refused.clone());
        inner.waiters.lost(&refused);
    }

    /// What is committed will never be undone.
    fn release(&self, durable: u64) {
        let mut committing = self.inner.committing.borrow_mut();
        let mut released = None;
        while let Some((index, next_offset)) =
            committing.pop_front_if(|(index, _)| *index <= durable)
        {
            released = Some(Told { index, next_offset });
        }
        if let Some(told) = released {
            self.inner.told.set(told);
            self.inner.ledger.borrow_mut().release(told.next_offset);
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.inner.counters.get();
        change(&mut counters);
        self.inner.counters.set(counters);
    }
}

impl<D: Disk, R: Runtime> Snapshotting for Partition<D, R> {
    type Disk = D;
    type Runtime = R;

    fn identity(&self) -> Identity {
        self.inner.identity
    }

    fn runtime(&self) -> &R {
        &self.inner.runtime
    }

    fn log(&self) -> &Log<D, R> {
        &self.inner.log
    }

    fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.inner.ledger.borrow())
    }

    fn ends(&self) -> bool {
        self.inner.closing.get() || self.inner.stopped.borrow().is_some()
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    fn progress(&self) -> &Progress {
        &self.inner.snapshots
    }

    fn written_bytes(&self) -> u64 {
        self.inner.appended_bytes.get()
    }

    async fn cut(&self) -> Option<Cut> {
        self.seal().ok()?;
        Some(Cut {
            members: Vec::new(),
            state: self.inner.ledger.borrow_mut().snapshot(),
            applied: self.inner.log.last(),
            written_bytes: self.inner.appended_bytes.get(),
        })
    }
}
