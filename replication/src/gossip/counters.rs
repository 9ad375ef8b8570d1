//! What came and what was not taken, by reason.

/// Counts since construction. What is dropped changes nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams handed in.
    pub received: u64,
    /// Datagrams that were believed.
    pub accepted: u64,
    /// Datagrams given out to be sent.
    pub sent: u64,
    /// Dropped: not the magic of gossip.
    pub foreign: u64,
    /// Dropped: longer than a datagram may be.
    pub oversized: u64,
    /// Dropped: shorter than a header.
    pub short: u64,
    /// Dropped: another version of the protocol.
    pub other_version: u64,
    /// Dropped: no MAC where one is due, one where none can be checked, or the wrong one.
    pub unauthenticated: u64,
    /// Dropped: no key is used and the checksum differs.
    pub damaged: u64,
    /// Dropped: authentic, but not what the protocol says.
    pub malformed: u64,
    /// Dropped: of another cluster.
    pub other_cluster: u64,
    /// Dropped, and answered: of a node without a cluster, where members of one talk.
    pub unformed: u64,
    /// Dropped: from this node itself.
    pub own: u64,
    /// Dropped: a sequence number taken before, or too old to tell.
    pub replayed: u64,
    /// Dropped, and answered: from before the sender's last start.
    pub old_boot: u64,
    /// Dropped, and answered: meant for another life of this node. Normal once after each start.
    pub not_for_this_boot: u64,
    /// Dropped, and answered: the node id belongs to another address.
    pub node_id_in_use: u64,
    /// Dropped: names more nodes than are remembered.
    pub nodes_full: u64,
    /// Not answered: more strangers in a second than are answered.
    pub unanswered: u64,
    /// Not sent: nobody took the outputs.
    pub outputs_full: u64,
}

impl Counters {
    /// Every reason to drop a datagram with its count, for metrics.
    pub fn dropped(&self) -> [(&'static str, u64); 14] {
        [
            ("foreign", self.foreign),
            ("oversized", self.oversized),
            ("short", self.short),
            ("other_version", self.other_version),
            ("unauthenticated", self.unauthenticated),
            ("damaged", self.damaged),
            ("malformed", self.malformed),
            ("other_cluster", self.other_cluster),
            ("unformed", self.unformed),
            ("own", self.own),
            ("replayed", self.replayed),
            ("old_boot", self.old_boot),
            ("node_id_in_use", self.node_id_in_use),
            ("nodes_full", self.nodes_full),
        ]
    }
}
