//! A queue of tasks of one thread that wait for something, first come, first served.
//!
//! It drops no waker and no message itself: dropping one may run foreign code that calls the queue
//! again. Callers drop what they get back after their borrow has ended.

use std::collections::VecDeque;
use std::task::Waker;

/// A place in the queue. Never issued twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// See the module. Each waiter brings a `T` along.
pub(crate) struct WaitQueue<T> {
    ticket_next: u64,
    queue: VecDeque<Waiter<T>>, // invariant: tickets ascend
}

/// A waiting task.
pub(crate) struct Waiter<T> {
    pub(crate) ticket: Ticket,
    pub(crate) brought: T,
    pub(crate) waker: Waker,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self { ticket_next: 0, queue: VecDeque::new() }
    }
}

impl<T> WaitQueue<T> {
    /// Appends a waiter.
    pub(crate) fn push(&mut self, brought: T, waker: Waker) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        self.queue.push_back(Waiter { ticket, brought, waker });
        ticket
    }

    /// Removes the first waiter.
    pub(crate) fn pop(&mut self) -> Option<Waiter<T>> {
        self.queue.pop_front()
    }

    /// Removes all waiters, in order.
    pub(crate) fn take_all(&mut self) -> VecDeque<Waiter<T>> {
        std::mem::take(&mut self.queue)
    }

    /// The wakers of all waiters, in order. The waiters stay in the queue.
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.queue.iter().map(|waiter| waiter.waker.clone()).collect()
    }

    /// Removes a waiter, if it is still in the queue.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waiter<T>> {
        self.queue.remove(self.position(ticket)?)
    }

    /// Replaces a waker and returns the former one. `None` if the waiter is no longer in the queue.
    pub(crate) fn renew(&mut self, ticket: Ticket, waker: Waker) -> Option<Waker> {
        let position = self.position(ticket)?;
        Some(std::mem::replace(&mut self.queue[position].waker, waker))
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

/// For tests: wakers that record the order in which they were woken.
#[cfg(test)]
pub(crate) mod testing {
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};

    /// The numbers of the wakers that were woken, in order.
    #[derive(Clone, Default)]
    pub(crate) struct Woken(Arc<Mutex<Vec<usize>>>);

    struct Numbered(usize, Woken);

    impl Wake for Numbered {
        fn wake(self: Arc<Self>) {
            self.1.0.lock().unwrap().push(self.0);
        }
    }

    impl Woken {
        /// Polls `future` once, with a waker that records `number` here.
        pub(crate) fn poll<F: Future + Unpin>(
            &self,
            number: usize,
            future: &mut F,
        ) -> Poll<F::Output> {
            let waker = Waker::from(Arc::new(Numbered(number, self.clone())));
            Pin::new(future).poll(&mut Context::from_waker(&waker))
        }

        /// The numbers that were woken since the last call.
        pub(crate) fn take(&self) -> Vec<usize> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// Polls `future` once, with a waker that does nothing.
    pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_go_in_order_and_their_tickets_are_never_given_out_twice() {
        let mut waiters = WaitQueue::default();
        let tickets: Vec<_> = (0..4).map(|n| waiters.push(n, Waker::noop().clone())).collect();
        assert_eq!(waiters.remove(tickets[1]).map(|waiter| waiter.brought), Some(1));
        assert!(waiters.remove(tickets[1]).is_none(), "the place is given up");
        assert!(waiters.renew(tickets[1], Waker::noop().clone()).is_none());
        assert!(waiters.renew(tickets[2], Waker::noop().clone()).is_some());
        assert_eq!(waiters.pop().map(|waiter| waiter.ticket), Some(tickets[0]));
        let rest: Vec<_> = waiters.take_all().into_iter().map(|waiter| waiter.brought).collect();
        assert_eq!(rest, [2, 3]);
        let later = waiters.push(9, Waker::noop().clone());
        assert!(!tickets.contains(&later));
        assert!(waiters.remove(tickets[0]).is_none(), "an old ticket removes nobody else");
    }
}
