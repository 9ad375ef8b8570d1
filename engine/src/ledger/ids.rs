//! What is remembered of every id that was ever decided.
//!
//! The newest are here ([`Recent`]). Older ones are in runs on disk; of them only a filter
//! is here, which says of nearly every new id that no run holds it. Whoever decides makes sure before
//! that what the filter can't exclude was looked up ([`Ids::must_look_up`]), and what was found is a [`Fact`]
//! here until then.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use walengine_net::model::{Decided, EventBytes, Offset, Verdict};

use super::limits::FACTS_MAX;
use super::recent::Recent;
use super::set::Set;
use super::slot::{PendingState, Slot};
use crate::ids::filter::Filter;
use crate::ids::key::{Key, Space, hash_of_id};
use crate::planted::{self, Planted};

/// Hashes whose lines of the filter are loaded while those before them are added.
const NOTED_AHEAD: usize = 16;

/// What became of a reservation, or of a transfer that was in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it is since.
    pub state: PendingState,
    /// Of the record that ended it.
    pub offset: Offset,
}

/// What a look-up of an older id has found in the runs and in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// No run holds it.
    Unknown,
    /// An event or an opaque record.
    Decided {
        /// What was decided.
        decided: Decided,
        /// Of the event or the opaque record, as it stands in the log.
        fingerprint: u64,
    },
    /// What became of a reservation.
    Resolution(Ended),
}

impl Fact {
    /// What was decided; `None` if nothing was, or it is what became of a reservation.
    pub fn decided(&self) -> Option<Decided> {
        match self {
            Self::Decided { decided, .. } => Some(*decided),
            Self::Unknown | Self::Resolution(_) => None,
        }
    }

    /// What became of a reservation; `None` if nothing did, or it is something else that was decided.
    pub fn ended(&self) -> Option<Ended> {
        match self {
            Self::Resolution(ended) => Some(*ended),
            Self::Unknown | Self::Decided { .. } => None,
        }
    }
}

/// A known id: what its sender is told if the body is the same, and whether it is.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub decided: Decided,
    pub is_same: bool,
}

impl Known {
    /// What the sender is told.
    pub(super) fn repeat(self) -> Decided {
        if self.is_same {
            self.decided
        } else {
            Decided { verdict: Verdict::IdReused, ..self.decided }
        }
    }
}

/// A key's own hash.
#[derive(Default)]
struct HashOfKey(u64);

