//! Do subscriptions get the whole log once and in order, near its end and far behind it, without
//! delaying anybody?

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::entry::{ANY_OFFSET, ChainHash, HEADER_BYTES};
use walengine_net::frame::{self, FrameHead, FrameHeader, Kind, RequestId};
use walengine_net::limits::{CREDIT_BYTES_MAX, SUBSCRIPTIONS_MAX};
use walengine_net::message::{
    Append, AppendHead, ClusterStatus, Credit, Entries, ErrorCode, Freshness, LogPage,
    LookupAccounts, ReadEntries, ReadLog, ServerStatus, Submit, SubmitReply, Subscribe,
    Unsubscribe, UnsubscribeReply,
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

/// Those of the entries that have records; a page of the log need not have the others.
fn with_records(entries: &[u8]) -> Vec<u8> {
    let (mut rest, mut kept) = (entries, Vec::new());
    for entry in Entries::new(entries) {
        let (header, _) = entry.unwrap();
        let (one, behind) = rest.split_at(header.entry_bytes());
        if header.meta.records > 0 {
            kept.extend_from_slice(one);
        }
        rest = behind;
    }
    kept
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
    let (fast_records, slow_records) = (with_records(&fast.entries), with_records(&slow.entries));
    assert!(fast_records == log && slow_records == log, "both got what the log holds");
    // Both are at the end now: what comes next reaches them without a read.
    let (mut fast, mut last) = (fast, Offset(0));
    for batch in BATCHES..BATCHES + 5 {
        last = write_records(&mut writer, batch);
        fast.read_to(&mut near, near_request, last);
        slow.read_to(&mut far, far_request, last);
    }
    assert!(fast.entries == slow.entries && fast.next == last);
    let bytes = with_records(&fast.entries).len();
    assert_eq!(bytes, log.len() + 5 * log.len() / BATCHES as usize);
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

/// Follows the chain of hashes through entries, from the first one on.
#[derive(Default)]
struct Chain {
    index: u64,
    hash: ChainHash,
    blanks: usize,
}

impl Chain {
    fn follow(&mut self, entries: &[u8]) {
        for entry in Entries::new(entries) {
            let (header, body) = entry.unwrap();
            assert_eq!(header.meta.index, self.index + 1, "no entry is left out or comes twice");
            assert!(header.follows(self.hash, body), "entry {}", header.meta.index);
            (self.index, self.hash) = (header.meta.index, header.chain);
            self.blanks += usize::from(header.meta.records == 0);
        }
    }
}

/// Reads entries by index, from the first one on, in pages of so many bytes.
fn chain_by_index(wire: &mut Wire, bytes_max: u32) -> Chain {
    let mut chain = Chain::default();
    loop {
        let at_least = Freshness::Any.number();
        let from_index = chain.index + 1;
        let reply = wire.call(&ReadEntries { at_least, from_index, bytes_max }).unwrap();
        assert_eq!(reply.kind, Kind::EntriesPage, "{:?}", reply.error());
        let page = reply.open::<LogPage<'_>>();
        if page.entries.is_empty() {
            return chain;
        }
        chain.follow(&page.entries);
    }
}

#[test]
fn the_chain_can_be_followed_from_the_first_entry_on_and_over_restarts() {
    let dir = TestDir::new("feed-chain");
    let mut server = Launch::new(dir.path()).serve();
    let mut end = Offset(0);
    for start in 0..3 {
        let mut wire = server.wire(0);
        for batch in 0..4 {
            end = write_records(&mut wire, 10 * start + batch);
        }
        server.stop();
        server = Launch::new(dir.path()).serve();
    }
    // A subscription from the start, in small steps, and one that began before the last restart's end.
    let mut wire = server.wire(0);
    let request = wire.send(&Subscribe { from: 0, credit_bytes: 1 }).unwrap();
    let (mut collected, mut chain) = (Collected::default(), Chain::default());
    while collected.next < end {
        let reply = wire.receive().unwrap();
        let before = collected.entries.len();
        collected.take(&reply);
        chain.follow(&collected.entries[before..]);
        wire.send_as(request, &Credit { bytes: (collected.entries.len() - before) as u64 })
            .unwrap();
    }
    // What comes now is behind the blank entry of this start.
    let mut writer = server.wire(0);
    for batch in 100..103 {
        end = write_records(&mut writer, batch);
        while collected.next < end {
            let reply = wire.receive().unwrap();
            let before = collected.entries.len();
            collected.take(&reply);
            chain.follow(&collected.entries[before..]);
            let bytes = (collected.entries.len() - before) as u64;
            wire.send_as(request, &Credit { bytes }).unwrap();
        }
    }
    assert!(chain.blanks >= 3, "{} entries without records", chain.blanks);
    for bytes_max in [1, 300, 1 << 20] {
        let by_index = chain_by_index(&mut writer, bytes_max);
        assert_eq!((by_index.index, by_index.hash), (chain.index, chain.hash));
        assert_eq!(by_index.blanks, chain.blanks);
    }
    server.stop();
}

#[test]
fn an_error_is_the_last_frame_of_a_subscription() {
    let dir = TestDir::new("feed-errors");
    let mut server = Launch::new(dir.path()).serve();
    let (mut wire, mut writer) = (server.wire(0), server.wire(0));
    let mut next = write_records(&mut writer, 0);
    // A second one with a living id, too much credit in one frame, and a body that is none.
    for wrong in 0..3 {
        let request = subscribe(&mut wire, Offset(0));
        let mut collected = Collected::default();
        collected.read_to(&mut wire, request, next);
        let code = match wrong {
            0 => {
                let again = Subscribe { from: 0, credit_bytes: CREDIT_BYTES };
                wire.send_as(request, &again).unwrap();
                ErrorCode::Malformed
            }
            1 => {
                wire.send_as(request, &Credit { bytes: CREDIT_BYTES_MAX + 1 }).unwrap();
                ErrorCode::TooLarge
            }
            _ => {
                let head = FrameHead::reply(PartitionId(0), request);
                let kind = Kind::Credit.number();
                let header = FrameHeader { crc: 0, kind, flags: 0, body_bytes: 3, head };
                let mut bytes = header.to_bytes().to_vec();
                bytes.extend_from_slice(&[1; 3]);
                frame::seal(&mut bytes, request, 0);
                wire.send_bytes(&bytes).unwrap();
                ErrorCode::Malformed
            }
        };
        let reply = wire.receive().unwrap();
        assert_eq!((reply.request, reply.error()), (request, Some(code)), "case {wrong}");
        // It is over: nothing comes of what is written next, nor of credit, which has no answer.
        wire.send_as(request, &Credit { bytes: CREDIT_BYTES }).unwrap();
        next = write_records(&mut writer, wrong + 1);
        let reply = wire.call(&ServerStatus::default()).unwrap();
        assert_eq!(reply.kind, Kind::ServerStatusReply, "case {wrong}");
    }
    // Credit past what may be unused is dropped, and the subscription goes on.
    let request = subscribe(&mut wire, Offset(0));
    for _ in 0..3 {
        wire.send_as(request, &Credit { bytes: CREDIT_BYTES_MAX }).unwrap();
    }
    Collected::default().read_to(&mut wire, request, next);
    server.stop();
}

#[test]
fn a_connection_has_so_many_subscriptions_and_one_more_is_told() {
    let dir = TestDir::new("feed-many");
    let mut server = Launch::new(dir.path()).serve();
    let mut wire = server.wire(0);
    let requests: Vec<_> =
        (0..SUBSCRIPTIONS_MAX).map(|_| subscribe(&mut wire, Offset(0))).collect();
    let more = subscribe(&mut wire, Offset(0));
    let reply = wire.receive().unwrap();
    assert_eq!((reply.request, reply.error()), (more, Some(ErrorCode::TooLarge)));
    wire.send_as(requests[0], &Unsubscribe::default()).unwrap();
    assert_eq!(wire.receive().unwrap().kind, Kind::UnsubscribeReply);
    let again = subscribe(&mut wire, Offset(0));
    let mut writer = server.wire(0);
    write_records(&mut writer, 0);
    let mut fed: Vec<_> = (0..SUBSCRIPTIONS_MAX).map(|_| wire.receive().unwrap()).collect();
    fed.retain(|reply| reply.kind == Kind::Feed);
    assert_eq!(fed.len(), SUBSCRIPTIONS_MAX, "each living one has its page");
    assert!(fed.iter().any(|reply| reply.request == again));
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
    // Long, so that a busy machine ends no leadership.
    let nodes = Nodes::start("feed-nodes", 3, |launch| launch.set("--election-millis", "6000"));
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
