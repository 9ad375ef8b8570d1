//! Wake-ups between tasks of one thread. Not `Send`. Tasks are woken in the order in which they
//! began to wait, in production and in simulation.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::wait_queue::{Ticket, WaitQueue};

/// Tells any number of waiting tasks that something has changed. What has changed, they look up
/// themselves.
///
/// To miss nothing, call [`Notify::changed`], look at the condition, and then await the future.
#[derive(Clone, Default)]
pub struct Notify {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    generation: Cell<u64>,
    waiters: RefCell<WaitQueue<()>>,
}

impl Notify {
    /// A new one, for which no task waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes all waiting tasks, in the order in which they began to wait.
    pub fn notify_all(&self) {
        self.inner.generation.set(self.inner.generation.get() + 1);
        let waiters = self.inner.waiters.borrow_mut().take_all();
        for waiter in waiters {
            waiter.waker.wake();
        }
    }

    /// Completes at the next [`Notify::notify_all`] after this call.
    pub fn changed(&self) -> Changed {
        Changed { generation: self.inner.generation.get(), inner: self.inner.clone(), ticket: None }
    }
}

/// Future of [`Notify::changed`].
pub struct Changed {
    inner: Rc<Inner>,
    generation: u64,
    ticket: Option<Ticket>,
}

impl Future for Changed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.generation.get() != self.generation {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let Some(ticket) = self.ticket else {
            let ticket = self.inner.waiters.borrow_mut().push((), waker);
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        let former = self.inner.waiters.borrow_mut().renew(ticket, waker);
        drop(former); // after the borrow
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waiter = self.inner.waiters.borrow_mut().remove(ticket);
            drop(waiter); // after the borrow
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_queue::testing::{Woken, poll_once};

    #[test]
    fn waiters_are_woken_in_the_order_in_which_they_began() {
        let (notify, woken) = (Notify::new(), Woken::default());
        let mut futures: Vec<_> = (0..4).map(|_| notify.changed()).collect();
        for (number, future) in futures.iter_mut().enumerate() {
            assert!(woken.poll(number, future).is_pending());
        }
        assert!(woken.poll(7, &mut futures[2]).is_pending(), "a new waker keeps the place");
        drop(futures.remove(1));
        notify.notify_all();
        assert_eq!(woken.take(), [0, 7, 3]);
        assert!(poll_once(&mut futures[0]).is_ready());
        let mut later = notify.changed();
        assert!(poll_once(&mut later).is_pending());
    }
}
