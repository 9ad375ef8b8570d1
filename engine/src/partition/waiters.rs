//! Answers that wait for a place in the log. Lives on the partition's shard; not `Send`.
//!
//! Answers are encoded when a request is decided and called when the place in the log that they
//! wait for is reached. Places ascend; what a place is, is the owner's: an index or an offset.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::limits::{WAITING_BYTES_MAX, WAITING_MAX};
use crate::refused::Refused;

/// Called once: when the place is visible, or with the reason why it never will be.
pub type Answer = Box<dyn FnOnce(Result<(), &Refused>)>;

/// See the module.
#[derive(Default)]
pub struct Waiters {
    queue: RefCell<VecDeque<Waiting>>,
    bytes: Cell<usize>,
}

struct Waiting {
    place: u64,
    bytes: usize,
    answer: Answer,
}

impl Waiters {
    /// No more answers may wait.
    pub fn is_full(&self) -> bool {
        self.queue.borrow().len() >= WAITING_MAX || self.bytes.get() >= WAITING_BYTES_MAX
    }

    /// Half of the answers wait that may. The other half is for writes.
    pub fn is_half_full(&self) -> bool {
        self.queue.borrow().len() >= WAITING_MAX / 2 || self.bytes.get() >= WAITING_BYTES_MAX / 2
    }

    /// How many wait, and their memory in bytes.
    pub fn waiting(&self) -> (usize, usize) {
        (self.queue.borrow().len(), self.bytes.get())
    }

    /// No answer waits.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Waits for `place`; `bytes` is what the answer holds in memory.
    ///
    /// # Panics
    /// If a later place is waited for already.
    pub fn push(&self, place: u64, bytes: usize, answer: Answer) {
        let mut queue = self.queue.borrow_mut();
        assert!(queue.back().is_none_or(|last| last.place <= place), "places ascend");
        self.bytes.set(self.bytes.get() + bytes);
        queue.push_back(Waiting { place, bytes, answer });
    }

    /// Every place up to this one is visible.
    pub fn reached(&self, place: u64) {
        while let Some(waiting) = self.take(|queue| queue.pop_front_if(|one| one.place <= place)) {
            (waiting.answer)(Ok(()));
        }
    }

    /// No place behind this one will become visible.
    pub fn lost_behind(&self, place: u64, refused: &Refused) {
        while let Some(waiting) = self.take(|queue| queue.pop_back_if(|one| one.place > place)) {
            (waiting.answer)(Err(refused));
        }
    }

    /// No further place will become visible.
    pub fn lost(&self, refused: &Refused) {
        while let Some(waiting) = self.take(VecDeque::pop_front) {
            (waiting.answer)(Err(refused));
        }
    }

    fn take(
        &self,
        next: impl FnOnce(&mut VecDeque<Waiting>) -> Option<Waiting>,
    ) -> Option<Waiting> {
        let waiting = next(&mut self.queue.borrow_mut())?;
        self.bytes.set(self.bytes.get() - waiting.bytes);
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn each_is_told_once_and_what_is_cut_off_is_told_so() {
        let waiters = Waiters::default();
        let told: Rc<RefCell<Vec<(u64, bool)>>> = Rc::default();
        for place in [1, 2, 2, 5, 7] {
            let told = told.clone();
            let answer: Answer =
                Box::new(move |result| told.borrow_mut().push((place, result.is_ok())));
            waiters.push(place, 10, answer);
        }
        waiters.reached(1);
        waiters.lost_behind(2, &Refused::ShuttingDown);
        assert_eq!(*told.borrow(), [(1, true), (7, false), (5, false)]);
        waiters.reached(2);
        assert_eq!(told.borrow().len(), 5);
        assert!(waiters.is_empty() && waiters.bytes.get() == 0);
    }
}
