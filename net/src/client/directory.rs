//! What a client knows of the cluster: its nodes, their health, the leader of each partition; and
//! where each connection goes next. No I/O. Shared by all connections of a client.
//!
//! It is a cache and may be wrong. A server that is asked in error names the leader, and a node
//! that does not answer is avoided for a while. The nodes that the caller named are never
//! forgotten.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::CLUSTER_NODES_MAX;
use crate::message::{
    ArchivedClusterStatusReply, ArchivedHelloReply, ArchivedNodeRow, NO_NODE, NodeHealth,
};
use crate::model::PartitionId;

use super::chance::{Chance, doubled, jittered};

/// How long a node is avoided after its first failure. It doubles with each further one.
pub const AVOID_MIN: Duration = Duration::from_millis(250);
/// Longest time for which a node is avoided.
pub const AVOID_MAX: Duration = Duration::from_secs(8);
/// Most connections of a partition to followers, each to another node.
pub const READERS_MAX: usize = 8;
/// Age at which knowledge of the cluster is refreshed.
const REFRESH_AFTER: Duration = Duration::from_secs(15);
/// The same after a failure, when something has probably changed.
const REFRESH_AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// Most nodes that are remembered.
const NODES_MAX: usize = 2 * CLUSTER_NODES_MAX;
/// Nodes that were not asked yet have random turns below it.
const FIRST_TURN: u64 = 1024;

/// The node that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// The partition's leader: for writes and linearizable reads.
    Leader,
    /// Any node, a follower if there is one. Requests take turns.
    Any,
    /// The node that the caller named.
    Home,
    /// The node at an address that the caller named, by its place among them.
    Named(u8),
    /// The node with this id, if its address is known: see [`Directory::know`].
    Node(u64),
}

/// One of a client's connections for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// To the leader. The only one while a single node is known.
    Leader,
    /// To a follower.
    Reader(u8),
    /// To a node that the caller named, never to another.
    Home,
    /// To the address at this place among those that the caller named.
    Named(u8),
    /// To the node with this id.
    Node(u64),
}

impl Lane {
    /// It goes to whichever node suits best, and may change.
    pub fn may_move(self) -> bool {
        matches!(self, Self::Leader | Self::Reader(_))
    }
}

#[derive(Clone, Debug)]
struct Node {
    address: String,
    /// From its greeting, or from a cluster status.
    id: Option<u64>,
    /// Place among the addresses that the caller named.
    seed: Option<usize>,
    /// A connection to this address was greeted, and none has failed since.
    is_proven: bool,
    failures: u32,
    avoid_until: Duration,
    health: NodeHealth,
    /// Order of the last connection, for turns.
    turn: u64,
}

#[derive(Clone, Debug)]
struct Use {
    partition: PartitionId,
    lane: Lane,
    address: String,
    is_connecting: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Directory {
    nodes: Vec<Node>,
    leaders: HashMap<PartitionId, String>,
    /// Newest term in which a cluster status named a leader.
    terms: HashMap<PartitionId, u64>,
    uses: Vec<Use>,
    next_reader: usize,
    next_turn: u64,
    refresh_at: Duration,
    chance: Chance,
}

impl Directory {
    /// Knows these addresses. The first connection goes to a random one.
    pub fn new(addresses: &[String], seed: u64) -> Self {
        let mut directory = Self {
            nodes: Vec::new(),
            leaders: HashMap::new(),
            terms: HashMap::new(),
            uses: Vec::new(),
            next_reader: 0,
            next_turn: FIRST_TURN,
            refresh_at: Duration::ZERO,
            chance: Chance(seed),
        };
        for (place, address) in addresses.iter().enumerate() {
            if let Some(known) = directory.learn_address(address) {
                directory.nodes[known].seed.get_or_insert(place);
            }
        }
        directory
    }

    fn place(&self, address: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.address == address)
    }

    /// Remembers an address. `None` if there is no room for it.
    fn learn_address(&mut self, address: &str) -> Option<usize> {
        if let Some(place) = self.place(address) {
            return Some(place);
        }
        if address.is_empty() || self.nodes.len() >= NODES_MAX {
            return None;
        }
        self.nodes.push(Node {
            address: address.to_owned(),
            id: None,
            seed: None,
            is_proven: false,
            failures: 0,
            avoid_until: Duration::ZERO,
            health: NodeHealth::Alive,
            // Clients that know the same nodes do not all start with the same one.
            turn: self.chance.next() % FIRST_TURN,
        });
        Some(self.nodes.len() - 1)
    }

    /// Whether both addresses are of one node.
    fn is_same_node(&self, a: usize, b: usize) -> bool {
        a == b || (self.nodes[a].id.is_some() && self.nodes[a].id == self.nodes[b].id)
    }

    /// Whether the node has another address that serves better.
    fn is_shadowed(&self, place: usize, now: Duration) -> bool {
        let rank = |place: usize| {
            let node = &self.nodes[place];
            (node.avoid_until > now, !node.is_proven, place)
        };
        (0..self.nodes.len())
            .any(|other| self.is_same_node(other, place) && rank(other) < rank(place))
    }

