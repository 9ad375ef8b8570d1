//! A digest of the whole state, and the sums that must balance.

use std::collections::BTreeMap;

use walengine_net::model::{Amount, LedgerId};

use super::Ledger;
use super::pendings::digested;
use super::set::Set;

/// A sum of amounts that may exceed 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WideSum {
    /// How often the sum overflowed 2^128.
    pub high: u32,
    /// The rest.
    pub low: u128,
}

impl WideSum {
    fn add(&mut self, amount: Amount) {
        let (low, carry) = self.low.overflowing_add(amount.0);
        self.low = low;
        self.high += u32::from(carry);
    }
}

/// Sums over all accounts of one ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Reserved debits.
    pub debits_pending: WideSum,
    /// Posted debits.
    pub debits_posted: WideSum,
    /// Reserved credits.
    pub credits_pending: WideSum,
    /// Posted credits.
    pub credits_posted: WideSum,
}

impl LedgerTotals {
    /// Debits equal credits, pending and posted.
    pub fn balanced(&self) -> bool {
        self.debits_pending == self.credits_pending && self.debits_posted == self.credits_posted
    }
}

impl Ledger {
    /// Sums by ledger. Walks all accounts.
    pub fn totals(&self) -> BTreeMap<LedgerId, LedgerTotals> {
        let mut totals = BTreeMap::<_, LedgerTotals>::new();
        for account in self.accounts.slab.iter_from(0) {
            let total = totals.entry(account.ledger).or_default();
            total.debits_pending.add(account.debits_pending);
            total.debits_posted.add(account.debits_posted);
            total.credits_pending.add(account.credits_pending);
            total.credits_posted.add(account.credits_posted);
        }
        totals
    }

    /// Equal states have equal digests, whatever the layout of their tables. Walks all accounts and open
    /// reservations. For comparing replicas and clusters, not against forgery.
    pub fn digest(&self) -> [u8; 32] {
        let (next_offset, last_timestamp) = (self.next_offset, self.last_timestamp);
        let mut digest =
            Digest::new(self.partition.0, self.partitions, next_offset, last_timestamp);
        for account in self.accounts.slab.iter_from(0) {
            digest.accounts.update(&account.to_bytes());
        }
        for pending in self.pendings.iter() {
            digest.pendings.add(digested(&pending.to_item()));
        }
        for item in self.across.items() {
            digest.across.add(&item);
        }
        for named in self.names.slab.iter_from(0) {
            digest.add_name(&named.to_item());
        }
        for (ledger, described) in self.described() {
            digest.names.add(&described.to_item(ledger));
        }
        digest.ids = *self.ids.set();
        digest.finish()
    }
}

/// What goes into a digest.
pub(super) struct Digest {
    /// Where the state is, and then all accounts in order of creation.
    pub accounts: blake3::Hasher,
    /// What is remembered of each id: its slot in the form of FORMAT.md, section 6, version 1.
    pub ids: Set,
    /// Open reservations.
    pub pendings: Set,
    /// What has come from other partitions. A state without any has the digest that it always had.
    pub across: Set,
    /// Names of accounts and descriptions of ledgers. As with those.
    pub names: Set,
}

impl Digest {
    pub(super) fn new(
        partition: u16,
        partitions: u16,
        next_offset: u64,
        last_timestamp: u64,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&partition.to_le_bytes());
        hasher.update(&partitions.to_le_bytes());
        hasher.update(&next_offset.to_le_bytes());
        hasher.update(&last_timestamp.to_le_bytes());
        let (ids, pendings, across, names) = Default::default();
        Self { accounts: hasher, ids, pendings, across, names }
    }

    /// A name that was taken away is as if it had never been.
    pub(super) fn add_name(&mut self, item: &[u8]) {
        if item.iter().skip(size_of::<u128>()).any(|&byte| byte != 0) {
            self.names.add(item);
        }
    }

    pub(super) fn finish(mut self) -> [u8; 32] {
        let Self { ids, pendings, across, names, .. } = self;
        for part in [ids.sum, pendings.sum, ids.count.into(), pendings.count.into()] {
            self.accounts.update(&part.to_le_bytes());
        }
        for (set, name) in [(across, &b""[..]), (names, b"names")] {
            if set.count > 0 {
                self.accounts.update(name);
                for part in [set.sum, set.count.into()] {
                    self.accounts.update(&part.to_le_bytes());
                }
            }
        }
        *self.accounts.finalize().as_bytes()
    }
}
