//! Open reservations, when they expire, and recently resolved ones, which undoing may open again.

use std::collections::{BTreeSet, VecDeque};

use walengine_net::model::{PartitionId, Verdict};

use super::doubts::Doubts;
use super::ids::{Reserved, hash_of_event_id};
use super::slab::Slab;
use super::table::Table;

/// Expiry of a reservation without a timeout.
pub(super) const NEVER: u64 = u64::MAX;

/// About what the set of expiries takes for each: its nodes are about two thirds full.
const DUE_BYTES: usize = 36;

/// A reservation. The ledger is that of its accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub id: u128,
    /// Of its transfer.
    pub fingerprint: u64,
    pub amount: u128,
    /// Log time at which it becomes due, or [`NEVER`].
    pub expires_at: u64,
    /// Its record.
    pub offset: u64,
    /// Slot of the debit account.
    pub debit: u32,
    /// Slot of the credit account.
    pub credit: u32,
    pub code: u16,
    /// One more than the other partition that it spans; 0 if it spans none.
    pub other: u16,
    /// The other partition has the last word on it, which is not here yet.
    pub is_in_doubt: bool,
}

impl Pending {
    /// What ending it needs to know of its id.
    pub(super) fn reserved(&self) -> Reserved {
        let verdict = if self.other == 0 { Verdict::Ok } else { Verdict::InDoubt };
        Reserved { id: self.id, fingerprint: self.fingerprint, offset: self.offset, verdict }
    }

    /// The partition that has the last word on it, if that is not here yet.
    pub(super) fn doubt(&self) -> Option<PartitionId> {
        self.other.checked_sub(1).filter(|_| self.is_in_doubt).map(PartitionId)
    }

    /// Log time at which it ends by itself: never while it is in doubt.
    fn due_at(&self) -> Option<u64> {
        (self.expires_at != NEVER && !self.is_in_doubt).then_some(self.expires_at)
    }
}

/// See the module.
pub(super) struct Pendings {
    /// Invariant: a free slot has the id 0, all others hold an open reservation.
    pub slab: Slab<Pending>,
    free: Vec<u32>,
    /// Slots of the open reservations by id.
    index: Table<u32>,
    /// Expiry, offset and slot, in the order in which expiries are logged. Invariant: the open
    /// reservations with a timeout.
    due: BTreeSet<(u64, u64, u32)>,
    /// Those on which other partitions have the last word.
    doubts: Doubts,
    /// Offset of the resolving record, and the reservation: taking back a post needs it, and the
    /// record of the post does not hold it. Emptied by [`Self::release`]. Invariant: offsets
    /// ascend.
    resolved: VecDeque<(u64, Pending)>,
}

