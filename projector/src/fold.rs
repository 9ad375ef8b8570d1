//! What the records of a batch come to for accounts: one change for each account. Pure.

use std::collections::HashMap;

/// A difference of two balances. Balances are below 2^128, so their difference fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    plus: u128,
    minus: u128,
}

/// A log in which balances pass 2^128 was not written by walengine.
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

    /// Whether it is below zero, and how far it is from zero.
    pub fn sign_and_magnitude(self) -> (bool, u128) {
        (self.minus > self.plus, self.plus.abs_diff(self.minus))
    }

    /// `balance` changed by it; `None` if that is below zero or past 2^128.
    pub fn applied_to(self, balance: u128) -> Option<u128> {
        match self.sign_and_magnitude() {
            (false, magnitude) => balance.checked_add(magnitude),
            (true, magnitude) => balance.checked_sub(magnitude),
        }
    }
}

/// How an account changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Of what is reserved from it.
    pub debits_pending: Difference,
    /// Of what was moved out of it.
    pub debits_posted: Difference,
    /// Of what is reserved for it.
    pub credits_pending: Difference,
    /// Of what was moved into it.
    pub credits_posted: Difference,
    /// Events that changed it.
    pub versions: u64,
    /// Closed or open afterwards; `None`: as it was.
    pub closed: Option<bool>,
}

/// Changes of accounts, each account once, in order of their first change.
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

    /// No account changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Change of an account, if it changes.
    pub fn get(&self, account: u128) -> Option<&Change> {
        self.places.get(&account).map(|&place| &self.changes[place].1)
    }

    /// Forgets the changes of accounts that are not wanted.
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

    /// Money moves.
    pub fn transfer(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        let from = self.of(debit);
        from.debits_posted.add(amount)?;
        from.versions += 1;
        let to = self.of(credit);
        to.credits_posted.add(amount)?;
        to.versions += 1;
        Ok(())
    }

    /// Money is reserved.
    pub fn reserve(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        let from = self.of(debit);
        from.debits_pending.add(amount)?;
        from.versions += 1;
        let to = self.of(credit);
        to.credits_pending.add(amount)?;
        to.versions += 1;
        Ok(())
    }

    /// A reservation ends; `posted` of it moves. What it held is taken off by [`Fold::release`].
    pub fn resolve(&mut self, debit: u128, credit: u128, posted: u128) -> Result<(), Overflow> {
        self.transfer(debit, credit, posted)
    }

    /// What a reservation held is free again. Part of its resolution, so not counted by itself.
    pub fn release(&mut self, debit: u128, credit: u128, amount: u128) -> Result<(), Overflow> {
        self.of(debit).debits_pending.subtract(amount)?;
        self.of(credit).credits_pending.subtract(amount)
    }

    /// An account is closed or reopened.
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
    fn sums_past_2_to_the_128_cancel_and_real_overflow_is_told() {
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
