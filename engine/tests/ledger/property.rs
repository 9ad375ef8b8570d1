//! A million random events: do ledger, replica and model agree, is money conserved, is undo exact? The leader
//! and the restored ledgers give their ids away now and then and look them up; the replica has all in memory.

use std::collections::BTreeSet;

use rkyv::rancor;
use walengine::ids::key::{Key, Space};
use walengine_net::entry::{EventsBody, RecordsBody, access_events, access_records};
use walengine_net::model::{
    AccountId, Amount, EventId, Offset, PartitionId, Timestamp, Transfer, TransferFlags, Verdict,
    Word,
};

use walengine::ledger::{
    Draft, Ledger, LedgerTotals, Outcomes, PendingState, RecordsDraft, SnapshotCut, StateDigester,
};

use crate::generator::Generator;
use crate::imports::Importer;
use crate::model::Model;
use crate::older::{Logged, Older};
use crate::reserved::{Doubt, Fate};
use crate::{Random, first_seed};

const PARTITION: PartitionId = PartitionId(2);
const PARTITIONS: u16 = 5;
const RUNS: u64 = 100;
const EVENTS_PER_RUN: usize = 10_200;

/// One logged entry, to be replayed.
enum Entry {
    Events(Offset, Timestamp, EventsBody),
    Records(Offset, Timestamp, RecordsBody),
}

impl Entry {
    fn base_offset(&self) -> u64 {
        match self {
            Self::Events(offset, ..) | Self::Records(offset, ..) => offset.0,
        }
    }

    fn unknown(&self, ledger: &Ledger) -> Vec<Key> {
        match self {
            Self::Events(_, _, body) => ledger.unknown(&body.events),
            Self::Records(_, _, body) => {
                ledger.unknown_records(body.heads.iter().map(|head| head.id))
            }
        }
    }
}

fn record_at(entries: &[Entry], offset: u64) -> Logged {
    let behind = entries.partition_point(|entry| entry.base_offset() <= offset);
    let entry = &entries[behind - 1];
    let place = (offset - entry.base_offset()) as usize;
    match entry {
        Entry::Events(_, _, body) => Logged::Event(body.events[place]),
        Entry::Records(_, _, body) => {
            let before: u32 = body.heads[..place].iter().map(|head| head.bytes).sum();
            let (head, from) = (body.heads[place], before as usize);
            Logged::Record(head, body.blob[from..from + head.bytes as usize].to_vec())
        }
    }
}

fn apply(ledger: &mut Ledger, entry: &Entry) {
    match entry {
        Entry::Events(offset, timestamp, body) => {
            let bytes = rkyv::to_bytes::<rancor::Error>(body).unwrap();
            ledger.apply_events(*offset, *timestamp, access_events(&bytes).unwrap()).unwrap();
        }
        Entry::Records(offset, timestamp, body) => {
            let bytes = rkyv::to_bytes::<rancor::Error>(body).unwrap();
            ledger.apply_records(*offset, *timestamp, access_records(&bytes).unwrap()).unwrap();
        }
    }
}

struct Snapshot {
    cut: SnapshotCut,
    digest: [u8; 32],
    /// What its items should take, in bytes.
    item_bytes: u64,
    /// Entries before it.
    entries: usize,
    chunks: Vec<Vec<u8>>,
}

