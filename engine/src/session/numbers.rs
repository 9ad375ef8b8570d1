//! What a shard has, as numbers at one moment: for its status at once, and for whoever scrapes about once a second.
//! Lives on the shard's core.

use std::collections::BTreeMap;

use walengine_replication::budget::Budget;
use walengine_replication::tcp::accept::Refusals;
use walengine_replication::tcp::dial::{Dialer, Traffic};
use walengine_replication::types::NodeId;

use super::admin::Operated;
use super::node_facts::NodeFacts;
use crate::limits::STATUS_TROUBLES_MAX;
use crate::metrics::numbers::{PartitionNumbers, PeerNumbers, PeersRefused, ShardNumbers};
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::partition::group::changes::GroupReport;
use crate::partition::log_clock::ClockStanding;
use crate::trouble::{self, Trouble};

/// All that a shard says for whoever scrapes. `budget` is that of its clients' connections.
pub fn published<C: Operated>(
    node: &NodeFacts<C>,
    budget: &Budget,
    peer_connections: u64,
) -> ShardNumbers {
    let partitions = node.partitions.iter().enumerate();
    let partitions =
        partitions.map(|(place, partition)| of_partition(partition, node.dialers.get(place)));
    let of_groups = node.troubles.borrow();
    let of_groups = of_groups.values().flatten().map(|one| one.key.clone());
    let of_nodes = troubles_of_nodes(node).into_iter().map(|one| one.key);
    ShardNumbers {
        peer_connections,
        partitions: partitions.collect(),
        troubles: of_nodes.chain(of_groups).take(STATUS_TROUBLES_MAX).collect(),
        ..of_shard(node, budget)
    }
}

/// Of the shard itself.
pub(super) fn of_shard<C: Commit>(node: &NodeFacts<C>, budget: &Budget) -> ShardNumbers {
    let Refusals { hellos, broken, requests, .. } = &*node.refusals;
    let refused =
        PeersRefused { hellos: hellos.get(), broken: broken.get(), requests: requests.get() };
    ShardNumbers {
        at: node.state.started.elapsed(),
        connections: node.connections.get() as u64,
        connection_bytes: budget.used() as u64,
        connection_bytes_max: budget.bytes_max() as u64,
        peers: node.state.config.cluster.is_some().then_some(refused),
        ..ShardNumbers::default()
    }
}

/// What is wrong with nodes, and with this one's certificate.
pub(super) fn troubles_of_nodes<C: Commit>(node: &NodeFacts<C>) -> Vec<Trouble> {
    let me = node.state.superblock.node;
    let certificate = node.state.tls.as_ref().map(|tls| tls.current().left());
    let certificate = certificate.and_then(|left| trouble::of_certificate(me, left));
    certificate.into_iter().chain(trouble::of_nodes(&node.cluster.borrow(), me)).collect()
}

/// Of a partition. `dialer` has its connections to peers, if a group keeps it.
pub(super) fn of_partition<C: Operated>(
    partition: &Partition<C>,
    dialer: Option<&Dialer<C::Runtime>>,
) -> PartitionNumbers {
    let (log, runs, counters) = (partition.log(), partition.runs(), partition.counters());
    let (visible, flushed, measured) =
        (partition.visible(), log.flush_counts(), partition.measured());
    let report = C::report(partition);
    let (clock_ahead_seconds, clock_behind_seconds) = match partition.clock() {
        ClockStanding::Agrees => (0, 0),
        ClockStanding::Ahead(by) => (by.as_secs(), 0),
        ClockStanding::Behind(by) => (0, by.as_secs()),
    };
    let (answers_waiting, answers_waiting_bytes) = partition.answers_waiting();
    let (snapshots, snapshot_bytes, is_in_snapshot) = partition.snapshots();
    let mut numbers = partition.with_ledger(|ledger| PartitionNumbers {
        next_offset: ledger.next_offset().0,
        accounts: u64::from(ledger.accounts_len()),
        remembered_ids: ledger.ids_len(),
        ids_in_memory: ledger.recent_len() as u64,
        open_reservations: ledger.open_len() as u64,
        spanning_under_way: ledger.doubts_len() as u64,
        ..PartitionNumbers::default()
    });
    partition.add_memory(&mut numbers.memory);
    PartitionNumbers {
        partition: partition.id().partition,
        committed_offset: visible.next_offset.0,
        term: partition.term(),
        last_index: log.last().index,
        durable_index: log.durable_index(),
        applied_index: visible.index,
        leads: partition.leads(),
        knows_leader: report.leader.is_some(),
        is_readable: partition.is_readable(),
        is_stopped: partition.stopped().is_some(),
        is_stuck: partition.is_stuck(),
        is_full: partition.is_full(),
        is_short_of_memory: partition.is_short_of_memory(),
        is_importing: partition.is_importing(),
        voters: report.voters.len() as u64,
        ids_on_disk: runs.entries(),
        ids_on_disk_bytes: runs.disk_bytes(),
        ids_written_bytes: runs.written_bytes(),
        id_runs: runs.len() as u64,
        snapshots,
        snapshot_bytes,
        is_in_snapshot,
        clock_ahead_seconds,
        clock_behind_seconds,
        knows_clocks: partition.agreement().is_known(),
        entries: counters.entries,
        records: counters.records,
        refused_busy: counters.refused_busy,
        refused_full: counters.refused_full,
        refused_memory: counters.refused_memory,
        damaged_places: partition.rotten(),
        entries_mended: counters.mended,
        flushes: flushed.flushes,
        flush_bytes: flushed.bytes,
        flushes_inflight: log.inflight() as u64,
        flushes_inflight_most: flushed.inflight_max as u64,
        log_backlog_bytes: log.backlog_bytes() as u64,
        answers_waiting: answers_waiting as u64,
        answers_waiting_bytes: answers_waiting_bytes as u64,
        entries_under_way: measured.under_way() as u64,
        verdicts: measured.verdicts(),
        commit: measured.commit_latency(),
        flush: log.flush_latency(),
        answer: measured.answer_latency(),
        peers: peers(&report, partition.id().node, dialer.map(Dialer::traffic)),
        ..numbers
    }
}

/// The other members of a group, as far as this node knows how they do, and whom it sends entries to.
fn peers(
    report: &GroupReport,
    me: NodeId,
    traffic: Option<Vec<(NodeId, Traffic)>>,
) -> Vec<PeerNumbers> {
    let mut peers = BTreeMap::<NodeId, PeerNumbers>::new();
    for (node, progress) in report.members.iter().filter(|(node, _)| **node != me) {
        // Only a leader knows it.
        let Some(matched) = progress.matched_index else { continue };
        let peer = peers.entry(*node).or_default();
        peer.lag_entries = Some(report.last_index.saturating_sub(matched));
        peer.silent_seconds = progress.answered.map(|ago| ago.as_secs());
    }
    for (node, Traffic { appends, append_bytes, appends_inflight_max }) in
        traffic.into_iter().flatten()
    {
        let peer = peers.entry(node).or_default();
        peer.is_dialled = true;
        (peer.appends, peer.append_bytes) = (appends, append_bytes);
        peer.appends_inflight_most = appends_inflight_max as u64;
    }
    peers.into_iter().map(|(node, peer)| PeerNumbers { node, ..peer }).collect()
}
