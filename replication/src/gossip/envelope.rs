//! The header of every datagram: sender, the life of the receiver, cluster, and a proof.
//!
//! The cheapest checks come first: magic, length, version, authenticator. Nothing after the
//! authenticator is read before it has been verified. Layout: GOSSIP.md, section 2.

use std::net::SocketAddr;

use walengine_net::model::ClusterId;

use super::bytes::{Reader, address_bytes};
use super::limits::{
    AUTHENTICATOR_AT, AUTHENTICATOR_BYTES, DATAGRAM_BYTES_MAX, GOSSIP_VERSION, HEADER_BYTES, MAGIC,
};
use crate::types::NodeId;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramKind {
    /// Asks who the receiver is. Changes nothing there.
    Hello,
    /// Answer to a hello, or to a datagram for an earlier life.
    Welcome,
    /// The node id belongs to another node.
    Refused,
    /// A message of SWIM, foca's.
    Swim,
    /// Forming a cluster.
    Forming,
    /// The sender is about to stop for good.
    Leave,
    /// How the sender's disk and clock are.
    Condition,
}

const KINDS: [DatagramKind; 7] = [
    DatagramKind::Hello,
    DatagramKind::Welcome,
    DatagramKind::Refused,
    DatagramKind::Swim,
    DatagramKind::Forming,
    DatagramKind::Leave,
    DatagramKind::Condition,
];

/// The header without magic, version and authenticator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatagramHead {
    pub kind: DatagramKind,
    /// The sender's cluster, 0 while it has none.
    pub cluster: ClusterId,
    pub node: NodeId,
    /// When the sender started.
    pub boot: u64,
    /// Counts the sender's datagrams since then, to all receivers.
    pub sequence: u64,
    /// When the receiver started, as far as the sender knows; 0: not known.
    pub to_boot: u64,
    pub peer_address: SocketAddr,
    pub partitions: u16,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramError {
    Foreign,
    Oversized,
    Short,
    OtherVersion,
    Unauthenticated,
    Damaged,
    Malformed,
}

/// Proves that a datagram is undamaged; with a key, also that its sender has the key.
pub(super) struct Seal {
    key: Option<[u8; 32]>,
}

impl Seal {
    /// The key in the file is not used itself, so that other uses of it are independent.
    pub(super) fn new(key: Option<&[u8; 32]>) -> Self {
        Self { key: key.map(|key| blake3::derive_key("walengine gossip 1 datagram", key)) }
    }

