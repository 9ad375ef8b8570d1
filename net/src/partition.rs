//! The one routing function, the same in every client: PROTOCOL.md, section 5.

use crate::model::{AccountId, Book, PartitionId};

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
    fn books_spread_evenly() {
        let mut counts = [0u32; 7];
        for book in 0..70_000 {
            counts[usize::from(of_book(Book(book), 7).0)] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
    }
}
