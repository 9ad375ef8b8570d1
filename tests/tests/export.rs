//! Does an import of an export come to the same accounts, reservations, verdicts and records?

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use walengine::export::{Content, ExportedEntry, Header, PartitionEnd, Reader, Writer};
use walengine::ledger::{Ledger, Outcomes};
use walengine::partition::Partition;
use walengine::partition::digest::{Digested, digest};
use walengine::partition::importing::ImportReport;
use walengine::partition::snapshots;
use walengine::refused::Refused;
use walengine::runtime::Runtime;
use walengine::storage::partition_dir;
use walengine::storage::snapshot::SnapshotStore;
use walengine_net::client::blocking::Client;
use walengine_net::entry::{ANY_OFFSET, EntryHeader, EntryKind, RecordHead};
use walengine_net::frame::{self, CONNECTION, FrameHead, HEADER_BYTES};
use walengine_net::message::{
    Entries, ImportLog, ImportState, ImportedEntry, StateDigest, StateDigestReply, open,
};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset,
    Timestamp, Transfer, TransferFlags, Verdict,
};
use walengine_tests::lone_partition::{self, CLUSTER, LoneCommit, PARTITION};
use walengine_tests::mixed_events::Mixed;
use walengine_tests::nodes::Nodes;
use walengine_tests::seeds::each_of;
use walengine_tests::server::{Launch, Server, TestDir, run_command};
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

fn submit(partition: &Lone, events: &[EventBytes]) -> Outcomes {
    let mut outcomes = Outcomes::new();
    partition.submit(events, &mut outcomes).expect("there is room");
    outcomes
}

fn append(partition: &Lone, (head, bytes): &(RecordHead, Vec<u8>)) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let appended = partition.append_records(std::slice::from_ref(head), bytes, &mut outcomes);
    appended.expect("there is room");
    outcomes
}

fn run<T>(executor: &SimExecutor, task: impl Future<Output = T>) -> T {
    executor.block_on(task).unwrap_or_else(|_| panic!("the machine has stopped"))
}

