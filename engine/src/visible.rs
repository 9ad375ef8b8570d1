//! How much of a partition's log may be told to clients.

use walengine_net::model::Offset;

/// The newest entry that is visible: committed by the group, or durable on a node that serves alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// Its index in the log; 0 if nothing is visible yet.
    pub index: u64,
    /// Offset behind its last record: every record below is visible.
    pub next_offset: Offset,
}
