//! Reads of a partition's state and log for one connection: when they may be answered, and with
//! what. Lives on the connection's shard core; not `Send`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use walengine_net::frame::{self, Frame, FrameHead, Kind};
use walengine_net::message::{
    ErrorCode, Freshness, IdNamespace, ListAccounts, ListAccountsReply, LookupAccounts,
    LookupAccountsReply, LookupTransfers, Message, MessageError, ReadLog, Status, StatusReply,
    VerdictState, open_frame,
};
use walengine_net::model::{AccountId, EventBytes, EventId, Offset};

use super::outbox::Outbox;
use super::reads;
use super::request::Refused;
use super::served::Served;
use super::status::NodeFacts;
use crate::ledger::Ledger;
use crate::limits::{READ_WAIT_MAX, READS_INFLIGHT_MAX};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Memory that the readers of a shard share, since they run one at a time.
#[derive(Default)]
pub struct ReadScratch {
    accounts: Vec<EventBytes>,
    found: Vec<u32>,
    verdicts: Vec<VerdictState>,
}

/// See the module.
pub struct Reader<D: Disk, R: Runtime> {
    partition: Served<D, R>,
    node: Rc<NodeFacts<D, R>>,
    outbox: Rc<Outbox>,
    scratch: Rc<RefCell<ReadScratch>>,
}

impl<D: Disk, R: Runtime> Clone for Reader<D, R> {
    fn clone(&self) -> Self {
        Self {
            partition: self.partition.clone(),
            node: self.node.clone(),
            outbox: self.outbox.clone(),
            scratch: self.scratch.clone(),
        }
    }
}

/// What a read waits for.
enum Until {
    Nothing,
    Offset(Offset),
    Barrier,
}

impl<D: Disk, R: Runtime> Reader<D, R> {
    /// Answers into `outbox`.
    pub fn new(
        partition: Served<D, R>,
        node: Rc<NodeFacts<D, R>>,
        outbox: Rc<Outbox>,
        scratch: Rc<RefCell<ReadScratch>>,
    ) -> Self {
        Self { partition, node, outbox, scratch }
    }

    /// Answers a read, at once or when the state that it asks for is there.
    pub fn take(&self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        let until = match self.until(freshness(frame)?) {
            Ok(until) => until,
            Err(refused) => {
                self.node.put_refused(&self.outbox, head, &refused);
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
        let reader = self.clone();
        self.spawn_read(async move {
            match reader.wait(until, asked.deadline_millis).await {
                // The body was opened before.
                Ok(()) => drop(reader.answer(&Frame { kind, head: asked, body: &body }, head)),
                Err(refused) => reader.node.put_refused(&reader.outbox, head, &refused),
            }
        });
        Ok(())
    }

    fn until(&self, freshness: Freshness) -> Result<Until, Refused> {
        if !self.partition.is_readable() {
            return Err(self.partition.stopped().unwrap_or(Refused::NotYet));
        }
        match freshness {
            Freshness::Any => Ok(Until::Nothing),
            Freshness::Linearizable => Ok(Until::Barrier),
            Freshness::AtLeast(offset) => {
                let next = self.partition.with_ledger(Ledger::next_offset);
                if offset < next {
                    Ok(Until::Nothing)
                } else if self.partition.leads() {
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
        let runtime = self.partition.runtime().clone();
        let late = async {
            runtime.sleep(wait).await;
            Err(Refused::NotYet)
        };
        let there = async {
            match until {
                Until::Nothing => Ok(()),
                Until::Barrier => self.partition.read_barrier().await,
                Until::Offset(offset) => self.reached(offset).await,
            }
        };
        futures_lite::future::or(there, late).await
    }

    async fn reached(&self, offset: Offset) -> Result<(), Refused> {
        loop {
            let changed = self.partition.changed();
            let changed = changed.changed();
            if let Some(refused) = self.partition.stopped() {
                return Err(refused);
            }
            if offset < self.partition.told_offset() {
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
                let (partition, outbox) = (self.partition.clone(), self.outbox.clone());
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        reads::lookup_events(&partition, &outbox, head, &ids).await;
                    });
                }
            }
            _ => {
                let request = open_frame::<ReadLog>(frame)?;
                let (from, bytes) = (request.from.to_native(), request.bytes_max.to_native());
                let (partition, outbox) = (self.partition.clone(), self.outbox.clone());
                if self.may_wait(head) {
                    self.spawn_read(async move {
                        reads::log_page(&partition, &outbox, head, Offset(from), bytes).await;
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
        let next_offset = self.partition.with_ledger(|ledger| {
            for (id, place) in ids.zip(0..) {
                if let Some(account) = ledger.account(id) {
                    found.push(place);
                    accounts.push(account.to_bytes());
                }
            }
            ledger.next_offset().0
        });
        let reply = LookupAccountsReply { next_offset, found, accounts };
        hold(&self.partition, &self.outbox, Kind::LookupAccountsReply, head, &reply);
    }

    fn list_accounts(&self, head: FrameHead, after: u64, limit: u32) {
        let accounts = &mut self.scratch.borrow_mut().accounts;
        accounts.clear();
        let (next_offset, total) = self.partition.with_ledger(|ledger| {
            let first = u32::try_from(after).unwrap_or(u32::MAX);
            let page = ledger.accounts_from(first, limit as usize);
            accounts.extend(page.map(|account| account.to_bytes()));
            (ledger.next_offset().0, u64::from(ledger.accounts_len()))
        });
        let behind = after.saturating_add(accounts.len() as u64);
        let next_cursor = if behind < total && !accounts.is_empty() { behind } else { 0 };
        let reply = ListAccountsReply { next_offset, next_cursor, accounts };
        hold(&self.partition, &self.outbox, Kind::ListAccountsReply, head, &reply);
    }

    fn status_of(&self, head: FrameHead, namespace: IdNamespace, ids: impl Iterator<Item = u128>) {
        let verdicts = &mut self.scratch.borrow_mut().verdicts;
        verdicts.clear();
        let next_offset = self.partition.with_ledger(|ledger| {
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
        hold(&self.partition, &self.outbox, Kind::StatusReply, head, &reply);
    }

    fn may_wait(&self, head: FrameHead) -> bool {
        let free = self.outbox.reads() < READS_INFLIGHT_MAX;
        if !free {
            self.outbox.put_refused(head, &Refused::Busy { retry_after_millis: 1 });
        }
        free
    }

    fn spawn_read(&self, read: impl Future<Output = ()> + 'static) {
        let outbox = self.outbox.clone();
        outbox.begin_read();
        self.partition.spawn(async move {
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

/// What an answer that waits takes besides its bytes, about.
const HELD_BYTES: usize = 256;

/// Encodes an answer now and sends it when the state that it shows may be told.
pub fn hold<D: Disk, R: Runtime, M: Message>(
    partition: &Served<D, R>,
    outbox: &Rc<Outbox>,
    kind: Kind,
    head: FrameHead,
    reply: &M,
) {
    let mut encoded = Vec::new();
    if frame::encode_as(&mut encoded, kind, head, reply).is_err() {
        let message = "the answer does not fit in a frame: ask for less at once";
        return outbox.put_error(head, ErrorCode::TooLarge, message);
    }
    outbox.begin();
    let outbox = outbox.clone();
    let bytes = HELD_BYTES + encoded.len();
    let answer = move |result: Result<(), &Refused>| {
        match result {
            Ok(()) => outbox.put_frame(&encoded),
            Err(refused) => outbox.put_refused(head, refused),
        }
        outbox.finish();
    };
    partition.when_told(bytes, Box::new(answer));
}
