//! Wake-ups between tasks of one thread. Not `Send`; first come, first woken, the same in production
//! and in simulation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tells any number of waiting tasks that something has changed; they look for themselves what.
///
/// To miss nothing, look at the condition and then await [`Notify::changed`] with no await between.
#[derive(Clone, Default)]
pub struct Notify {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    generation: Cell<u64>,
    ticket_next: Cell<u64>,
    waiters: RefCell<VecDeque<(u64, Waker)>>,
}

impl Notify {
    /// Nobody waits yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes everybody who waits, in the order in which they began to.
    pub fn notify_all(&self) {
        self.inner.generation.set(self.inner.generation.get() + 1);
        let waiters = std::mem::take(&mut *self.inner.waiters.borrow_mut());
        for (_, waker) in waiters {
            waker.wake();
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
    ticket: Option<u64>,
}

impl Future for Changed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.generation.get() != self.generation {
            return Poll::Ready(());
        }
        let ticket = self.ticket.unwrap_or_else(|| {
            let ticket = self.inner.ticket_next.get();
            self.inner.ticket_next.set(ticket + 1);
            ticket
        });
        self.ticket = Some(ticket);
        let mut waiters = self.inner.waiters.borrow_mut();
        match waiters.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => waiters.push_back((ticket, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.inner.waiters.borrow_mut().retain(|(other, _)| *other != ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Order(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Order {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn waiters_are_woken_in_the_order_in_which_they_began() {
        let notify = Notify::new();
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut futures: Vec<_> = (0..4).map(|_| notify.changed()).collect();
        for (number, future) in futures.iter_mut().enumerate() {
            let waker = Waker::from(Arc::new(Order(number, woken.clone())));
            assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(futures.remove(1));
        notify.notify_all();
        assert_eq!(*woken.lock().unwrap(), [0, 2, 3]);
        let waker = Waker::noop();
        assert!(Pin::new(&mut futures[0]).poll(&mut Context::from_waker(waker)).is_ready());
        let mut later = notify.changed();
        assert!(Pin::new(&mut later).poll(&mut Context::from_waker(waker)).is_pending());
    }
}
