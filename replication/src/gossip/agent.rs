//! One node's gossip: datagrams and time in, datagrams and events out.

mod incoming;
mod outgoing;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use walengine_net::model::ClusterId;

use super::bytes::canonical;
use super::condition::OwnCondition;
use super::counters::Counters;
use super::envelope::{DatagramError, DatagramKind, Seal};
use super::forming::{Forming, FormingStart};
use super::identity::SwimIdentity;
use super::keys::GossipKeys;
use super::limits::{LEAVE_TIMES, META_PERIOD, NODES_MAX, OUTBID_NANOS_MAX, SEEDS_MAX};
use super::meta::{MetaError, NodeMeta};
use super::output::{Output, Settings, Standing, Warning};
use super::senders::{AnsweredOnce, Senders};
use super::spread::OwnPages;
use super::swim::Swim;
use super::view::{NodeStanding, NodeTable, NodeView};
use crate::types::NodeId;

/// A node's gossip. Lives on the control core; owns no socket and no clock.
///
/// `now` is time since a fixed point, the same one in all calls; it never goes back. After each
/// call the caller takes every [`Gossip::next_output`]. It calls [`Gossip::tick`] at
/// [`Gossip::next_wake`] or soon after, and hands in all datagrams that arrived earlier first.
pub struct Gossip {
    node: NodeId,
    address: SocketAddr,
    seeds: Vec<SocketAddr>,
    introduced: BTreeMap<NodeId, SocketAddr>,
    expect: Option<usize>,
    partitions: u16,
    /// 0 while there is none. Set once and never changed.
    cluster: ClusterId,
    /// Name of this life. Invariant: not 0, and only increases.
    boot: u64,
    /// This node takes no later name than this one, which is ten years after its process began.
    boot_max: u64,
    /// Of the newest datagram that was sent in this boot. Invariant: never decreases in a boot.
    sequence: u64,
    seal: Seal,
    swim: Swim,
    senders: Senders,
    table: NodeTable,
    pages: OwnPages,
    meta: NodeMeta,
    own_since: Duration,
    forming: Forming,
    counters: Counters,
    outputs: VecDeque<Output>,
    next_seeds: Duration,
    next_meta: Duration,
    next_outbid: Duration,
    greeted: BTreeMap<SocketAddr, Duration>,
    /// Datagrams that were answered though they are not believed, so that none is answered twice.
    answered: AnsweredOnce,
    /// Welcomes sent in the second that started then.
    welcomes: (Duration, u32),
    /// How often leaving is still to be told, and when next.
    leaving: Option<(u32, Duration)>,
    warned: Vec<Warning>,
    /// Since when an address claims the id of a node that is at another one, and when it did last.
    claims: BTreeMap<(NodeId, SocketAddr), (Duration, Duration)>,
    /// When it was told last that a node's id is used twice.
    twins_told: BTreeMap<NodeId, Duration>,
    /// This node's own condition, and when it was so.
    condition: Option<(OwnCondition, Duration)>,
    /// When this node's id was refused for the first time, and for the last.
    refused: Option<(Duration, Duration)>,
    /// Addresses that speak with another key, and when they were told of it.
    strangers: BTreeMap<SocketAddr, Duration>,
    now: Duration,
}

impl Gossip {
    /// A node that starts. `seed` is random and differs between nodes and between starts.
    pub fn new(
        settings: Settings,
        standing: Standing,
        seed: u64,
        now: Duration,
    ) -> Result<Self, MetaError> {
        settings.meta.check()?;
        let address = canonical(settings.peer_address);
        let boot = settings.boot.0.max(1);
        let identity = SwimIdentity { node: settings.node, bump: boot, address };
        let (cluster, partitions) = standing.cluster.unwrap_or((ClusterId(0), settings.partitions));
        let forming = Forming::new(FormingStart {
            me: settings.node,
            peer_address: address,
            expect: settings.expect,
            partitions,
            cluster: standing.cluster.map(|(cluster, _)| cluster),
            promise: standing.promise,
            seed,
            boot,
            now,
        });
        let mut seeds: Vec<_> = settings.seeds.into_iter().map(canonical).collect();
        seeds.retain(|seed| *seed != address);
        seeds.truncate(SEEDS_MAX);
        let mut gossip = Self {
            node: settings.node,
            address,
            seeds,
            introduced: BTreeMap::new(),
            expect: settings.expect,
            partitions,
            cluster,
            boot,
            boot_max: boot.saturating_add(OUTBID_NANOS_MAX),
            sequence: 0,
            seal: Seal::new(settings.keys.as_ref()),
            swim: Swim::new(identity, seed, now),
            senders: Senders::default(),
            table: NodeTable::default(),
            pages: OwnPages::new(settings.node, boot),
            meta: settings.meta,
            own_since: now,
            forming,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            next_seeds: now,
            next_meta: now + META_PERIOD,
            next_outbid: now,
            greeted: BTreeMap::new(),
            answered: AnsweredOnce::default(),
            welcomes: (now, 0),
            leaving: None,
            warned: Vec::new(),
            claims: BTreeMap::new(),
            twins_told: BTreeMap::new(),
            condition: None,
            refused: None,
            strangers: BTreeMap::new(),
            now,
        };
        gossip.publish();
        gossip.settle();
        Ok(gossip)
    }

