//! Does a look-up cost what it must and no more: each entry once, within its time and its bytes, and
//! nothing once nobody waits for it? Without a socket, on the simulated disk and in virtual time.

use std::time::Duration;

use walengine::budget::Budget;
use walengine::runtime::Runtime as _;
use walengine::session::Handled;
use walengine::session::disk_reads::DiskReads;
use walengine::session::event_reads;
use walengine::session::log_reads::LookUp;
use walengine::session::replies::Replies;
use walengine_net::frame::{FrameHead, Kind, RequestId};
use walengine_net::limits::EVENTS_MAX;
use walengine_net::message::{
    ErrorCode, IdNamespace, LookupTransfers, LookupTransfersReply, NO_OFFSET, Status, StatusReply,
    Submit,
};
use walengine_net::model::{EventId, Transfer};
use walengine_tests::lone_partition::PARTITION;
use walengine_tests::sim::OpClass;

use crate::session::{Connection, Node, account, hello, transfer};

/// Entries of a mebibyte each.
const ENTRIES: u128 = 12;
/// What somebody who asks waits.
const DEADLINE_MILLIS: u32 = 400;
/// A read takes that long at least on a disk that is slow, and ten times as long at most but for stragglers.
const READ_MILLIS_MIN: u32 = 40;
/// By then everything is over that was to be.
const LONG: Duration = Duration::from_mins(1);

/// A node that has all ids in memory: these tests count the reads of entries.
fn node_with_ids() -> Node {
    let node = Node::new();
    node.partition.older_ids().set_recent_max(usize::MAX);
    node
}

/// Writes large entries; one id of each.
fn write_entries(connection: &mut Connection<'_>) -> Vec<u128> {
    for entry in 1..=ENTRIES {
        let events: Vec<_> =
            (0..EVENTS_MAX as u128).map(|id| transfer(100_000 * entry + id, 1)).collect();
        connection.ask(&Submit { events: &events });
    }
    let ids: Vec<_> = (1..=ENTRIES).map(|entry| 100_000 * entry + 77).collect();
    // Indexes the segments, which is done once.
    let found = connection.ask(&LookupTransfers { at_least: NO_OFFSET, ids: &ids });
    assert_eq!(found.open::<LookupTransfersReply<'_>>().states.len(), ids.len());
    ids
}

/// From now on the disk takes a tenth of a second and more for everything.
fn slow_down(node: &Node) {
    node.disk.set_faults(|faults| faults.latency_times = 2000);
}

fn reads(node: &Node) -> u64 {
    node.disk.count(OpClass::Reads)
}

#[test]
fn a_look_up_reads_each_entry_once_whatever_it_asks_for() {
    let node = node_with_ids();
    let mut connection = node.with_accounts();
    let batch: Vec<_> = (0..EVENTS_MAX as u128).map(|id| transfer(100 + id, 1)).collect();
    for number in 0..3 {
        let events: Vec<_> =
            (0..EVENTS_MAX as u128).map(|id| transfer(10_000 * (number + 1) + id, 1)).collect();
        connection.ask(&Submit { events: &events });
    }
    connection.ask(&Submit { events: &batch });
    // Of two entries, in no order, one of them twice, and one that is not known.
    let mut ids: Vec<_> = (0..4000).map(|id| 100 + (id * 7919) % 8190).collect();
    ids.extend([10_000, 77, 18_189, 100]);
    let look = LookupTransfers { at_least: NO_OFFSET, ids: &ids };
    connection.ask(&look); // indexes the segments
    let before = node.disk.count(OpClass::Reads);
    let reply = connection.ask(&look);
    let reads = node.disk.count(OpClass::Reads) - before;
    let states = &reply.open::<LookupTransfersReply<'_>>().states;
    assert_eq!(states.len(), ids.len() - 1);
    for state in states.iter() {
        let id = ids[state.index.to_native() as usize];
        assert_eq!(Transfer::from_bytes(&state.event).id, EventId(id));
    }
    assert!(reads <= 12, "{reads} reads for the records of two entries");
}

#[test]
fn the_verdicts_of_a_whole_batch_are_told_without_a_read() {
    let node = node_with_ids();
    let mut connection = node.with_accounts();
    let ids: Vec<_> = (0..EVENTS_MAX as u128).map(|id| 1000 + id).collect();
    let events: Vec<_> = ids.iter().map(|id| transfer(*id, 1)).collect();
    connection.ask(&Submit { events: &events });
    let before = reads(&node);
    let namespace = IdNamespace::Event as u8;
    let reply = connection.ask(&Status { at_least: NO_OFFSET, namespace, ids: &ids });
    let states = &reply.open::<StatusReply<'_>>().states;
    assert_eq!(states.iter().filter(|state| state.known == 1).count(), ids.len());
    assert_eq!(reads(&node), before);
}

#[test]
fn a_look_up_ends_with_its_deadline_while_it_reads() {
    let node = node_with_ids();
    let ids = write_entries(&mut node.with_accounts());
    let budget = Budget::new(100 << 20);
    let mut connection = node.connect_within(&budget);
    connection.ask(&hello());
    let look = LookupTransfers { at_least: NO_OFFSET, ids: &ids };
    slow_down(&node);
    let before = reads(&node);
    assert_eq!(connection.say_within(DEADLINE_MILLIS, &look), Handled::Here);
    node.wait(LONG);
    assert_eq!(connection.answer().error(), Some(ErrorCode::DeadlineExceeded));
    let read = reads(&node) - before;
    let most = u64::from(DEADLINE_MILLIS / READ_MILLIS_MIN) + 1;
    assert!(most < ids.len() as u64, "the rest would be read in vain");
    assert!((1..=most).contains(&read), "{read} reads in its time");
    assert_eq!((budget.used(), connection.outbox.unanswered()), (0, 0));
    // The time that it takes is there.
    assert_eq!(connection.say_within(60_000, &look), Handled::Here);
    node.wait(LONG);
    assert_eq!(connection.answer().error(), None);
}

/// The fault: it waited without a bound for what was decided and not durable, and held its memory.
#[test]
fn a_look_up_ends_with_its_deadline_while_it_waits_for_the_log() {
    let node = node_with_ids();
    let mut writer = node.with_accounts();
    writer.ask(&Submit { events: &[transfer(9, 1)] });
    let mut connection = node.greeted();
    node.disk.set_faults(|faults| faults.latency_times = 100_000);
    assert_eq!(writer.say(&Submit { events: &[account(3)] }), Handled::Here);
    let look = LookupTransfers { at_least: NO_OFFSET, ids: &[9] };
    assert_eq!(connection.say_within(DEADLINE_MILLIS, &look), Handled::Here);
    node.wait(Duration::from_millis(u64::from(DEADLINE_MILLIS) - 100));
    assert!(connection.answers_now().is_empty());
    node.wait(Duration::from_millis(200));
    let replies = connection.answers_now();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].error(), Some(ErrorCode::DeadlineExceeded));
    assert!(writer.answers_now().is_empty(), "it is not durable yet");
}

