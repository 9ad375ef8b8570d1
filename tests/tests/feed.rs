//! Do subscriptions get the whole log once and in order, near its end and far behind it, without
//! delaying anybody?

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::entry::{ANY_OFFSET, HEADER_BYTES};
use walengine_net::frame::{Kind, RequestId};
use walengine_net::message::{
    Append, AppendHead, ClusterStatus, Credit, Entries, ErrorCode, Freshness, LogPage,
    LookupAccounts, ReadLog, ServerStatus, Submit, SubmitReply, Subscribe, Unsubscribe,
    UnsubscribeReply,
};
use walengine_net::model::{Account, EventBytes, Offset, PartitionId};
use walengine_tests::nodes::Nodes;
use walengine_tests::noted_writes::accounts_of;
use walengine_tests::server::{Launch, TestDir};
use walengine_tests::wire::{Reply, Wire};

const CREDIT_BYTES: u64 = 1 << 20;
const RECORDS: u64 = 1000;
const RECORD_BYTES: usize = 1 << 10;
const BATCHES: u64 = 160;
/// More than the feed may hold for a partition, and less than what is written.
const GROWTH_BYTES_MAX: u64 = 112 << 20;
const PATIENCE: Duration = Duration::from_mins(1);

/// Pages of a subscription, put together.
#[derive(Default)]
struct Collected {
    entries: Vec<u8>,
    next: Offset,
    owed_bytes: u64,
}

impl Collected {
    fn take(&mut self, reply: &Reply) {
        assert_eq!(reply.kind, Kind::Feed, "{:?}", reply.error());
        let page = walengine_net::message::open::<LogPage<'_>>(&reply.body).unwrap();
        for entry in Entries::new(&page.entries) {
            let (header, _) = entry.unwrap();
            assert_eq!(header.meta.base_offset, self.next, "neither repeated nor left out");
            self.next = header.next_offset();
        }
        assert_eq!(page.next_offset.to_native(), self.next.0);
        assert!(page.durable_offset.to_native() >= self.next.0, "only what is durable is sent");
        self.entries.extend_from_slice(&page.entries);
        self.owed_bytes += page.entries.len() as u64;
    }

    /// Reads on until `end`, giving credit for each page.
    fn read_to(&mut self, wire: &mut Wire, request: RequestId, end: Offset) {
        while self.next < end {
            let bytes = std::mem::take(&mut self.owed_bytes);
            if bytes > 0 {
                wire.send_as(request, &Credit { bytes }).unwrap();
            }
            self.take(&wire.receive().unwrap());
        }
    }
}

fn subscribe(wire: &mut Wire, from: Offset) -> RequestId {
    wire.send(&Subscribe { from: from.0, credit_bytes: CREDIT_BYTES }).unwrap()
}

fn write_records(wire: &mut Wire, batch: u64) -> Offset {
    let heads: Vec<_> = (0..RECORDS)
        .map(|record| AppendHead {
            id: u128::from(batch * RECORDS + record + 1),
            bytes: RECORD_BYTES as u32,
        })
        .collect();
    let blob = vec![batch as u8; RECORDS as usize * RECORD_BYTES];
    loop {
        let append = Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &blob };
        let reply = wire.call(&append).unwrap();
        if reply.error() == Some(ErrorCode::Busy) {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        assert_eq!(reply.kind, Kind::AppendReply, "{:?}", reply.error());
        let reply = walengine_net::message::open::<SubmitReply<'_>>(&reply.body).unwrap();
        return Offset(reply.token_offset.to_native() + 1);
    }
}

/// The log as [`ReadLog`] gives it, from the partition's shard.
fn log_to(wire: &mut Wire, end: Offset) -> Vec<u8> {
    let (mut log, mut from) = (Vec::new(), Offset(0));
    while from < end {
        let at_least = Freshness::AtLeast(Offset(end.0 - 1)).number();
        let reply = wire.call(&ReadLog { at_least, from: from.0, bytes_max: 1 << 20 }).unwrap();
        let page = reply.open::<LogPage<'_>>();
        log.extend_from_slice(&page.entries);
        from = Offset(page.next_offset.to_native());
    }
    log
}

#[test]
fn who_falls_behind_is_served_from_segments_and_holds_up_nobody() {
    let dir = TestDir::new("feed-behind");
    let mut server = Launch::new(dir.path()).serve();
    let (mut near, mut far) = (server.wire(0), server.wire(0));
    let (near_request, far_request) =
        (subscribe(&mut near, Offset(0)), subscribe(&mut far, Offset(0)));
    let end = Offset(BATCHES * RECORDS);
    let (resident, mut writer) = (server.resident_bytes(), server.wire(0));
    let near = thread::spawn(move || {
        let mut collected = Collected::default();
        collected.read_to(&mut near, near_request, end);
        (near, collected)
    });
    let written = (0..BATCHES).map(|batch| write_records(&mut writer, batch)).last();
    assert_eq!(written, Some(end));
    let grown = server.resident_bytes().saturating_sub(resident);
    println!("{} MiB more than before", grown >> 20);
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB are held for a slow reader", grown >> 20);
    let mut slow = Collected::default();
    slow.read_to(&mut far, far_request, end);
    let (mut near, fast) = near.join().unwrap();
    let log = log_to(&mut writer, end);
    assert!(fast.entries == log && slow.entries == log, "both got what the log holds");
    // Both are at the end now: what comes next reaches them without a read.
    let (mut fast, mut last) = (fast, Offset(0));
    for batch in BATCHES..BATCHES + 5 {
        last = write_records(&mut writer, batch);
        fast.read_to(&mut near, near_request, last);
        slow.read_to(&mut far, far_request, last);
    }
    assert!(fast.entries == slow.entries && fast.next == last);
    assert_eq!(fast.entries.len(), log.len() + 5 * log.len() / BATCHES as usize);
    server.stop();
}

