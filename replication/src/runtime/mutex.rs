//! Exclusive use of a value across awaits, for tasks of one thread.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft::rt::{Mutex, OptionalSend};

use crate::wait_queue::{Ticket, WaitQueue};

/// Hands the lock to the task that has waited longest. Never poisoned.
pub struct LocalMutex<T> {
    value: Cell<Option<T>>, // none while a guard has it
    /// The waiter that may take the value. Invariant: some only if `value` is some.
    handed_to: Cell<Option<Ticket>>,
    /// Invariant: empty if `value` is some and `handed_to` none.
    waiters: RefCell<WaitQueue<()>>,
}

/// Owns the value until it is dropped; no borrow lives in here.
pub struct Guard<'a, T> {
    mutex: &'a LocalMutex<T>,
    value: Option<T>, // none only inside `drop`
}

struct Lock<'a, T> {
    mutex: &'a LocalMutex<T>,
    ticket: Option<Ticket>,
}

impl<T> LocalMutex<T> {
    /// Hands the lock to the next waiter, if there is one.
    fn pass_on(&self) {
        let next = self.waiters.borrow_mut().pop();
        self.handed_to.set(next.as_ref().map(|waiter| waiter.ticket));
        if let Some(waiter) = next {
            waiter.waker.wake();
        }
    }

    fn lock(&self) -> Lock<'_, T> {
        Lock { mutex: self, ticket: None }
    }
}

impl<T: OptionalSend + 'static> Mutex<T> for LocalMutex<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Self {
        Self {
            value: Cell::new(Some(value)),
            handed_to: Cell::new(None),
            waiters: RefCell::default(),
        }
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> {
        LocalMutex::lock(self)
    }
}

impl<'a, T> Future for Lock<'a, T> {
    type Output = Guard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Guard<'a, T>> {
        let mutex = self.mutex;
        // Equal if it is our turn, or if nobody waits and neither do we.
        if mutex.handed_to.get() == self.ticket
            && let Some(value) = mutex.value.take()
        {
            mutex.handed_to.set(None);
            self.ticket = None;
            return Poll::Ready(Guard { mutex, value: Some(value) });
        }
        let waker = context.waker().clone();
        if let Some(ticket) = self.ticket {
            let former = mutex.waiters.borrow_mut().renew(ticket, waker);
            drop(former); // after the borrow
        } else {
            self.ticket = Some(mutex.waiters.borrow_mut().push((), waker));
        }
        Poll::Pending
    }
}

impl<T> Drop for Lock<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if self.mutex.handed_to.get() == Some(ticket) {
            self.mutex.pass_on();
        } else {
            let waiter = self.mutex.waiters.borrow_mut().remove(ticket);
            drop(waiter); // after the borrow
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a guard has its value until it is dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a guard has its value until it is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.mutex.value.set(self.value.take());
        self.mutex.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_queue::testing::{Woken, poll_once};

    fn locked<'a>(lock: &mut Lock<'a, u32>) -> Guard<'a, u32> {
        match poll_once(lock) {
            Poll::Ready(guard) => guard,
            Poll::Pending => panic!("still locked"),
        }
    }

    #[test]
    fn lock_goes_to_who_waited_longest_and_nobody_overtakes() {
        let (mutex, woken) = (LocalMutex::new(0), Woken::default());
        let mut guard = locked(&mut mutex.lock());
        *guard += 1;
        let mut waiting: Vec<_> = (0..3).map(|_| mutex.lock()).collect();
        for (number, lock) in waiting.iter_mut().enumerate() {
            assert!(woken.poll(number, lock).is_pending());
        }
        drop(guard);
        assert_eq!(woken.take(), [0]);
        assert!(poll_once(&mut mutex.lock()).is_pending(), "it was promised to another");
        assert!(poll_once(&mut waiting[1]).is_pending());
        let mut guard = locked(&mut waiting[0]);
        *guard += 1;
        drop(guard);
        let guard = locked(&mut waiting[1]);
        assert_eq!(*guard, 2);
    }

    #[test]
    fn waiter_that_gives_up_passes_its_turn_on() {
        let (mutex, woken) = (LocalMutex::new(0), Woken::default());
        let guard = locked(&mut mutex.lock());
        let mut waiting: Vec<_> = (0..4).map(|_| mutex.lock()).collect();
        for (number, lock) in waiting.iter_mut().enumerate() {
            assert!(woken.poll(number, lock).is_pending());
        }
        drop(waiting.remove(1)); // while another holds the lock
        drop(guard);
        drop(waiting.remove(0)); // after it was handed the lock
        assert_eq!(woken.take(), [0, 2]);
        drop(waiting.remove(0));
        drop(waiting.remove(0));
        assert_eq!(woken.take(), [3]);
        drop(locked(&mut mutex.lock()));
    }
}
