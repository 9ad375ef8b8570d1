//! The state at one offset, written out piece by piece while the ledger goes on.
//!
//! Accounts and open reservations are shared with the ledger chunk by chunk; the ledger copies a
//! chunk before it writes to it. The newest ids are read from the live ledger, up to those decided at the cut: until
//! they are written ([`SnapshotCut::reads_ids`]), none may go into a run. So they come before what may be much.
//! Older ids are in runs, which are files of their own; the snapshot says which.
//!
//! A snapshot is a sequence of chunks, each complete in itself, all numbers little-endian. The
//! store adds checksums.
//!
//! | at | bytes | field of every chunk |
//! |---|---|---|
//! | 0 | 4 | magic, "WALS" |
//! | 4 | 2 | version, 5 |
//! | 6 | 2 | section: 1 head, 2 runs, 3 newest ids, 4 accounts, 5 reservations, 6 from other partitions, 7 names, 8 described ledgers, 9 end |
//! | 8 | 4 | number of items |
//! | 12 | 4 | zero |
//! | 16 | | items |
//!
//! Sections come in order of number: one head, any number of chunks of 2 to 8, one end. The end
//! has one item, the same as the head. Up to version 4 there were no names, no described ledgers and no number of them in
//! the head, and the end was section 7. Version 2 had no section 6, and its end was section 6. Up to version 3 a
//! reservation had 72 bytes: nothing was named.
//!
//! | item | bytes | fields |
//! |---|---|---|
//! | head, end | 104 | partition u16, partitions u16, items of section 6 u32, next offset u64, last timestamp u64, accounts u64, reservations u64, ids u64 (all that were ever decided), keys in section 3 u64, runs u64, digest of the ids u128, an event id that none in a run is above u128, names u32, described ledgers u32 |
//! | run | 16 | first offset u64, offset behind the last u64; adjacent, from 0 on |
//! | id | 32 | in order of offset: id u128, fingerprint u64, u64 of: bits 0–47 offset, 48–55 code, 56–57 space |
//! | account | 128 | FORMAT.md, section 3, in order of creation |
//! | reservation | 88 | id u128, amount u128, expires at u64 (2^64 - 1: never), offset u64, debit and credit account u32 (counted from 0), code u16, one more than the other partition that it spans u16 (0: none), how it stands u8, its chain u8, zero, what is named u128, fingerprint u64 |
//! | from another partition | 48 | its number u16, verdict u8, zero, place u64, id u128, amount u128: the place of its last arrival (id and amount zero, verdict 255), or a word that it may not know; behind the word on the end of a reservation that one again, as id, with verdict 254 and no amount; ascending |
//! | name | 96 | account u128, name of 80 bytes, which may be none; in the order in which accounts were first named |
//! | described ledger | 88 | ledger u32, scale u8, zero, name of 80 bytes; ascending |
//!
//! How a reservation stands: 0 open; 1 a transfer in doubt; 2 a reservation in doubt; 3 open, and an end of it is in
//! doubt; 4 a posting in doubt; 5 ended, which the other partition may not know; 6 the side here of another partition's;
//! 7 an event of a chain in doubt that changes nothing here, whose accounts are 0; 8 a voiding in doubt; 9 an event of
//! another partition's chain that was handed on; 10 the same, which will be 6; 11 the same, which changes nothing here, and whose
//! accounts are 0; 12 its outcome, which the partition before may not know. What is named is, of a reservation whose home this is
//! and that spans partitions, the account elsewhere; of an end in doubt, the reservation; of 9 to 12 where it has come from: place
//! u64, home of the chain u16, partition before u16, zero. Its chain: bit 0, the next record is of the same one, which is in doubt;
//! bit 1, the record before is; bit 2, a reservation that does not span was in doubt with its chain; bit 3, the next partition has
//! handed it on; of 11: bit 4, it may come to less; bit 5, it ends a reservation.
//!
//! Spaces: 0 events, 1 accounts, 2 what became of a reservation, or of what was in doubt; there the code is 2 posted, 3
//! voided, 4 expired, 5 accepted by another partition, or the verdict by which that has refused it, the
//! offset that of the record that ended it, and the fingerprint 0. Elsewhere the code is the verdict. The
//! fingerprint is `XXH3` (64 bits) of the event's 128 bytes; of an opaque record, `XXH3` of its
//! bytes seeded with that of id, expected offset and length.

use walengine_net::model::{Account, EVENT_BYTES, Offset, Timestamp};

