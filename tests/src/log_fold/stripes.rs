//! What the home of a striped account tells all other partitions, and what a gathering may be.

use std::collections::BTreeMap;

use walengine_net::model::{
    Account, AccountId, Arrival, Book, Sent, Timestamp, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_book;

use super::around::Around;

/// Partition and offset.
type At = (u16, u64);

/// Accounts, closings and reopenings, by the record of their home and the partition that they are told to.
#[derive(Debug, Default)]
pub(super) struct Stripes {
    /// With whether that partition has said that it has taken it.
    told: BTreeMap<(At, u16), (Sent, bool)>,
    taken: BTreeMap<(At, u16), (Sent, bool)>,
}

impl Stripes {
    /// Home has decided this of an account; it is told if that is striped.
    pub fn announce(&mut self, at: At, sent: Sent, account: AccountId, partitions: u16) {
        if account.book() != Book::STRIPED {
            return;
        }
        assert_eq!(of_book(Book::STRIPED, partitions).0, at.0, "decided at home");
        for other in (0..partitions).filter(|other| *other != at.0) {
            self.told.insert((at, other), (as_sent(sent), false));
        }
    }

    /// A stripe here does what the home of its account has decided.
    pub fn take(&mut self, arrival: &Arrival, said: Verdict, around: Around) {
        assert!(said.is_ok(), "home has decided it");
        let Around { here, partitions, mail, .. } = around;
        let home = of_book(Book::STRIPED, partitions).0;
        assert_eq!((mail, home == here), (home, false), "from the home of striped accounts");
        let told = ((home, arrival.place), here);
        let before = self.taken.insert(told, (as_sent(arrival.sent), true));
        assert!(before.is_none(), "told once");
    }

    /// Home hears that a partition has done what the record at `place` says. False if that is not for all.
    pub fn is_said(&mut self, place: At, word: &Word) -> bool {
        let other = u16::try_from(word.pending_id.0).ok().and_then(|number| number.checked_sub(1));
        let Some((sent, is_known)) = other.and_then(|other| self.told.get_mut(&(place, other)))
        else {
            return false;
        };
        assert_eq!((word.id, word.amount.0, word.verdict.is_ok()), (sent.id(), 0, true));
        assert!(!std::mem::replace(is_known, true), "it is said once");
        true
    }

    /// What a partition may not have done yet.
    pub fn under_way(&self) -> usize {
        self.told.values().filter(|(_, is_known)| !is_known).count()
    }

    /// Closings and reopenings that were done elsewhere than at home.
    pub fn closings(&self) -> usize {
        self.taken.values().filter(|(sent, _)| matches!(sent, Sent::Close(_))).count()
    }

    /// Each partition has done what it was told, and nothing else.
    pub fn are_settled(&self) {
        assert_eq!(self.told, self.taken);
    }
}

fn as_sent(sent: Sent) -> Sent {
    match sent {
        Sent::Account(account) => Sent::Account(Account { timestamp: Timestamp(0), ..account }),
        other => other,
    }
}

/// The id of a gathering of this record.
pub(super) fn gathering_id(at: At) -> u128 {
    u128::from(Book::STRIPED.0) << 96 | u128::from(at.0) << 64 | u128::from(at.1)
}

/// It is one that the record at `home` may be.
///
/// # Panics
/// If not.
pub(super) fn is_gathering(home: At, transfer: &Transfer) {
    let account = transfer.debit_account_id;
    assert_eq!((account, account.book()), (transfer.credit_account_id, Book::STRIPED));
    assert_eq!((transfer.id.0, transfer.flags), (gathering_id(home), TransferFlags::GATHERING));
    assert_eq!(transfer.user_data_32 >> 16, u32::from(home.0));
}
