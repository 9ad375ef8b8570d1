//! How the shards of a node share what all connections together may hold.

use walengine_net::limits::PAGE_BODY_BYTES_MAX;
use walengine_replication::budget::Pool;

use crate::limits::{
    CONNECTION_OUT_BYTES_MAX, CONNECTIONS_BYTES_MAX, CONNECTIONS_OWN_BYTES, DISK_READS_MAX,
    DISK_READS_OF_SHARDS_MAX, FEED_CONNECTIONS_BYTES_MAX, FEED_RECENT_BYTES_MAX,
    HTTP_BODIES_BYTES_MAX, HTTP_BODY_BYTES_MAX, PEERS_BYTES_MAX, PEERS_OWN_BYTES,
    SMALL_READS_BYTES_MAX,
};
use crate::memory;

/// What the connections of all shards share, beyond what each shard has of its own.
pub fn connections_pool(cores: usize) -> Pool {
    let all = memory::in_proportion(CONNECTIONS_BYTES_MAX);
    Pool::new(all.saturating_sub(cores * CONNECTIONS_OWN_BYTES))
}

/// The same for their peers' connections.
pub fn peers_pool(cores: usize) -> Pool {
    let all = memory::in_proportion(PEERS_BYTES_MAX);
    Pool::new(all.saturating_sub(cores * PEERS_OWN_BYTES))
}

/// What the connections that the feed serves may hold. The largest answer fits.
pub fn feed_connections_share() -> usize {
    let least = CONNECTION_OUT_BYTES_MAX + 2 * PAGE_BODY_BYTES_MAX;
    memory::in_proportion(FEED_CONNECTIONS_BYTES_MAX).max(least)
}

/// What the newest entries of all partitions may take that the feed keeps.
pub fn feed_recent_share() -> usize {
    memory::in_proportion(FEED_RECENT_BYTES_MAX)
}

/// What the reads with small answers may hold on one shard.
pub fn small_reads_share(cores: usize) -> usize {
    memory::in_proportion(SMALL_READS_BYTES_MAX) / cores.max(1)
}

/// What the bodies of requests by HTTP may take until they are answered. The largest fits.
pub fn http_bodies_share() -> usize {
    memory::in_proportion(HTTP_BODIES_BYTES_MAX).max(HTTP_BODY_BYTES_MAX)
}

/// How many reads of entries from disk one shard may have under way.
pub fn disk_reads_share(cores: usize) -> usize {
    (DISK_READS_OF_SHARDS_MAX / cores.max(1)).clamp(1, DISK_READS_MAX)
}

#[cfg(test)]
mod tests {
    use walengine_replication::budget::Budget;

    use super::*;
    use crate::limits::HELD_CORES_MAX;

    #[test]
    fn all_shards_together_may_hold_the_same_on_any_number_of_cores() {
        for cores in 1..=HELD_CORES_MAX {
            let pool = connections_pool(cores);
            let shards: Vec<_> =
                (0..cores).map(|_| Budget::with_pool(CONNECTIONS_OWN_BYTES, &pool)).collect();
            // Each takes what it can, in small pieces and then in turn.
            let mut held = Vec::new();
            for shard in &shards {
                held.extend(std::iter::from_fn(|| shard.try_take(64 << 10)));
            }
            let all: usize = shards.iter().map(Budget::used).sum();
            assert!(all <= CONNECTIONS_BYTES_MAX, "{all} bytes on {cores} cores");
            assert!(shards.iter().all(|shard| shard.used() >= CONNECTIONS_OWN_BYTES));
            assert!(cores * small_reads_share(cores) <= SMALL_READS_BYTES_MAX);
            assert!(cores * disk_reads_share(cores) <= DISK_READS_OF_SHARDS_MAX);
        }
    }
}
