//! How a node comes into its cluster: it waits for one or helps to form it, and formats its data
//! directory as a member's. Runs on the main thread, before there are shards.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use walengine_net::cli::supervisor;
use walengine_replication::gossip::Founding;
use walengine_replication::types::{Member, NodeId};

use super::Control;
use crate::config::{ClusterConfig, Config};
use crate::data_dir::forming::FormingFile;
use crate::data_dir::{self, Owner};
use crate::fatal::{Fatal, Reason};
use crate::limits::{AWAIT_SAY_EVERY, AWAIT_STEP};
use crate::listen::cannot_listen;
use crate::orders::{Beginning, ClusterEvent};
use crate::storage::layout::Superblock;

/// A node that is in its cluster.
pub struct Entered {
    /// Of its data directory.
    pub superblock: Superblock,
    /// What its groups begin with.
    pub beginning: Beginning,
    /// Gossip goes on.
    pub control: Control,
}

/// Starts gossip, and waits for a cluster if the data directory is new (`found` is `None`). `None`
/// after a signal. `clients` is where this node takes clients.
pub fn enter(
    config: &Config,
    cluster: &ClusterConfig,
    found: Option<Superblock>,
    clients: SocketAddr,
    signals: &flume::Receiver<i32>,
) -> Result<Option<Entered>, Fatal> {
    if found.is_some_and(|found| !found.replicated) {
        let message = "this data directory was formatted to serve alone; name another --data for \
                       a node of a cluster; `walengine export` from this one and `walengine \
                       import` into the cluster take over what it holds";
        return Err(Fatal::new(Reason::DataDirectory, message));
    }
    let gossip = UdpSocket::bind(cluster.peer_listen)
        .map_err(|error| cannot_listen("--peer-listen", cluster.peer_listen, &error))?;
    let forming = FormingFile::open(&config.data, found.map(|found| found.node).or(config.node))?;
    let (node, mut founding) = (forming.node(), forming.founding().cloned());
    let known = found.map(|found| (found.cluster, found.partitions));
    let control =
        Control::start(config, cluster, forming, known, gossip, cluster.client_address(clients))?;
    let owner = |cluster, partitions| Owner { cluster, node, partitions, replicated: true };
    let mut sources = Vec::new();
    let superblock = match found {
        Some(found) => found,
        None => match await_cluster(cluster, &control, signals)? {
            None => {
                control.stop(false);
                return Ok(None);
            }
            Some(ClusterEvent::Joined(id, partitions, nodes)) => {
                tracing::info!("node {node} joins cluster {:032x}", id.0);
                sources = nodes;
                data_dir::format(config, owner(id, partitions))?
            }
            Some(ClusterEvent::Formed(formed)) => {
                let (id, nodes) = (formed.cluster, formed.members.len());
                tracing::info!("node {node} forms cluster {:032x} with {nodes} nodes", id.0);
                let partitions = formed.partitions;
                founding = Some(formed);
                data_dir::format(config, owner(id, partitions))?
            }
            Some(ClusterEvent::Failed(fatal)) => return Err(fatal),
        },
    };
    let founders = founders(node, founding.as_ref(), &superblock, cluster.replicas);
    let beginning = Beginning { founders: Arc::new(founders), sources: Arc::new(sources) };
    Ok(Some(Entered { superblock, beginning, control }))
}

/// The voters that the groups of a new cluster begin with. Only one node gets them, so that nobody
/// begins with others.
fn founders(
    node: NodeId,
    founding: Option<&Founding>,
    superblock: &Superblock,
    replicas: usize,
) -> BTreeMap<NodeId, Member> {
    let founding = founding.filter(|founding| founding.cluster == superblock.cluster);
    let Some(founding) = founding else { return BTreeMap::new() };
    let mut members: Vec<_> = founding.members.iter().collect();
    members.sort_unstable_by_key(|member| member.node);
    if members.first().map(|first| first.node) != Some(node) {
        return BTreeMap::new();
    }
    let voters = members
        .into_iter()
        .take(replicas)
        .map(|founder| (founder.node, Member::at(founder.peer_address.to_string())));
    voters.collect()
}

/// Waits until there is a cluster. `None` after a signal.
fn await_cluster(
    cluster: &ClusterConfig,
    control: &Control,
    signals: &flume::Receiver<i32>,
) -> Result<Option<ClusterEvent>, Fatal> {
    let wanted = match cluster.expect {
        Some(expect) => format!("{expect} nodes that name each other to form a cluster"),
        None => "a node of a cluster to join (nodes that are to form a new one need --expect)"
            .to_owned(),
    };
    tracing::info!("waiting for {wanted}; --join names {:?}", cluster.join);
    supervisor::does(&format!("Waiting for {wanted}"));
    let mut said = Instant::now();
    loop {
        if signals.recv_timeout(AWAIT_STEP).is_ok() {
            return Ok(None);
        }
        match control.events.try_recv() {
            Ok(event) => return Ok(Some(event)),
            Err(flume::TryRecvError::Empty) => {}
            Err(flume::TryRecvError::Disconnected) => {
                return Err(Fatal::new(Reason::Listen, "gossip has ended; its reason is above"));
            }
        }
        if said.elapsed() >= AWAIT_SAY_EVERY {
            said = Instant::now();
            tracing::warn!("still waiting for {wanted}");
        }
    }
}
