//! The answering end: accepts a peer's connection, checks its hello, and hands its requests to the
//! group.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::io::split;
use futures_lite::{AsyncRead, AsyncWrite};
use openraft::AsyncRuntime;
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender};
use openraft::raft::AppendEntriesRequest;

use super::outgoing::Outgoing;
use super::{
    APPENDS_TAKEN_MAX, IDLE_MAX, LOG_READS_MAX, PRESSED_MAX, PeerIdentity, SILENT_MAX, UNREAD_MAX,
};
use crate::budget::Budget;
use crate::executor::Runtime;
use crate::peer::frame::{Frame, FrameError, peek, peek_bytes, peek_hello};
use crate::peer::limits::{LOG_PAGE_BYTES_MAX, PEER_VERSION};
use crate::peer::{
    About, Carried, Hello, HelloReply, Kind, LogPage, LogRead, Message, PeerError, PeerErrorCode,
    Refusal, Words,
};
use crate::read_out::read_out;
use crate::received::Received;
use crate::runtime::{LocalRuntime, within};
use crate::transport::{AppendReceiver, AppendSender, NoAnswer, Request, Response, ResultSender};
use crate::turned_away::{Reason, Side, TurnedAway};
use crate::types::{NodeId, Types};

type Channels = <LocalRuntime as AsyncRuntime>::Mpsc;

/// The group that answers a connection's requests. Clones are the same group.
pub trait Answering: Clone + 'static {
    /// Answers one request of `from`; the error says why not.
    fn answer(
        &self,
        from: NodeId,
        request: Request,
    ) -> impl Future<Output = Result<Response, NoAnswer>> + 'static;

    /// Takes a stream of appends of `from` until it ends. The error says why the next one is refused.
    fn take_appends(
        &self,
        from: NodeId,
        requests: AppendReceiver,
        results: ResultSender,
    ) -> impl Future<Output = Result<(), NoAnswer>> + 'static;

    /// Reads committed entries of the log; the error says why they can't be read.
    fn read_log(&self, read: LogRead) -> impl Future<Output = Result<LogPage, String>> + 'static;

    /// Has what a partition has prepared for another one decided; the words on it. The error says why not.
    fn carry(&self, carried: Carried) -> impl Future<Output = Result<Words, String>> + 'static;

    /// What this node says of itself.
    fn about(&self) -> About;

    /// Whether the node may talk to this one.
    fn admits(&self, node: NodeId) -> Result<(), Refusal>;

    /// Whether the connection may go on. The error says why not.
    fn may_go_on(&self) -> Result<(), String>;
}

/// Counts of what was refused since the start.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Hellos that were refused: wrong cluster, version, partition or number of partitions, a node
    /// id in use, or no member.
    pub hellos: Cell<u64>,
    /// Connections that broke the protocol.
    pub broken: Cell<u64>,
    /// Requests that were refused on connections that went on.
    pub requests: Cell<u64>,
    /// Where connections that are closed are told.
    pub turned_away: Arc<TurnedAway>,
}

