//! What a leader counts of its log and its peers.

/// Counters of the leader's log and of its peers since it was started, from its status.
#[derive(Clone, Debug, Default)]
pub struct LeaderCounts {
    /// Flushes begun.
    pub flushes: u64,
    /// Most flushes in flight at once.
    pub flushes_inflight_max: u64,
    /// Append requests to all peers.
    pub appends: u64,
    /// Bytes of entry bodies in them.
    pub append_bytes: u64,
    /// Most append requests in flight at once, for each peer.
    pub appends_inflight_max: Vec<u64>,
}

impl LeaderCounts {
    /// Counts since `earlier`; maxima stay as they are.
    pub fn since(self, earlier: &Self) -> Self {
        Self {
            flushes: self.flushes.saturating_sub(earlier.flushes),
            appends: self.appends.saturating_sub(earlier.appends),
            append_bytes: self.append_bytes.saturating_sub(earlier.append_bytes),
            ..self
        }
    }
}
