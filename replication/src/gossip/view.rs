//! The nodes that this node knows of, dead ones included.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use foca::State;
use walengine_net::model::ClusterId;

use super::condition::NodeCondition;
use super::identity::SwimIdentity;
use super::limits::NODES_MAX;
use super::meta::{BasePage, LedPage, MetaPage, NodeMeta, PageBody};
use crate::types::NodeId;

/// Whether a node is believed to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeStanding {
    /// It answers.
    Alive,
    /// It did not answer some node; it has a few seconds to refute that.
    Suspect,
    /// It did not refute the suspicion, or was introduced and never heard.
    Dead,
    /// It said that it leaves for good.
    Left,
}

/// A node as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Which.
    pub node: NodeId,
    /// Its address for replicas and gossip.
    pub peer_address: SocketAddr,
    /// Whether it lives.
    pub standing: NodeStanding,
    /// The caller's time at which this node noticed `standing`.
    pub since: Duration,
    /// What it tells about itself; `None` until it was heard.
    pub meta: Option<NodeMeta>,
    /// Its cluster. `None`: it has none, or was not heard yet.
    pub cluster: Option<ClusterId>,
    /// How its disk and clock are, while it is alive; `None` until it has told.
    pub condition: Option<NodeCondition>,
}

#[derive(Debug)]
pub(super) struct KnownNode {
    pub identity: SwimIdentity,
    /// What foca says; `None`: introduced by the caller, never heard.
    state: Option<State>,
    pub standing: NodeStanding,
    pub since: Duration,
    condition: Option<NodeCondition>,
}

/// Newest pages of a node.
#[derive(Debug, Default)]
struct NodePages {
    since: u64,
    base: Option<(u64, BasePage)>,
    led: BTreeMap<u8, (u64, LedPage)>,
}

fn is_active(standing: NodeStanding) -> bool {
    matches!(standing, NodeStanding::Alive | NodeStanding::Suspect)
}

/// Nodes and their pages.
#[derive(Debug, Default)]
pub(super) struct NodeTable {
    nodes: BTreeMap<NodeId, KnownNode>,
    pages: BTreeMap<NodeId, NodePages>,
}

impl NodeTable {
    pub(super) fn get(&self, node: NodeId) -> Option<&KnownNode> {
        self.nodes.get(&node)
    }

    pub(super) fn base(&self, node: NodeId) -> Option<&BasePage> {
        self.pages.get(&node)?.base.as_ref().map(|(_, base)| base)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KnownNode> {
        self.nodes.values()
    }

    pub(super) fn is_active(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|known| is_active(known.standing))
    }

    /// Makes room for these nodes beside the known ones. Returns the nodes that were forgotten for
    /// it; `None` if there is no room.
    pub(super) fn admit(&mut self, named: &[NodeId]) -> Option<Vec<SwimIdentity>> {
        let fresh = named.iter().filter(|node| !self.pages.contains_key(node)).count();
        let fresh = fresh.max(named.iter().filter(|node| !self.nodes.contains_key(node)).count());
        let mut forgotten = Vec::new();
        while self.nodes.len().max(self.pages.len()) + fresh > NODES_MAX {
            let dead = |known: &&KnownNode| {
                matches!(known.standing, NodeStanding::Dead | NodeStanding::Left)
                    && !named.contains(&known.identity.node)
            };
            let stray = self.pages.keys().copied().find(|node| !self.nodes.contains_key(node));
            if let Some(identity) =
                self.iter().filter(dead).min_by_key(|known| known.since).map(|known| known.identity)
            {
                forgotten.extend(self.forget(identity.node));
            } else if let Some(stray) = stray {
                self.pages.remove(&stray);
            } else {
                return None;
            }
        }
        Some(forgotten)
    }

    pub(super) fn forget(&mut self, node: NodeId) -> Option<SwimIdentity> {
        self.pages.remove(&node);
        self.nodes.remove(&node).map(|known| known.identity)
    }

