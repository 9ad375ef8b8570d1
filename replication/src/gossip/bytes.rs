//! Reads and writes the numbers of a body. Little-endian, nothing padded.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::limits::LIFE_MAX;

/// The rest of a body. Each read returns a value and consumes its bytes, or returns `None`.
#[derive(Clone)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The name of a life of a node. Nobody who claims a later one than can be is believed in anything.
    pub(super) fn life(&mut self) -> Option<u64> {
        self.u64().filter(|life| *life <= LIFE_MAX)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A length of at most `limit` and that many bytes of UTF-8.
    pub(super) fn text(&mut self, limit: usize) -> Option<&'a str> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return None;
        }
        std::str::from_utf8(self.take(length)?).ok()
    }

    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        let ip = IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)).to_canonical();
        Some(SocketAddr::new(ip, self.u16()?))
    }

    /// `Some` if nothing is left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a text as [`Reader::text`] reads it. The caller has checked its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("lengths are checked before");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// An address as [`Reader::address`] reads it.
pub(super) fn address_bytes(address: SocketAddr) -> [u8; super::limits::ADDRESS_BYTES] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; super::limits::ADDRESS_BYTES];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_le_bytes());
    bytes
}

/// The form of an address after encoding and decoding: plain IPv4, no flow label, no scope.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
