//! What gossip wants done, and what it is told at construction.

use std::net::SocketAddr;

use walengine_net::model::{ClusterId, Timestamp};

use super::forming_message::RefusedBecause;
use super::meta::NodeMeta;
use super::promise::{Founding, Promise};
use crate::types::NodeId;

/// What stays as it is while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node. Never used by another, nor again behind a lost disk.
    pub node: NodeId,
    /// Where others reach it, by TCP and UDP: an address of its own, not 0.0.0.0.
    pub peer_address: SocketAddr,
    /// Addresses to greet; this node's own among them does no harm. The first 64 count.
    pub seeds: Vec<SocketAddr>,
    /// Shared by all nodes of the cluster. With it, nothing else is believed.
    pub key: Option<[u8; 32]>,
    /// Form a new cluster of this many nodes, 7 at most, unless the seeds have one. `None`: join.
    pub expect: Option<usize>,
    /// Partitions of a cluster to be formed; a member takes [`Standing::cluster`]'s.
    pub partitions: u16,
    /// The wall clock at the start of this process, in nanoseconds: the life's name. Should be
    /// later than at any start before; if the clock went back, the others' word corrects it.
    pub boot: Timestamp,
    /// What the node tells about itself at first.
    pub meta: NodeMeta,
}

/// What a node's disk says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The cluster that its data directory belongs to, and the number of partitions.
    pub cluster: Option<(ClusterId, u16)>,
    /// The last promise that was saved.
    pub promise: Option<Promise>,
}

/// What the caller is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send a datagram. It may be lost.
    Send {
        /// To this address.
        to: SocketAddr,
        /// These bytes, at most 1,400.
        bytes: Vec<u8>,
    },
    /// [`super::Gossip::nodes`] gives another answer than before.
    Changed,
    /// Make this durable in place of any earlier promise, then call
    /// [`super::Gossip::promise_saved`]. If it cannot be, stop the process: do not call it.
    SavePromise(Promise),
    /// The cluster is formed, with this node in it. Comes again behind a restart until
    /// [`Standing::cluster`] says so.
    Formed(Founding),
    /// A cluster exists and this node belongs to it from now on, as a learner at first.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// Its number of partitions.
        partitions: u16,
    },
    /// Something that a person should know. Each one comes when it starts to be so.
    Warning(Warning),
}

/// What keeps a node from forming or joining, or seems wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// No cluster is formed while this is so.
    #[error("node {node} expects {expect} nodes, this one another number")]
    OtherExpect {
        /// Which.
        node: NodeId,
        /// What it expects.
        expect: usize,
    },
    /// No cluster is formed while this is so.
    #[error("node {node} wants {partitions} partitions, this one another number")]
    OtherPartitions {
        /// Which.
        node: NodeId,
        /// What it wants.
        partitions: u16,
    },
    /// No cluster is formed while this is so.
    #[error("{found} nodes want to form a cluster of {expect}")]
    TooManyCandidates {
        /// How many are expected.
        expect: usize,
        /// How many are there.
        found: usize,
    },
    /// This founder has given up an attempt and will try again.
    #[error("node {node} does not promise to form a cluster: {because:?}")]
    Refused {
        /// Which.
        node: NodeId,
        /// Why.
        because: RefusedBecause,
    },
    /// Another node has this node's id, and the others know that one.
    #[error("the node id of this node belongs to {address}")]
    NodeIdInUse {
        /// Who says so, or who has it.
        address: SocketAddr,
    },
    /// A seed belongs to another cluster than this node, or than the promise that it gave.
    #[error("the seed {seed} belongs to another cluster, {cluster}")]
    SeedOfOtherCluster {
        /// Which.
        seed: SocketAddr,
        /// Its cluster.
        cluster: ClusterId,
    },
}
