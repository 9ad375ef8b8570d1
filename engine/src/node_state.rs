//! What the threads of a node share. Everything else crosses between them in bounded channels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use walengine_net::model::{PartitionId, Timestamp};
use walengine_net::tls::Tls;
use walengine_replication::budget::Pool;
use walengine_replication::gossip::{Counters, OwnCondition};
use walengine_replication::turned_away::TurnedAway;

use crate::acquaintances::Acquaintances;
use crate::across::Letters;
use crate::admission::Admission;
use crate::audit::Audit;
use crate::config::Config;
use crate::disk_health::DiskHealth;
use crate::leave_cost::Cost;
use crate::memory_parts::AllParts;
use crate::metrics::kafka::KafkaCounts;
use crate::metrics::numbers::Published;
use crate::policy::Policies;
use crate::shares::{connections_pool, peers_pool};
use crate::storage::layout::Superblock;

/// What all shards and the control thread look at.
#[derive(Debug)]
pub struct NodeState {
    /// Settings in force.
    pub config: Config,
    /// What the data directory says about itself.
    pub superblock: Superblock,
    /// This node's certificate, and whom it believes; `None`: connections are not secured.
    pub tls: Option<Arc<Tls>>,
    /// Less than the reserve is free: writes are refused. Written by the main thread.
    pub is_full: AtomicBool,
    /// Bytes free at the last look. Written by the main thread.
    pub free_bytes: AtomicU64,
    /// Memory is nearly used up: writes are refused. Written by the main thread.
    pub is_short_of_memory: AtomicBool,
    /// Bytes of memory used of the nearer limit at the last look, and allowed by it. Written by the main thread.
    pub memory_used_bytes: AtomicU64,
    /// See [`Self::memory_used_bytes`].
    pub memory_limit_bytes: AtomicU64,
    /// Bytes of memory of this process alone at the last look. Written by the main thread.
    pub memory_own_bytes: AtomicU64,
    /// What they go to. Written by shards and the feed, each its own share.
    pub memory_parts: AllParts,
    /// How the disk does. Written by all threads.
    pub disk: DiskHealth,
    /// An operator has asked this node to leave its cluster. Written by shards; reset by the main thread if
    /// that would cost a majority after all.
    pub is_leaving: AtomicBool,
    /// Raft groups whose newest membership keeps this node. Written by shards, each its own share.
    pub groups_kept: AtomicUsize,
    /// What it would cost each partition if this node left; `None`: nothing. Written by shards, about once a
    /// second, and empty until then.
    leave_costs: Mutex<BTreeMap<PartitionId, Option<Cost>>>,
    /// Where this node takes clients; empty where it serves alone.
    pub client_address: String,
    /// What the other nodes have said of themselves to this one. Written by one shard.
    pub acquaintances: Acquaintances,
    /// Datagrams that gossip has dropped. Written by the control thread.
    pub gossip_dropped: DroppedDatagrams,
    /// Much memory was freed: the main thread shall give it back to the system. Written by shards and
    /// the feed.
    pub gives_back: AtomicBool,
    /// Orders are written down here before they are carried out.
    pub audit: Audit,
    /// Connections that were not taken, or closed for what the other side did.
    pub turned_away: Arc<TurnedAway>,
    /// Connections of clients that are open, by address.
    pub admission: Admission,
    /// The ways between partitions.
    pub letters: Letters,
    /// Who may do what. Written by the main thread.
    pub policies: Arc<Policies>,
    /// What each shard has said last of itself and its partitions. Written by shards, each its own.
    pub published: Published,
    /// What the Kafka face counts. Written by its thread.
    pub kafka: Arc<KafkaCounts>,
    /// Memory that the clients' connections of all shards share.
    pub connections_pool: Pool,
    /// Memory that their peers' share.
    pub peers_pool: Pool,
    /// When the process began.
    pub started: Instant,
}

impl NodeState {
    /// Of a node that has just started.
    pub fn new(config: Config, superblock: Superblock, audit: Audit, started: Instant) -> Self {
        let connections_max = config.connections_max * config.cores;
        let (connections_pool, peers_pool) =
            (connections_pool(config.cores), peers_pool(config.cores));
        let letters = Letters::new(superblock.partitions);
        let published = Published::new(config.cores);
        Self {
            config,
            superblock,
            letters,
            tls: None,
            is_full: AtomicBool::new(false),
            free_bytes: AtomicU64::new(0),
            is_short_of_memory: AtomicBool::new(false),
            memory_used_bytes: AtomicU64::new(0),
            memory_limit_bytes: AtomicU64::new(0),
            memory_own_bytes: AtomicU64::new(0),
            memory_parts: AllParts::default(),
            disk: DiskHealth::default(),
            is_leaving: AtomicBool::new(false),
            groups_kept: AtomicUsize::new(0),
            leave_costs: Mutex::default(),
            client_address: String::new(),
            acquaintances: Acquaintances::default(),
            gossip_dropped: DroppedDatagrams::default(),
            gives_back: AtomicBool::new(false),
            audit,
            turned_away: Arc::default(),
            admission: Admission::new(connections_max),
            policies: Arc::default(),
            published,
            kafka: Arc::default(),
            connections_pool,
            peers_pool,
            started,
        }
    }

    /// The same with a certificate of its own.
    #[must_use]
    pub fn secured(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// Takes note of what it would cost a partition if this node left.
    pub fn note_leave_cost(&self, partition: PartitionId, cost: Option<Cost>) {
        self.leave_costs.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, cost);
    }

    /// Why this node must not leave, whoever says so: a partition would lose its majority, or that is not known.
    pub fn must_stay(&self) -> Option<String> {
        let costs = self.leave_costs.lock().unwrap_or_else(PoisonError::into_inner);
        if costs.len() < usize::from(self.superblock.partitions) {
            return Some("what that would cost is not known yet: ask again in a moment".to_owned());
        }
        let worst = (*costs.values().max()?)?;
        let of = costs.iter().filter(|(_, cost)| **cost == Some(worst));
        let of: Vec<PartitionId> = of.map(|(partition, _)| *partition).collect();
        worst.is_a_majority().then(|| worst.in_words(self.superblock.node, &of))
    }

    /// How this node is, and what its clock says now: `clock`.
    pub fn condition(&self, clock: Timestamp) -> OwnCondition {
        let running = self.started.elapsed();
        OwnCondition {
            is_full: self.disk.is_full(running),
            is_stuck: self.disk.is_stuck(running),
            is_slow: self.disk.is_slow(running),
            is_short_of_memory: self.is_short_of_memory.load(Ordering::Relaxed),
            clock,
        }
    }

    /// Shard on which a partition lives.
    pub fn shard_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.config.cores
    }

    /// The partitions of a shard, ascending.
    pub fn partitions_of(&self, shard: usize) -> impl Iterator<Item = PartitionId> + use<> {
        (shard..usize::from(self.superblock.partitions))
            .step_by(self.config.cores)
            .map(|number| PartitionId(number as u16))
    }
}

/// How many datagrams gossip has dropped, by reason, in the order of [`Counters::dropped`].
#[derive(Debug, Default)]
pub struct DroppedDatagrams([AtomicU64; REASONS]);

const REASONS: usize = 14;

impl DroppedDatagrams {
    /// As gossip counts now.
    pub fn set(&self, counters: &Counters) {
        for (place, (_, count)) in self.0.iter().zip(counters.dropped()) {
            place.store(count, Ordering::Relaxed);
        }
    }

    /// Each reason with its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = Counters::default().dropped();
        (0..REASONS).map(move |at| (reasons[at].0, self.0[at].load(Ordering::Relaxed)))
    }
}
