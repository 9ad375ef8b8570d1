//! What an honest peer could say: everything else is refused before consensus hears of it. Pure.
//!
//! A certificate or an address says who a peer is, not that its program is right. These rules keep a
//! peer that is broken, stolen or set back from doing what no honest one does. A leader that a majority
//! has elected is believed in what it decides; replicas derive its verdicts again.

use openraft::EntryPayload;
use walengine_net::entry::{EntryKind, RecordsEnd, access_events, access_records};
use walengine_net::model::Timestamp;

use crate::types::{Batch, Entry, LogId, NodeId, Vote};

/// A term may be so much ahead of one's own. A term is one election, so no node of a cluster that has
/// lived for decades is as far behind; and a peer that lies has to do so for ages to use terms up.
pub const TERM_AHEAD_MAX: u64 = 1 << 32;

/// What no honest peer says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dishonest {
    /// It speaks for another node.
    #[error("it speaks for node {0}")]
    Other(NodeId),
    /// It claims to be elected, or not to be, where the other is due.
    #[error("its vote is not one that this request may have")]
    Vote,
    /// No cluster has held so many elections.
    #[error("it names term {named}, and this node knows {own}")]
    Term {
        /// What it names.
        named: u64,
        /// What is known.
        own: u64,
    },
    /// An entry does not follow the one before.
    #[error("entry {index}: {why}")]
    Entry {
        /// As on disk: the first has index 1.
        index: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Following it would remove what a majority has saved.
    #[error("it has another entry {0}, which is committed")]
    Committed(u64),
    /// No majority is known to have voted for it. So it may be that nobody could be asked.
    #[error("it claims to lead in term {term}, and no majority says that it has voted for it")]
    NotElected {
        /// What it claims.
        term: u64,
    },
    /// It confirms more than it was sent.
    #[error("it confirms entry {confirmed}, and was sent none behind {sent}")]
    Confirmed {
        /// What it confirms, as on disk.
        confirmed: u64,
        /// The last one that it was sent.
        sent: u64,
    },
}

/// A term that a peer names.
///
/// # Errors
/// It is too far ahead.
pub fn term(named: u64, own: u64) -> Result<(), Dishonest> {
    if named.saturating_sub(own) > TERM_AHEAD_MAX {
        return Err(Dishonest::Term { named, own });
    }
    Ok(())
}

/// `from` asks for a vote.
///
/// # Errors
/// What no honest candidate says.
pub fn candidate(from: NodeId, vote: &Vote, own_term: u64) -> Result<(), Dishonest> {
    speaks(from, vote, false, own_term)
}

/// `from` claims to lead.
///
/// # Errors
/// What no honest leader says.
pub fn leader(from: NodeId, vote: &Vote, own_term: u64) -> Result<(), Dishonest> {
    speaks(from, vote, true, own_term)
}

fn speaks(from: NodeId, vote: &Vote, is_elected: bool, own_term: u64) -> Result<(), Dishonest> {
    if vote.leader_id.voted_for != from {
        return Err(Dishonest::Other(vote.leader_id.voted_for));
    }
    if vote.committed != is_elected {
        return Err(Dishonest::Vote);
    }
    term(vote.leader_id.term, own_term)
}

/// A peer confirms an entry of a leader that has sent it none behind `sent`.
///
/// # Errors
/// It was never sent that.
pub fn confirmed(found: Option<&LogId>, sent: Option<u64>) -> Result<(), Dishonest> {
    let (found, sent) = (found.map(|id| id.index), sent);
    if found > sent {
        let on_disk = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        return Err(Dishonest::Confirmed { confirmed: on_disk(found), sent: on_disk(sent) });
    }
    Ok(())
}

/// None later than `latest` can be honest.
///
/// # Errors
/// The time of `entry` is past that.
pub fn in_time(entry: &Entry, latest: Timestamp) -> Result<(), Dishonest> {
    match &entry.payload {
        EntryPayload::Normal(batch) if batch.timestamp > latest => {
            let index = entry.log_id.index.saturating_add(1);
            let why = "its time is far ahead of what a majority of the clocks says";
            Err(Dishonest::Entry { index, why })
        }
        _ => Ok(()),
    }
}

