//! Does decoding a frame take no more memory than a small multiple of its length?

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use openraft::EntryPayload;
use walengine_net::entry::BODY_BYTES_MAX as ENTRY_BODY_BYTES_MAX;
use walengine_replication::peer::limits::APPEND_ENTRIES_MAX;
use walengine_replication::peer::{Kind, Message, frame};
use walengine_replication::types::{Entry, LogId, Member, Membership};

use crate::random::{Random, append_of, batch_entry, largest};
use crate::support::{HEADER, encoded, head, head_of, put, reseal};

/// Bytes of memory for each byte of a frame. Measured: 14, for entries with a membership of one
/// node.
const FACTOR: usize = 16;
/// For a frame without a body.
const BASE_BYTES: usize = 1024;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: everything is passed to `System` as it came; counting allocates nothing, because the
// cells are constants without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is `System`'s, which made the pointer.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most memory that was held at any time while `bytes` were decoded.
fn peak_bytes(bytes: &[u8]) -> (usize, Result<Message, String>) {
    let before = LIVE.get();
    PEAK.set(before);
    let opened = frame::peek(bytes).map(|frame| frame.unwrap().open());
    let peak = PEAK.get() - before;
    let opened = match opened {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    (usize::try_from(peak).unwrap(), opened)
}

fn assert_bounded(bytes: &[u8]) -> usize {
    let (peak, opened) = peak_bytes(bytes);
    let bound = FACTOR * bytes.len() + BASE_BYTES;
    assert!(peak <= bound, "{peak} bytes for a frame of {}: {opened:?}", bytes.len());
    peak
}

#[test]
fn a_frame_gets_a_small_multiple_of_its_length() {
    let mut random = Random::new();
    let mut messages: Vec<_> = (0..100)
        .flat_map(|_| Kind::ALL)
        .map(|&kind| random.message(kind))
        .chain(largest())
        .collect();
    // Small memberships take the most memory for their length.
    let member = |index: usize| {
        let nodes = [(1, Member::at(String::new()))];
        let membership = Membership::new(vec![[1].into()], std::collections::BTreeMap::from(nodes));
        Entry {
            log_id: LogId::new_term_index(1, index as u64),
            payload: EntryPayload::Membership(membership.unwrap()),
        }
    };
    messages.push(append_of((1..=APPEND_ENTRIES_MAX).map(member).collect()));
    for message in messages {
        assert_bounded(&encoded(head_of(&message), &message));
    }
}

/// A body is copied once; everything else is small.
#[test]
fn the_body_of_a_batch_is_copied_once() {
    let bytes = encoded(head(0), &append_of(vec![batch_entry(1, ENTRY_BODY_BYTES_MAX)]));
    let peak = assert_bounded(&bytes);
    assert!(peak < ENTRY_BODY_BYTES_MAX + 4096, "{peak} bytes");
    assert!(peak >= ENTRY_BODY_BYTES_MAX, "nothing was counted: {peak} bytes");
}

#[test]
fn what_is_only_promised_gets_nothing() {
    let count_at = HEADER + 17 + 17 + 17;
    let body_at = count_at + 4 + 18 + 28;
    for (at, promised) in [(count_at, APPEND_ENTRIES_MAX), (body_at, ENTRY_BODY_BYTES_MAX)] {
        let mut bytes = encoded(head(0), &append_of(vec![batch_entry(1, 8)]));
        put(&mut bytes, at, &(promised as u32).to_le_bytes());
        reseal(&mut bytes);
        let (peak, opened) = peak_bytes(&bytes);
        assert!(opened.is_err());
        assert!(peak < 512, "{peak} bytes for a promise");
    }
}
