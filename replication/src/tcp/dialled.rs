//! A connection that this node has dialled: what was sent on it and is not answered yet. Answers
//! find their requests by id.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::AsyncRead;
use futures_lite::future::or;
use openraft::AsyncRuntime;
use openraft::alias::OneshotSenderOf;
use openraft::async_runtime::{MpscSender, Oneshot, OneshotSender};

use walengine_net::tls::Proven;

use super::outgoing::Outgoing;
use super::{APPEND_BYTES_MAX, PeerIdentity, SILENT_MAX};
use crate::budget::Budget;
use crate::executor::Runtime;
use crate::local::Notify;
use crate::peer::{HelloReply, Message, Refusal, frame};
use crate::received::Received;
use crate::runtime::LocalRuntime;
use crate::transport::{ResultSender, TransportError};
use crate::types::{NodeId, Types};

type Oneshots = <LocalRuntime as AsyncRuntime>::Oneshot;
pub(super) type CallResult = Result<Message, TransportError>;

/// What went to one peer since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Append requests with entries.
    pub appends: u64,
    /// Bytes of the batch bodies in them.
    pub append_bytes: u64,
    /// Most append requests that were unanswered at the same time.
    pub appends_inflight_max: usize,
}

/// See the module.
pub(super) struct Dialled {
    pub out: Outgoing,
    /// Where the peer was dialled.
    pub address: SocketAddr,
    next_request: Cell<u64>,
    next_stream: Cell<u64>,
    /// By request id.
    pending: RefCell<BTreeMap<u64, PendingAnswer>>,
    /// Since when the peer has owed an answer and sent nothing.
    silent_since: Cell<Option<Duration>>,
    /// Appends in `pending`. Invariant: its number of [`PendingAnswer::Append`].
    appends: Cell<usize>,
    /// Bytes of batch bodies in them. Invariant: the sum of their `bytes`.
    append_bytes: Cell<u64>,
    /// Wakes when appends were answered, or never will be.
    answers: Notify,
    traffic: Rc<Cell<Traffic>>,
}

/// Who waits for an answer.
enum PendingAnswer {
    Call(OneshotSenderOf<Types, CallResult>),
    Append { stream: u64, bytes: u64, results: ResultSender },
}

impl Dialled {
    pub(super) fn new(
        identity: PeerIdentity,
        address: SocketAddr,
        traffic: Rc<Cell<Traffic>>,
    ) -> Self {
        Self {
            out: Outgoing::new(identity.partition, &Budget::default()),
            address,
            next_request: Cell::new(1),
            next_stream: Cell::new(1),
            pending: RefCell::default(),
            silent_since: Cell::new(None),
            appends: Cell::new(0),
            append_bytes: Cell::new(0),
            answers: Notify::new(),
            traffic,
        }
    }

    /// A request id that was not used on this connection.
    pub(super) fn request_id(&self) -> u64 {
        let id = self.next_request.get();
        self.next_request.set(id + 1);
        id
    }

    /// Names a new stream of appends on this connection.
    pub(super) fn stream_id(&self) -> u64 {
        let id = self.next_stream.get();
        self.next_stream.set(id + 1);
        id
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, target: NodeId, message: &Message) -> CallResult {
        self.out.room().await;
        let (asked, answer) = Oneshots::channel();
        let request = self.request_id();
        self.pending.borrow_mut().insert(request, PendingAnswer::Call(asked));
        if self.out.has_ended() || self.out.put(request, message).is_err() {
            self.pending.borrow_mut().remove(&request);
            return Err(TransportError::Broken(target));
        }
        answer.await.map_err(|_| TransportError::Broken(target))?
    }

    /// Sends an append of a stream, with batch bodies of `bytes` together; false if the connection
    /// can't take it.
    pub(super) fn append(
        &self,
        stream: u64,
        message: &Message,
        bytes: u64,
        results: ResultSender,
    ) -> bool {
        let request = self.request_id();
        let pending = PendingAnswer::Append { stream, bytes, results };
        self.pending.borrow_mut().insert(request, pending);
        self.appends.set(self.appends.get() + 1);
        self.append_bytes.set(self.append_bytes.get() + bytes);
        if matches!(message, Message::Append(append) if !append.entries.is_empty()) {
            let mut traffic = self.traffic.get();
            traffic.appends += 1;
            traffic.append_bytes += bytes;
            traffic.appends_inflight_max = traffic.appends_inflight_max.max(self.appends.get());
            self.traffic.set(traffic);
        }
        !self.out.has_ended() && self.out.put(request, message).is_ok()
    }

    /// Nothing more of this stream will be answered.
    pub(super) fn forget(&self, stream: u64) {
        let (mut appends, mut append_bytes) = (0, 0);
        self.pending.borrow_mut().retain(|_, one| match one {
            PendingAnswer::Append { stream: of, bytes, .. } if *of == stream => {
                (appends, append_bytes) = (appends + 1, append_bytes + *bytes);
                false
            }
            _ => true,
        });
        self.no_longer_pending(appends, append_bytes);
    }

