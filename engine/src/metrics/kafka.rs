//! What the Kafka face counts of itself. Ground: plain counters, and the tables that show them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Family, Head, Kind, Measure, Sample};

use Kind::{Counter, Gauge};
use Measure::{Bytes, Number};

/// Kinds of requests, by Kafka's number of them, and what they are called in metrics.
pub const APIS: [(i16, &str); 12] = [
    (0, "produce"),
    (1, "fetch"),
    (2, "list_offsets"),
    (3, "metadata"),
    (8, "offset_commit"),
    (9, "offset_fetch"),
    (10, "find_coordinator"),
    (11, "join_group"),
    (12, "heartbeat"),
    (13, "leave_group"),
    (14, "sync_group"),
    (18, "api_versions"),
];

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A connection without a certificate that is believed.
    Unproven,
    /// A connection whose bytes were no request, or one that is not supported.
    Malformed,
    /// A connection that took nothing, or did not finish its request in time.
    Slow,
}

/// Counters of a node, written by the thread of the Kafka face. All zero where it is off.
#[derive(Debug, Default)]
pub struct KafkaCounts {
    requests: [AtomicU64; APIS.len()],
    refused: [AtomicU64; 3],
    sent_bytes: AtomicU64,
    connections: AtomicU64,
    groups: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the table has a line of help for each")]
pub struct KafkaNumbers {
    pub requests: [u64; APIS.len()],
    pub refused: [u64; 3],
    pub sent_bytes: u64,
    pub connections: u64,
    pub groups: u64,
}

impl KafkaCounts {
    /// A request of a kind has come.
    pub fn request(&self, api: i16) {
        if let Some(place) = APIS.iter().position(|(number, _)| *number == api) {
            self.requests[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many bytes of answers were sent.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A connection was ended.
    pub fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// One more connection is open until what this returns is dropped.
    pub fn connect(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self)
    }

    /// So many groups have members now.
    pub fn groups(&self, count: usize) {
        self.groups.store(count as u64, Ordering::Relaxed);
    }

    /// As they are now.
    pub fn numbers(&self) -> KafkaNumbers {
        KafkaNumbers {
            requests: self.requests.each_ref().map(|count| count.load(Ordering::Relaxed)),
            refused: self.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            groups: self.groups.load(Ordering::Relaxed),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connected<'a>(&'a KafkaCounts);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! request {
    ($place:literal) => {
        Sample { label: APIS[$place].1, status: "", value: |it| Some(it.requests[$place]) }
    };
}

macro_rules! refused {
    ($label:literal, $why:ident) => {
        Sample { label: $label, status: "", value: |it| Some(it.refused[Refused::$why as usize]) }
    };
}

macro_rules! one {
    ($kind:ident $name:literal, $unit:ident, $help:literal, |$it:ident| $value:expr) => {
        Family {
            head: Head { name: $name, kind: $kind, unit: $unit, help: $help, labels: &[] },
            samples: &[Sample { label: "", status: "", value: |$it| Some($value) }],
        }
    };
}

/// Of the Kafka face.
pub const KAFKA: &[Family<KafkaNumbers>] = &[
    Family {
        head: Head {
            name: "kafka_requests",
            kind: Counter,
            unit: Number,
            help: "Requests of Kafka consumers, by kind",
            labels: &["api"],
        },
        samples: &[
            request!(0),
            request!(1),
            request!(2),
            request!(3),
            request!(4),
            request!(5),
            request!(6),
            request!(7),
            request!(8),
            request!(9),
            request!(10),
            request!(11),
        ],
    },
    one!(Counter "kafka_sent", Bytes, "Bytes of answers to Kafka consumers", |it| it.sent_bytes),
    one!(Gauge "kafka_connections", Number, "Open connections of Kafka consumers", |it| it.connections),
    one!(Gauge "kafka_groups", Number, "Groups of Kafka consumers that have members", |it| it.groups),
    Family {
        head: Head {
            name: "kafka_connections_refused",
            kind: Counter,
            unit: Number,
            help: "Connections of Kafka consumers that were ended for what the other side did, by reason",
            labels: &["reason"],
        },
        samples: &[
            refused!("unproven", Unproven),
            refused!("malformed", Malformed),
            refused!("slow", Slow),
        ],
    },
];
