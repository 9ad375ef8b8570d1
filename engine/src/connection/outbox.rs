//! Answers on their way to one connection. Lives on the connection's shard core; not `Send`.

use std::cell::{Cell, RefCell};

use walengine_net::frame::{self, FrameHead, Kind};
use walengine_net::message::{ErrorCode, ErrorReply, Message};

use crate::limits::CONNECTION_OUT_BYTES_MAX;
use crate::local::Notify;
use crate::refused::{BUSY_READING, Refused};

/// Encoded answers that wait to be sent, and how many more are to come.
#[derive(Default)]
pub struct Outbox {
    bytes: RefCell<Vec<u8>>,
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

impl Outbox {
    /// Something was put in, taken out, or ended.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Takes what waits to be sent, leaving `spare`'s memory in its place.
    pub fn take(&self, spare: Vec<u8>) -> Vec<u8> {
        debug_assert!(spare.is_empty(), "the memory left behind must be empty");
        let taken = self.bytes.replace(spare);
        self.changed.notify_all();
        taken
    }

    /// Nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.borrow().is_empty()
    }

    /// The client leaves its answers unread: its requests must wait.
    pub fn is_full(&self) -> bool {
        self.bytes.borrow().len() >= CONNECTION_OUT_BYTES_MAX
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

    /// Puts an encoded frame in.
    pub fn put_frame(&self, frame: &[u8]) {
        if !self.ended.get() {
            self.bytes.borrow_mut().extend_from_slice(frame);
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
                "the server's memory is nearly used up: give it more (its control group's limit, or \
                 --memory-mib) and start it again; reads go on",
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
            Refused::NotYet => (ErrorCode::NotYet, "this replica does not know the log yet"),
            Refused::Stopped(reason) => (ErrorCode::Stopped, reason.as_str()),
        };
        let reply = ErrorReply::new(code, message);
        let reply = match refused {
            Refused::Busy { retry_after_millis } => reply.retry_after_millis(*retry_after_millis),
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
