//! The life of a shard: opens its partitions, serves, and stops in order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::budget::Budget;
use walengine_replication::gossip::NodeStanding;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::NodeId;

use super::accept::{accept, take_handed};
use super::handed::Port;
use super::host::{Hosted, Hosting};
use super::housekeeping;
use super::operators::Operators;
use super::publisher::Publisher;
use super::start::ShardStart;
use super::state::Shard;
use crate::across::{self, Forward, Letters};
use crate::cluster_view::ClusterView;
use crate::fatal::{Fatal, Reason};
use crate::ledger::Ledger;
use crate::limits::{CONNECTIONS_OWN_BYTES, LINGER, PEERS_OWN_BYTES};
use crate::orders::ShardOrder;
use crate::os;
use crate::partition::{Partition, opening, snapshots};
use crate::runtime::Runtime;
use crate::runtime_glommio::GlommioRuntime;
use crate::session::Scratch;
use crate::session::node_facts::NodeFacts;
use crate::storage::glommio_disk::GlommioDisk;

/// Runs a shard to its end.
pub(super) async fn run<C: Hosted>(mut start: ShardStart) -> Result<(), Fatal> {
    let shard = open::<C>(&mut start).await?;
    let mut tasks = vec![glommio::spawn_local(take_handed(shard.clone(), start.handed))];
    if let Some(listener) = start.peer_listener.take() {
        let accepting = accept(shard.clone(), os::glommio_listener(listener), Port::Peers);
        tasks.push(glommio::spawn_local(accepting));
    }
    // The main thread may have given up on another shard's failure; the order tells.
    let _ = start.report.send(Ok(()));
    let mut listener = Some(start.listener);
    loop {
        match start.orders.recv_async().await {
            Ok(ShardOrder::Serve) => {
                let Some(listener) = listener.take() else { continue };
                let accepting =
                    accept(shard.clone(), os::glommio_listener(listener), Port::Clients);
                tasks.push(glommio::spawn_local(accepting));
                tasks.push(glommio::spawn_local(housekeeping::run(shard.clone())));
            }
            Ok(ShardOrder::Cluster(view)) => {
                announce(&shard, &view);
                drop(shard.node.cluster.replace(view));
            }
            Ok(ShardOrder::Stop) | Err(_) => break,
        }
    }
    let every_bytes = shard.node.state.config.snapshot_bytes;
    for (partition, store) in shard.node.partitions.iter().zip(&shard.stores) {
        C::before_stop(partition).await;
        partition.stop_taking();
        snapshots::take_last(partition, store, every_bytes).await;
    }
    for task in tasks {
        task.cancel().await;
    }
    stop(&shard).await
}

/// Nodes are dialled where gossip has them, if they are not found where the log has them.
fn announce<C: Hosted>(shard: &Shard<C>, view: &ClusterView) {
    let cluster = shard.node.state.superblock.cluster;
    for (partition, dialer) in shard.node.partitions.iter().zip(&shard.node.dialers) {
        tell(dialer, cluster, view, |node| C::is_member(partition, node));
    }
}

/// Tells a group's connections where nodes are, and has them forget those that nobody speaks of any more.
fn tell<R: Runtime>(
    dialer: &Dialer<R>,
    cluster: ClusterId,
    view: &ClusterView,
    is_member: impl Fn(NodeId) -> bool,
) {
    for node in &view.nodes {
        if node.standing == NodeStanding::Alive && node.cluster == Some(cluster) {
            dialer.announce(node.node, node.peer_address);
        }
    }
    dialer.keep(|node| view.node(node).is_some() || is_member(node));
}

