//! In virtual time, on a simulated disk: random events of every kind, crashes, and entries that were
//! changed.

use std::path::Path;
use std::time::Duration;

use walengine::audit::Audit;
use walengine::export::{Content, ExportedEntry, Header, PartitionEnd, Reader, Writer};
use walengine::ledger::{Ledger, Outcomes};
use walengine::partition::Partition;
use walengine::partition::digest::{Digested, digest};
use walengine::partition::importing::ImportReport;
use walengine::partition::snapshots;
use walengine::refused::{BUSY_READING, Refused};
use walengine::runtime::Runtime;
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::entry::{ANY_OFFSET, EntryHeader, EntryKind, RecordHead};
use walengine_net::frame::{self, CONNECTION, FrameHead, HEADER_BYTES};
use walengine_net::message::{Entries, ImportLog, ImportState, ImportedEntry, open};
use walengine_net::model::{EventBytes, Timestamp, Verdict};
use walengine_tests::lone_partition::{self, CLUSTER, LoneCommit, PARTITION};
use walengine_tests::mixed_events::Mixed;
use walengine_tests::seeds::each_of;
use walengine_tests::sim::{Order, Rng, SimDisk, SimExecutor};

const BATCHES: usize = 60;
const SEEDS: u64 = 12;

type Lone = Partition<LoneCommit<SimDisk>>;

/// A source that has decided random events of every kind, and what was sent to it.
struct Source {
    partition: Lone,
    sent: Vec<Vec<EventBytes>>,
    records: Vec<(RecordHead, Vec<u8>)>,
}

/// What comes of a request once its ids have been looked up.
fn looked_up<T>(executor: &SimExecutor, mut ask: impl FnMut() -> Result<T, Refused>) -> T {
    loop {
        match ask() {
            Err(BUSY_READING) => run(executor, executor.runtime().sleep(Duration::from_millis(1))),
            answer => return answer.expect("there is room"),
        }
    }
}

fn submit(executor: &SimExecutor, partition: &Lone, events: &[EventBytes]) -> Outcomes {
    looked_up(executor, || {
        let mut outcomes = Outcomes::new();
        partition.submit(events, &mut outcomes).map(|_| outcomes)
    })
}

fn append(
    executor: &SimExecutor,
    partition: &Lone,
    (head, bytes): &(RecordHead, Vec<u8>),
) -> Outcomes {
    looked_up(executor, || {
        let mut outcomes = Outcomes::new();
        let heads = std::slice::from_ref(head);
        partition.append_records(heads, bytes, &mut outcomes).map(|_| outcomes)
    })
}

fn run<T>(executor: &SimExecutor, task: impl Future<Output = T>) -> T {
    executor.block_on(task).unwrap_or_else(|_| panic!("the machine has stopped"))
}

fn source(executor: &SimExecutor, seed: u64, rng: &mut Rng) -> Source {
    let disk = SimDisk::new(&executor.runtime(), seed);
    let (partition, _) = lone_partition::start(executor, &disk);
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    let mut source = Source { partition, sent: vec![mixed.accounts()], records: Vec::new() };
    submit(executor, &source.partition, &source.sent[0]);
    for number in 0..BATCHES {
        let batch = mixed.batch(rng.between(1, 80) as usize);
        submit(executor, &source.partition, &batch);
        source.sent.push(batch);
        if rng.percent(20) {
            let next = source.partition.with_ledger(Ledger::next_offset).0;
            let expected_offset = [ANY_OFFSET, next, next + 1][rng.index(3)];
            let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.below(256) as u8).collect();
            let id = u128::from(number as u64) << 64 | 1;
            let record = (RecordHead { id, expected_offset, bytes: bytes.len() as u32 }, bytes);
            append(executor, &source.partition, &record);
            source.records.push(record);
        }
        let pause = Duration::from_millis(rng.below(300));
        run(executor, async {
            source.partition.until_visible().await.unwrap();
            source.partition.runtime().sleep(pause).await;
        });
        source.partition.expire();
    }
    run(executor, source.partition.until_visible()).unwrap();
    source
}

/// All entries with records, in order.
fn entries_of(executor: &SimExecutor, partition: &Lone) -> Vec<(EntryHeader, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut next = 1;
    let log = partition.log();
    while next <= log.last().index {
        let bytes = run(executor, log.read(next, 1 << 20)).unwrap();
        for entry in Entries::new(&bytes) {
            let (header, body) = entry.unwrap();
            next = header.meta.index + 1;
            if header.meta.records > 0 {
                entries.push((header, body.to_vec()));
            }
        }
    }
    entries
}