struct Run {
    generator: Generator,
    random: Random,
    model: Model,
    leader: Ledger,
    /// Keys that the leader has given away.
    older: Older,
    replica: Ledger,
    importer: Importer,
    draft: Draft,
    records: RecordsDraft,
    outcomes: Outcomes,
    now: u64,
    entries: Vec<Entry>,
    snapshot: Option<Snapshot>,
    seen: BTreeSet<Verdict>,
    events: usize,
    snapshots: usize,
    undone: usize,
    settled: usize,
    chains: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            generator: Generator::new(seed, PARTITION, PARTITIONS),
            random: Random::new(!seed),
            model: Model::new(PARTITION, PARTITIONS),
            leader: Ledger::new(PARTITION, PARTITIONS),
            older: Older::default(),
            replica: Ledger::new(PARTITION, PARTITIONS),
            importer: Importer::new(PARTITION, PARTITIONS, Random::new(seed ^ 0x1517)),
            draft: Draft::new(),
            records: RecordsDraft::new(),
            outcomes: Outcomes::new(),
            now: 1_000_000_000,
            entries: Vec::new(),
            snapshot: None,
            seen: BTreeSet::new(),
            events: 0,
            snapshots: 0,
            undone: 0,
            settled: 0,
            chains: 0,
        }
    }

    fn go(&mut self) {
        while self.events < EVENTS_PER_RUN {
            // Time may also stand still or jump back.
            self.now += self.random.pick(&[0, 1, 1_000, 10_000_000, 500_000_000]);
            let now = self.now.saturating_sub(self.random.pick(&[0, 0, 0, 5_000_000_000]));
            if self.random.chance(60) {
                self.append_records(now);
            } else if self.random.chance(150) {
                self.settle(now);
            } else {
                self.submit(now);
            }
            self.check_money();
            self.go_on_with_snapshot();
            // Not while a snapshot is being written: it reads the newest keys.
            if self.snapshot.is_none() && self.random.chance(100) {
                self.older.take_all(&mut self.leader);
            }
            if self.random.chance(30) {
                self.check_state();
            }
        }
        self.check_state();
    }

    /// Other partitions say what becomes of some transfers that are in doubt.
    fn settle(&mut self, now: u64) {
        let mut doubts: Vec<_> = self.model.state.doubts.values().cloned().collect();
        doubts.sort_by_key(|doubt| doubt.offset);
        let (mut words, mut log) = (Vec::new(), Vec::new());
        for unit in doubts.chunk_by(|one, next| one.chain.is_some() && one.chain == next.chain) {
            if self.random.chance(300) {
                continue;
            }
            let refusals = [Verdict::CreditAccountNotFound, Verdict::ExceedsDebits];
            let refused = self.random.chance(300).then(|| self.random.below(unit.len()));
            let is_reduced = unit[0].chain.is_none() && self.random.chance(200);
            for (index, Doubt { transfer, amount, offset: place, .. }) in unit.iter().enumerate() {
                let (verdict, amount) = match refused {
                    Some(culprit) if culprit == index => (self.random.pick(&refusals), 0),
                    Some(_) => (Verdict::LinkedEventFailed, 0),
                    None if is_reduced => (Verdict::Ok, amount.div_ceil(2)),
                    None if transfer.flags.contains(TransferFlags::VOID_PENDING) => {
                        (Verdict::Ok, 0)
                    }
                    None => (Verdict::Ok, *amount),
                };
                let Transfer { id, pending_id, .. } = *transfer;
                let (amount, is_linked) = (Amount(amount), index + 1 < unit.len());
                let word = Word { id, place: *place, verdict, amount, pending_id, is_linked };
                self.model.settle(&word, &mut log, now);
                words.push(word);
            }
            self.chains += usize::from(unit.len() > 1);
        }
        for (place, id) in self.model.state.ends.clone() {
            if self.random.chance(500) {
                let (id, pending_id, amount) = (EventId(0), EventId(id), Amount(0));
                let (verdict, is_linked) = (Verdict::Ok, false);
                let word = Word { id, place, verdict, amount, pending_id, is_linked };
                self.model.settle(&word, &mut log, now);
                words.push(word);
            }
        }
        let before = self.leader.digest();
        let settled = self.leader.take_words(&words, &mut self.draft, Timestamp(now));
        assert_eq!(settled, words.len());
        if self.random.chance(500) && !self.draft.is_empty() {
            let (base, previous) = (self.draft.base_offset, self.draft.previous_timestamp);
            let EventsBody { events, verdicts, resolved } = &self.draft.body;
            self.leader.undo_events(base, previous, events, verdicts, resolved);
            assert_eq!(self.leader.digest(), before, "undo leaves what was before");
            self.draft.clear();
            self.leader.take_words(&words, &mut self.draft, Timestamp(now));
        }
        self.settled += words.len();
        self.check_log(&log);
        self.log_draft();
    }

    fn submit(&mut self, now: u64) {
        let before = self.random.chance(200).then(|| self.leader.digest());
        let requests = if self.random.chance(300) { 3 } else { 1 };
        let mut log = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..requests {
            let length = self.random.pick(&[1, 1, 2, 5, 20, 60, 200]);
            let events = self.generator.batch(length, &self.model);
            self.events += length;
            let expected = self.model.submit(&events, &mut log, now);
            self.outcomes.clear();
            self.look_up(&events);
            self.leader.submit(&events, &mut self.draft, Timestamp(now), &mut self.outcomes);
            for (index, outcome) in self.outcomes.iter().enumerate() {
                let event = walengine_net::model::Event::from_bytes(&events[index]);
                assert_eq!(*outcome, expected[index], "event {index} of {length}: {event:#?}");
                self.seen.insert(outcome.verdict);
            }
            assert_eq!(self.outcomes.len(), expected.len());
            sent.push(events);
        }
        if let Some(before) = before {
            self.undo_and_submit_again(before, &sent, now);
        }
        self.check_log(&log);
        self.log_draft();
    }

    fn log_draft(&mut self) {
        if !self.draft.is_empty() {
            let (base, timestamp) = (self.draft.base_offset, self.draft.timestamp);
            self.importer.events(base, timestamp, &self.draft.body);
            let entry = Entry::Events(base, timestamp, self.draft.take());
            apply(&mut self.replica, &entry);
            self.entries.push(entry);
        }
        self.leader.release(self.leader.next_offset());
    }

    fn undo_and_submit_again(&mut self, before: [u8; 32], sent: &[Vec<[u8; 128]>], now: u64) {
        self.undone += 1;
        let after = self.leader.digest();
        let draft = &self.draft;
        if !draft.is_empty() {
            self.leader.undo_events(
                draft.base_offset,
                draft.previous_timestamp,
                &draft.events,
                &draft.verdicts,
                &draft.resolved,
            );
        }
        assert_eq!(self.leader.digest(), before, "undo leaves what was before");
        self.draft.clear();
        for events in sent {
            self.look_up(events);
            self.leader.submit(events, &mut self.draft, Timestamp(now), &mut self.outcomes);
        }
        assert_eq!(self.leader.digest(), after, "the same again");
    }

    /// Looks up what the leader must know before it decides. Now and then the filter takes a new id for an old one.
    fn look_up(&mut self, events: &[[u8; 128]]) {
        if self.older.moves > 0 && self.random.chance(100) {
            let event = self.random.pick(events);
            let id = walengine_net::model::event_id(&event);
            self.leader.note_older(std::iter::once(Key::new(id, Space::Event).hash));
        }
        let unknown = self.leader.unknown(events);
        self.look_up_keys(unknown);
    }

    fn look_up_keys(&mut self, keys: Vec<Key>) {
        let entries = &self.entries;
        self.older.look_up(&mut self.leader, keys, |offset| record_at(entries, offset));
    }

    fn check_log(&mut self, log: &[crate::model::Record]) {
        assert_eq!(self.draft.len(), log.len());
        let mut resolved = self.draft.resolved.iter();
        for (index, record) in log.iter().enumerate() {
            assert_eq!(self.draft.events[index], record.event);
            assert_eq!(self.draft.verdicts[index], record.verdict.number());
            self.seen.insert(record.verdict);
            if let Some(expected) = record.resolved {
                assert_eq!(resolved.next(), Some(&expected.to_bytes()), "record {index}");
            }
        }
        assert_eq!(resolved.next(), None);
    }

    fn append_records(&mut self, now: u64) {
        let records = self.generator.records(self.model.next_offset);
        let heads: Vec<_> = records.iter().map(|(head, _)| *head).collect();
        let blob: Vec<u8> = records.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let mut logged = Vec::new();
        let expected = self.model.append_records(&records, &mut logged, now);
        self.outcomes.clear();
        let before = self.leader.digest();
        let unknown = self.leader.unknown_records(heads.iter().map(|head| head.id));
        self.look_up_keys(unknown);
        for _ in 0..2 {
            let (draft, outcomes) = (&mut self.records, &mut self.outcomes);
            self.leader.append_records(&heads, &blob, draft, Timestamp(now), outcomes);
            assert_eq!(self.outcomes, expected);
            if self.undone.is_multiple_of(2) || self.records.is_empty() {
                break;
            }
            let ids = self.records.heads.iter().map(|head| head.id);
            let (base, previous) = (self.records.base_offset, self.records.previous_timestamp);
            self.leader.undo_records(base, previous, ids);
            assert_eq!(self.leader.digest(), before, "undo leaves what was before");
            self.records.clear();
            self.outcomes.clear();
            self.undone += 1;
        }
        self.seen.extend(expected.iter().map(|outcome| outcome.verdict));
        let verdicts: Vec<u8> = logged.iter().map(|(_, verdict)| verdict.number()).collect();
        assert_eq!(self.records.verdicts, verdicts);
        if !self.records.is_empty() {
            let (base, timestamp) = (self.records.base_offset, self.records.timestamp);
            self.importer.records(base, timestamp, &self.records.body);
            let entry = Entry::Records(base, timestamp, self.records.take());
            apply(&mut self.replica, &entry);
            self.entries.push(entry);
        }
    }

    fn check_money(&self) {
        assert!(self.leader.totals().values().all(LedgerTotals::balanced));
    }

    fn check_state(&mut self) {
        let known = self.model.known.keys().map(|(account, id)| {
            Key::new(*id, if *account { Space::Account } else { Space::Event })
        });
        let events = self.model.known.keys().filter(|(account, _)| !account);
        let keys = known.chain(events.map(|(_, id)| Key::new(*id, Space::Resolution)));
        let unknown = keys.filter(|key| self.leader.must_look_up(key)).collect();
        self.look_up_keys(unknown);
        assert_eq!(self.leader.next_offset().0, self.model.next_offset);
        assert_eq!(self.leader.last_timestamp().0, self.model.last_timestamp);
        let state = &self.model.state;
        let accounts: Vec<_> = self.leader.accounts_from(0, usize::MAX).collect();
        let expected: Vec<_> = state.order.iter().map(|id| state.accounts[id]).collect();
        assert_eq!(accounts, expected);
        state.check_names(&self.leader);
        for account in &expected {
            assert_eq!(self.leader.account(account.id), Some(*account));
        }
        for ((account, id), (_, verdict, offset)) in &self.model.known {
            let decided = if *account {
                self.leader.decided_account(AccountId(*id))
            } else {
                self.leader.decided(EventId(*id))
            };
            let decided = decided.unwrap();
            assert_eq!((decided.verdict, decided.offset), (*verdict, Some(Offset(*offset))));
        }
        assert_eq!(self.leader.ids_len(), self.model.known.len() as u64);
        let mut open = Vec::new();
        for (id, expected) in &state.reservations {
            let is = match expected.fate {
                Fate::Open => PendingState::Open,
                Fate::Posted => PendingState::Posted,
                Fate::Voided => PendingState::Voided,
                Fate::Expired => PendingState::Expired,
            };
            assert_eq!(self.leader.pending_state(EventId(*id)), Some(is));
            let pending = self.leader.pending(EventId(*id));
            assert_eq!(pending.is_some(), is == PendingState::Open);
            if let Some(pending) = pending {
                open.push(pending);
                assert_eq!(pending.amount.0, expected.amount);
                assert_eq!(pending.expires_at.map(|at| at.0), expected.expires_at);
            }
        }
        for id in state.doubts.keys() {
            assert!(self.leader.is_in_doubt(EventId(*id)));
        }
        let rest = state.doubts.len() + state.ends.len();
        assert_eq!(self.leader.pendings_len(), open.len() + rest);
        let listed = self.leader.reservations_from(0).flatten();
        let mut listed: Vec<_> =
            listed.filter(|(_, in_doubt)| !in_doubt).map(|(listed, _)| listed).collect();
        listed.sort_by_key(|one| one.offset);
        open.sort_by_key(|one| one.offset);
        assert_eq!(listed, open);
        assert_eq!(self.leader.doubts_len(), rest);
        assert_eq!(self.leader.digest(), self.replica.digest(), "a replica has the same state");
        let imported = self.importer.ledger.digest();
        assert_eq!(imported, self.leader.digest(), "what was taken over is the same");
    }

    /// A cut now and then, written in small pieces between requests.
    fn go_on_with_snapshot(&mut self) {
        let Some(snapshot) = &mut self.snapshot else {
            if self.random.chance(30) {
                let (cut, digest) = (self.leader.snapshot(), self.leader.digest());
                let (entries, item_bytes) = (self.entries.len(), self.leader.snapshot_item_bytes());
                let chunks = Vec::new();
                self.snapshot = Some(Snapshot { cut, digest, item_bytes, entries, chunks });
            }
            return;
        };
        for _ in 0..3 {
            let bytes_max = self.random.pick(&[1, 5_000, 20_000]);
            let Some(chunk) = snapshot.cut.next_chunk(&self.leader, bytes_max) else { break };
            assert!(chunk.len() <= bytes_max.max(4096));
            snapshot.chunks.push(chunk);
        }
        if !snapshot.cut.is_complete() {
            return;
        }
        let snapshot = self.snapshot.take().unwrap();
        // Each chunk has 16 bytes before its items; the head and the end have 104 each.
        let items: usize = snapshot.chunks.iter().map(|chunk| chunk.len() - 16).sum();
        assert_eq!(items as u64 - 2 * 104, snapshot.item_bytes);
        let mut restored = Ledger::restore(PARTITION, PARTITIONS, &snapshot.chunks).unwrap();
        assert_eq!(restored.digest(), snapshot.digest, "restored is what was cut");
        let mut digester = StateDigester::default();
        snapshot.chunks.iter().for_each(|chunk| digester.push(chunk));
        let digest = digester.finish();
        assert_eq!(digest, Some(snapshot.digest), "though the ledger has gone on meanwhile");
        self.older.note_all(&mut restored);
        for entry in &self.entries[snapshot.entries..] {
            let unknown = entry.unknown(&restored);
            let at = |offset| record_at(&self.entries, offset);
            self.older.look_up(&mut restored, unknown, at);
            apply(&mut restored, entry);
        }
        assert_eq!(restored.digest(), self.leader.digest(), "and comes to the tail by replay");
        self.snapshots += 1;
    }
}

