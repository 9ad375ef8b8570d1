//! The simulated network: seeded, so that one seed replays one run.

use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use super::super::{
    Founding, Gossip, GossipKeys, NodeMeta, NodeStanding, NodeView, Output, Promise, PromiseState,
    Settings, Standing, Warning,
};
use crate::types::NodeId;

/// Wall clock at time zero, in nanoseconds.
const EPOCH_NANOS: u64 = 1_700_000_000_000_000_000;

/// What the network does to datagrams.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub lose: f64,
    pub repeat: f64,
    pub delay_millis_max: u64,
}

pub struct Node {
    pub gossip: Option<Gossip>,
    pub settings: Settings,
    /// What survives a crash.
    pub disk: Standing,
    /// What is being saved, and when it is durable.
    saving: Option<(Duration, Promise)>,
    pub formed: Vec<Founding>,
    pub joined: Vec<ClusterId>,
    pub warnings: Vec<Warning>,
    /// How far the clock went back.
    pub clock_behind: Duration,
    pub save_millis_max: u64,
}

pub struct Sim {
    pub now: Duration,
    pub nodes: BTreeMap<NodeId, Node>,
    pub faults: Faults,
    /// Cut directions: from, to.
    pub cut: Vec<(NodeId, NodeId)>,
    pub rng: SmallRng,
    /// Every datagram that was sent, if wanted.
    pub record: Option<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
    flights: BinaryHeap<Flight>,
    flown: u64,
    pub delivered: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    /// Earliest first.
    order: std::cmp::Reverse<(Duration, u64)>,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub fn address(node: NodeId) -> SocketAddr {
    format!("10.0.0.{node}:7451").parse().unwrap()
}

pub fn meta(node: NodeId) -> NodeMeta {
    NodeMeta {
        client_address: format!("db{node}.example:7450"),
        cores: 2,
        version: "0.1.0".into(),
        led: BTreeMap::from([(PartitionId(node as u16), node * 10)]),
        free_bytes: node << 30,
        leaving: false,
    }
}

pub fn settings(node: NodeId, seeds: &[NodeId], expect: Option<usize>) -> Settings {
    Settings {
        node,
        peer_address: address(node),
        seeds: seeds.iter().copied().map(address).collect(),
        keys: Some(GossipKeys::one([7; 32])),
        expect,
        partitions: 8,
        boot: Timestamp(0),
        meta: meta(node),
    }
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::from_secs(5),
            nodes: BTreeMap::new(),
            faults: Faults { delay_millis_max: 2, ..Faults::default() },
            cut: Vec::new(),
            rng: SmallRng::seed_from_u64(seed),
            record: None,
            flights: BinaryHeap::new(),
            flown: 0,
            delivered: 0,
        }
    }

    /// Members of one cluster, all of them running.
    pub fn cluster(seed: u64, nodes: u64) -> Self {
        let mut sim = Self::new(seed);
        for node in 1..=nodes {
            let disk = Standing { cluster: Some((ClusterId(77), 8)), promise: None };
            sim.add(settings(node, &[1, 2, 3], None), disk);
        }
        sim
    }

    pub fn add(&mut self, settings: Settings, disk: Standing) {
        let node = settings.node;
        let state = Node {
            gossip: None,
            settings,
            disk,
            saving: None,
            formed: Vec::new(),
            joined: Vec::new(),
            warnings: Vec::new(),
            clock_behind: Duration::ZERO,
            save_millis_max: 5,
        };
        self.nodes.insert(node, state);
        self.start(node);
    }

    pub fn start(&mut self, node: NodeId) {
        let seed = self.rng.random();
        let state = self.nodes.get_mut(&node).unwrap();
        assert!(state.gossip.is_none(), "started twice");
        let since = self.now.saturating_sub(state.clock_behind);
        state.settings.boot = Timestamp(EPOCH_NANOS + since.as_nanos() as u64);
        let gossip = Gossip::new(state.settings.clone(), state.disk.clone(), seed, self.now);
        state.gossip = Some(gossip.unwrap());
        self.drain(node);
    }

    /// Stops a node at once. What is being saved is lost or not, by chance.
    pub fn crash(&mut self, node: NodeId) {
        let lost = self.rng.random_bool(0.5);
        let state = self.nodes.get_mut(&node).unwrap();
        state.gossip = None;
        if let Some((_, promise)) = state.saving.take()
            && !lost
        {
            self.write(node, promise);
        }
    }

    /// A promise reaches the disk. Checks two rules: a promise is followed only by itself, released
    /// or formed; and a member's is released only after its founder is not bound by it any more.
    fn write(&mut self, node: NodeId, promise: Promise) {
        let founder = &self.nodes[&promise.founder()].disk.promise;
        let bound = |it: &Promise| {
            it.founding.cluster == promise.founding.cluster && it.state != PromiseState::Released
        };
        if promise.state == PromiseState::Released && promise.founder() != node {
            assert!(!founder.iter().any(bound), "{node} is released from {founder:?}");
        }
        let disk = &mut self.nodes.get_mut(&node).unwrap().disk.promise;
        if let Some(before) = disk.as_ref().filter(|it| it.state != PromiseState::Released) {
            assert_eq!(before.founding, promise.founding, "{node} promises twice");
            assert_ne!(before.state, PromiseState::Formed, "{node} goes back to {promise:?}");
        }
        *disk = Some(promise);
    }

    /// Nodes that are saving a promise.
    pub fn saving(&self) -> Vec<NodeId> {
        let saving = self.nodes.iter().filter(|(_, state)| state.saving.is_some());
        saving.map(|(&node, _)| node).collect()
    }

    pub fn gossip(&mut self, node: NodeId) -> &mut Gossip {
        self.nodes.get_mut(&node).unwrap().gossip.as_mut().unwrap()
    }

    pub fn running(&self) -> Vec<NodeId> {
        let running = self.nodes.iter().filter(|(_, state)| state.gossip.is_some());
        running.map(|(&node, _)| node).collect()
    }

    /// What `at` sees of `node`.
    pub fn view(&self, at: NodeId, node: NodeId) -> Option<NodeView> {
        let gossip = self.nodes[&at].gossip.as_ref().unwrap();
        gossip.nodes().find(|view| view.node == node)
    }

    pub fn standing(&self, at: NodeId, node: NodeId) -> Option<NodeStanding> {
        self.view(at, node).map(|view| view.standing)
    }

    /// Every running node sees every running node alive.
    pub fn all_alive(&self) -> bool {
        let running = self.running();
        let alive = |at: NodeId| {
            running.iter().all(|&node| self.standing(at, node) == Some(NodeStanding::Alive))
        };
        running.iter().all(|&at| alive(at))
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until the condition holds.
    pub fn until(&mut self, most: Duration, what: &str, is_so: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !is_so(self) {
            assert!(self.now < start + most, "{what}: not within {most:?}");
            self.run(Duration::from_millis(100));
        }
        self.now.saturating_sub(start)
    }

    /// Runs the next event before `until`; false if there is none.
    pub fn step(&mut self, until: Duration) -> bool {
        let flight = self.flights.peek().map(|flight| flight.order.0.0);
        let wake = |(&node, state): (&NodeId, &Node)| {
            let gossip = state.gossip.as_ref()?;
            let saved = state.saving.as_ref().map(|(at, _)| *at);
            let wake = gossip.next_wake().max(self.now);
            Some((saved.map_or(wake, |saved| saved.min(wake)), node))
        };
        let wake = self.nodes.iter().filter_map(wake).min();
        let next = flight.into_iter().chain(wake.map(|(at, _)| at)).min();
        let Some(next) = next.filter(|&next| next <= until) else { return false };
        self.now = self.now.max(next);
        if flight == Some(next) {
            self.land();
        } else if let Some((_, node)) = wake {
            self.wake(node);
        }
        true
    }

    fn wake(&mut self, node: NodeId) {
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        let gossip = state.gossip.as_mut().unwrap();
        if state.saving.as_ref().is_some_and(|(at, _)| *at <= now) {
            let saved = state.saving.take();
            if let Some((_, promise)) = saved {
                self.write(node, promise);
            }
            self.gossip(node).promise_saved(now);
        } else {
            gossip.tick(now);
        }
        self.drain(node);
    }

    fn land(&mut self) {
        let Some(flight) = self.flights.pop() else { return };
        let to = self.nodes.iter().find(|(_, state)| state.settings.peer_address == flight.to);
        let Some((&node, _)) = to else { return };
        if self.nodes[&node].gossip.is_some() {
            self.delivered += 1;
            let now = self.now;
            self.gossip(node).handle(flight.from, &flight.bytes, now);
            self.drain(node);
        }
    }

    /// Delivers a datagram that no node sent.
    pub fn inject(&mut self, node: NodeId, from: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        self.gossip(node).handle(from, bytes, now);
        self.drain(node);
    }

    pub fn drain(&mut self, node: NodeId) {
        let now = self.now;
        loop {
            let state = self.nodes.get_mut(&node).unwrap();
            let from = state.settings.peer_address;
            let Some(output) = state.gossip.as_mut().unwrap().next_output() else { return };
            match output {
                Output::Send { to, bytes } => self.send(node, from, to, &bytes),
                Output::SavePromise(promise) => {
                    assert!(state.saving.is_none(), "two promises at once");
                    let millis = self.rng.random_range(0..=state.save_millis_max);
                    state.saving = Some((now + Duration::from_millis(millis), promise));
                }
                Output::Formed(founding) => {
                    state.disk.cluster = Some((founding.cluster, founding.partitions));
                    state.formed.push(founding);
                }
                Output::Joined { cluster, partitions } => {
                    state.disk.cluster = Some((cluster, partitions));
                    state.joined.push(cluster);
                }
                Output::Warning(warning) => state.warnings.push(warning),
                Output::Changed => {}
            }
        }
    }

    fn send(&mut self, node: NodeId, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        assert!(bytes.len() <= 1400, "datagram of {} bytes", bytes.len());
        if let Some(record) = &mut self.record {
            record.push((from, to, bytes.to_vec()));
        }
        let receiver = self.nodes.values().find(|state| state.settings.peer_address == to);
        let Some(receiver) = receiver.map(|state| state.settings.node) else { return };
        if self.cut.contains(&(node, receiver)) || self.rng.random_bool(self.faults.lose) {
            return;
        }
        let copies = 1 + usize::from(self.rng.random_bool(self.faults.repeat));
        for _ in 0..copies {
            let millis = self.rng.random_range(0..=self.faults.delay_millis_max);
            self.flown += 1;
            let at = self.now + Duration::from_millis(millis);
            let order = std::cmp::Reverse((at, self.flown));
            self.flights.push(Flight { order, from, to, bytes: bytes.to_vec() });
        }
    }

    /// No datagram passes between the two groups.
    pub fn partition(&mut self, left: &[NodeId], right: &[NodeId]) {
        for &a in left {
            for &b in right {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }
}
