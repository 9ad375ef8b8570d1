//! Real servers: one node into three, into one that holds the beginning, and where an import is
//! refused.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walengine::export::{Content, Reader};
use walengine_net::client::EntriesToImport;
use walengine_net::client::blocking::Client;
use walengine_net::message::{
    ErrorCode, ImportState, ImportedEntry, StateDigest, StateDigestReply,
};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Code, EventBytes, EventId, LedgerId, Offset,
    PartitionId, Transfer, TransferFlags, Verdict,
};
use walengine_net::partition::of_book;
use walengine_tests::lone_partition::PARTITION;
use walengine_tests::nodes::Nodes;
use walengine_tests::server::{Launch, Server, TestDir, binary, run_command};

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
    // Standard input, as it is and packed: the second has nothing left to do.
    let mut piped = home("piped").serve();
    let text = text.into_bytes();
    let packed = std::fs::read(dir.path().join("packed")).unwrap();
    for (bytes, done) in [(text, ""), (packed, ": 0 records imported")] {
        let mut command = Command::new(binary());
        command.args(["import", "-", "--server", &piped.address().to_string()]);
        command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(summary.contains(done) && summary.contains("the same state"), "{summary}");
    }
    for server in [&mut source, &mut other, &mut wide, &mut empty, &mut piped] {
        server.stop();
    }
}

fn plain_account(id: u128) -> Account {
    Account { id: AccountId(id), ledger: LedgerId(1), code: Code(1), ..Account::default() }
}

fn plain_transfer(id: u128, book: u128) -> EventBytes {
    let transfer = Transfer {
        id: EventId(id),
        debit_account_id: AccountId(book << 96 | 1),
        credit_account_id: AccountId(book << 96 | 2),
        amount: Amount(id),
        ledger: LedgerId(1),
        code: Code(1),
        ..Transfer::default()
    };
    transfer.to_bytes()
}

/// Two partitions; the target holds the beginning of the same log when the second export comes.
#[test]
fn a_longer_export_goes_on_where_the_first_one_ended() {
    let dir = TestDir::new("export-longer");
    let serve = |name: &str| {
        let home = dir.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        Launch::new(&home).set("--partitions", "2").serve()
    };
    let (mut source, mut target) = (serve("source"), serve("target"));
    let book_of = |partition| {
        let leads_there = |book: &u32| of_book(Book(*book), 2) == PartitionId(partition);
        u128::from((1..100).find(leads_there).unwrap())
    };
    let books = [book_of(0), book_of(1)];
    let client = source.client();
    let accounts = books.map(|book| [1, 2].map(|low| plain_account(book << 96 | low))).concat();
    assert!(client.create_accounts(&accounts).unwrap().all_ok());
    let [from, into] = [&source, &target].map(|server| server.address().to_string());
    let import = |file| {
        let (code, summary, why) = said(dir.path(), &into, &["import", file]);
        assert_eq!(code, Some(0), "{summary}{why}");
        let digests = [&from, &into].map(|of| said(dir.path(), of, &["digest"]).1);
        assert_eq!(digests[0], digests[1], "{summary}");
        summary
    };
    exported(dir.path(), &from, "first");
    let summary = import("first");
    assert_eq!(summary.matches("2 records imported, 0 were there").count(), 2, "{summary}");
    for number in 10..20 {
        let events = books.map(|book| plain_transfer(number, book));
        assert!(client.submit_all(&events).unwrap().all_ok());
    }
    exported(dir.path(), &from, "second");
    let summary = import("second");
    assert_eq!(summary.matches("10 records imported, 2 were there").count(), 2, "{summary}");
    // An older one is all there.
    let summary = import("first");
    assert_eq!(summary.matches("0 records imported, 2 were there").count(), 2, "{summary}");
    // It serves as usual, and the same log has two ends from now on.
    let events = books.map(|book| plain_transfer(30, book));
    assert!(target.client().submit_all(&events).unwrap().all_ok());
    assert!(client.submit_all(&books.map(|book| plain_transfer(31, book))).unwrap().all_ok());
    exported(dir.path(), &from, "third");
    let (code, _, why) = said(dir.path(), &into, &["import", "third"]);
    assert!(code == Some(5) && why.contains("another history at offset 12"), "{why}");
    source.stop();
    target.stop();
}

/// Half a ledger takes nothing else, over a `kill -9` too, and is not exported as if it were whole.
#[test]
fn a_half_import_takes_nothing_else_and_is_finished_by_running_it_again() {
    let dir = TestDir::new("export-half");
    let launch = |name: &str| {
        let home = dir.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        Launch::new(&home)
    };
    let mut source = launch("source").serve();
    let client = source.client();
    client.create_accounts(&[1, 2].map(plain_account)).unwrap();
    for number in 10..20 {
        client.submit(PARTITION, &[plain_transfer(number, 0)]).unwrap();
    }
    drop(client);
    let log = exported(dir.path(), &source.address().to_string(), "whole");
    source.stop();

    let file = std::fs::read(dir.path().join("whole")).unwrap();
    let mut reader = Reader::new(&file[..]).unwrap();
    let first = reader.next_entry().unwrap().unwrap();
    let Content::Events(body) = &first.content else { panic!("{first:?}") };
    let (timestamp, records) = (first.timestamp.0, body.events.len() as u32);
    let some = EntriesToImport {
        base_offset: first.base_offset,
        entries: vec![ImportedEntry { timestamp, records, resolved: 0, kind: 1 }],
        events: body.events.clone(),
        verdicts: body.verdicts.clone(),
        ..EntriesToImport::default()
    };
    let mut target = launch("target").serve();
    assert_eq!(target.client().import_log(PARTITION, &some).unwrap().state, ImportState::Taken);
    for life in ["first", "second"] {
        let address = target.address().to_string();
        let error = target.client().submit(PARTITION, &[plain_transfer(10, 0)]).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Importing), "{life} life: {error}");
        let appended = target.client().append_records(PARTITION, &[(EventId(5), b"x")], None);
        assert_eq!(appended.unwrap_err().code(), Some(ErrorCode::Importing));
        let (code, _, why) = said(dir.path(), &address, &["export", "half"]);
        assert!(code == Some(1) && why.contains("not finished"), "{why}");
        assert!(!dir.path().join("half").exists(), "nothing is left of it");
        let (_, status, _) = said(dir.path(), &address, &["status"]);
        assert!(status.contains("taking an import"), "{status}");
        target.kill();
        target = launch("target").serve();
    }
    let address = target.address().to_string();
    let (code, summary, why) = said(dir.path(), &address, &["import", "whole"]);
    assert!(code == Some(0) && summary.contains("the same state"), "{summary}{why}");
    assert_eq!(log_of(dir.path(), &address), log);
    let outcome = target.client().submit(PARTITION, &[plain_transfer(10, 0)]).unwrap();
    assert!(outcome.all_ok() && outcome.outcomes().all(|one| !one.fresh), "a repeat");
    target.stop();
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
