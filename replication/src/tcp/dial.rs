//! The asking end: a connection to each peer of a group, made when it is first needed and again
//! when it breaks. Answers find their requests by id.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::io::split;
use glommio::net::TcpStream;
use openraft::AsyncRuntime;
use openraft::alias::OneshotSenderOf;
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, Oneshot, OneshotSender};
use openraft::raft::{AppendEntriesResponse, StreamAppendResult};

use super::outgoing::Outgoing;
use super::{
    AGAIN_AFTER, APPEND_BYTES_MAX, CONNECT_WITHIN, PeerIdentity, SILENT_MAX, STREAM_REQUESTS,
    STREAM_RESULTS,
};
use crate::executor::Runtime;
use crate::local::Notify;
use crate::peer::{Hello, HelloReply, LogPage, LogRead, Message, fitting, frame};
use crate::received::Received;
use crate::runtime::{LocalRuntime, within};
use crate::transport::{
    AppendReceiver, AppendStream, Request, Response, ResultSender, Transport, TransportError,
};
use crate::types::{Member, NodeId, Types};

type Channels = <LocalRuntime as AsyncRuntime>::Mpsc;
type Oneshots = <LocalRuntime as AsyncRuntime>::Oneshot;
type Answered = Result<Message, TransportError>;

/// See the module. Clones share connections.
#[derive(Clone)]
pub struct Dialer<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    identity: PeerIdentity,
    runtime: R,
    links: RefCell<BTreeMap<NodeId, Rc<Link>>>,
}

/// What went to one peer since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests to take entries.
    pub appends: u64,
    /// Bytes of the bodies in them.
    pub append_bytes: u64,
    /// Most requests to take entries that were under way at once.
    pub appends_inflight_max: usize,
}

/// The way to one peer.
struct Link {
    target: NodeId,
    state: RefCell<State>,
    changed: Notify,
    traffic: Rc<Cell<Traffic>>,
}

enum State {
    Connecting,
    Up(Rc<Connection>),
    /// Not to be dialled before this time; what was tried last.
    Down {
        until: Duration,
        pause: Duration,
    },
}

/// A connection whose hello was accepted.
struct Connection {
    out: Outgoing,
    next_request: Cell<u64>,
    next_stream: Cell<u64>,
    pending: RefCell<BTreeMap<u64, Pending>>,
    /// Since when the peer owes an answer and has said nothing.
    silent_since: Cell<Option<Duration>>,
    appends: Cell<usize>,
    /// Bytes of bodies in them.
    append_bytes: Cell<u64>,
    /// Wakes when appends were answered, or never will be.
    answers: Notify,
    traffic: Rc<Cell<Traffic>>,
}

enum Pending {
    Call(OneshotSenderOf<Types, Answered>),
    Append { stream: u64, bytes: u64, results: ResultSender },
}

