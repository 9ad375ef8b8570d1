//! A digest of the whole state, and the sums that must balance.

use std::collections::BTreeMap;

use walengine_net::model::{Amount, LedgerId};
use xxhash_rust::xxh3::xxh3_128;

use super::Ledger;
use super::pendings::Pending;

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

    /// Equal states have equal digests, whatever the layout of their tables. Walks everything. For
    /// comparing replicas, not against forgery.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.partition.0.to_le_bytes());
        hasher.update(&self.partitions.to_le_bytes());
        hasher.update(&self.next_offset.to_le_bytes());
        hasher.update(&self.last_timestamp.to_le_bytes());
        for account in self.accounts.slab.iter_from(0) {
            hasher.update(&account.to_bytes());
        }
        // Sets: a sum of hashes does not depend on the order.
        let ids = sum(self.ids.slots().map(|slot| xxh3_128(&slot.to_bytes())));
        let pendings = sum(self.pendings.iter().map(|pending| xxh3_128(&pending.to_bytes())));
        let counts = [self.ids.len() as u128, self.pendings.len() as u128];
        for part in [ids, pendings].into_iter().chain(counts) {
            hasher.update(&part.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

fn sum(hashes: impl Iterator<Item = u128>) -> u128 {
    hashes.fold(0, u128::wrapping_add)
}

/// Size of an open reservation in a snapshot in bytes.
pub(super) const PENDING_BYTES: usize = 64;

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
        bytes
    }
}