    fn leader_place(&self, partition: PartitionId) -> Option<usize> {
        self.leaders.get(&partition).and_then(|address| self.place(address))
    }

    fn leads(&self, place: usize, partition: PartitionId) -> bool {
        self.leader_place(partition).is_some_and(|leader| self.is_same_node(leader, place))
    }

    fn is_healthy(&self, place: usize, now: Duration) -> bool {
        let node = &self.nodes[place];
        node.avoid_until <= now && node.health == NodeHealth::Alive
    }

    /// Nodes that may answer, each once.
    fn known(&self, now: Duration) -> impl Iterator<Item = usize> {
        let gone = |place: &usize| {
            let node = &self.nodes[*place];
            node.seed.is_none() && node.health == NodeHealth::Left
        };
        (0..self.nodes.len()).filter(move |&place| !gone(&place) && !self.is_shadowed(place, now))
    }

    /// Whether at most one node is known.
    pub fn is_alone(&self, now: Duration) -> bool {
        self.known(now).nth(1).is_none()
    }

    /// Whether all addresses have been tried and none has ever served.
    pub fn is_hopeless(&self) -> bool {
        self.nodes.iter().all(|node| !node.is_proven && node.failures > 0)
    }

    /// The connection that a request goes over. Plain reads take turns among the healthy followers.
    pub fn lane(&mut self, partition: PartitionId, route: Route, now: Duration) -> Lane {
        match route {
            // Not shared with the leader's connection, which changes its node.
            Route::Home => Lane::Home,
            Route::Named(place) => Lane::Named(place),
            Route::Node(id) => Lane::Node(id),
            Route::Leader => Lane::Leader,
            Route::Any if self.is_alone(now) => Lane::Leader,
            Route::Any => {
                let is_follower =
                    |&place: &usize| self.is_healthy(place, now) && !self.leads(place, partition);
                match self.known(now).filter(is_follower).count().min(READERS_MAX) {
                    0 => Lane::Leader,
                    readers => {
                        self.next_reader = self.next_reader.wrapping_add(1);
                        Lane::Reader((self.next_reader % readers) as u8)
                    }
                }
            }
        }
    }

    /// How badly an address suits a connection. `None`: not now, because another connection of the
    /// partition is being made to it.
    fn cost(&self, place: usize, partition: PartitionId, lane: Lane, now: Duration) -> Option<u32> {
        let node = &self.nodes[place];
        let is_meant = match lane {
            Lane::Named(named) => node.seed == Some(usize::from(named)),
            Lane::Node(id) => node.id == Some(id),
            _ => true,
        };
        if !is_meant {
            return None;
        }
        let of_others = |one: &&Use| one.partition == partition && one.lane != lane;
        let mut others =
            self.uses.iter().filter(of_others).filter(|one| one.address == node.address);
        if others.clone().any(|one| one.is_connecting) {
            return None;
        }
        let health = match node.health {
            _ if node.avoid_until > now => 40,
            // A leader leads, whatever gossip says of its health.
            _ if lane == Lane::Leader && self.leads(place, partition) => 0,
            NodeHealth::Dead | NodeHealth::Left => 30,
            NodeHealth::Suspect => 20,
            NodeHealth::Alive => 0,
        };
        let role = match lane {
            Lane::Leader => u32::from(!self.leads(place, partition)),
            Lane::Home => node.seed?.min(9) as u32,
            Lane::Named(_) | Lane::Node(_) => 0,
            Lane::Reader(_) if self.leads(place, partition) => 10,
            Lane::Reader(_) => u32::from(others.any(|one| matches!(one.lane, Lane::Reader(_)))),
        };
        Some(health + role + if self.is_shadowed(place, now) { 100 } else { 0 })
    }

    fn best(&self, partition: PartitionId, lane: Lane, now: Duration) -> Option<(u32, usize)> {
        let costs = (0..self.nodes.len())
            .filter_map(|place| Some((self.cost(place, partition, lane, now)?, place)));
        costs.min_by_key(|&(cost, place)| {
            let node = &self.nodes[place];
            (cost, node.avoid_until.max(now), node.turn)
        })
    }

    /// Where to connect now. Until [`Directory::greeted`] or [`Directory::ended`], no other
    /// connection of the partition is made to the same address.
    pub fn pick(&mut self, partition: PartitionId, lane: Lane, now: Duration) -> Option<String> {
        let (_, place) = self.best(partition, lane, now)?;
        self.ended(partition, lane);
        self.nodes[place].turn = self.next_turn;
        self.next_turn += 1;
        let address = self.nodes[place].address.clone();
        let one = Use { partition, lane, address: address.clone(), is_connecting: true };
        self.uses.push(one);
        Some(address)
    }

    /// Whether another node would now suit this connection better.
    pub fn is_misplaced(&self, partition: PartitionId, lane: Lane, now: Duration) -> bool {
        let mine = |one: &&Use| one.partition == partition && one.lane == lane;
        let Some(used) = self.uses.iter().find(mine) else { return false };
        let place = self.place(&used.address);
        let cost = place.and_then(|place| self.cost(place, partition, lane, now));
        let best = self.best(partition, lane, now).map(|(cost, _)| cost);
        matches!((cost, best), (Some(cost), Some(best)) if best < cost)
    }