    /// Takes a datagram. It is either believed, or dropped and counted.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Duration) {
        self.now = self.now.max(now);
        self.counters.received += 1;
        let (head, body) = match self.seal.open(datagram) {
            Ok(opened) => opened,
            Err(error) => {
                let counter = match error {
                    DatagramError::Foreign => &mut self.counters.foreign,
                    DatagramError::Oversized => &mut self.counters.oversized,
                    DatagramError::Short => &mut self.counters.short,
                    DatagramError::OtherVersion => &mut self.counters.other_version,
                    DatagramError::Unauthenticated => &mut self.counters.unauthenticated,
                    DatagramError::Damaged => &mut self.counters.damaged,
                    DatagramError::Malformed => &mut self.counters.malformed,
                };
                *counter += 1;
                if error == DatagramError::Unauthenticated && self.leaving.is_none() {
                    self.hear_stranger(from);
                }
                return;
            }
        };
        if self.leaving.is_some() {
            return; // this node listens no more
        }
        if self.admit(from, &head) {
            self.believe(from, &head, &body);
        }
        self.settle();
    }

    /// Does everything that is due.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.leaving.is_some() {
            self.say_leaving();
            return;
        }
        self.swim.tick(self.now);
        if self.now >= self.next_seeds {
            self.greet_seeds();
        }
        if self.now >= self.next_meta {
            self.tell_all();
        }
        let candidates = self.candidates();
        self.forming.tick(&candidates, self.now);
        self.settle();
    }

    /// When [`Gossip::tick`] has something to do.
    pub fn next_wake(&self) -> Duration {
        if let Some((_, at)) = self.leaving {
            return at;
        }
        let wakes = [self.swim.next_wake(), self.forming.next_wake()];
        let own = self.next_seeds.min(self.next_meta);
        wakes.into_iter().flatten().fold(own, Duration::min)
    }

    /// What the caller has to do next; `None` if there is nothing left.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Changes what this node tells about itself. Once a second is often enough.
    pub fn set_meta(&mut self, meta: NodeMeta) -> Result<(), MetaError> {
        meta.check()?;
        if meta != self.meta {
            self.meta = meta;
            self.publish();
        }
        Ok(())
    }

    /// Tells the other nodes of the cluster how this node is. Once a second is often enough.
    pub fn tell_condition(&mut self, condition: OwnCondition, now: Duration) {
        self.now = self.now.max(now);
        self.condition = Some((condition, self.now));
        if self.cluster.0 == 0 || self.leaving.is_some() {
            return;
        }
        let body = condition.encode();
        let others: Vec<_> = self.table.iter().map(|known| known.identity).collect();
        for other in others {
            if self.table.is_active(other.node) {
                self.send_to(other.node, other.address, DatagramKind::Condition, &body);
            }
        }
    }

    /// Takes other keys, from now on. What is under way is opened as long as one of them fits.
    pub fn set_keys(&mut self, keys: &GossipKeys) {
        self.seal = Seal::new(Some(keys));
        self.strangers.clear(); // with these keys they may be none
    }

    /// The promise of [`Output::SavePromise`] is durable.
    pub fn promise_saved(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.forming.saved(self.now);
        self.settle();
    }

    /// Adds a member of the cluster that the caller knows from its log. It is greeted like a seed,
    /// and counts as dead since `now` until it is heard.
    pub fn introduce(&mut self, node: NodeId, peer_address: SocketAddr, now: Duration) {
        self.now = self.now.max(now);
        if node == self.node {
            return;
        }
        let address = canonical(peer_address);
        if self.introduced.len() < NODES_MAX {
            self.introduced.insert(node, address);
        }
        if self.table.get(node).is_none() && self.make_room(&[node]) {
            self.table.introduce(node, address, self.now);
            self.changed();
            self.next_seeds = self.now;
        }
    }

    /// Forgets a node that is dead or has left; true if it was known. If it is heard again it
    /// appears again. Which nodes belong to a group is not decided here.
    pub fn forget(&mut self, node: NodeId) -> bool {
        self.introduced.remove(&node);
        if self.table.is_active(node) {
            return false;
        }
        let Some(identity) = self.table.forget(node) else { return false };
        self.swim.forget(identity);
        self.changed();
        true
    }

    /// This node leaves for good: tells all others, three times within a third of a second, and
    /// takes no more datagrams. The caller sends the outputs, calls `tick` until
    /// [`Gossip::has_left`], and stops.
    pub fn leave(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.leaving.is_none() {
            self.leaving = Some((LEAVE_TIMES, self.now));
            self.publish();
            self.say_leaving();
        }
    }

    /// True once leaving was told often enough.
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Some((0, _)))
    }

    /// The cluster of this node.
    pub fn cluster(&self) -> Option<ClusterId> {
        (self.cluster.0 != 0).then_some(self.cluster)
    }

    /// All known nodes, including this one, ascending by id.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView> {
        let own = NodeView {
            node: self.node,
            peer_address: self.address,
            standing: match self.leaving {
                Some(_) => NodeStanding::Left,
                None => NodeStanding::Alive,
            },
            since: self.own_since,
            meta: Some(self.meta.clone()),
            cluster: self.cluster(),
            condition: self.condition.map(|(own, at)| own.seen(own.clock, at, at)),
        };
        let mut nodes: Vec<_> = self.table.iter().map(|known| self.table.view(known)).collect();
        nodes.push(own);
        nodes.sort_by_key(|view| view.node);
        nodes.into_iter()
    }

    /// Counts of what arrived, and why it was dropped.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
