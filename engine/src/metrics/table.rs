//! Every number that a node shows of its shards and partitions: one table for `walengine status` and for metrics, so
//! that they can't differ. Those of the node itself are in [`super::node`].

use super::family::{Family, Head, Kind, Measure, Sample};
use super::latency::Latency;
use super::numbers::{PartitionNumbers, PeerNumbers, ShardNumbers};
use crate::memory_parts::Part;

use Kind::{Counter, Gauge, Histogram};
use Measure::{Bytes, Number, Seconds};

const OF_PARTITION: &[&str] = &["partition"];
const OF_PEER: &[&str] = &["partition", "peer"];
const OF_SHARD: &[&str] = &["shard"];

/// A family with one sample; `$value` is an expression of `$it`.
macro_rules! one {
    ($kind:ident $labels:ident $name:literal, $unit:ident, $status:literal, $help:literal, |$it:ident| $value:expr) => {
        Family {
            head: Head { name: $name, kind: $kind, unit: $unit, help: $help, labels: $labels },
            samples: &[Sample { label: "", status: $status, value: |$it| Some($value) }],
        }
    };
}

/// A family with a sample for each value of its last label.
macro_rules! each {
    ($kind:ident [$($labels:literal),*] $name:literal, $unit:ident, $help:literal,
     $($label:literal $status:literal |$it:ident| $value:expr;)*) => {
        Family {
            head: Head { name: $name, kind: $kind, unit: $unit, help: $help, labels: &[$($labels),*] },
            samples: &[$(Sample { label: $label, status: $status, value: |$it| Some($value) }),*],
        }
    };
}

