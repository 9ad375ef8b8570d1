//! Compares the histories of a partition's replicas. Every node regularly asks the other voters for the
//! chain hash of one entry. A node that a majority contradicts stops serving.

use walengine_net::entry::EntryHeader;
use walengine_net::message::Entries;
use walengine_replication::peer::{LogPage, LogRead};
use walengine_replication::tcp::dial::Dialer;

use super::{Group, copying};
use crate::limits::COMPARE_EVERY;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;

/// Compares until the node ends, or must stop.
pub async fn run<D: Disk, R: Runtime>(group: Group<D, R>, dialer: Dialer<R>) {
    let partition = group.id().partition;
    let (mut compared, mut next) = (0, 0);
    loop {
        group.runtime().sleep(COMPARE_EVERY).await;
        if group.is_ending() {
            return;
        }
        let applied = group.commit().applied().map_or(0, |id| id.index + 1);
        let index = std::mem::replace(&mut next, applied);
        if index == 0 || index == compared {
            continue;
        }
        let read = LogRead { from: index, bytes_max: 1 };
        // An entry that can't be read is reported by its next reader.
        let Ok(own) = copying::page(&group, read).await else { continue };
        let Some(own) = first(&own) else { continue };
        let (others, voters) = ask(&group, &dialer, read).await;
        let differing = others.iter().filter(|other| other.chain != own.chain).count();
        compared = index;
        if differing == 0 {
            continue;
        }
        let why = format!(
            "entry {index}, from offset {} on, has another chain hash here than on {differing} of \
             {voters} voters: this copy's history is not theirs",
            own.meta.base_offset
        );
        if 2 * differing > voters {
            tracing::error!(
                "partition {partition}: {why}; it stops serving: stop this node, empty its data \
                 directory, and start it as a new one"
            );
            group.commit().stop(why).await;
            return;
        }
        tracing::error!("partition {partition}: {why}, or theirs is not this one's");
    }
}

/// The entry on the other voters that answer, and how many voters there are.
async fn ask<D: Disk, R: Runtime>(
    group: &Group<D, R>,
    dialer: &Dialer<R>,
    read: LogRead,
) -> (Vec<EntryHeader>, usize) {
    let (report, me) = (group.report(), group.id().node);
    let mut found = Vec::new();
    for (&node, progress) in &report.members {
        if node == me || !report.voters.contains(&node) {
            continue;
        }
        if let Ok(page) = dialer.read_log(node, progress.member.clone(), read).await {
            // What is not committed here says nothing about what this node may rely on.
            let committed = page.committed.min(group.visible().index);
            group.commit().note_reached(node, committed);
            found.extend(first(&page));
        }
    }
    (found, report.voters.len())
}

fn first(page: &LogPage) -> Option<EntryHeader> {
    Some(Entries::new(&page.entries).next()?.ok()?.0)
}
