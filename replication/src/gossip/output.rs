//! What gossip is told at construction, and what it asks its caller to do.

use std::net::SocketAddr;

use walengine_net::model::{ClusterId, Timestamp};

use super::forming_message::RefusedBecause;
use super::keys::GossipKeys;
use super::meta::NodeMeta;
use super::promise::{Founding, Promise};
use crate::types::NodeId;

/// What stays the same while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node. The id is never used by another node, nor again after a lost disk.
    pub node: NodeId,
    /// Where others reach it, by TCP and UDP: a specific address, not 0.0.0.0.
    pub peer_address: SocketAddr,
    /// Addresses to greet. This node's own address may be among them. The first 64 count.
    pub seeds: Vec<SocketAddr>,
    /// Shared by all nodes of the cluster. If there are any, datagrams are sealed, and only those that one
    /// of these keys opens are believed.
    pub keys: Option<GossipKeys>,
    /// Form a new cluster of this many nodes, 7 at most, unless the seeds have one. `None`: join.
    pub expect: Option<usize>,
    /// Partitions of a cluster to be formed; a member takes [`Standing::cluster`]'s.
    pub partitions: u16,
    /// The wall clock at the start of this process, in nanoseconds: the name of this life. Should
    /// be later than at any earlier start; if the clock went back, the other nodes correct it.
    pub boot: Timestamp,
    /// What the node tells about itself until [`super::Gossip::set_meta`].
    pub meta: NodeMeta,
}

/// What a node has on its disk at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The cluster that its data directory belongs to, and the number of partitions.
    pub cluster: Option<(ClusterId, u16)>,
    /// The last promise that was saved.
    pub promise: Option<Promise>,
}

/// What the caller has to do, in this order.
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
    /// The answer of [`super::Gossip::nodes`] has changed.
    Changed,
    /// Make this durable in place of any earlier promise, then call
    /// [`super::Gossip::promise_saved`]. If saving fails, do not call it: stop the process.
    SavePromise(Promise),
    /// The cluster is formed, with this node in it. Comes again after a restart until
    /// [`Standing::cluster`] names it.
    Formed(Founding),
    /// This node has joined an existing cluster, as a learner at first.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// Its number of partitions.
        partitions: u16,
    },
    /// Something that a person should know. Comes once, when the condition begins.
    Warning(Warning),
}

/// What keeps a node from forming or joining a cluster, or looks wrong.
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
    /// A node's id is claimed from another address while the node is heard where it was.
    #[error(
        "node {node} is at {known}, and its id is also used from {claimed_by}: two nodes run from \
         copies of one data directory; stop the one that is a copy, empty its data directory, and it \
         joins as a new node"
    )]
    NodeIdUsedTwice {
        /// Which.
        node: NodeId,
        /// Where it is known to be.
        known: SocketAddr,
        /// Where else its id is used.
        claimed_by: SocketAddr,
    },
    /// This node was started to form a new cluster, and a seed has one. It neither forms nor joins.
    #[error(
        "this node was started with --expect, to form a new cluster, and {seed} in --join belongs to \
         cluster {cluster}: nothing was written. To form a new one, take that address out of --join; to \
         join this one, also after a lost disk, start without --expect"
    )]
    FormsBesideCluster {
        /// Which.
        seed: SocketAddr,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Somebody's datagrams are not sealed with a key of this node.
    #[error(
        "{address} speaks to this node with another key, or without one: it is not heard; the key \
         file must hold a common key on every node of a cluster"
    )]
    OtherKey {
        /// Who.
        address: SocketAddr,
    },
    /// The others still hold this node's id for another address. They let it go when they are sure that
    /// nobody answers there any more.
    #[error(
        "this node was at another address until now; {address} has not yet seen that it is gone from \
         there, and hears it as soon as it has, within some ten seconds"
    )]
    AddressHeld {
        /// Who says so.
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