#[test]
fn a_connection_that_subscribes_answers_everything_else() {
    let dir = TestDir::new("feed-mixed");
    let mut server = Launch::new(dir.path()).serve();
    let mut wire = server.wire(0);
    let accounts: Vec<EventBytes> =
        accounts_of(PartitionId(0), 1).iter().map(Account::to_bytes).collect();
    let ids = [accounts_of(PartitionId(0), 1)[0].id.0];
    let lookup = LookupAccounts { at_least: Freshness::Any.number(), ids: &ids };
    // All at once: requests before and after the frame that moves the connection to the feed.
    let frames = [
        wire.frame(&Submit { events: &accounts[..8] }),
        wire.frame(&lookup),
        wire.frame(&Subscribe { from: 0, credit_bytes: CREDIT_BYTES }),
        wire.frame(&Submit { events: &accounts[8..] }),
        wire.frame(&ClusterStatus::default()),
        wire.frame(&ServerStatus::default()),
        wire.frame(&lookup),
        wire.frame(&Unsubscribe::default()),
    ];
    wire.send_bytes(&frames.concat()).unwrap();
    let subscription = RequestId(4);
    let mut collected = Collected::default();
    let mut kinds = BTreeMap::new();
    let by = Instant::now() + PATIENCE;
    while collected.next < Offset(16) || kinds.len() < 7 {
        assert!(Instant::now() < by, "{kinds:?}, {} records", collected.next);
        let reply = wire.receive().unwrap();
        if reply.kind == Kind::Feed {
            assert_eq!(reply.request, subscription);
            collected.take(&reply);
        } else {
            kinds.insert(reply.request.0, (reply.kind, reply.error()));
        }
    }
    let expected = [
        (2, Kind::SubmitReply, None),
        (3, Kind::LookupAccountsReply, None),
        (5, Kind::SubmitReply, None),
        (6, Kind::ClusterStatusReply, None),
        (7, Kind::ServerStatusReply, None),
        (8, Kind::LookupAccountsReply, None),
        (9, Kind::Error, Some(ErrorCode::Malformed)),
    ];
    let expected = expected.map(|(request, kind, error)| (request, (kind, error)));
    assert_eq!(kinds, BTreeMap::from(expected), "an Unsubscribe has its subscription's id");
    wire.send_as(subscription, &Unsubscribe::default()).unwrap();
    let end = wire.receive().unwrap();
    assert_eq!(end.open::<UnsubscribeReply>().next_offset.to_native(), 16);
    // It sends nothing more, and a new one begins where it is told to.
    let next = write_records(&mut wire, 0);
    let again = subscribe(&mut wire, Offset(16));
    let mut rest = Collected { next: Offset(16), ..Collected::default() };
    rest.read_to(&mut wire, again, next);
    assert_eq!(rest.next, Offset(16 + RECORDS));
    assert!(rest.entries.len() > HEADER_BYTES + RECORDS as usize * RECORD_BYTES);
    server.stop();
}

#[test]
fn a_position_ahead_of_the_log_waits_for_it() {
    let dir = TestDir::new("feed-ahead");
    let mut server = Launch::new(dir.path()).serve();
    let (mut wire, mut writer) = (server.wire(0), server.wire(0));
    let request = subscribe(&mut wire, Offset(RECORDS + 10));
    let first = write_records(&mut writer, 0);
    wire.wait_at_most(Duration::from_millis(200)).unwrap();
    wire.receive().expect_err("what was asked for is not there yet");
    wire.wait_at_most(PATIENCE).unwrap();
    let second = write_records(&mut writer, 1);
    // The entry that holds the position may begin before it.
    let mut collected = Collected { next: first, ..Collected::default() };
    collected.read_to(&mut wire, request, second);
    server.stop();
}

#[test]
fn every_nodes_feed_shows_what_is_committed_without_a_write_behind_it() {
    let nodes = Nodes::start("feed-nodes", 3, |launch| launch);
    let mut writer = nodes.wire(nodes.leader());
    let mut feeds: Vec<_> = (0..3)
        .map(|node| {
            let mut wire = nodes.wire(node);
            let request = subscribe(&mut wire, Offset(0));
            (wire, request, Collected::default())
        })
        .collect();
    for batch in 0..30 {
        let end = write_records(&mut writer, batch);
        for (wire, request, collected) in &mut feeds {
            collected.read_to(wire, *request, end);
            assert_eq!(collected.next, end);
        }
    }
}
