//! Ids that are not among the newest: what must be looked up before something is decided, and how ids go
//! from memory into runs.
//!
//! ```text
//!  before deciding    unknown ──▶ keys ──▶ runs and log ──▶ facts ──▶ learn ──▶ decide
//!  in the background  leaving, piece by piece ──▶ a run, durable ──▶ add_run
//! ```
//! Whoever decides asks what is unknown in the same breath: what was decided in between, or went into a
//! run, would not be in the facts.

use walengine_net::model::{
    Decided, EventBytes, EventId, EventKind, Expire, Offset, Transfer, event_kind,
};
use walengine_net::unit;

use super::Ledger;
use super::decide::key_of;
use super::ids::{Ended, Fact};
use crate::ids::RunRange;
use crate::ids::filter::Filter;
use crate::ids::key::{Key, Space};
use crate::planted::{self, Planted};

/// Events whose loads are started together: that a prefetch has to find its page keeps what comes after it
/// waiting, but for other prefetches right behind it.
const WINDOW: usize = 16;
/// One whose parts of the filter are being loaded, one whose lines there are, and one that is looked at.
const WINDOWS: usize = 3;

/// A key on its way into a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeavingKey {
    /// The key.
    pub key: Key,
    /// What is remembered of it in one number: the verdict's, or that of a [`super::PendingState`].
    pub code: u8,
    /// Its record.
    pub offset: u64,
}

impl Ledger {
    /// Keys that a run may hold and that must be looked up before these events are decided. Nearly always
    /// none.
    pub fn unknown(&self, events: &[EventBytes]) -> Vec<Key> {
        let mut unknown = Vec::new();
        self.ids.forget_clear();
        if self.ids.has_no_older() {
            return unknown;
        }
        let mut keys = [[Key::default(); WINDOW]; WINDOWS];
        let window = |number: usize| events.chunks(WINDOW).nth(number).unwrap_or_default();
        for begun in 0..events.len().div_ceil(WINDOW) + WINDOWS - 1 {
            let events = window(begun);
            let begun_keys = &mut keys[begun % WINDOWS][..events.len()];
            for (key, event) in begun_keys.iter_mut().zip(events) {
                *key = key_of(event);
            }
            for key in begun_keys {
                self.ids.prefetch_older_part(key);
            }
            let Some(loading) = begun.checked_sub(1) else { continue };
            for key in &keys[loading % WINDOWS][..window(loading).len()] {
                self.ids.prefetch_older(key);
            }
            let Some(loaded) = begun.checked_sub(2) else { continue };
            for (key, event) in keys[loaded % WINDOWS].iter().zip(window(loaded)) {
                self.note_unknown_event(*key, &mut unknown);
                if let Some(reservation) = resolved_by(event)
                    && !self.is_open(reservation)
                {
                    self.note_unknown(Key::new(reservation, Space::Event), &mut unknown);
                    self.note_unknown(Key::new(reservation, Space::Resolution), &mut unknown);
                }
            }
        }
        if unknown.is_empty() {
            self.ids.note_clear(events, self.next_offset);
        }
        unknown
    }

    /// As [`Self::unknown`], before opaque records with these ids are decided.
    pub fn unknown_records(&self, ids: impl Iterator<Item = u128>) -> Vec<Key> {
        let mut unknown = Vec::new();
        for id in ids {
            self.note_unknown_event(Key::new(id, Space::Event), &mut unknown);
        }
        unknown
    }

    /// Of what was in doubt, what became of it must be known, too.
    #[inline]
    fn note_unknown_event(&self, key: Key, unknown: &mut Vec<Key>) {
        let is_unknown = self.ids.must_look_up(&key);
        if is_unknown {
            unknown.push(key);
        }
        let is_event = key.space == Space::Event;
        if is_event && (is_unknown || self.ids.was_in_doubt(&key)) && !self.is_open(key.id) {
            self.note_unknown(Key::new(key.id, Space::Resolution), unknown);
        }
    }

    fn is_open(&self, id: u128) -> bool {
        self.pendings.unended(id).is_some()
    }

    #[inline]
    fn note_unknown(&self, key: Key, unknown: &mut Vec<Key>) {
        if self.ids.must_look_up(&key) {
            unknown.push(key);
        }
    }

    /// Only a look-up can tell what is remembered of this key.
    pub fn must_look_up(&self, key: &Key) -> bool {
        self.ids.must_look_up(key)
    }

    /// First verdict of what has this key, as far as it is known without a look-up: of what was in doubt, that
    /// it was, if what became of it must be looked up.
    pub fn decided_key(&self, key: &Key) -> Option<Decided> {
        let decided = self.ids.decided(key)?;
        let is_known = key.space == Space::Event
            && !self.ids.must_look_up(&Key::new(key.id, Space::Resolution));
        Some(if is_known { self.settled(key.id, decided) } else { decided })
    }

