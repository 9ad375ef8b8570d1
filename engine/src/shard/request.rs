//! What becomes of a request: refused, or taken and told later.

use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};
use walengine_replication::types::NodeId;

use crate::limits::RETRY_AFTER_MILLIS;

/// Why a request has no outcome from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too much is waiting already. Nothing was decided.
    Busy {
        /// When to come back.
        retry_after_millis: u32,
    },
    /// The disk is nearly full; reads go on. Nothing was decided.
    StorageFull,
    /// The server ends. Nothing was decided.
    ShuttingDown,
    /// Another node leads; this one last heard of this leader. Nothing was decided.
    NotLeader(Option<NodeId>),
    /// Leadership ended before the outcome was known: ask for it by the same ids.
    LeadershipLost,
    /// The replica does not know yet how far the log is committed.
    NotYet,
    /// The partition has stopped. The text says why.
    Stopped(String),
}

/// To come back soon.
pub const BUSY: Refused = Refused::Busy { retry_after_millis: RETRY_AFTER_MILLIS };

/// A request was decided. It may be told when the tail is durable, on a majority if it is
/// replicated.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Records from this offset on are this request's, or expiries before it.
    pub fresh_from: Offset,
    /// First record of the entry that the request's records go into.
    pub base_offset: Offset,
    /// Its log time.
    pub base_timestamp: Timestamp,
}

impl Taken {
    /// Log time of a fresh record; zero for an older one.
    pub fn time_of(&self, offset: Offset) -> Timestamp {
        let after = offset.0.checked_sub(self.base_offset.0);
        after.map_or(Timestamp(0), |records| Timestamp(self.base_timestamp.0 + records))
    }
}

/// Who a partition's replica is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The partition.
    pub partition: PartitionId,
    /// This node.
    pub node: NodeId,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Entries made.
    pub entries: u64,
    /// Records logged.
    pub records: u64,
    /// Requests refused because too much was waiting.
    pub refused_busy: u64,
    /// Requests refused because the disk was nearly full.
    pub refused_full: u64,
}
