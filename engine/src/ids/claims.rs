//! Which files are being written or removed, so that nobody does the other to them meanwhile.

use std::cell::RefCell;
use std::rc::Rc;

use super::names::RunRange;

/// The runs whose files are in somebody's hands.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Rc<RefCell<Vec<RunRange>>>);

/// A run's files are in one's hands, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    range: RunRange,
}

impl Claims {
    /// `None` while another has it.
    pub(super) fn take(&self, range: RunRange) -> Option<Claim> {
        let mut claimed = self.0.borrow_mut();
        if claimed.contains(&range) {
            return None;
        }
        claimed.push(range);
        Some(Claim { claims: self.clone(), range })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.borrow_mut().retain(|range| *range != self.range);
    }
}
