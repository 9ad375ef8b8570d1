//! One partition: admits requests, decides them, seals them into batches, and answers once their
//! outcome is final. Lives on its shard's core; not `Send`.
//!
//! A request is decided at once, against the state at the tail. Its answer goes out when everything
//! up to that tail is visible, reads included, so that nobody sees what a power cut or another
//! leader could take back. What makes a decision final is a [`Commit`]: this node's disk alone, or
//! consensus. If leadership ends first, the outcome is unknown here: the batch is taken back, and
//! the next leader may still commit it. A client that asks again by the same ids learns it.
//!
//! Generic over disk and executor, so that the same code runs in simulation.

pub mod alone;
pub mod apply;
mod asked_keys;
pub mod check;
mod check_ids;
mod chunks;
mod clocks;
pub mod commit;
pub mod digest;
pub mod drafts;
mod gathering;
pub mod group;
mod heard;
mod ids_upkeep;
pub mod importing;
pub mod ledger_access;
pub mod log_clock;
mod looking_up;
pub mod measured;
mod measuring;
pub mod memory;
pub mod mending;
pub mod older_ids;
pub mod opening;
pub mod replica;
pub mod replica_id;
pub mod restore;
mod saved_filter;
pub mod scrub;
mod snapshot_progress;
pub mod snapshots;
pub mod spanning;
mod stripes;
pub mod taken;
pub mod waiters;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use walengine_net::entry::{EntryKind, RecordHead};
use walengine_net::model::{EVENT_BYTES, EventBytes, Offset, RESOLVED_BYTES, Timestamp};
use walengine_replication::types::NodeId;

use crate::across::Prepared;
use crate::agreed_clock::ClockAgreement;
use crate::ids::runs::Runs;
use crate::ledger::{Draft, Ledger, Outcomes, SnapshotCut};
use crate::limits::{
    AFTER_REFUSAL, CLOSE_WITHIN, EXPIRIES_AT_ONCE_MAX, EXPIRY_ROUNDS_MAX, FLUSH_PARALLEL_BYTES_MIN,
    IDLE_AFTER, WITNESS_EVERY, WORDS_GATHER,
};
use crate::local::Notify;
use crate::refused::{BUSY, BUSY_READING, Refused};
use crate::runtime::Runtime;
use crate::storage::error::Place;
use crate::storage::log::Log;
use crate::visible::Visible;
use asked_keys::AskedKeys;
use commit::Commit;
use drafts::Drafts;
use gathering::Gathering;
use heard::Heard;
use log_clock::LogClock;
use measured::{Counters, Measured};
use older_ids::{OlderIds, Wanted};
use replica::Replica;
use replica_id::ReplicaId;
use snapshot_progress::SnapshotProgress;
use taken::Taken;
use waiters::{Answer, Waiters};

/// An expiry with its verdict and its resolution, in an entry's body.
const EXPIRY_BYTES: usize = EVENT_BYTES + RESOLVED_BYTES + 1;

/// See the module. Clones are handles to the same partition.
pub struct Partition<C: Commit> {
    inner: Rc<Inner<C>>,
}

impl<C: Commit> Clone for Partition<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<C: Commit> {
    id: ReplicaId,
    commit: C,
    replica: Rc<RefCell<Replica>>,
    /// Ids that are not in memory.
    older: OlderIds<C::Disk, C::Runtime>,
    asked: AskedKeys,
    /// See [`Partition::looked_up`].
    looked_up: Cell<u64>,
    /// Answers that wait for an offset to be visible.
    waiters: Waiters,
    /// There is something to seal, or a reason to stop.
    work: Notify,
    /// The visible offset has moved, or the partition has stopped.
    changed: Notify,
    /// The data directory has less free space than is kept in reserve.
    is_full: Cell<bool>,
    /// Since when the process has nearly used up its memory, if it has.
    short_since: Cell<Option<Duration>>,
    /// Since when, if it has.
    full_since: Cell<Option<Duration>>,
    /// A write to the disk does not come back.
    is_stuck: Cell<bool>,
    /// Nothing new is taken. Never reset.
    is_closing: Cell<bool>,
    /// The commit has ended. Never reset.
    is_closed: Cell<bool>,
    counters: Cell<Counters>,
    measured: Measured,
    clock: Cell<LogClock>,
    /// How the machine's clock stands to those of the group's other nodes.
    agreement: Cell<ClockAgreement>,
    /// Since when this leader waits for those.
    awaits_since: Cell<Option<Duration>>,
    /// Places of the log that are damaged, as it was read again last.
    rotten: Cell<u64>,
    /// The place that was told last.
    rot_told: RefCell<Option<Place>>,
    snapshots: SnapshotProgress,
    /// Until then nothing is exchanged with other partitions.
    held_until: Cell<Duration>,
    /// Refusals by consensus that were seen, and until when nothing is decided that no request asks for.
    refused: Cell<(u64, Duration)>,
    /// What goes to other partitions.
    prepared: RefCell<Prepared>,
    /// What others have said to this leader.
    heard: Heard,
    /// What striped accounts lack here.
    gathering: Gathering,
    /// Since when the draft has nothing but words that are answered already, if that is so.
    only_words_since: Cell<Option<Duration>>,
}