    /// Adds a node that the caller knows of. It counts as dead until it is heard.
    pub(super) fn introduce(&mut self, node: NodeId, address: SocketAddr, now: Duration) {
        let identity = SwimIdentity { node, bump: 0, address };
        let standing = NodeStanding::Dead;
        self.nodes.entry(node).or_insert(KnownNode {
            identity,
            state: None,
            standing,
            since: now,
            condition: None,
        });
    }

    /// Takes what foca says about a node. True if anything visible outside has changed.
    pub(super) fn set(&mut self, identity: SwimIdentity, state: State, now: Duration) -> bool {
        let standing = self.standing(&identity, state);
        let fresh =
            KnownNode { identity, state: Some(state), standing, since: now, condition: None };
        let Some(known) = self.nodes.get_mut(&identity.node) else {
            self.nodes.insert(identity.node, fresh);
            return true;
        };
        let address_changed = known.identity.address != identity.address;
        let since = if known.standing == standing { known.since } else { now };
        let changed = address_changed || known.standing != standing;
        let condition = known.condition.filter(|_| is_active(standing));
        *known = KnownNode { since, condition, ..fresh };
        changed
    }

    /// Takes what a node tells of its disk and clock. True if that is news.
    pub(super) fn set_condition(&mut self, node: NodeId, condition: NodeCondition) -> bool {
        let Some(known) = self.nodes.get_mut(&node).filter(|known| is_active(known.standing))
        else {
            return false;
        };
        if known.condition.is_some_and(|before| !condition.differs(&before)) {
            return false;
        }
        known.condition = Some(condition);
        true
    }

    fn standing(&self, identity: &SwimIdentity, state: State) -> NodeStanding {
        match self.base(identity.node) {
            Some(base) if base.left && identity.bump <= base.bump => NodeStanding::Left,
            _ => match state {
                State::Alive => NodeStanding::Alive,
                State::Suspect => NodeStanding::Suspect,
                State::Down => NodeStanding::Dead,
            },
        }
    }

    /// Takes a page that arrived. True if it is news.
    pub(super) fn set_page(&mut self, page: MetaPage, now: Duration) -> bool {
        let head = page.head;
        let pages = self.pages.entry(head.node).or_default();
        if head.since < pages.since {
            return false;
        }
        if head.since > pages.since {
            *pages = NodePages { since: head.since, ..NodePages::default() };
        }
        match page.body {
            PageBody::Base(base) => {
                if pages.base.as_ref().is_some_and(|(known, _)| head.sequence <= *known) {
                    return false;
                }
                pages.base = Some((head.sequence, base));
            }
            PageBody::Led(led) => {
                if pages.led.get(&head.page).is_some_and(|(known, _)| head.sequence <= *known) {
                    return false;
                }
                pages.led.insert(head.page, (head.sequence, led));
            }
        }
        // A page may tell that the node has left.
        if let Some(known) = self.nodes.get(&head.node)
            && let Some(state) = known.state
        {
            self.set(known.identity, state, now);
        }
        true
    }

    pub(super) fn view(&self, known: &KnownNode) -> NodeView {
        let pages = self.pages.get(&known.identity.node);
        let base = self.base(known.identity.node);
        let meta = base.map(|base| NodeMeta {
            client_address: base.client_address.clone(),
            cores: base.cores,
            version: base.version.clone(),
            led: pages
                .into_iter()
                .flat_map(|pages| pages.led.values())
                .flat_map(|(_, led)| led.iter().copied())
                .collect(),
            free_bytes: base.free_bytes,
            leaving: base.leaving,
        });
        NodeView {
            node: known.identity.node,
            peer_address: known.identity.address,
            standing: known.standing,
            since: known.since,
            meta,
            cluster: base.map(|base| base.cluster).filter(|cluster| cluster.0 != 0),
            condition: known.condition,
        }
    }
}
