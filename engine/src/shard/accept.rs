//! Connections as they come: accepted by any shard, and handed once to the shard that owns the
//! partition that the first frame names.
//!
//! Until a client has said hello it costs a small buffer and is given little time, counted from when
//! it was accepted. Beyond the limit of connections a few more are taken, for operators: they are told
//! how the node is, and nothing else.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use walengine_net::frame::{self, FrameHead, FrameHeader, Kind};
use walengine_net::message::ErrorCode;
use walengine_net::model::PartitionId;
use walengine_net::tls::{self, Greeting, Proven, Secured, Tls};
use walengine_replication::peer::frame::peek_hello;
use walengine_replication::read_out::read_out;
use walengine_replication::received::Received;
use walengine_replication::tcp::socket::Socket;
use walengine_replication::turned_away::{Reason, Side};

use super::handed::{HandedConnection, Port};
use super::host::Hosted;
use super::operators::Place;
use super::serve::serve_client;
use super::state::Shard;
use crate::connection::errors::put_frame_error;
use crate::connection::outbox::Outbox;
use crate::limits::{
    ACCEPT_RETRY_AFTER, ACCEPT_TELL_EVERY, CLIENT_HELLO_BYTES_MAX, HELLO_BODY_BYTES_MAX,
    HELLO_WITHIN, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_PROBES_MAX, PEER_CONNECTIONS_MAX,
};
use crate::os;
use crate::runtime::Runtime;
use crate::runtime_glommio::GlommioRuntime;

/// Accepts connections until it is cancelled.
pub(super) async fn accept<C: Hosted>(shard: Rc<Shard<C>>, listener: TcpListener, port: Port) {
    let mut told = None;
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others may close meanwhile.
                let now = shard.runtime.elapsed();
                let is_due = |told: Duration| now.saturating_sub(told) >= ACCEPT_TELL_EVERY;
                if told.is_none_or(is_due) {
                    told = Some(now);
                    tracing::warn!("cannot accept connections, which is tried again: {error}");
                }
                shard.runtime.sleep(ACCEPT_RETRY_AFTER).await;
                continue;
            }
        };
        // The other side sees the connection close and backs off.
        let Some(place) = place(&shard, &stream, port) else {
            if let Ok(address) = stream.peer_addr() {
                turn_away(&shard, port, Reason::TooMany, Some(address), NO_PLACE);
            }
            continue;
        };
        let (greeted, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move {
            let address = stream.peer_addr().ok();
            let late = async {
                late(&greeted, &place, port, address).await;
                None
            };
            let greeting = greet(&greeted, stream, port);
            if let Some(greeted_as) = or(greeting, late).await {
                hand_on(&greeted, greeted_as, place, port);
            }
        });
    }
}

const NO_PLACE: &str = "all places are taken";

/// Completes when a connection has had its time to say who it is and what it wants.
async fn late<C: Hosted>(shard: &Shard<C>, place: &Place, port: Port, address: Option<SocketAddr>) {
    let time = async {
        shard.runtime.sleep(HELLO_WITHIN).await;
        (Reason::Late, "it has not said what it wants")
    };
    let given_up = async {
        place.given_up().await;
        (Reason::TooMany, "it was silent, and another needed its place")
    };
    let (reason, why) = or(time, given_up).await;
    turn_away(shard, port, reason, address, why);
}

fn turn_away<C: Hosted>(
    shard: &Shard<C>,
    port: Port,
    reason: Reason,
    address: Option<SocketAddr>,
    why: &str,
) {
    let side = match port {
        Port::Clients => Side::Client,
        Port::Peers => Side::Peer,
    };
    shard.node.state.turned_away.count(side, reason, address, &why);
}