impl<C: Commit> Partition<C> {
    /// Serves from `replica`, whose decisions `commit` makes final, and whose older ids are in `older`. The tasks
    /// that seal run in the background from now on.
    pub fn start(
        id: ReplicaId,
        commit: C,
        replica: Rc<RefCell<Replica>>,
        older: OlderIds<C::Disk, C::Runtime>,
    ) -> Self {
        let heard = Heard::default();
        {
            let replica = replica.borrow();
            // What is imported was answered to nobody.
            if commit.answers_at_word() && !replica.is_importing() {
                heard.must_ask(replica.ledger().others_in_doubt());
            }
        }
        let inner = Inner {
            id,
            commit,
            replica,
            older,
            asked: AskedKeys::default(),
            looked_up: Cell::default(),
            held_until: Cell::default(),
            refused: Cell::default(),
            prepared: RefCell::default(),
            heard,
            gathering: Gathering::default(),
            only_words_since: Cell::default(),
            waiters: Waiters::default(),
            work: Notify::new(),
            changed: Notify::new(),
            is_full: Cell::new(false),
            short_since: Cell::new(None),
            full_since: Cell::new(None),
            is_stuck: Cell::new(false),
            is_closing: Cell::new(false),
            is_closed: Cell::new(false),
            counters: Cell::default(),
            measured: Measured::default(),
            clock: Cell::default(),
            agreement: Cell::default(),
            awaits_since: Cell::new(None),
            rotten: Cell::new(0),
            rot_told: RefCell::default(),
            snapshots: SnapshotProgress::default(),
        };
        let partition = Self { inner: Rc::new(inner) };
        partition.spawn(|partition| async move { partition.run().await });
        partition.spawn(|partition| async move { partition.watch_idle().await });
        partition
    }

