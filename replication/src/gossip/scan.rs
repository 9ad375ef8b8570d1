//! Parses a whole message of SWIM before foca sees any of it, so that a malformed message changes
//! nothing.

use foca::Message;

use super::bytes::Reader;
use super::identity::{SwimIdentity, read_header, read_member};
use super::limits::{BODY_BYTES_MAX, MEMBER_BYTES};
use super::meta::MetaPage;
use crate::types::NodeId;

/// The nodes and pages in a message.
pub(super) struct Scan {
    pub source: SwimIdentity,
    /// The identities that the message says something about, besides the source.
    pub members: Vec<SwimIdentity>,
    pub pages: Vec<MetaPage>,
}

impl Scan {
    /// `None` unless the body is exactly one message.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let header = read_header(&mut reader)?;
        let mut scan = Self { source: header.src, members: Vec::new(), pages: Vec::new() };
        if matches!(header.message, Message::Announce | Message::TurnUndead) {
            reader.end()?;
            return Some(scan);
        }
        if header.message != Message::Broadcast {
            let count = usize::from(u16::from_be_bytes(reader.array()?)); // foca's, big-endian
            if count > BODY_BYTES_MAX / MEMBER_BYTES {
                return None;
            }
            for _ in 0..count {
                scan.members.push(*read_member(&mut reader)?.id());
            }
        }
        while reader.end().is_none() {
            let length = u16::from_be_bytes(reader.array()?);
            scan.pages.push(MetaPage::decode(reader.take(usize::from(length))?)?);
        }
        Some(scan)
    }

    /// Every node that the message names, except `own`, each once.
    pub(super) fn named(&self, own: NodeId) -> Vec<NodeId> {
        let members = self.members.iter().map(|identity| identity.node);
        let pages = self.pages.iter().map(|page| page.head.node);
        let mut named: Vec<_> =
            members.chain(pages).chain([self.source.node]).filter(|&node| node != own).collect();
        named.sort_unstable();
        named.dedup();
        named
    }
}
