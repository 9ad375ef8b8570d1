//! A bounded queue from many tasks to one, all of one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use openraft::rt::{
    Mpsc, MpscReceiver, MpscSender, MpscWeakSender, OptionalSend, SendError, TryRecvError,
};

use crate::wait_queue::{Ticket, WaitQueue};

/// Names the channel to openraft.
#[derive(Debug)]
pub struct LocalMpsc;

/// Sends; messages arrive in the order in which their sending began.
pub struct Sender<T> {
    shared: Shared<T>,
}

/// Receives. Dropping it closes the channel and drops what is in the queue.
pub struct Receiver<T> {
    shared: Shared<T>,
}

/// Does not keep the channel open.
pub struct WeakSender<T> {
    shared: Shared<T>,
}

type Shared<T> = Rc<RefCell<State<T>>>;

struct State<T> {
    capacity: usize,
    /// Invariant: no longer than `capacity`.
    queue: VecDeque<T>,
    /// Senders that found no room, with their messages. Invariant: empty unless the queue is full.
    waiting: WaitQueue<T>,
    receiver: Option<Waker>,
    receiver_gone: bool,
    senders: usize,
}

/// A queue of `capacity` messages.
fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a queue without room");
    let shared = Rc::new(RefCell::new(State {
        capacity,
        queue: VecDeque::new(),
        waiting: WaitQueue::default(),
        receiver: None,
        receiver_gone: false,
        senders: 1,
    }));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

impl Mpsc for LocalMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        channel(capacity)
    }
}

impl<T> Sender<T> {
    fn sending(&self, message: T) -> Sending<'_, T> {
        Sending { shared: &self.shared, message: Some(message), ticket: None }
    }
}

impl<T: OptionalSend> MpscSender<LocalMpsc, T> for Sender<T> {
    /// Waits for room after those that wait already. If it is dropped while it waits, it sends
    /// nothing; but the queue may have taken the message before the waiting task noticed.
    fn send(&self, message: T) -> impl Future<Output = Result<(), SendError<T>>> {
        self.sending(message)
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender { shared: self.shared.clone() }
    }
}

/// Future of `send`.
struct Sending<'a, T> {
    shared: &'a Shared<T>,
    message: Option<T>, // until it is queued or waits
    ticket: Option<Ticket>,
}