/// Of a partition on this node.
pub const PARTITION: &[Family<PartitionNumbers>] = &[
    one!(Gauge OF_PARTITION "next_offset", Number, "next_offset",
        "Offset of the next record: behind what a leader has decided, or a follower has applied",
        |it| it.next_offset),
    one!(Gauge OF_PARTITION "committed_offset", Number, "durable_offset",
        "Every record below this offset is committed and shown to clients here", |it| it.committed_offset),
    one!(Gauge OF_PARTITION "term", Number, "term", "Newest term of the group that this node knows", |it| it.term),
    one!(Gauge OF_PARTITION "last_index", Number, "last_index", "Newest entry of the log on this node",
        |it| it.last_index),
    one!(Gauge OF_PARTITION "durable_index", Number, "durable_index",
        "Newest entry that is on the disk of this node with all before it", |it| it.durable_index),
    one!(Gauge OF_PARTITION "applied_index", Number, "",
        "Newest entry that is committed and applied on this node", |it| it.applied_index),
    one!(Gauge OF_PARTITION "leads", Number, "", "Whether this node decides: 1 or 0", |it| u64::from(it.leads)),
    one!(Gauge OF_PARTITION "leader_known", Number, "",
        "Whether this node knows of a leader that a majority answers: 1 or 0", |it| u64::from(it.knows_leader)),
    one!(Gauge OF_PARTITION "readable", Number, "",
        "Whether this node has caught up far enough to answer reads: 1 or 0", |it| u64::from(it.is_readable)),
    each!(Gauge ["partition", "reason"] "refusing", Number,
        "Whether the partition refuses writes here, by reason: 1 or 0; stopped is for good",
        "stopped" "" |it| u64::from(it.is_stopped);
        "disk_stuck" "" |it| u64::from(it.is_stuck);
        "disk_full" "" |it| u64::from(it.is_full);
        "memory" "" |it| u64::from(it.is_short_of_memory);),
    one!(Gauge OF_PARTITION "voters", Number, "", "Voters of the group; 0 on a node that serves alone",
        |it| it.voters),
    one!(Gauge OF_PARTITION "accounts", Number, "accounts", "Accounts", |it| it.accounts),
    one!(Gauge OF_PARTITION "ids_remembered", Number, "remembered_ids", "Ids that have a verdict",
        |it| it.remembered_ids),
    one!(Gauge OF_PARTITION "reservations_open", Number, "open_pendings",
        "Reservations that are neither posted nor voided nor expired", |it| it.open_reservations),
    one!(Gauge OF_PARTITION "spanning_under_way", Number, "under_way_to_other_partitions",
        "Transfers and chains over partitions whose outcome is not known here yet", |it| it.spanning_under_way),
    one!(Gauge OF_PARTITION "ids_in_memory", Number, "ids_in_memory", "The newest ids, which are in memory",
        |it| it.ids_in_memory),
    each!(Gauge ["partition", "part"] "partition_memory", Bytes, "Memory of the partition, by what takes it",
        "accounts" "accounts_bytes" |it| it.memory.of(Part::Accounts);
        "reservations" "reservations_bytes" |it| it.memory.of(Part::Reservations);
        "ids_newest" "ids_in_memory_bytes" |it| it.memory.of(Part::RecentIds);
        "ids_filter" "ids_filter_bytes" |it| it.memory.of(Part::IdsFilter);
        "ids_fences" "ids_fences_bytes" |it| it.memory.of(Part::IdsFences);
        "entries" "newest_entries_bytes" |it| it.memory.of(Part::NewestEntries);
        "log_writes" "log_write_buffers_bytes" |it| it.memory.of(Part::WriteBuffers);
        "names" "names_bytes" |it| it.memory.of(Part::Names);),
    one!(Gauge OF_PARTITION "ids_on_disk", Number, "ids_on_disk", "Ids in runs on the disk", |it| it.ids_on_disk),
    one!(Gauge OF_PARTITION "ids_on_disk", Bytes, "ids_on_disk_bytes", "Bytes of the runs of ids on the disk",
        |it| it.ids_on_disk_bytes),
    one!(Counter OF_PARTITION "ids_written", Bytes, "ids_written_bytes_since_start",
        "Bytes written to runs of ids, merges included", |it| it.ids_written_bytes),
    one!(Gauge OF_PARTITION "id_runs", Number, "", "Runs of ids on the disk, which merges make fewer",
        |it| it.id_runs),
    one!(Counter OF_PARTITION "snapshots", Number, "", "Snapshots written", |it| it.snapshots),
    one!(Counter OF_PARTITION "snapshots", Bytes, "", "Bytes of the snapshots written", |it| it.snapshot_bytes),
    one!(Gauge OF_PARTITION "snapshot_under_way", Number, "", "Whether a snapshot is being written: 1 or 0",
        |it| u64::from(it.is_in_snapshot)),
    one!(Gauge OF_PARTITION "importing", Number, "importing",
        "Whether the partition takes an import and nothing else: 1 or 0", |it| u64::from(it.is_importing)),
    each!(Gauge ["partition", "way"] "clock_not_followed", Seconds,
        "How far this machine's clock is off from the log's time, where it is not followed; 0 where it is",
        "ahead" "clock_ahead_not_followed_seconds" |it| it.clock_ahead_seconds;
        "behind" "clock_behind_not_followed_seconds" |it| it.clock_behind_seconds;),
    one!(Gauge OF_PARTITION "clocks_known", Number, "clocks_of_majority_known",
        "Whether the clocks of a majority of the voters are known: 1 or 0", |it| u64::from(it.knows_clocks)),
    one!(Counter OF_PARTITION "entries", Number, "entries_since_start", "Entries that this node has decided as leader",
        |it| it.entries),
    one!(Counter OF_PARTITION "records", Number, "records_since_start", "Records in them", |it| it.records),
    each!(Counter ["partition", "reason"] "refused", Number,
        "Write requests that were refused, by what was lacking: try again later",
        "busy" "refused_busy_since_start" |it| it.refused_busy;
        "disk_full" "refused_full_since_start" |it| it.refused_full;
        "memory" "refused_memory_since_start" |it| it.refused_memory;),
    one!(Gauge OF_PARTITION "damaged_places", Number, "rotten_places",
        "Places of the log on this node that can't be read and were not mended", |it| it.damaged_places),
    one!(Counter OF_PARTITION "entries_mended", Number, "entries_mended_since_start",
        "Entries that could not be read here and were taken from another node", |it| it.entries_mended),
    one!(Counter OF_PARTITION "flushes", Number, "flushes_since_start", "Flushes to the log begun", |it| it.flushes),
    one!(Counter OF_PARTITION "flushed", Bytes, "flush_bytes_since_start", "Bytes in them, padding included",
        |it| it.flush_bytes),
    one!(Gauge OF_PARTITION "flushes_inflight", Number, "", "Flushes on their way to the disk now",
        |it| it.flushes_inflight),
    one!(Gauge OF_PARTITION "flushes_inflight_most", Number, "flushes_inflight_max",
        "Most flushes that were on their way at once", |it| it.flushes_inflight_most),
    one!(Gauge OF_PARTITION "log_backlog", Bytes, "", "Bytes of entries that are not on the disk yet",
        |it| it.log_backlog_bytes),
    one!(Gauge OF_PARTITION "answers_waiting", Number, "",
        "Requests that are decided or read, and answered once that is committed", |it| it.answers_waiting),
    one!(Gauge OF_PARTITION "answers_waiting", Bytes, "", "Bytes of their answers", |it| it.answers_waiting_bytes),
    one!(Gauge OF_PARTITION "entries_under_way", Number, "",
        "Entries that this leader has proposed and not seen committed; 1,024 stands for more",
        |it| it.entries_under_way),
];

