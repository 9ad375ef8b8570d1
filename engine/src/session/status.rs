//! The server's account of itself, as named numbers. Each shard tells of its own partitions.

use std::sync::atomic::Ordering;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::limits::{LABEL_BYTES_MAX, STATUS_ROWS_MAX};
use walengine_net::message::{
    NO_PARTITION, NumberRow, ServerStatusReply, TROUBLE, TextRow, bounded,
};
use walengine_net::model::PartitionId;
use walengine_replication::tcp::accept::Refusals;
use walengine_replication::tcp::dial::{Dialer, Traffic};
use walengine_replication::types::NodeId;

use super::node_facts::NodeFacts;
use crate::connection::outbox::Outbox;
use crate::limits::STATUS_TROUBLES_MAX;
use crate::memory;
use crate::memory_parts::{Part, Parts};
use crate::node_state::NodeState;
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::partition::log_clock::ClockStanding;
use crate::refused::Refused;
use crate::runtime::Runtime;
use crate::trouble::{self, Trouble};
use crate::version::SERVER_VERSION;

/// Answers [`Kind::ServerStatus`], with as many of the shard's partitions as fit.
pub fn answer<C: Commit>(node: &NodeFacts<C>, outbox: &Outbox, head: FrameHead) {
    let state = &*node.state;
    let mut numbers = Vec::new();
    let mut texts = Vec::new();
    let mut of_node = |name, value| {
        numbers.push(NumberRow { partition: NO_PARTITION, value, name });
    };
    of_node("uptime_seconds", state.started.elapsed().as_secs());
    of_node("cores", state.config.cores as u64);
    of_node("partitions", u64::from(state.superblock.partitions));
    of_node("free_bytes", state.free_bytes.load(Ordering::Relaxed));
    of_node("reserve_bytes", state.config.reserve_bytes);
    let used = state.memory_used_bytes.load(Ordering::Relaxed);
    let limit = state.memory_limit_bytes.load(Ordering::Relaxed);
    of_node("memory_used_bytes", used);
    of_node("memory_limit_bytes", limit);
    of_node("memory_left_bytes", limit.saturating_sub(used));
    let own = state.memory_own_bytes.load(Ordering::Relaxed);
    let parts = state.memory_parts.sum();
    of_node("memory_budget_bytes", memory::budget_bytes());
    of_node("memory_of_process_bytes", own);
    for part in Part::ALL {
        of_node(part.name(), parts.of(part));
    }
    of_node("memory_other_bytes", parts.other_bytes(own));
    of_node("connections_of_shard", node.connections.get() as u64);
    of_node("connections_of_node", state.admission.connections() as u64);
    of_node("connection_bytes_of_shard", outbox.budget().used() as u64);
    of_node("connection_bytes_max_of_shard", outbox.budget().bytes_max() as u64);
    of_node("forbidden_since_start", state.policies.forbidden());
    if let Some(tls) = &state.tls {
        of_node("certificate_seconds_left", tls.current().left().as_secs());
    }
    if state.config.cluster.is_some() {
        let Refusals { hellos, broken, requests, .. } = &*node.refusals;
        of_node("peers_refused_of_shard_since_start", hellos.get());
        of_node("peer_connections_broken_of_shard_since_start", broken.get());
        of_node("peer_requests_refused_of_shard_since_start", requests.get());
    }
    let not_taken = not_taken(state);
    numbers.extend(not_taken.iter().map(|(name, count)| NumberRow {
        partition: NO_PARTITION,
        value: *count,
        name,
    }));
    let own = head.partition;
    let troubles = troubles(node, own);
    texts.push(TextRow { partition: NO_PARTITION, name: "version", text: SERVER_VERSION });
    let links = match (&state.tls, state.config.reachable()) {
        (Some(_), _) => "secured by certificates",
        (None, None) => "not secured; only this machine reaches them",
        (None, Some(_)) => "insecure: whoever reaches this node may do everything",
    };
    texts.push(TextRow { partition: NO_PARTITION, name: "links", text: links });
    texts.extend(troubles.iter().map(|(partition, name, text)| TextRow {
        partition: *partition,
        name,
        text,
    }));
    let states: Vec<_> = node.partitions.iter().map(|partition| state_of(partition)).collect();
    let peers = traffic_by_peer(&node.dialers);
    // The connection's own partition is always there. Who wants all asks on a connection of each.
    for place in own_first(node.partitions.iter().map(|one| one.id().partition), own) {
        let partition = &node.partitions[place];
        let peers = peers.get(place).map_or(&[][..], Vec::as_slice);
        let before = numbers.len();
        put_partition(partition, peers, &mut numbers);
        if numbers.len() + texts.len() >= STATUS_ROWS_MAX {
            numbers.truncate(before);
            break;
        }
        let (id, text) = (partition.id().partition.0, &states[place]);
        texts.push(TextRow { partition: id, name: "state", text });
    }
    let reply = ServerStatusReply { numbers: &numbers, texts: &texts };
    outbox.put(Kind::ServerStatusReply, head, &reply);
}

