//! What a shard looks at now and then: free space, due reservations, connections that take too long,
//! and what the control thread wants to know.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::host::Hosted;
use super::state::Shard;
use crate::connection::memory::HeldMemory;
use crate::limits::{
    CONNECTIONS_LOOK_EVERY, EXPIRE_EVERY, MEMORY_TELL_EVERY, NUMBERS_EVERY, SLOW_WRITE_AFTER,
    STUCK_WRITE_AFTER,
};
use crate::memory_parts::{Part, Parts};
use crate::orders::ControlOrder;
use crate::partition::Partition;
use crate::runtime::Runtime as _;
use crate::session::numbers;

/// Looks until it is cancelled.
pub(super) async fn run<C: Hosted>(shard: Rc<Shard<C>>) {
    let (mut looked, mut told_at, mut told) = (Duration::ZERO, Duration::ZERO, Parts::default());
    let mut published_at = None;
    let mut policy_seen = shard.node.state.policies.generation();
    let state = &shard.node.state;
    let mut memory = HeldMemory::new(shard.budget.clone(), state.clone());
    let mut peers_memory = HeldMemory::new(shard.peers_budget.clone(), state.clone());
    loop {
        let is_full = shard.node.state.is_full.load(Ordering::Relaxed);
        let is_short = shard.node.state.is_short_of_memory.load(Ordering::Relaxed);
        for partition in &shard.node.partitions {
            partition.set_short_of_memory(is_short);
            if partition.is_full() != is_full {
                partition.set_full(is_full);
            }
            look_at_disk(&shard, partition);
            C::heed_nodes(partition, &shard.node.state.acquaintances);
            partition.expire();
            if let Some(fatal) = C::must_end(partition) {
                let _ = shard.report.try_send(Err(fatal)); // one of them is enough
            }
        }
        let now = shard.runtime.elapsed();
        if now.saturating_sub(told_at) >= MEMORY_TELL_EVERY {
            told_at = now;
            state.memory_parts.tell(&mut told, memory_parts(&shard));
        }
        if published_at.is_none_or(|at| now.saturating_sub(at) >= NUMBERS_EVERY) {
            published_at = Some(now);
            publish(&shard);
        }
        // Where memory is short, at once.
        let is_short = shard.budget.is_short() || shard.peers_budget.is_short();
        if now.saturating_sub(looked) >= CONNECTIONS_LOOK_EVERY || is_short {
            looked = now;
            let is_short = memory.look();
            peers_memory.look();
            shard.live.borrow_mut().end_overdue(now, is_short);
        }
        let generation = shard.node.state.policies.generation();
        if generation != policy_seen {
            policy_seen = generation;
            let _ = shard.live.borrow().end_lost(); // each is told of
        }
        tell_leads(&shard);
        count_kept(&shard);
        shard.runtime.sleep(EXPIRE_EVERY).await;
    }
}

/// Says what this shard has, for whoever scrapes.
fn publish<C: Hosted>(shard: &Shard<C>) {
    let peer_connections = shard.peers.get() as u64;
    let numbers = numbers::published(&shard.node, &shard.budget, peer_connections);
    shard.node.state.published.put(shard.number, numbers);
}

/// What this shard's memory goes to.
fn memory_parts<C: Hosted>(shard: &Shard<C>) -> Parts {
    let mut parts = Parts::default();
    shard.node.partitions.iter().for_each(|partition| partition.add_memory(&mut parts));
    parts.add(Part::Connections, shard.budget.used() as u64);
    parts.add(Part::Peers, shard.peers_budget.used() as u64);
    parts
}

/// Notices a disk that is full or slow, or from which a write does not come back.
fn look_at_disk<C: Hosted>(shard: &Shard<C>, partition: &Partition<C>) {
    let (state, id) = (&shard.node.state, partition.id().partition);
    let now = state.started.elapsed();
    if partition.is_full() {
        state.disk.note_full(now);
    }
    let takes = partition.log().write_takes().unwrap_or_default();
    if takes >= SLOW_WRITE_AFTER {
        state.disk.note_slow(now);
    }
    let is_stuck = takes >= STUCK_WRITE_AFTER;
    if is_stuck == partition.is_stuck() {
        return;
    }
    partition.set_stuck(is_stuck);
    if is_stuck {
        state.disk.stuck(now);
        tracing::error!(
            "partition {id}: disk stuck: a write to {} has not come back for {} s; writes are \
             refused here until it does, and another node leads if there is one: look at the disk \
             and its cable, controller or network",
            state.config.data.display(),
            takes.as_secs()
        );
    } else {
        state.disk.moves_again(now);
        tracing::info!("partition {id}: the disk moves again: writes are taken again");
    }
}

/// Tells the control thread what this shard leads. If its queue is full, next time.
fn tell_leads<C: Hosted>(shard: &Shard<C>) {
    let Some(control) = &shard.control else { return };
    let led = shard.node.partitions.iter().filter(|partition| C::leads_group(partition));
    let led = led.map(|partition| (partition.id().partition, partition.term()));
    let _ = control.try_send(ControlOrder::Leads(shard.number, led.collect()));
}

fn count_kept<C: Hosted>(shard: &Shard<C>) {
    let kept = shard.node.partitions.iter().filter(|partition| C::is_kept(partition)).count();
    let before = shard.groups_kept.replace(kept);
    // Wraps around: the sum over all shards is right.
    shard.node.state.groups_kept.fetch_add(kept.wrapping_sub(before), Ordering::Relaxed);
}
