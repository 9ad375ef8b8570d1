//! What the partition must say of every id: what a ledger says that has all of them in memory.

use std::collections::BTreeMap;

use walengine::ids::key::{Key, Space};
use walengine::ledger::{Fact, Ledger, PendingState, key_of};
use walengine::partition::older_ids::Wanted;
use walengine::runtime::Runtime as _;
use walengine_net::entry::{EntryHeader, EntryKind, access_events, access_records};
use walengine_net::model::{
    Decided, EventBytes, EventId, EventKind, Transfer, TransferFlags, Verdict, event_kind,
};

use super::partition::SimPartition;
use super::twins::unknown_keys;
use crate::log_oracle::{apply, split};
use crate::lone_partition::PARTITION;

const READ_BYTES: usize = 1 << 20;
/// Keys that are asked for at once.
const KEYS: usize = 300;

/// An id as a table has it.
pub(super) type NamedKey = (u128, Space);

/// What has an id.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Event, or opaque record.
    pub bytes: Vec<u8>,
    pub decided: Decided,
}

/// All that is known, and all that was told.
#[derive(Clone, Default)]
pub(super) struct Memory {
    pub known: BTreeMap<NamedKey, Known>,
    /// What senders were told and no power cut may take back.
    pub told: BTreeMap<NamedKey, Decided>,
    /// Reservations that were accepted.
    pub reservations: Vec<u128>,
}

impl Memory {
    /// Derives the state from the whole log with all ids in memory, and compares.
    ///
    /// # Panics
    /// If the partition says anything else.
    pub(super) async fn check(&mut self, partition: &SimPartition) {
        let mut model = Ledger::new(PARTITION, 1);
        let (mut next, log) = (1, partition.log());
        (self.known, self.reservations) = Default::default();
        loop {
            while next <= log.last().index {
                let bytes = log.read(next, READ_BYTES).await.expect("a healthy log");
                for (header, body) in split(&bytes) {
                    apply(&mut model, &header, &body);
                    self.take(&model, &header, &body);
                    next += 1;
                }
                model.release(model.next_offset());
            }
            if partition.with_ledger(Ledger::next_offset) == model.next_offset() {
                break; // nothing is decided before the digests are compared
            }
            partition.runtime().yield_now().await;
        }
        let digest = partition.with_ledger(Ledger::digest);
        assert!(digest == model.digest(), "the state is another than that of the log");
        for (key, decided) in &self.told {
            let found = self.known.get(key).map(|known| known.decided);
            assert_eq!(found, Some(*decided), "{key:?} was told otherwise");
        }
        self.compare_verdicts(partition, &model).await;
        self.compare_ends(partition, &model).await;
    }

    fn take(&mut self, model: &Ledger, header: &EntryHeader, body: &[u8]) {
        match header.meta.kind {
            EntryKind::Events => {
                let body = access_events(body).expect("a checked body");
                for event in body.events.iter() {
                    if event_kind(event) != Ok(EventKind::Expire) {
                        self.know(model, key_of(event), event);
                    }
                    self.note_reservation(event);
                }
            }
            EntryKind::Records => {
                let body = access_records(body).expect("a checked body");
                let mut at = 0;
                for head in body.heads.iter() {
                    let end = at + head.bytes.to_native() as usize;
                    let key = Key::new(head.id.to_native(), Space::Event);
                    self.know(model, key, &body.blob[at..end]);
                    at = end;
                }
            }
            EntryKind::Blank | EntryKind::Membership => {}
        }
    }

    fn know(&mut self, model: &Ledger, key: Key, bytes: &[u8]) {
        let decided = model.decided_key(&key).expect("it was decided");
        let known = || Known { bytes: bytes.to_vec(), decided };
        self.known.entry((key.id, key.space)).or_insert_with(known);
    }

    pub(super) fn note_reservation(&mut self, event: &EventBytes) {
        if event_kind(event) == Ok(EventKind::Transfer) {
            let transfer = Transfer::from_bytes(event);
            if transfer.flags.contains(TransferFlags::PENDING) {
                self.reservations.push(transfer.id.0);
            }
        }
    }

    async fn compare_verdicts(&self, partition: &SimPartition, model: &Ledger) {
        let mut keys: Vec<Key> =
            self.known.keys().map(|(id, space)| Key::new(*id, *space)).collect();
        let unknown = unknown_keys(&keys);
        keys.extend(unknown);
        for keys in keys.chunks(KEYS) {
            let found = partition.decided(keys).await.expect("a healthy disk");
            for (key, found) in keys.iter().zip(found) {
                assert_eq!(found, model.decided_key(key), "what was decided of {key:?}");
            }
        }
    }

    async fn compare_ends(&self, partition: &SimPartition, model: &Ledger) {
        for ids in self.reservations.chunks(KEYS) {
            let keys = ids.iter().map(|id| Key::new(*id, Space::Resolution));
            let wanted: Vec<_> = keys.map(Wanted::key).collect();
            let facts = loop {
                // What goes into a run meanwhile is found in neither place.
                let version = partition.with_ledger(Ledger::facts_version);
                let facts = partition.older_ids().look_up(&wanted).await.expect("a healthy disk");
                if partition.with_ledger(Ledger::facts_version) == version {
                    break facts;
                }
            };
            for (key, fact) in facts {
                let ended = fact.ended().map(|ended| ended.state);
                let state = model.pending_state(EventId(key.id));
                let is_over =
                    state.filter(|state| !matches!(state, PendingState::None | PendingState::Open));
                let Some(state) = is_over else {
                    let has_expired_since =
                        ended == Some(PendingState::Expired) && state == Some(PendingState::Open);
                    assert!(fact == Fact::Unknown || has_expired_since, "{key:?} is {state:?}");
                    continue;
                };
                let is_there = partition.with_ledger(|ledger| {
                    ended == Some(state)
                        || !ledger.must_look_up(&key)
                            && ledger.pending_state(EventId(key.id)) == Some(state)
                });
                assert!(is_there, "{key:?} is {state:?}, and found is {fact:?}");
            }
        }
    }

    /// The answer to what has this key, decided just now, against what is known of it.
    pub(super) fn answered(&mut self, key: Key, bytes: &[u8], outcome: Decided) {
        if outcome.offset.is_none() {
            assert!(outcome.verdict.is_malformed(), "{outcome:?}");
            return;
        }
        let key = (key.id, key.space);
        match self.known.get(&key) {
            None => {
                let known = Known { bytes: bytes.to_vec(), decided: outcome };
                self.known.insert(key, known);
            }
            Some(known) if known.bytes == bytes => {
                assert_eq!(
                    outcome, known.decided,
                    "{key:?} is answered otherwise than the first time"
                );
            }
            Some(known) => {
                let expected = Decided { verdict: Verdict::IdReused, ..known.decided };
                assert_eq!(outcome, expected, "{key:?} has another body than the first time");
            }
        }
    }

    /// Nothing takes back any more what is known now.
    pub(super) fn was_told(&mut self) {
        self.told = self.known.iter().map(|(key, known)| (*key, known.decided)).collect();
    }
}