/// Room for one more connection; `None` if there is none.
fn place<C: Hosted>(shard: &Shard<C>, stream: &TcpStream, port: Port) -> Option<Place> {
    let kept = os::keep_alive(stream, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_PROBES_MAX);
    if let Err(error) = kept.and_then(|()| Ok(stream.set_nodelay(true)?)) {
        tracing::debug!("a socket does not take its options: {error}"); // slower, and right
    }
    match port {
        Port::Peers => {
            let is_full = shard.peers.get() >= PEER_CONNECTIONS_MAX;
            (!is_full).then(|| Place::of_peer(&shard.peers))
        }
        Port::Clients => {
            let address = stream.peer_addr().ok()?.ip(); // gone already
            let admitted = shard.node.state.admission.admit(address);
            shard.operators.place(admitted, shard.runtime.elapsed())
        }
    }
}

/// Why a connection goes no further, and what it is answered before it is closed.
struct Refused {
    answer: Vec<u8>,
    reason: Reason,
    why: String,
}

/// A connection of which is known where it belongs.
struct Greeted {
    stream: TcpStream,
    received: Received,
    partition: PartitionId,
}

/// Finds out which partition a connection is for.
async fn greet<C: Hosted>(
    shard: &Rc<Shard<C>>,
    mut stream: TcpStream,
    port: Port,
) -> Option<Greeted> {
    let state = &shard.node.state;
    let partitions = state.superblock.partitions;
    let budget = match port {
        Port::Clients => &shard.budget,
        Port::Peers => &shard.peers_budget,
    };
    let mut received = Received::new(budget);
    let any = if shard.number < usize::from(partitions) { shard.number as u16 } else { 0 };
    let named = |bytes: &[u8]| match port {
        _ if state.tls.is_some() => secured_partition(bytes, any, partitions),
        Port::Clients => client_partition(bytes, partitions),
        Port::Peers => Ok(peer_partition(bytes, any, partitions)),
    };
    let address = stream.peer_addr().ok();
    let refused = |reason, why: &str| turn_away(shard, port, reason, address, why);
    let first = first_frame(&mut stream, &mut received, named, refused, &shard.runtime);
    let partition = first.await?;
    Some(Greeted { stream, received, partition })
}