    fn no_longer_pending(&self, appends: usize, bytes: u64) {
        let (appends_before, bytes_before) = (self.appends.get(), self.append_bytes.get());
        assert!(appends <= appends_before, "{appends} of {appends_before} appends were answered");
        assert!(bytes <= bytes_before, "{bytes} of {bytes_before} bytes were answered");
        self.appends.set(appends_before - appends);
        self.append_bytes.set(bytes_before - bytes);
        self.answers.notify_all();
    }

    /// Completes when another append may be sent, or the connection has ended.
    pub(super) async fn append_room(&self) {
        self.out.room().await;
        loop {
            let answers = self.answers.changed();
            if self.append_bytes.get() < APPEND_BYTES_MAX || self.out.has_ended() {
                return;
            }
            or(answers, self.out.ended()).await;
        }
    }

    /// Reads answers until the connection ends; the error says why.
    pub(super) async fn read<S: AsyncRead + Unpin>(
        &self,
        reader: &mut S,
        received: &mut Received,
    ) -> Result<(), String> {
        loop {
            let wanted = loop {
                let frame = frame::peek(received.filled()).map_err(|error| error.to_string())?;
                let Some(frame) = frame else {
                    break frame::peek_bytes(received.filled()).ok().flatten().unwrap_or(0);
                };
                let (request, bytes) = (frame.head.request.0, frame.frame_bytes());
                let message = frame.open().map_err(|error| error.to_string())?;
                received.consume(bytes);
                self.answered(request, message).await;
            };
            fill(reader, received, wanted).await?;
        }
    }

    /// Hands an answer to whoever waits for it. It is dropped if nobody does.
    async fn answered(&self, request: u64, message: Message) {
        self.silent_since.set(None);
        let pending = self.pending.borrow_mut().remove(&request);
        match (pending, message) {
            (
                Some(PendingAnswer::Append { stream, bytes, results }),
                Message::AppendReply(result),
            ) => {
                self.no_longer_pending(1, bytes);
                if result.is_err() {
                    self.forget(stream);
                }
                // The group may have given the stream up.
                let _ = results.send(result).await;
            }
            (Some(PendingAnswer::Append { stream, bytes, .. }), _) => {
                // The stream breaks: its results end.
                self.no_longer_pending(1, bytes);
                self.forget(stream);
            }
            (Some(PendingAnswer::Call(asked)), message) => {
                let _ = asked.send(Ok(message));
            }
            (None, _) => {}
        }
    }

    /// Ends the connection when the peer owes an answer and is silent for too long.
    /// So it does when the peer's certificate is good no more.
    pub(super) async fn watch(&self, proven: Option<&Proven>, runtime: &impl Runtime) {
        while !self.out.has_ended() {
            runtime.sleep(SILENT_MAX / 8).await;
            if let Some(Err(why)) = proven.map(Proven::check) {
                tracing::warn!("closing a connection to a node: {why}");
                return self.out.cut();
            }
            let now = runtime.elapsed();
            let since = match self.silent_since.get() {
                _ if self.pending.borrow().is_empty() => None,
                None => Some(now),
                since => since,
            };
            self.silent_since.set(since);
            if since.is_some_and(|since| now.saturating_sub(since) > SILENT_MAX) {
                self.out.cut();
            }
        }
    }

    /// The connection has ended: tells everybody who waits.
    pub(super) fn end(&self, target: NodeId) {
        self.out.end();
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for pending in pending.into_values() {
            if let PendingAnswer::Call(asked) = pending {
                let _ = asked.send(Err(TransportError::Broken(target)));
            }
        }
    }
}

/// Waits for the answer to the hello. A refusal is noted, and said once.
pub(super) async fn greeting<S: AsyncRead + Unpin>(
    reader: &mut S,
    received: &mut Received,
    target: NodeId,
    refused: &Cell<Option<Refusal>>,
) -> Result<(), String> {
    loop {
        let frame = frame::peek_hello(received.filled()).map_err(|error| error.to_string())?;
        if let Some(frame) = frame {
            let bytes = frame.frame_bytes();
            let message = frame.open().map_err(|error| error.to_string())?;
            received.consume(bytes);
            return match message {
                Message::HelloReply(HelloReply::Accepted { node }) if node == target => {
                    refused.set(None);
                    Ok(())
                }
                Message::HelloReply(HelloReply::Accepted { node }) => {
                    Err(format!("node {node} answers in its place"))
                }
                Message::HelloReply(HelloReply::Refused(refusal)) => {
                    if refused.replace(Some(refusal)) != Some(refusal) {
                        tracing::warn!("node {target} does not talk to this node: {refusal}");
                    }
                    Err(refusal.to_string())
                }
                _ => Err("its answer to a hello is of another kind".to_owned()),
            };
        }
        fill(reader, received, 0).await?;
    }
}

async fn fill<S: AsyncRead + Unpin>(
    reader: &mut S,
    received: &mut Received,
    wanted: usize,
) -> Result<(), String> {
    match received.fill(reader, wanted).await {
        Ok(0) => Err("it has closed the connection".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