/// Of another replica of a partition. The name in `status` has the node's number behind it.
pub const PEER: &[Family<PeerNumbers>] = &[
    Family {
        head: Head {
            name: "follower_lag_entries",
            kind: Gauge,
            unit: Number,
            help: "Entries of the leader's log that a member is not known to have; shown by the leader",
            labels: OF_PEER,
        },
        samples: &[Sample { label: "", status: "", value: |it| it.lag_entries }],
    },
    Family {
        head: Head {
            name: "follower_silent",
            kind: Gauge,
            unit: Seconds,
            help: "Time since a member last answered consensus; shown by the leader",
            labels: OF_PEER,
        },
        samples: &[Sample { label: "", status: "", value: |it| it.silent_seconds }],
    },
    one!(Counter OF_PEER "appends", Number, "appends_to_node_", "Requests with entries that were sent to a node",
        |it| it.appends),
    one!(Counter OF_PEER "appends", Bytes, "append_bytes_to_node_", "Bytes of them", |it| it.append_bytes),
    one!(Gauge OF_PEER "appends_inflight_most", Number, "appends_inflight_max_to_node_",
        "Most of them that were unanswered at once", |it| it.appends_inflight_most),
];

/// Of a shard.
pub const SHARD: &[Family<ShardNumbers>] = &[
    one!(Gauge OF_SHARD "shard_connections", Number, "connections_of_shard", "Clients' connections that it serves",
        |it| it.connections),
    one!(Gauge OF_SHARD "shard_connection_memory", Bytes, "connection_bytes_of_shard",
        "Memory that clients' connections hold above the little that each has", |it| it.connection_bytes),
    one!(Gauge OF_SHARD "shard_connection_memory_limit", Bytes, "connection_bytes_max_of_shard",
        "What they may hold at most", |it| it.connection_bytes_max),
    Family {
        head: Head {
            name: "peers_refused",
            kind: Counter,
            unit: Number,
            help: "What was refused of other nodes: greetings, whole connections that broke the protocol, requests",
            labels: &["shard", "what"],
        },
        samples: &[
            Sample {
                label: "greeting",
                status: "peers_refused_of_shard_since_start",
                value: |it| it.peers.map(|peers| peers.hellos),
            },
            Sample {
                label: "connection",
                status: "peer_connections_broken_of_shard_since_start",
                value: |it| it.peers.map(|peers| peers.broken),
            },
            Sample {
                label: "request",
                status: "peer_requests_refused_of_shard_since_start",
                value: |it| it.peers.map(|peers| peers.requests),
            },
        ],
    },
];

/// A metric whose samples are times.
pub struct Times {
    /// What it is called.
    pub head: Head,
    /// Where they are.
    pub of: fn(&PartitionNumbers) -> &Latency,
}

const fn times(
    name: &'static str,
    help: &'static str,
    of: fn(&PartitionNumbers) -> &Latency,
) -> Times {
    Times { head: Head { name, kind: Histogram, unit: Seconds, help, labels: OF_PARTITION }, of }
}

/// Times of a partition.
pub const TIMES: [Times; 3] = [
    times("commit", "From when a leader proposes an entry until it is committed here", |it| {
        &it.commit
    }),
    times("flush", "From when a write to the log begins until it is on the disk", |it| &it.flush),
    times(
        "answer",
        "From when a write request is looked at first until its answer is on its way out, what it waited for included; \
         requests that are refused do not count",
        |it| &it.answer,
    ),
];

/// How many events got which verdict.
pub const VERDICTS: Head = Head {
    name: "verdicts",
    kind: Counter,
    unit: Number,
    help: "Events that were answered, by verdict; repeats count. Other verdicts than ok appear with the first of them",
    labels: &["partition", "verdict"],
};