fn source(executor: &SimExecutor, seed: u64, rng: &mut Rng) -> Source {
    let disk = SimDisk::new(&executor.runtime(), seed);
    let (partition, _) = lone_partition::start(executor, &disk);
    let mut mixed = Mixed::new(seed, PARTITION, 1);
    let mut source = Source { partition, sent: vec![mixed.accounts()], records: Vec::new() };
    submit(&source.partition, &source.sent[0]);
    for number in 0..BATCHES {
        let batch = mixed.batch(rng.between(1, 80) as usize);
        submit(&source.partition, &batch);
        source.sent.push(batch);
        if rng.percent(20) {
            let next = source.partition.with_ledger(Ledger::next_offset).0;
            let expected_offset = [ANY_OFFSET, next, next + 1][rng.index(3)];
            let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.below(256) as u8).collect();
            let id = u128::from(number as u64) << 64 | 1;
            let record = (RecordHead { id, expected_offset, bytes: bytes.len() as u32 }, bytes);
            append(&source.partition, &record);
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
    let state = run(executor, digest(partition)).unwrap();
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
    let test = "export::what_was_exported_is_imported_with_the_same_state_and_answers";
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
        let (mut target, _) = lone_partition::start_on(&executor, &life, &disk);
        let (mut at, mut snapshots_taken) = (0, 0);
        while at < entries.len() {
            let count = rng.between(1, 12) as usize;
            let piece = &entries[at..entries.len().min(at + count)];
            let is_last = at + piece.len() == entries.len();
            let report = import(&target, piece, is_last).expect("there is room");
            assert_eq!(report.state, ImportState::Taken, "{}", report.message);
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
        let imported = run(&executor, digest(&target)).unwrap();
        assert_eq!(imported, state, "the state is the same, and so is its digest");
        assert_eq!(target.with_ledger(Ledger::digest), state.digest);
        let (from, into) = (&source.partition, &target);
        assert_eq!(told(&entries_of(&executor, from)), told(&entries_of(&executor, into)));

        let open = into.with_ledger(Ledger::pendings_len);
        // The same answers to everything that was ever sent, also where only a part was logged.
        for batch in &source.sent {
            assert_eq!(submit(from, batch), submit(into, batch), "{batch:?}");
        }
        for record in &source.records {
            assert_eq!(append(from, record), append(into, record));
        }
        for partition in [from, into] {
            partition.expire();
            run(&executor, partition.until_visible()).unwrap();
        }
        let left = |partition: &Lone| {
            partition.with_ledger(|ledger| (ledger.pendings_len(), ledger.next_expiry()))
        };
        assert_eq!(left(from), left(into), "what was due ends now, in both");
        (open - into.with_ledger(Ledger::pendings_len), snapshots_taken)
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
            let report = import(&target, &[changed], false).unwrap();
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
        let report = import(&target, std::slice::from_ref(entry), false).unwrap();
        assert_eq!(report.state, ImportState::Taken, "{}", report.message);
        run(&executor, target.until_visible()).unwrap();
    }
}

const PENDING_SECONDS: u32 = 3;

/// A bank on a server: accounts with limits, reservations in every state, refusals, a chain, an
/// opaque record. Returns everything that was sent.
fn fill(server: &Server) -> Vec<EventBytes> {
    let client = server.client();
    let account = |id: u128, flags| Account {
        id: AccountId(id),
        ledger: LedgerId(978),
        code: Code(7),
        user_data_64: 5,
        flags,
        ..Account::default()
    };
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let transfer = |id: u128, debit: u128, credit: u128, amount: u128, flags| Transfer {
        id: EventId(id),
        debit_account_id: AccountId(debit),
        credit_account_id: AccountId(credit),
        amount: Amount(amount),
        ledger: LedgerId(978),
        code: Code(1),
        flags,
        ..Transfer::default()
    };
    let plain = TransferFlags::default();
    let pending = TransferFlags::PENDING;
    let resolving = |id: u128, pending_id: u128, amount: u128, flags| Transfer {
        pending_id: EventId(pending_id),
        ledger: LedgerId(0),
        code: Code(0),
        ..transfer(id, 1, 2, amount, flags)
    };
    let timed = Transfer { timeout_seconds: PENDING_SECONDS, ..transfer(23, 1, 2, 30, pending) };
    let events = vec![
        account(1, AccountFlags::default()).to_bytes(),
        account(2, limited).to_bytes(),
        transfer(10, 1, 2, 1_000, plain).to_bytes(),
        transfer(11, 2, 1, 5_000, plain).to_bytes(), // exceeds_credits
        transfer(12, 1, 9, 5, plain).to_bytes(),     // no such account
        transfer(20, 1, 2, 100, pending).to_bytes(),
        transfer(21, 1, 2, 200, pending).to_bytes(),
        transfer(22, 1, 2, 300, pending).to_bytes(),
        timed.to_bytes(),
        resolving(30, 20, 40, TransferFlags::POST_PENDING).to_bytes(),
        resolving(31, 21, 0, TransferFlags::VOID_PENDING).to_bytes(),
        transfer(40, 2, 1, 999_999, TransferFlags::BALANCING_DEBIT).to_bytes(),
        transfer(50, 1, 2, 1, TransferFlags::LINKED).to_bytes(),
        transfer(51, 2, 1, 999_999, plain).to_bytes(), // the chain fails
    ];
    client.submit(PARTITION, &events).unwrap();
    client.append_records(PARTITION, &[(EventId(60), b"bytes \xff")], None).unwrap();
    client.append_records(PARTITION, &[(EventId(61), b"x")], Some(Offset(1))).unwrap();
    events
}

/// What a command printed, and its exit code.
fn said(dir: &Path, address: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<_> = arguments.iter().chain(&["--server", address]).copied().collect();
    let output = run_command(None, dir, &arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Exports into a file, and gives the exported part of the log, as JSON lines.
fn exported(dir: &Path, address: &str, file: &str) -> String {
    let (code, _, why) = said(dir, address, &["export", file]);
    assert_eq!(code, Some(0), "{why}");
    let records = why.split(' ').find_map(|word| word.parse().ok());
    let records: usize = records.unwrap_or_else(|| panic!("no number in {why}"));
    // What came due since is behind it.
    log_of(dir, address).split_inclusive('\n').take(records).collect()
}

fn log_of(dir: &Path, address: &str) -> String {
    let arguments = ["log", "--format", "json", "--linearizable"];
    let (code, log, why) = said(dir, address, &arguments);
    assert_eq!(code, Some(0), "{why}");
    log
}

/// Every node comes to the same digest of the same state.
fn nodes_have_the_same_state(nodes: &Nodes) {
    let by = Instant::now() + Duration::from_mins(1);
    loop {
        let states: Vec<_> = (0..nodes.count())
            .map(|node| {
                let reply = nodes.wire(node).call(&StateDigest::default()).unwrap();
                let reply = reply.open::<StateDigestReply>();
                (reply.next_offset.to_native(), reply.digest)
            })
            .collect();
        if states.iter().all(|state| *state == states[0]) {
            return;
        }
        let has_offset = |one: &(u64, _)| one.0 == states[0].0;
        assert!(!states.iter().all(has_offset), "the same offset and another state: {states:?}");
        assert!(Instant::now() < by, "not the same state: {states:?}\n{}", nodes.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn verdicts(client: &Client, events: &[EventBytes]) -> Vec<(Verdict, Option<Offset>, bool)> {
    let submitted = client.submit(PARTITION, events).unwrap();
    submitted.outcomes().map(|one| (one.verdict, one.offset, one.fresh)).collect()
}

#[test]
fn one_node_exports_and_three_nodes_import_the_same() {
    let dir = TestDir::new("export");
    let mut one = Launch::new(dir.path()).serve();
    let events = fill(&one);
    let source = one.address().to_string();
    let expected = verdicts(&one.client(), &events);
    assert!(expected.iter().all(|(.., fresh)| !fresh), "they were all decided before");
    let log = exported(dir.path(), &source, "bank.walexport");
    let (code, _, why) = said(dir.path(), &source, &["export", "bank.walexport"]);
    assert!(code == Some(11) && why.contains("never writes over"), "{why}");
    one.stop();

    let mut nodes = Nodes::start("export-into", 3, |launch| launch);
    let target = nodes.addresses();
    let import = |arguments: &[&str]| said(dir.path(), &target, &[&["import"], arguments].concat());
    // A file that was cut is noticed before anything is imported.
    let whole = std::fs::read(dir.path().join("bank.walexport")).unwrap();
    std::fs::write(dir.path().join("cut"), &whole[..whole.len() - 300]).unwrap();
    let (code, _, why) = import(&["cut"]);
    assert!(code == Some(11) && why.contains("it was cut"), "{why}");
    let (code, summary, why) = import(&["bank.walexport"]);
    assert_eq!(code, Some(0), "{summary}{why}");
    // The reservation with a timeout may have come due in between: then that is one record more.
    let same = summary.contains("the same state");
    assert!(same || summary.contains("1 records since"), "{summary}");
    assert!(log_of(dir.path(), &target).starts_with(&log), "the log goes on where it ended");

    let client = Client::connect(walengine_net::client::Config {
        deadline: Duration::from_mins(1),
        ..walengine_net::client::Config::new(&target)
    });
    let client = client.unwrap();
    assert_eq!(verdicts(&client, &events), expected, "a repeat gets the first verdict");
    // What was open is open, what was ended is ended, and the timeout runs from its log time.
    let post = |id: u128, pending: u128| {
        let (id, pending_id) = (EventId(id), EventId(pending));
        let flags = TransferFlags::POST_PENDING;
        let post = Transfer { id, pending_id, flags, ..Transfer::default() };
        client.submit(PARTITION, &[post.to_bytes()]).unwrap().outcomes().next().unwrap().verdict
    };
    assert_eq!(post(101, 20), Verdict::PendingAlreadyPosted);
    assert_eq!(post(102, 21), Verdict::PendingAlreadyVoided);
    let by = Instant::now() + Duration::from_mins(1);
    while !log_of(dir.path(), &target).contains("\"kind\":\"expire\"") {
        assert!(Instant::now() < by, "it never expires:\n{}", nodes.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(post(103, 23), Verdict::PendingExpired);
    assert_eq!(post(104, 22), Verdict::Ok);

    // Again: everything is there, and nothing changes.
    let log = log_of(dir.path(), &target);
    let (code, summary, why) = import(&["bank.walexport"]);
    assert!(code == Some(0) && summary.contains(": 0 records imported"), "{summary}{why}");
    assert_eq!(log_of(dir.path(), &target), log);
    nodes_have_the_same_state(&nodes);
    drop(client);
    for node in 0..3 {
        nodes.kill(node);
    }
}

/// Entries, and transfers in each: so many that an import takes several requests.
const ENTRIES: u64 = 800;
const TRANSFERS: u64 = 40;

/// The leader dies in the middle, and the client goes on with the next one: the mode is in the log, so
/// that nothing gets between the entries there either.
#[test]
fn an_import_survives_the_death_of_the_leader() {
    let dir = TestDir::new("export-kill");
    let mut one = Launch::new(dir.path()).serve();
    fill(&one);
    let client = one.client();
    let transfer = |number: u64| {
        Transfer {
            id: EventId(u128::from(1_000 + number)),
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(1),
            ledger: LedgerId(978),
            code: Code(1),
            flags: if number.is_multiple_of(3) {
                TransferFlags::PENDING
            } else {
                TransferFlags::default()
            },
            timeout_seconds: u32::from(number.is_multiple_of(3)),
            ..Transfer::default()
        }
        .to_bytes()
    };
    for entry in 0..ENTRIES {
        let numbers = entry * TRANSFERS..(entry + 1) * TRANSFERS;
        let transfers: Vec<_> = numbers.map(transfer).collect();
        client.submit(PARTITION, &transfers).unwrap();
    }
    drop(client);
    let source = one.address().to_string();
    let log = exported(dir.path(), &source, "bank.walexport");
    one.stop();

    let mut nodes = Nodes::start("export-kill-nodes", 3, |launch| launch);
    let target = nodes.addresses();
    let path = dir.path().to_owned();
    let import = std::thread::spawn({
        let target = target.clone();
        move || said(&path, &target, &["import", "bank.walexport", "--timeout", "60"])
    });
    let leader = nodes.leader();
    let mut wire = nodes.wire(leader);
    let by = Instant::now() + Duration::from_mins(1);
    loop {
        let reply = wire.call(&StateDigest::default()).unwrap();
        let reply = reply.open::<StateDigestReply>();
        if reply.next_offset.to_native() > 0 {
            assert_eq!(reply.is_importing, 1, "the import was too quick to be disturbed");
            break;
        }
        assert!(Instant::now() < by, "the import does not begin:\n{}", nodes.logs());
    }
    nodes.kill(leader);
    let (code, summary, why) = import.join().unwrap();
    assert_eq!(code, Some(0), "{summary}{why}{}", nodes.logs());
    assert!(log_of(dir.path(), &target).starts_with(&log), "the log goes on where it ended");
    nodes.spawn(leader);
    nodes.server(leader).wait_until_serving();
    nodes_have_the_same_state(&nodes);
    for node in 0..3 {
        nodes.kill(node);
    }
}

#[test]
fn an_export_goes_only_where_nothing_else_is() {
    let dir = TestDir::new("export-refused");
    let home = |name: &str| {
        let home = dir.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        Launch::new(&home)
    };
    let mut source = home("source").serve();
    fill(&source);
    let file = dir.path().join("bank.walexport");
    let export = ["export", file.to_str().unwrap()];
    let (code, _, why) = said(dir.path(), &source.address().to_string(), &export);
    assert_eq!(code, Some(0), "{why}");
    let import = |server: &Server| {
        said(dir.path(), &server.address().to_string(), &["import", file.to_str().unwrap()])
    };
    // Into itself: it is all there.
    let (code, summary, why) = import(&source);
    assert!(code == Some(0) && summary.contains(": 0 records imported"), "{summary}{why}");

    let mut other = home("other").serve();
    let account =
        Account { id: AccountId(1), ledger: LedgerId(1), code: Code(1), ..Account::default() };
    other.client().create_accounts(&[account]).unwrap();
    let (code, _, why) = import(&other);
    assert!(code == Some(5) && why.contains("another history at offset 0"), "{why}");
    assert_eq!(log_of(dir.path(), &other.address().to_string()).lines().count(), 1);

    let mut wide = home("wide").set("--partitions", "2").serve();
    let (code, _, why) = import(&wide);
    assert!(code == Some(5) && why.contains("--partitions 1"), "{why}");

    // Standard output, and a packed file.
    let arguments = ["export", "-"];
    let (code, text, why) = said(dir.path(), &source.address().to_string(), &arguments);
    assert_eq!(code, Some(0), "{why}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    std::fs::write(dir.path().join("packed"), packed.finish().unwrap()).unwrap();
    let mut empty = home("empty").serve();
    let address = empty.address().to_string();
    let (code, summary, why) = said(dir.path(), &address, &["import", "packed"]);
    assert_eq!(code, Some(0), "{summary}{why}");
    for server in [&mut source, &mut other, &mut wide, &mut empty] {
        server.stop();
    }
}

/// Its digest is the same without a server.
#[test]
fn verify_prints_the_digest_that_a_server_tells() {
    let dir = TestDir::new("export-digest");
    let mut server = Launch::new(dir.path()).serve();
    fill(&server);
    let told = |text: &str| {
        let is_digest = |word: &&str| word.len() == 64;
        text.split_whitespace().find(is_digest).map(str::to_owned)
    };
    let (_, online, _) = said(dir.path(), &server.address().to_string(), &["digest"]);
    // Not if a reservation comes due before it has stopped: ask again then.
    server.stop();
    let data = dir.path().join("data");
    let output = run_command(None, dir.path(), &["verify", data.to_str().unwrap()]);
    let offline = String::from_utf8(output.stdout).unwrap();
    assert!(told(&online).is_some(), "{online}");
    assert_eq!(told(&online), told(&offline), "{online}{offline}");
}