impl Connection {
    fn new(identity: PeerIdentity, traffic: Rc<Cell<Traffic>>) -> Self {
        Self {
            out: Outgoing::new(identity.partition),
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

    fn request_id(&self) -> u64 {
        let id = self.next_request.get();
        self.next_request.set(id + 1);
        id
    }

    /// Ends the connection when the peer is silent for too long.
    async fn watch(&self, runtime: &impl Runtime) {
        while !self.out.has_ended() {
            runtime.sleep(SILENT_MAX / 8).await;
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

    /// Gives an answer to whom it is for. One to a request that nobody waits for is dropped.
    async fn answered(&self, request: u64, message: Message) {
        self.silent_since.set(None);
        let pending = self.pending.borrow_mut().remove(&request);
        match (pending, message) {
            (Some(Pending::Append { stream, bytes, results }), Message::AppendReply(result)) => {
                self.ends(1, bytes);
                if result.is_err() {
                    self.forget(stream);
                }
                // The group may have given the stream up.
                let _ = results.send(result).await;
            }
            (Some(Pending::Append { stream, bytes, .. }), _) => {
                // The stream breaks: its results end.
                self.ends(1, bytes);
                self.forget(stream);
            }
            (Some(Pending::Call(asked)), message) => {
                let _ = asked.send(Ok(message));
            }
            (None, _) => {}
        }
    }

    /// Nothing more of this stream will be answered.
    fn forget(&self, stream: u64) {
        let (mut appends, mut append_bytes) = (0, 0);
        self.pending.borrow_mut().retain(|_, one| match one {
            Pending::Append { stream: of, bytes, .. } if *of == stream => {
                (appends, append_bytes) = (appends + 1, append_bytes + *bytes);
                false
            }
            _ => true,
        });
        self.ends(appends, append_bytes);
    }

    /// So many appends are under way no more.
    fn ends(&self, appends: usize, bytes: u64) {
        self.appends.set(self.appends.get() - appends);
        self.append_bytes.set(self.append_bytes.get() - bytes);
        self.answers.notify_all();
    }

    /// Completes when the peer has answered enough to be sent more, or the connection is gone.
    async fn room(&self) {
        self.out.room().await;
        loop {
            let answers = self.answers.changed();
            if self.append_bytes.get() < APPEND_BYTES_MAX || self.out.has_ended() {
                return;
            }
            or(answers, self.out.ended()).await;
        }
    }
}

impl<R: Runtime> Dialer<R> {
    /// For a group's replica on this node.
    pub fn new(identity: PeerIdentity, runtime: R) -> Self {
        Self { inner: Rc::new(Inner { identity, runtime, links: RefCell::default() }) }
    }

    /// What went to each peer since the start.
    pub fn traffic(&self) -> Vec<(NodeId, Traffic)> {
        let links = self.inner.links.borrow();
        links.iter().map(|(&target, link)| (target, link.traffic.get())).collect()
    }

    /// Reads committed entries from a peer's log.
    ///
    /// # Errors
    /// It can't be reached, or can't read them.
    pub async fn read_log(
        &self,
        target: NodeId,
        member: Member,
        read: LogRead,
    ) -> Result<LogPage, TransportError> {
        let connection = self.connection(target, member).await?;
        match self.ask(&connection, target, &Message::LogRead(read)).await? {
            Message::LogPage(page) => Ok(page),
            Message::Error(error) => Err(TransportError::Stopped(target, error.message)),
            _ => Err(TransportError::Broken(target)),
        }
    }

    /// Closes every connection; whoever waits is told.
    pub fn close(&self) {
        for link in self.inner.links.borrow().values() {
            if let State::Up(connection) = &*link.state.borrow() {
                connection.out.end();
            }
        }
    }

    async fn connection(
        &self,
        target: NodeId,
        member: Member,
    ) -> Result<Rc<Connection>, TransportError> {
        let link = {
            let mut links = self.inner.links.borrow_mut();
            let new = || {
                let until = Duration::ZERO;
                let state = RefCell::new(State::Down { until, pause: AGAIN_AFTER.0 });
                let traffic = Rc::default();
                Rc::new(Link { target, state, changed: Notify::new(), traffic })
            };
            links.entry(target).or_insert_with(new).clone()
        };
        let mut dialled = false;
        loop {
            let changed = link.changed.changed();
            let now = self.inner.runtime.elapsed();
            let (pause, wait) = match &*link.state.borrow() {
                State::Up(connection) if !connection.out.has_ended() => {
                    return Ok(connection.clone());
                }
                State::Up(_) => (Some(AGAIN_AFTER.0), Duration::ZERO),
                State::Connecting => (None, Duration::ZERO),
                State::Down { .. } if dialled => return Err(TransportError::Unreachable(target)),
                State::Down { until, pause } => (Some(*pause), until.saturating_sub(now)),
            };
            if wait > Duration::ZERO {
                // Whoever failed at once would be asked again at once, without end.
                self.inner.runtime.sleep(wait).await;
                continue;
            }
            dialled = true;
            if let Some(pause) = pause {
                link.state.replace(State::Connecting);
                self.dial(link.clone(), member.clone(), pause);
            }
            changed.await;
        }
    }

    fn dial(&self, link: Rc<Link>, member: Member, pause: Duration) {
        let (dialer, runtime) = (self.clone(), self.inner.runtime.clone());
        let dialled = async move {
            let late = async {
                dialer.inner.runtime.sleep(CONNECT_WITHIN).await;
                Err("no answer in time".to_owned())
            };
            let connected = or(dialer.connect(&link, &member), late).await;
            if let Err(why) = &connected {
                tracing::debug!("node {} at {}: {why}", link.target, member.peer_address);
                dialer.down(&link, pause);
            }
        };
        self.inner.runtime.spawn(within(runtime, dialled));
    }

    fn down(&self, link: &Link, pause: Duration) {
        let runtime = &self.inner.runtime;
        let share = (runtime.random_u64() % 1024) as u32; // of the second half
        let until = runtime.elapsed() + pause / 2 + pause / 2 * share / 1024;
        link.state.replace(State::Down { until, pause: (pause * 2).min(AGAIN_AFTER.1) });
        link.changed.notify_all();
    }

    /// Connects and introduces this node; from then on two tasks carry frames.
    async fn connect(&self, link: &Rc<Link>, member: &Member) -> Result<(), String> {
        let address: std::net::SocketAddr =
            member.peer_address.parse().map_err(|error| format!("its address: {error}"))?;
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true); // slower without, and right
        let PeerIdentity { cluster, node, partition, partitions } = self.inner.identity;
        let connection = Rc::new(Connection::new(self.inner.identity, link.traffic.clone()));
        let hello = Message::Hello(Hello { cluster, node, partition, partitions });
        let request = connection.request_id();
        connection.out.put(request, &hello).map_err(|error| error.to_string())?;
        let (mut reader, writer) = split(stream);
        let (sends, runtime) = (connection.clone(), self.inner.runtime.clone());
        runtime.spawn(async move { sends.out.send_all(writer).await });
        let mut received = Received::default();
        let greeted = greeting(&mut reader, &mut received, link.target).await;
        if let Err(why) = greeted {
            connection.out.end();
            return Err(why);
        }
        link.state.replace(State::Up(connection.clone()));
        link.changed.notify_all();
        let (watched, runtime) = (connection.clone(), self.inner.runtime.clone());
        self.inner.runtime.spawn(async move { watched.watch(&runtime).await });
        let (dialer, link, runtime) = (self.clone(), link.clone(), self.inner.runtime.clone());
        let reads = async move {
            let target = link.target;
            let ended = async {
                connection.out.ended().await;
                Ok(())
            };
            if let Err(why) = or(read(&mut reader, &mut received, &connection), ended).await {
                tracing::debug!("node {target}: {why}");
            }
            connection.out.end();
            let pending = std::mem::take(&mut *connection.pending.borrow_mut());
            for pending in pending.into_values() {
                if let Pending::Call(asked) = pending {
                    let _ = asked.send(Err(TransportError::Broken(target)));
                }
            }
            dialer.down(&link, AGAIN_AFTER.0);
        };
        runtime.spawn(within(runtime.clone(), reads));
        Ok(())
    }

    async fn ask(
        &self,
        connection: &Rc<Connection>,
        target: NodeId,
        message: &Message,
    ) -> Answered {
        connection.out.room().await;
        let (asked, answer) = Oneshots::channel();
        let request = connection.request_id();
        connection.pending.borrow_mut().insert(request, Pending::Call(asked));
        if connection.out.has_ended() || connection.out.put(request, message).is_err() {
            connection.pending.borrow_mut().remove(&request);
            return Err(TransportError::Broken(target));
        }
        answer.await.map_err(|_| TransportError::Broken(target))?
    }

    /// Carries a stream's requests into the connection until either ends.
    async fn pump(
        &self,
        connection: Rc<Connection>,
        mut requests: AppendReceiver,
        results: ResultSender,
    ) {
        let stream = connection.next_stream.get();
        connection.next_stream.set(stream + 1);
        while let Some(mut append) = requests.recv().await {
            connection.room().await;
            // More than a frame holds: the rest is asked for again by what is answered.
            append.entries.truncate(fitting(&append.entries));
            let request = connection.request_id();
            let results = results.clone();
            let bytes = append.entries.iter().map(body_bytes).sum::<u64>();
            let pending = Pending::Append { stream, bytes, results };
            connection.pending.borrow_mut().insert(request, pending);
            connection.appends.set(connection.appends.get() + 1);
            connection.append_bytes.set(connection.append_bytes.get() + bytes);
            if !append.entries.is_empty() {
                let mut traffic = connection.traffic.get();
                traffic.appends += 1;
                traffic.append_bytes += bytes;
                traffic.appends_inflight_max =
                    traffic.appends_inflight_max.max(connection.appends.get());
                connection.traffic.set(traffic);
            }
            if connection.out.has_ended()
                || connection.out.put(request, &Message::Append(append)).is_err()
            {
                connection.forget(stream);
                return;
            }
        }
    }
}

fn body_bytes(entry: &crate::types::Entry) -> u64 {
    match &entry.payload {
        crate::types::Payload::Normal(batch) => batch.body.len() as u64,
        _ => 0,
    }
}

/// Waits for the answer to the hello.
async fn greeting<S: futures_lite::AsyncRead + Unpin>(
    reader: &mut S,
    received: &mut Received,
    target: NodeId,
) -> Result<(), String> {
    loop {
        let frame = frame::peek_hello(received.filled()).map_err(|error| error.to_string())?;
        if let Some(frame) = frame {
            let bytes = frame.frame_bytes();
            let message = frame.open().map_err(|error| error.to_string())?;
            received.consume(bytes);
            return match message {
                Message::HelloReply(HelloReply::Accepted { node }) if node == target => Ok(()),
                Message::HelloReply(HelloReply::Accepted { node }) => {
                    Err(format!("node {node} answers in its place"))
                }
                Message::HelloReply(HelloReply::Refused(refusal)) => {
                    tracing::warn!("node {target} does not talk to this node: {refusal:?}");
                    Err(format!("{refusal:?}"))
                }
                _ => Err("it answers a hello with something else".to_owned()),
            };
        }
        match received.fill(reader, 0).await {
            Ok(0) => return Err("it has closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn read<S: futures_lite::AsyncRead + Unpin>(
    reader: &mut S,
    received: &mut Received,
    connection: &Connection,
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
            connection.answered(request, message).await;
        };
        match received.fill(reader, wanted).await {
            Ok(0) => return Err("it has closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl<R: Runtime> Transport for Dialer<R> {
    fn call(
        &self,
        target: NodeId,
        member: Member,
        request: Request,
    ) -> impl Future<Output = Result<Response, TransportError>> + 'static {
        let dialer = self.clone();
        async move {
            let connection = dialer.connection(target, member).await?;
            let message = match request {
                Request::Append(append) => Message::Append(append),
                Request::Vote(vote) => Message::Vote(vote),
                Request::PreVote(vote) => Message::PreVote(vote),
                Request::TransferLeader(transfer) => Message::TransferLeader(transfer),
            };
            response(target, dialer.ask(&connection, target, &message).await?)
        }
    }

    fn open(
        &self,
        target: NodeId,
        member: Member,
    ) -> impl Future<Output = Result<AppendStream, TransportError>> + 'static {
        let dialer = self.clone();
        async move {
            let connection = dialer.connection(target, member).await?;
            let (requests, sent) = Channels::channel(STREAM_REQUESTS);
            let (told, results) = Channels::channel(STREAM_RESULTS);
            let runtime = dialer.inner.runtime.clone();
            let pumped = async move { dialer.pump(connection, sent, told).await };
            runtime.spawn(within(runtime.clone(), pumped));
            Ok(AppendStream { requests, results })
        }
    }
}

fn response(target: NodeId, message: Message) -> Result<Response, TransportError> {
    Ok(match message {
        Message::AppendReply(result) => {
            let result: StreamAppendResult<Types> = result;
            Response::Append(AppendEntriesResponse::from(result))
        }
        Message::VoteReply(vote) => Response::Vote(vote),
        Message::PreVoteReply(vote) => Response::PreVote(vote),
        Message::TransferLeaderReply(transfer) => Response::TransferLeader(transfer),
        Message::Error(error) => {
            return Err(TransportError::Stopped(target, error.message));
        }
        _ => return Err(TransportError::Broken(target)),
    })
}
