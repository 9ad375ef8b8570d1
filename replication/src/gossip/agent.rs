//! One node's gossip: datagrams and time in, datagrams and events out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use walengine_net::model::ClusterId;

use super::bytes::{Reader, canonical};
use super::counters::Counters;
use super::envelope::{Head, Kind, OpenError, Seal};
use super::forming::{Candidate, Event, Forming, Start};
use super::forming_message::FormingMessage;
use super::identity::Identity;
use super::limits::{
    BODY_BYTES_MAX, GREET_PERIOD, LEAVE_PERIOD, LEAVE_TIMES, META_PERIOD, NODES_MAX,
    OUTBID_NANOS_MAX, OUTBID_PERIOD, OUTPUTS_MAX, SEED_PERIOD, SEED_PERIOD_ALONE, SEEDS_MAX,
    SENDERS_MAX, WELCOMES_PER_SECOND,
};
use super::meta::{Base, MetaError, NodeMeta, Page, PageBody};
use super::output::{Output, Settings, Standing, Warning};
use super::promise::FoundingMember;
use super::scan::Scan;
use super::senders::{Senders, Stale};
use super::spread::OwnPages;
use super::swim::Swim;
use super::view::{NodeStanding, NodeView, Table};
use crate::types::NodeId;

/// A node's gossip. Lives on the control core; owns no socket and no clock.
///
/// `now` is time since any fixed point, the same one in all calls; it never goes back. After each
/// call the caller takes every [`Gossip::next_output`]; it calls [`Gossip::tick`] at
/// [`Gossip::next_wake`], or soon after, having handed in what had come before.
pub struct Gossip {
    node: NodeId,
    address: SocketAddr,
    seeds: Vec<SocketAddr>,
    introduced: BTreeMap<NodeId, SocketAddr>,
    expect: Option<usize>,
    partitions: u16,
    cluster: ClusterId,
    boot: u64,
    sequence: u64,
    seal: Seal,
    swim: Swim,
    senders: Senders,
    table: Table,
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
    /// Welcomes sent in the second that started then.
    welcomes: (Duration, u32),
    /// Times to say so, and when next.
    leaving: Option<(u32, Duration)>,
    warned: Vec<Warning>,
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
        let identity = Identity { node: settings.node, bump: boot, address };
        let (cluster, partitions) = standing.cluster.unwrap_or((ClusterId(0), settings.partitions));
        let forming = Forming::new(Start {
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
            sequence: 0,
            seal: Seal::new(settings.key.as_ref()),
            swim: Swim::new(identity, seed, now),
            senders: Senders::default(),
            table: Table::default(),
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
            welcomes: (now, 0),
            leaving: None,
            warned: Vec::new(),
            now,
        };
        gossip.publish();
        gossip.settle();
        Ok(gossip)
    }

