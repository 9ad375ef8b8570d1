//! The asking end: a connection to each peer of a group, dialled when it is first needed and again
//! after it broke.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::net::TcpStream;
use openraft::AsyncRuntime;
use openraft::async_runtime::{Mpsc, MpscReceiver};
use openraft::raft::{AppendEntriesResponse, StreamAppendResult};

use walengine_net::tls::{Expected, Proven, Tls};

pub use super::dialled::Traffic;
use super::dialled::{Dialled, greeting};
use super::socket::Socket;
use super::{AGAIN_AFTER, CONNECT_WITHIN, PeerIdentity, STREAM_REQUESTS, STREAM_RESULTS};
use crate::executor::Runtime;
use crate::local::Notify;
use crate::peer::{
    About, Carried, Hello, LogPage, LogRead, Message, PeerError, PeerErrorCode, Refusal, Words,
    fitting,
};
use crate::received::Received;
use crate::runtime::{LocalRuntime, within};
use crate::transport::{
    AppendReceiver, AppendStream, Request, Response, ResultSender, Transport, TransportError,
};
use crate::types::{Entry, Member, NodeId, Payload, Types};

type Channels = <LocalRuntime as AsyncRuntime>::Mpsc;

/// See the module. Clones share connections.
#[derive(Clone)]
pub struct Dialer<R: Runtime> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: Runtime> {
    identity: PeerIdentity,
    tls: Option<Arc<Tls>>,
    runtime: R,
    links: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    /// Where nodes are said to be. What the group's log says of them comes first.
    announced: RefCell<BTreeMap<NodeId, SocketAddr>>,
}

/// The way to one peer, whether a connection is up or not.
struct Link {
    target: NodeId,
    state: RefCell<LinkState>,
    changed: Notify,
    traffic: Rc<Cell<Traffic>>,
    /// What it answered to the last hello, if it refused that.
    refused: Cell<Option<Refusal>>,
}

enum LinkState {
    Connecting,
    Up(Rc<Dialled>),
    /// Not dialled before `until`. `pause` is how long to wait after the next failure.
    Down {
        until: Duration,
        pause: Duration,
    },
}

impl Link {
    /// A peer that was never dialled.
    fn new(target: NodeId) -> Self {
        let state = LinkState::Down { until: Duration::ZERO, pause: AGAIN_AFTER.0 };
        let (state, traffic) = (RefCell::new(state), Rc::default());
        let refused = Cell::new(None);
        Self { target, state, changed: Notify::new(), traffic, refused }
    }

    /// This connection is the one that is used.
    fn is_up_by(&self, connection: &Rc<Dialled>) -> bool {
        matches!(&*self.state.borrow(), LinkState::Up(used) if Rc::ptr_eq(used, connection))
    }

    fn set(&self, state: LinkState) {
        self.state.replace(state);
        self.changed.notify_all();
    }
}

impl<R: Runtime> Dialer<R> {
    /// For a group's replica on this node.
    pub fn new(identity: PeerIdentity, tls: Option<Arc<Tls>>, runtime: R) -> Self {
        let (links, announced) = (RefCell::default(), RefCell::default());
        Self { inner: Rc::new(Inner { identity, tls, runtime, links, announced }) }
    }

    /// What went to each peer since the start.
    pub fn traffic(&self) -> Vec<(NodeId, Traffic)> {
        let links = self.inner.links.borrow();
        links.iter().map(|(&target, link)| (target, link.traffic.get())).collect()
    }

    /// Why a peer does not talk to this node, if it said so when it was dialled last.
    pub fn refused(&self, target: NodeId) -> Option<Refusal> {
        self.inner.links.borrow().get(&target)?.refused.get()
    }

    /// Somebody says that a node is at this address. It is dialled there if it is not found where the group's
    /// log says that it is, so that nobody leads this node away from one that lives. Where this node itself is
    /// does not count: whoever looks for another one with its id would find this one.
    pub fn announce(&self, node: NodeId, address: SocketAddr) {
        if node != self.inner.identity.node {
            self.inner.announced.borrow_mut().insert(node, address);
        }
    }

    /// Where somebody says that a node is.
    pub fn announced(&self, node: NodeId) -> Option<SocketAddr> {
        self.inner.announced.borrow().get(&node).copied()
    }

    /// Forgets what is known of nodes that nobody speaks of any more.
    pub fn keep(&self, is_known: impl Fn(NodeId) -> bool) {
        self.inner.announced.borrow_mut().retain(|node, _| is_known(*node));
        self.inner.links.borrow_mut().retain(|node, link| {
            is_known(*node) || !matches!(*link.state.borrow(), LinkState::Down { .. })
        });
    }

