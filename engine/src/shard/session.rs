//! What a server does with the frames of one connection. No sockets: frames in, answers into the
//! [`Outbox`]. Lives on the shard core of the connection's partition; not `Send`.

use std::cell::RefCell;
use std::rc::Rc;

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::frame::{self, Frame, FrameHead, Kind};
use walengine_net::limits::{BODY_BYTES_MAX, EVENTS_MAX, INFLIGHT_MAX};
use walengine_net::message::{
    Append, ErrorCode, Hello, HelloReply, IdNamespace, ListAccounts, ListAccountsReply,
    LookupAccounts, LookupAccountsReply, LookupTransfers, Message, MessageError, OutcomeRuns,
    ReadLog, ServerStatus, Status, StatusReply, Submit, SubmitReply, Subscribe, Unsubscribe,
    VerdictState, offset_number, open_frame,
};
use walengine_net::model::{AccountId, EventBytes, EventId, Offset};

use super::outbox::Outbox;
use super::partition::{Partition, Refused, Taken};
use super::status::{self, NodeFacts};
use super::{feed::Subscriptions, reads};
use crate::ledger::{Ledger, Outcomes};
use crate::limits::READS_INFLIGHT_MAX;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Name and version, told to clients.
pub const SERVER_VERSION: &str = concat!("walengine ", env!("CARGO_PKG_VERSION"));

/// Memory that the sessions of a shard share, since they run one at a time.
#[derive(Default)]
pub struct Scratch {
    outcomes: Outcomes,
    runs: OutcomeRuns,
    heads: Vec<RecordHead>,
    accounts: Vec<EventBytes>,
    found: Vec<u32>,
    verdicts: Vec<VerdictState>,
}

/// One connection's requests.
pub struct Session<D: Disk, R: Runtime> {
    partition: Partition<D, R>,
    node: Rc<NodeFacts<D, R>>,
    outbox: Rc<Outbox>,
    scratch: Rc<RefCell<Scratch>>,
    subscriptions: Subscriptions,
    greeted: bool,
}

/// Why the connection must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close;

impl<D: Disk, R: Runtime> Session<D, R> {
    /// A session on the partition that the connection named.
    pub fn new(
        partition: Partition<D, R>,
        node: Rc<NodeFacts<D, R>>,
        outbox: Rc<Outbox>,
        scratch: Rc<RefCell<Scratch>>,
    ) -> Self {
        let subscriptions = Subscriptions::default();
        Self { partition, node, outbox, scratch, subscriptions, greeted: false }
    }

    /// The partition that it is on.
    pub fn partition_id(&self) -> walengine_net::model::PartitionId {
        self.partition.identity().partition
    }

    /// Acts on a frame whose checksum has been verified.
    pub fn handle(&mut self, frame: &Frame<'_>) -> Result<(), Close> {
        let head = FrameHead::reply(self.partition.identity().partition, frame.head.request);
        if frame.head.partition != head.partition {
            let message = "this connection is for another partition: open one for each";
            self.outbox.put_error(head, ErrorCode::WrongPartition, message);
            return Ok(());
        }
        if !self.greeted && frame.kind != Kind::Hello {
            self.outbox.put_error(head, ErrorCode::Malformed, "the first frame must be a hello");
            return Err(Close);
        }
        if self.outbox.unanswered() >= INFLIGHT_MAX {
            self.outbox.put_refused(head, &Refused::Busy { retry_after_millis: 1 });
            return Ok(());
        }
        if let Err(error) = self.dispatch(frame, head) {
            let code = match error {
                MessageError::TooMany { .. } => ErrorCode::TooLarge,
                MessageError::Kind { .. } => ErrorCode::UnknownKind,
                _ => ErrorCode::Malformed,
            };
            self.outbox.put_error(head, code, &error.to_string());
        }
        Ok(())
    }

