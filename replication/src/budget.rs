//! Memory that the connections of one executor hold together, against one limit. Not `Send`.
//!
//! ```text
//!   try_take, take     asks first: room is there, or it is waited for
//!   Held::set          says what is held already; may pass the limit by what one answer takes
//!   is_short           somebody was told no, or waits: idle buffers go back, slow holders must go
//! ```

use std::cell::Cell;
use std::rc::Rc;

use crate::local::{Changed, Notify};

/// See the module. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    inner: Rc<Inner>,
}

struct Inner {
    bytes_max: usize,
    used: Cell<usize>,
    /// The most that was used since somebody asked.
    peak: Cell<usize>,
    /// Somebody has found no room since the last look.
    missed: Cell<bool>,
    /// Who waits for room now.
    waiting: Cell<usize>,
    freed: Notify,
    reclaim: Notify,
}

impl Default for Budget {
    /// One without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Budget {
    /// One of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let inner = Inner {
            bytes_max,
            used: Cell::new(0),
            peak: Cell::new(0),
            missed: Cell::new(false),
            waiting: Cell::new(0),
            freed: Notify::new(),
            reclaim: Notify::new(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Bytes that are held.
    pub fn used(&self) -> usize {
        self.inner.used.get()
    }

    /// The limit.
    pub fn bytes_max(&self) -> usize {
        self.inner.bytes_max
    }

    /// The most that was held since the last call.
    pub fn take_peak(&self) -> usize {
        self.inner.peak.replace(self.used())
    }

    /// Nothing yet; [`Held::set`] and [`Held::try_grow`] change that.
    pub fn hold(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// Takes `bytes`, if there is room for them.
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        let mut held = self.hold();
        held.try_grow(bytes).then_some(held)
    }

    /// Takes `bytes`, once there is room for them. More than the limit is taken when nothing else is
    /// held.
    pub async fn take(&self, bytes: usize) -> Held {
        let mut held = self.hold();
        held.grow(bytes).await;
        held
    }

    /// There was no room for somebody since the last look, or there is none for somebody now.
    pub fn is_short(&self) -> bool {
        self.inner.missed.get() || self.inner.waiting.get() > 0
    }

    /// As [`Self::is_short`], and from here on only what comes counts. Has idle buffers given back.
    pub fn look(&self) -> bool {
        let is_short = self.is_short();
        self.inner.missed.set(false);
        self.inner.reclaim.notify_all();
        is_short
    }

    /// Completes when memory that serves nothing now should be given back.
    pub fn reclaim(&self) -> Changed {
        self.inner.reclaim.changed()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let used = self.used();
        used == 0 || used.saturating_add(bytes) <= self.inner.bytes_max
    }

    fn miss(&self) {
        if !self.inner.missed.replace(true) {
            self.inner.reclaim.notify_all();
        }
    }

    fn change(&self, before: usize, now: usize) {
        let used = self.used();
        assert!(used >= before, "{before} of {used} bytes were held");
        let used = used - before + now;
        self.inner.used.set(used);
        if used > self.inner.peak.get() {
            self.inner.peak.set(used);
        }
        if now < before && self.inner.waiting.get() > 0 {
            self.inner.freed.notify_all();
        }
    }
}

/// A part of a [`Budget`], given back when it is dropped.
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is as much as this, whether there is room or not: the memory is held already.
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.budget.change(self.bytes, bytes);
            self.bytes = bytes;
        }
    }

    /// Becomes as much as `bytes`, if there is room for the difference.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = more == 0 || self.budget.has_room(more);
        if fits {
            self.set(bytes.max(self.bytes));
        } else {
            self.budget.miss();
        }
        fits
    }

    /// Becomes as much as `bytes`, once there is room for the difference.
    pub async fn grow(&mut self, bytes: usize) {
        let budget = self.budget.clone();
        let mut waits = None;
        loop {
            let freed = budget.inner.freed.changed();
            if self.try_grow(bytes) {
                return;
            }
            waits.get_or_insert_with(|| Waits::begin(&budget));
            freed.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Counts somebody who waits, until it is dropped.
struct Waits(Budget);

impl Waits {
    fn begin(budget: &Budget) -> Self {
        budget.inner.waiting.set(budget.inner.waiting.get() + 1);
        Self(budget.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let waiting = &self.0.inner.waiting;
        waiting.set(waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_queue::testing::poll_once;

    #[test]
    fn what_is_held_never_passes_the_limit_by_asking_and_comes_back() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).unwrap();
        assert!(budget.try_take(60).is_none() && budget.is_short());
        let second = budget.try_take(40).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        assert_eq!(budget.used(), 40);
        drop(second);
        assert_eq!((budget.used(), budget.take_peak(), budget.take_peak()), (0, 100, 0));
        assert!(budget.look() && !budget.look(), "one look each");
    }

    #[test]
    fn who_waits_gets_it_when_it_is_given_back_and_who_gives_up_counts_no_more() {
        let budget = Budget::new(100);
        let first = budget.try_take(80).unwrap();
        let mut waits = Box::pin(budget.take(50));
        let mut gives_up = Box::pin(budget.take(90));
        assert!(poll_once(&mut waits).is_pending() && poll_once(&mut gives_up).is_pending());
        assert!(budget.look() && budget.look(), "they still wait");
        drop(gives_up);
        drop(first);
        assert!(poll_once(&mut waits).is_ready());
        assert!(budget.look() || !budget.is_short());
        assert!(!budget.look());
    }

    #[test]
    fn a_need_above_the_limit_is_met_alone() {
        let budget = Budget::new(100);
        let large = budget.try_take(500).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(large);
        assert!(budget.try_take(1).is_some());
    }

    #[test]
    fn want_has_idle_memory_given_back() {
        let budget = Budget::new(100);
        let _held = budget.try_take(100).unwrap();
        let mut reclaim = budget.reclaim();
        assert!(poll_once(&mut reclaim).is_pending());
        assert!(budget.try_take(1).is_none());
        assert!(poll_once(&mut reclaim).is_ready());
    }
}
