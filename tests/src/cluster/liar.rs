//! A member of a simulated cluster that lies: beside what its own program says, forged votes, appends and
//! transfers go out in its name. It does not stand for election: a leader that a majority has elected is
//! believed.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use openraft::vote::RaftLeaderId as _;
use walengine::partition::group::raft_log::log_id_of;
use walengine::runtime::Runtime;
use walengine::storage::layout::Tail;
use walengine_net::entry::EntryKind;
use walengine_net::model::{Offset, Timestamp};
use walengine_replication::honest::TERM_AHEAD_MAX;
use walengine_replication::runtime::within;
use walengine_replication::transport::{Request, Transport as _};
use walengine_replication::types::{Batch, Entry, LogId, Member, NodeId, Vote};

use super::node::{Cluster, SimPartition};
use crate::sim::{Rng, SimRuntime};

/// Longest pause between two lies.
const PAUSE_MICROS_MAX: u64 = 8_000;

/// Lies to the others for ever, once all of them know who the members are: before that a node has to
/// believe whoever sends it the log.
pub async fn lie(cluster: &Cluster, liar: NodeId, root: &SimRuntime, mut rng: Rng) {
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != liar).collect();
    let mut new: BTreeSet<_> = others.iter().copied().collect();
    while !new.is_empty() {
        new.retain(|id| cluster.partition(*id).is_none_or(|one| one.knows_no_members()));
        root.sleep(Duration::from_micros(PAUSE_MICROS_MAX)).await;
    }
    loop {
        root.sleep(Duration::from_micros(rng.below(PAUSE_MICROS_MAX))).await;
        let target = others[rng.index(others.len())];
        let Some(partition) = cluster.partition(target) else { continue };
        let forged = Forger { liar, target, others: &others, partition: &partition, rng: &mut rng };
        let asked = cluster.net.transport(liar).call(target, Member::default(), forged.request());
        root.spawn(within(root.clone(), async move { drop(asked.await) }));
    }
}

struct Forger<'a> {
    liar: NodeId,
    target: NodeId,
    others: &'a [NodeId],
    partition: &'a SimPartition,
    rng: &'a mut Rng,
}

impl Forger<'_> {
    fn request(mut self) -> Request {
        match self.rng.below(8) {
            0 => Request::Vote(self.vote_request()),
            1 => Request::PreVote(self.vote_request()),
            2 => {
                let from = self.vote(true);
                let last = log_id_of(&self.partition.log().last());
                Request::TransferLeader(TransferLeaderRequest::new(from, self.liar, last))
            }
            _ => Request::Append(self.append()),
        }
    }

    /// Without a log: nobody votes for it.
    fn vote_request(&mut self) -> VoteRequest<walengine_replication::types::Types> {
        let committed = self.rng.percent(20);
        let mut request = VoteRequest::new(self.vote(committed), None);
        request.leadership_transfer = self.rng.percent(50);
        request
    }

    /// In its own or another's name, in a term that is too old, right, or far ahead. In its own name only in
    /// one that somebody else has won, or that no election comes to before this arrives.
    fn vote(&mut self, committed: bool) -> Vote {
        let own = self.partition.log().hard_state();
        loop {
            let vote = self.any_vote(committed);
            let leader = vote.leader_id;
            let is_others =
                own.term == leader.term && own.vote_committed && own.voted_for != Some(self.liar);
            if leader.voted_for != self.liar || is_others || leader.term > own.term + 10 {
                return vote;
            }
        }
    }

    fn any_vote(&mut self, committed: bool) -> Vote {
        let own = self.partition.log().hard_state().term;
        let ahead = [0, 1, 1, 2, 1000, TERM_AHEAD_MAX + 1, u64::MAX - own];
        let term = (own + ahead[self.rng.index(ahead.len())]).saturating_sub(self.rng.below(2));
        let node = match self.rng.below(4) {
            0 => self.target,
            1 => self.others[self.rng.index(self.others.len())],
            _ => self.liar,
        };
        Vote { leader_id: LeaderId::new(term, node), committed }
    }

    /// Attached somewhere, so that what follows there would be cut.
    fn append(&mut self) -> AppendEntriesRequest<walengine_replication::types::Types> {
        let (vote, last) = (self.vote(true), self.partition.log().last());
        let index = self.rng.between(last.index.saturating_sub(5), last.index + 1);
        let term = if self.rng.percent(70) { last.term } else { vote.leader_id.term };
        let prev_log_id = log_id_of(&Tail { index, term, ..last });
        let entries = (0..self.rng.below(3)).map(|place| self.entry(index + place, &vote, &last));
        let entries = entries.collect();
        let leader_commit = self.rng.percent(50).then(|| log_id(vote.leader_id.term, index + 2));
        AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }
    }

    fn entry(&mut self, index: u64, vote: &Vote, last: &Tail) -> Entry {
        let term = vote.leader_id.term;
        let payload = if self.rng.percent(50) {
            EntryPayload::Blank
        } else {
            EntryPayload::Normal(Batch {
                kind: EntryKind::Events,
                term,
                leader_node: vote.leader_id.voted_for,
                base_offset: Offset(last.next_offset.0.saturating_sub(self.rng.below(3))),
                records: 1,
                timestamp: Timestamp(last.timestamp.0 + self.rng.below(u64::MAX / 2)),
                body: vec![7; self.rng.index(300)].into(),
            })
        };
        Entry { log_id: log_id(term, index), payload }
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, NodeId::default()).to_committed(), index)
}
