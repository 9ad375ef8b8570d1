//! The state at one offset, written out piece by piece while the ledger goes on.
//!
//! Accounts and open reservations are shared with the ledger chunk by chunk; the ledger copies a
//! chunk before it writes to it. Ids are only ever added, so they are read from the live table in
//! order of hash, without those decided at or after the cut.
//!
//! A snapshot is a sequence of chunks, each complete in itself, all numbers little-endian. The
//! store adds checksums.
//!
//! | at | bytes | field of every chunk |
//! |---|---|---|
//! | 0 | 4 | magic, "WALS" |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | section: 1 head, 2 accounts, 3 reservations, 4 ids, 5 end |
//! | 8 | 4 | number of items |
//! | 12 | 4 | zero |
//! | 16 | | items |
//!
//! Sections come in order of number: one head, any number of chunks of 2, 3 and 4, one end. The end
//! has one item, the same as the head.
//!
//! | item | bytes | fields |
//! |---|---|---|
//! | head, end | 48 | partition u16, partitions u16, zero u32, next offset u64, last timestamp u64, accounts u64, reservations u64, ids u64 |
//! | account | 128 | FORMAT.md, section 3, in order of creation |
//! | reservation | 64 | id u128, amount u128, expires at u64 (2^64 - 1: never), offset u64, debit and credit account u32 (counted from 0), code u16, zero |
//! | id | 32 | id u128, fingerprint u64, u64 of: bits 0–47 offset, 48–55 verdict, 56 account, 57–59 state of a reservation |
//!
//! Bits 57–59 of an id may be newer than the cut; section 3 says which reservations are open. The
//! fingerprint is `XXH3` (64 bits) of the event's 128 bytes; of an opaque record, `XXH3` of its
//! bytes seeded with that of id, expected offset and length.

use walengine_net::model::{Account, EVENT_BYTES, Offset, Timestamp};

use super::Ledger;
use super::digest::PENDING_BYTES;
use super::ids::SLOT_BYTES;
use super::pendings::Pending;
use super::slab::Slab;

/// First four bytes of every chunk.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"WALS");
/// Version of the chunks that this code writes.
pub(super) const VERSION: u16 = 1;
/// Bytes before a chunk's items.
pub(super) const CHUNK_HEADER_BYTES: usize = 16;
/// Smallest chunk that can be asked for in bytes.
const CHUNK_BYTES_MIN: usize = 4096;
/// Size of the head's item in bytes.
pub(super) const HEAD_BYTES: usize = 48;

/// Part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(super) enum Section {
    Head = 1,
    Accounts = 2,
    Pendings = 3,
    Ids = 4,
    End = 5,
}

/// Position and size of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotHead {
    pub partition: u16,
    pub partitions: u16,
    pub next_offset: u64,
    pub last_timestamp: u64,
    pub accounts: u64,
    pub pendings: u64,
    pub ids: u64,
}

