//! A ledger that takes over what another has decided, and is offered entries that were changed.

use rkyv::rancor;
use walengine::ledger::{Disagreement, Draft, Ledger, RecordsDraft};
use walengine_net::entry::{EventsBody, RecordsBody, access_records};
use walengine_net::model::{Amount, Offset, PartitionId, Resolved, Timestamp, Verdict};

use crate::Random;

/// See the module.
pub struct Importer {
    pub ledger: Ledger,
    draft: Draft,
    records: RecordsDraft,
    random: Random,
    /// Changed entries that were offered, each of them refused.
    pub refused: usize,
}

impl Importer {
    pub fn new(partition: PartitionId, partitions: u16, random: Random) -> Self {
        let ledger = Ledger::new(partition, partitions);
        let (draft, records) = (Draft::new(), RecordsDraft::new());
        Self { ledger, draft, records, random, refused: 0 }
    }

    /// Takes an entry of events. Now and then it is offered with a change first, which must be found
    /// and leave nothing behind.
    pub fn events(&mut self, offset: Offset, timestamp: Timestamp, body: &EventsBody) {
        assert_eq!(offset, self.ledger.next_offset());
        if self.random.chance(100) {
            let before = self.ledger.digest();
            let (mut changed, mut time) = (body.clone(), timestamp);
            let place = self.random.pick(&[0, body.events.len() / 2, body.events.len() - 1]);
            match self.random.pick(&[0, 1, 2, 3]) {
                0 => time = self.ledger.last_timestamp(),
                1 if !changed.resolved.is_empty() => {
                    let place = place.min(changed.resolved.len() - 1);
                    let mut resolved = Resolved::from_bytes(&changed.resolved[place]);
                    resolved.amount = Amount(resolved.amount.0 ^ 1);
                    changed.resolved[place] = resolved.to_bytes();
                }
                2 if !changed.resolved.is_empty() => drop(changed.resolved.pop()),
                _ => {
                    let is = changed.verdicts[place];
                    let not = Verdict::all().find(|verdict| verdict.number() != is).unwrap();
                    changed.verdicts[place] = not.number();
                }
            }
            let offered = self.offer(time, &changed);
            assert!(offered.is_err(), "{changed:?} was taken");
            assert!(self.draft.is_empty());
            assert_eq!(self.ledger.digest(), before, "a refused entry leaves nothing behind");
            self.refused += 1;
        }
        self.offer(timestamp, body).expect("what a ledger has decided is decided again");
        let filled = (self.draft.base_offset, self.draft.timestamp, &self.draft.body);
        assert_eq!(filled, (offset, timestamp, body));
        self.draft.clear();
        self.ledger.release(self.ledger.next_offset());
    }

    fn offer(&mut self, timestamp: Timestamp, body: &EventsBody) -> Result<(), Disagreement> {
        let EventsBody { events, verdicts, resolved } = body;
        self.ledger.import_events(timestamp, events, verdicts, resolved, &mut self.draft)
    }

    /// As [`Self::events`], for opaque records.
    pub fn records(&mut self, offset: Offset, timestamp: Timestamp, body: &RecordsBody) {
        assert_eq!(offset, self.ledger.next_offset());
        if self.random.chance(100) {
            let before = self.ledger.digest();
            let mut changed = body.clone();
            let last = changed.verdicts.len() - 1;
            changed.verdicts[last] = Verdict::IdReused.number();
            assert!(self.offer_records(timestamp, &changed).is_err(), "{changed:?} was taken");
            assert_eq!(self.ledger.digest(), before, "a refused entry leaves nothing behind");
            self.refused += 1;
        }
        self.offer_records(timestamp, body).expect("what a ledger has decided is decided again");
        let filled = (self.records.base_offset, self.records.timestamp, &self.records.body);
        assert_eq!(filled, (offset, timestamp, body));
        self.records.clear();
    }

    fn offer_records(
        &mut self,
        timestamp: Timestamp,
        body: &RecordsBody,
    ) -> Result<(), Disagreement> {
        let bytes = rkyv::to_bytes::<rancor::Error>(body).unwrap();
        let archived = access_records(&bytes).unwrap();
        let (heads, blob) = (archived.heads.as_slice(), archived.blob.as_slice());
        self.ledger.import_records(timestamp, heads, blob, &body.verdicts, &mut self.records)
    }
}
