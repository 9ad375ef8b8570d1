//! Free space of the data directory, and memory.

use std::sync::atomic::Ordering;

use crate::memory::{self, Looked};
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

/// Asks how much memory is used, and refuses or takes writes accordingly.
pub fn look_at_memory(state: &NodeState) {
    let Some(Looked { own_bytes, used, limit }) = memory::look() else { return };
    state.memory_own_bytes.store(own_bytes, Ordering::Relaxed);
    state.memory_used_bytes.store(used.used_bytes, Ordering::Relaxed);
    state.memory_limit_bytes.store(used.limit_bytes, Ordering::Relaxed);
    let was_short = state.is_short_of_memory.load(Ordering::Relaxed);
    let is_short = used.is_short(was_short);
    if is_short == was_short {
        return;
    }
    state.is_short_of_memory.store(is_short, Ordering::Relaxed);
    let (left, mib) = (used.left_bytes() >> 20, used.limit_bytes >> 20);
    if is_short {
        let (parts, from) = (state.memory_parts.sum().in_words(own_bytes), limit.from());
        let raise = limit.raise();
        tracing::error!(
            "{left} MiB of {mib} MiB of memory are left: writes are refused, and reads go on. The limit is \
             {from}. Used by {parts}. To have them taken again, {raise} and start again"
        );
    } else {
        tracing::info!("{left} MiB of {mib} MiB of memory are left: writes are taken again");
    }
}