async fn open<C: Hosted>(start: &mut ShardStart) -> Result<Rc<Shard<C>>, Fatal> {
    let runtime = GlommioRuntime::new();
    let config = &start.state.config;
    let disk = GlommioDisk::new(&config.data);
    let (mut partitions, mut stores, mut dialers) = (Vec::new(), Vec::new(), Vec::new());
    for number in start.state.partitions_of(start.shard) {
        let (disk, superblock) = (disk.clone(), &start.state.superblock);
        let flushes = config.flush_inflight_max;
        let (data, source) = (&config.data, C::source(start, number));
        let opened =
            opening::open_mended(disk, runtime, data, superblock, number, flushes, &source).await?;
        stores.push(opened.store.clone());
        let Hosting { partition, dialer } =
            C::host(opened, &start.state, &start.beginning, source).await?;
        partitions.push(partition);
        dialers.extend(dialer);
    }
    let node = Rc::new(NodeFacts::new(start.state.clone(), partitions, dialers));
    let publish = |partition: &Partition<C>| {
        let channels = start.feed[usize::from(partition.id().partition.0)].clone();
        let publisher = Rc::new(Publisher::new(partition.clone(), channels));
        runtime.spawn(publisher.clone().run());
        publisher
    };
    let publishers = node.partitions.iter().map(publish).collect();
    for (place, (partition, store)) in node.partitions.iter().zip(&stores).enumerate() {
        let (store, every_bytes) = (store.clone(), config.snapshot_bytes);
        partition.set_clock(config.trust_clock);
        partition.spawn(|partition| snapshots::run(partition, store, every_bytes));
        C::look_after(&node, place, start);
        carry(partition, &start.state.letters, &C::forward(&node, place));
    }
    Ok(Rc::new(Shard {
        node,
        stores,
        publishers,
        others: std::mem::take(&mut start.others),
        control: start.control.take(),
        number: start.shard,
        report: start.report.clone(),
        scratch: Rc::new(RefCell::new(Scratch::new(config.cores))),
        runtime,
        live: RefCell::default(),
        budget: Budget::with_pool(CONNECTIONS_OWN_BYTES, &start.state.connections_pool),
        peers_budget: Budget::with_pool(PEERS_OWN_BYTES, &start.state.peers_pool),
        peers: Rc::default(),
        operators: Operators::default(),
        groups_kept: Cell::new(0),
    }))
}

/// Takes what other partitions send to this one, and brings them what it has for them.
fn carry<C: Hosted>(partition: &Partition<C>, letters: &Letters, forward: &impl Forward) {
    let id = partition.id().partition;
    let received = letters.of(id);
    let to_leader = forward.clone();
    partition.spawn(|partition| across::take_letters(partition, received, to_leader));
    let partitions = partition.with_ledger(Ledger::partitions);
    for to in (0..partitions).map(PartitionId).filter(|to| *to != id) {
        let (way, forward) = (letters.to(to), forward.clone());
        partition.spawn(|partition| across::run_courier(partition, to, way, forward));
    }
}

/// Finishes what is in flight: first the partitions, then the answers.
async fn stop<C: Hosted>(shard: &Shard<C>) -> Result<(), Fatal> {
    let mut result = Ok(());
    for partition in &shard.node.partitions {
        if let Err(refused) = partition.close().await {
            let id = partition.id().partition;
            let message = format!("partition {id} did not stop cleanly: {refused:?}");
            result = Err(Fatal::new(Reason::Disk, message));
        }
    }
    shard.publishers.iter().for_each(|publisher| publisher.publish());
    for dialer in &shard.node.dialers {
        dialer.close();
    }
    let deadline = shard.runtime.elapsed() + LINGER;
    while shard.live.borrow().is_busy() && shard.runtime.elapsed() < deadline {
        shard.runtime.sleep(Duration::from_millis(1)).await;
    }
    result
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use walengine_replication::gossip::NodeView;
    use walengine_replication::tcp::PeerIdentity;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn at(node: NodeId) -> SocketAddr {
        format!("10.0.0.{node}:7451").parse().unwrap()
    }

    fn view(nodes: &[NodeId], standing: NodeStanding) -> ClusterView {
        let node = |&node: &NodeId| NodeView {
            node,
            peer_address: at(node),
            standing,
            since: Duration::ZERO,
            meta: None,
            cluster: Some(CLUSTER),
            condition: None,
        };
        ClusterView { nodes: nodes.iter().map(node).collect(), ..ClusterView::default() }
    }

    /// The fault: only the connections of partition 0 forgot; those of all others kept every node that
    /// gossip had ever named.
    #[test]
    fn whom_neither_gossip_nor_the_group_names_is_forgotten() {
        let identity =
            PeerIdentity { cluster: CLUSTER, node: 1, partition: PartitionId(3), partitions: 4 };
        let dialer = Dialer::new(identity, None, GlommioRuntime::new());
        let is_member = |node| node == 4;
        tell(&dialer, CLUSTER, &view(&[2, 3, 4], NodeStanding::Alive), is_member);
        tell(&dialer, CLUSTER, &view(&[5], NodeStanding::Suspect), is_member);
        tell(&dialer, ClusterId(8), &view(&[6], NodeStanding::Alive), is_member);
        let known = [2, 3, 4, 5, 6].map(|node| dialer.announced(node));
        assert_eq!(known, [None, None, Some(at(4)), None, None]);
        tell(&dialer, CLUSTER, &view(&[2], NodeStanding::Alive), is_member);
        tell(&dialer, CLUSTER, &view(&[2], NodeStanding::Dead), is_member);
        assert_eq!(dialer.announced(2), Some(at(2)), "gossip still knows it");
    }
}
