//! Counts of datagrams, and of dropped ones by reason.

/// Counts since construction. A dropped datagram changes nothing else.
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
    /// Dropped: the MAC is missing, wrong, or can't be checked because there is no key.
    pub unauthenticated: u64,
    /// Dropped: no key is used and the checksum differs.
    pub damaged: u64,
    /// Dropped: authentic, but not a datagram of the protocol.
    pub malformed: u64,
    /// Dropped: from another cluster.
    pub other_cluster: u64,
    /// Dropped, and answered: a message between members, from a node without a cluster.
    pub unformed: u64,
    /// Dropped: from this node itself.
    pub own: u64,
    /// Dropped: the sequence number was taken before, or is too old to tell.
    pub replayed: u64,
    /// Dropped, and answered: from an earlier life of the sender.
    pub old_boot: u64,
    /// Dropped, and answered: meant for another life of this node. Normal once after each start.
    pub not_for_this_boot: u64,
    /// Dropped, and answered: the node id belongs to another address.
    pub node_id_in_use: u64,
    /// Dropped: names more nodes than there is room for.
    pub nodes_full: u64,
    /// Not answered: the limit of answers per second was reached.
    pub unanswered: u64,
    /// Not sent: the caller did not take the outputs.
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
