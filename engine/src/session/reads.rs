//! Reads of a partition's state and log for one connection: when they may be answered, and with
//! what. Lives on the connection's shard core; not `Send`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::limits::DEADLINE_MILLIS_MAX;
use walengine_net::message::{
    EventState, Freshness, IdNamespace, ListAccounts, ListAccountsReply, LookupAccounts,
    LookupAccountsReply, LookupTransfers, MessageError, ReadEntries, ReadLog, Status, StatusReply,
    VerdictState, open_frame,
};
use walengine_net::model::{AccountId, EVENT_BYTES, EventBytes, EventId, Offset};
use walengine_replication::budget::{Budget, Held};

use super::disk_reads::DiskReads;
use super::log_reads::{self, LookUp};
use super::replies::Replies;
use crate::ledger::Ledger;
use crate::limits::{
    HELD_ANSWER_BYTES, LOOKUP_READ_BYTES_MAX, PAGE_BYTES_MAX, READ_WAIT_MAX, READS_INFLIGHT_MAX,
    SMALL_READ_BYTES,
};
use crate::partition::commit::Commit;
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
}

impl<C: Commit> Clone for Reads<C> {
    fn clone(&self) -> Self {
        Self { replies: self.replies.clone(), scratch: self.scratch.clone() }
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
    pub fn new(replies: Replies<C>, scratch: Rc<RefCell<ReadScratch>>) -> Self {
        Self { replies, scratch }
    }

    /// Answers a read, at once or when the state that it asks for is there. The memory for it is taken
    /// first.
    pub fn take(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        let Asked { freshness, answer_bytes } = Asked::of(frame)?;
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
                // The body was opened before.
                Ok(()) => {
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
        if !self.replies.partition.is_readable() {
            return Err(self.replies.partition.stopped().unwrap_or(Refused::NotYet));
        }
        Ok(if freshness == Freshness::Any { Until::Nothing } else { Until::Barrier })
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
        match frame.kind {
            Kind::LookupAccounts => {
                let request = open_frame::<LookupAccounts<'_>>(frame)?;
                self.lookup_accounts(
                    head,
                    held,
                    request.ids.iter().map(|id| AccountId(id.to_native())),
                );
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame)?;
                self.list_accounts(
                    head,
                    held,
                    request.after.to_native(),
                    request.limit.to_native(),
                );
            }
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                let namespace = IdNamespace::from_number(request.namespace)
                    .ok_or(MessageError::Contradiction("no such namespace of ids"))?;
                self.status_of(head, held, namespace, request.ids.iter().map(|id| id.to_native()));
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                let ids: Vec<u128> = request.ids.iter().map(|id| id.to_native()).collect();
                let (replies, disk) = (self.replies.clone(), self.scratch.borrow().disk.clone());
                let look_up = LookUp { by, read_bytes_max: LOOKUP_READ_BYTES_MAX };
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        log_reads::lookup_events(&replies, &disk, head, &ids, look_up).await;
                        drop(held);
                    });
                }
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

    fn lookup_accounts(&self, head: FrameHead, held: Held, ids: impl Iterator<Item = AccountId>) {
        let ReadScratch { accounts, found, .. } = &mut *self.scratch.borrow_mut();
        accounts.clear();
        found.clear();
        let next_offset = self.replies.partition.with_ledger(|ledger| {
            for (id, place) in ids.zip(0..) {
                if let Some(account) = ledger.account(id) {
                    found.push(place);
                    accounts.push(account.to_bytes());
                }
            }
            ledger.next_offset().0
        });
        let reply = LookupAccountsReply { next_offset, found, accounts };
        self.replies.put_read_when_visible(Kind::LookupAccountsReply, head, &reply, held);
    }

    fn list_accounts(&self, head: FrameHead, held: Held, after: u64, limit: u32) {
        let accounts = &mut self.scratch.borrow_mut().accounts;
        accounts.clear();
        let (next_offset, total) = self.replies.partition.with_ledger(|ledger| {
            let first = u32::try_from(after).unwrap_or(u32::MAX);
            let page = ledger.accounts_from(first, limit as usize);
            accounts.extend(page.map(|account| account.to_bytes()));
            (ledger.next_offset().0, u64::from(ledger.accounts_len()))
        });
        let behind = after.saturating_add(accounts.len() as u64);
        let next_cursor = if behind < total && !accounts.is_empty() { behind } else { 0 };
        let reply = ListAccountsReply { next_offset, next_cursor, accounts };
        self.replies.put_read_when_visible(Kind::ListAccountsReply, head, &reply, held);
    }

    fn status_of(
        &self,
        head: FrameHead,
        held: Held,
        namespace: IdNamespace,
        ids: impl Iterator<Item = u128>,
    ) {
        let verdicts = &mut self.scratch.borrow_mut().verdicts;
        verdicts.clear();
        let next_offset = self.replies.partition.with_ledger(|ledger| {
            verdicts.extend(ids.map(|id| {
                let decided = match namespace {
                    IdNamespace::Event => ledger.decided(EventId(id)),
                    IdNamespace::Account => ledger.decided_account(AccountId(id)),
                };
                decided.map_or(VerdictState { known: 0, verdict: 0, offset: 0 }, |decided| {
                    let offset = decided.offset.unwrap_or_default().0;
                    VerdictState { known: 1, verdict: decided.verdict.number(), offset }
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
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                (request.freshness(), request.ids.len() * size_of::<VerdictState>())
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                // Id, place and offset, and the state in two forms.
                let each = 2 * size_of::<EventState>() + 48;
                (request.freshness(), request.ids.len() * each)
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
fn patience(deadline_millis: u32) -> Duration {
    match deadline_millis {
        0 => READ_WAIT_MAX,
        millis => Duration::from_millis(millis.min(DEADLINE_MILLIS_MAX).into()),
    }
}
