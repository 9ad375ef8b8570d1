//! Entries from a disk or a peer, through the codec and into a ledger. Also checks that a second
//! ledger derives every decision of the first.

use std::hash::{DefaultHasher, Hash, Hasher};

use walengine::ledger::{Draft, Ledger, RecordsDraft};
use walengine::partition::restore;
use walengine_net::entry::{
    self, EntryKind, HEADER_BYTES, RecordHead, access_events, access_records,
};
use walengine_net::message::Entries;
use walengine_net::model::{EventBytes, PartitionId, Timestamp};
use walengine_tests::log_oracle::encode;

use crate::Fuzz;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// Replays inputs into an empty ledger.
#[derive(Default)]
pub struct Replica;

impl Fuzz for Replica {
    fn take(&mut self, input: &[u8]) -> u64 {
        let mut signature = DefaultHasher::new();
        let mut ledger = Ledger::new(PartitionId(0), 1);
        let (mut leader, mut follower) = (ledger_of_one(), ledger_of_one());
        let mut follows = true;
        for entry in Entries::new(input) {
            let (header, body) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    std::mem::discriminant(&error).hash(&mut signature);
                    break;
                }
            };
            (header.meta.kind as u16).hash(&mut signature);
            let _ = header.follows(header.chain, body);
            follows = follows && {
                let applied = restore::apply(&mut ledger, &header, body);
                applied.as_ref().err().map(|fatal| fatal.reason as u8).hash(&mut signature);
                applied.is_ok()
            };
            match header.meta.kind {
                EntryKind::Events => {
                    if let Ok(body) = access_events(body) {
                        decide_events(&mut leader, &mut follower, &body.events, &mut signature);
                    }
                }
                EntryKind::Records => {
                    if let Ok(body) = access_records(body) {
                        let heads: Vec<RecordHead> = body
                            .heads
                            .iter()
                            .map(|head| RecordHead {
                                id: head.id.to_native(),
                                expected_offset: head.expected_offset.to_native(),
                                bytes: head.bytes.to_native(),
                            })
                            .collect();
                        decide_records(&mut leader, &mut follower, &heads, &body.blob);
                    }
                }
                EntryKind::Blank | EntryKind::Membership => {}
            }
        }
        signature.finish()
    }

    fn repair(input: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(header) = input.get(at..at + HEADER_BYTES) {
            let wanted = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
            let body = wanted.min((input.len() - at - HEADER_BYTES) as u32);
            input[at..at + 4].copy_from_slice(&entry::MAGIC.to_le_bytes());
            input[at + 8..at + 10].copy_from_slice(&entry::FORMAT_VERSION.to_le_bytes());
            input[at + 12..at + 16].copy_from_slice(&body.to_le_bytes());
            input[at + 74..at + 76].fill(0);
            input[at + 120..at + 128].fill(0);
            let end = at + HEADER_BYTES + body as usize;
            let crc = crc32c::crc32c(&input[at + 8..end]);
            input[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

fn ledger_of_one() -> Ledger {
    Ledger::new(PartitionId(0), 1)
}

/// A leader decides, a follower derives the same.
fn decide_events(
    leader: &mut Ledger,
    follower: &mut Ledger,
    events: &[EventBytes],
    signature: &mut DefaultHasher,
) {
    let (mut draft, mut outcomes) = (Draft::new(), Vec::new());
    leader.submit(events, &mut draft, NOW, &mut outcomes);
    assert_eq!(outcomes.len(), events.len(), "one outcome for each event");
    outcomes.iter().take(4).for_each(|outcome| outcome.verdict.hash(signature));
    if draft.is_empty() {
        return;
    }
    let (offset, time) = (draft.base_offset, draft.timestamp);
    let bytes = encode(&draft.take());
    let body = access_events(&bytes).expect("a leader's own body opens");
    let applied = follower.apply_events(offset, time, body);
    assert!(applied.is_ok(), "a follower disagrees: {applied:?}");
    assert_eq!(leader.next_offset(), follower.next_offset());
}

fn decide_records(leader: &mut Ledger, follower: &mut Ledger, heads: &[RecordHead], blob: &[u8]) {
    let (mut draft, mut outcomes) = (RecordsDraft::new(), Vec::new());
    leader.append_records(heads, blob, &mut draft, NOW, &mut outcomes);
    assert_eq!(outcomes.len(), heads.len(), "one outcome for each record");
    if draft.is_empty() {
        return;
    }
    let (offset, time) = (draft.base_offset, draft.timestamp);
    let bytes = encode(&draft.take());
    let body = access_records(&bytes).expect("a leader's own body opens");
    let applied = follower.apply_records(offset, time, body);
    assert!(applied.is_ok(), "a follower disagrees: {applied:?}");
}
