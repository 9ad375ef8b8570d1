//! The one routing function, the same in every client: PROTOCOL.md, section 5.

use crate::model::{AccountId, Book, PartitionId, Transfer, TransferFlags};

/// The partition that keeps what ledgers are called.
pub const OF_LEDGERS: PartitionId = PartitionId(0);

/// Partition of a book: `fmix32(book) mod partitions`, where `fmix32` is the finalizer of
/// `MurmurHash3` (Appleby, public domain).
///
/// # Panics
/// If `partitions` is 0: a formatted cluster has at least one.
pub fn of_book(book: Book, partitions: u16) -> PartitionId {
    assert!(partitions > 0, "a cluster has at least one partition");
    PartitionId((fmix32(book.0) % u32::from(partitions)) as u16)
}

/// Partition of an account: that of its book.
pub fn of_account(account: AccountId, partitions: u16) -> PartitionId {
    of_book(account.book(), partitions)
}

/// Partitions of a transfer's debit account and its credit account, each of which is named. A striped account takes part
/// where the other one lives.
#[inline]
pub fn of_sides(transfer: &Transfer, partitions: u16) -> [PartitionId; 2] {
    if transfer.flags.intersects(TransferFlags::GATHERING) {
        let [from, to] = [transfer.user_data_32 >> 16, transfer.user_data_32];
        return [from, to].map(|number| PartitionId(number as u16 % partitions));
    }
    let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
    if debit.is_striped() {
        return [of_account(credit, partitions); 2];
    }
    let debit = of_account(debit, partitions);
    [debit, if credit.is_striped() { debit } else { of_account(credit, partitions) }]
}

fn fmix32(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are part of the protocol: a change would send old accounts elsewhere.
    #[test]
    fn routing_never_changes() {
        let routed: Vec<u16> = (0..8).map(|book| of_book(Book(book), 4).0).collect();
        assert_eq!(fmix32(1), 0x514e_28b7, "reference value of MurmurHash3");
        assert_eq!(fmix32(0), 0);
        assert_eq!(routed.len(), 8);
        assert_eq!(of_account(AccountId(1 << 96), 4), of_book(Book(1), 4));
        assert_eq!(of_account(AccountId(7), 4), of_book(Book(0), 4));
    }

    #[test]
    fn a_striped_account_is_where_the_other_one_is() {
        let sides = |debit, credit, user_data_32, flags| {
            let (debit, credit) = (AccountId(debit), AccountId(credit));
            let named = Transfer {
                debit_account_id: debit,
                credit_account_id: credit,
                user_data_32,
                flags,
                ..Transfer::default()
            };
            of_sides(&named, 4)
        };
        let (fees, shares) = (0xffff_fffe << 96 | 1, 0xffff_fffe << 96 | 2);
        let plain = TransferFlags::default();
        for book in 0..20u128 {
            let (here, there) = (book << 96 | 1, (book + 1) << 96 | 1);
            let homes = [here, there].map(|id| of_account(AccountId(id), 4));
            assert_eq!(sides(here, there, 9, plain), homes);
            assert_eq!(sides(here, fees, 9, plain), [homes[0]; 2]);
            assert_eq!(sides(fees, there, 9, plain), [homes[1]; 2]);
        }
        assert_eq!(sides(fees, shares, 9, plain), [of_book(Book::STRIPED, 4); 2]);
        let gathered = sides(fees, fees, 3 << 16 | 1, TransferFlags::GATHERING);
        assert_eq!(gathered, [3, 1].map(PartitionId));
    }

    #[test]
    fn books_spread_evenly() {
        let mut counts = [0u32; 7];
        for book in 0..70_000 {
            counts[usize::from(of_book(Book(book), 7).0)] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
    }
}
