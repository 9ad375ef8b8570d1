//! What a leader knows while it asks other partitions for what stripes of accounts lack here. See [`super::stripes`]. Lives on
//! the partition's shard; not `Send`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use walengine_net::model::{EventBytes, Offset, PartitionId};
use xxhash_rust::xxh3::Xxh3;

use crate::ledger::{Lack, Ledger};
use crate::limits::{DRY_KEPT_MAX, GATHER_WITHIN};

/// See the module.
#[derive(Default)]
pub struct Gathering {
    /// The one that is under way.
    pub round: RefCell<Option<Round>>,
    /// Requests for which nobody has more, in a term, and since when: they are decided as they are.
    dry: RefCell<VecDeque<(u64, u64, Duration)>>,
}

/// One round of questions, for one request.
pub struct Round {
    /// Tells the request from others.
    pub request: u64,
    /// The term of the leader that asks.
    pub term: u64,
    /// When it began, by the runtime's clock.
    pub began: Duration,
    /// What it is for.
    pub lacks: Vec<Lack>,
    /// Something was given.
    pub is_given: bool,
    /// Something of it is on its way between others.
    pub is_elsewhere: bool,
    /// Who has not answered.
    pub unasked: BTreeSet<PartitionId>,
    /// The newest that each has given.
    pub awaited: BTreeMap<PartitionId, Offset>,
    /// What each has said of what it has given and got so far, and this one.
    pub moves: BTreeMap<PartitionId, u128>,
    /// The same, of the time before.
    pub moves_before: BTreeMap<PartitionId, u128>,
}

impl Gathering {
    /// Nobody has more for this request: it is to be decided now.
    pub fn takes_dry(&self, request: u64, term: u64, now: Duration) -> bool {
        let mut dry = self.dry.borrow_mut();
        dry.retain(|(_, of, since)| *of == term && now < *since + GATHER_WITHIN);
        let place = dry.iter().position(|(of, ..)| *of == request);
        place.and_then(|place| dry.remove(place)).is_some()
    }

    /// Nobody has more for this request.
    pub fn note_dry(&self, request: u64, term: u64, now: Duration) {
        let mut dry = self.dry.borrow_mut();
        if dry.len() == DRY_KEPT_MAX {
            dry.pop_front(); // it asks again
        }
        dry.push_back((request, term, now));
    }
}

impl Round {
    /// All have answered, and what they gave is here.
    pub fn is_answered(&self, ledger: &Ledger) -> bool {
        self.unasked.is_empty()
            && self.awaited.iter().all(|(other, place)| ledger.has_arrived_up_to(*other, *place))
    }

    /// Nobody had anything, twice, and between the two times nothing was on its way between any of them.
    pub fn is_dry(&self) -> bool {
        !self.is_given && !self.is_elsewhere && self.moves == self.moves_before
    }
}

/// What tells a request from others.
pub fn tell_apart(events: &[EventBytes]) -> u64 {
    let mut hash = Xxh3::new();
    for event in events {
        hash.update(event);
    }
    hash.digest()
}
