//! Memory that the connections of one executor hold together, against one limit. Not `Send`.
//!
//! The executors of a process share a [`Pool`]: each has a little of its own, which nobody can take
//! from it, and above that takes from what all of them share.
//!
//! ```text
//!   try_take, take     asks first: room is there, or it is waited for
//!   Held::set          says what is held already; may pass the limit by what one answer takes
//!   is_short           somebody was told no, or waits: idle buffers go back, slow holders must go
//! ```

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::local::{Changed, Notify};

/// What the budgets of a process share. Clones are the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    bytes_max: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    used: AtomicUsize,
    /// Who waits for room now, on any executor.
    waiting: AtomicUsize,
    /// How often somebody found no room.
    misses: AtomicUsize,
}

impl Pool {
    /// One of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, shared: Arc::default() }
    }

    /// Bytes that were taken.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, if there is room for them. What is larger than the pool is taken when nothing
    /// else is.
    fn try_take(&self, bytes: usize) -> bool {
        let taken = |used: usize| {
            let fits = used == 0 || used.saturating_add(bytes) <= self.bytes_max;
            fits.then(|| used.saturating_add(bytes))
        };
        self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.shared.used.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.shared.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

/// See the module. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    inner: Rc<Inner>,
}

struct Inner {
    /// Without a pool the limit, with one the executor's own.
    own_bytes: usize,
    /// Invariant: what is used above `own_bytes` is taken from it.
    pool: Option<Pool>,
    used: Cell<usize>,
    /// The most that was used since somebody asked.
    peak: Cell<usize>,
    /// Somebody has found no room since the last look.
    missed: Cell<bool>,
    /// The pool's misses at the last look.
    seen_misses: Cell<usize>,
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
        Self::of(bytes_max, None)
    }

    /// One of so many bytes of its own, and of what it can get from a pool above them.
    pub fn with_pool(own_bytes: usize, pool: &Pool) -> Self {
        Self::of(own_bytes, Some(pool.clone()))
    }

    fn of(own_bytes: usize, pool: Option<Pool>) -> Self {
        let inner = Inner {
            own_bytes,
            pool,
            used: Cell::new(0),
            peak: Cell::new(0),
            missed: Cell::new(false),
            seen_misses: Cell::new(0),
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

    /// The limit: with a pool, what could be used if nobody else used the pool.
    pub fn bytes_max(&self) -> usize {
        let pool = self.inner.pool.as_ref().map_or(0, |pool| pool.bytes_max);
        self.inner.own_bytes + pool
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

    /// There was no room for somebody since the last look, or there is none for somebody now: on any
    /// executor of the pool, since who holds much on one takes it from all.
    pub fn is_short(&self) -> bool {
        let is_short = self.inner.missed.get() || self.inner.waiting.get() > 0;
        is_short
            || self.inner.pool.as_ref().is_some_and(|Pool { shared, .. }| {
                shared.waiting.load(Ordering::Relaxed) > 0
                    || shared.misses.load(Ordering::Relaxed) != self.inner.seen_misses.get()
            })
    }

    /// As [`Self::is_short`], and from here on only what comes counts. Has idle buffers given back, and
    /// who waits look at the pool again: other executors can't wake it.
    pub fn look(&self) -> bool {
        let is_short = self.is_short();
        self.inner.missed.set(false);
        if let Some(pool) = &self.inner.pool {
            self.inner.seen_misses.set(pool.shared.misses.load(Ordering::Relaxed));
            if self.inner.waiting.get() > 0 {
                self.inner.freed.notify_all();
            }
        }
        self.inner.reclaim.notify_all();
        is_short
    }

    /// Completes when memory that serves nothing now should be given back.
    pub fn reclaim(&self) -> Changed {
        self.inner.reclaim.changed()
    }

    /// Uses so much more, if there is room. More than the limit is used when nothing else is.
    fn try_use(&self, more: usize) -> bool {
        let (used, own) = (self.used(), self.inner.own_bytes);
        let now = used.saturating_add(more);
        let fits = match &self.inner.pool {
            None => used == 0 || now <= own,
            Some(_) if now <= own => true,
            Some(pool) => pool.try_take(now - used.max(own)),
        };
        if fits {
            self.set_used(now);
        }
        fits
    }

    fn miss(&self) {
        if let Some(pool) = &self.inner.pool {
            pool.shared.misses.fetch_add(1, Ordering::Relaxed);
        }
        if !self.inner.missed.replace(true) {
            self.inner.reclaim.notify_all();
        }
    }

    fn change(&self, before: usize, now: usize) {
        let used = self.used();
        assert!(used >= before, "{before} of {used} bytes were held");
        let then = used - before + now;
        if let Some(pool) = &self.inner.pool {
            let above = |used: usize| used.saturating_sub(self.inner.own_bytes);
            pool.change(above(used), above(then));
        }
        self.set_used(then);
        if now < before && self.inner.waiting.get() > 0 {
            self.inner.freed.notify_all();
        }
    }

    fn set_used(&self, used: usize) {
        self.inner.used.set(used);
        if used > self.inner.peak.get() {
            self.inner.peak.set(used);
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

    /// More is held in all than there is room for.
    pub fn is_beyond(&self) -> bool {
        self.budget.used() > self.budget.bytes_max()
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
        let fits = more == 0 || self.budget.try_use(more);
        if fits {
            self.bytes += more;
        } else {
            self.budget.miss();
        }
        fits
    }

    /// Becomes as much as `bytes`, if there is plenty of room: nobody waits, and most is free. Whoever asks does not
    /// count as somebody who found none.
    pub fn grow_if_plenty(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let budget = &self.budget;
        let is_plenty = budget.used().saturating_add(more) <= budget.bytes_max() / 2;
        let fits = more == 0 || is_plenty && !budget.is_short() && budget.try_use(more);
        if fits {
            self.bytes += more;
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
        if let Some(pool) = &budget.inner.pool {
            pool.shared.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Self(budget.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let Inner { waiting, pool, .. } = &*self.0.inner;
        waiting.set(waiting.get() - 1);
        if let Some(pool) = pool {
            pool.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_queue::testing::poll_once;

    #[test]
    fn what_is_not_urgent_gets_half_and_nothing_while_others_are_short() {
        let budget = Budget::new(100);
        let mut held = budget.hold();
        assert!(held.grow_if_plenty(50) && !held.grow_if_plenty(51));
        assert!(held.grow_if_plenty(50) && !budget.is_short());
        held.set(10);
        let other = budget.hold().try_grow(95);
        assert!(!other && budget.is_short() && !held.grow_if_plenty(20));
        budget.look();
        assert!(held.grow_if_plenty(20));
        assert_eq!((held.bytes(), budget.used()), (20, 20));
    }

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
    fn executors_share_a_pool_and_each_keeps_its_own() {
        let pool = Pool::new(100);
        let (first, second) = (Budget::with_pool(20, &pool), Budget::with_pool(20, &pool));
        let mut large = first.try_take(110).unwrap();
        assert_eq!((pool.used(), first.bytes_max()), (90, 120));
        let own = second.try_take(20).unwrap();
        assert_eq!(pool.used(), 90, "its own is not the pool's");
        let rest = second.try_take(10).unwrap();
        assert!(second.try_take(1).is_none() && !large.try_grow(111), "the pool is used up");
        let mut waits = Box::pin(second.take(5));
        assert!(poll_once(&mut waits).is_pending());
        assert!(first.look(), "who holds it on another executor has little time, too");
        large.set(50);
        assert_eq!(pool.used(), 40);
        assert!(second.look() && poll_once(&mut waits).is_ready(), "it looks at the pool again");
        large.set(200);
        assert_eq!(pool.used(), 190, "what is held already counts, room or not");
        drop((large, own, rest));
        drop(waits);
        assert_eq!((pool.used(), first.used(), second.used()), (0, 0, 0));
        let (_, _) = (first.look(), second.look());
        assert!(!first.is_short() && !second.is_short());
    }

    #[test]
    fn more_than_the_pool_is_taken_when_it_is_free() {
        let pool = Pool::new(100);
        let (first, second) = (Budget::with_pool(20, &pool), Budget::with_pool(20, &pool));
        let large = first.try_take(500).unwrap();
        assert!(second.try_take(500).is_none() && second.try_take(20).is_some());
        drop(large);
        assert!(second.try_take(500).is_some());
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