use super::Ledger;
use super::inbound::ACROSS_ITEM_BYTES;
use super::names::{LEDGER_ITEM_BYTES, NAME_ITEM_BYTES, Named};
use super::pendings::{PENDING_ITEM_BYTES, Pending};
use super::set::Set;
use super::slab::Slab;
use super::slot::SLOT_BYTES;
use crate::ids::RunRange;

/// First four bytes of every chunk.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"WALS");
/// Version of the chunks that this code writes.
pub(super) const VERSION: u16 = 5;
/// The one before, in which nothing has a name.
pub(super) const VERSION_NAMELESS: u16 = 4;
/// The one before that, in which reservations name nothing.
pub(super) const VERSION_UNNAMED: u16 = 3;
/// The one before that, which says nothing of other partitions.
pub(super) const VERSION_ALONE: u16 = 2;
/// Bytes before a chunk's items.
pub(super) const CHUNK_HEADER_BYTES: usize = 16;
/// Smallest chunk that can be asked for in bytes.
const CHUNK_BYTES_MIN: usize = 4096;
/// Size of the head's item in bytes.
pub(super) const HEAD_BYTES: usize = 104;
/// The same before there were names.
pub(super) const NAMELESS_HEAD_BYTES: usize = 96;
/// Size of a run's item in bytes.
pub(super) const RUN_ITEM_BYTES: usize = 16;

/// Part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(super) enum Section {
    Head = 1,
    Runs = 2,
    Ids = 3,
    Accounts = 4,
    Pendings = 5,
    Across = 6,
    Names = 7,
    Ledgers = 8,
    End = 9,
}

/// Position and size of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotHead {
    pub partition: u16,
    pub partitions: u16,
    /// Items of section 6.
    pub across: u32,
    pub next_offset: u64,
    pub last_timestamp: u64,
    pub accounts: u64,
    pub pendings: u64,
    /// Those in section 3.
    pub recent: u64,
    pub runs: u64,
    /// All that were ever decided.
    pub ids: Set,
    pub older_id_max: u128,
    /// Items of section 7.
    pub names: u32,
    /// Items of section 8.
    pub ledgers: u32,
}

