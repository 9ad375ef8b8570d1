//! Takes note of how far the other members have the log on their disks, and remembers it over restarts;
//! a node that was set back to an older copy of its directory is told by its peers, and stops.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::raft::VoteResponse;
use walengine_replication::transport::{NoAnswer, Request, Response};
use walengine_replication::types::{LogId, NodeId};

use super::raft_log::log_id_of;
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
    group.commit().set_back.replace(Some(why.clone()));
    group.commit().stop(why).await;
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

    /// Whether a candidate, whose request names the end of its log, has what it is known to have had. A request
    /// that names less may have been sent before the candidate had more: it is asked, and what it says then
    /// decides.
    ///
    /// # Errors
    /// It was set back, in words for both nodes.
    pub(super) async fn is_whole(
        &self,
        candidate: NodeId,
        last: Option<LogId>,
    ) -> Result<bool, String> {
        if self.reached.check_request(candidate, last)? {
            return Ok(true);
        }
        // Two nodes that doubt each other would ask each other for ever.
        let Some(_asking) = Asking::begin(&self.asking, candidate) else { return Ok(false) };
        let asked = self.reached.asks(candidate);
        let Some(last) = self.judge.end_of(candidate).await else { return Ok(false) };
        let _ = self.reached.check(asked, last); // it takes note
        self.reached.check_request(candidate, last)
    }

    /// Answers a request for a vote of one who may have lost a part of its log. The vote is not given, and where
    /// this log ends is not kept from it: it may be that which it has asked for.
    pub(super) fn put_off(&self, request: &Request) -> Result<Response, NoAnswer> {
        let why = || "this node has had more of the log, as far as it is known here".to_owned();
        let Request::PreVote(_) = request else { return Err(NoAnswer::Unclear(why())) };
        let vote = self.raft.metrics().borrow_watched().vote;
        let last = log_id_of(&self.log.log().last());
        Ok(Response::PreVote(VoteResponse::new(vote, last, false)))
    }

    /// A member has so many committed entries on its disk.
    pub fn note_reached(&self, node: u64, entries: u64) {
        self.reached.note(node, entries);
    }
}

/// While a candidate is asked how far it has the log.
struct Asking<'a> {
    all: &'a RefCell<BTreeSet<NodeId>>,
    node: NodeId,
}

impl<'a> Asking<'a> {
    /// `None`: it is being asked.
    fn begin(all: &'a RefCell<BTreeSet<NodeId>>, node: NodeId) -> Option<Self> {
        all.borrow_mut().insert(node).then(|| Self { all, node })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.all.borrow_mut().remove(&self.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_asked_once_at_a_time() {
        let all = RefCell::default();
        let first = Asking::begin(&all, 1);
        assert!(first.is_some() && Asking::begin(&all, 2).is_some());
        assert!(Asking::begin(&all, 1).is_none());
        assert!(Asking::begin(&all, 1).is_none(), "the one before has changed nothing");
        drop(first);
        assert!(Asking::begin(&all, 1).is_some());
    }
}
