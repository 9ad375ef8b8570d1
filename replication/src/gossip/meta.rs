//! What a node tells about itself, and the pages that carry it.
//!
//! Page 0 says what the node is; page 1 + k which of the partitions 64 k to 64 k + 63 it leads, in
//! which terms. Each page is one broadcast and fits a datagram. Of two pages of the same number the
//! newer counts: later life of the node first, then higher sequence. Layout: GOSSIP.md, section 6.

use std::collections::BTreeMap;

use walengine_net::model::{ClusterId, PartitionId};

use super::bytes::{Reader, put_text};
use super::limits::{
    CLIENT_ADDRESS_BYTES_MAX, PAGE_PARTITIONS, PAGES_MAX, PARTITIONS_MAX, VERSION_BYTES_MAX,
};
use crate::types::NodeId;

/// What a node tells about itself. Only the node itself can change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMeta {
    /// Where clients connect: host and port, 128 bytes at most.
    pub client_address: String,
    /// Number of shards.
    pub cores: u16,
    /// Version of the program, 64 bytes at most.
    pub version: String,
    /// Partitions that it leads, and in which term. Partitions below 1,024.
    pub led: BTreeMap<PartitionId, u64>,
    /// Free space of its data directory in bytes.
    pub free_bytes: u64,
    /// The node still serves, and wants its groups to remove it: the first half of leaving. Once no
    /// group has it as a member, it calls [`super::Gossip::leave`].
    pub leaving: bool,
}

/// Why metadata was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// A text is too long.
    #[error("{what} has {found} bytes, the limit is {limit}")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A partition's number is too high.
    #[error("leadership of partition {0} cannot be told: 1,023 is the last")]
    Partition(PartitionId),
}

impl NodeMeta {
    /// Checks that it fits the protocol.
    pub fn check(&self) -> Result<(), MetaError> {
        for (what, text, limit) in [
            ("client address", &self.client_address, CLIENT_ADDRESS_BYTES_MAX),
            ("version", &self.version, VERSION_BYTES_MAX),
        ] {
            if text.len() > limit {
                return Err(MetaError::TooLong { what, found: text.len(), limit });
            }
        }
        match self.led.last_key_value() {
            Some((&partition, _)) if usize::from(partition.0) >= PARTITIONS_MAX => {
                Err(MetaError::Partition(partition))
            }
            _ => Ok(()),
        }
    }
}

/// Which page it is, of which life, and how new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHead {
    pub node: NodeId,
    /// First sequence of the node's life that the page is of: its boot.
    pub since: u64,
    pub sequence: u64,
    pub page: u8,
}

impl PageHead {
    /// Orders pages of the same node and number.
    pub(super) fn age(&self) -> (u64, u64) {
        (self.since, self.sequence)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let head = Self {
            node: reader.u64()?,
            since: reader.life()?,
            sequence: reader.life()?,
            page: reader.u8()?,
        };
        (usize::from(head.page) <= PAGES_MAX && head.since <= head.sequence).then_some(head)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&self.since.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.push(self.page);
    }
}

/// Page 0: what the node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BasePage {
    /// Bump of the identity that has made the page.
    pub bump: u64,
    /// The node has left.
    pub left: bool,
    /// [`NodeMeta::leaving`].
    pub leaving: bool,
    pub cluster: ClusterId,
    /// Number of nodes that it wants to form a cluster of; 0: it does not want to.
    pub expect: u16,
    pub partitions: u16,
    pub cores: u16,
    pub free_bytes: u64,
    pub client_address: String,
    pub version: String,
}

impl BasePage {
    pub(super) fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.bump.to_le_bytes());
        out.push(u8::from(self.left) | u8::from(self.leaving) << 1);
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.expect.to_le_bytes());
        out.extend_from_slice(&self.partitions.to_le_bytes());
        out.extend_from_slice(&self.cores.to_le_bytes());
        out.extend_from_slice(&self.free_bytes.to_le_bytes());
        put_text(&mut out, &self.client_address);
        put_text(&mut out, &self.version);
        out
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (bump, flags) = (reader.life()?, reader.u8()?);
        if flags > 3 {
            return None;
        }
        Some(Self {
            bump,
            left: flags & 1 == 1,
            leaving: flags & 2 == 2,
            cluster: ClusterId(reader.u128()?),
            expect: reader.u16()?,
            partitions: reader.u16()?,
            cores: reader.u16()?,
            free_bytes: reader.u64()?,
            client_address: reader.text(CLIENT_ADDRESS_BYTES_MAX)?.to_owned(),
            version: reader.text(VERSION_BYTES_MAX)?.to_owned(),
        })
    }
}