    fn dispatch(&mut self, frame: &Frame<'_>, head: FrameHead) -> Result<(), MessageError> {
        match frame.kind {
            Kind::Hello => {
                open_frame::<Hello<'_>>(frame)?;
                self.hello(head);
            }
            Kind::Submit => {
                let request = open_frame::<Submit<'_>>(frame)?;
                self.write(Kind::SubmitReply, head, |partition, outcomes, _| {
                    partition.submit(&request.events, outcomes)
                });
            }
            Kind::Append => {
                let request = open_frame::<Append<'_>>(frame)?;
                let expected = request.expected_offset.to_native();
                self.write(Kind::AppendReply, head, |partition, outcomes, heads| {
                    heads.clear();
                    heads.extend(request.heads.iter().zip(0..).map(|(head, place)| RecordHead {
                        id: head.id.to_native(),
                        expected_offset: expected_at(expected, place),
                        bytes: head.bytes.to_native(),
                    }));
                    partition.append_records(heads, &request.blob, outcomes)
                });
            }
            Kind::LookupAccounts => {
                let request = open_frame::<LookupAccounts<'_>>(frame)?;
                let ids = request.ids.iter().map(|id| AccountId(id.to_native()));
                self.lookup_accounts(head, request.at_least(), ids);
            }
            Kind::ListAccounts => {
                let request = open_frame::<ListAccounts>(frame)?;
                let (after, limit) = (request.after.to_native(), request.limit.to_native());
                self.list_accounts(head, request.at_least(), after, limit);
            }
            Kind::Status => {
                let request = open_frame::<Status<'_>>(frame)?;
                let namespace = IdNamespace::from_number(request.namespace)
                    .ok_or(MessageError::Contradiction("no such namespace of ids"))?;
                let ids = request.ids.iter().map(|id| id.to_native());
                self.status_of(head, request.at_least(), namespace, ids);
            }
            Kind::LookupTransfers => {
                let request = open_frame::<LookupTransfers<'_>>(frame)?;
                let ids: Vec<u128> = request.ids.iter().map(|id| id.to_native()).collect();
                if self.reaches(head, request.at_least()) && self.may_read(head) {
                    let (partition, outbox) = (self.partition.clone(), self.outbox.clone());
                    self.spawn_read(async move {
                        reads::lookup_events(&partition, &outbox, head, &ids).await;
                    });
                }
            }
            Kind::ReadLog => {
                let request = open_frame::<ReadLog>(frame)?;
                let (from, bytes) = (request.from.to_native(), request.bytes_max.to_native());
                if self.reaches(head, request.at_least()) && self.may_read(head) {
                    let (partition, outbox) = (self.partition.clone(), self.outbox.clone());
                    self.spawn_read(async move {
                        reads::log_page(&partition, &outbox, head, Offset(from), bytes).await;
                    });
                }
            }
            Kind::Subscribe => {
                let request = open_frame::<Subscribe>(frame)?;
                let (from, credit) = (request.from.to_native(), request.credit_bytes.to_native());
                self.subscriptions.open(&self.partition, &self.outbox, head, Offset(from), credit);
            }
            Kind::Credit => {
                let request = open_frame::<walengine_net::message::Credit>(frame)?;
                self.subscriptions.credit(head.request, request.bytes.to_native());
            }
            Kind::Unsubscribe => {
                open_frame::<Unsubscribe>(frame)?;
                self.subscriptions.close(&self.outbox, head);
            }
            Kind::ServerStatus => {
                open_frame::<ServerStatus>(frame)?;
                status::answer(&self.node, &self.outbox, head);
            }
            reply => return Err(MessageError::Kind { expected: Kind::Hello, found: reply }),
        }
        Ok(())
    }

    fn hello(&mut self, head: FrameHead) {
        self.greeted = true;
        let identity = self.partition.identity();
        let reply = HelloReply {
            cluster: identity.cluster.0,
            node: identity.node,
            next_offset: self.partition.with_ledger(Ledger::next_offset).0,
            durable_offset: self.partition.durable_offset().0,
            partitions: self.partition.with_ledger(Ledger::partitions),
            is_leader: 1,
            body_bytes_max: BODY_BYTES_MAX as u32,
            events_max: EVENTS_MAX as u32,
            inflight_max: INFLIGHT_MAX as u32,
            server_version: SERVER_VERSION,
            leader: "",
        };
        self.outbox.put(Kind::HelloReply, head, &reply);
    }