/// Serves a peer's connection until it ends. The executor must be entered. `address` is whose it is.
pub async fn serve<S, G, R>(
    stream: S,
    address: Option<SocketAddr>,
    received: Received,
    identity: PeerIdentity,
    group: G,
    runtime: R,
    refusals: Rc<Refusals>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    G: Answering,
    R: Runtime,
{
    let (mut reader, writer) = split(stream);
    let budget = received.budget().clone();
    let out = Rc::new(Outgoing::new(identity.partition, &budget));
    let (sends, own) = (out.clone(), runtime.clone());
    runtime.spawn(async move { sends.send_all(writer, &own).await });
    let (appends, taken) = (RefCell::default(), RefCell::default());
    let (answering, log_reads) = (Cell::new(0), Cell::new(0));
    let (heard, awaits_much) = (Cell::new(runtime.elapsed()), Cell::new(false));
    let peer = Rc::new(AcceptedPeer {
        identity,
        address,
        group,
        out,
        from: Cell::default(),
        appends,
        taken,
        answering,
        log_reads,
        budget,
        heard,
        awaits_much,
        runtime,
        refusals,
    });
    let reading = async {
        if let Err(why) = peer.clone().read(&mut reader, received).await {
            tracing::debug!("a peer's connection: {why}");
        }
    };
    or(reading, or(peer.idle(), peer.out.ended())).await;
    peer.appends.take();
    peer.out.end();
    if !peer.out.is_cut() {
        read_out(&mut reader, peer.out.shut(), &peer.runtime).await;
    }
}

struct AcceptedPeer<G, R> {
    identity: PeerIdentity,
    address: Option<SocketAddr>,
    group: G,
    out: Rc<Outgoing>,
    /// The node at the other end, once it is introduced.
    from: Cell<NodeId>,
    /// Into the open stream of appends.
    appends: RefCell<Option<AppendSender>>,
    /// Ids of appends that the stream was handed and has not answered, oldest first.
    taken: RefCell<VecDeque<u64>>,
    /// Single requests that are being answered.
    answering: Cell<usize>,
    /// Pages of the log among them.
    log_reads: Cell<usize>,
    /// What the connections of peers may hold on this executor.
    budget: Budget,
    /// When bytes arrived last.
    heard: Cell<Duration>,
    /// The rest of a frame is to come, and what is there holds much memory.
    awaits_much: Cell<bool>,
    runtime: R,
    refusals: Rc<Refusals>,
}

/// Single requests of one connection that may be unanswered at the same time.
const ANSWERING_MAX: usize = 64;

impl<G: Answering, R: Runtime> AcceptedPeer<G, R> {
    /// Completes when nothing has arrived for so long that the peer counts as gone.
    async fn idle(&self) {
        loop {
            let now = self.runtime.elapsed();
            let quiet = now.saturating_sub(self.heard.get());
            let stuck = self.out.stuck_since().map(|since| now.saturating_sub(since));
            if let Err(why) = self.group.may_go_on() {
                let why = format!("node {}: {why}", self.from.get());
                self.turned_away(Reason::RightEnded, &why);
                return self.out.cut();
            }
            let is_short = self.budget.is_short();
            let within = |limit: Duration, holds_much: bool| {
                if is_short && holds_much { PRESSED_MAX } else { limit }
            };
            let unread_max = within(UNREAD_MAX, self.out.holds_much());
            if quiet > within(IDLE_MAX, self.awaits_much.get())
                || stuck.is_some_and(|stuck| stuck > unread_max)
            {
                if self.awaits_much.get() || stuck.is_some() {
                    self.turned_away(Reason::Slow, &"it did not go on in time");
                }
                return self.out.cut();
            }
            self.runtime.sleep(if is_short { PRESSED_MAX / 2 } else { SILENT_MAX }).await;
        }
    }

    async fn read<S: AsyncRead + Unpin>(
        self: Rc<Self>,
        reader: &mut S,
        mut received: Received,
    ) -> Result<(), String> {
        let mut introduced = false;
        loop {
            // A peer that leaves its answers unread gets no more of them.
            self.out.room().await;
            let found =
                if introduced { peek(received.filled()) } else { peek_hello(received.filled()) };
            let consumed = match found {
                Ok(Some(frame)) => {
                    self.clone().take_frame(&frame, &mut introduced).await?;
                    frame.frame_bytes()
                }
                Ok(None) => {
                    let wanted = peek_bytes(received.filled()).ok().flatten().unwrap_or(0);
                    received.room(wanted).await;
                    self.heard.set(self.runtime.elapsed()); // until here this node kept it waiting
                    self.awaits_much.set(received.holds_much() && wanted > 0);
                    let read = received.read(reader).await;
                    self.awaits_much.set(false);
                    match read {
                        Ok(0) => return Ok(()),
                        Ok(_) => {
                            self.heard.set(self.runtime.elapsed());
                            continue;
                        }
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Err(error) => self.bad_frame(&error)?,
            };
            received.consume(consumed);
        }
    }

    /// Takes a whole frame. The error says why the connection ends.
    async fn take_frame(
        self: Rc<Self>,
        frame: &Frame<'_>,
        introduced: &mut bool,
    ) -> Result<(), String> {
        let request = frame.head.request.0;
        if !*introduced && frame.kind != Kind::Hello {
            self.refuse(request, PeerErrorCode::NotIntroduced, "hello first");
            self.turned_away(Reason::NotMember, &"it began without a hello");
            return Err("it began without a hello".to_owned());
        }
        if *introduced && frame.head.partition != self.identity.partition {
            let why = "this connection is for another one";
            self.refuse(request, PeerErrorCode::WrongPartition, why);
            return Ok(());
        }
        match frame.open() {
            Ok(Message::Hello(hello)) => {
                let reply = self.greet(&hello);
                let _ = self.out.put(request, &Message::HelloReply(reply));
                if matches!(reply, HelloReply::Refused(_)) {
                    self.refusals.hellos.set(self.refusals.hellos.get() + 1);
                    let why = format!("{hello:?} was refused: {reply:?}");
                    let is_other = reply == HelloReply::Refused(Refusal::OtherIdentity);
                    let reason = if is_other { Reason::WrongNode } else { Reason::NotMember };
                    self.turned_away(reason, &why);
                    return Err(why);
                }
                self.from.set(hello.node);
                *introduced = true;
            }
            Ok(message) => self.take(request, message).await,
            Err(error) => self.refuse(request, PeerErrorCode::Malformed, &error.to_string()),
        }
        Ok(())
    }

    /// Answers a frame that can't be opened. Returns how many bytes to skip, or why the connection
    /// ends.
    fn bad_frame(&self, error: &FrameError) -> Result<usize, String> {
        let (code, bytes) = match *error {
            FrameError::Flags { frame_bytes, .. } => (PeerErrorCode::Malformed, Some(frame_bytes)),
            FrameError::Kind { frame_bytes, .. } => (PeerErrorCode::UnknownKind, Some(frame_bytes)),
            FrameError::KindLength { frame_bytes, .. } => {
                (PeerErrorCode::TooLarge, Some(frame_bytes))
            }
            FrameError::Version { found, kind, request } if kind == Kind::Hello.number() => {
                let refusal = if found < PEER_VERSION {
                    Refusal::OlderVersion { oldest: PEER_VERSION }
                } else {
                    Refusal::NewerVersion { newest: PEER_VERSION }
                };
                let reply = Message::HelloReply(HelloReply::Refused(refusal));
                let _ = self.out.put(request.0, &reply);
                self.refusals.hellos.set(self.refusals.hellos.get() + 1);
                self.turned_away(Reason::NotMember, error);
                return Err(error.to_string());
            }
            FrameError::Version { .. } => (PeerErrorCode::UnsupportedVersion, None),
            _ => {
                self.refusals.broken.set(self.refusals.broken.get() + 1);
                self.turned_away(Reason::Malformed, error);
                return Err(error.to_string());
            }
        };
        assert!(bytes.is_none() == error.closes(), "{error:?} is handled in another way");
        self.refuse(error.request().0, code, &error.to_string());
        if bytes.is_none() {
            self.turned_away(Reason::Malformed, error);
        }
        bytes.ok_or_else(|| error.to_string())
    }

    fn turned_away(&self, reason: Reason, why: &dyn std::fmt::Display) {
        self.refusals.turned_away.count(Side::Peer, reason, self.address, why);
    }

    fn refuse(&self, request: u64, code: PeerErrorCode, message: &str) {
        self.refusals.requests.set(self.refusals.requests.get() + 1);
        let _ = self.out.put(request, &Message::Error(PeerError::new(code, message)));
    }

    fn greet(&self, hello: &Hello) -> HelloReply {
        let PeerIdentity { cluster, node, partition, partitions } = self.identity;
        let refusal = if hello.cluster != cluster {
            Refusal::OtherCluster { cluster }
        } else if hello.partitions != partitions {
            Refusal::OtherPartitions { partitions }
        } else if hello.partition != partition {
            Refusal::UnknownPartition
        } else if hello.node == node {
            Refusal::NodeIdInUse
        } else if let Err(refusal) = self.group.admits(hello.node) {
            refusal
        } else {
            return HelloReply::Accepted { node };
        };
        HelloReply::Refused(refusal)
    }

    async fn take(self: Rc<Self>, request: u64, message: Message) {
        match message {
            Message::Append(append) => self.append(request, append).await,
            Message::LogRead(read) => self.read_log(request, read),
            Message::Carry(carried) => {
                let words = self.group.carry(carried);
                self.answer_by(request, async move {
                    Ok(Message::CarryReply(words.await.map_err(NoAnswer::Stopped)?))
                });
            }
            Message::About => {
                let _ = self.out.put(request, &Message::AboutReply(self.group.about()));
            }
            Message::Vote(vote) => self.answer(request, Request::Vote(vote)),
            Message::PreVote(vote) => self.answer(request, Request::PreVote(vote)),
            Message::TransferLeader(transfer) => {
                self.answer(request, Request::TransferLeader(transfer));
            }
            _ => {
                self.refuse(
                    request,
                    PeerErrorCode::UnknownKind,
                    "an answer where a request is due",
                );
            }
        }
    }

    /// Reads a page once there is memory for it. A copying peer asks for a few at a time.
    fn read_log(self: Rc<Self>, request: u64, read: LogRead) {
        if self.log_reads.get() >= LOG_READS_MAX {
            return self.refuse(request, PeerErrorCode::Busy, "too many pages are asked for");
        }
        self.log_reads.set(self.log_reads.get() + 1);
        let (budget, peer) = (self.budget.clone(), self.clone());
        self.answer_by(request, async move {
            // As it is read, and as it is answered.
            let taking = async { Some(budget.take(2 * LOG_PAGE_BYTES_MAX).await) };
            let gone = async {
                peer.out.ended().await;
                None
            };
            let held = or(taking, gone).await;
            let page = match &held {
                Some(_) => peer.group.read_log(read).await,
                None => Err("the connection has ended".to_owned()),
            };
            peer.log_reads.set(peer.log_reads.get() - 1);
            drop(held); // it counts as outgoing next
            Ok(Message::LogPage(page.map_err(NoAnswer::Stopped)?))
        });
    }

    fn answer(self: Rc<Self>, request: u64, asked: Request) {
        let answer = self.group.answer(self.from.get(), asked);
        self.answer_by(request, async move {
            Ok(match answer.await? {
                Response::Vote(vote) => Message::VoteReply(vote),
                Response::PreVote(vote) => Message::PreVoteReply(vote),
                Response::TransferLeader(transfer) => Message::TransferLeaderReply(transfer),
                // Appends go through streams only.
                Response::Append(_) => {
                    Message::Error(PeerError::new(PeerErrorCode::Internal, "a single append"))
                }
            })
        });
    }

    /// Answers a single request in the background.
    fn answer_by(
        self: Rc<Self>,
        request: u64,
        answer: impl Future<Output = Result<Message, NoAnswer>> + 'static,
    ) {
        if self.answering.get() >= ANSWERING_MAX {
            return self.refuse(request, PeerErrorCode::Busy, "too much is unanswered");
        }
        self.answering.set(self.answering.get() + 1);
        let runtime = self.runtime.clone();
        let peer = self;
        let answered = async move {
            let (code, why) = match answer.await {
                Ok(message) => {
                    let _ = peer.out.put(request, &message);
                    return peer.answering.set(peer.answering.get() - 1);
                }
                Err(no) => peer.refused(no),
            };
            let message = Message::Error(PeerError::new(code, why));
            let _ = peer.out.put(request, &message);
            peer.answering.set(peer.answering.get() - 1);
        };
        runtime.spawn(within(runtime.clone(), answered));
    }

    /// Code and words for a request that is not answered.
    fn refused(&self, no: NoAnswer) -> (PeerErrorCode, String) {
        match no {
            NoAnswer::Stopped(why) => (PeerErrorCode::Stopped, why),
            NoAnswer::SetBack(why) => (PeerErrorCode::SetBack, why),
            NoAnswer::Unclear(why) => (PeerErrorCode::Busy, why),
            NoAnswer::Dishonest(why) => {
                self.refusals.requests.set(self.refusals.requests.get() + 1);
                (PeerErrorCode::Dishonest, why)
            }
        }
    }

    /// Hands an append to the open stream, or to a new one.
    async fn append(self: Rc<Self>, request: u64, append: AppendEntriesRequest<Types>) {
        self.taken.borrow_mut().push_back(request);
        let open = self.appends.borrow().clone();
        let sender = match open {
            Some(sender) => sender,
            None => self.clone().begin_appends(),
        };
        // If the stream has just ended, it is among those that are told so.
        let _ = sender.send(append).await;
    }

    fn begin_appends(self: Rc<Self>) -> AppendSender {
        let (sender, requests) = Channels::channel(APPENDS_TAKEN_MAX);
        let (answers, mut results) = Channels::channel(APPENDS_TAKEN_MAX);
        self.appends.replace(Some(sender.clone()));
        let runtime = self.runtime.clone();
        let taking = self.group.take_appends(self.from.get(), requests, answers);
        let ended = Rc::new(RefCell::new(Ok(())));
        let end = ended.clone();
        runtime.spawn(within(runtime.clone(), async move {
            let ended = taking.await;
            *end.borrow_mut() = ended;
        }));
        let peer = self;
        let answered = async move {
            while let Some(result) = results.recv().await {
                let request = peer.taken.borrow_mut().pop_front();
                let ends = result.is_err();
                if let Some(request) = request {
                    let _ = peer.out.put(request, &Message::AppendReply(result));
                }
                if ends {
                    // Later appends are dropped with the stream; the next one opens a new stream.
                    let why = "an append before it was not taken";
                    return peer.end_appends(NoAnswer::Unclear(why.to_owned()));
                }
            }
            // The group has stopped, an append was refused, or this connection has ended.
            let no = ended.replace(Ok(())).err();
            let no = no.unwrap_or_else(|| NoAnswer::Stopped("the stream has ended".to_owned()));
            peer.end_appends(no);
        };
        runtime.spawn(within(runtime.clone(), answered));
        sender
    }

    /// The stream of appends has ended: tells whoever waits for an answer to one. They are not all of the leader's
    /// newest stream, and would count as under way there until the connection ends.
    fn end_appends(&self, no: NoAnswer) {
        self.appends.take();
        let (code, why) = self.refused(no);
        for request in self.taken.take() {
            let error = Message::Error(PeerError::new(code, why.as_str()));
            let _ = self.out.put(request, &error);
        }
    }
}
