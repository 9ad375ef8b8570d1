//! A request that was decided.

use walengine_net::model::{Offset, Timestamp};

/// Where a request's records are. It may be answered when the tail is visible.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Records from this offset on are this request's, or expiries before it.
    pub fresh_from: Offset,
    /// First record of the batch that the request's records go into.
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