impl<T> Unpin for Sending<'_, T> {} // the message is moved, never pinned

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.borrow_mut();
        if let Some(ticket) = self.ticket {
            if state.receiver_gone {
                let waiter = state.waiting.remove(ticket);
                drop(state);
                self.ticket = None;
                return Poll::Ready(match waiter {
                    Some(waiter) => Err(SendError(waiter.brought)),
                    None => Ok(()), // it was queued before the receiver went
                });
            }
            let former = state.waiting.renew(ticket, context.waker().clone());
            drop(state);
            if former.is_some() {
                return Poll::Pending;
            }
            self.ticket = None;
            return Poll::Ready(Ok(()));
        }
        let message = self.message.take().expect("polled again after its end");
        if state.receiver_gone {
            return Poll::Ready(Err(SendError(message)));
        }
        if state.queue.len() == state.capacity {
            let ticket = state.waiting.push(message, context.waker().clone());
            drop(state);
            self.ticket = Some(ticket);
            return Poll::Pending;
        }
        state.queue.push_back(message);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(waker) = receiver {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let waiter = self.shared.borrow_mut().waiting.remove(ticket);
            drop(waiter); // after the borrow
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.borrow_mut().senders += 1;
        Self { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.borrow_mut();
        state.senders -= 1;
        if state.senders > 0 {
            return;
        }
        let receiver = state.receiver.take();
        drop(state);
        if let Some(waker) = receiver {
            waker.wake();
        }
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: OptionalSend> MpscWeakSender<LocalMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let mut state = self.shared.borrow_mut();
        if state.senders == 0 {
            return None;
        }
        state.senders += 1;
        Some(Sender { shared: self.shared.clone() })
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>> {
        poll_fn(|context| match self.try_recv() {
            Ok(message) => Poll::Ready(Some(message)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                let waker = Some(context.waker().clone());
                let former = std::mem::replace(&mut self.shared.borrow_mut().receiver, waker);
                drop(former); // after the borrow
                Poll::Pending
            }
        })
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = self.shared.borrow_mut();
        let Some(message) = state.queue.pop_front() else {
            let open = state.senders > 0;
            return Err(if open { TryRecvError::Empty } else { TryRecvError::Disconnected });
        };
        let Some(waiter) = state.waiting.pop() else { return Ok(message) };
        state.queue.push_back(waiter.brought);
        drop(state);
        waiter.waker.wake();
        Ok(message)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.borrow_mut();
        state.receiver_gone = true;
        let queue = std::mem::take(&mut state.queue);
        let receiver = state.receiver.take();
        let wakers = state.waiting.wakers(); // the messages stay: their senders get them back
        drop(state);
        drop((queue, receiver));
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::wait_queue::testing::{Woken, poll_once};

    fn sent<T>(sender: &Sender<T>, message: T) -> bool {
        poll_once(&mut sender.sending(message)).is_ready()
    }

    #[test]
    fn messages_arrive_in_order_also_from_senders_who_waited() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(2));
        assert!(sent(&sender, 0) && sent(&sender, 1));
        let other = sender.clone();
        let mut waiting = [sender.sending(2), other.sending(3), sender.sending(4)];
        for (number, sending) in waiting.iter_mut().enumerate() {
            assert!(woken.poll(number, sending).is_pending());
        }
        assert_eq!(receiver.try_recv(), Ok(0));
        assert_eq!(woken.take(), [0]);
        assert!(!sent(&other, 9), "nobody overtakes those who wait, and 9 is not sent");
        for (number, sending) in waiting.iter_mut().enumerate() {
            assert_eq!(poll_once(sending).is_ready(), number == 0);
        }
        let rest: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(rest, [1, 2, 3, 4]);
    }

    #[test]
    fn queue_takes_no_more_than_its_capacity() {
        let (sender, mut receiver) = channel(3);
        let taken = (0..5).filter(|number| sent(&sender, *number)).count();
        assert_eq!((taken, receiver.try_recv()), (3, Ok(0)));
        assert!(sent(&sender, 7) && !sent(&sender, 8));
    }

    #[test]
    fn message_wakes_the_receiver_once() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(2));
        {
            let mut receiving = pin!(receiver.recv());
            assert!(woken.poll(0, &mut receiving).is_pending());
            assert!(woken.poll(1, &mut receiving).is_pending());
            assert!(sent(&sender, 1) && sent(&sender, 2));
            assert_eq!(woken.take(), [1]);
            assert_eq!(poll_once(&mut receiving), Poll::Ready(Some(1)));
        }
        assert_eq!(poll_once(&mut pin!(receiver.recv())), Poll::Ready(Some(2)));
    }

    #[test]
    fn receiver_gets_what_was_sent_before_the_last_sender_went() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(2));
        let weak = sender.downgrade();
        let other = weak.upgrade().unwrap();
        assert!(sent(&sender, 1));
        drop(sender);
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        {
            let mut receiving = pin!(receiver.recv());
            assert!(woken.poll(0, &mut receiving).is_pending());
            drop(other);
            assert_eq!(woken.take(), [0]);
            assert_eq!(poll_once(&mut receiving), Poll::Ready(None));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn senders_get_their_messages_back_when_the_receiver_goes() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(1));
        assert!(sent(&sender, 0));
        let mut waiting = [sender.sending(1), sender.sending(2), sender.sending(3)];
        for (number, sending) in waiting.iter_mut().enumerate() {
            assert!(woken.poll(number, sending).is_pending());
        }
        assert_eq!((receiver.try_recv(), woken.take()), (Ok(0), vec![0]));
        drop(receiver);
        assert_eq!(woken.take(), [1, 2]);
        let ends = waiting.each_mut().map(poll_once);
        let back = [2, 3].map(|message| Poll::Ready(Err(SendError(message))));
        assert_eq!(ends[0], Poll::Ready(Ok(())), "1 was queued, and lost with the queue");
        assert_eq!(ends[1..], back);
        assert_eq!(poll_once(&mut sender.sending(4)), Poll::Ready(Err(SendError(4))));
    }

    #[test]
    fn message_that_holds_its_own_channel_is_dropped_with_the_receiver() {
        struct Holds(#[expect(dead_code, reason = "held for its drop")] Sender<Holds>);
        let (sender, receiver) = channel(1);
        assert!(sent(&sender, Holds(sender.clone())));
        let shared = Rc::downgrade(&sender.shared);
        drop(sender);
        drop(receiver);
        assert!(shared.upgrade().is_none());
    }
}
