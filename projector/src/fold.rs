//! The records of a batch, folded into one change for each account. Pure.

use std::collections::HashMap;

/// A difference of two balances. Balances are below 2^128, so their differences fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    plus: u128,
    minus: u128,
}

/// A balance of 2^128 or more, which no log of walengine contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a balance passes 2^128")]
pub struct Overflow;

impl Difference {
    fn add(&mut self, amount: u128) -> Result<(), Overflow> {
        if self.plus.checked_add(amount).is_none() {
            self.cancel();
        }
        self.plus = self.plus.checked_add(amount).ok_or(Overflow)?;
        Ok(())
    }

    fn subtract(&mut self, amount: u128) -> Result<(), Overflow> {
        if self.minus.checked_add(amount).is_none() {
            self.cancel();
        }
        self.minus = self.minus.checked_add(amount).ok_or(Overflow)?;
        Ok(())
    }

    fn cancel(&mut self) {
        let both = self.plus.min(self.minus);
        self.plus -= both;
        self.minus -= both;
    }

    /// Whether it is negative, and its magnitude.
    pub fn sign_and_magnitude(self) -> (bool, u128) {
        (self.minus > self.plus, self.plus.abs_diff(self.minus))
    }

    /// `balance` plus the difference; `None` if that is negative or reaches 2^128.
    pub fn applied_to(self, balance: u128) -> Option<u128> {
        match self.sign_and_magnitude() {
            (false, magnitude) => balance.checked_add(magnitude),
            (true, magnitude) => balance.checked_sub(magnitude),
        }
    }
}

/// Change of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Change of its pending debits.
    pub debits_pending: Difference,
    /// Change of its posted debits.
    pub debits_posted: Difference,
    /// Change of its pending credits.
    pub credits_pending: Difference,
    /// Change of its posted credits.
    pub credits_posted: Difference,
    /// Number of events that changed it.
    pub versions: u64,
    /// Closed or open afterwards; `None` if that does not change.
    pub closed: Option<bool>,
}

/// Selects one of an account's balances.
type Balance = fn(&mut Change) -> &mut Difference;

/// Changes of accounts: each account once, in the order of their first changes.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    places: HashMap<u128, usize>,
    changes: Vec<(u128, Change)>,
}

impl Fold {
    /// The changes.
    pub fn changes(&self) -> &[(u128, Change)] {
        &self.changes
    }

    /// Number of accounts that change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether no account changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Change of an account, if there is one.
    pub fn get(&self, account: u128) -> Option<&Change> {
        self.places.get(&account).map(|&place| &self.changes[place].1)
    }

    /// Removes the changes of accounts that are not wanted.
    pub fn retain(&mut self, wanted: impl Fn(u128) -> bool) {
        if self.changes.iter().all(|(account, _)| wanted(*account)) {
            return;
        }
        self.changes.retain(|(account, _)| wanted(*account));
        let places = self.changes.iter().zip(0..).map(|((account, _), place)| (*account, place));
        self.places = places.collect();
    }

    fn of(&mut self, account: u128) -> &mut Change {
        let changes = &mut self.changes;
        let place = *self.places.entry(account).or_insert_with(|| {
            changes.push((account, Change::default()));
            changes.len() - 1
        });
        &mut changes[place].1
    }

    /// Adds an event that adds `amount` to a balance of an account.
    fn add(&mut self, account: u128, amount: u128, to: Balance) -> Result<(), Overflow> {
        let change = self.of(account);
        to(change).add(amount)?;
        change.versions += 1;
        Ok(())
    }

    /// Adds a transfer.
    pub fn transfer(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        self.add(debit, amount, |change| &mut change.debits_posted)?;
        self.add(credit, amount, |change| &mut change.credits_posted)
    }

    /// Adds a reservation.
    pub fn reserve(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        self.add(debit, amount, |change| &mut change.debits_pending)?;
        self.add(credit, amount, |change| &mut change.credits_pending)
    }

    /// Adds the end of a reservation, of which `posted` moves. [`Fold::release`] takes off what it
    /// held.
    pub fn resolve(&mut self, debit: u128, credit: u128, posted: u128) -> Result<(), Overflow> {
        self.transfer(debit, credit, posted)
    }

    /// Releases the amount that a reservation held. Part of its end, so not counted as an event.
    pub fn release(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        self.of(debit).debits_pending.subtract(amount)?;
        self.of(credit).credits_pending.subtract(amount)
    }

    /// Adds the end of what a stripe of an account has under way to another one, of which `given` has arrived: the
    /// stripe's credits become those of the in-transit account. [`Fold::release`] takes off what was reserved.
    pub fn give(&mut self, stripe: u128, transit: u128, given: u128) -> Result<(), Overflow> {
        let giver = self.of(stripe);
        giver.credits_posted.subtract(given)?;
        giver.versions += 1;
        self.add(transit, given, |change| &mut change.credits_posted)
    }

    /// Adds a closing or reopening.
    pub fn close(&mut self, account: u128, closed: bool) {
        let change = self.of(account);
        change.closed = Some(closed);
        change.versions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_changes_once() {
        let mut fold = Fold::default();
        fold.transfer(1, 2, 10).unwrap();
        fold.transfer(2, 1, 4).unwrap();
        fold.reserve(1, 2, 5).unwrap();
        fold.resolve(1, 2, 3).unwrap();
        fold.release(1, 2, 5).unwrap();
        fold.close(2, true);
        assert_eq!(fold.len(), 2);
        let (one, two) = (fold.get(1).unwrap(), fold.get(2).unwrap());
        assert_eq!(one.debits_posted.applied_to(100), Some(113));
        assert_eq!(one.credits_posted.applied_to(0), Some(4));
        assert_eq!(one.debits_pending.applied_to(7), Some(7));
        assert_eq!((one.versions, one.closed), (4, None));
        assert_eq!((two.versions, two.closed), (5, Some(true)));
        assert_eq!(two.credits_posted.sign_and_magnitude(), (false, 13));
    }

    #[test]
    fn a_gathering_moves_credits_and_no_debits() {
        let mut fold = Fold::default();
        fold.reserve(1, 9, 25).unwrap();
        fold.give(1, 9, 20).unwrap();
        fold.release(1, 9, 25).unwrap();
        let (stripe, transit) = (fold.get(1).unwrap(), fold.get(9).unwrap());
        assert_eq!(stripe.credits_posted.sign_and_magnitude(), (true, 20));
        assert_eq!(stripe.debits_posted, Difference::default());
        assert_eq!(stripe.debits_pending.applied_to(0), Some(0));
        assert_eq!(transit.credits_posted.applied_to(0), Some(20));
        assert_eq!(transit.credits_pending.applied_to(0), Some(0));
        assert_eq!((stripe.versions, transit.versions), (2, 2));
    }

    #[test]
    fn sums_past_2_to_the_128_cancel_and_real_overflow_is_an_error() {
        let mut difference = Difference::default();
        for _ in 0..3 {
            difference.add(u128::MAX).unwrap();
            difference.subtract(u128::MAX).unwrap();
        }
        assert_eq!(difference.sign_and_magnitude(), (false, 0));
        difference.subtract(5).unwrap();
        assert_eq!(difference.sign_and_magnitude(), (true, 5));
        assert_eq!(difference.applied_to(4), None);
        assert_eq!(difference.applied_to(5), Some(0));
        let mut over = Difference::default();
        over.add(u128::MAX).unwrap();
        assert_eq!(over.add(1), Err(Overflow));
    }
}
