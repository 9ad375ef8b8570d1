//! Answers on their way to one connection. Lives on the connection's shard core; not `Send`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use walengine_net::frame::{self, FrameHead, Kind, RequestId};
use walengine_net::message::{ErrorCode, ErrorReply, Message};
use walengine_replication::budget::{Budget, Held};

use crate::limits::{CONNECTION_OUT_BYTES_MAX, OUT_BYTES_KEPT};
use crate::local::Notify;
use crate::refused::{BUSY_READING, Refused};

/// Encoded answers that wait to be sent, and how many more are to come.
pub struct Outbox {
    bytes: RefCell<Vec<u8>>,
    /// Memory of what was taken and is not sent yet.
    sending_bytes: Cell<usize>,
    budget: Budget,
    /// Invariant: the memory of `bytes`, and `sending_bytes`, above [`OUT_BYTES_KEPT`].
    held: RefCell<Held>,
    /// Answers that may not be sent yet, by number, with their memory.
    parked: RefCell<BTreeMap<u64, (Vec<u8>, Held)>>,
    next_parked: Cell<u64>,
    /// Requests that were answered busy since somebody asked: their ids are free again.
    freed: RefCell<Vec<RequestId>>,
    /// Requests that were taken and not answered.
    unanswered: Cell<usize>,
    /// Those of them that read from disk.
    reads: Cell<usize>,
    ended: Cell<bool>,
    cut: Cell<bool>,
    /// Its connection goes to another core, once what sends on it has let go.
    moving: Cell<bool>,
    released: Cell<bool>,
    changed: Notify,
    end: Notify,
}

impl Default for Outbox {
    /// One whose budget has no limit.
    fn default() -> Self {
        Self::new(&Budget::default())
    }
}

impl Outbox {
    /// An empty one, within the budget of its executor.
    pub fn new(budget: &Budget) -> Self {
        Self {
            bytes: RefCell::default(),
            sending_bytes: Cell::new(0),
            budget: budget.clone(),
            held: RefCell::new(budget.hold()),
            parked: RefCell::default(),
            next_parked: Cell::new(0),
            freed: RefCell::default(),
            unanswered: Cell::new(0),
            reads: Cell::new(0),
            ended: Cell::new(false),
            cut: Cell::new(false),
            moving: Cell::new(false),
            released: Cell::new(false),
            changed: Notify::new(),
            end: Notify::new(),
        }
    }

    /// The memory that the connections of its executor may hold.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Something was put in, taken out, or ended.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Takes what waits to be sent, leaving `spare`'s memory in its place.
    pub fn take(&self, spare: Vec<u8>) -> Vec<u8> {
        debug_assert!(spare.is_empty(), "the memory left behind must be empty");
        let taken = self.bytes.replace(spare);
        self.count();
        self.changed.notify_all();
        taken
    }

    /// So much memory of what was taken is still held: it is on its way, or kept to be used again.
    pub fn keeps(&self, bytes: usize) {
        if self.sending_bytes.replace(bytes) != bytes {
            self.count();
            self.changed.notify_all();
        }
    }

    fn count(&self) {
        let bytes = self.bytes.borrow().capacity() + self.sending_bytes.get();
        self.held.borrow_mut().set(bytes.saturating_sub(OUT_BYTES_KEPT));
    }

