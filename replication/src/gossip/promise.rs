//! What a node has promised about forming a cluster, and its encoding in a small file.

use std::net::SocketAddr;

use walengine_net::model::ClusterId;

use super::bytes::{Reader, address_bytes, canonical, put_text};
use super::limits::{CLIENT_ADDRESS_BYTES_MAX, FOUNDERS_MAX};
use crate::types::NodeId;

/// First bytes of an encoded promise: "WALQ".
const PROMISE_MAGIC: [u8; 4] = *b"WALQ";
/// Version of its layout.
const PROMISE_VERSION: u16 = 1;

/// A node that forms a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingMember {
    /// Which.
    pub node: NodeId,
    /// Its address for replicas and gossip.
    pub peer_address: SocketAddr,
    /// Where clients connect, as the node has told.
    pub client_address: String,
}

/// A cluster that has been formed: what its Raft groups start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// Its name.
    pub cluster: ClusterId,
    /// Its number of partitions.
    pub partitions: u16,
    /// Its first members, ascending by node id; the first one founded it. The same on each of them.
    pub members: Vec<FoundingMember>,
}

/// State of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromiseState {
    /// This node forms this cluster and no other, until the founder releases it.
    Promised,
    /// The founder released this node: it has promised nothing. The cluster will never be formed.
    Released,
    /// Decided: the cluster is formed.
    Formed,
}

/// A node's only promise. The caller makes it durable before it calls
/// [`super::Gossip::promise_saved`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its state.
    pub state: PromiseState,
    /// The cluster that it is about.
    pub founding: Founding,
}

/// Why bytes are not a promise. The file is damaged or foreign: a person has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PromiseError {
    /// Not the file of a promise.
    #[error("not a promise: the magic is missing")]
    Magic,
    /// Written by a later version.
    #[error("a promise of version {found}; this program knows {PROMISE_VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// Damaged.
    #[error("the promise is damaged: its checksum is {found:08x}, its bytes have {expected:08x}")]
    Checksum {
        /// Of the bytes.
        expected: u32,
        /// In the file.
        found: u32,
    },
    /// Undamaged, but not a promise.
    #[error("the promise is malformed")]
    Malformed,
}

impl Promise {
    /// The only node that can decide.
    pub fn founder(&self) -> NodeId {
        self.founding.members.first().map_or(0, |member| member.node)
    }

    /// Bytes that [`Promise::decode`] takes: magic, CRC-32C over the rest, version, state, members.
    pub fn encode(&self) -> Vec<u8> {
        let mut rest = PROMISE_VERSION.to_le_bytes().to_vec();
        rest.push(match self.state {
            PromiseState::Promised => 1,
            PromiseState::Released => 2,
            PromiseState::Formed => 3,
        });
        put_founding(&mut rest, &self.founding);
        let crc = crc32c::crc32c(&rest);
        [&PROMISE_MAGIC[..], &crc.to_le_bytes(), &rest].concat()
    }

    /// Decodes a promise. Nothing may follow it.
    pub fn decode(bytes: &[u8]) -> Result<Self, PromiseError> {
        let mut reader = Reader(bytes);
        if reader.array() != Some(PROMISE_MAGIC) {
            return Err(PromiseError::Magic);
        }
        let found = u32::from_le_bytes(reader.array().ok_or(PromiseError::Malformed)?);
        let expected = crc32c::crc32c(reader.0);
        if found != expected {
            return Err(PromiseError::Checksum { expected, found });
        }
        match reader.u16().ok_or(PromiseError::Malformed)? {
            PROMISE_VERSION => {}
            found => return Err(PromiseError::Version { found }),
        }
        let state = match reader.u8() {
            Some(1) => PromiseState::Promised,
            Some(2) => PromiseState::Released,
            Some(3) => PromiseState::Formed,
            _ => return Err(PromiseError::Malformed),
        };
        let founding = read_founding(&mut reader).ok_or(PromiseError::Malformed)?;
        reader.end().ok_or(PromiseError::Malformed)?;
        Ok(Self { state, founding })
    }
}

pub(super) fn put_founding(out: &mut Vec<u8>, founding: &Founding) {
    out.extend_from_slice(&founding.cluster.0.to_le_bytes());
    out.extend_from_slice(&founding.partitions.to_le_bytes());
    out.push(u8::try_from(founding.members.len()).expect("few founders"));
    for member in &founding.members {
        out.extend_from_slice(&member.node.to_le_bytes());
        out.extend_from_slice(&address_bytes(member.peer_address));
        put_text(out, &member.client_address);
    }
}

/// `None` unless members ascend and there is one at least, and cluster and partitions are not 0.
pub(super) fn read_founding(reader: &mut Reader<'_>) -> Option<Founding> {
    let (cluster, partitions) = (ClusterId(reader.u128()?), reader.u16()?);
    let count = usize::from(reader.u8()?);
    if count == 0 || count > FOUNDERS_MAX || cluster.0 == 0 || partitions == 0 {
        return None;
    }
    let mut members: Vec<FoundingMember> = Vec::with_capacity(count);
    for _ in 0..count {
        let (node, peer_address) = (reader.u64()?, canonical(reader.address()?));
        if members.last().is_some_and(|last| last.node >= node) {
            return None;
        }
        let client_address = reader.text(CLIENT_ADDRESS_BYTES_MAX)?.to_owned();
        members.push(FoundingMember { node, peer_address, client_address });
    }
    Some(Founding { cluster, partitions, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(state: PromiseState) -> Promise {
        let member = |node: u64| FoundingMember {
            node,
            peer_address: format!("10.0.0.{node}:7451").parse().unwrap(),
            client_address: format!("db{node}.example:7450"),
        };
        let members = vec![member(1), member(4), member(9)];
        Promise { state, founding: Founding { cluster: ClusterId(77), partitions: 8, members } }
    }

    #[test]
    fn a_promise_comes_back_as_it_was() {
        for state in [PromiseState::Promised, PromiseState::Released, PromiseState::Formed] {
            assert_eq!(Promise::decode(&promise(state).encode()), Ok(promise(state)));
        }
        assert_eq!(promise(PromiseState::Promised).founder(), 1);
    }

    #[test]
    fn a_damaged_promise_is_not_taken() {
        let bytes = promise(PromiseState::Promised).encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Promise::decode(&damaged).is_err(), "byte {at} bit {bit}");
            }
            assert!(Promise::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(Promise::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