    /// What became of what was in doubt, or of a reservation, as far as it is known without a look-up.
    pub fn ended(&self, id: EventId) -> Option<Ended> {
        self.ids.resolution(id.0)
    }

    /// Which look-ups count; see [`Self::learn`].
    pub fn facts_version(&self) -> u64 {
        self.ids.facts_version()
    }

    /// Takes what was looked up, in all runs and for all of these keys, since [`Self::facts_version`] was this. What
    /// was not found counts only if no keys have gone into a run since.
    pub fn learn(&mut self, version: u64, found: Vec<(Key, Fact)>) {
        self.ids.learn(version, found);
    }

    /// The runs that hold the older ids.
    pub fn runs(&self) -> &[RunRange] {
        &self.runs
    }

    /// The keys of all records below this are in runs.
    pub fn runs_end(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.end)
    }

    /// Number of keys among the newest: ids, and ends of reservations.
    pub fn recent_len(&self) -> usize {
        self.ids.recent_len()
    }

    /// Memory of the newest ids and of the filter over the older ones, in bytes.
    pub fn ids_memory(&self) -> (u64, u64) {
        self.ids.memory()
    }

    /// Appends the oldest keys that are in no run and whose records are below `below`, which must be committed:
    /// `keys_max` from number `from` on, in the order in which they were decided. Returns the number to go on
    /// from; `None` at the end. Numbers begin at 0, and stay the same until [`Self::add_run`].
    pub fn leaving(
        &self,
        from: u64,
        below: Offset,
        keys_max: usize,
        keys: &mut Vec<LeavingKey>,
    ) -> Option<u64> {
        let slots = self.ids.recent_from(from).take_while(|(_, slot)| slot.offset() < below.0);
        let mut next = None;
        for (number, slot) in slots.take(keys_max) {
            keys.push(LeavingKey { key: slot.key(), code: slot.code(), offset: slot.offset() });
            next = Some(number + 1);
        }
        next
    }

    /// Runs will be noted that hold about so many keys.
    pub fn make_room_for_older(&mut self, keys: u64) {
        self.ids.make_room_for_older(keys);
    }

    /// A run holds keys with these hashes, or will soon.
    pub fn note_older(&mut self, hashes: impl Iterator<Item = u64> + Clone) {
        self.ids.note_older(hashes);
    }

    /// From now on the filter over runs stays as it is, so that it can be saved part by part, whatever goes into runs
    /// meanwhile. False if that is so already.
    pub fn begin_saving(&mut self) -> bool {
        self.ids.begin_saving()
    }

    /// Appends a part of the filter that is being saved; false behind the last.
    pub fn filter_part(&self, number: usize, bytes: &mut Vec<u8>) -> bool {
        self.ids.filter_part(number, bytes)
    }

    /// Number of hashes in the filter that is being saved.
    pub fn filter_len(&self) -> u64 {
        self.ids.filter_len()
    }

    /// The filter is saved, or will not be. False when this need not be called again.
    pub fn end_saving(&mut self, hashes_max: usize) -> bool {
        self.ids.end_saving(hashes_max)
    }

    /// Takes the filter over the runs, which was saved.
    pub fn set_filter(&mut self, filter: Filter) {
        self.ids.set_filter(filter);
    }

    /// A new run holds the keys of all records up to its end; it is durable, and its keys were noted. They are
    /// forgotten here.
    ///
    /// # Panics
    /// If it does not follow the last one.
    pub fn add_run(&mut self, run: RunRange) {
        assert!(run.first == self.runs_end() && run.end <= self.next_offset, "{run:?} added");
        self.runs.push(run);
        let is_wrong = planted::has(Planted::DroppedTooMuch);
        self.ids.give_away(if is_wrong { self.next_offset } else { run.end });
    }

    /// The runs that were opened hold event ids up to this.
    pub fn note_older_id_max(&mut self, id: u128) {
        self.ids.note_older_id_max(id);
    }

    /// Runs were merged; these are left.
    ///
    /// # Panics
    /// If they do not hold the same records.
    pub fn set_runs(&mut self, runs: Vec<RunRange>) {
        let adjacent = runs.windows(2).all(|pair| pair[0].end == pair[1].first);
        let same_end = runs.last().map_or(0, |last| last.end) == self.runs_end();
        assert!(adjacent && same_end, "{runs:?} instead of runs up to {}", self.runs_end());
        self.runs = runs;
    }
}

/// The reservation that an event is to end.
fn resolved_by(event: &EventBytes) -> Option<u128> {
    match event_kind(event) {
        Ok(EventKind::Transfer) => {
            let transfer = Transfer::from_bytes(event);
            unit::resolves(&transfer).then_some(transfer.pending_id.0)
        }
        Ok(EventKind::Expire) => Some(Expire::from_bytes(event).pending_id.0),
        _ => None,
    }
}
