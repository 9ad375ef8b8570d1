//! Accounts in order of creation, and an index from id to slot.

use walengine_net::model::{Account, AccountId};

use super::slab::Slab;
use super::table::Table;
use crate::ids::key::{Space, hash_of_id};

/// All accounts: 128 bytes each and about 15 for the index.
pub(super) struct Accounts {
    pub slab: Slab<Account>,
    index: Table<IndexEntry>,
}

/// Holds the hash: without it, growing the index would read each account's memory, which took
/// longer than everything else in creating an account. The hash is in halves to avoid padding.
#[derive(Clone, Copy, Default)]
struct IndexEntry {
    hash_low: u32,
    hash_high: u32,
    slot: u32,
}

impl IndexEntry {
    fn hash(&self) -> u64 {
        u64::from(self.hash_high) << 32 | u64::from(self.hash_low)
    }
}

const _: () = assert!(size_of::<Account>() == 128);

impl Accounts {
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(), index: Table::new() }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.slab.bytes() + self.index.bytes()
    }

    #[inline]
    pub(super) fn slot(&self, id: AccountId) -> Option<u32> {
        let hash = hash_of_id(id.0, Space::Account);
        let entry = self
            .index
            .get(hash, |entry| entry.hash_low == hash as u32 && self.slab.get(entry.slot).id == id);
        entry.map(|entry| entry.slot)
    }

    /// Like [`Self::slot`], but faster if the account is in slot `hint`.
    #[inline]
    pub(super) fn slot_near(&self, id: AccountId, hint: u32) -> Option<u32> {
        if hint < self.slab.len() && self.slab.get(hint).id == id {
            return Some(hint);
        }
        self.slot(id)
    }

    /// First step towards [`Self::prefetch`].
    #[inline]
    pub(super) fn prefetch_block(&self, hash: u64) {
        self.index.prefetch_block(hash);
    }

    /// Second step towards [`Self::prefetch`].
    #[inline]
    pub(super) fn prefetch_tags(&self, hash: u64) {
        self.index.prefetch_tags(hash);
    }

    /// Third step towards [`Self::prefetch`].
    #[inline]
    pub(super) fn prefetch_entry(&self, hash: u64) {
        self.index.prefetch_slot(hash);
    }

    /// The slot that the account with this hash is likely to be in, or `u32::MAX`.
    #[inline]
    pub(super) fn likely_slot(&self, hash: u64) -> u32 {
        self.index.get(hash, |entry| entry.hash() == hash).map_or(u32::MAX, |entry| entry.slot)
    }

    /// Starts to load the account in this slot, if there is one.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32) {
        self.slab.prefetch(slot);
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Account {
        self.slab.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Account {
        self.slab.get_mut(slot)
    }

    pub(super) fn by_id(&self, id: AccountId) -> Option<&Account> {
        self.slot(id).map(|slot| self.slab.get(slot))
    }

    /// Adds an account whose id is not there yet.
    pub(super) fn push(&mut self, account: Account) {
        let slot = self.slab.push(account);
        let hash = hash_of_id(account.id.0, Space::Account);
        let entry = IndexEntry { hash_low: hash as u32, hash_high: (hash >> 32) as u32, slot };
        self.index.insert(hash, entry, IndexEntry::hash);
    }

    /// Removes the newest account, which must be `id`.
    pub(super) fn pop(&mut self, id: AccountId) {
        let slot = self.slab.len() - 1;
        let removed =
            self.index.remove(hash_of_id(id.0, Space::Account), |entry| entry.slot == slot);
        assert!(removed.is_some(), "account {id} is not the newest one");
        self.slab.pop();
    }
}