    /// Runs a task of this partition in the background.
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Self) -> F) {
        self.inner.commit.spawn(task(self.clone()));
    }

    /// Which replica this is.
    pub fn id(&self) -> ReplicaId {
        self.inner.id
    }

    /// What makes its decisions final.
    pub fn commit(&self) -> &C {
        &self.inner.commit
    }

    /// Its log on this node, for readers.
    pub fn log(&self) -> &Log<C::Disk, C::Runtime> {
        self.inner.commit.log()
    }

    /// Ids that are not in memory.
    pub fn older_ids(&self) -> &OlderIds<C::Disk, C::Runtime> {
        &self.inner.older
    }

    /// The runs that hold its older ids.
    pub fn runs(&self) -> &Runs<C::Disk> {
        self.inner.older.runs()
    }

    /// Its executor.
    pub fn runtime(&self) -> &C::Runtime {
        self.inner.commit.runtime()
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        self.inner.counters.get()
    }

    /// Counts a write that was refused as busy.
    pub fn count_busy(&self) {
        self.count(|counters| counters.refused_busy += 1);
    }

    /// Counts an entry that was mended.
    pub fn count_mended(&self) {
        self.count(|counters| counters.mended += 1);
    }

    /// Places of the log that are damaged and were not mended.
    pub fn rotten(&self) -> u64 {
        self.inner.rotten.get()
    }

    /// The log was read again, and so many places of it are damaged.
    pub fn note_rot(&self, places: u64) {
        self.inner.rotten.set(places);
        if places == 0 {
            self.inner.rot_told.take();
        }
    }

    /// Damage is found in this place for the first time.
    pub fn is_rot_news(&self, place: &Place) -> bool {
        self.inner.rotten.set(self.inner.rotten.get().max(1));
        self.inner.rot_told.replace(Some(place.clone())).as_ref() != Some(place)
    }

    /// Looks at the replica; only what is below [`Replica::committed`] is visible to clients.
    pub fn with_replica<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.inner.replica.borrow())
    }

    /// Looks at the state at the tail. What it shows may be told to clients only by
    /// [`Self::when_visible`] of the tail.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(self.inner.replica.borrow().ledger())
    }

    /// The newest entry that is visible.
    pub fn visible(&self) -> Visible {
        self.inner.commit.committed()
    }

    /// Every record below this offset is visible.
    pub fn visible_offset(&self) -> Offset {
        self.visible().next_offset
    }

    /// Wakes when [`Self::visible`] has moved, or the partition has stopped.
    pub fn changed(&self) -> Notify {
        self.inner.changed.clone()
    }

    /// This node decides.
    pub fn leads(&self) -> bool {
        self.inner.replica.borrow().leads().is_some()
    }

    /// The node that decides, as far as this one knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.commit.leader()
    }

    /// The newest term that this node knows of.
    pub fn term(&self) -> u64 {
        self.inner.commit.term()
    }

    /// The state may be shown, whatever it reflects.
    pub fn is_readable(&self) -> bool {
        self.inner.commit.is_readable() && !self.is_asking()
    }

    /// Completes when what this node shows then is linearizable.
    pub async fn read_barrier(&self) -> Result<(), Refused> {
        self.until_asked().await?;
        self.inner.commit.barrier().await
    }

    /// Why the partition takes nothing any more, for good.
    pub fn stopped(&self) -> Option<Refused> {
        self.inner.commit.stopped()
    }

    /// Writes are refused for want of room, or taken again.
    pub fn set_full(&self, is_full: bool) {
        self.inner.is_full.set(is_full);
        self.inner.full_since.set(is_full.then(|| self.runtime().elapsed()));
        if !is_full && self.log().no_room() {
            self.log().prepare_again();
        }
        self.inner.work.notify_all();
    }

    /// Writes are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.inner.is_full.get() || self.log().no_room()
    }

    /// Writes are refused for want of memory, or taken again. Reservations still end: that takes none.
    pub fn set_short_of_memory(&self, is_short: bool) {
        if is_short != self.is_short_of_memory() {
            self.inner.short_since.set(is_short.then(|| self.runtime().elapsed()));
        }
    }

    /// Writes are refused for want of memory.
    pub fn is_short_of_memory(&self) -> bool {
        self.inner.short_since.get().is_some()
    }

    /// For how long they have been; without an end if they are not.
    pub fn short_of_memory_for(&self) -> Duration {
        self.since(self.inner.short_since.get())
    }

    fn since(&self, since: Option<Duration>) -> Duration {
        since.map_or(Duration::MAX, |since| self.runtime().elapsed().saturating_sub(since))
    }

    /// For how long writes have been refused because the data directory has no room; without an end if
    /// it is for another reason.
    pub fn full_for(&self) -> Duration {
        self.since(self.inner.full_since.get())
    }

    /// A write to the disk does not come back; nothing new is taken until it does.
    pub fn set_stuck(&self, is_stuck: bool) {
        self.inner.is_stuck.set(is_stuck);
    }

    /// A write to the disk does not come back.
    pub fn is_stuck(&self) -> bool {
        self.inner.is_stuck.get()
    }

    /// A write would be refused as busy now. A write may be refused for another reason all the same.
    pub fn is_busy(&self) -> bool {
        let inner = &*self.inner;
        inner.waiters.is_full()
            || !inner.commit.has_room(&inner.replica.borrow())
            || self.awaits_clocks()
            || self.has_most_ids()
    }

    /// So many answers wait that no more reads should.
    pub fn has_too_many_waiting(&self) -> bool {
        self.inner.waiters.is_half_full()
    }

    /// Decides events in order; one outcome each is appended to `outcomes`. They may be told when
    /// the tail is visible.
    ///
    /// # Errors
    /// See [`Refused`]; nothing was decided.
    pub fn submit(&self, events: &[EventBytes], outcomes: &mut Outcomes) -> Result<Taken, Refused> {
        self.require_gathered(events)?;
        let taken = self.decide_events(events, |ledger, draft, now| {
            ledger.submit(events, draft, now, outcomes);
        })?;
        self.keep_prepared(events, outcomes, taken.fresh_from);
        Ok(taken)
    }

    /// As [`Self::submit`], but for the `forbidden` events and their chains: see
    /// [`Ledger::submit_but`].
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_but(
        &self,
        events: &[EventBytes],
        forbidden: &[bool],
        outcomes: &mut Outcomes,
    ) -> Result<Taken, Refused> {
        let allowed = events.iter().zip(forbidden).filter(|(_, forbidden)| !**forbidden);
        let allowed: Vec<EventBytes> = allowed.map(|(event, _)| *event).collect();
        self.require_gathered(&allowed)?;
        let taken = self.decide_events(events, |ledger, draft, now| {
            ledger.submit_but(events, forbidden, draft, now, outcomes);
        })?;
        self.keep_prepared(events, outcomes, taken.fresh_from);
        Ok(taken)
    }

    #[inline]
    fn decide_events(
        &self,
        events: &[EventBytes],
        decide: impl FnOnce(&mut Ledger, &mut Draft, Timestamp),
    ) -> Result<Taken, Refused> {
        self.require_memory()?;
        let now = self.log_time();
        // An accepted post needs its resolution beside it.
        self.admit_events(std::mem::size_of_val(events) * 2, now)?;
        self.require_known(events)?;
        self.require_settled(events)?;
        let decide = |ledger: &mut _, draft: &mut _| decide(ledger, draft, now);
        let taken = self.inner.replica.borrow_mut().decide_events(decide);
        self.inner.work.notify_all();
        taken.ok_or_else(|| self.not_leader())
    }

    /// Makes place in the draft for events of so many bytes, and ends before what is due.
    fn admit_events(&self, bytes: usize, now: Timestamp) -> Result<(), Refused> {
        loop {
            self.admit(EntryKind::Events, bytes)?;
            if !self.with_replica(|replica| replica.is_due(now)) {
                return Ok(());
            }
            // What is due ends before the events are decided, in entries of its own if it is much. The
            // request waits for that, as for any other want of room.
            if self.expire_due(now) == 0 || self.with_replica(|replica| replica.is_due(now)) {
                self.inner.work.notify_all();
                return Err(BUSY);
            }
        }
    }

    /// Decides opaque records in order, as [`Self::submit`] does events.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn append_records(
        &self,
        heads: &[RecordHead],
        blob: &[u8],
        outcomes: &mut Outcomes,
    ) -> Result<Taken, Refused> {
        self.require_memory()?;
        self.admit(EntryKind::Records, std::mem::size_of_val(heads) + blob.len())?;
        let ids = heads.iter().map(|head| head.id);
        let unknown = self.with_ledger(|ledger| ledger.unknown_records(ids));
        if !unknown.is_empty() {
            self.look_up(Wanted::of_records(unknown));
            return Err(BUSY_READING);
        }
        let now = self.log_time();
        let taken = self.inner.replica.borrow_mut().decide_records(heads, blob, now, outcomes);
        self.inner.work.notify_all();
        taken.ok_or_else(|| self.not_leader())
    }

    /// Ends reservations whose time is over, if this node decides. What is left is ended as soon as
    /// there is room.
    pub fn expire(&self) {
        if self.with_ledger(|ledger| ledger.next_expiry().is_none()) {
            return;
        }
        let now = self.log_time();
        let due = self.with_ledger(|ledger| ledger.next_expiry().is_some_and(|at| at <= now));
        if due && !self.waits_after_refusal() && self.expire_due(now) > 0 {
            self.inner.work.notify_all();
        }
    }

    /// Consensus has refused a batch just now: leadership has ended, or its lease, and what is decided again at once is
    /// refused at once. What no request asks for waits a little.
    pub(crate) fn waits_after_refusal(&self) -> bool {
        let (refusals, now) = (self.with_replica(Replica::refusals), self.runtime().elapsed());
        let (seen, until) = self.inner.refused.get();
        if refusals == seen {
            return now < until;
        }
        self.inner.refused.set((refusals, now + AFTER_REFUSAL));
        true
    }

    /// Ends as many of those that are due as there is room for in a few entries; how many.
    fn expire_due(&self, now: Timestamp) -> usize {
        let mut expired = 0;
        for _ in 0..EXPIRY_ROUNDS_MAX {
            if self.admit(EntryKind::Events, EXPIRIES_AT_ONCE_MAX * EXPIRY_BYTES).is_err() {
                break;
            }
            let now_expired = self.inner.replica.borrow_mut().expire(now);
            expired += now_expired;
            if now_expired < EXPIRIES_AT_ONCE_MAX {
                break;
            }
        }
        expired
    }

    /// Calls `answer` when everything decided so far is visible, or never will be; at once if it is
    /// already. `bytes` is what the answer holds in memory.
    pub fn when_visible(&self, bytes: usize, answer: Answer) {
        self.settle();
        if let Some(refused) = self.stopped() {
            return answer(Err(&refused));
        }
        let tail = self.with_ledger(Ledger::next_offset);
        if tail <= self.visible_offset() {
            return answer(Ok(()));
        }
        self.inner.waiters.push(tail.0, bytes, answer);
        if self.inner.only_words_since.get().is_some() {
            self.inner.work.notify_all(); // they gather no more
        }
    }

    /// Completes when everything decided so far is visible, or never will be.
    ///
    /// # Errors
    /// See [`Refused`]; the outcome is unknown.
    pub async fn until_visible(&self) -> Result<(), Refused> {
        let result: Rc<RefCell<Option<Result<(), Refused>>>> = Rc::default();
        let woken = Notify::new();
        let (put, wake) = (result.clone(), woken.clone());
        let answer = move |outcome: Result<(), &Refused>| {
            put.replace(Some(outcome.map_err(Clone::clone)));
            wake.notify_all();
        };
        self.when_visible(std::mem::size_of_val(&answer), Box::new(answer));
        loop {
            let changed = woken.changed();
            if let Some(outcome) = result.take() {
                return outcome;
            }
            changed.await;
        }
    }

    /// Takes nothing more from now on; what was decided goes on its way.
    pub fn stop_taking(&self) {
        self.inner.is_closing.set(true);
        self.inner.work.notify_all();
    }

    /// Takes nothing more, waits until what was decided is committed, and closes the log.
    ///
    /// # Errors
    /// The partition had stopped, or could not finish in time.
    pub async fn close(&self) -> Result<(), Refused> {
        let inner = &*self.inner;
        self.stop_taking();
        let deadline = self.runtime().elapsed() + CLOSE_WITHIN;
        while self.leads() && !self.is_finished() && self.stopped().is_none() {
            if self.runtime().elapsed() >= deadline {
                break;
            }
            self.runtime().sleep(Duration::from_millis(1)).await;
        }
        let closed = inner.commit.close(self.is_finished()).await;
        inner.is_closed.set(true);
        self.settle();
        inner.work.notify_all();
        closed
    }

    /// It has stopped or is about to. The caller of [`Self::close`] takes the last snapshot.
    pub fn is_ending(&self) -> bool {
        self.inner.is_closing.get() || self.stopped().is_some()
    }

    fn snapshot_progress(&self) -> &SnapshotProgress {
        &self.inner.snapshots
    }

    /// Seals what is open, and cuts the state behind it; `None` if there is no room for that.
    fn cut_at_tail(&self) -> Option<SnapshotCut> {
        self.seal().ok()?;
        let cut = self.inner.replica.borrow_mut().cut();
        self.inner.work.notify_all();
        Some(cut)
    }

    /// Nothing that was decided is on its way, and nobody waits for an outcome.
    pub(super) fn is_finished(&self) -> bool {
        let replica = self.inner.replica.borrow();
        replica.decided() == 0 && replica.open().is_empty() && self.inner.waiters.is_empty()
    }

    /// Records durable and commit index when nothing is written, and every few seconds while something
    /// is, so that the newest entries have a witness: a lone node and a replica alike. Ends with the
    /// partition.
    async fn watch_idle(&self) {
        let (log, mut seen, mut marked) = (self.log().clone(), None, self.runtime().elapsed());
        while !self.is_ending() {
            self.runtime().sleep(IDLE_AFTER).await;
            log.note_committed(self.visible().index);
            let now = Some((log.durable_index(), log.committed_index()));
            let is_due = self.runtime().elapsed().saturating_sub(marked) >= WITNESS_EVERY;
            if seen == now || is_due {
                if log.mark_idle().await.is_err() {
                    return; // the log has stopped, and says why
                }
                marked = self.runtime().elapsed();
            }
            seen = now;
        }
    }

    /// Seals batches and sends them on their way until the partition has closed; the only task that
    /// does.
    async fn run(&self) {
        let inner = &*self.inner;
        loop {
            let (work, moved) = (inner.work.changed(), inner.commit.changed());
            let moved = moved.changed();
            self.expire();
            self.seal_if_wanted();
            // Answers leave before consensus takes the next batch: what their clients send next then goes
            // into the batch behind it. The other way round, batches of small requests are smaller, and
            // three nodes on two cores take a quarter less of them.
            self.settle();
            inner.changed.notify_all();
            if self.stopped().is_some() || inner.is_closed.get() {
                return;
            }
            while inner.commit.push().await {
                self.seal_if_wanted();
            }
            futures_lite::future::or(work, moved).await;
        }
    }

    /// What does not fit stays in the draft until there is room.
    fn seal_if_wanted(&self) {
        let commit = &self.inner.commit;
        let wants_batch = commit.wants_batch(&self.inner.replica.borrow());
        if wants_batch && !self.may_gather() && self.seal().is_ok() {
            commit.flush();
        }
    }

    /// Nobody waits for what is in the draft: it goes with what comes next, which then need not wait for it.
    fn may_gather(&self) -> bool {
        let Some(since) = self.inner.only_words_since.get() else { return false };
        let bytes = self.with_replica(|replica| replica.open().body_bytes());
        self.inner.waiters.is_empty()
            && bytes < FLUSH_PARALLEL_BYTES_MIN
            && self.runtime().elapsed() < since + WORDS_GATHER
            && !self.inner.is_closing.get()
    }

    fn require_memory(&self) -> Result<(), Refused> {
        if !self.is_short_of_memory() || !self.leads() || self.stopped().is_some() {
            return Ok(()); // or another reason stands
        }
        self.count(|counters| counters.refused_memory += 1);
        Err(Refused::MemoryFull)
    }

    /// Checks bounds and makes place in the draft before anything is decided.
    fn admit(&self, kind: EntryKind, bytes: usize) -> Result<(), Refused> {
        self.admit_any()?;
        if self.is_importing() {
            return Err(Refused::Importing);
        }
        self.inner.only_words_since.set(None); // unless these are words, too
        if self.with_replica(|replica| replica.open().takes(kind, bytes)) {
            return Ok(());
        }
        self.seal()
    }

    /// Checks whether anything may be decided now.
    fn admit_any(&self) -> Result<(), Refused> {
        self.settle();
        if let Some(refused) = self.stopped() {
            return Err(refused);
        }
        if !self.leads() {
            return Err(self.not_leader());
        }
        if self.inner.is_closing.get() {
            return Err(Refused::ShuttingDown);
        }
        if self.is_stuck() {
            return Err(Refused::DiskStuck);
        }
        if self.is_full() {
            self.count(|counters| counters.refused_full += 1);
            return Err(Refused::StorageFull);
        }
        if self.is_busy() {
            return Err(BUSY);
        }
        Ok(())
    }

    /// Makes a batch of the open draft and proposes it.
    fn seal(&self) -> Result<(), Refused> {
        let inner = &*self.inner;
        let propose = |term, head: &_, draft: &Drafts| inner.commit.propose(term, head, draft);
        let sealed = inner.replica.borrow_mut().seal(propose)?;
        if let Some(head) = sealed {
            self.count(|counters| {
                counters.entries += 1;
                counters.records += u64::from(head.records);
            });
            inner.measured.proposed(head.end(), self.runtime().elapsed());
        }
        Ok(())
    }

    /// Answers everybody whose offset is visible, or was taken back; after a stop, everybody.
    pub(super) fn settle(&self) {
        let inner = &*self.inner;
        let (cut, committed) = {
            let mut replica = inner.replica.borrow_mut();
            inner.commit.settle(&mut replica);
            (replica.take_cut(), replica.committed())
        };
        if let Some(cut) = cut {
            inner.measured.cut(cut);
            inner.waiters.lost_behind(cut.0, &Refused::LeadershipLost);
        }
        inner.measured.committed(committed, || self.runtime().elapsed());
        inner.waiters.reached(committed.0);
        inner.measured.answered();
        if let Some(stopped) = self.stopped() {
            inner.waiters.lost(&stopped);
        }
    }

    fn not_leader(&self) -> Refused {
        self.stopped().unwrap_or_else(|| Refused::NotLeader(self.leader()))
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.inner.counters.get();
        change(&mut counters);
        self.inner.counters.set(counters);
    }
}