fn export(executor: &SimExecutor, partition: &Lone) -> (Vec<u8>, Digested) {
    let state = run(executor, digest(partition, Duration::ZERO)).unwrap();
    let ends = vec![state.next_offset];
    let (created, program) = (Timestamp(1), "test".to_owned());
    let mut writer =
        Writer::new(Vec::new(), &Header { cluster: CLUSTER, created, program, ends }).unwrap();
    for (header, body) in entries_of(executor, partition) {
        writer.entry(&header, &body).unwrap();
    }
    let end = PartitionEnd {
        next_offset: state.next_offset,
        last_timestamp: state.last_timestamp,
        accounts: state.accounts,
        pendings: state.pendings,
        ids: state.ids,
        digest: state.digest,
    };
    (writer.finish(&[end]).unwrap(), state)
}

fn read(bytes: &[u8]) -> Vec<ExportedEntry> {
    let mut reader = Reader::new(bytes).unwrap();
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// Asks a partition to take some entries.
fn import(
    partition: &Lone,
    entries: &[ExportedEntry],
    is_last: bool,
) -> Result<ImportReport, Refused> {
    let (mut heads, mut list, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut events, mut resolved, mut blob) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let (kind, resolutions) = match &entry.content {
            Content::Events(body) => {
                events.extend_from_slice(&body.events);
                resolved.extend_from_slice(&body.resolved);
                verdicts.extend_from_slice(&body.verdicts);
                (EntryKind::Events, body.resolved.len())
            }
            Content::Records(body) => {
                heads.extend_from_slice(&body.heads);
                blob.extend_from_slice(&body.blob);
                verdicts.extend_from_slice(&body.verdicts);
                (EntryKind::Records, 0)
            }
        };
        list.push(ImportedEntry {
            timestamp: entry.timestamp.0,
            records: entry.records() as u32,
            resolved: resolutions as u32,
            kind: kind as u8,
        });
    }
    let message = ImportLog {
        base_offset: entries[0].base_offset.0,
        is_last: u8::from(is_last),
        entries: &list,
        events: &events,
        resolved: &resolved,
        heads: &heads,
        blob: &blob,
        verdicts: &verdicts,
    };
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, FrameHead::reply(PARTITION, CONNECTION), &message).unwrap();
    partition.import_log(open::<ImportLog<'_>>(&bytes[HEADER_BYTES..]).unwrap())
}

/// What a ledger tells of a record, wherever it is.
fn told(entries: &[(EntryHeader, Vec<u8>)]) -> Vec<(u64, Timestamp, EntryKind, Vec<u8>)> {
    let told = entries.iter().map(|(header, body)| {
        let meta = &header.meta;
        // The mark of an import that is under way stands in front of the lists.
        let body = body.strip_prefix(&walengine_net::entry::IMPORT_MARK).unwrap_or(body);
        (meta.base_offset.0, meta.timestamp, meta.kind, body.to_vec())
    });
    told.collect()
}