/// The fault: what it had waited for a state did not count against its deadline.
#[test]
fn a_deadline_counts_from_when_a_request_came() {
    let node = node_with_ids();
    let mut writer = node.with_accounts();
    let ids = write_entries(&mut writer);
    let mut connection = node.greeted();
    let next = node.partition.visible_offset().0;
    let look = LookupTransfers { at_least: next, ids: &ids };
    assert_eq!(connection.say_within(DEADLINE_MILLIS, &look), Handled::Here);
    node.wait(Duration::from_millis(u64::from(DEADLINE_MILLIS) * 3 / 4));
    let before = reads(&node);
    assert_eq!(writer.say(&Submit { events: &[account(3)] }), Handled::Here);
    while writer.answers_now().is_empty() {
        node.wait(Duration::from_micros(50));
    }
    slow_down(&node);
    node.wait(Duration::from_millis(u64::from(DEADLINE_MILLIS) / 4));
    let in_time = reads(&node);
    node.wait(LONG);
    let replies = connection.answers_now();
    let (read, late) = (in_time - before, reads(&node) - in_time);
    assert!(late <= 1, "{read} reads in time and {late} after: one entry was being read");
    assert_eq!(replies.len(), 1, "it is answered");
    assert_eq!(replies[0].error(), Some(ErrorCode::DeadlineExceeded));
}

#[test]
fn a_look_up_ends_when_its_client_is_gone() {
    let node = node_with_ids();
    let mut writer = node.with_accounts();
    let ids = write_entries(&mut writer);
    let budget = Budget::new(100 << 20);
    for waits in [false, true] {
        let mut connection = node.connect_within(&budget);
        connection.ask(&hello());
        slow_down(&node);
        if waits {
            assert_eq!(writer.say(&Submit { events: &[account(3)] }), Handled::Here);
        }
        let before = reads(&node);
        let look = LookupTransfers { at_least: NO_OFFSET, ids: &ids };
        assert_eq!(connection.say_within(60_000, &look), Handled::Here);
        node.wait(Duration::from_millis(1));
        assert!(budget.used() > 0);
        connection.outbox.end();
        node.wait(if waits { Duration::from_millis(1) } else { LONG });
        let read = reads(&node) - before;
        assert!(read <= 2, "{read} reads for nobody: one entry was being read");
        assert_eq!((budget.used(), connection.outbox.unanswered()), (0, 0));
        node.disk.set_faults(|faults| faults.latency_times = 1);
    }
}

#[test]
fn a_look_up_that_would_read_too_much_is_told_so() {
    let node = node_with_ids();
    let mut connection = node.with_accounts();
    let ids = write_entries(&mut connection);
    let replies = Replies {
        partition: node.partition.clone(),
        node: node.facts.clone(),
        outbox: connection.outbox.clone(),
    };
    let runtime = node.executor.runtime();
    let before = reads(&node);
    for (read_bytes_max, error) in [(3 << 20, Some(ErrorCode::TooLarge)), (64 << 20, None)] {
        let head = FrameHead::reply(PARTITION, RequestId(99));
        let look_up = LookUp { by: runtime.elapsed() + LONG, read_bytes_max };
        let disk = DiskReads::new(1);
        let kind = Kind::LookupTransfersReply;
        let asking = event_reads::answer(&replies, &disk, kind, head, &ids, look_up, None);
        node.executor.block_on(asking).unwrap();
        let answers = connection.answers_now();
        assert_eq!((answers.len(), answers[0].error()), (1, error));
        if error.is_some() {
            let read = reads(&node) - before;
            assert!((1..=8).contains(&read), "{read} reads for three mebibytes");
        }
    }
}
