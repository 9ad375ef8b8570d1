//! The cluster as one node sees it: nodes, groups and the progress of each replica.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::{CLUSTER_GROUPS_MAX, CLUSTER_NODES_MAX, CLUSTER_REPLICAS_MAX};

/// Leader of a group whose leader is not known.
pub const NO_NODE: u64 = 0;

/// Asks a node what it knows of the cluster. Any node answers.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize)]
pub struct ClusterStatus {
    /// 0.
    pub reserved: u32,
}

/// Health of a node according to gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum NodeHealth {
    /// It answers.
    Alive = 0,
    /// It did not answer lately. It may still refute that it is gone.
    Suspect = 1,
    /// It is considered gone.
    Dead = 2,
    /// It has announced that it leaves.
    Left = 3,
}

impl NodeHealth {
    /// Name for people, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// Role of a replica in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum ReplicaRole {
    /// Counts towards a majority and may lead.
    Voter = 0,
    /// Follows the log and answers reads.
    Learner = 1,
}

impl ReplicaRole {
    /// Name for people, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }
}

/// A node.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct NodeRow<'a> {
    /// Its id, never 0.
    pub node: u64,
    /// Number of its [`NodeHealth`].
    pub state: u8,
    /// Cores that it serves on.
    pub cores: u16,
    /// Free space of its data directory's file system.
    pub free_bytes: u64,
    /// How long it has been in that state.
    pub heard_seconds: u64,
    /// Where it serves clients, as `host:port`; empty if not known.
    #[rkyv(with = InlineAsBox)]
    pub client_address: &'a str,
    /// Where it serves its peers, as `host:port`; empty if not known.
    #[rkyv(with = InlineAsBox)]
    pub peer_address: &'a str,
    /// Its program's version, for people.
    #[rkyv(with = InlineAsBox)]
    pub version: &'a str,
}

/// The group of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct GroupRow {
    /// The partition.
    pub partition: u16,
    /// Its leader; [`NO_NODE`] if not known.
    pub leader: u64,
    /// The newest term that the answering node knows.
    pub term: u64,
    /// Everything below is committed, as far as the answering node knows.
    pub committed_offset: u64,
    /// 1 while its membership is being changed, else 0.
    pub is_changing: u8,
}

/// A replica of a partition. Only the leader knows the progress of the others; any other node
/// reports its own replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct ReplicaRow {
    /// The partition.
    pub partition: u16,
    /// Where the replica is.
    pub node: u64,
    /// Number of its [`ReplicaRole`].
    pub role: u8,
    /// Newest entry known to match the leader's; 0: none.
    pub matched_index: u64,
    /// Newest entry in the log of the answering node. The lag is the difference.
    pub last_index: u64,
}

/// What the answering node knows: every partition of the answering shard and, from gossip, the
/// leaders of the others.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ClusterStatusReply<'a> {
    /// The cluster.
    pub cluster: u128,
    /// The node that answers.
    pub node: u64,
    /// The nodes, itself included, ascending.
    #[rkyv(with = InlineAsBox)]
    pub nodes: &'a [NodeRow<'a>],
    /// The groups, ascending by partition.
    #[rkyv(with = InlineAsBox)]
    pub groups: &'a [GroupRow],
    /// The replicas, ascending by partition, then node.
    #[rkyv(with = InlineAsBox)]
    pub replicas: &'a [ReplicaRow],
}

impl Message for ClusterStatus {
    const KIND: Kind = Kind::ClusterStatus;
    type View = ArchivedClusterStatus;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for ClusterStatusReply<'_> {
    const KIND: Kind = Kind::ClusterStatusReply;
    type View = ArchivedClusterStatusReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the list of nodes", view.nodes.len(), CLUSTER_NODES_MAX)?;
        at_most("the list of groups", view.groups.len(), CLUSTER_GROUPS_MAX)?;
        at_most("the list of replicas", view.replicas.len(), CLUSTER_REPLICAS_MAX)?;
        for row in view.nodes.iter() {
            label("a client address", &row.client_address)?;
            label("a peer address", &row.peer_address)?;
            label("a version", &row.version)?;
            if row.node.to_native() == NO_NODE || NodeHealth::try_from(row.state).is_err() {
                return Err(MessageError::Contradiction("a node without an id, or no such state"));
            }
        }
        if view.replicas.iter().any(|row| ReplicaRole::try_from(row.role).is_err()) {
            return Err(MessageError::Contradiction("a replica in no such role"));
        }
        if ascending(&view.nodes, |row| row.node.to_native())
            && ascending(&view.groups, |row| row.partition.to_native())
            && ascending(&view.replicas, |row| (row.partition.to_native(), row.node.to_native()))
        {
            Ok(())
        } else {
            Err(MessageError::Contradiction("the cluster's rows are not in order"))
        }
    }
}

fn ascending<R, K: Ord>(rows: &[R], key: impl Fn(&R) -> K) -> bool {
    rows.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
}

impl ArchivedNodeRow<'_> {
    /// The node's health. An unknown number counts as alive, but opening does not let it through.
    pub fn health(&self) -> NodeHealth {
        NodeHealth::try_from(self.state).unwrap_or(NodeHealth::Alive)
    }
}

impl ArchivedReplicaRow {
    /// The replica's role. An unknown number counts as learner, but opening does not let it
    /// through.
    pub fn role(&self) -> ReplicaRole {
        ReplicaRole::try_from(self.role).unwrap_or(ReplicaRole::Learner)
    }
}