/// Reads until it is known which partition is named. `None` if there is no use in the connection, which
/// has been told so.
async fn first_frame<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    received: &mut Received,
    named: impl Fn(&[u8]) -> Result<Option<PartitionId>, Refused>,
    refused: impl Fn(Reason, &str),
    runtime: &GlommioRuntime,
) -> Option<PartitionId> {
    loop {
        match named(received.filled()) {
            Ok(Some(partition)) => return Some(partition),
            Ok(None) => {}
            Err(Refused { answer, reason, why }) => {
                refused(reason, &why);
                // The client may be gone; there is nothing more to tell it then.
                let _ = stream.write_all(&answer).await;
                let _ = stream.close().await;
                read_out(stream, std::future::ready(()), runtime).await;
                return None;
            }
        }
        match received.fill(stream, 0).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Has a connection served where its partition lives.
fn hand_on<C: Hosted>(shard: &Rc<Shard<C>>, greeted: Greeted, place: Place, port: Port) {
    let Greeted { stream, received, partition } = greeted;
    let owner = shard.node.state.shard_of(partition);
    if owner == shard.number {
        serve(shard, stream, received, partition, port, place);
    } else {
        let (stream, received) = (stream.into_accepted(), received.into_filled());
        let admitted = place.into_admitted();
        let handed = HandedConnection { stream, received, partition, port, admitted };
        // A full queue: the other side sees the connection close and comes again.
        if let Err(unsent) = shard.others[owner].try_send(handed) {
            let address = unsent.into_inner().stream.peer_addr().ok();
            turn_away(shard, port, Reason::TooMany, address, "another core has no time for it");
        }
    }
}

/// The partition that the beginning of a handshake names; `any` if it names none.
///
/// # Errors
/// What to answer before closing.
fn secured_partition(
    bytes: &[u8],
    any: u16,
    partitions: u16,
) -> Result<Option<PartitionId>, Refused> {
    let no_tls = |answer| {
        Err(Refused { answer, reason: Reason::TlsFailed, why: "it speaks no TLS".to_owned() })
    };
    match tls::greeting(bytes) {
        Greeting::Named(partition) => {
            let known = partition.filter(|partition| partition.0 < partitions);
            Ok(Some(known.unwrap_or(PartitionId(any))))
        }
        Greeting::Partial if bytes.len() < CLIENT_HELLO_BYTES_MAX => Ok(None),
        Greeting::Foreign => no_tls(match FrameHeader::decode(bytes) {
            Ok(FrameHeader { head, .. }) => {
                let outbox = Outbox::default();
                let head = FrameHead::reply(head.partition, head.request);
                let message = "this server wants certificates: give --tls DIR";
                outbox.put_error(head, ErrorCode::Forbidden, message);
                outbox.take(Vec::new())
            }
            Err(_) => Vec::new(),
        }),
        Greeting::Partial => no_tls(Vec::new()),
    }
}

/// The partition of a client's first frame, once the frame is there. A whole hello is small, so what
/// is announced as more is none.
///
/// # Errors
/// What to answer before closing.
fn client_partition(bytes: &[u8], partitions: u16) -> Result<Option<PartitionId>, Refused> {
    let outbox = Outbox::default();
    let no = |reason, why: &str| {
        Err(Refused { answer: outbox.take(Vec::new()), reason, why: why.to_owned() })
    };
    let whole = frame::peek_bytes(bytes);
    let header = whole.and_then(|whole| whole.map(|_| FrameHeader::decode(bytes)).transpose());
    let header = match header {
        Ok(None) => return Ok(None),
        Ok(Some(header)) => header,
        Err(error) => {
            put_frame_error(&outbox, PartitionId(0), &error);
            return no(Reason::Malformed, &error.to_string());
        }
    };
    let head = FrameHead::reply(header.head.partition, header.head.request);
    if header.kind != Kind::Hello.number() {
        let message = "the first frame must be a hello, which names the partition";
        outbox.put_error(head, ErrorCode::WrongPartition, message);
        return no(Reason::WrongPartition, message);
    }
    if header.body_bytes as usize > HELLO_BODY_BYTES_MAX {
        let message = format!("a hello has at most {HELLO_BODY_BYTES_MAX} bytes");
        outbox.put_error(head, ErrorCode::TooLarge, &message);
        return no(Reason::Malformed, &message);
    }
    if header.head.partition.0 >= partitions {
        let message = format!("there are partitions 0 to {}", partitions - 1);
        outbox.put_error(head, ErrorCode::NoSuchPartition, &message);
        return no(Reason::WrongPartition, &message);
    }
    Ok((bytes.len() >= header.frame_bytes()).then_some(header.head.partition))
}

/// The partition of a peer's hello, once it is there. If the bytes are no hello, any partition of this
/// shard will do: its group says what is wrong with them.
fn peer_partition(bytes: &[u8], any: u16, partitions: u16) -> Option<PartitionId> {
    let partition = match peek_hello(bytes) {
        Ok(hello) => hello?.head.partition,
        Err(_) => PartitionId(any),
    };
    Some(if partition.0 < partitions { partition } else { PartitionId(0) })
}

/// Takes connections from other shards until it is cancelled.
pub(super) async fn take_handed<C: Hosted>(
    shard: Rc<Shard<C>>,
    handed: flume::Receiver<HandedConnection>,
) {
    while let Ok(handed) = handed.recv_async().await {
        let HandedConnection { stream, received, partition, port, admitted } = handed;
        let place = match admitted {
            Some(admitted) => shard.operators.place(admitted, shard.runtime.elapsed()),
            None => {
                (shard.peers.get() < PEER_CONNECTIONS_MAX).then(|| Place::of_peer(&shard.peers))
            }
        };
        let Some(place) = place else {
            turn_away(&shard, port, Reason::TooMany, stream.peer_addr().ok(), NO_PLACE);
            continue;
        };
        let budget = match port {
            Port::Clients => &shard.budget,
            Port::Peers => &shard.peers_budget,
        };
        let (stream, received) =
            (stream.bind_to_executor(), Received::from_bytes(received, budget));
        serve(&shard, stream, received, partition, port, place);
    }
}

/// Serves a connection of one of this shard's partitions in the background.
fn serve<C: Hosted>(
    shard: &Rc<Shard<C>>,
    stream: TcpStream,
    received: Received,
    partition: PartitionId,
    port: Port,
    at: Place,
) {
    let Some(place) = shard.node.place_of(partition) else { return };
    let Some(tls) = &shard.node.state.tls else {
        return serve_socket(shard, place, stream.into(), None, received, port, at);
    };
    let (shard, tls) = (shard.clone(), tls.clone());
    let runtime = shard.runtime;
    runtime.spawn(async move {
        let address = stream.peer_addr().ok();
        let late = async {
            late(&shard, &at, port, address).await;
            None
        };
        let budget = received.budget().clone();
        let securing = async {
            let secured = secure(&tls, stream, received.into_filled(), port).await;
            let (mut socket, proven) = match secured {
                Ok(secured) => secured,
                Err((reason, why)) => {
                    turn_away(&shard, port, reason, address, &why);
                    return None;
                }
            };
            let mut received = Received::new(&budget);
            if port == Port::Clients {
                let partitions = shard.node.state.superblock.partitions;
                let named = |bytes: &[u8]| client_partition(bytes, partitions);
                let refused = |reason, why: &str| turn_away(&shard, port, reason, address, why);
                first_frame(&mut socket, &mut received, named, refused, &shard.runtime).await?;
            }
            Some((socket, proven, received))
        };
        if let Some((socket, proven, received)) = or(securing, late).await {
            serve_socket(&shard, place, socket, Some(proven), received, port, at);
        }
    });
}

/// Shakes hands with whoever has connected.
///
/// # Errors
/// Who it is was not proven; the other side has been told by an alert.
async fn secure(
    tls: &Arc<Tls>,
    stream: TcpStream,
    received: Vec<u8>,
    port: Port,
) -> Result<(Socket, Proven), (Reason, String)> {
    let current = tls.current();
    let config = match port {
        Port::Clients => current.serve_clients(),
        Port::Peers => current.serve_peers(),
    };
    let failed = |why: &str| (Reason::TlsFailed, why.to_owned());
    let config = config.cloned().ok_or_else(|| failed("this is no node's certificate"))?;
    let secured = Secured::server(config, received).map_err(|error| failed(&error.to_string()))?;
    let socket = Socket::secure(stream, secured).await.map_err(|error| {
        let why = tls::refusal_of(&error);
        why.as_ref().map_or_else(|| failed(&error.to_string()), not_proven)
    })?;
    let proven = socket.proven(tls, &current).map_err(|why| not_proven(&why))?;
    Ok((socket, proven))
}

/// Why a certificate is not enough, among the reasons that are counted.
fn not_proven(why: &tls::Refusal) -> (Reason, String) {
    let reason = match why {
        tls::Refusal::Missing => Reason::NoCertificate,
        tls::Refusal::Foreign | tls::Refusal::OtherCluster(_) => Reason::Foreign,
        tls::Refusal::Expired | tls::Refusal::NotYetValid => Reason::Expired,
        tls::Refusal::Revoked => Reason::Revoked,
        tls::Refusal::Usage
        | tls::Refusal::Nobody
        | tls::Refusal::Several
        | tls::Refusal::NoNode(_) => Reason::WrongRole,
        tls::Refusal::OtherNode { .. } | tls::Refusal::OtherHost(_) => Reason::WrongNode,
        _ => Reason::TlsFailed,
    };
    (reason, why.to_string())
}

fn serve_socket<C: Hosted>(
    shard: &Rc<Shard<C>>,
    place: usize,
    socket: Socket,
    proven: Option<Proven>,
    received: Received,
    port: Port,
    at: Place,
) {
    match port {
        Port::Peers => C::serve_peer(&shard.node, place, socket, proven, received, at),
        Port::Clients => {
            let (served, runtime) = (shard.clone(), shard.runtime);
            runtime.spawn(async move {
                serve_client(&served, place, socket, proven, received, at).await;
            });
        }
    }
}