    /// What a peer says of itself, the address at which it was dialled for this answer, and how long the answer
    /// took. `None`: its program is too old to say anything.
    ///
    /// # Errors
    /// It can't be reached, or does not answer.
    pub async fn about(
        &self,
        target: NodeId,
        member: Member,
    ) -> Result<(SocketAddr, Option<About>, Duration), TransportError> {
        let connection = self.connection(target, member).await?;
        let asked = self.inner.runtime.elapsed();
        let answer = connection.ask(target, &Message::About).await?;
        let at = connection.address;
        let took = self.inner.runtime.elapsed().saturating_sub(asked);
        match answer {
            Message::AboutReply(about) => Ok((at, Some(about), took)),
            Message::Error(PeerError { code: PeerErrorCode::UnknownKind, .. }) => {
                Ok((at, None, took))
            }
            _ => Err(TransportError::Broken(target)),
        }
    }

    /// Where to look for a peer, in order.
    fn addresses(&self, target: NodeId, member: &Member) -> Result<Vec<SocketAddr>, String> {
        let announced = self.announced(target);
        let recorded = member.peer_address.parse();
        match (announced, recorded) {
            (Some(announced), Ok(recorded)) if announced != recorded => {
                Ok(vec![recorded, announced])
            }
            (Some(announced), _) => Ok(vec![announced]),
            (None, Ok(recorded)) => Ok(vec![recorded]),
            (None, Err(error)) => Err(format!("its address: {error}")),
        }
    }

    /// Reads committed entries from a peer's log.
    ///
    /// # Errors
    /// The peer can't be reached, or can't read them.
    pub async fn read_log(
        &self,
        target: NodeId,
        member: Member,
        read: LogRead,
    ) -> Result<LogPage, TransportError> {
        let connection = self.connection(target, member).await?;
        match connection.ask(target, &Message::LogRead(read)).await? {
            Message::LogPage(page) => Ok(page),
            Message::Error(error) => Err(TransportError::Stopped(target, error.message)),
            _ => Err(TransportError::Broken(target)),
        }
    }

    /// Has the peer decide what another partition has prepared, or hand it on; the words on it.
    ///
    /// # Errors
    /// The peer can't be reached, or does not lead: it is not known whether it was decided.
    pub async fn carry(
        &self,
        target: NodeId,
        member: Member,
        carried: Carried,
    ) -> Result<Words, TransportError> {
        let connection = self.connection(target, member).await?;
        match connection.ask(target, &Message::Carry(carried)).await? {
            Message::CarryReply(words) => Ok(words),
            Message::Error(error) => Err(TransportError::Stopped(target, error.message)),
            _ => Err(TransportError::Broken(target)),
        }
    }

    /// Closes every connection. Whoever waits for an answer is told.
    pub fn close(&self) {
        for link in self.inner.links.borrow().values() {
            if let LinkState::Up(connection) = &*link.state.borrow() {
                connection.out.end();
            }
        }
    }

    /// The connection to a peer; dials if there is none. Several callers share one attempt.
    async fn connection(
        &self,
        target: NodeId,
        member: Member,
    ) -> Result<Rc<Dialled>, TransportError> {
        let link = {
            let mut links = self.inner.links.borrow_mut();
            links.entry(target).or_insert_with(|| Rc::new(Link::new(target))).clone()
        };
        let mut dialled = false;
        loop {
            let changed = link.changed.changed();
            let now = self.inner.runtime.elapsed();
            let (pause, wait) = match &*link.state.borrow() {
                LinkState::Up(connection) if !connection.out.has_ended() => {
                    return Ok(connection.clone());
                }
                LinkState::Up(_) => (Some(AGAIN_AFTER.0), Duration::ZERO),
                LinkState::Connecting => (None, Duration::ZERO),
                LinkState::Down { .. } if dialled => {
                    return Err(TransportError::Unreachable(target));
                }
                LinkState::Down { until, pause } => (Some(*pause), until.saturating_sub(now)),
            };
            if wait > Duration::ZERO {
                // A caller that is told of a failure at once asks again at once, without end.
                self.inner.runtime.sleep(wait).await;
                continue;
            }
            dialled = true;
            if let Some(pause) = pause {
                link.state.replace(LinkState::Connecting);
                self.dial(link.clone(), member.clone(), pause);
            }
            changed.await;
        }
    }

    fn dial(&self, link: Rc<Link>, member: Member, pause: Duration) {
        let (dialer, runtime) = (self.clone(), self.inner.runtime.clone());
        let dialled = async move {
            let addresses = dialer.addresses(link.target, &member).unwrap_or_else(|why| {
                tracing::debug!("node {}: {why}", link.target);
                Vec::new()
            });
            for address in &addresses {
                let late = async {
                    let within = CONNECT_WITHIN / addresses.len() as u32;
                    dialer.inner.runtime.sleep(within).await;
                    Err("no answer in time".to_owned())
                };
                match or(dialer.connect(&link, *address), late).await {
                    Ok(()) => return,
                    Err(why) => tracing::debug!("node {} at {address}: {why}", link.target),
                }
            }
            dialer.down(&link, pause);
        };
        self.inner.runtime.spawn(within(runtime, dialled));
    }

