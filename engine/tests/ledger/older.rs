//! Keys that a ledger has given away, as runs on disk would have them, and what is found of them in the log.

use std::collections::HashMap;

use walengine::ids::RunRange;
use walengine::ids::key::{Key, Space};
use walengine::ledger::{
    Ended, Fact, Ledger, PendingState, fingerprint_of_event, fingerprint_of_record,
};
use walengine_net::entry::RecordHead;
use walengine_net::model::{Decided, EventBytes, Offset, Verdict};

/// A logged record.
pub enum Logged {
    Event(EventBytes),
    Record(RecordHead, Vec<u8>),
}

/// See the module.
#[derive(Default)]
pub struct Older {
    keys: HashMap<(u128, Space), (u8, u64)>,
    /// How often keys have gone from a ledger.
    pub moves: usize,
    /// Keys that were looked up, and found.
    pub found: usize,
}

impl Older {
    /// Takes all keys of a ledger, as a run would. All of them must be committed.
    pub fn take_all(&mut self, ledger: &mut Ledger) {
        let (first, end) = (ledger.runs_end(), ledger.next_offset());
        if first == end.0 {
            return;
        }
        let (mut next, mut keys) = (Some(0), Vec::new());
        while let Some(from) = next {
            next = ledger.leaving(from, end, 1000, &mut keys);
        }
        assert!(keys.is_sorted_by_key(|leaving| leaving.offset));
        assert_eq!(keys.len(), ledger.recent_len());
        for leaving in keys {
            ledger.note_older(std::iter::once(leaving.key.hash));
            let key = (leaving.key.id, leaving.key.space);
            let before = self.keys.insert(key, (leaving.code, leaving.offset));
            assert!(before.is_none(), "{key:?} was remembered twice");
        }
        ledger.add_run(RunRange { first, end: end.0 });
        assert_eq!(ledger.recent_len(), 0);
        self.moves += 1;
    }

    /// Has a restored ledger know which keys are here.
    pub fn note_all(&self, ledger: &mut Ledger) {
        ledger.note_older(self.keys.keys().map(|(id, space)| Key::new(*id, *space).hash));
    }

    /// Looks keys up for a ledger; `record_at` is the log.
    pub fn look_up(
        &mut self,
        ledger: &mut Ledger,
        keys: Vec<Key>,
        record_at: impl Fn(u64) -> Logged,
    ) {
        let version = ledger.facts_version();
        let facts = keys.into_iter().map(|key| {
            let Some(&(code, offset)) = self.keys.get(&(key.id, key.space)) else {
                return (key, Fact::Unknown);
            };
            self.found += 1;
            if key.space == Space::Resolution {
                let state = PendingState::ended_from_number(code).unwrap();
                return (key, Fact::Resolution(Ended { state, offset: Offset(offset) }));
            }
            let verdict = Verdict::from_number(code).unwrap();
            let decided = Decided { verdict, offset: Some(Offset(offset)) };
            let fingerprint = match record_at(offset) {
                Logged::Event(event) => fingerprint_of_event(&event),
                Logged::Record(head, bytes) => fingerprint_of_record(&head, &bytes),
            };
            (key, Fact::Decided { decided, fingerprint })
        });
        let facts = facts.collect();
        ledger.learn(version, facts);
    }
}
