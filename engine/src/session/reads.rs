//! Reads of a partition's state and log for one connection: when they may be answered, and with
//! what. Lives on the connection's shard core; not `Send`.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::limits::DEADLINE_MILLIS_MAX;
use walengine_net::message::{
    EventState, Freshness, IdNamespace, ListAccounts, ListAccountsReply, LookupAccounts,
    LookupAccountsReply, LookupTransfers, MessageError, ReadEntries, ReadLog, Status, StatusReply,
    VerdictState, open_frame,
};
use walengine_net::model::{AccountId, Decided, EVENT_BYTES, EventBytes, Offset, Verdict};
use walengine_replication::budget::{Budget, Held};

use super::bounded::{Known, lacks_to_read, may_see};
use super::disk_reads::DiskReads;
use super::event_reads;
use super::log_reads::{self, LookUp};
use super::naming;
use super::replies::Replies;
use super::reservations;
use crate::connection::errors::put_forbidden;
use crate::ids::key::{Key, Space};
use crate::ledger::Ledger;
use crate::limits::{
    ENDED_KEPT_MAX, HELD_ANSWER_BYTES, LIST_LOOK_MAX, LOOKUP_READ_BYTES_MAX, PAGE_BYTES_MAX,
    READ_WAIT_MAX, READS_INFLIGHT_MAX, SMALL_READ_BYTES,
};
use crate::partition::commit::Commit;
use crate::policy::{Permit, Ranges, Rights};
use crate::refused::{BUSY, Refused};
use crate::runtime::Runtime;
use crate::shares::small_reads_share;

/// Memory that the readers of a shard share, since they run one at a time.
pub struct ReadScratch {
    accounts: Vec<EventBytes>,
    found: Vec<u32>,
    verdicts: Vec<VerdictState>,
    /// Reads of entries from disk that are under way.
    disk: DiskReads,
    /// What reads with small answers hold.
    small: Budget,
}

impl ReadScratch {
    /// Of one of so many shards.
    pub fn new(cores: usize) -> Self {
        let (disk, small) = (DiskReads::new(cores), Budget::new(small_reads_share(cores)));
        Self { accounts: Vec::new(), found: Vec::new(), verdicts: Vec::new(), disk, small }
    }
}

/// See the module. Clones read for the same connection.
pub struct Reads<C: Commit> {
    replies: Replies<C>,
    scratch: Rc<RefCell<ReadScratch>>,
    permit: Rc<Permit>,
    asked: Rc<AskedOf>,
}

/// What a connection had to ask the log about the events that its requests name.
#[derive(Default)]
struct AskedOf {
    known: RefCell<Known>,
    /// The memory of that.
    held: RefCell<Option<Held>>,
    /// It is asking.
    asks: Cell<bool>,
}

impl<C: Commit> Clone for Reads<C> {
    fn clone(&self) -> Self {
        let Self { replies, scratch, permit, asked } = self;
        let (replies, scratch) = (replies.clone(), scratch.clone());
        Self { replies, scratch, permit: permit.clone(), asked: asked.clone() }
    }
}

/// What a read waits for.
enum Until {
    Nothing,
    Offset(Offset),
    Barrier,
}

impl<C: Commit> Reads<C> {
    /// For one connection, with the shard's scratch memory.
    pub fn new(replies: Replies<C>, scratch: Rc<RefCell<ReadScratch>>, permit: Rc<Permit>) -> Self {
        Self { replies, scratch, permit, asked: Rc::default() }
    }