    /// A connection was greeted. Returns whether another node leads the partition and should be
    /// asked instead.
    pub fn greeted(
        &mut self,
        partition: PartitionId,
        lane: Lane,
        hello: &ArchivedHelloReply<'static>,
        now: Duration,
    ) -> bool {
        let mine = |one: &&mut Use| one.partition == partition && one.lane == lane;
        let Some(used) = self.uses.iter_mut().find(mine) else { return false };
        used.is_connecting = false;
        let address = used.address.clone();
        if let Some(place) = self.place(&address) {
            let node = &mut self.nodes[place];
            node.id = Some(hello.node.to_native()).filter(|&id| id != NO_NODE);
            (node.is_proven, node.failures, node.avoid_until) = (true, 0, Duration::ZERO);
            // It answers, whatever gossip says.
            node.health = NodeHealth::Alive;
        }
        if hello.is_leader == 1 {
            self.leaders.insert(partition, address);
            return false;
        }
        self.not_leader(partition, &address, &hello.leader, now)
    }

    /// The node at `address` does not lead the partition, and may have named the leader. Returns
    /// whether there is a leader to ask now.
    pub fn not_leader(
        &mut self,
        partition: PartitionId,
        address: &str,
        leader: &str,
        now: Duration,
    ) -> bool {
        self.refresh_by(now + REFRESH_AFTER_TROUBLE);
        let asked = self.place(address);
        if let Some(place) = self.learn_address(leader)
            && !asked.is_some_and(|asked| self.is_same_node(asked, place))
        {
            // It may have failed a moment ago, and the node that names it does not know yet.
            if self.nodes[place].avoid_until <= now {
                self.leaders.insert(partition, leader.to_owned());
                return true;
            }
        }
        if asked.is_some_and(|asked| self.leads(asked, partition)) {
            self.leaders.remove(&partition);
        }
        false
    }

    /// The node did not accept a connection, did not answer, or sent nonsense. Others are asked
    /// first for a while.
    pub fn failed(&mut self, address: &str, now: Duration) {
        self.refresh_by(now + REFRESH_AFTER_TROUBLE);
        let random = self.chance.next();
        self.leaders.retain(|_, leader| leader != address);
        let Some(place) = self.place(address) else { return };
        let node = &mut self.nodes[place];
        node.is_proven = false;
        // All connections to a node fail together. That counts as one failure.
        if node.avoid_until <= now {
            let whole = doubled(AVOID_MIN, node.failures, AVOID_MAX);
            node.avoid_until = now + jittered(whole, random);
            node.failures = node.failures.saturating_add(1);
        }
    }

    /// A connection, or an attempt to connect, has ended.
    pub fn ended(&mut self, partition: PartitionId, lane: Lane) {
        self.uses.retain(|one| (one.partition, one.lane) != (partition, lane));
    }

    /// Learns from a cluster status.
    pub fn learn(&mut self, status: &ArchivedClusterStatusReply<'static>) {
        for row in status.nodes.iter() {
            let Some(place) = self.learn_address(&row.client_address) else { continue };
            let node = &mut self.nodes[place];
            (node.id, node.health) = (Some(row.node.to_native()), row.health());
        }
        // A node that the caller named stays, whatever the others report.
        let told =
            |id: Option<u64>| status.nodes.iter().find(|row| Some(row.node.to_native()) == id);
        for node in self.nodes.iter_mut().filter(|node| node.seed.is_some()) {
            node.health = told(node.id).map_or(node.health, ArchivedNodeRow::health);
        }
        let is_used = |node: &Node| self.uses.iter().any(|one| one.address == node.address);
        self.nodes.retain(|node| node.seed.is_some() || told(node.id).is_some() || is_used(node));
        for group in status.groups.iter() {
            let (leader, term) = (group.leader.to_native(), group.term.to_native());
            let partition = PartitionId(group.partition.to_native());
            let known_term = self.terms.get(&partition).copied().unwrap_or(0);
            let is_news =
                term > known_term || (term == known_term && !self.leaders.contains_key(&partition));
            let address = told(Some(leader)).map(|row| row.client_address.to_string());
            if let (true, Some(address)) = (is_news && leader != NO_NODE, address)
                && !address.is_empty()
            {
                self.leaders.insert(partition, address);
                self.terms.insert(partition, term);
            }
        }
    }

    /// The node with this id is at this address, as another node says.
    pub fn know(&mut self, id: u64, address: &str) {
        if let Some(place) = self.learn_address(address) {
            self.nodes[place].id.get_or_insert(id);
        }
    }

    /// Whether it is time to ask about the cluster. If so, the caller must, and no other does for a
    /// while.
    pub fn claim_refresh(&mut self, now: Duration) -> bool {
        let is_due = self.refresh_at <= now;
        if is_due {
            self.refresh_at = now + jittered(REFRESH_AFTER, self.chance.next());
        }
        is_due
    }

    fn refresh_by(&mut self, time: Duration) {
        self.refresh_at = self.refresh_at.min(time);
    }
}
