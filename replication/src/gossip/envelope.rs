//! The header of every datagram: sender, the life of the receiver, cluster, and a proof. With keys all of
//! it but the magic and the version is sealed.
//!
//! The cheapest checks come first: magic, length, version, proof. Nothing behind them is read before it
//! has been verified. Layout: GOSSIP.md, section 2.

use std::net::SocketAddr;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use walengine_net::model::ClusterId;

use super::bytes::{Reader, address_bytes};
use super::keys::GossipKeys;
use super::limits::{
    AUTHENTICATOR_AT, AUTHENTICATOR_BYTES, DATAGRAM_BYTES_MAX, GOSSIP_VERSION, HEADER_BYTES, MAGIC,
    NONCE_AT, NONCE_BYTES, PROOF_CHECKSUM, PROOF_SEALED, SEALED_AT, SEALED_HEADER_BYTES,
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

/// Proves that a datagram is undamaged. With keys it also hides what is in it, and proves that its sender
/// has one of them.
pub(super) struct Seal(Option<Ciphers>);

struct Ciphers {
    seals: XChaCha20Poly1305,
    /// In the order in which they are tried.
    open: Vec<XChaCha20Poly1305>,
}

impl Seal {
    /// The keys in the file are not used themselves, so that other uses of them are independent.
    pub(super) fn new(keys: Option<&GossipKeys>) -> Self {
        let cipher = |key: &[u8; 32]| {
            let key = blake3::derive_key("walengine gossip 1 sealed datagram", key);
            XChaCha20Poly1305::new(&key.into())
        };
        Self(keys.map(|keys| Ciphers {
            seals: cipher(keys.seals()),
            open: keys.all().map(cipher).collect(),
        }))
    }

    /// A whole datagram.
    pub(super) fn seal(&self, head: &DatagramHead, body: &[u8]) -> Vec<u8> {
        // 192 random bits do not come twice, in whatever life of whichever node.
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        self.seal_with(nonce, head, body)
    }

    fn seal_with(&self, nonce: [u8; NONCE_BYTES], head: &DatagramHead, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEALED_HEADER_BYTES + body.len());
        let kind = KINDS.iter().position(|&kind| kind == head.kind).unwrap_or_default() as u8 + 1;
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&GOSSIP_VERSION.to_le_bytes());
        let is_sealed = self.0.is_some();
        out.extend(if is_sealed { [0, PROOF_SEALED] } else { [kind, PROOF_CHECKSUM] });
        out.extend_from_slice(&[0; AUTHENTICATOR_BYTES]);
        if is_sealed {
            out.extend_from_slice(&nonce);
            out.push(kind);
        }
        put_head(&mut out, head);
        let header_bytes = if is_sealed { SEALED_HEADER_BYTES } else { HEADER_BYTES };
        assert!(out.len() == header_bytes, "header of {} bytes", out.len());
        out.extend_from_slice(body);
        assert!(out.len() <= DATAGRAM_BYTES_MAX, "datagram of {} bytes", out.len());
        let authenticator = match &self.0 {
            None => checksum(&out),
            Some(ciphers) => ciphers.seal(nonce, &mut out),
        };
        out[AUTHENTICATOR_AT..][..AUTHENTICATOR_BYTES].copy_from_slice(&authenticator);
        out
    }

    /// Header and body of a datagram that is whole and authentic.
    pub(super) fn open(&self, datagram: &[u8]) -> Result<(DatagramHead, Vec<u8>), DatagramError> {
        if datagram.first_chunk() != Some(&MAGIC) {
            return Err(DatagramError::Foreign);
        }
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::Oversized);
        }
        if datagram.len() < HEADER_BYTES {
            return Err(DatagramError::Short);
        }
        if u16::from_le_bytes([datagram[4], datagram[5]]) != GOSSIP_VERSION {
            return Err(DatagramError::OtherVersion);
        }
        let mut clear = match (&self.0, datagram[7]) {
            (None, PROOF_CHECKSUM) => {
                if datagram[AUTHENTICATOR_AT..][..AUTHENTICATOR_BYTES] != checksum(datagram) {
                    return Err(DatagramError::Damaged);
                }
                let behind = &datagram[AUTHENTICATOR_AT + AUTHENTICATOR_BYTES..];
                [&datagram[6..7], behind].concat()
            }
            (Some(ciphers), PROOF_SEALED) => ciphers.open(datagram)?,
            _ => return Err(DatagramError::Unauthenticated),
        };
        let mut reader = Reader(&clear);
        let head = read_head(&mut reader).ok_or(DatagramError::Malformed)?;
        let body_bytes = reader.0.len();
        clear.drain(..clear.len() - body_bytes);
        Ok((head, clear))
    }
}