/// A point in a log that entries follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// The last entry; `None` before the first.
    pub id: Option<LogId>,
    /// Where the records end.
    pub records: RecordsEnd,
}

impl Behind {
    /// The point behind `entry`, which the leader `vote` sends. Its body is opened once.
    ///
    /// # Errors
    /// It does not follow this one, or is none that a leader appends.
    pub fn with(&self, entry: &Entry, vote: &Vote) -> Result<Self, Dishonest> {
        let index = entry.log_id.index.saturating_add(1);
        let wrong = |why| Err(Dishonest::Entry { index, why });
        let term = entry.log_id.leader_id.term;
        if self.id.map_or(0, |id| id.index.saturating_add(1)) != entry.log_id.index {
            return wrong("its index does not follow the one before");
        }
        if self.id.is_some_and(|id| id.leader_id.term > term) || vote.leader_id.term < term {
            return wrong("no leader has appended it in this term");
        }
        let records = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => self.records,
            EntryPayload::Normal(batch) => {
                if batch.term != term {
                    return wrong("it was decided in another term");
                }
                if batch.leader_node != vote.leader_id.voted_for && term == vote.leader_id.term {
                    return wrong("another node has decided it");
                }
                match self.with_batch(batch) {
                    Ok(records) => records,
                    Err(why) => return wrong(why),
                }
            }
        };
        Ok(Self { id: Some(entry.log_id), records })
    }

    /// A leader whose log has this point says that `committed` is committed.
    ///
    /// # Errors
    /// No log has both.
    pub fn may_be_committed(&self, committed: &LogId) -> Result<(), Dishonest> {
        let Some(id) = self.id else { return Ok(()) };
        let (term, own) = (committed.leader_id.term, id.leader_id.term);
        let is_behind = committed.index > id.index;
        if is_behind && term < own || !is_behind && term > own {
            let index = committed.index.saturating_add(1);
            let why = "it is said to be committed, and is of another history";
            return Err(Dishonest::Entry { index, why });
        }
        Ok(())
    }

    fn with_batch(&self, batch: &Batch) -> Result<RecordsEnd, &'static str> {
        let Batch { kind, base_offset, timestamp, records, ref body, .. } = *batch;
        let found = match kind {
            EntryKind::Events => access_events(body).map(|body| body.events.len()),
            EntryKind::Records => access_records(body).map(|body| body.heads.len()),
            _ => return Err("it is no batch"),
        };
        if records == 0 || found.ok() != Some(records as usize) {
            return Err("its body does not hold the records that it names");
        }
        self.records.with(base_offset, timestamp, records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::impls::leader_id_std::LeaderId;
    use openraft::vote::RaftLeaderId as _;
    use walengine_net::entry::EventsBody;
    use walengine_net::model::Offset;

    const TERM: u64 = 7;
    const LEADER: NodeId = 3;

    fn vote(term: u64, node: NodeId, committed: bool) -> Vote {
        Vote { leader_id: LeaderId::new(term, node), committed }
    }

    fn log_id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, 0).to_committed(), index)
    }

    fn batch() -> Batch {
        let body = EventsBody { events: vec![[0; 128]; 2], verdicts: vec![0; 2], resolved: vec![] };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        Batch {
            kind: EntryKind::Events,
            term: TERM,
            leader_node: LEADER,
            base_offset: Offset(10),
            records: 2,
            timestamp: Timestamp(100),
            body: body[..].into(),
        }
    }

    fn behind() -> Behind {
        let id = Some(log_id(TERM - 1, 4));
        let records = RecordsEnd { next_offset: Offset(10), timestamp: Timestamp(99) };
        Behind { id, records }
    }

    fn follows(
        term: u64,
        index: u64,
        payload: EntryPayload<Batch, NodeId, crate::types::Member>,
    ) -> bool {
        let entry = Entry { log_id: log_id(term, index), payload };
        behind().with(&entry, &vote(TERM, LEADER, true)).is_ok()
    }

    #[test]
    fn a_peer_speaks_for_itself_and_in_a_term_that_can_be() {
        assert!(candidate(3, &vote(8, 3, false), 7).is_ok());
        assert!(leader(3, &vote(7, 3, true), 7).is_ok());
        assert_eq!(candidate(3, &vote(8, 2, false), 7), Err(Dishonest::Other(2)));
        assert_eq!(candidate(3, &vote(8, 3, true), 7), Err(Dishonest::Vote));
        assert_eq!(leader(3, &vote(8, 3, false), 7), Err(Dishonest::Vote));
        assert!(leader(3, &vote(7 + TERM_AHEAD_MAX, 3, true), 7).is_ok());
        let named = 8 + TERM_AHEAD_MAX;
        let ahead = Err(Dishonest::Term { named, own: 7 });
        assert_eq!(leader(3, &vote(named, 3, true), 7), ahead);
        assert!(term(u64::MAX, 7).is_err() && term(0, u64::MAX).is_ok());
    }

    #[test]
    fn terms_and_indices_grow_together() {
        let behind = behind(); // index 4 of term 6
        for (term, index, is_taken) in
            [(6, 4, true), (6, 9, true), (7, 9, true), (5, 3, true), (5, 9, false), (7, 3, false)]
        {
            assert_eq!(
                behind.may_be_committed(&log_id(term, index)).is_ok(),
                is_taken,
                "{term} {index}"
            );
        }
    }

    #[test]
    fn nothing_is_confirmed_that_was_not_sent() {
        assert!(confirmed(Some(&log_id(7, 4)), Some(4)).is_ok());
        assert!(confirmed(None, None).is_ok());
        let more = Dishonest::Confirmed { confirmed: 6, sent: 5 };
        assert_eq!(confirmed(Some(&log_id(7, 5)), Some(4)), Err(more));
        assert!(confirmed(Some(&log_id(7, 0)), None).is_err());
    }

    #[test]
    fn no_entry_is_later_than_the_latest_that_can_be() {
        let entry = |payload| Entry { log_id: log_id(TERM, 5), payload };
        let batch = entry(EntryPayload::Normal(batch()));
        assert!(in_time(&batch, Timestamp(100)).is_ok());
        let late = in_time(&batch, Timestamp(99)).unwrap_err();
        assert!(matches!(late, Dishonest::Entry { index: 6, .. }), "{late}");
        assert!(in_time(&entry(EntryPayload::Blank), Timestamp(0)).is_ok());
    }

    #[test]
    fn an_entry_follows_the_one_before_in_every_way() {
        let normal = |batch| EntryPayload::Normal(batch);
        assert!(follows(TERM, 5, normal(batch())) && follows(TERM, 5, EntryPayload::Blank));
        assert!(follows(TERM - 1, 5, EntryPayload::Blank), "an earlier leader's, sent by this one");
        for (what, is_taken) in [
            ("another index", follows(TERM, 6, normal(batch()))),
            ("an older term", follows(TERM - 2, 5, EntryPayload::Blank)),
            ("a term to come", follows(TERM + 1, 5, EntryPayload::Blank)),
            ("another term's batch", follows(TERM, 5, normal(Batch { term: TERM - 1, ..batch() }))),
            ("another node's batch", follows(TERM, 5, normal(Batch { leader_node: 4, ..batch() }))),
            ("a gap", follows(TERM, 5, normal(Batch { base_offset: Offset(11), ..batch() }))),
            (
                "an older time",
                follows(TERM, 5, normal(Batch { timestamp: Timestamp(99), ..batch() })),
            ),
            (
                "the end of time",
                follows(TERM, 5, normal(Batch { timestamp: Timestamp(u64::MAX), ..batch() })),
            ),
            ("another count", follows(TERM, 5, normal(Batch { records: 3, ..batch() }))),
            ("no records", follows(TERM, 5, normal(Batch { records: 0, ..batch() }))),
            ("another body", follows(TERM, 5, normal(Batch { body: [1; 40].into(), ..batch() }))),
            (
                "a blank batch",
                follows(TERM, 5, normal(Batch { kind: EntryKind::Blank, ..batch() })),
            ),
        ] {
            assert!(!is_taken, "{what}");
        }
    }
}