    fn write(
        &self,
        kind: Kind,
        head: FrameHead,
        decide: impl FnOnce(
            &Partition<D, R>,
            &mut Outcomes,
            &mut Vec<RecordHead>,
        ) -> Result<Taken, Refused>,
    ) {
        let Scratch { outcomes, runs, heads, .. } = &mut *self.scratch.borrow_mut();
        outcomes.clear();
        let taken = match decide(&self.partition, outcomes, heads) {
            Ok(taken) => taken,
            Err(refused) => return self.outbox.put_refused(head, &refused),
        };
        runs.clear();
        // Fresh records have growing offsets; a repeat points at or below one already seen.
        let mut fresh_from = taken.fresh_from;
        for outcome in &*outcomes {
            let fresh = outcome.offset.is_none_or(|offset| offset >= fresh_from);
            let timestamp = outcome.offset.map_or_else(Default::default, |at| taken.time_of(at));
            runs.push(outcome.verdict, outcome.offset, fresh, timestamp);
            if let (true, Some(offset)) = (fresh, outcome.offset) {
                fresh_from = offset.plus(1);
            }
        }
        let next = self.partition.with_ledger(Ledger::next_offset);
        let reply = SubmitReply {
            token_offset: offset_number(next.0.checked_sub(1).map(Offset)),
            runs: runs.as_slice(),
        };
        self.hold(kind, head, &reply);
    }

    fn lookup_accounts(
        &self,
        head: FrameHead,
        at_least: Option<Offset>,
        ids: impl Iterator<Item = AccountId>,
    ) {
        if !self.reaches(head, at_least) {
            return;
        }
        let Scratch { accounts, found, .. } = &mut *self.scratch.borrow_mut();
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
        self.hold(Kind::LookupAccountsReply, head, &reply);
    }

    fn list_accounts(&self, head: FrameHead, at_least: Option<Offset>, after: u64, limit: u32) {
        if !self.reaches(head, at_least) {
            return;
        }
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
        self.hold(Kind::ListAccountsReply, head, &reply);
    }

    fn status_of(
        &self,
        head: FrameHead,
        at_least: Option<Offset>,
        namespace: IdNamespace,
        ids: impl Iterator<Item = u128>,
    ) {
        if !self.reaches(head, at_least) {
            return;
        }
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
        self.hold(Kind::StatusReply, head, &StatusReply { next_offset, states: verdicts });
    }

    /// Encodes an answer now and sends it when the state that it shows is durable.
    fn hold<M: Message>(&self, kind: Kind, head: FrameHead, reply: &M) {
        let mut encoded = Vec::new();
        if frame::encode_as(&mut encoded, kind, head, reply).is_err() {
            let message = "the answer does not fit in a frame: ask for less at once";
            return self.outbox.put_error(head, ErrorCode::TooLarge, message);
        }
        self.outbox.begin();
        let outbox = self.outbox.clone();
        let answer = move |result: Result<(), &Refused>| {
            match result {
                Ok(()) => outbox.put_frame(&encoded),
                Err(refused) => outbox.put_refused(head, refused),
            }
            outbox.finish();
        };
        self.partition.when_durable(HELD_BYTES + std::mem::size_of_val(&answer), Box::new(answer));
    }

    /// This node alone decides, so a state that it has not reached is one that never was.
    fn reaches(&self, head: FrameHead, at_least: Option<Offset>) -> bool {
        let next = self.partition.with_ledger(Ledger::next_offset);
        let reached = at_least.is_none_or(|offset| offset < next);
        if !reached {
            let message = format!("the log ends at offset {next}: the token is not of this log");
            self.outbox.put_error(head, ErrorCode::NotYet, &message);
        }
        reached
    }

    fn may_read(&self, head: FrameHead) -> bool {
        let free = self.outbox.reads() < READS_INFLIGHT_MAX;
        if !free {
            self.outbox.put_refused(head, &Refused::Busy { retry_after_millis: 1 });
        }
        free
    }

    fn spawn_read(&self, read: impl Future<Output = ()> + 'static) {
        let outbox = self.outbox.clone();
        outbox.begin_read();
        self.partition.runtime().spawn(async move {
            read.await;
            outbox.finish_read();
        });
    }
}

impl<D: Disk, R: Runtime> Drop for Session<D, R> {
    fn drop(&mut self) {
        self.subscriptions.close_all();
    }
}

/// What an answer that waits takes besides its bytes, about.
const HELD_BYTES: usize = 256;

/// Offset that record `place` of a conditional batch must get.
fn expected_at(expected: u64, place: u64) -> u64 {
    // Saturating at `ANY_OFFSET` would turn a condition off; no log gets that far.
    if expected == ANY_OFFSET {
        ANY_OFFSET
    } else {
        expected.saturating_add(place).min(ANY_OFFSET - 1)
    }
}
