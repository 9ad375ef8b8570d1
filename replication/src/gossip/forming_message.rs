//! What nodes say to each other while they form a cluster. Bytes: GOSSIP.md, section 7.

use walengine_net::model::ClusterId;

use super::bytes::Reader;
use super::promise::{Founding, put_founding, read_founding};
use crate::types::NodeId;

/// Why a node does not promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedBecause {
    /// It has promised to form another cluster.
    Promised,
    /// It belongs to a cluster.
    HasCluster,
    /// It expects another number of nodes, or does not form a cluster at all.
    OtherExpect,
    /// It wants another number of partitions.
    OtherPartitions,
    /// It sees other candidates, has another address than the founding says, or sees another
    /// founder.
    OtherMembers,
}

const REASONS: [RefusedBecause; 5] = [
    RefusedBecause::Promised,
    RefusedBecause::HasCluster,
    RefusedBecause::OtherExpect,
    RefusedBecause::OtherPartitions,
    RefusedBecause::OtherMembers,
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormingMessage {
    /// Founder: asks for a promise to form this.
    Request(Founding),
    /// Member: the promise is durable.
    Promised(ClusterId),
    /// Member: does not promise.
    Refused { cluster: ClusterId, because: RefusedBecause },
    /// Founder: the cluster will never be formed.
    Release(ClusterId),
    /// Member to all: what became of the promise?
    Inquire { cluster: ClusterId, founder: NodeId },
    /// Any node of the cluster: it is formed.
    Commit(ClusterId),
    /// Member: the decision is durable here.
    Committed(ClusterId),
}

impl FormingMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |tag: u8, cluster: &ClusterId| {
            out.push(tag);
            out.extend_from_slice(&cluster.0.to_le_bytes());
        };
        match self {
            Self::Request(founding) => {
                out.push(1);
                put_founding(&mut out, founding);
            }
            Self::Promised(cluster) => put(2, cluster),
            Self::Refused { cluster, because } => {
                put(3, cluster);
                let at = REASONS.iter().position(|reason| reason == because);
                out.push(at.unwrap_or_default() as u8 + 1);
            }
            Self::Release(cluster) => put(4, cluster),
            Self::Inquire { cluster, founder } => {
                put(5, cluster);
                out.extend_from_slice(&founder.to_le_bytes());
            }
            Self::Commit(cluster) => put(6, cluster),
            Self::Committed(cluster) => put(7, cluster),
        }
        out
    }

    /// `None` unless the bytes are exactly one message.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let tag = reader.u8()?;
        if tag == 1 {
            let founding = read_founding(&mut reader)?;
            reader.end()?;
            return Some(Self::Request(founding));
        }
        let cluster = ClusterId(reader.u128()?);
        let message = match tag {
            2 => Self::Promised(cluster),
            3 => {
                let because = *REASONS.get(usize::from(reader.u8()?).checked_sub(1)?)?;
                Self::Refused { cluster, because }
            }
            4 => Self::Release(cluster),
            5 => Self::Inquire { cluster, founder: reader.u64()? },
            6 => Self::Commit(cluster),
            7 => Self::Committed(cluster),
            _ => return None,
        };
        reader.end()?;
        (cluster.0 != 0).then_some(message)
    }
}
