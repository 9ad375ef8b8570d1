//! What a leader knows while it asks other partitions for what stripes of accounts lack here. See [`super::stripes`]. Lives on
//! the partition's shard; not `Send`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use walengine_net::model::{AccountId, EventBytes, Offset, PartitionId};
use xxhash_rust::xxh3::Xxh3;

use crate::ledger::{Lack, Ledger};
use crate::limits::{DRY_KEPT_MAX, GATHER_WITHIN};

/// See the module.
#[derive(Default)]
pub struct Gathering {
    /// The one that is under way.
    pub round: RefCell<Option<Round>>,
    /// Of the next round.
    pub next_number: Cell<u64>,
    /// Another partition was turned away while this one was gathering: it is to be served before the next round.
    pub owes: Cell<bool>,
    /// No round begins before that.
    pub held_until: Cell<Duration>,
    dry: RefCell<VecDeque<Dry>>,
}

/// A request for which nobody has more of these accounts, in a term: it is decided as it is.
struct Dry {
    request: u64,
    term: u64,
    since: Duration,
    accounts: Vec<AccountId>,
    /// What this partition has given so far: what it had then, it may give away.
    given: u128,
}

/// Questions to all others for one request, until it is known that there is enough, or no more.
pub struct Round {
    /// Tells it from others.
    pub number: u64,
    /// Tells the request from others.
    pub request: u64,
    /// The term of the leader that asks.
    pub term: u64,
    /// When it began, by the runtime's clock.
    pub began: Duration,
    /// What it is for.
    pub lacks: Vec<Lack>,
    /// What was given of each.
    pub given: Vec<u128>,
    /// It waits before it asks again.
    pub is_paused: bool,
    /// Something was on its way between others.
    pub is_elsewhere: bool,
    /// Who has not answered.
    pub unasked: BTreeSet<PartitionId>,
    /// The newest that each has given.
    pub awaited: BTreeMap<PartitionId, Offset>,
    /// What each has said of what it has given to others and got from them so far, and this one.
    pub moves: BTreeMap<PartitionId, u128>,
    /// The same, of the time before.
    pub moves_before: BTreeMap<PartitionId, u128>,
}

impl Gathering {
    /// Nobody has more of these for this request: it is to be decided now.
    pub fn takes_dry(
        &self,
        request: u64,
        term: u64,
        lacks: &[Lack],
        given: u128,
        now: Duration,
    ) -> bool {
        let mut dry = self.dry.borrow_mut();
        dry.retain(|it| it.term == term && now < it.since + GATHER_WITHIN);
        let Some(place) = dry.iter().position(|it| it.request == request) else { return false };
        // Or it lacks something else meanwhile.
        dry.remove(place).is_some_and(|known| {
            known.given == given && lacks.iter().all(|lack| known.accounts.contains(&lack.account))
        })
    }

    /// Nobody has more of what a round was for.
    pub fn note_dry(&self, round: &Round, given: u128, now: Duration) {
        let mut dry = self.dry.borrow_mut();
        if dry.len() == DRY_KEPT_MAX {
            dry.pop_front(); // it asks again
        }
        let Round { request, term, ref lacks, .. } = *round;
        let accounts = lacks.iter().map(|lack| lack.account).collect();
        dry.push_back(Dry { request, term, since: now, accounts, given });
    }
}

impl Round {
    /// All have answered, and what they gave is here.
    pub fn is_answered(&self, ledger: &Ledger) -> bool {
        !self.is_paused
            && self.unasked.is_empty()
            && self.awaited.iter().all(|(other, place)| ledger.has_arrived_up_to(*other, *place))
    }

    /// What is lacking still.
    pub fn rest(&self) -> impl Iterator<Item = Lack> {
        let rest = |(lack, given): (&Lack, &u128)| Lack {
            account: lack.account,
            amount: lack.amount.saturating_sub(*given),
        };
        self.lacks.iter().zip(&self.given).map(rest)
    }

    /// It has got all that it was for.
    pub fn has_enough(&self) -> bool {
        self.rest().all(|lack| lack.amount == 0)
    }

    /// All have given all that they had, twice, and between the two times nothing was on its way between any of them.
    pub fn is_dry(&self) -> bool {
        !self.is_elsewhere && !self.moves_before.is_empty() && self.moves == self.moves_before
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
