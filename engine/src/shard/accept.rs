//! Connections as they come: accepted by any shard, and handed once to the shard that owns the
//! partition that the first frame names.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use glommio::net::{TcpListener, TcpStream};
use walengine_net::frame::{self, FrameHead, FrameHeader};
use walengine_net::message::ErrorCode;
use walengine_net::model::PartitionId;
use walengine_replication::peer::frame::peek_hello;
use walengine_replication::received::Received;

use super::handed::{HandedConnection, Port};
use super::host::Hosted;
use super::serve::serve_client;
use super::state::Shard;
use crate::connection::errors::put_frame_error;
use crate::connection::outbox::Outbox;
use crate::limits::{ACCEPT_RETRY_AFTER, ACCEPT_TELL_EVERY, FRAME_WITHIN};
use crate::runtime::Runtime as _;

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
        // What is dropped here sees its connection close and backs off.
        let greeting = Greeting::begin(&shard);
        if greeting.is_none() && port == Port::Clients {
            continue;
        }
        let (greeted, runtime) = (shard.clone(), shard.runtime);
        runtime.spawn(async move {
            let _greeting = greeting;
            let late = async {
                greeted.runtime.sleep(FRAME_WITHIN).await;
            };
            futures_lite::future::or(greet(&greeted, stream, port), late).await;
        });
    }
}

/// A connection that has not named its partition yet. It takes a descriptor, too.
struct Greeting<C: Hosted>(Rc<Shard<C>>);

impl<C: Hosted> Greeting<C> {
    /// `None` if there are as many connections as there may be.
    fn begin(shard: &Rc<Shard<C>>) -> Option<Self> {
        let open = shard.greeting.get() + shard.node.connections.get();
        if open >= shard.node.state.config.connections_max {
            return None;
        }
        shard.greeting.set(shard.greeting.get() + 1);
        Some(Self(shard.clone()))
    }
}

impl<C: Hosted> Drop for Greeting<C> {
    fn drop(&mut self) {
        self.0.greeting.set(self.0.greeting.get() - 1);
    }
}

/// Finds out which partition a connection is for, and serves it there.
async fn greet<C: Hosted>(shard: &Rc<Shard<C>>, mut stream: TcpStream, port: Port) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("no TCP_NODELAY: {error}"); // slower without, and right
    }
    let partitions = shard.node.state.superblock.partitions;
    let mut received = Received::default();
    let partition = loop {
        let named = match port {
            Port::Clients => client_partition(received.filled(), partitions),
            Port::Peers => Ok(peer_partition(received.filled(), shard.number, partitions)),
        };
        match named {
            Ok(Some(partition)) => break partition,
            Ok(None) => {}
            Err(refusal) => {
                // The client may be gone; there is nothing more to tell it then.
                let _ = stream.write_all(&refusal.take(Vec::new())).await;
                let _ = stream.close().await;
                return;
            }
        }
        match received.fill(&mut stream, 0).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let owner = shard.node.state.shard_of(partition);
    if owner == shard.number {
        serve(shard, stream, received, partition, port);
    } else {
        let (stream, received) = (stream.into_accepted(), received.into_filled());
        let handed = HandedConnection { stream, received, partition, port };
        // A full queue: the other side sees the connection close and comes again.
        let _ = shard.others[owner].try_send(handed);
    }
}

/// The partition of a client's first frame, once its header is there.
///
/// # Errors
/// What to answer before closing.
fn client_partition(bytes: &[u8], partitions: u16) -> Result<Option<PartitionId>, Outbox> {
    let outbox = Outbox::default();
    let whole = frame::peek_bytes(bytes);
    let header = whole.and_then(|whole| whole.map(|_| FrameHeader::decode(bytes)).transpose());
    let partition = match header {
        Ok(None) => return Ok(None),
        Ok(Some(header)) => header.head.partition,
        Err(error) => {
            put_frame_error(&outbox, PartitionId(0), &error);
            return Err(outbox);
        }
    };
    if partition.0 < partitions {
        return Ok(Some(partition));
    }
    let head = FrameHead::reply(partition, frame::RequestId(1));
    let message = format!("there are partitions 0 to {}", partitions - 1);
    outbox.put_error(head, ErrorCode::NoSuchPartition, &message);
    Err(outbox)
}

/// The partition of a peer's hello, once it is there. If the bytes are no hello, any partition of this
/// shard will do: its group says what is wrong with them.
fn peer_partition(bytes: &[u8], shard: usize, partitions: u16) -> Option<PartitionId> {
    let partition = match peek_hello(bytes) {
        Ok(hello) => hello?.head.partition,
        Err(_) => PartitionId(shard as u16),
    };
    Some(if partition.0 < partitions { partition } else { PartitionId(0) })
}

/// Takes connections from other shards until it is cancelled.
pub(super) async fn take_handed<C: Hosted>(
    shard: Rc<Shard<C>>,
    handed: flume::Receiver<HandedConnection>,
) {
    while let Ok(HandedConnection { stream, received, partition, port }) = handed.recv_async().await
    {
        let (stream, received) = (stream.bind_to_executor(), Received::from_bytes(received));
        serve(&shard, stream, received, partition, port);
    }
}

/// Serves a connection of one of this shard's partitions in the background.
fn serve<C: Hosted>(
    shard: &Rc<Shard<C>>,
    stream: TcpStream,
    received: Received,
    partition: PartitionId,
    port: Port,
) {
    let Some(place) = shard.node.place_of(partition) else { return };
    match port {
        Port::Peers => C::serve_peer(&shard.node, place, stream, received),
        Port::Clients => {
            let (served, runtime) = (shard.clone(), shard.runtime);
            runtime.spawn(async move { serve_client(&served, place, stream, received).await });
        }
    }
}
