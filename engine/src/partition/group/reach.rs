//! Takes note of how far the other members have the log on their disks, and remembers it over restarts;
//! a node that was set back to an older copy of its directory is told by its peers, and stops.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Consensus, Group};
use crate::limits::{REACHED_LOOK_EVERY, REACHED_SAVE_AFTER};
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Does so in the background until the node ends.
pub fn begin<D: Disk, R: Runtime>(group: &Group<D, R>) {
    group.spawn(watch);
    group.spawn(heed);
}

/// Looks until the node ends. A leader knows how far each member is; followers hear of it when they
/// compare histories.
async fn watch<D: Disk, R: Runtime>(group: Group<D, R>) {
    let (mut saved, mut since) = (group.commit().reached.all(), Duration::ZERO);
    while !group.is_ending() {
        group.runtime().sleep(REACHED_LOOK_EVERY).await;
        let reached = &group.commit().reached;
        let (report, committed) = (group.report(), group.visible().index);
        if group.leads() {
            for (&node, progress) in &report.members {
                let entries = progress.matched_index.unwrap_or(0).min(committed);
                if node != group.id().node && entries > 0 {
                    reached.note(node, entries);
                }
            }
        }
        since += REACHED_LOOK_EVERY;
        let now = reached.all();
        if now != saved && since >= REACHED_SAVE_AFTER {
            since = Duration::ZERO;
            if let Err(error) = group.log().save_reached(now.clone()).await {
                let partition = group.id().partition;
                tracing::debug!(
                    "partition {partition}: not remembered how far others are: {error}"
                );
            }
            saved = now;
        }
    }
}

/// Stops serving when a peer says that this node was set back.
async fn heed<D: Disk, R: Runtime>(group: Group<D, R>) {
    let why = group.commit().reached.was_set_back().await;
    let partition = group.id().partition;
    tracing::error!(
        "partition {partition}: {why}; it serves here no more: empty its data directory, and start \
         it again without --expect: it copies itself from the others"
    );
    group.commit().apply.stop(why.clone());
    group.commit().set_back.replace(Some(why));
    // Requests that wait for consensus end with the same reason.
    let _ = group.commit().raft.shutdown().await;
}

impl<D: Disk, R: Runtime> Consensus<D, R> {
    /// These nodes have no memory for more of the log, and are sent none while this node leads.
    pub fn hold(&self, nodes: BTreeSet<u64>) {
        self.reached.hold(nodes);
    }

    /// Why the others refuse this node for good, if they do: its process is of no use any more.
    pub fn set_back(&self) -> Option<String> {
        self.set_back.borrow().clone()
    }

    /// A member has so many committed entries on its disk.
    pub fn note_reached(&self, node: u64, entries: u64) {
        self.reached.note(node, entries);
    }
}