impl SnapshotHead {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..2].copy_from_slice(&self.partition.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.partitions.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.across.to_le_bytes());
        let words = [
            self.next_offset,
            self.last_timestamp,
            self.accounts,
            self.pendings,
            self.ids.count,
            self.recent,
            self.runs,
        ];
        for (word, place) in words.into_iter().zip(bytes[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[64..80].copy_from_slice(&self.ids.sum.to_le_bytes());
        bytes[80..96].copy_from_slice(&self.older_id_max.to_le_bytes());
        bytes[96..100].copy_from_slice(&self.names.to_le_bytes());
        bytes[100..].copy_from_slice(&self.ledgers.to_le_bytes());
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
    across: Vec<[u8; ACROSS_ITEM_BYTES]>,
    names: Slab<Named>,
    ledgers: Vec<[u8; LEDGER_ITEM_BYTES]>,
    runs: Vec<RunRange>,
    has_ids: bool,
    /// The newest ids up to this number.
    ids_end: u64,
    number: u64,
    section: Option<Section>,
    /// Number of the next item.
    next: u64,
}

impl Ledger {
    /// What the items of a snapshot at the tail take, in bytes.
    pub fn snapshot_item_bytes(&self) -> u64 {
        let items = [
            (self.accounts.slab.len() as usize, EVENT_BYTES),
            (self.pendings.len(), PENDING_ITEM_BYTES),
            (self.ids.recent_len(), SLOT_BYTES),
            (self.runs.len(), RUN_ITEM_BYTES),
            (self.across.items_max(), ACROSS_ITEM_BYTES),
            (self.names.slab.len() as usize, NAME_ITEM_BYTES),
            (self.names.ledgers.len(), LEDGER_ITEM_BYTES),
        ];
        items.iter().map(|(items, bytes)| (items * bytes) as u64).sum()
    }

    /// Cuts a snapshot at the tail. An older cut that is still being written becomes void.
    pub fn snapshot(&mut self) -> SnapshotCut {
        let across: Vec<_> = self.across.items().collect();
        let ledgers: Vec<_> = self.described().map(|(id, it)| it.to_item(id)).collect();
        SnapshotCut {
            head: SnapshotHead {
                partition: self.partition.0,
                partitions: self.partitions,
                across: across.len() as u32,
                next_offset: self.next_offset,
                last_timestamp: self.last_timestamp,
                accounts: u64::from(self.accounts.slab.len()),
                pendings: self.pendings.len() as u64,
                recent: self.ids.recent_len() as u64,
                runs: self.runs.len() as u64,
                ids: *self.ids.set(),
                older_id_max: self.ids.older_id_max(),
                names: self.names.slab.len(),
                ledgers: ledgers.len() as u32,
            },
            accounts: self.accounts.slab.clone(),
            pendings: self.pendings.slab.clone(),
            across,
            names: self.names.slab.clone(),
            ledgers,
            runs: self.runs.clone(),
            has_ids: true,
            ids_end: self.ids.recent_end(),
            number: self.undo.cut(),
            section: Some(Section::Head),
            next: 0,
        }
    }
}

impl SnapshotCut {
    /// Without the newest ids: enough for a digest, and for nothing else.
    #[must_use]
    pub fn without_ids(self) -> Self {
        Self { has_ids: false, ..self }
    }

    /// The runs that it refers to: their files must stay for as long as it does.
    pub fn runs(&self) -> &[RunRange] {
        &self.runs
    }

    /// The snapshot holds all records below this.
    pub fn next_offset(&self) -> Offset {
        Offset(self.head.next_offset)
    }

    /// Log time of the newest record that it holds.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.head.last_timestamp)
    }

    /// The newest ids are still to be read: none of them may go into a run.
    pub fn reads_ids(&self) -> bool {
        self.has_ids && self.section.is_some_and(|section| section <= Section::Ids)
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
                    self.next = u64::MAX;
                    HEAD_BYTES
                }
                Section::Runs => {
                    let runs = self.runs[self.next as usize..].iter();
                    for run in runs.take(bytes_max / RUN_ITEM_BYTES) {
                        items.extend_from_slice(&run.first.to_le_bytes());
                        items.extend_from_slice(&run.end.to_le_bytes());
                        self.next += 1;
                    }
                    RUN_ITEM_BYTES
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
                        if items.len() + PENDING_ITEM_BYTES > bytes_max {
                            break;
                        }
                        self.next += 1;
                        if pending.id != 0 {
                            items.extend_from_slice(&pending.to_item());
                        }
                    }
                    PENDING_ITEM_BYTES
                }
                Section::Across => {
                    let rest = self.across[self.next as usize..].iter();
                    for item in rest.take(bytes_max / ACROSS_ITEM_BYTES) {
                        items.extend_from_slice(item);
                        self.next += 1;
                    }
                    ACROSS_ITEM_BYTES
                }
                Section::Names => {
                    let names = self.names.iter_from(self.next as u32);
                    for named in names.take(bytes_max / NAME_ITEM_BYTES) {
                        items.extend_from_slice(&named.to_item());
                        self.next += 1;
                    }
                    NAME_ITEM_BYTES
                }
                Section::Ledgers => {
                    let rest = self.ledgers[self.next as usize..].iter();
                    for item in rest.take(bytes_max / LEDGER_ITEM_BYTES) {
                        items.extend_from_slice(item);
                        self.next += 1;
                    }
                    LEDGER_ITEM_BYTES
                }
                Section::Ids => {
                    let (fit, end) = (bytes_max / SLOT_BYTES, self.ids_end);
                    let slots = ledger.ids.recent_from(self.next);
                    self.next = end;
                    for (place, (number, slot)) in
                        slots.take_while(|(number, _)| *number < end).enumerate()
                    {
                        if place == fit {
                            self.next = number;
                            break;
                        }
                        items.extend_from_slice(&slot.to_bytes());
                    }
                    SLOT_BYTES
                }
            };
            if self.next >= self.section_end(section) {
                (self.section, self.next) = (self.following(section), 0);
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
            Section::Across => self.across = Vec::new(),
            Section::Names => self.names = Slab::new(),
            Section::Ledgers => self.ledgers = Vec::new(),
            Section::Head | Section::Runs | Section::Ids | Section::End => {}
        }
    }

    fn following(&self, section: Section) -> Option<Section> {
        match section {
            Section::Head => Some(Section::Runs),
            Section::Runs if self.has_ids => Some(Section::Ids),
            Section::Runs | Section::Ids => Some(Section::Accounts),
            Section::Accounts => Some(Section::Pendings),
            Section::Pendings => Some(Section::Across),
            Section::Across => Some(Section::Names),
            Section::Names => Some(Section::Ledgers),
            Section::Ledgers => Some(Section::End),
            Section::End => None,
        }
    }

    fn section_end(&self, section: Section) -> u64 {
        match section {
            Section::Head | Section::End => 0,
            Section::Runs => self.runs.len() as u64,
            Section::Accounts => self.accounts.len().into(),
            Section::Pendings => self.pendings.len().into(),
            Section::Across => self.across.len() as u64,
            Section::Names => self.names.len().into(),
            Section::Ledgers => self.ledgers.len() as u64,
            Section::Ids => self.ids_end,
        }
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
