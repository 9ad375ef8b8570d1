//! Does a write that finds no room wait before it is told to come back, and is nothing lost or
//! repeated either way?

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::entry::ANY_OFFSET;
use walengine_net::frame::Kind;
use walengine_net::message::{Append, AppendHead, ErrorCode, SubmitReply};
use walengine_net::model::Offset;
use walengine_tests::nodes::Nodes;
use walengine_tests::wire::{Reply, Wire};

/// More than a leader accepts while nothing is committed.
const WRITERS: u64 = 24;
const RECORDS: u64 = 1000;
const RECORD_BYTES: usize = 1024;
/// See engine/src/limits.rs.
const ROOM_WITHIN: Duration = Duration::from_millis(500);
/// Nobody else is elected while the followers are paused.
const ELECTION_MILLIS: &str = "20000";

fn write(wire: &mut Wire, writer: u64) -> Reply {
    let id = |record| u128::from(writer * RECORDS + record + 1);
    let head = |record| AppendHead { id: id(record), bytes: RECORD_BYTES as u32 };
    let heads: Vec<_> = (0..RECORDS).map(head).collect();
    let blob = vec![writer as u8; RECORDS as usize * RECORD_BYTES];
    wire.call(&Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &blob }).unwrap()
}

#[test]
fn a_write_waits_for_room_before_it_is_told_to_come_back() {
    let mut nodes = Nodes::start("room", 3, |launch| {
        launch.set("--election-millis", ELECTION_MILLIS).set("--segment-mib", "64")
    });
    let leader = nodes.leader();
    let followers: Vec<_> = (0..3).filter(|node| *node != leader).collect();
    let wires: Vec<_> = (0..WRITERS).map(|_| nodes.wire(leader)).collect();
    for &follower in &followers {
        nodes.pause(follower);
    }
    let (told, refusals) = mpsc::channel();
    let writers = (0..).zip(wires).map(|(writer, mut wire)| {
        let told = told.clone();
        thread::spawn(move || {
            loop {
                let asked = Instant::now();
                let reply = write(&mut wire, writer);
                if reply.error() == Some(ErrorCode::Busy) {
                    told.send(asked.elapsed()).unwrap();
                    continue;
                }
                assert_eq!(reply.kind, Kind::AppendReply, "{:?}", reply.error());
                let reply = reply.open::<SubmitReply<'_>>();
                let outcomes: Vec<_> = reply.outcomes().collect();
                assert!(outcomes.iter().all(|outcome| outcome.verdict.is_ok() && outcome.fresh));
                break outcomes[0].offset.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let first = refusals.recv().unwrap();
    for &follower in &followers {
        nodes.resume(follower);
    }
    let mut offsets: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    for waited in std::iter::once(first).chain(refusals.try_iter()) {
        assert!(waited >= ROOM_WITHIN, "told to come back after {waited:?}");
    }
    offsets.sort_unstable();
    let expected: Vec<_> = (0..WRITERS).map(|batch| Offset(batch * RECORDS)).collect();
    assert_eq!(offsets, expected, "each batch once, whole");
}