    fn authenticator(&self, datagram: &[u8]) -> [u8; AUTHENTICATOR_BYTES] {
        let (front, behind) =
            (&datagram[..AUTHENTICATOR_AT], &datagram[AUTHENTICATOR_AT + AUTHENTICATOR_BYTES..]);
        let mut bytes = [0; AUTHENTICATOR_BYTES];
        if let Some(key) = &self.key {
            let mut hasher = blake3::Hasher::new_keyed(key);
            hasher.update(front).update(behind);
            bytes.copy_from_slice(&hasher.finalize().as_bytes()[..AUTHENTICATOR_BYTES]);
        } else {
            let crc = crc32c::crc32c_append(crc32c::crc32c(front), behind);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// A whole datagram.
    pub(super) fn seal(&self, head: &DatagramHead, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&GOSSIP_VERSION.to_le_bytes());
        out.push(KINDS.iter().position(|&kind| kind == head.kind).unwrap_or_default() as u8 + 1);
        out.push(u8::from(self.key.is_some()));
        out.extend_from_slice(&[0; AUTHENTICATOR_BYTES]);
        out.extend_from_slice(&head.cluster.0.to_le_bytes());
        out.extend_from_slice(&head.node.to_le_bytes());
        out.extend_from_slice(&head.boot.to_le_bytes());
        out.extend_from_slice(&head.sequence.to_le_bytes());
        out.extend_from_slice(&head.to_boot.to_le_bytes());
        out.extend_from_slice(&address_bytes(head.peer_address));
        out.extend_from_slice(&head.partitions.to_le_bytes());
        assert!(out.len() == HEADER_BYTES, "header of {} bytes", out.len());
        out.extend_from_slice(body);
        assert!(out.len() <= DATAGRAM_BYTES_MAX, "datagram of {} bytes", out.len());
        let authenticator = self.authenticator(&out);
        out[AUTHENTICATOR_AT..][..AUTHENTICATOR_BYTES].copy_from_slice(&authenticator);
        out
    }

    /// Header and body of a datagram that is whole and authentic.
    pub(super) fn open<'a>(
        &self,
        datagram: &'a [u8],
    ) -> Result<(DatagramHead, &'a [u8]), DatagramError> {
        if datagram.first_chunk() != Some(&MAGIC) {
            return Err(DatagramError::Foreign);
        }
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::Oversized);
        }
        let Some((header, body)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
            return Err(DatagramError::Short);
        };
        if u16::from_le_bytes([header[4], header[5]]) != GOSSIP_VERSION {
            return Err(DatagramError::OtherVersion);
        }
        if header[7] != u8::from(self.key.is_some()) {
            return Err(DatagramError::Unauthenticated);
        }
        let (found, due) =
            (&header[AUTHENTICATOR_AT..][..AUTHENTICATOR_BYTES], self.authenticator(datagram));
        // Compares every byte, so that the time taken does not reveal how many were right.
        if found.iter().zip(due).fold(0, |differ, (a, b)| differ | (a ^ b)) != 0 {
            let keyed = self.key.is_some();
            return Err(if keyed {
                DatagramError::Unauthenticated
            } else {
                DatagramError::Damaged
            });
        }
        let head = Self::head(header).ok_or(DatagramError::Malformed)?;
        Ok((head, body))
    }

    fn head(header: &[u8; HEADER_BYTES]) -> Option<DatagramHead> {
        let kind = *KINDS.get(usize::from(header[6]).checked_sub(1)?)?;
        let mut reader = Reader(&header[AUTHENTICATOR_AT + AUTHENTICATOR_BYTES..]);
        let head = DatagramHead {
            kind,
            cluster: ClusterId(reader.u128()?),
            node: reader.u64()?,
            boot: reader.u64()?,
            sequence: reader.u64()?,
            to_boot: reader.u64()?,
            peer_address: reader.address()?,
            partitions: reader.u16()?,
        };
        (head.boot != 0).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> DatagramHead {
        DatagramHead {
            kind: DatagramKind::Swim,
            cluster: ClusterId(7),
            node: 3,
            boot: 1_000,
            sequence: 2,
            to_boot: 999,
            peer_address: "10.0.0.3:7451".parse().unwrap(),
            partitions: 8,
        }
    }

    #[test]
    fn a_datagram_comes_back_as_it_was_with_and_without_a_key() {
        for key in [None, Some([7; 32])] {
            let seal = Seal::new(key.as_ref());
            let bytes = seal.seal(&head(), b"body");
            assert_eq!(seal.open(&bytes), Ok((head(), &b"body"[..])));
        }
    }

    #[test]
    fn no_changed_byte_is_believed() {
        for key in [None, Some([7; 32])] {
            let seal = Seal::new(key.as_ref());
            let bytes = seal.seal(&head(), b"body");
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    assert!(seal.open(&changed).is_err(), "byte {at} bit {bit}");
                }
                assert!(seal.open(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn another_key_or_none_opens_nothing() {
        let seals = [Seal::new(None), Seal::new(Some(&[1; 32])), Seal::new(Some(&[2; 32]))];
        for (at, from) in seals.iter().enumerate() {
            let bytes = from.seal(&head(), b"");
            for (other, seal) in seals.iter().enumerate() {
                assert_eq!(seal.open(&bytes).is_ok(), at == other);
            }
        }
    }
}
