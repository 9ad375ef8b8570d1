//! What a shard says of itself and of its partitions: plain numbers, taken at one moment. Made by the shard, about
//! once a second and whenever somebody asks for its status; read by whoever scrapes.
//!
//! A scrape costs a shard nothing: it reads what was published last, by [`Published`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use walengine_net::model::{PartitionId, Verdict};
use walengine_replication::types::NodeId;

use super::latency::Latency;
use crate::memory_parts::Parts;

/// Of one partition on this node. What a name means is said in [`super::table`], which shows it.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub struct PartitionNumbers {
    pub partition: PartitionId,
    pub next_offset: u64,
    pub committed_offset: u64,
    pub term: u64,
    pub last_index: u64,
    pub durable_index: u64,
    pub applied_index: u64,
    pub leads: bool,
    pub knows_leader: bool,
    pub is_readable: bool,
    pub is_stopped: bool,
    pub is_stuck: bool,
    pub is_full: bool,
    pub is_short_of_memory: bool,
    pub is_importing: bool,
    pub voters: u64,
    pub accounts: u64,
    pub remembered_ids: u64,
    pub ids_in_memory: u64,
    pub open_reservations: u64,
    pub spanning_under_way: u64,
    pub memory: Parts,
    pub ids_on_disk: u64,
    pub ids_on_disk_bytes: u64,
    pub ids_written_bytes: u64,
    pub id_runs: u64,
    pub snapshots: u64,
    pub snapshot_bytes: u64,
    pub is_in_snapshot: bool,
    pub clock_ahead_seconds: u64,
    pub clock_behind_seconds: u64,
    pub knows_clocks: bool,
    pub entries: u64,
    pub records: u64,
    pub refused_busy: u64,
    pub refused_full: u64,
    pub refused_memory: u64,
    pub damaged_places: u64,
    pub entries_mended: u64,
    pub flushes: u64,
    pub flush_bytes: u64,
    pub flushes_inflight: u64,
    pub flushes_inflight_most: u64,
    pub log_backlog_bytes: u64,
    pub answers_waiting: u64,
    pub answers_waiting_bytes: u64,
    pub entries_under_way: u64,
    /// Those that there were.
    pub verdicts: Vec<(Verdict, u64)>,
    pub commit: Latency,
    pub flush: Latency,
    pub answer: Latency,
    /// The other members of its group, and the nodes that this one sends entries to.
    pub peers: Vec<PeerNumbers>,
}

/// Of another replica of a partition.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
pub struct PeerNumbers {
    pub node: NodeId,
    /// Entries are sent to it, or were.
    pub is_dialled: bool,
    /// `None` if this node does not lead.
    pub lag_entries: Option<u64>,
    /// `None` if this node does not lead, or has not heard it since it does.
    pub silent_seconds: Option<u64>,
    pub appends: u64,
    pub append_bytes: u64,
    pub appends_inflight_most: u64,
}

/// Of one shard.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
pub struct ShardNumbers {
    /// When they were taken, since the process began.
    pub at: Duration,
    pub connections: u64,
    pub connection_bytes: u64,
    pub connection_bytes_max: u64,
    pub peer_connections: u64,
    /// `None` on a node that serves alone.
    pub peers: Option<PeersRefused>,
    pub partitions: Vec<PartitionNumbers>,
    /// What a person should look at: keys of [`crate::trouble::Trouble`].
    pub troubles: Vec<String>,
}

/// What a shard has refused of peers.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
pub struct PeersRefused {
    pub hellos: u64,
    pub broken: u64,
    pub requests: u64,
}

/// The newest numbers of each shard. Written by shards, each its own; a reader holds the lock for as long as it
/// takes to copy a pointer.
#[derive(Debug)]
pub struct Published(Vec<Mutex<Arc<ShardNumbers>>>);

impl Published {
    /// Of so many shards, which have said nothing yet.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Mutex::default()).collect())
    }

    /// A shard says this now.
    pub fn put(&self, shard: usize, numbers: ShardNumbers) {
        let newest = &mut *self.0[shard].lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(numbers);
    }

    /// What each has said last, by number.
    pub fn newest(&self) -> Vec<Arc<ShardNumbers>> {
        let newest = |one: &Mutex<Arc<ShardNumbers>>| {
            one.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.0.iter().map(newest).collect()
    }
}
