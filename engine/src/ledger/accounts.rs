//! Accounts in order of creation, and the way from an id to its slot.

use walengine_net::model::{Account, AccountId};

use super::ids::hash_of_id;
use super::slab::Slab;
use super::table::Table;

/// All accounts: 128 bytes each and about 6 for the index.
pub(super) struct Accounts {
    pub slab: Slab<Account>,
    index: Table<u32>,
}

const _: () = assert!(size_of::<Account>() == 128);

impl Accounts {
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(), index: Table::new() }
    }

    #[inline]
    pub(super) fn slot(&self, id: AccountId) -> Option<u32> {
        let hash = hash_of_id(id.0, true);
        self.index.get(hash, |&slot| self.slab.get(slot).id == id).copied()
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
        let slab = &self.slab;
        self.index.insert(hash_of_id(account.id.0, true), slot, |&slot| {
            hash_of_id(slab.get(slot).id.0, true)
        });
    }

    /// Takes back the newest account, which must be `id`.
    pub(super) fn pop(&mut self, id: AccountId) {
        let slot = self.slab.len() - 1;
        let removed = self.index.remove(hash_of_id(id.0, true), |&found| found == slot);
        assert!(removed.is_some(), "account {id} is not the newest one");
        self.slab.pop();
    }
}