/// Random events, exported, read back and imported in pieces into a partition that is started again
/// now and then, and whose clock is past everything that is due.
#[test]
fn what_was_exported_is_imported_with_the_same_state_and_answers() {
    let test = "export::simulated::what_was_exported_is_imported_with_the_same_state_and_answers";
    let expired = each_of(test, SEEDS, |seed| {
        let executor = SimExecutor::new(seed, Order::Random);
        let mut rng = Rng::new(seed);
        let source = source(&executor, seed, &mut rng);
        let (file, state) = export(&executor, &source.partition);
        let entries = read(&file);
        let runtime = executor.runtime();
        // Every reservation with a timeout is due by the clock, before the first entry is imported.
        run(&executor, runtime.sleep(Duration::from_hours(1)));

        let mut life = runtime.node();
        let mut disk = SimDisk::new(&life, !seed);
        let (mut target, _) = lone_partition::start_on(&executor, &life, &disk, Audit::default());
        let (mut at, mut snapshots_taken) = (0, 0);
        while at < entries.len() {
            let count = rng.between(1, 12) as usize;
            let piece = &entries[at..entries.len().min(at + count)];
            let is_last = at + piece.len() == entries.len();
            let report = looked_up(&executor, || import(&target, piece, is_last));
            assert_eq!(report.state, ImportState::Taken, "{}", report.message);
            if is_last && report.next_offset == state.next_offset {
                // Before anything else runs: what is due by the clock ends at once behind the last entry.
                assert_eq!(target.with_ledger(Ledger::digest), state.digest, "the same state");
            }
            run(&executor, target.until_visible()).unwrap();
            at += piece.iter().filter(|entry| entry.end() <= report.next_offset).count();
            assert_eq!(target.is_importing(), at < entries.len());
            if at == entries.len() {
                break;
            }
            if rng.percent(20) {
                let dir = partition_dir(Path::new(lone_partition::DATA), PARTITION);
                if rng.percent(50) {
                    // Then the mode is not in what is replayed.
                    let taken = run(&executor, async {
                        let store = SnapshotStore::open(disk.clone(), &dir).await.unwrap();
                        snapshots::take(&target, &store).await.unwrap()
                    });
                    snapshots_taken += u64::from(taken.is_some());
                }
                drop(target);
                life = runtime.node();
                disk = disk.crash(&life, rng.next_u64());
                target = lone_partition::open_again(&executor, &life, &disk);
            }
            // Neither the clock nor anybody else gets in between.
            let before = target.with_ledger(Ledger::next_offset);
            target.expire();
            let refused = target.submit(&source.sent[0], &mut Outcomes::new()).unwrap_err();
            assert_eq!(refused, Refused::Importing);
            let again = import(&target, piece, false).unwrap();
            assert_eq!((again.state, again.next_offset), (ImportState::OtherOffset, before));
            assert_eq!(target.with_ledger(Ledger::next_offset), before);
        }
        let (from, into) = (&source.partition, &target);
        let [exported, imported] = [from, into].map(|of| told(&entries_of(&executor, of)));
        assert!(
            imported.starts_with(&exported[..entries.len()]),
            "the same records at the same times"
        );

        // The same answers to everything that was ever sent, also where only a part was logged.
        for batch in &source.sent {
            let [first, second] = [from, into].map(|of| submit(&executor, of, batch));
            assert_eq!(first, second, "{batch:?}");
        }
        for record in &source.records {
            let [first, second] = [from, into].map(|of| append(&executor, of, record));
            assert_eq!(first, second);
        }
        for partition in [from, into] {
            partition.expire();
            run(&executor, partition.until_visible()).unwrap();
        }
        let left = |partition: &Lone| {
            partition.with_ledger(|ledger| (ledger.pendings_len(), ledger.next_expiry()))
        };
        assert_eq!(left(from), left(into), "what was due ends now, in both");
        let expired = state.pendings as usize - into.with_ledger(Ledger::pendings_len);
        (expired, snapshots_taken)
    });
    let snapshots_taken: u64 = expired.iter().map(|(_, snapshots)| snapshots).sum();
    assert!(snapshots_taken > 5, "{snapshots_taken} snapshots in the middle of an import");
    let expired: usize = expired.iter().map(|(expired, _)| expired).sum();
    assert!(expired > 10, "{expired} reservations were left to expire after the import");
}

/// An entry that would be decided otherwise, or at a time that can't be, is not taken, and the same
/// entry as it was is taken after that.
#[test]
fn an_entry_that_does_not_come_out_the_same_is_refused_with_its_offset() {
    let executor = SimExecutor::new(3, Order::Fifo);
    let mut rng = Rng::new(3);
    let source = source(&executor, 3, &mut rng);
    let entries = read(&export(&executor, &source.partition).0);
    let disk = SimDisk::new(&executor.runtime(), 4);
    let (target, _) = lone_partition::start(&executor, &disk);
    for place in 0..entries.len() {
        let entry = &entries[place];
        let refused = |changed: ExportedEntry, state: ImportState| {
            let before = target.with_ledger(Ledger::digest);
            let changed = [changed];
            let report = looked_up(&executor, || import(&target, &changed, false));
            assert_eq!(
                (report.state, report.next_offset),
                (state, entry.base_offset),
                "{report:?}"
            );
            assert_eq!(target.with_ledger(Ledger::digest), before);
            report.message
        };
        let mut changed = entry.clone();
        let verdicts = match &mut changed.content {
            Content::Events(body) => &mut body.verdicts,
            Content::Records(body) => &mut body.verdicts,
        };
        let last = verdicts.len() - 1;
        let other = if verdicts[last] == 0 { Verdict::ExceedsCredits } else { Verdict::Ok };
        verdicts[last] = other.number();
        let message = refused(changed, ImportState::Differs);
        let offset = format!("offset {}", entry.end().0 - 1);
        assert!(message.contains(&offset) || last > 0, "{message}");
        let now = target.runtime().now();
        refused(
            ExportedEntry { timestamp: Timestamp(now.0 + 1), ..entry.clone() },
            ImportState::OtherTime,
        );
        if place > 0 {
            let timestamp = entries[place - 1].timestamp;
            refused(ExportedEntry { timestamp, ..entry.clone() }, ImportState::OtherTime);
        }
        let report = looked_up(&executor, || import(&target, std::slice::from_ref(entry), false));
        assert_eq!(report.state, ImportState::Taken, "{}", report.message);
        run(&executor, target.until_visible()).unwrap();
    }
}