/// Partitions of one page and their terms.
pub(super) type LedPage = Vec<(PartitionId, u64)>;

/// What a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageBody {
    Base(BasePage),
    Led(LedPage),
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MetaPage {
    pub head: PageHead,
    pub body: PageBody,
}

impl MetaPage {
    /// `None` unless the bytes are exactly one page.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let head = PageHead::read(&mut reader)?;
        let body = match head.page {
            0 => PageBody::Base(BasePage::read(&mut reader)?),
            page => PageBody::Led(read_led(&mut reader, page)?),
        };
        reader.end()?;
        Some(Self { head, body })
    }
}

/// Content of page 1 + `block`.
pub(super) fn led_content(led: &BTreeMap<PartitionId, u64>, block: usize) -> Vec<u8> {
    let first = block * PAGE_PARTITIONS;
    let (mut bits, mut terms) = (0_u64, Vec::new());
    for (partition, term) in led {
        let Some(bit) = usize::from(partition.0).checked_sub(first) else { continue };
        if bit < PAGE_PARTITIONS {
            bits |= 1 << bit;
            terms.extend_from_slice(&term.to_le_bytes());
        }
    }
    let mut out = bits.to_le_bytes().to_vec();
    out.append(&mut terms);
    out
}

fn read_led(reader: &mut Reader<'_>, page: u8) -> Option<LedPage> {
    let first = (usize::from(page) - 1) * PAGE_PARTITIONS;
    let bits = reader.u64()?;
    (0..PAGE_PARTITIONS)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| Some((PartitionId((first + bit) as u16), reader.u64()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::limits::LIFE_MAX;
    use super::*;

    #[test]
    fn leadership_of_every_partition_fits_its_pages() {
        let led: BTreeMap<_, _> = (0..1024).map(|p| (PartitionId(p), u64::from(p) + 7)).collect();
        let mut found = BTreeMap::new();
        for block in 0..PAGES_MAX {
            let mut bytes = Vec::new();
            PageHead { node: 1, since: 5, sequence: 9, page: block as u8 + 1 }.put(&mut bytes);
            bytes.extend(led_content(&led, block));
            assert!(bytes.len() <= super::super::limits::PAGE_BYTES_MAX);
            let Some(MetaPage { body: PageBody::Led(part), .. }) = MetaPage::decode(&bytes) else {
                panic!("page {block}");
            };
            found.extend(part);
        }
        assert_eq!(found, led);
    }

    #[test]
    fn a_page_of_a_life_that_cannot_be_is_none() {
        let is_page = |since, sequence, bump| {
            let mut bytes = Vec::new();
            PageHead { node: 1, since, sequence, page: 0 }.put(&mut bytes);
            bytes.extend(BasePage { bump, ..BasePage::default() }.content());
            MetaPage::decode(&bytes).is_some()
        };
        assert!(is_page(LIFE_MAX, LIFE_MAX, LIFE_MAX));
        assert!(!is_page(LIFE_MAX + 1, LIFE_MAX + 1, 5));
        assert!(!is_page(5, LIFE_MAX + 1, 5));
        assert!(!is_page(5, 5, LIFE_MAX + 1));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let long = NodeMeta { version: "v".repeat(65), ..NodeMeta::default() };
        assert!(matches!(long.check(), Err(MetaError::TooLong { what: "version", .. })));
        let led = BTreeMap::from([(PartitionId(1024), 1)]);
        let far = NodeMeta { led, ..NodeMeta::default() };
        assert_eq!(far.check(), Err(MetaError::Partition(PartitionId(1024))));
    }
}
