//! Accounts by the partition where they live, and plain transfers between them.

use walengine_net::model::{AccountId, Amount, Code, EventId, LedgerId, Transfer};
use walengine_net::partition;

/// The ledger of those transfers.
pub const LEDGER: LedgerId = LedgerId(840);

/// An account of one of so many partitions: the same number again is another account elsewhere.
///
/// # Panics
/// If no small book leads to the partition.
pub fn account_of(partitions: u16, partition: u16, number: u128) -> AccountId {
    let lives_there = |id: &AccountId| partition::of_account(*id, partitions).0 == partition;
    (1..100).map(|book| AccountId(book << 96 | number)).find(lives_there).unwrap()
}

/// A plain transfer.
pub fn between(id: u128, debit: AccountId, credit: AccountId, amount: u128) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: debit,
        credit_account_id: credit,
        amount: Amount(amount),
        ledger: LEDGER,
        code: Code(1),
        ..Transfer::default()
    }
}
