//! Pages of metadata on their way: this node's own, and whose to pass on.

use std::collections::BTreeMap;
use std::convert::Infallible;

use foca::{BroadcastHandler, Invalidates};

use super::bytes::Reader;
use super::identity::SwimIdentity;
use super::limits::{NODES_MAX, PAGES_MAX};
use super::meta::{BasePage, NodeMeta, PageHead, led_content};
use crate::types::NodeId;

/// This node's own pages as they are told now.
pub(super) struct OwnPages {
    node: NodeId,
    since: u64,
    sequence: u64,
    bump: u64,
    /// Content and sequence by number. A page that never held anything is not told.
    pages: BTreeMap<u8, (Vec<u8>, u64)>,
}

impl OwnPages {
    /// `since` is later than any before in the node's life: its boot.
    pub(super) fn new(node: NodeId, since: u64) -> Self {
        Self { node, since, sequence: since, bump: 0, pages: BTreeMap::new() }
    }

    /// How new the newest page is.
    pub(super) fn age(&self) -> (u64, u64) {
        (self.since, self.sequence)
    }

    /// Bump of the identity that the pages speak of.
    pub(super) fn bump(&self) -> u64 {
        self.bump
    }

    /// Takes the metadata. Returns the pages that are new, encoded.
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

    /// Every page as it is.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.pages.keys().filter_map(|&page| self.encoded(page)).collect()
    }

    /// The page that says what the node is.
    pub(super) fn base(&self) -> Option<Vec<u8>> {
        self.encoded(0)
    }

    /// Makes every page newer than all that others may know of an earlier life.
    pub(super) fn restart(&mut self, since: u64) {
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

/// Pages whose age is remembered: twice those of all nodes that may be remembered.
const RELAYED_MAX: usize = 2 * NODES_MAX * (1 + PAGES_MAX);

/// Tells foca which pages are news.
pub(super) struct Relay {
    own: NodeId,
    known: BTreeMap<(NodeId, u8), (u64, u64)>,
}

impl Relay {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, known: BTreeMap::new() }
    }
}

/// A page on its way.
pub(super) struct Key(PageHead);

impl Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        self.0.node == other.0.node && (self.0.page == other.0.page || self.0.since > other.0.since)
    }
}

impl BroadcastHandler<SwimIdentity> for Relay {
    type Key = Key;
    type Error = Infallible;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&SwimIdentity>,
    ) -> Result<Option<Key>, Infallible> {
        // What came was decoded before foca saw it.
        let Some(head) = PageHead::read(&mut Reader(data)) else { return Ok(None) };
        if head.node == self.own {
            return Ok(sender.is_none().then_some(Key(head)));
        }
        if self.known.len() > RELAYED_MAX {
            self.known.clear(); // of nodes long forgotten; the rest is told once more
        }
        let known = self.known.entry((head.node, head.page)).or_default();
        if head.age() <= *known {
            return Ok(None);
        }
        *known = head.age();
        Ok(Some(Key(head)))
    }
}
