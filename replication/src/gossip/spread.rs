//! Spreading pages of metadata: this node's own pages, and which pages of others to pass on.

use std::collections::BTreeMap;
use std::convert::Infallible;

use foca::{BroadcastHandler, Invalidates};

use super::bytes::Reader;
use super::identity::SwimIdentity;
use super::limits::{PAGES_MAX, RELAYED_MAX};
use super::meta::{BasePage, NodeMeta, PageHead, led_content};
use crate::types::NodeId;

/// This node's own pages, as they are now.
pub(super) struct OwnPages {
    node: NodeId,
    since: u64,
    sequence: u64,
    bump: u64,
    /// Content and sequence by page number. A page that never held anything is not spread.
    /// Invariant: no sequence is higher than `sequence`.
    pages: BTreeMap<u8, (Vec<u8>, u64)>,
}

impl OwnPages {
    /// `since` is the node's boot, later than in all its earlier lives.
    pub(super) fn new(node: NodeId, since: u64) -> Self {
        Self { node, since, sequence: since, bump: 0, pages: BTreeMap::new() }
    }

    /// The age of the newest page.
    pub(super) fn age(&self) -> (u64, u64) {
        (self.since, self.sequence)
    }

    /// Bump of the identity that the pages are about.
    pub(super) fn bump(&self) -> u64 {
        self.bump
    }

    /// Takes new metadata. Returns the pages that have changed, encoded.
    pub(super) fn set(&mut self, base: &BasePage, meta: &NodeMeta) -> Vec<Vec<u8>> {
        self.bump = base.bump;
        let mut contents = vec![base.content()];
        contents.extend((0..PAGES_MAX).map(|block| led_content(&meta.led, block)));
        let mut fresh = Vec::new();
        for (page, content) in (0..).zip(contents) {
            let empty = page > 0 && content.iter().all(|&byte| byte == 0);
            match self.pages.get(&page) {
                Some((known, _)) if *known == content => continue,
                None if empty => continue,
                _ => {}
            }
            self.sequence += 1;
            self.pages.insert(page, (content, self.sequence));
            fresh.extend(self.encoded(page));
        }
        fresh
    }

    /// All pages, encoded.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.pages.keys().filter_map(|&page| self.encoded(page)).collect()
    }

    /// Page 0, encoded.
    pub(super) fn base(&self) -> Option<Vec<u8>> {
        self.encoded(0)
    }

    /// Makes every page newer than what others may know from an earlier life.
    pub(super) fn restart(&mut self, since: u64) {
        assert!(since > self.since, "the pages went back from {} to {since}", self.since);
        (self.since, self.sequence) = (since, since);
        for (_, sequence) in self.pages.values_mut() {
            self.sequence += 1;
            *sequence = self.sequence;
        }
    }

    fn encoded(&self, page: u8) -> Option<Vec<u8>> {
        let (content, sequence) = self.pages.get(&page)?;
        let mut out = Vec::with_capacity(64 + content.len());
        let head = PageHead { node: self.node, since: self.since, sequence: *sequence, page };
        head.put(&mut out);
        out.extend_from_slice(content);
        Some(out)
    }
}

/// Tells foca which pages are new.
pub(super) struct Relay {
    own: NodeId,
    known: BTreeMap<(NodeId, u8), (u64, u64)>,
}

impl Relay {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, known: BTreeMap::new() }
    }
}

/// A page that is being spread.
pub(super) struct PageKey(PageHead);

impl Invalidates for PageKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.0.node == other.0.node && (self.0.page == other.0.page || self.0.since > other.0.since)
    }
}

impl BroadcastHandler<SwimIdentity> for Relay {
    type Key = PageKey;
    type Error = Infallible;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&SwimIdentity>,
    ) -> Result<Option<PageKey>, Infallible> {
        // Pages from others were decoded before foca saw them.
        let Some(head) = PageHead::read(&mut Reader(data)) else { return Ok(None) };
        if head.node == self.own {
            return Ok(sender.is_none().then_some(PageKey(head)));
        }
        if self.known.len() > RELAYED_MAX {
            self.known.clear(); // mostly of forgotten nodes; the others are spread once more
        }
        let known = self.known.entry((head.node, head.page)).or_default();
        if head.age() <= *known {
            return Ok(None);
        }
        *known = head.age();
        Ok(Some(PageKey(head)))
    }
}
