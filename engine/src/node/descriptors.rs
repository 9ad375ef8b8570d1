//! File descriptors: what the log needs is set aside, and connections share the rest. A flood of
//! connections must not keep the log from opening its next segment.

use crate::config::Config;
use crate::limits::{
    DESCRIPTORS_OF_CONNECTION, DESCRIPTORS_OF_EXECUTOR, DESCRIPTORS_OF_OPERATORS,
    DESCRIPTORS_OF_PARTITION, DESCRIPTORS_OF_PEERS, DESCRIPTORS_OF_PROCESS, HTTP_CONNECTIONS_MAX,
    KAFKA_CONNECTIONS_MAX,
};
use crate::os;

/// Connections of each core that there are descriptors for, at most as many as are configured. Raises
/// the limit of this process as far as it may.
pub fn connections_max(config: &Config, partitions: u16) -> usize {
    if let Err(error) = os::raise_open_files() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let Some(limit) = os::open_files_max() else { return config.connections_max };
    let mut reserved = reserved(config.cores, partitions, config.cluster.is_some());
    for (address, connections) in
        [(config.http.address, HTTP_CONNECTIONS_MAX), (config.kafka.address, KAFKA_CONNECTIONS_MAX)]
    {
        reserved += if address.is_some() { u64::from(connections) } else { 0 };
    }
    let found = share(limit, reserved, config.cores, config.connections_max);
    if found < config.connections_max {
        let wanted =
            reserved + (config.connections_max * config.cores) as u64 * DESCRIPTORS_OF_CONNECTION;
        tracing::warn!(
            "only {limit} files may be open: {found} connections a core are taken instead of {}; raise \
             it to {wanted} with `ulimit -n`, LimitNOFILE= in the systemd unit, or --ulimit nofile= for \
             Docker",
            config.connections_max
        );
    }
    found
}

/// Descriptors that everything but connections needs.
fn reserved(cores: usize, partitions: u16, is_clustered: bool) -> u64 {
    let executors = cores as u64 + 2; // the feed, and a short task of the main thread
    let partitions = u64::from(partitions);
    let peers = if is_clustered { DESCRIPTORS_OF_PEERS } else { 0 };
    DESCRIPTORS_OF_PROCESS
        + executors * DESCRIPTORS_OF_EXECUTOR
        + cores as u64 * DESCRIPTORS_OF_OPERATORS
        + partitions * (DESCRIPTORS_OF_PARTITION + peers)
}

/// At least one: a server that takes nobody is of no use, and what the log wants is tried again.
fn share(limit: u64, reserved: u64, cores: usize, configured: usize) -> usize {
    let left = limit.saturating_sub(reserved) / DESCRIPTORS_OF_CONNECTION;
    (left as usize / cores).clamp(1, configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_comes_first_and_connections_share_the_rest() {
        let lone = reserved(1, 1, false);
        assert!(lone < 256, "a small limit still serves: {lone}");
        for (limit, cores, configured, expected) in [
            (1024, 1, 4096, (1024 - lone) as usize / DESCRIPTORS_OF_CONNECTION as usize),
            (1 << 20, 1, 4096, 4096),
            (lone, 1, 4096, 1),
            (lone + 40 * DESCRIPTORS_OF_CONNECTION, 4, 4096, 10),
        ] {
            assert_eq!(share(limit, lone, cores, configured), expected, "{limit}");
        }
        assert!(reserved(2, 8, true) > reserved(2, 8, false));
    }
}
