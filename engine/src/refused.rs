//! Why a request has no outcome. Used from the partition up to the connection.

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
    /// Memory is nearly used up; reads go on. Nothing was decided.
    MemoryFull,
    /// A write to the disk has not come back for seconds; nothing new is taken. Nothing was decided.
    DiskStuck,
    /// The server is shutting down. Nothing was decided.
    ShuttingDown,
    /// Another node leads; this one last heard of this leader. Nothing was decided.
    NotLeader(Option<NodeId>),
    /// An import is under way, and the partition takes nothing else. Nothing was decided.
    Importing,
    /// Leadership ended before the outcome was known: ask for it by the same ids.
    LeadershipLost,
    /// Another partition has the last word on some of it, and has not given it in time: ask again.
    InDoubt,
    /// The replica does not know yet how far the log is committed.
    NotYet,
    /// The partition has stopped for good. The text says why.
    Stopped(String),
}

/// Come back soon.
pub const BUSY: Refused = Refused::Busy { retry_after_millis: RETRY_AFTER_MILLIS };

/// Come back as soon as something of the same connection is answered.
pub const BUSY_READING: Refused = Refused::Busy { retry_after_millis: 1 };