    /// Nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.borrow().is_empty()
    }

    /// The client leaves its answers unread: its requests must wait. Where memory is short, few are
    /// enough.
    pub fn is_full(&self) -> bool {
        let waits = self.bytes.borrow().len() + self.sending_bytes.get();
        waits >= CONNECTION_OUT_BYTES_MAX || waits > OUT_BYTES_KEPT && self.budget.is_short()
    }

    /// It holds memory that others may wait for.
    pub fn holds_much(&self) -> bool {
        self.held.borrow().bytes() > 0
    }

    /// Requests that were taken and not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered.get()
    }

    /// A request was taken whose answer comes later.
    pub fn begin(&self) {
        self.unanswered.set(self.unanswered.get() + 1);
    }

    /// That answer was put in, or will never be.
    pub fn finish(&self) {
        self.unanswered.set(self.unanswered.get() - 1);
        self.changed.notify_all();
    }

    /// Requests in work that read from disk.
    pub fn reads(&self) -> usize {
        self.reads.get()
    }

    /// A request was taken that reads from disk.
    pub fn begin_read(&self) {
        self.reads.set(self.reads.get() + 1);
        self.begin();
    }

    /// That request was answered.
    pub fn finish_read(&self) {
        self.reads.set(self.reads.get() - 1);
        self.finish();
    }

    /// The connection is gone, or must go: nothing is put in any more.
    pub fn end(&self) {
        self.ended.set(true);
        drop(self.parked.take());
        self.end.notify_all();
        self.changed.notify_all();
    }

    /// Completes when the connection is gone, or must go.
    pub async fn ended(&self) {
        while !self.ended.get() {
            self.end.changed().await;
        }
    }

    /// The connection is gone, or must go.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The connection must go at once: what waits to be sent is not.
    pub fn cut(&self) {
        self.cut.set(true);
        self.end();
    }

    /// The connection had to go at once: what waited to be sent was not.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Resolves when the connection must go at once.
    pub async fn until_cut(&self) {
        while !self.cut.get() {
            self.changed.changed().await;
        }
    }

    /// Has the sender let go of the connection, and waits for it. Answers wait here meanwhile.
    pub async fn move_away(&self) {
        self.moving.set(true);
        self.changed.notify_all();
        self.until_released().await;
    }

    /// Completes when nothing sends on the connection any more: all was sent that will be.
    pub async fn until_released(&self) {
        while !self.released.get() {
            self.changed.changed().await;
        }
    }

    /// The sender must let go of the connection.
    pub fn is_moving(&self) -> bool {
        self.moving.get()
    }

    /// The sender has let go.
    pub fn release(&self) {
        self.released.set(true);
        self.changed.notify_all();
    }

    /// Takes one of the requests that were answered busy.
    pub fn take_freed(&self) -> Option<RequestId> {
        self.freed.borrow_mut().pop()
    }

    /// Keeps an answer that may not be sent yet. It goes when the connection does.
    pub fn park(&self, answer: Vec<u8>, held: Held) -> u64 {
        let number = self.next_parked.get();
        self.next_parked.set(number + 1);
        if !self.ended.get() {
            self.parked.borrow_mut().insert(number, (answer, held));
        }
        number
    }

    /// Takes a kept answer; `None` if the connection is gone.
    pub fn unpark(&self, number: u64) -> Option<(Vec<u8>, Held)> {
        self.parked.borrow_mut().remove(&number)
    }

    /// Puts an encoded frame in.
    pub fn put_frame(&self, frame: &[u8]) {
        if !self.ended.get() {
            self.bytes.borrow_mut().extend_from_slice(frame);
            self.count();
            self.changed.notify_all();
        }
    }

    /// Puts an answer in. One that is too large becomes an error, which is ours.
    pub fn put<M: Message>(&self, kind: Kind, head: FrameHead, message: &M) {
        if self.ended.get() {
            return;
        }
        let encoded = frame::encode_as(&mut self.bytes.borrow_mut(), kind, head, message);
        if let Err(error) = encoded {
            tracing::error!("an answer of kind {kind:?} could not be encoded: {error}");
            self.put_error(head, ErrorCode::Internal, "the answer could not be encoded");
        }
        self.count();
        self.changed.notify_all();
    }

    /// Puts an error in.
    pub fn put_error(&self, head: FrameHead, code: ErrorCode, message: &str) {
        self.put(Kind::Error, head, &ErrorReply::new(code, message));
    }

    /// Puts in why a request has no outcome. `leader_address` is where the leader takes clients; empty
    /// if that is not known.
    pub fn put_refused(&self, head: FrameHead, refused: &Refused, leader_address: &str) {
        let (code, message) = match refused {
            Refused::Busy { .. } => (ErrorCode::Busy, "too much is waiting already"),
            Refused::StorageFull => (
                ErrorCode::StorageFull,
                "the server's disk is nearly full: make room there; reads go on",
            ),
            Refused::MemoryFull => (
                ErrorCode::StorageFull,
                "the server's memory budget is nearly used up: `walengine status` shows by what; raise \
                 --memory-mib (or its control group's limit) and start it again; reads go on",
            ),
            Refused::DiskStuck => (
                ErrorCode::StorageFull,
                "disk stuck: a write to the server's disk does not come back; look at that disk",
            ),
            Refused::ShuttingDown => (ErrorCode::ShuttingDown, "the server is shutting down"),
            Refused::NotLeader(_) => (ErrorCode::NotLeader, "another node leads the partition"),
            Refused::Importing => (
                ErrorCode::Importing,
                "the partition takes an import and nothing else: finish that first, by running \
                 `walengine import` with the same file again; reads go on",
            ),
            Refused::LeadershipLost => (
                ErrorCode::LeadershipLost,
                "leadership ended first: ask for the ids' verdicts, or send the same again",
            ),
            Refused::InDoubt => (
                ErrorCode::DeadlineExceeded,
                "another partition has not said in time whether it takes a transfer: send the same again",
            ),
            Refused::NotYet => (ErrorCode::NotYet, "this replica does not know the log yet"),
            Refused::Stopped(reason) => (ErrorCode::Stopped, reason.as_str()),
        };
        let reply = ErrorReply::new(code, message);
        let reply = match refused {
            Refused::Busy { retry_after_millis } => {
                if !self.ended.get() {
                    self.freed.borrow_mut().push(head.request);
                }
                reply.retry_after_millis(*retry_after_millis)
            }
            Refused::NotLeader(_) => reply.leader(leader_address),
            _ => reply,
        };
        self.put(Kind::Error, head, &reply);
    }

    /// Puts in that this connection has too much in work: come back at once when something of it is
    /// answered.
    pub fn put_busy(&self, head: FrameHead) {
        self.put_refused(head, &BUSY_READING, "");
    }
}