    fn down(&self, link: &Link, pause: Duration) {
        let runtime = &self.inner.runtime;
        let share = (runtime.random_u64() % 1024) as u32; // of the second half
        let until = runtime.elapsed() + pause / 2 + pause / 2 * share / 1024;
        link.set(LinkState::Down { until, pause: (pause * 2).min(AGAIN_AFTER.1) });
    }

    /// Connects and introduces this node; from then on two tasks carry frames.
    async fn connect(&self, link: &Rc<Link>, address: SocketAddr) -> Result<(), String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true); // without it the connection is slower, not wrong
        let PeerIdentity { cluster, node, partition, partitions } = self.inner.identity;
        let dialled = Dialled::new(self.inner.identity, address, link.traffic.clone());
        let connection = Rc::new(dialled);
        let mut unused = Unused(Some(connection.clone()));
        let hello = Message::Hello(Hello { cluster, node, partition, partitions });
        let request = connection.request_id();
        connection.out.put(request, &hello).map_err(|error| error.to_string())?;
        let (socket, proven) = self.secured(link.target, address, stream).await?;
        let (mut reader, writer) = socket.split();
        let (sends, runtime) = (connection.clone(), self.inner.runtime.clone());
        self.inner.runtime.spawn(async move { sends.out.send_all(writer, &runtime).await });
        let mut received = Received::default();
        greeting(&mut reader, &mut received, link.target, &link.refused).await?;
        unused.0 = None;
        link.set(LinkState::Up(connection.clone()));
        let (watched, runtime) = (connection.clone(), self.inner.runtime.clone());
        self.inner.runtime.spawn(async move { watched.watch(proven.as_ref(), &runtime).await });
        let (dialer, link, runtime) = (self.clone(), link.clone(), self.inner.runtime.clone());
        let reads = async move {
            let target = link.target;
            let ended = async {
                connection.out.ended().await;
                Ok(())
            };
            if let Err(why) = or(connection.read(&mut reader, &mut received), ended).await {
                tracing::debug!("node {target}: {why}");
            }
            connection.end(target);
            // Whoever found it ended may have dialled again already.
            if link.is_up_by(&connection) {
                dialer.down(&link, AGAIN_AFTER.0);
            }
        };
        runtime.spawn(within(runtime.clone(), reads));
        Ok(())
    }
}

impl<R: Runtime> Dialer<R> {
    /// Makes sure who answers, if this cluster has certificates.
    async fn secured(
        &self,
        target: NodeId,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<(Socket, Option<Proven>), String> {
        let Some(tls) = &self.inner.tls else { return Ok((stream.into(), None)) };
        let expected = Expected::node_at(Some(target), address.ip().into());
        let current = tls.current();
        let secured = current.connect(expected, self.inner.identity.partition);
        let secured = secured.map_err(|error| error.to_string())?;
        let socket = Socket::secure(stream, secured).await.map_err(|error| error.to_string())?;
        let proven = socket.proven(tls, &current).map_err(|why| why.to_string())?;
        Ok((socket, Some(proven)))
    }
}

/// A connection that ends with this: it was not greeted, or not in time.
struct Unused(Option<Rc<Dialled>>);

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.out.end();
        }
    }
}

/// Sends a stream's requests over the connection until either ends.
async fn pump(connection: Rc<Dialled>, mut requests: AppendReceiver, results: ResultSender) {
    let stream = connection.stream_id();
    while let Some(mut append) = requests.recv().await {
        connection.append_room().await;
        // More than a frame holds: the answer tells how far the entries went, and the rest is sent again.
        append.entries.truncate(fitting(&append.entries));
        let bytes = append.entries.iter().map(body_bytes).sum::<u64>();
        if !connection.append(stream, &Message::Append(append), bytes, results.clone()) {
            connection.forget(stream);
            return;
        }
    }
}

fn body_bytes(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Normal(batch) => batch.body.len() as u64,
        _ => 0,
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
            response(target, connection.ask(target, &message).await?)
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
            runtime.spawn(within(runtime.clone(), pump(connection, sent, told)));
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
        Message::Error(PeerError { code: PeerErrorCode::SetBack, message, .. }) => {
            return Err(TransportError::SetBack(target, message));
        }
        Message::Error(PeerError { code: PeerErrorCode::Dishonest, message, .. }) => {
            return Err(TransportError::Dishonest(target, message));
        }
        Message::Error(error) => {
            return Err(TransportError::Stopped(target, error.message));
        }
        _ => return Err(TransportError::Broken(target)),
    })
}