    /// A datagram that came. Whatever it is, it is dropped and counted, or believed.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Duration) {
        self.now = self.now.max(now);
        self.counters.received += 1;
        let (head, body) = match self.seal.open(datagram) {
            Ok(opened) => opened,
            Err(error) => {
                let counter = match error {
                    OpenError::Foreign => &mut self.counters.foreign,
                    OpenError::Oversized => &mut self.counters.oversized,
                    OpenError::Short => &mut self.counters.short,
                    OpenError::OtherVersion => &mut self.counters.other_version,
                    OpenError::Unauthenticated => &mut self.counters.unauthenticated,
                    OpenError::Damaged => &mut self.counters.damaged,
                    OpenError::Malformed => &mut self.counters.malformed,
                };
                *counter += 1;
                return;
            }
        };
        if self.leaving.is_some() {
            return; // nothing that is said changes that
        }
        if self.admit(from, &head) {
            self.believe(from, &head, body);
        }
        self.settle();
    }

    /// Does what is due.
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

    /// What the caller is to do next; `None` when that was all.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Tells other metadata from now on. Once a second at most is enough.
    pub fn set_meta(&mut self, meta: NodeMeta) -> Result<(), MetaError> {
        meta.check()?;
        if meta != self.meta {
            self.meta = meta;
            self.publish();
        }
        Ok(())
    }

    /// The promise of [`Output::SavePromise`] is durable.
    pub fn promise_saved(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.forming.saved(self.now);
        self.settle();
    }

    /// A member of the cluster that the caller knows of from its log. It is greeted like a seed, and
    /// counts as dead since `now` until it is heard.
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

    /// A node that is dead, or has left, is seen no more. Returns whether it was. Should it speak
    /// again it is seen again; which nodes belong to a group is not decided here.
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

    /// This node leaves for good: everybody is told, three times within a third of a second. From now on nothing is
    /// heard. The caller sends what comes out, calls `tick` until [`Gossip::has_left`], and stops.
    pub fn leave(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.leaving.is_none() {
            self.leaving = Some((LEAVE_TIMES, self.now));
            self.publish();
            self.say_leaving();
        }
    }

    /// Leaving was told often enough.
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Some((0, _)))
    }

    /// The cluster that this node belongs to.
    pub fn cluster(&self) -> Option<ClusterId> {
        (self.cluster.0 != 0).then_some(self.cluster)
    }

    /// Every node that is known, this one among them, ascending by id.
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
        };
        let mut nodes: Vec<_> = self.table.iter().map(|known| self.table.view(known)).collect();
        nodes.push(own);
        nodes.sort_by_key(|view| view.node);
        nodes.into_iter()
    }

    /// What came, and why it was dropped.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    // ---- What comes in.

    /// Whether a datagram that is authentic is to be believed: of this cluster, meant for this life
    /// of this node, from the newest life of its sender, and new.
    fn admit(&mut self, from: SocketAddr, head: &Head) -> bool {
        if head.node == self.node {
            if head.peer_address == self.address {
                self.counters.own += 1;
            } else {
                self.counters.node_id_in_use += 1;
                self.warn(Warning::NodeIdInUse { address: head.peer_address });
            }
            return false;
        }
        if self.cluster.0 != 0 && head.cluster.0 != 0 && head.cluster != self.cluster {
            self.counters.other_cluster += 1;
            return false;
        }
        let active = self.table.is_active(head.node);
        if head.kind == Kind::Hello || head.to_boot != self.boot {
            let counter = match head.kind {
                Kind::Hello => &mut self.counters.accepted,
                _ => &mut self.counters.not_for_this_boot,
            };
            *counter += 1;
            if self.senders.id_in_use(head, active, self.now) {
                self.counters.node_id_in_use += 1;
                self.answer(from, head, Kind::Refused);
            } else if !matches!(head.kind, Kind::Welcome | Kind::Refused) {
                self.answer(from, head, Kind::Welcome);
            }
            return false;
        }
        match self.senders.take(head, active, self.now) {
            Ok(()) => {
                self.counters.accepted += 1;
                true
            }
            Err(stale) => {
                match stale {
                    Stale::Replayed => self.counters.replayed += 1,
                    Stale::OldBoot => {
                        self.counters.old_boot += 1;
                        self.answer(from, head, Kind::Welcome);
                    }
                    Stale::IdInUse => {
                        self.counters.node_id_in_use += 1;
                        self.answer(from, head, Kind::Refused);
                    }
                    Stale::Full => self.counters.nodes_full += 1,
                }
                false
            }
        }
    }

    fn believe(&mut self, from: SocketAddr, head: &Head, body: &[u8]) {
        if head.cluster.0 != 0 && self.cluster.0 == 0 {
            self.heard_formed(from, head);
        }
        let same = head.cluster == self.cluster;
        let taken = match head.kind {
            Kind::Hello => Some(()),
            Kind::Welcome => self.welcomed(head, body, same),
            Kind::Refused => {
                self.warn(Warning::NodeIdInUse { address: head.peer_address });
                Some(())
            }
            Kind::Forming => self.form(head, body),
            Kind::Swim if same => self.gossip(head, body),
            Kind::Leave if same => self.left(head, body),
            Kind::Swim | Kind::Leave => {
                self.counters.unformed += 1;
                if self.cluster.0 != 0 {
                    self.answer(from, head, Kind::Welcome);
                }
                Some(())
            }
        };
        if taken.is_none() {
            self.counters.malformed += 1;
        }
    }

    /// A member of a cluster speaks to this node, which has none.
    fn heard_formed(&mut self, from: SocketAddr, head: &Head) {
        self.forming.heard_formed(head.cluster);
        let seed = [head.peer_address, from].into_iter().find(|at| self.seeds.contains(at));
        if head.kind != Kind::Welcome || head.partitions == 0 {
            return;
        }
        let Some(seed) = seed else { return };
        if self.forming.is_free() {
            self.forming.joined(head.cluster);
            (self.cluster, self.partitions) = (head.cluster, head.partitions);
            let (cluster, partitions) = (self.cluster, self.partitions);
            self.push(Output::Joined { cluster, partitions });
            self.publish();
        } else if !self.forming.is_about(head.cluster) {
            self.warn(Warning::SeedOfOtherCluster { seed, cluster: head.cluster });
        }
    }

    fn welcomed(&mut self, head: &Head, body: &[u8], same: bool) -> Option<()> {
        let mut reader = Reader(body);
        let (bump, known) = (reader.u64()?, reader.u64()?);
        reader.end()?;
        if known > self.boot.max(self.swim.identity().bump) {
            self.outbid(known);
        }
        let identity = Identity { node: head.node, bump, address: head.peer_address };
        let table = self.table.get(head.node);
        let is_known = table.is_some_and(|it| it.identity == identity);
        if same && !(is_known && self.table.is_active(head.node)) && self.make_room(&[head.node]) {
            self.swim.announce(identity, self.now);
        }
        Some(())
    }

    fn gossip(&mut self, head: &Head, body: &[u8]) -> Option<()> {
        let scan = Scan::of(body)?;
        if scan.source.node != head.node || scan.source.address != head.peer_address {
            return None;
        }
        if !self.make_room(&scan.named(self.node)) {
            self.counters.nodes_full += 1;
            return Some(());
        }
        self.swim.handle(body, self.now);
        for member in &scan.members {
            if member.node == self.node && member.bump > self.swim.identity().bump {
                self.outbid(member.bump);
            }
        }
        for page in scan.pages {
            self.take_page(page);
        }
        Some(())
    }

    fn left(&mut self, head: &Head, body: &[u8]) -> Option<()> {
        let page = Page::decode(body)?;
        if page.head.node != head.node || !matches!(&page.body, PageBody::Base(it) if it.left) {
            return None;
        }
        if let Some(identity) = self.table.get(head.node).map(|known| known.identity) {
            self.take_page(page);
            self.swim.spread(body);
            self.swim.down(identity, self.now);
        }
        Some(())
    }

    fn form(&mut self, head: &Head, body: &[u8]) -> Option<()> {
        let message = FormingMessage::decode(body)?;
        let candidates = self.candidates();
        self.forming.handle(head.node, head.peer_address, message, &candidates, self.now);
        Some(())
    }

    fn take_page(&mut self, page: Page) {
        if page.head.node == self.node {
            if page.head.age() > self.pages.age() {
                self.outbid(page.head.sequence);
            }
        } else if self.table.set_page(page, self.now) {
            self.changed();
        }
    }

    /// Somebody remembers a life of this node that is newer than this one: the clock went back.
    /// This life takes a newer name.
    fn outbid(&mut self, known: u64) {
        let far = known.saturating_sub(self.boot) > OUTBID_NANOS_MAX;
        if self.now < self.next_outbid || far {
            return;
        }
        self.next_outbid = self.now + OUTBID_PERIOD;
        self.boot = known.max(self.boot).max(self.swim.identity().bump) + 1;
        self.sequence = 0;
        self.swim.rename(self.boot, self.now);
        self.pages.restart(self.boot);
        self.publish();
        self.tell_all();
    }

    /// Room for these nodes, at the cost of the longest dead.
    fn make_room(&mut self, named: &[NodeId]) -> bool {
        let Some(forgotten) = self.table.admit(named) else { return false };
        for identity in forgotten {
            self.swim.forget(identity);
            self.changed();
        }
        true
    }

    fn candidates(&self) -> Vec<Candidate> {
        if self.cluster.0 != 0 || self.expect.is_none() {
            return Vec::new();
        }
        let own = self.expect.map(|expect| Candidate {
            member: FoundingMember {
                node: self.node,
                peer_address: self.address,
                client_address: self.meta.client_address.clone(),
            },
            expect,
            partitions: self.partitions,
        });
        let others = self.table.iter().filter_map(|known| {
            let base = self.table.base(known.identity.node)?;
            let is_candidate = known.standing == NodeStanding::Alive
                && base.cluster.0 == 0
                && base.expect != 0
                && !base.left;
            is_candidate.then(|| Candidate {
                member: FoundingMember {
                    node: known.identity.node,
                    peer_address: known.identity.address,
                    client_address: base.client_address.clone(),
                },
                expect: usize::from(base.expect),
                partitions: base.partitions,
            })
        });
        own.into_iter().chain(others).collect()
    }

    // ---- What goes out.

    /// Carries on what a call has started: foca's messages, those who came up, forming.
    fn settle(&mut self) {
        while let Some(event) = self.forming.next_event() {
            match event {
                Event::Send { to, address, message } => {
                    self.send_to(to, address, Kind::Forming, &message.encode());
                }
                Event::Save(promise) => self.push(Output::SavePromise(promise)),
                Event::Formed(founding) => {
                    (self.cluster, self.partitions) = (founding.cluster, founding.partitions);
                    self.push(Output::Formed(founding));
                    self.publish();
                    self.next_seeds = self.now;
                }
                Event::Warn(warning) => self.push(Output::Warning(warning)),
            }
        }
        let ups = self.swim.take_ups();
        if !ups.is_empty() {
            for up in &ups {
                if self.senders.get(up.node).is_none_or(|sender| sender.boot < up.bump) {
                    self.greet(up.address);
                }
            }
            self.tell_all();
        }
        for (to, body) in self.swim.take_sends() {
            self.send_to(to.node, to.address, Kind::Swim, &body);
        }
        let members: Vec<_> = self.swim.members().collect();
        let mut changed = false;
        for (identity, state) in members {
            changed |= self.table.set(identity, state, self.now);
        }
        if changed {
            self.changed();
        }
        if self.pages.bump() != self.swim.identity().bump {
            self.publish();
        }
    }

    /// Sends, or greets if the receiver's boot is not known: what is said to it is said again later.
    fn send_to(&mut self, to: NodeId, address: SocketAddr, kind: Kind, body: &[u8]) {
        match self.senders.get(to) {
            Some(sender) if sender.address == address => {
                let to_boot = sender.boot;
                self.send(address, kind, to_boot, body);
            }
            _ => self.greet(address),
        }
    }

    fn greet(&mut self, address: SocketAddr) {
        if address == self.address {
            return;
        }
        if self.greeted.len() >= SENDERS_MAX {
            self.greeted.clear();
        }
        let due = self.greeted.get(&address).is_none_or(|&at| self.now >= at + GREET_PERIOD);
        if due {
            self.greeted.insert(address, self.now);
            self.send(address, Kind::Hello, 0, &[]);
        }
    }

    fn greet_seeds(&mut self) {
        let alone = self.cluster.0 == 0 || self.swim.is_alone();
        self.next_seeds = self.now + if alone { SEED_PERIOD_ALONE } else { SEED_PERIOD };
        let introduced = self.introduced.iter();
        let silent: Vec<_> = introduced
            .filter(|&(&node, _)| !self.table.is_active(node))
            .map(|(_, &address)| address)
            .chain(self.seeds.iter().copied())
            .collect();
        for address in silent {
            self.greet(address);
        }
    }

    fn answer(&mut self, to: SocketAddr, head: &Head, kind: Kind) {
        if self.now.saturating_sub(self.welcomes.0) >= Duration::from_secs(1) {
            self.welcomes = (self.now, 0);
        }
        if self.welcomes.1 >= WELCOMES_PER_SECOND {
            self.counters.unanswered += 1;
            return;
        }
        self.welcomes.1 += 1;
        let mut body = Vec::new();
        if kind == Kind::Welcome {
            let boot = self.senders.get(head.node).map_or(0, |sender| sender.boot);
            let bump = self.table.get(head.node).map_or(0, |known| known.identity.bump);
            body.extend_from_slice(&self.swim.identity().bump.to_le_bytes());
            body.extend_from_slice(&boot.max(bump).to_le_bytes());
        }
        self.send(to, kind, head.boot, &body);
    }

    fn send(&mut self, to: SocketAddr, kind: Kind, to_boot: u64, body: &[u8]) {
        assert!(body.len() <= BODY_BYTES_MAX, "body of {} bytes", body.len());
        if self.outputs.len() >= OUTPUTS_MAX {
            self.counters.outputs_full += 1;
            return;
        }
        self.sequence += 1;
        let head = Head {
            kind,
            cluster: self.cluster,
            node: self.node,
            boot: self.boot,
            sequence: self.sequence,
            to_boot,
            peer_address: self.address,
            partitions: self.partitions,
        };
        let bytes = self.seal.seal(&head, body);
        self.counters.sent += 1;
        self.outputs.push_back(Output::Send { to, bytes });
    }

    /// Tells what this node says about itself, as far as it is new.
    fn publish(&mut self) {
        let base = Base {
            bump: self.swim.identity().bump,
            left: self.leaving.is_some(),
            leaving: self.meta.leaving,
            cluster: self.cluster,
            expect: match self.expect {
                Some(expect) if self.cluster.0 == 0 => u16::try_from(expect).unwrap_or(u16::MAX),
                _ => 0,
            },
            partitions: self.partitions,
            cores: self.meta.cores,
            free_bytes: self.meta.free_bytes,
            client_address: self.meta.client_address.clone(),
            version: self.meta.version.clone(),
        };
        for page in self.pages.set(&base, &self.meta) {
            self.swim.spread(&page);
        }
        self.changed();
    }

    /// Tells all of it again: somebody may have missed it.
    fn tell_all(&mut self) {
        self.next_meta = self.now + META_PERIOD;
        for page in self.pages.all() {
            self.swim.spread(&page);
        }
    }

    fn say_leaving(&mut self) {
        let Some((times @ 1.., at)) = self.leaving else { return };
        if self.now < at {
            return;
        }
        self.leaving = Some((times - 1, self.now + LEAVE_PERIOD));
        let Some(page) = self.pages.base() else { return };
        let others: Vec<_> = self.table.iter().map(|known| known.identity).collect();
        for other in others {
            if self.table.is_active(other.node) {
                self.send_to(other.node, other.address, Kind::Leave, &page);
            }
        }
    }

    fn changed(&mut self) {
        if self.outputs.back() != Some(&Output::Changed) {
            self.push(Output::Changed);
        }
    }

    fn warn(&mut self, warning: Warning) {
        if self.warned.contains(&warning) {
            return;
        }
        if self.warned.len() >= SEEDS_MAX {
            self.warned.clear();
        }
        self.warned.push(warning.clone());
        self.push(Output::Warning(warning));
    }

    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