    /// What events in the log touch, as far as it was asked for.
    pub fn known(&self) -> Ref<'_, Known> {
        self.asked.known.borrow()
    }

    /// Asks the log what these events touch. Wakes who waits for the partition when that is known, or
    /// can't be.
    pub fn find_out(&self, ids: Vec<u128>) {
        let outbox = &self.replies.outbox;
        if self.asked.asks.get() || outbox.reads() >= READS_INFLIGHT_MAX {
            return;
        }
        let Some(held) = self.memory(ids.len() * EVENT_STATE_BYTES) else { return };
        self.asked.asks.set(true);
        // What is forgotten is asked for again, all at once: it must find room beside what is new.
        if self.asked.known.borrow().len() + ids.len() > ENDED_KEPT_MAX {
            self.forget_known();
        }
        let by = self.replies.partition.runtime().elapsed() + READ_WAIT_MAX;
        let look_up = LookUp { by, read_bytes_max: LOOKUP_READ_BYTES_MAX };
        let (reads, disk) = (self.clone(), self.scratch.borrow().disk.clone());
        self.spawn_read(async move {
            let found = event_reads::touched(&reads.replies, &disk, &ids, look_up).await;
            if let Ok(found) = found {
                reads.asked.known.borrow_mut().extend(found);
                reads.asked.held.replace(Some(held));
            }
            reads.asked.asks.set(false);
            reads.replies.partition.note_looked_up();
        });
    }

    /// The request that had to ask is decided.
    pub fn forget_known(&self) {
        if !self.asked.known.borrow().is_empty() {
            self.asked.known.take();
            self.asked.held.take();
        }
    }

    /// Answers a read, at once or when the state that it asks for is there. The memory for it is taken
    /// first.
    pub fn take(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        let Asked { freshness, mut answer_bytes } = Asked::of(frame)?;
        if frame.kind == Kind::Status && self.permit.bounded().is_some() {
            // What the ids stand for is looked up.
            answer_bytes *= EVENT_STATE_BYTES / size_of::<VerdictState>();
        }
        let until = match self.until(freshness) {
            Ok(until) => until,
            Err(refused) => {
                self.replies.put_refused(head, &refused);
                return Ok(());
            }
        };
        let waits = !matches!(until, Until::Nothing);
        let bytes = answer_bytes + if waits { frame.body.len() } else { 0 };
        let Some(held) = self.memory(bytes) else {
            self.replies.put_refused(head, &BUSY);
            return Ok(());
        };
        let by = self.replies.partition.runtime().elapsed() + patience(frame.head.deadline_millis);
        if !waits {
            return self.answer(frame, head, held, by);
        }
        if !self.may_wait(head) {
            return Ok(());
        }
        let (kind, asked, body) = (frame.kind, frame.head, frame.body.to_vec());
        let reads = self.clone();
        self.spawn_read(async move {
            match reads.wait(until, asked.deadline_millis).await {
                Ok(()) => {
                    // The right may have gone meanwhile. The body was opened before.
                    if let Err(forbidden) = reads.permit.check(kind) {
                        return put_forbidden(&reads.replies.outbox, head, &forbidden);
                    }
                    let _ = reads.answer(&Frame { kind, head: asked, body: &body }, head, held, by);
                }
                Err(refused) => reads.replies.put_refused(head, &refused),
            }
        });
        Ok(())
    }

    /// Takes memory for a read and its answer; `None` if others have it, and while too many answers wait
    /// for the log.
    fn memory(&self, bytes: usize) -> Option<Held> {
        if self.replies.partition.has_too_many_waiting() {
            None
        } else if bytes <= SMALL_READ_BYTES {
            self.scratch.borrow().small.try_take(HELD_ANSWER_BYTES + bytes)
        } else {
            self.replies.outbox.budget().try_take(bytes)
        }
    }

    fn until(&self, freshness: Freshness) -> Result<Until, Refused> {
        if let Freshness::AtLeast(offset) = freshness {
            let next = self.replies.partition.with_ledger(Ledger::next_offset);
            let is_there = offset < next && self.replies.partition.is_readable();
            return Ok(if is_there { Until::Nothing } else { Until::Offset(offset) });
        }
        let partition = &self.replies.partition;
        match (freshness, partition.is_readable()) {
            (Freshness::Any, true) => Ok(Until::Nothing),
            (_, true) => Ok(Until::Barrier),
            (_, false) if partition.is_asking() => Ok(Until::Barrier),
            (_, false) => Err(partition.stopped().unwrap_or(Refused::NotYet)),
        }
    }

    async fn wait(&self, until: Until, deadline_millis: u32) -> Result<(), Refused> {
        let wait = patience(deadline_millis).min(READ_WAIT_MAX);
        let runtime = self.replies.partition.runtime().clone();
        let late = async {
            runtime.sleep(wait).await;
            Err(Refused::NotYet)
        };
        let there = async {
            match until {
                Until::Nothing => Ok(()),
                Until::Barrier => self.replies.partition.read_barrier().await,
                Until::Offset(offset) => self.reached(offset).await,
            }
        };
        let gone = async {
            self.replies.outbox.ended().await;
            Err(Refused::NotYet) // nobody hears it
        };
        futures_lite::future::or(there, futures_lite::future::or(late, gone)).await
    }

    async fn reached(&self, offset: Offset) -> Result<(), Refused> {
        loop {
            let changed = self.replies.partition.changed();
            let changed = changed.changed();
            if let Some(refused) = self.replies.partition.stopped() {
                return Err(refused);
            }
            let partition = &self.replies.partition;
            if offset < partition.visible_offset() && partition.is_readable() {
                return Ok(());
            }
            changed.await;
        }
    }

    /// The caller waits until `by`.
    fn answer(
        &self,
        frame: &Frame<'_>,
        head: FrameHead,
        held: Held,
        by: Duration,
    ) -> Result<(), MessageError> {
        let bounded = self.permit.bounded();
        match frame.kind {
            Kind::LookupAccounts => {
                let request = open_frame::<LookupAccounts<'_>>(frame)?;
                self.lookup_accounts(
                    head,
                    held,
                    request.ids.iter().map(|id| AccountId(id.to_native())),
                    bounded.as_deref(),
                );
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame)?;
                self.list_accounts(
                    head,
                    held,
                    request.after.to_native(),
                    request.limit.to_native(),
                    bounded.as_deref(),
                );
            }
            Kind::LookupNames | Kind::FindNames | Kind::ListLedgers => {
                let Self { replies, permit, .. } = self;
                naming::answer(replies, permit, frame, head, held, bounded.as_deref())?;
            }
            Kind::ListReservations => {
                reservations::answer(&self.replies, frame, head, held, bounded.as_deref())?;
            }
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                let namespace = IdNamespace::from_number(request.namespace)
                    .ok_or(MessageError::Contradiction("no such namespace of ids"))?;
                let ids = request.ids.iter().map(|id| id.to_native());
                if let (Some(_), IdNamespace::Event) = (&bounded, namespace) {
                    self.look_up_events(Kind::StatusReply, head, held, ids.collect(), by, bounded);
                    return Ok(());
                }
                self.status_of(head, held, namespace, ids, by, bounded);
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                let ids = request.ids.iter().map(|id| id.to_native()).collect();
                self.look_up_events(Kind::LookupTransfersReply, head, held, ids, by, bounded);
            }
            Kind::ReadEntries => {
                let request = open_frame::<ReadEntries>(frame)?;
                let (from, bytes) = (request.from_index.to_native(), request.bytes_max.to_native());
                let (replies, disk) = (self.replies.clone(), self.scratch.borrow().disk.clone());
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        log_reads::entries_page(&replies, &disk, head, from, bytes, held).await;
                    });
                }
            }
            _ => {
                let request = open_frame::<ReadLog>(frame)?;
                let (from, bytes) = (request.from.to_native(), request.bytes_max.to_native());
                let (replies, disk) = (self.replies.clone(), self.scratch.borrow().disk.clone());
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        log_reads::log_page(&replies, &disk, head, Offset(from), bytes, held).await;
                    });
                }
            }
        }
        Ok(())
    }

    /// Answers with what the log has of these events, by a reply of this kind.
    fn look_up_events(
        &self,
        kind: Kind,
        head: FrameHead,
        held: Held,
        ids: Vec<u128>,
        by: Duration,
        bounded: Option<Arc<Rights>>,
    ) {
        if !self.may_wait(head) {
            return;
        }
        let (replies, disk) = (self.replies.clone(), self.scratch.borrow().disk.clone());
        let look_up = LookUp { by, read_bytes_max: LOOKUP_READ_BYTES_MAX };
        self.spawn_read(async move {
            let rights = bounded.as_deref();
            event_reads::answer(&replies, &disk, kind, head, &ids, look_up, rights).await;
            drop(held);
        });
    }

    fn lookup_accounts(
        &self,
        head: FrameHead,
        held: Held,
        ids: impl Iterator<Item = AccountId> + Clone,
        bounded: Option<&Rights>,
    ) {
        if let Some(lacks) = lacks_to_read(bounded, ids.clone()) {
            if let Some(forbidden) = self.permit.forbidden(lacks) {
                put_forbidden(&self.replies.outbox, head, &forbidden);
            }
            return;
        }
        let ReadScratch { accounts, found, .. } = &mut *self.scratch.borrow_mut();
        accounts.clear();
        found.clear();
        let next_offset = self.replies.partition.with_ledger(|ledger| {
            for (id, place) in ids.zip(0..) {
                let account = ledger.account(id).filter(|account| may_see(bounded, account));
                if let Some(account) = account {
                    found.push(place);
                    accounts.push(account.to_bytes());
                }
            }
            ledger.next_offset().0
        });
        let reply = LookupAccountsReply { next_offset, found, accounts };
        self.replies.put_read_when_visible(Kind::LookupAccountsReply, head, &reply, held);
    }

    fn list_accounts(
        &self,
        head: FrameHead,
        held: Held,
        after: u64,
        limit: u32,
        bounded: Option<&Rights>,
    ) {
        let accounts = &mut self.scratch.borrow_mut().accounts;
        accounts.clear();
        let (next_offset, behind, total) = self.replies.partition.with_ledger(|ledger| {
            let first = u32::try_from(after).unwrap_or(u32::MAX);
            let (limit, mut behind) = (limit as usize, after);
            // Those that are left out make a page shorter, or none of it in the end.
            let look_max = if bounded.is_some() { LIST_LOOK_MAX.max(limit) } else { limit };
            for account in ledger.accounts_from(first, look_max) {
                if accounts.len() == limit {
                    break;
                }
                behind = behind.saturating_add(1);
                if may_see(bounded, &account) {
                    accounts.push(account.to_bytes());
                }
            }
            (ledger.next_offset().0, behind, u64::from(ledger.accounts_len()))
        });
        let next_cursor = if behind < total && behind > after { behind } else { 0 };
        let reply = ListAccountsReply { next_offset, next_cursor, accounts };
        self.replies.put_read_when_visible(Kind::ListAccountsReply, head, &reply, held);
    }

    /// Answers with the first verdicts of ids, at once if they are in memory.
    fn status_of(
        &self,
        head: FrameHead,
        held: Held,
        namespace: IdNamespace,
        ids: impl Iterator<Item = u128>,
        by: Duration,
        bounded: Option<Arc<Rights>>,
    ) {
        let space = match namespace {
            IdNamespace::Event => Space::Event,
            IdNamespace::Account => Space::Account,
        };
        let keys: Vec<Key> = ids.map(|id| Key::new(id, space)).collect();
        let partition = &self.replies.partition;
        if let Some(decided) = partition.decided_now(&keys) {
            return self.put_status(head, held, &keys, &decided, bounded.as_deref());
        }
        if !self.may_wait(head) {
            return;
        }
        let (reads, disk) = (self.clone(), self.scratch.borrow().disk.clone());
        self.spawn_read(async move {
            let replies = &reads.replies;
            let found = async {
                let _turn = disk.turn().await;
                replies.partition.decided(&keys).await
            };
            let found = log_reads::in_time(replies, by, found).await;
            match found.and_then(|found| found.map_err(log_reads::NotFound::Unreadable)) {
                Ok(decided) => reads.put_status(head, held, &keys, &decided, bounded.as_deref()),
                Err(error) => log_reads::put_not_found(replies, head, error),
            }
        });
    }

    fn put_status(
        &self,
        head: FrameHead,
        held: Held,
        keys: &[Key],
        decided: &[Option<Decided>],
        bounded: Option<&Rights>,
    ) {
        let verdicts = &mut self.scratch.borrow_mut().verdicts;
        verdicts.clear();
        let next_offset = self.replies.partition.with_ledger(|ledger| {
            // Which ledger an account was for that was not created is not remembered.
            let may = |id: AccountId| {
                bounded.is_none_or(|rights| match ledger.account(id) {
                    Some(account) => may_see(bounded, &account),
                    None => rights.read.ledgers(id.book()).is_some_and(Ranges::is_all),
                })
            };
            verdicts.extend(keys.iter().zip(decided).map(|(key, decided)| {
                let hidden = key.space == Space::Account && !may(AccountId(key.id));
                let decided = decided.filter(|_| !hidden);
                decided.map_or(VerdictState { known: 0, verdict: 0, offset: 0 }, |decided| {
                    let offset = decided.offset.unwrap_or_default().0;
                    // Not all partitions have the striped account, or know that it is closed.
                    let is_over = !ledger.is_announced(key.id);
                    let verdict = if is_over { decided.verdict } else { Verdict::InDoubt };
                    VerdictState { known: 1, verdict: verdict.number(), offset }
                })
            }));
            ledger.next_offset().0
        });
        let reply = StatusReply { next_offset, states: verdicts };
        self.replies.put_read_when_visible(Kind::StatusReply, head, &reply, held);
    }

    fn may_wait(&self, head: FrameHead) -> bool {
        let free = self.replies.outbox.reads() < READS_INFLIGHT_MAX;
        if !free {
            self.replies.outbox.put_busy(head);
        }
        free
    }

    fn spawn_read(&self, read: impl Future<Output = ()> + 'static) {
        let outbox = self.replies.outbox.clone();
        outbox.begin_read();
        self.replies.partition.spawn(|_| async move {
            read.await;
            outbox.finish_read();
        });
    }
}

