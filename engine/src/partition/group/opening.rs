//! Joins an opened partition to its group.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use walengine_replication::gossip::NodeView;
use walengine_replication::tcp::dial::Dialer;
use walengine_replication::types::{Member, NodeId};

use super::raft_apply::RaftApply;
use super::raft_log::{RaftLog, log_id_of};
use super::{Group, GroupTiming, copying, join, raft_config, reach};
use crate::data_dir::of_partition;
use crate::fatal::{Fatal, Reason};
use crate::partition::importing::was_importing;
use crate::partition::mending::{EntrySource, mend_read};
use crate::partition::opening::{OpenedPartition, unreadable};
use crate::partition::replica::Replica;
use crate::partition::restore::Restored;
use crate::runtime::Runtime;
use crate::storage::disk::Disk;
use crate::storage::layout::Tail;

/// What a partition that was never used starts its group with.
#[derive(Clone, Copy, Debug)]
pub struct GroupBeginning<'a> {
    /// The voters of a new group; empty if another node begins it.
    pub founders: &'a BTreeMap<NodeId, Member>,
    /// Nodes of a cluster that was there before, whose log is copied; empty in a new cluster.
    pub sources: &'a [NodeView],
}

/// Joins an opened partition to its group. A new one copies the log from another node first, or
/// begins the group. The executor must be entered.
///
/// # Errors
/// The disk fails, log and hard state contradict each other, or this program derives another
/// verdict than the log holds.
pub async fn serve_in_group<D: Disk, R: Runtime>(
    mut opened: OpenedPartition<D, R>,
    dialer: Dialer<R>,
    beginning: GroupBeginning<'_>,
    timing: GroupTiming,
    source: impl EntrySource + 'static,
) -> Result<Group<D, R>, Fatal> {
    let (id, is_new) = (opened.id, opened.is_new());
    let failed = |fatal: Fatal| of_partition(id.partition, &fatal);
    let contradicts = |why: String| failed(Fatal::new(Reason::Damaged, why));
    if is_new && !beginning.sources.is_empty() {
        let (log, runtime) = (&opened.log, &opened.runtime);
        let restored = opened.restored;
        let copied = copying::copy(&dialer, beginning.sources, log, runtime, id, restored);
        opened.restored = copied.await.map_err(failed)?;
    }
    let entries = opened.log.last().index - opened.restored.from.index;
    opened.log_opening(&format!("{entries} entries"));
    let OpenedPartition { log, log_config, restored, runtime, .. } = opened;
    let Restored { ledger, runs, from, members, .. } = restored;
    let is_amid_import = was_importing(&log, ledger.next_offset()).await;
    let is_amid_import = is_amid_import.map_err(|error| failed(unreadable(&error)))?;
    let (damaged, source) = (log.clone(), Rc::new(source));
    let log = RaftLog::new(id.node, log, &log_config, runtime.clone(), &Tail::default());
    let log = log.mended_by(Rc::new(move |index| {
        let (log, source) = (damaged.clone(), source.clone());
        Box::pin(async move { mend_read(&log, id.partition, index, &*source).await })
    }));
    let unread = |error: std::io::Error| failed(Fatal::new(Reason::Damaged, error.to_string()));
    log.recall_committed(&from).await.map_err(unread)?;
    let replica = Rc::new(RefCell::new(Replica::new(ledger).amid_import(is_amid_import)));
    let apply = RaftApply::restored(replica, log_id_of(&from), members);
    let config = raft_config(timing);
    let group = join(id, log, apply, runs, runtime, dialer, config).await.map_err(contradicts)?;
    reach::begin(&group);
    if is_new && !beginning.founders.is_empty() {
        let founded = group.commit().raft().initialize(beginning.founders.clone()).await;
        founded.map_err(|error| contradicts(error.to_string()))?;
    }
    Ok(group)
}