impl Pendings {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            free: Vec::new(),
            index: Table::new(),
            due: BTreeSet::new(),
            doubts: Doubts::default(),
            resolved: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let free = self.free.capacity() * size_of::<u32>();
        let due = self.due.len() * DUE_BYTES;
        let resolved = self.resolved.capacity() * size_of::<(u64, Pending)>();
        self.slab.bytes()
            + self.index.bytes()
            + self.doubts.bytes()
            + (free + due + resolved) as u64
    }

    pub(super) fn get(&self, id: u128) -> Option<&Pending> {
        let hash = hash_of_event_id(id);
        let slot = self.index.get(hash, |&slot| self.slab.get(slot).id == id)?;
        Some(self.slab.get(*slot))
    }

    /// Adds a reservation whose id is not there yet.
    pub(super) fn insert(&mut self, pending: Pending) {
        let slot = if let Some(slot) = self.free.pop() {
            *self.slab.get_mut(slot) = pending;
            slot
        } else {
            self.slab.push(pending)
        };
        let slab = &self.slab;
        self.index.insert(hash_of_event_id(pending.id), slot, |&slot| {
            hash_of_event_id(slab.get(slot).id)
        });
        if let Some(at) = pending.due_at() {
            self.due.insert((at, pending.offset, slot));
        }
        if let Some(other) = pending.doubt() {
            self.doubts.open(other, pending.offset, slot);
        }
    }

    /// Removes a reservation, as if it had never existed.
    pub(super) fn remove(&mut self, id: u128) -> Pending {
        let pending = self.take(id);
        if let Some(other) = pending.doubt() {
            self.doubts.forget(other, pending.offset);
        }
        pending
    }

    fn take(&mut self, id: u128) -> Pending {
        let hash = hash_of_event_id(id);
        let slot = self.index.remove(hash, |&slot| self.slab.get(slot).id == id);
        let slot = slot.expect("the reservation is open");
        let pending = std::mem::take(self.slab.get_mut(slot));
        self.free.push(slot);
        debug_assert!(self.free.len() + self.index.len() == self.slab.len() as usize);
        if let Some(at) = pending.due_at() {
            self.due.remove(&(at, pending.offset, slot));
        }
        pending
    }

    /// Ends a reservation by the record at `offset`. It can be opened again until released.
    pub(super) fn resolve(&mut self, id: u128, offset: u64) -> Pending {
        let newest = self.resolved.back().map(|(newest, _)| *newest);
        debug_assert!(newest.is_none_or(|newest| newest < offset), "{offset} after {newest:?}");
        let pending = self.take(id);
        if let Some(other) = pending.doubt() {
            self.doubts.settle(other, pending.offset, offset);
        }
        self.resolved.push_back((offset, pending));
        pending
    }

    /// Opens again what the record at `offset` resolved, the newest one that resolved anything.
    pub(super) fn unresolve(&mut self, offset: u64) -> Pending {
        let (resolved_at, pending) = self.resolved.pop_back().expect("not released yet");
        assert!(resolved_at == offset, "undo of {offset}, but the newest is {resolved_at}");
        self.insert(pending);
        pending
    }

    /// Records below `offset` will not be undone.
    pub(super) fn release(&mut self, offset: u64) {
        while self.resolved.front().is_some_and(|(resolved_at, _)| *resolved_at < offset) {
            self.resolved.pop_front();
        }
        self.doubts.release(offset);
    }

    /// Id of the reservation that is due first, if it is due at `timestamp`.
    pub(super) fn due(&self, timestamp: u64) -> Option<u128> {
        let (expires_at, _, slot) = self.due.first()?;
        (*expires_at <= timestamp).then(|| self.slab.get(*slot).id)
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.due.first().map(|(expires_at, ..)| *expires_at)
    }

    /// Those on which other partitions have the last word.
    pub(super) fn in_doubt(&self) -> &Doubts {
        &self.doubts
    }

    /// All of a snapshot's are there.
    pub(super) fn restored(&mut self) {
        self.doubts.sort();
    }

    /// Those on which another partition has the last word, below an offset, oldest first.
    pub(super) fn doubts(&self, other: PartitionId, below: u64) -> impl Iterator<Item = &Pending> {
        self.doubts.slots(other, below).map(|slot| self.slab.get(slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.slab.iter_from(0).filter(|pending| pending.id != 0)
    }
}

/// What the digest takes of an open reservation, in bytes.
pub(super) const PENDING_BYTES: usize = 64;
/// Size of an open reservation in a snapshot in bytes: the same, and the fingerprint.
pub(super) const PENDING_ITEM_BYTES: usize = PENDING_BYTES + 8;

impl Pending {
    pub(super) fn to_bytes(self) -> [u8; PENDING_BYTES] {
        let mut bytes = [0; PENDING_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.amount.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.expires_at.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.offset.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.debit.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.credit.to_le_bytes());
        bytes[56..58].copy_from_slice(&self.code.to_le_bytes());
        bytes[58..60].copy_from_slice(&self.other.to_le_bytes());
        bytes[60] = self.is_in_doubt.into();
        bytes
    }

    /// As in a snapshot.
    pub(super) fn to_item(self) -> [u8; PENDING_ITEM_BYTES] {
        let mut item = [0; PENDING_ITEM_BYTES];
        item[..PENDING_BYTES].copy_from_slice(&self.to_bytes());
        item[PENDING_BYTES..].copy_from_slice(&self.fingerprint.to_le_bytes());
        item
    }
}