/// What an event that is looked up takes: id, place and offset, and the state in two forms.
const EVENT_STATE_BYTES: usize = 2 * size_of::<EventState>() + 48;

/// What a read asks for.
struct Asked {
    freshness: Freshness,
    /// The most that its answer takes, with what is needed to make it.
    answer_bytes: usize,
}

impl Asked {
    /// Opens the request for the first time.
    fn of(frame: &Frame<'_>) -> Result<Self, MessageError> {
        let (freshness, answer_bytes) = match frame.kind {
            Kind::LookupAccounts => {
                let request = open_frame::<LookupAccounts<'_>>(frame)?;
                (request.freshness(), request.ids.len() * (EVENT_BYTES + 4))
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame)?;
                (request.freshness(), request.limit.to_native() as usize * EVENT_BYTES)
            }
            Kind::LookupNames | Kind::FindNames | Kind::ListLedgers => naming::asked(frame)?,
            Kind::ListReservations => reservations::asked(frame)?,
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                (request.freshness(), request.ids.len() * size_of::<VerdictState>())
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                (request.freshness(), request.ids.len() * EVENT_STATE_BYTES)
            }
            Kind::ReadEntries => {
                let request = open_frame::<ReadEntries>(frame)?;
                let bytes = (request.bytes_max.to_native() as usize).min(PAGE_BYTES_MAX);
                (request.freshness(), bytes.max(SMALL_READ_BYTES + 1))
            }
            _ => {
                let request = open_frame::<ReadLog>(frame)?;
                let bytes = (request.bytes_max.to_native() as usize).min(PAGE_BYTES_MAX);
                (request.freshness(), bytes.max(SMALL_READ_BYTES + 1))
            }
        };
        Ok(Self { freshness, answer_bytes })
    }
}

/// How long a caller waits.
pub(super) fn patience(deadline_millis: u32) -> Duration {
    match deadline_millis {
        0 => READ_WAIT_MAX,
        millis => Duration::from_millis(millis.min(DEADLINE_MILLIS_MAX).into()),
    }
}