#[test]
fn a_million_random_events_are_decided_as_the_model_says() {
    let first = first_seed();
    let mut seen = BTreeSet::new();
    let [mut events, mut snapshots, mut undone, mut refused, mut moves, mut found] = [0; 6];
    let (mut settled, mut chains) = (0, 0);
    for seed in first..first + RUNS {
        println!("run with seed {seed}");
        let mut run = Run::new(seed);
        run.go();
        seen.append(&mut run.seen);
        events += run.events;
        snapshots += run.snapshots;
        undone += run.undone;
        refused += run.importer.refused;
        moves += run.older.moves;
        found += run.older.found;
        settled += run.settled;
        chains += run.chains;
    }
    println!(
        "{events} events, {snapshots} snapshots, {undone} times undone, {refused} changes refused, \
         {moves} times all ids given away, {found} of them found again, {settled} settled by other partitions, {chains} chains"
    );
    assert!(events >= 1_000_000 && snapshots > 100 && undone > 1000 && refused > 1000);
    assert!(moves > 500 && found > 100_000 && settled > 1000 && chains > 300);
    // Who sends is not known here: `forbidden` is given where it is. Ledgers are described on partition 0: `names`.
    let elsewhere = [Verdict::Forbidden, Verdict::LedgerScaleDiffers, Verdict::LedgersTooMany];
    let here = Verdict::all().filter(|verdict| !elsewhere.contains(verdict));
    let missing: Vec<_> = here.filter(|verdict| !seen.contains(verdict)).collect();
    assert!(missing.is_empty(), "never occurred: {missing:?}");
}
