//! Reads of a partition's state and log for one connection: when they may be answered, and with
//! what. Lives on the connection's shard core; not `Send`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::message::{
    Freshness, IdNamespace, ListAccounts, ListAccountsReply, LookupAccounts, LookupAccountsReply,
    LookupTransfers, MessageError, ReadLog, Status, StatusReply, VerdictState, open_frame,
};
use walengine_net::model::{AccountId, EventBytes, EventId, Offset};

use super::log_reads;
use super::replies::Replies;
use crate::ledger::Ledger;
use crate::limits::{READ_WAIT_MAX, READS_INFLIGHT_MAX};
use crate::partition::commit::Commit;
use crate::refused::Refused;
use crate::runtime::Runtime;

/// Memory that the readers of a shard share, since they run one at a time.
#[derive(Default)]
pub struct ReadScratch {
    accounts: Vec<EventBytes>,
    found: Vec<u32>,
    verdicts: Vec<VerdictState>,
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

    /// Answers a read, at once or when the state that it asks for is there.
    pub fn take(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        let until = match self.until(freshness(frame)?) {
            Ok(until) => until,
            Err(refused) => {
                self.replies.put_refused(head, &refused);
                return Ok(());
            }
        };
        if matches!(until, Until::Nothing) {
            return self.answer(frame, head);
        }
        if !self.may_wait(head) {
            return Ok(());
        }
        let (kind, asked, body) = (frame.kind, frame.head, frame.body.to_vec());
        let reads = self.clone();
        self.spawn_read(async move {
            match reads.wait(until, asked.deadline_millis).await {
                // The body was opened before.
                Ok(()) => drop(reads.answer(&Frame { kind, head: asked, body: &body }, head)),
                Err(refused) => reads.replies.put_refused(head, &refused),
            }
        });
        Ok(())
    }

    fn until(&self, freshness: Freshness) -> Result<Until, Refused> {
        if !self.replies.partition.is_readable() {
            return Err(self.replies.partition.stopped().unwrap_or(Refused::NotYet));
        }
        match freshness {
            Freshness::Any => Ok(Until::Nothing),
            Freshness::Linearizable => Ok(Until::Barrier),
            Freshness::AtLeast(offset) => {
                let next = self.replies.partition.with_ledger(Ledger::next_offset);
                if offset < next {
                    Ok(Until::Nothing)
                } else if self.replies.partition.leads() {
                    // This node alone decides, so a state that it has not reached never was.
                    Err(Refused::NotYet)
                } else {
                    Ok(Until::Offset(offset))
                }
            }
        }
    }

    async fn wait(&self, until: Until, deadline_millis: u32) -> Result<(), Refused> {
        let wait = match deadline_millis {
            0 => READ_WAIT_MAX,
            millis => READ_WAIT_MAX.min(Duration::from_millis(millis.into())),
        };
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
        futures_lite::future::or(there, late).await
    }

    async fn reached(&self, offset: Offset) -> Result<(), Refused> {
        loop {
            let changed = self.replies.partition.changed();
            let changed = changed.changed();
            if let Some(refused) = self.replies.partition.stopped() {
                return Err(refused);
            }
            if offset < self.replies.partition.visible_offset() {
                return Ok(());
            }
            changed.await;
        }
    }

    fn answer(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        match frame.kind {
            Kind::LookupAccounts => {
                let request = open_frame::<LookupAccounts<'_>>(frame)?;
                self.lookup_accounts(head, request.ids.iter().map(|id| AccountId(id.to_native())));
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame)?;
                self.list_accounts(head, request.after.to_native(), request.limit.to_native());
            }
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                let namespace = IdNamespace::from_number(request.namespace)
                    .ok_or(MessageError::Contradiction("no such namespace of ids"))?;
                self.status_of(head, namespace, request.ids.iter().map(|id| id.to_native()));
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                let ids: Vec<u128> = request.ids.iter().map(|id| id.to_native()).collect();
                let replies = self.replies.clone();
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        log_reads::lookup_events(&replies, head, &ids).await;
                    });
                }
            }
            _ => {
                let request = open_frame::<ReadLog>(frame)?;
                let (from, bytes) = (request.from.to_native(), request.bytes_max.to_native());
                let replies = self.replies.clone();
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        log_reads::log_page(&replies, head, Offset(from), bytes).await;
                    });
                }
            }
        }
        Ok(())
    }

    fn lookup_accounts(&self, head: FrameHead, ids: impl Iterator<Item = AccountId>) {
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
        self.replies.put_when_visible(Kind::LookupAccountsReply, head, &reply);
    }

    fn list_accounts(&self, head: FrameHead, after: u64, limit: u32) {
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
        self.replies.put_when_visible(Kind::ListAccountsReply, head, &reply);
    }

    fn status_of(&self, head: FrameHead, namespace: IdNamespace, ids: impl Iterator<Item = u128>) {
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
        self.replies.put_when_visible(Kind::StatusReply, head, &reply);
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

fn freshness(frame: &Frame<'_>) -> Result<Freshness, MessageError> {
    Ok(match frame.kind {
        Kind::LookupAccounts => open_frame::<LookupAccounts<'_>>(frame)?.freshness(),
        Kind::ListAccounts => open_frame::<ListAccounts>(frame)?.freshness(),
        Kind::Status => open_frame::<Status<'_>>(frame)?.freshness(),
        Kind::LookupTransfers => open_frame::<LookupTransfers<'_>>(frame)?.freshness(),
        _ => open_frame::<ReadLog>(frame)?.freshness(),
    })
}
