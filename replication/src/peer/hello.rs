//! How a connection between replicas starts: the dialling node says who it is, the other whether it
//! is accepted. The version is in the header.

use walengine_net::model::{ClusterId, PartitionId};

use super::bytes::Reader;
use super::error::DecodeError;
use crate::types::NodeId;

/// First frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster that the dialling node belongs to.
    pub cluster: ClusterId,
    /// The dialling node.
    pub node: NodeId,
    /// The partition of the connection, the same as in the header of this and every later frame.
    pub partition: PartitionId,
    /// Partitions of the cluster as the dialling node knows it.
    pub partitions: u16,
}

/// Answer to [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloReply {
    /// Go on.
    Accepted {
        /// The node that answers. If it is not the expected one, close.
        node: NodeId,
    },
    /// The connection is closed.
    Refused(Refusal),
}

/// Why a node is refused. [`Refusal::NotMember`] and [`Refusal::UnknownPartition`] may go away by
/// themselves, because the answering node may lag. The rest needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It belongs to another cluster.
    #[error("it belongs to another cluster, {:032x}", cluster.0)]
    OtherCluster {
        /// The cluster of the node that answers.
        cluster: ClusterId,
    },
    /// Its version is too old to be spoken here.
    #[error("it speaks version {oldest} of the peer protocol at least: update this node")]
    OlderVersion {
        /// The oldest that is.
        oldest: u16,
    },
    /// Its version is not known here yet.
    #[error("it speaks the peer protocol up to version {newest}: update that node")]
    NewerVersion {
        /// The newest that is.
        newest: u16,
    },
    /// Another node has this id: the one that answers, or one that is connected now.
    #[error("another node has this one's id: two run with copies of one data directory")]
    NodeIdInUse,
    /// The node that answers has no replica of the partition.
    #[error("it has no replica of the partition")]
    UnknownPartition,
    /// No member of the partition's group as far as the node that answers knows.
    #[error("it does not know this node as a member of the partition's group")]
    NotMember,
    /// The cluster has another number of partitions.
    #[error("its cluster has {partitions} partitions")]
    OtherPartitions {
        /// The right one.
        partitions: u16,
    },
    /// The certificate is another node's.
    #[error("this node's certificate says another number than its data directory")]
    OtherIdentity,
}

pub(super) fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.extend_from_slice(&hello.cluster.0.to_le_bytes());
    out.extend_from_slice(&hello.node.to_le_bytes());
    out.extend_from_slice(&hello.partition.0.to_le_bytes());
    out.extend_from_slice(&hello.partitions.to_le_bytes());
}

pub(super) fn hello(reader: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    Ok(Hello {
        cluster: ClusterId(reader.u128("cluster")?),
        node: reader.u64("node")?,
        partition: PartitionId(reader.u16("partition")?),
        partitions: reader.u16("number of partitions")?,
    })
}

pub(super) fn put_hello_reply(out: &mut Vec<u8>, reply: HelloReply) {
    let mut put = |code: u16, detail: &[u8]| {
        out.extend_from_slice(&code.to_le_bytes());
        out.extend_from_slice(detail);
    };
    match reply {
        HelloReply::Accepted { node } => put(0, &node.to_le_bytes()),
        HelloReply::Refused(refusal) => match refusal {
            Refusal::OtherCluster { cluster } => put(1, &cluster.0.to_le_bytes()),
            Refusal::OlderVersion { oldest } => put(2, &oldest.to_le_bytes()),
            Refusal::NewerVersion { newest } => put(3, &newest.to_le_bytes()),
            Refusal::NodeIdInUse => put(4, &[]),
            Refusal::UnknownPartition => put(5, &[]),
            Refusal::NotMember => put(6, &[]),
            Refusal::OtherPartitions { partitions } => put(7, &partitions.to_le_bytes()),
            Refusal::OtherIdentity => put(8, &[]),
        },
    }
}

pub(super) fn hello_reply(reader: &mut Reader<'_>) -> Result<HelloReply, DecodeError> {
    const WHAT: &str = "answer to a hello";
    let refusal = match reader.u16(WHAT)? {
        0 => return Ok(HelloReply::Accepted { node: reader.u64("node")? }),
        1 => Refusal::OtherCluster { cluster: ClusterId(reader.u128("cluster")?) },
        2 => Refusal::OlderVersion { oldest: reader.u16("oldest version")? },
        3 => Refusal::NewerVersion { newest: reader.u16("newest version")? },
        4 => Refusal::NodeIdInUse,
        5 => Refusal::UnknownPartition,
        6 => Refusal::NotMember,
        7 => Refusal::OtherPartitions { partitions: reader.u16("number of partitions")? },
        8 => Refusal::OtherIdentity,
        found => return Err(DecodeError::Unknown { what: WHAT, found: u64::from(found) }),
    };
    Ok(HelloReply::Refused(refusal))
}