impl SnapshotHead {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..2].copy_from_slice(&self.partition.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.partitions.to_le_bytes());
        let words = [self.next_offset, self.last_timestamp, self.accounts, self.pendings, self.ids];
        for (word, place) in words.into_iter().zip(bytes[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A snapshot that is being written. Only the newest cut of a ledger can be continued.
///
/// It is cut at the tail, and valid once everything below [`SnapshotCut::next_offset`] is
/// committed.
pub struct SnapshotCut {
    head: SnapshotHead,
    accounts: Slab<Account>,
    pendings: Slab<Pending>,
    number: u64,
    section: Option<Section>,
    /// Next slot, or next hash; 2^64 after the last.
    next: u128,
}

impl Ledger {
    /// Cuts a snapshot at the tail. An older cut that is still being written becomes void.
    pub fn snapshot(&mut self) -> SnapshotCut {
        SnapshotCut {
            head: SnapshotHead {
                partition: self.partition.0,
                partitions: self.partitions,
                next_offset: self.next_offset,
                last_timestamp: self.last_timestamp,
                accounts: u64::from(self.accounts.slab.len()),
                pendings: self.pendings.len() as u64,
                ids: self.ids.len() as u64,
            },
            accounts: self.accounts.slab.clone(),
            pendings: self.pendings.slab.clone(),
            number: self.undo.cut(),
            section: Some(Section::Head),
            next: 0,
        }
    }
}

impl SnapshotCut {
    /// The snapshot holds all records below this.
    pub fn next_offset(&self) -> Offset {
        Offset(self.head.next_offset)
    }

    /// Log time of the newest record that it holds.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.head.last_timestamp)
    }

    /// All chunks were returned.
    pub fn is_complete(&self) -> bool {
        self.section.is_none()
    }

    /// True while the cut can be continued: nothing that it holds was undone, and no newer cut was
    /// made.
    pub fn holds(&self, ledger: &Ledger) -> bool {
        ledger.undo.hold(self.number, self.head.next_offset)
    }

    /// The next chunk, of at most `max_bytes` (or 4 KiB, if that is more). `None` after the last
    /// one, see [`SnapshotCut::is_complete`], and when the snapshot no longer
    /// [`holds`](Self::holds) and must be discarded. `ledger` is the one that was cut; it may have
    /// changed meanwhile.
    pub fn next_chunk(&mut self, ledger: &Ledger, max_bytes: usize) -> Option<Vec<u8>> {
        if !self.holds(ledger) {
            return None;
        }
        let bytes_max = max_bytes.max(CHUNK_BYTES_MIN) - CHUNK_HEADER_BYTES;
        let mut items = Vec::new();
        loop {
            let section = self.section?;
            let item_bytes = match section {
                Section::Head | Section::End => {
                    items.extend_from_slice(&self.head.to_bytes());
                    self.next = u128::MAX;
                    HEAD_BYTES
                }
                Section::Accounts => {
                    let accounts = self.accounts.iter_from(self.next as u32);
                    for account in accounts.take(bytes_max / EVENT_BYTES) {
                        items.extend_from_slice(&account.to_bytes());
                        self.next += 1;
                    }
                    EVENT_BYTES
                }
                Section::Pendings => {
                    for pending in self.pendings.iter_from(self.next as u32) {
                        if items.len() + PENDING_BYTES > bytes_max {
                            break;
                        }
                        self.next += 1;
                        if pending.id != 0 {
                            items.extend_from_slice(&pending.to_bytes());
                        }
                    }
                    PENDING_BYTES
                }
                Section::Ids => {
                    self.next = ids_chunk(ledger, &self.head, self.next, bytes_max, &mut items);
                    SLOT_BYTES
                }
            };
            if self.next >= self.section_end(section) {
                (self.section, self.next) = (following(section), 0);
                self.let_go(section);
            }
            if !items.is_empty() {
                return Some(chunk(section, item_bytes, &items));
            }
        }
    }

    /// Stops sharing a section that is written, so that the ledger need not copy it any more.
    fn let_go(&mut self, written: Section) {
        match written {
            Section::Accounts => self.accounts = Slab::new(),
            Section::Pendings => self.pendings = Slab::new(),
            Section::Head | Section::Ids | Section::End => {}
        }
    }

    fn section_end(&self, section: Section) -> u128 {
        match section {
            Section::Head | Section::End => 0,
            Section::Accounts => u128::from(self.accounts.len()),
            Section::Pendings => u128::from(self.pendings.len()),
            Section::Ids => 1 << 64,
        }
    }
}

fn following(section: Section) -> Option<Section> {
    match section {
        Section::Head => Some(Section::Accounts),
        Section::Accounts => Some(Section::Pendings),
        Section::Pendings => Some(Section::Ids),
        Section::Ids => Some(Section::End),
        Section::End => None,
    }
}

fn chunk(section: Section, item_bytes: usize, items: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(CHUNK_HEADER_BYTES + items.len());
    chunk.extend_from_slice(&MAGIC.to_le_bytes());
    chunk.extend_from_slice(&VERSION.to_le_bytes());
    chunk.extend_from_slice(&(section as u16).to_le_bytes());
    chunk.extend_from_slice(&((items.len() / item_bytes) as u32).to_le_bytes());
    chunk.extend_from_slice(&[0; 4]);
    chunk.extend_from_slice(items);
    chunk
}

/// Appends ids below the cut from the hash `from` on, about as many as fit. Returns the hash to
/// continue from. Covers the share of all hashes that held that many ids at the cut, however many
/// there are now. More ids than fit have one and the same hash only if somebody made them so; then
/// the chunk is longer.
fn ids_chunk(
    ledger: &Ledger,
    head: &SnapshotHead,
    from: u128,
    bytes_max: usize,
    items: &mut Vec<u8>,
) -> u128 {
    let fit = (bytes_max / SLOT_BYTES * 7 / 8).max(1) as u128; // leaves room for chance
    let share = (fit << 64) / u128::from(head.ids.max(1));
    let end = from.saturating_add(share.max(1)).min(1 << 64);
    let mut next = from;
    while next < end {
        let whole = items.len();
        let first = next as u64; // below 2^64
        let mut to = end.min(ledger.ids.part_end(first));
        loop {
            let slots = ledger.ids.range(first, to);
            for slot in slots.filter(|slot| slot.offset() < head.next_offset) {
                items.extend_from_slice(&slot.to_bytes());
            }
            if items.len() <= bytes_max || whole == 0 && to - next == 1 {
                break;
            }
            items.truncate(whole);
            if whole > 0 {
                return next;
            }
            to = next + (to - next) / 2;
        }
        next = to;
    }
    next
}
