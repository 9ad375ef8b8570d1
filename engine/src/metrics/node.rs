//! Every number that a node shows of itself, in `walengine status` and in metrics; see [`super::table`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use walengine_replication::turned_away::{Reason, Side};

use super::family::{Family, Head, Kind, Measure, Sample};
use super::kafka::KafkaNumbers;
use super::numbers::ShardNumbers;
use crate::memory;
use crate::memory_parts::{Part, Parts};
use crate::node_state::NodeState;

use Kind::{Counter, Gauge, Info};
use Measure::{Bytes, Number, Seconds};

/// What a node knows of itself at one moment, and what its shards have said last.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub struct NodeNumbers {
    pub uptime_seconds: u64,
    pub cores: u64,
    pub partitions: u64,
    pub free_bytes: u64,
    pub reserve_bytes: u64,
    pub is_full: bool,
    pub is_slow: bool,
    pub is_stuck: bool,
    pub is_short_of_memory: bool,
    pub is_leaving: bool,
    pub memory_used_bytes: u64,
    pub memory_limit_bytes: u64,
    pub memory_own_bytes: u64,
    pub memory_budget_bytes: u64,
    pub memory: Parts,
    pub connections: u64,
    pub connections_max: u64,
    pub is_secured: bool,
    pub forbidden: u64,
    /// `None` without certificates.
    pub certificate_left_seconds: Option<u64>,
    pub gossip_dropped: Vec<(&'static str, u64)>,
    pub turned_away: Vec<(Side, Reason, u64)>,
    pub kafka: KafkaNumbers,
    pub shards: Vec<SeenShard>,
}

/// What a shard has said last.
#[derive(Clone, Debug)]
pub struct SeenShard {
    /// What.
    pub numbers: Arc<ShardNumbers>,
    /// How long ago in whole seconds.
    pub age_seconds: u64,
}

impl NodeNumbers {
    /// As they are now.
    pub fn of(state: &NodeState) -> Self {
        let running = state.started.elapsed();
        let seen = |numbers: Arc<ShardNumbers>| {
            let age_seconds = running.saturating_sub(numbers.at).as_secs();
            SeenShard { numbers, age_seconds }
        };
        Self {
            uptime_seconds: running.as_secs(),
            cores: state.config.cores as u64,
            partitions: u64::from(state.superblock.partitions),
            free_bytes: state.free_bytes.load(Ordering::Relaxed),
            reserve_bytes: state.config.reserve_bytes,
            is_full: state.is_full.load(Ordering::Relaxed),
            is_slow: state.disk.is_slow(running),
            is_stuck: state.disk.is_stuck(running),
            is_short_of_memory: state.is_short_of_memory.load(Ordering::Relaxed),
            is_leaving: state.is_leaving.load(Ordering::Relaxed),
            memory_used_bytes: state.memory_used_bytes.load(Ordering::Relaxed),
            memory_limit_bytes: state.memory_limit_bytes.load(Ordering::Relaxed),
            memory_own_bytes: state.memory_own_bytes.load(Ordering::Relaxed),
            memory_budget_bytes: memory::budget_bytes(),
            memory: state.memory_parts.sum(),
            connections: state.admission.connections() as u64,
            connections_max: (state.config.connections_max * state.config.cores) as u64,
            is_secured: state.tls.is_some(),
            forbidden: state.policies.forbidden(),
            certificate_left_seconds: state.tls.as_ref().map(|tls| tls.current().left().as_secs()),
            gossip_dropped: state.gossip_dropped.each().collect(),
            turned_away: state.turned_away.each().collect(),
            kafka: state.kafka.numbers(),
            shards: state.published.newest().into_iter().map(seen).collect(),
        }
    }

    /// Keys of what a person should look at, each once.
    pub fn troubles(&self) -> BTreeSet<&str> {
        self.shards
            .iter()
            .flat_map(|shard| shard.numbers.troubles.iter().map(String::as_str))
            .collect()
    }

    fn peer_connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.numbers.peer_connections).sum()
    }
}

const fn one(head: Head, samples: &'static [Sample<NodeNumbers>; 1]) -> Family<NodeNumbers> {
    Family { head, samples }
}

macro_rules! one {
    ($kind:ident $name:literal, $unit:ident, $status:literal, $help:literal, |$it:ident| $value:expr) => {
        one(
            Head { name: $name, kind: $kind, unit: $unit, help: $help, labels: &[] },
            &[Sample { label: "", status: $status, value: |$it| $value }],
        )
    };
}

macro_rules! part {
    ($label:literal, $status:literal, $part:ident) => {
        Sample { label: $label, status: $status, value: |it| Some(it.memory.of(Part::$part)) }
    };
}

