//! The ledger of a partition, for tasks that go on for long and look at it now and then.

use std::cell::RefCell;

use crate::ledger::Ledger;

/// A ledger that is looked at now and then.
pub trait LedgerAccess {
    /// Looks at it, or changes it.
    fn with<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T;
}

/// A ledger that nobody else uses meanwhile.
impl LedgerAccess for RefCell<&mut Ledger> {
    fn with<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.borrow_mut())
    }
}