/// Datagrams that were dropped and connections that were turned away, by reason: those that there were.
fn not_taken(state: &NodeState) -> Vec<(String, u64)> {
    let dropped = state.gossip_dropped.each().filter(|(_, count)| *count > 0);
    let dropped =
        dropped.map(|(reason, count)| (format!("datagrams_dropped_{reason}_since_start"), count));
    let away = state.turned_away.each().filter(|(.., count)| *count > 0);
    let away = away.map(|(side, reason, count)| {
        let (side, reason) = (side.name(), reason.name());
        (format!("{side}_connections_turned_away_{reason}_since_start"), count)
    });
    dropped.chain(away).collect()
}

/// Places of partitions, that of `own` before the others.
fn own_first(partitions: impl Iterator<Item = PartitionId>, own: PartitionId) -> Vec<usize> {
    let mut places: Vec<_> = partitions.enumerate().collect();
    places.sort_by_key(|(_, partition)| *partition != own);
    places.into_iter().map(|(place, _)| place).collect()
}

fn put_partition<'a, C: Commit>(
    partition: &Partition<C>,
    peers: &'a [(String, u64)],
    numbers: &mut Vec<NumberRow<'a>>,
) {
    let id = partition.id().partition.0;
    let counters = partition.counters();
    let mut of_partition = |name, value| {
        numbers.push(NumberRow { partition: id, value, name });
    };
    let mut memory = Parts::default();
    partition.add_memory(&mut memory);
    partition.with_ledger(|ledger| {
        of_partition("next_offset", ledger.next_offset().0);
        of_partition("accounts", u64::from(ledger.accounts_len()));
        of_partition("remembered_ids", ledger.ids_len());
        of_partition("open_pendings", ledger.open_len() as u64);
        of_partition("under_way_to_other_partitions", ledger.doubts_len() as u64);
        of_partition("ids_in_memory", ledger.recent_len() as u64);
    });
    of_partition("accounts_bytes", memory.of(Part::Accounts));
    of_partition("reservations_bytes", memory.of(Part::Reservations));
    of_partition("ids_in_memory_bytes", memory.of(Part::RecentIds));
    of_partition("ids_filter_bytes", memory.of(Part::IdsFilter));
    of_partition("ids_fences_bytes", memory.of(Part::IdsFences));
    of_partition("newest_entries_bytes", memory.of(Part::NewestEntries));
    of_partition("log_write_buffers_bytes", memory.of(Part::WriteBuffers));
    let runs = partition.runs();
    of_partition("ids_on_disk", runs.entries());
    of_partition("ids_on_disk_bytes", runs.disk_bytes());
    of_partition("ids_written_bytes_since_start", runs.written_bytes());
    of_partition("importing", u64::from(partition.is_importing()));
    let (ahead, behind) = match partition.clock() {
        ClockStanding::Agrees => (0, 0),
        ClockStanding::Ahead(by) => (by.as_secs(), 0),
        ClockStanding::Behind(by) => (0, by.as_secs()),
    };
    of_partition("clock_ahead_not_followed_seconds", ahead);
    of_partition("clock_behind_not_followed_seconds", behind);
    let is_known = partition.agreement().is_known();
    of_partition("clocks_of_majority_known", u64::from(is_known));
    of_partition("durable_offset", partition.visible_offset().0);
    of_partition("term", partition.term());
    of_partition("last_index", partition.log().last().index);
    of_partition("durable_index", partition.log().durable_index());
    of_partition("entries_since_start", counters.entries);
    of_partition("records_since_start", counters.records);
    of_partition("refused_busy_since_start", counters.refused_busy);
    of_partition("refused_full_since_start", counters.refused_full);
    of_partition("refused_memory_since_start", counters.refused_memory);
    of_partition("rotten_places", partition.rotten());
    of_partition("entries_mended_since_start", counters.mended);
    let flushed = partition.log().flush_counts();
    of_partition("flushes_since_start", flushed.flushes);
    of_partition("flush_bytes_since_start", flushed.bytes);
    of_partition("flushes_inflight_max", flushed.inflight_max as u64);
    for (name, value) in peers {
        of_partition(name, *value);
    }
}

