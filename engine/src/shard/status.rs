//! The server's account of itself, as named numbers. Each shard tells of its own partitions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{
    ErrorCode, ErrorReply, NO_PARTITION, NumberRow, ServerStatusReply, TextRow,
};
use walengine_replication::tcp::accept::Refusals;
use walengine_replication::tcp::dial::{Dialer, Traffic};
use walengine_replication::types::NodeId;

use super::outbox::Outbox;
use super::request::Refused;
use super::served::Served;
use super::session::SERVER_VERSION;
use crate::control::view::ClusterView;
use crate::node::Shared;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// What the sessions of a shard know of their node.
pub struct NodeFacts<D: Disk, R: Runtime> {
    /// Facts that all shards share.
    pub shared: Arc<Shared>,
    /// This shard's partitions.
    pub partitions: Vec<Served<D, R>>,
    /// The ways to peers of those that a group keeps, in the same order.
    pub dialers: Vec<Dialer<R>>,
    /// The cluster as it was last heard of.
    pub cluster: RefCell<Arc<ClusterView>>,
    /// Connections open on this shard.
    pub connections: Cell<usize>,
    /// What this shard has refused of peers.
    pub refusals: Rc<Refusals>,
}

impl<D: Disk, R: Runtime> NodeFacts<D, R> {
    /// Where a node takes clients; empty if that is not known.
    pub fn client_address(&self, node: NodeId) -> String {
        self.cluster.borrow().client_address(node).to_owned()
    }

    /// Puts in why a partition did not take a request.
    pub fn put_refused(&self, outbox: &Outbox, head: FrameHead, refused: &Refused) {
        let Refused::NotLeader(leader) = refused else { return outbox.put_refused(head, refused) };
        let address = leader.map(|node| self.client_address(node)).unwrap_or_default();
        let message = "another node leads the partition";
        let reply = ErrorReply::new(ErrorCode::NotLeader, message).leader(&address);
        outbox.put(Kind::Error, head, &reply);
    }
}

/// Answers [`Kind::ServerStatus`].
pub fn answer<D: Disk, R: Runtime>(node: &Rc<NodeFacts<D, R>>, outbox: &Outbox, head: FrameHead) {
    let shared = &node.shared;
    let mut numbers = Vec::new();
    let mut texts = Vec::new();
    let mut of_node = |name, value| {
        numbers.push(NumberRow { partition: NO_PARTITION, value, name });
    };
    of_node("uptime_seconds", shared.started.elapsed().as_secs());
    of_node("cores", shared.config.cores as u64);
    of_node("partitions", u64::from(shared.superblock.partitions));
    of_node("free_bytes", shared.free_bytes.load(Ordering::Relaxed));
    of_node("reserve_bytes", shared.config.reserve_bytes);
    of_node("connections_of_shard", node.connections.get() as u64);
    if shared.config.cluster.is_some() {
        let Refusals { hellos, broken, requests } = &*node.refusals;
        of_node("peers_refused_of_shard_since_start", hellos.get());
        of_node("peer_connections_broken_of_shard_since_start", broken.get());
        of_node("peer_requests_refused_of_shard_since_start", requests.get());
    }
    let dropped: Vec<_> = shared.gossip_dropped.each().filter(|(_, count)| *count > 0).collect();
    let names: Vec<_> = dropped
        .iter()
        .map(|(reason, _)| format!("datagrams_dropped_{reason}_since_start"))
        .collect();
    for ((_, count), name) in dropped.iter().zip(&names) {
        numbers.push(NumberRow { partition: NO_PARTITION, value: *count, name });
    }
    let stops: Vec<_> = node.partitions.iter().map(|partition| why(partition)).collect();
    let peers = names_of_peers(&node.dialers);
    for (number, (partition, state)) in node.partitions.iter().zip(&stops).enumerate() {
        let id = partition.identity().partition.0;
        let counters = partition.counters();
        let mut of_partition = |name, value| {
            numbers.push(NumberRow { partition: id, value, name });
        };
        partition.with_ledger(|ledger| {
            of_partition("next_offset", ledger.next_offset().0);
            of_partition("accounts", u64::from(ledger.accounts_len()));
            of_partition("remembered_ids", ledger.ids_len() as u64);
            of_partition("open_pendings", ledger.pendings_len() as u64);
        });
        of_partition("durable_offset", partition.told_offset().0);
        of_partition("term", partition.term());
        of_partition("last_index", partition.log().last().index);
        of_partition("durable_index", partition.log().durable_index());
        of_partition("entries_since_start", counters.entries);
        of_partition("records_since_start", counters.records);
        of_partition("refused_busy_since_start", counters.refused_busy);
        of_partition("refused_full_since_start", counters.refused_full);
        let flushed = partition.log().flush_counts();
        of_partition("flushes_since_start", flushed.flushes);
        of_partition("flush_bytes_since_start", flushed.bytes);
        of_partition("flushes_inflight_max", flushed.inflight_max as u64);
        for (name, value) in peers.get(number).into_iter().flatten() {
            of_partition(name, *value);
        }
        texts.push(TextRow { partition: id, name: "state", text: state });
    }
    texts.push(TextRow { partition: NO_PARTITION, name: "version", text: SERVER_VERSION });
    let reply = ServerStatusReply { numbers: &numbers, texts: &texts };
    outbox.put(Kind::ServerStatusReply, head, &reply);
}

/// What went to each peer, partition by partition.
fn names_of_peers<R: Runtime>(dialers: &[Dialer<R>]) -> Vec<Vec<(String, u64)>> {
    let of_peer = |(node, traffic): (NodeId, Traffic)| {
        let Traffic { appends, append_bytes, appends_inflight_max } = traffic;
        [
            (format!("appends_to_node_{node}"), appends),
            (format!("append_bytes_to_node_{node}"), append_bytes),
            (format!("appends_inflight_max_to_node_{node}"), appends_inflight_max as u64),
        ]
    };
    dialers.iter().map(|dialer| dialer.traffic().into_iter().flat_map(of_peer).collect()).collect()
}

fn why<D: Disk, R: Runtime>(partition: &Served<D, R>) -> String {
    let text = match partition.stopped() {
        Some(Refused::Stopped(reason)) => format!("stopped: {reason}"),
        Some(_) => "shutting down".into(),
        None if partition.is_full() => "refusing writes: disk nearly full".into(),
        None if !partition.is_readable() => "catching up".into(),
        None if !partition.leads() => "following".into(),
        None => "serving".into(),
    };
    walengine_net::message::bounded(&text, walengine_net::limits::LABEL_BYTES_MAX).to_owned()
}
