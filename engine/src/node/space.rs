//! Free space of the data directory.

use std::sync::atomic::Ordering;

use crate::node_state::NodeState;
use crate::os;

/// Asks for the free space, and refuses or takes writes accordingly.
pub fn look(state: &NodeState) {
    match os::free_bytes(&state.config.data) {
        Ok(free) => {
            let full = free < state.config.reserve_bytes;
            state.free_bytes.store(free, Ordering::Relaxed);
            if state.is_full.swap(full, Ordering::Relaxed) != full {
                let mib = free >> 20;
                if full {
                    tracing::error!("{mib} MiB are free: writes are refused until there is room");
                } else {
                    tracing::info!("{mib} MiB are free: writes are taken again");
                }
            }
        }
        Err(error) => tracing::error!("cannot ask for free space: {error}"),
    }
}