/// What a person should look at: about nodes, and in this shard's groups, first in that of `own`.
fn troubles<C: Commit>(node: &NodeFacts<C>, own: PartitionId) -> Vec<(u16, String, String)> {
    let row = |partition: u16, one: &Trouble| {
        let text = bounded(&one.text, LABEL_BYTES_MAX).to_owned();
        (partition, format!("{TROUBLE}{}", one.key), text)
    };
    let me = node.state.superblock.node;
    let certificate = node.state.tls.as_ref().map(|tls| tls.current().left());
    let certificate = certificate.and_then(|left| trouble::of_certificate(me, left));
    let of_nodes = trouble::of_nodes(&node.cluster.borrow(), me);
    let of_nodes = certificate.iter().chain(&of_nodes).map(|one| row(NO_PARTITION, one));
    let of_groups = node.troubles.borrow();
    let mut of_groups: Vec<_> = of_groups
        .iter()
        .flat_map(|(partition, troubles)| troubles.iter().map(|one| row(partition.0, one)))
        .collect();
    of_groups.sort_by_key(|(partition, ..)| *partition != own.0);
    of_nodes.chain(of_groups).take(STATUS_TROUBLES_MAX).collect()
}

/// What went to each peer, partition by partition.
fn traffic_by_peer<R: Runtime>(dialers: &[Dialer<R>]) -> Vec<Vec<(String, u64)>> {
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

fn state_of<C: Commit>(partition: &Partition<C>) -> String {
    let text = match partition.stopped() {
        Some(Refused::Stopped(reason)) => format!("stopped: {reason}"),
        Some(_) => "shutting down".into(),
        None if partition.is_stuck() => "refusing writes: disk stuck".into(),
        None if partition.rotten() > 0 => "damaged: the server's log says where".into(),
        None if partition.is_full() => "refusing writes: disk nearly full".into(),
        None if partition.is_short_of_memory() => "refusing writes: memory nearly used up".into(),
        None if !partition.is_readable() => "catching up".into(),
        None if !partition.leads() => "following".into(),
        None if partition.is_importing() => {
            "taking an import, and nothing else until it is finished".into()
        }
        None => "serving".into(),
    };
    walengine_net::message::bounded(&text, walengine_net::limits::LABEL_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_the_connection_comes_first() {
        let partitions = || [1, 3, 5, 7].map(PartitionId).into_iter();
        assert_eq!(own_first(partitions(), PartitionId(5)), [2, 0, 1, 3]);
        assert_eq!(own_first(partitions(), PartitionId(9)), [0, 1, 2, 3]);
    }
}