/// Of the node.
pub const NODE: &[Family<NodeNumbers>] = &[
    one!(Gauge "uptime", Seconds, "uptime_seconds", "Time since the process began", |it| Some(it.uptime_seconds)),
    one!(Gauge "cores", Number, "cores", "Shards, each on a core of its own", |it| Some(it.cores)),
    one!(Gauge "partitions", Number, "partitions", "Partitions of the cluster", |it| Some(it.partitions)),
    one!(Gauge "disk_free", Bytes, "free_bytes", "Free space where the data directory is", |it| Some(it.free_bytes)),
    one!(Gauge "disk_reserve", Bytes, "reserve_bytes", "Writes are refused while less than this is free",
        |it| Some(it.reserve_bytes)),
    one!(Gauge "disk_full", Number, "", "Whether writes are refused for want of room: 1 or 0",
        |it| Some(u64::from(it.is_full))),
    one!(Gauge "disk_slow", Number, "", "Whether a write took very long, now or a moment ago: 1 or 0",
        |it| Some(u64::from(it.is_slow))),
    one!(Gauge "disk_stuck", Number, "", "Whether a write does not come back, now or a moment ago: 1 or 0",
        |it| Some(u64::from(it.is_stuck))),
    one!(Gauge "memory_used", Bytes, "memory_used_bytes",
        "Memory in use of whatever limit is nearer, the budget or that of the control group",
        |it| Some(it.memory_used_bytes)),
    one!(Gauge "memory_limit", Bytes, "memory_limit_bytes", "That limit", |it| Some(it.memory_limit_bytes)),
    one!(Gauge "memory_left", Bytes, "memory_left_bytes", "What is left of it; writes are refused before it is 0",
        |it| Some(it.memory_limit_bytes.saturating_sub(it.memory_used_bytes))),
    one!(Gauge "memory_short", Number, "", "Whether writes are refused for want of memory: 1 or 0",
        |it| Some(u64::from(it.is_short_of_memory))),
    one!(Gauge "memory_budget", Bytes, "memory_budget_bytes", "Budget of the process",
        |it| Some(it.memory_budget_bytes)),
    one!(Gauge "process_memory", Bytes, "memory_of_process_bytes", "Memory of the process",
        |it| Some(it.memory_own_bytes)),
    Family {
        head: Head {
            name: "memory",
            kind: Gauge,
            unit: Bytes,
            help: "Memory of the process, by what takes it",
            labels: &["part"],
        },
        samples: &[
            part!("accounts", "memory_accounts_bytes", Accounts),
            part!("reservations", "memory_reservations_bytes", Reservations),
            part!("ids_newest", "memory_ids_newest_bytes", RecentIds),
            part!("ids_filter", "memory_ids_filter_bytes", IdsFilter),
            part!("ids_fences", "memory_ids_fences_bytes", IdsFences),
            part!("connections", "memory_connections_bytes", Connections),
            part!("peers", "memory_peers_bytes", Peers),
            part!("entries", "memory_entries_bytes", NewestEntries),
            part!("log_writes", "memory_log_writes_bytes", WriteBuffers),
            part!("names", "memory_names_bytes", Names),
            Sample {
                label: "other",
                status: "memory_other_bytes",
                value: |it| Some(it.memory.other_bytes(it.memory_own_bytes)),
            },
        ],
    },
    one!(Gauge "client_connections", Number, "connections_of_node", "Clients' connections that are open",
        |it| Some(it.connections)),
    one!(Gauge "client_connections_limit", Number, "", "Clients' connections that may be open",
        |it| Some(it.connections_max)),
    Family {
        head: Head {
            name: "connections",
            kind: Gauge,
            unit: Number,
            help: "Open connections: of clients without or with TLS, and of other nodes",
            labels: &["kind"],
        },
        samples: &[
            Sample {
                label: "plain",
                status: "",
                value: |it| Some(if it.is_secured { 0 } else { it.connections }),
            },
            Sample {
                label: "tls",
                status: "",
                value: |it| Some(if it.is_secured { it.connections } else { 0 }),
            },
            Sample { label: "peer", status: "", value: |it| Some(it.peer_connections()) },
        ],
    },
    one!(Counter "forbidden", Number, "forbidden_since_start", "Requests and events that the policy forbids",
        |it| Some(it.forbidden)),
    one!(Gauge "certificate_left", Seconds, "certificate_seconds_left",
        "For how long this node's certificate is valid still; not there without certificates",
        |it| it.certificate_left_seconds),
    one!(Gauge "leaving", Number, "", "Whether this node is leaving its cluster: 1 or 0",
        |it| Some(u64::from(it.is_leaving))),
    one!(Gauge "troubles", Number, "", "Things that a person should look at; `walengine cluster` says what to do",
        |it| Some(it.troubles().len() as u64)),
];

/// One for each of those things.
pub const TROUBLE: Head = Head {
    name: "trouble",
    kind: Gauge,
    unit: Number,
    help: "1 for each thing that a person should look at, with the node that it is about",
    labels: &["peer", "trouble"],
};

/// How old the numbers of each shard are.
pub const SHARD_AGE: Head = Head {
    name: "shard_numbers_age",
    kind: Gauge,
    unit: Seconds,
    help: "Time since a shard last said anything; it does so every second. One that is stuck or starting says nothing",
    labels: &["shard"],
};

/// Connections that were turned away.
pub const TURNED_AWAY: Head = Head {
    name: "connections_turned_away",
    kind: Counter,
    unit: Number,
    help: "Connections that were not taken, or closed for what the other side did, by side (client, peer) and reason",
    labels: &["side", "reason"],
};

/// Datagrams that gossip dropped.
pub const GOSSIP_DROPPED: Head = Head {
    name: "gossip_dropped",
    kind: Counter,
    unit: Number,
    help: "Datagrams of gossip that were dropped, by reason",
    labels: &["reason"],
};

/// Which program this is.
pub const BUILD: Head = Head {
    name: "build",
    kind: Info,
    unit: Number,
    help: "Always 1; the label is the program's version",
    labels: &["version"],
};