impl Ciphers {
    /// Encrypts what is to be sealed of a datagram, and returns the tag.
    fn seal(&self, nonce: [u8; NONCE_BYTES], datagram: &mut [u8]) -> [u8; AUTHENTICATOR_BYTES] {
        let (front, sealed) = datagram.split_at_mut(SEALED_AT);
        let clear = &front[..AUTHENTICATOR_AT];
        let tag = self.seals.encrypt_in_place_detached(&nonce.into(), clear, sealed);
        tag.expect("a datagram is far shorter than what the cipher takes").into()
    }

    /// The kind, and what follows it.
    fn open(&self, datagram: &[u8]) -> Result<Vec<u8>, DatagramError> {
        if datagram.len() < SEALED_HEADER_BYTES {
            return Err(DatagramError::Short);
        }
        let (front, sealed) = datagram.split_at(SEALED_AT);
        let (front, nonce) = front.split_at(NONCE_AT);
        let (clear, tag) = front.split_at(AUTHENTICATOR_AT);
        for cipher in &self.open {
            let mut opened = sealed.to_vec();
            let whole = cipher.decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                clear,
                &mut opened,
                Tag::from_slice(tag),
            );
            if whole.is_ok() {
                return Ok(opened);
            }
        }
        Err(DatagramError::Unauthenticated)
    }
}

fn checksum(datagram: &[u8]) -> [u8; AUTHENTICATOR_BYTES] {
    let (front, behind) =
        (&datagram[..AUTHENTICATOR_AT], &datagram[AUTHENTICATOR_AT + AUTHENTICATOR_BYTES..]);
    let mut bytes = [0; AUTHENTICATOR_BYTES];
    let crc = crc32c::crc32c_append(crc32c::crc32c(front), behind);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn put_head(out: &mut Vec<u8>, head: &DatagramHead) {
    out.extend_from_slice(&head.cluster.0.to_le_bytes());
    out.extend_from_slice(&head.node.to_le_bytes());
    out.extend_from_slice(&head.boot.to_le_bytes());
    out.extend_from_slice(&head.sequence.to_le_bytes());
    out.extend_from_slice(&head.to_boot.to_le_bytes());
    out.extend_from_slice(&address_bytes(head.peer_address));
    out.extend_from_slice(&head.partitions.to_le_bytes());
}

/// Reads the kind, and the head that follows it.
fn read_head(reader: &mut Reader<'_>) -> Option<DatagramHead> {
    let kind = *KINDS.get(usize::from(reader.u8()?).checked_sub(1)?)?;
    let head = DatagramHead {
        kind,
        cluster: ClusterId(reader.u128()?),
        node: reader.u64()?,
        boot: reader.life()?,
        sequence: reader.u64()?,
        to_boot: reader.life()?,
        peer_address: reader.address()?,
        partitions: reader.u16()?,
    };
    (head.boot != 0).then_some(head)
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

    fn one(byte: u8) -> Seal {
        Seal::new(Some(&GossipKeys::one([byte; 32])))
    }

    #[test]
    fn a_datagram_comes_back_as_it_was_with_and_without_a_key() {
        for seal in [Seal::new(None), one(7)] {
            let bytes = seal.seal(&head(), b"body");
            assert_eq!(seal.open(&bytes), Ok((head(), b"body".to_vec())));
        }
    }

    #[test]
    fn no_changed_byte_is_believed() {
        for seal in [Seal::new(None), one(7)] {
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
        let seals = [Seal::new(None), one(1), one(2)];
        for (at, from) in seals.iter().enumerate() {
            let bytes = from.seal(&head(), b"");
            for (other, seal) in seals.iter().enumerate() {
                assert_eq!(seal.open(&bytes).is_ok(), at == other);
            }
        }
    }

    #[test]
    fn two_keys_open_and_the_first_seals() {
        let both = Seal::new(Some(&GossipKeys::two([1; 32], [2; 32])));
        assert!(both.open(&one(1).seal(&head(), b"")).is_ok());
        assert!(both.open(&one(2).seal(&head(), b"")).is_ok());
        let sealed = both.seal(&head(), b"");
        assert!(one(1).open(&sealed).is_ok() && one(2).open(&sealed).is_err());
    }

    #[test]
    fn a_sealed_datagram_is_never_the_same_twice() {
        let seal = one(7);
        let (first, second) = (seal.seal(&head(), b"body"), seal.seal(&head(), b"body"));
        let differ = first.iter().zip(&second).skip(AUTHENTICATOR_AT).filter(|(a, b)| a != b);
        assert!(differ.count() > 80, "the nonce decides all that follows");
    }

    /// The bytes were made by another implementation, `tests/golden_gossip/sealed.py`.
    #[test]
    fn a_sealed_datagram_has_the_bytes_of_the_golden_file() {
        let golden: &[u8] = include_bytes!("../../tests/golden_gossip/sealed.bin");
        let nonce = std::array::from_fn(|at| at as u8);
        assert_eq!(one(0x4b).seal_with(nonce, &head(), b"body"), golden);
        assert_eq!(one(0x4b).open(golden), Ok((head(), b"body".to_vec())));
    }
}