impl Hasher for HashOfKey {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key gives its hash");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// All remembered ids.
pub(super) struct Ids {
    recent: Recent,
    /// Of the keys in runs, but for those of `fresh`.
    older: Filter,
    /// Of keys that have gone into runs since `older` is being saved, which must not change meanwhile.
    fresh: Option<Fresh>,
    /// No event has a higher id: what is above it is new without being looked up, which spares ids that ascend
    /// with time all else.
    event_id_max: u128,
    /// No event in a run has a higher id. Unlike the other it does not change while a batch is decided.
    older_id_max: u128,
    facts: HashMap<Key, Fact, BuildHasherDefault<HashOfKey>>,
    /// Changes when keys go from [`Self::recent`] into runs: what was looked up before does not count then.
    facts_version: u64,
    /// The events that need no look-up.
    clear: Cell<Option<Clearing>>,
    is_deciding_clear: bool,
    /// All accounts' and events' ids, those in runs, too: how many, and their part of the digest.
    set: Set,
}

#[derive(Default)]
struct Fresh {
    filter: Filter,
    hashes: Vec<u64>,
    /// So many of the hashes have gone into the filter of the others.
    moved: usize,
}

/// Which events need no look-up, and in which state of the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Clearing {
    first: usize,
    len: usize,
    offset: u64,
    noted: u64,
    version: u64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            recent: Recent::default(),
            older: Filter::new(),
            fresh: None,
            event_id_max: 0,
            older_id_max: 0,
            facts: HashMap::default(),
            facts_version: 0,
            clear: Cell::new(None),
            is_deciding_clear: false,
            set: Set::default(),
        }
    }

    /// Number of remembered ids of accounts and events.
    pub(super) fn len(&self) -> u64 {
        self.set.count
    }

    pub(super) fn recent_len(&self) -> usize {
        self.recent.len()
    }

    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    /// What a snapshot says of the ids that its runs hold.
    pub(super) fn restore_counts(&mut self, set: Set) {
        self.set = set;
    }

    /// Starts to load what tells whether an id is among the newest.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.recent.prefetch(hash);
    }

    #[inline]
    fn recent(&self, key: &Key) -> Option<&Slot> {
        if self.is_above_all(key) { None } else { self.recent.get(key) }
    }

    /// No event has had an id so high.
    #[inline]
    fn is_above_all(&self, key: &Key) -> bool {
        key.space == Space::Event && key.id > self.event_id_max
    }

    /// No event in a run has an id so high.
    #[inline]
    fn is_above_older(&self, key: &Key) -> bool {
        key.space == Space::Event && key.id > self.older_id_max
    }

    /// What was looked up, if that was necessary.
    fn fact(&self, key: &Key) -> Option<&Fact> {
        let fact = if self.facts.is_empty() { None } else { self.facts.get(key) };
        assert!(
            self.is_deciding_clear || fact.is_some() || !self.may_be_older(key),
            "{key:?} may be in a run, and nobody has looked"
        );
        fact
    }

    /// These events, the next of which is the record at `offset`, need no look-up now.
    pub(super) fn note_clear(&self, events: &[EventBytes], offset: u64) {
        self.clear.set(Some(self.clearing(events, offset)));
    }

    /// Nothing is known to need no look-up.
    pub(super) fn forget_clear(&self) {
        self.clear.set(None);
    }

    /// These events are about to be decided. If it was made sure just now that they need no look-up, it is not
    /// made sure again for each of them.
    pub(super) fn begin_deciding(&mut self, events: &[EventBytes], offset: u64) {
        let clearing = self.clearing(events, offset);
        self.is_deciding_clear = self.clear.take() == Some(clearing);
    }

    pub(super) fn end_deciding(&mut self) {
        self.is_deciding_clear = false;
    }

    fn clearing(&self, events: &[EventBytes], offset: u64) -> Clearing {
        let (first, len) = (events.as_ptr() as usize, events.len());
        let fresh = self.fresh.as_ref().map_or(0, |fresh| fresh.filter.len());
        let (noted, version) = (self.older.len() + fresh, self.facts_version);
        Clearing { first, len, offset, noted, version }
    }

    #[inline]
    fn may_be_older(&self, key: &Key) -> bool {
        let is_fresh = |hash| self.fresh.as_ref().is_some_and(|fresh| fresh.filter.may_hold(hash));
        !self.is_above_older(key) && (self.older.may_hold(key.hash) || is_fresh(key.hash))
    }

    /// The first verdict of an id, as far as it is among the newest or was looked up.
    pub(super) fn decided(&self, key: &Key) -> Option<Decided> {
        match self.recent(key) {
            Some(slot) => Some(slot.decided()),
            None => self.fact(key).and_then(Fact::decided),
        }
    }

    /// What is known of the id of an event or an opaque record with this fingerprint. Wherever the id is, the
    /// same is compared: replicas do not have the same ids in memory.
    #[inline]
    pub(super) fn known(&self, key: &Key, fingerprint: u64) -> Option<Known> {
        let (decided, first) = match self.recent(key) {
            Some(slot) => (slot.decided(), slot.fingerprint),
            None => match self.fact(key)? {
                Fact::Decided { decided, fingerprint } => (*decided, *fingerprint),
                Fact::Unknown | Fact::Resolution(_) => return None,
            },
        };
        Some(Known { decided, is_same: first == fingerprint })
    }

    /// What became of a reservation that is not open; `None` if it never was one.
    pub(super) fn resolution(&self, event_id: u128) -> Option<Ended> {
        let key = Key::new(event_id, Space::Resolution);
        self.ended_lately(&key).or_else(|| self.fact(&key)?.ended())
    }

    /// What became of a reservation, if that is among the newest keys: no filter is asked.
    #[inline]
    pub(super) fn ended_lately(&self, key: &Key) -> Option<Ended> {
        let slot = self.recent(key)?;
        let state = PendingState::ended_from_number(slot.code())?;
        Some(Ended { state, offset: Offset(slot.offset()) })
    }

    /// What was looked up says that this event was in doubt; not what became of it.
    #[inline]
    pub(super) fn was_in_doubt(&self, key: &Key) -> bool {
        let is_doubtful =
            |fact: &Fact| fact.decided().is_some_and(|it| it.verdict == Verdict::InDoubt);
        !self.facts.is_empty() && self.facts.get(key).is_some_and(is_doubtful)
    }

    /// A run may hold this key, and nobody has looked since keys went into runs.
    #[inline]
    pub(super) fn must_look_up(&self, key: &Key) -> bool {
        self.may_be_older(key) && self.recent(key).is_none() && !self.facts.contains_key(key)
    }

    /// Starts to load what [`Self::must_look_up`] reads first.
    #[inline]
    pub(super) fn prefetch_older(&self, key: &Key) {
        if !self.is_above_older(key) {
            self.older.prefetch(key.hash);
            if let Some(fresh) = &self.fresh {
                fresh.filter.prefetch(key.hash);
            }
        }
    }

    /// Starts to load what [`Self::prefetch_older`] reads.
    #[inline]
    pub(super) fn prefetch_older_part(&self, key: &Key) {
        if !self.is_above_older(key) {
            self.older.prefetch_part(key.hash);
        }
    }

    /// No run holds anything.
    pub(super) fn has_no_older(&self) -> bool {
        self.older.is_empty() && self.fresh.is_none()
    }

    /// Remembers an id that is not known yet; `state` is that of a reservation.
    #[inline]
    pub(super) fn insert(&mut self, key: &Key, slot: Slot, state: PendingState) {
        self.set.add(&slot.remembered(state));
        self.note_event_id(key);
        self.recent.insert(key.hash, slot);
    }

    #[inline]
    fn note_event_id(&mut self, key: &Key) {
        if self.is_above_all(key) {
            self.event_id_max = key.id;
        }
    }

    /// Replaces what is remembered of a known id, which is no reservation any more.
    pub(super) fn replace(&mut self, key: &Key, slot: Slot, state: PendingState) {
        let known = self.recent.get_mut(key).expect("the id is known");
        self.set.remove(&known.remembered(state));
        self.set.add(&slot.remembered(PendingState::None));
        *known = slot;
    }

    /// Forgets an id if its record is the one at `offset`; `state` is that of a reservation.
    pub(super) fn forget(&mut self, key: &Key, offset: u64, state: PendingState) {
        let removed = self.recent.remove(key, |slot| slot.offset() == offset);
        if let Some(slot) = removed {
            self.set.remove(&slot.remembered(state));
        }
    }

    /// Remembers what the record at `offset` has made of an open reservation, the one of `first`.
    pub(super) fn resolve(&mut self, first: &Reserved, state: PendingState, offset: u64) {
        let key = Key::new(first.id, Space::Resolution);
        let slot = Slot::with_code(&key, 0, offset, state.number());
        self.recent.insert(key.hash, slot);
        self.change_state(first, PendingState::Open, state);
    }

    /// Takes back what the record at `offset` has made of a reservation.
    pub(super) fn unresolve(&mut self, first: &Reserved, offset: u64) {
        let key = Key::new(first.id, Space::Resolution);
        let slot = self.recent.remove(&key, |slot| slot.offset() == offset);
        let state = slot.and_then(|slot| PendingState::ended_from_number(slot.code()));
        self.change_state(first, state.expect("it was resolved there"), PendingState::Open);
    }

    fn change_state(&mut self, first: &Reserved, from: PendingState, to: PendingState) {
        let key = Key::new(first.id, Space::Event);
        let slot = Slot::new(&key, first.fingerprint, first.offset, first.verdict);
        self.set.remove(&slot.remembered(from));
        self.set.add(&slot.remembered(to));
    }

    /// Takes the next one of a snapshot's newest ids; false if it is there already, or out of order.
    pub(super) fn restore(&mut self, slot: Slot) -> bool {
        let key = slot.key();
        let last = self.recent.end().checked_sub(1);
        let last = last.and_then(|last| self.recent.from(last).next());
        let follows = last.is_none_or(|(_, last)| last.offset() <= slot.offset());
        let is_new = follows && self.recent.get(&key).is_none();
        if is_new {
            self.note_event_id(&key);
            self.recent.insert(key.hash, slot);
        }
        is_new
    }

    /// What is remembered of an id among the newest.
    pub(super) fn slot(&self, key: &Key) -> Option<&Slot> {
        self.recent(key)
    }

    /// Which look-ups count; see [`Self::learn`].
    pub(super) fn facts_version(&self) -> u64 {
        self.facts_version
    }

    /// Takes what was looked up since the version was this. If that is past, what was not found does not count any
    /// more: it may be in a run now.
    pub(super) fn learn(&mut self, version: u64, found: Vec<(Key, Fact)>) {
        if self.facts.len() + found.len() > FACTS_MAX {
            self.facts.clear();
            self.clear.set(None);
        }
        let is_current = version == self.facts_version;
        self.facts
            .extend(found.into_iter().filter(|(_, fact)| is_current || *fact != Fact::Unknown));
    }

    /// Makes room for so many keys in runs.
    pub(super) fn make_room_for_older(&mut self, keys: u64) {
        if self.older.is_empty() {
            self.older = Filter::with_room_for(keys);
        }
    }

    /// A run holds keys with these hashes, or will.
    pub(super) fn note_older(&mut self, hashes: impl Iterator<Item = u64> + Clone) {
        let filter = match &mut self.fresh {
            Some(fresh) => {
                fresh.hashes.extend(hashes.clone());
                &mut fresh.filter
            }
            None => &mut self.older,
        };
        insert_all(filter, hashes);
    }

    /// From now on the filter over runs stays as it is, to be saved: what is noted goes elsewhere. False if
    /// that is so already.
    pub(super) fn begin_saving(&mut self) -> bool {
        let begins = self.fresh.is_none();
        self.fresh.get_or_insert_default();
        begins
    }

    /// Appends a part of the filter that is being saved; false behind the last.
    pub(super) fn filter_part(&self, number: usize, bytes: &mut Vec<u8>) -> bool {
        self.older.encode_part(number, bytes)
    }

    /// Number of hashes in the filter that is being saved.
    pub(super) fn filter_len(&self) -> u64 {
        self.older.len()
    }

    /// The filter may change again: moves some of what was noted meanwhile. False when all of it is moved.
    pub(super) fn end_saving(&mut self, hashes_max: usize) -> bool {
        let Some(fresh) = &mut self.fresh else { return false };
        let rest = &fresh.hashes[fresh.moved..];
        let now = &rest[..rest.len().min(hashes_max)];
        insert_all(&mut self.older, now.iter().copied());
        fresh.moved += now.len();
        let is_left = fresh.moved < fresh.hashes.len();
        if !is_left {
            self.fresh = None;
        }
        is_left
    }

    /// Takes the filter over the runs, which was saved.
    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.older = filter;
    }

    /// Runs hold event ids up to this.
    pub(super) fn note_older_id_max(&mut self, id: u128) {
        self.older_id_max = self.older_id_max.max(id);
        self.event_id_max = self.event_id_max.max(id);
    }

    pub(super) fn older_id_max(&self) -> u128 {
        self.older_id_max
    }

    /// The keys of the records below an offset are in runs: they are forgotten here, and what was not found
    /// before does not count any more.
    pub(super) fn give_away(&mut self, below: u64) {
        self.older_id_max = self.event_id_max;
        self.recent.drop_below(below);
        if planted::has(Planted::StaleUnknown) {
            return;
        }
        self.facts_version += 1;
        self.facts.retain(|_, fact| *fact != Fact::Unknown);
    }

    /// Memory in bytes: of the newest ids, and of the filter.
    pub(super) fn memory(&self) -> (u64, u64) {
        let fresh = self.fresh.as_ref();
        let fresh = fresh.map_or(0, |one| one.filter.bytes() + 8 * one.hashes.capacity() as u64);
        (self.recent.bytes(), self.older.bytes() + fresh)
    }

    /// Number behind that of the newest slot.
    pub(super) fn recent_end(&self) -> u64 {
        self.recent.end()
    }

    /// The newest ids from a number on, oldest first, each with its number.
    pub(super) fn recent_from(&self, number: u64) -> impl Iterator<Item = (u64, &Slot)> {
        self.recent.from(number)
    }
}

/// The reservation that a record has ended.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    pub id: u128,
    pub fingerprint: u64,
    pub offset: u64,
    pub verdict: Verdict,
}

#[inline]
pub(super) fn hash_of_event_id(id: u128) -> u64 {
    hash_of_id(id, Space::Event)
}

fn insert_all(filter: &mut Filter, hashes: impl Iterator<Item = u64> + Clone) {
    let mut ahead = hashes.clone();
    for hash in ahead.by_ref().take(NOTED_AHEAD) {
        filter.prefetch(hash);
    }
    for hash in hashes {
        if let Some(ahead) = ahead.next() {
            filter.prefetch(ahead);
        }
        filter.insert(hash);
    }
}
