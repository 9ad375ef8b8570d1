//! One value from one task to another of the same thread.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use openraft::rt::{Oneshot, OneshotSender, OptionalSend};

/// Names the channel to openraft.
#[derive(Debug)]
pub struct LocalOneshot;

/// Sends once.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

/// Completes with the value, or with [`SenderDropped`] if none will come.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
}

/// The sender was dropped without sending, or the value was already taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderDropped;

impl fmt::Display for SenderDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender was dropped without sending")
    }
}

impl std::error::Error for SenderDropped {}

struct Shared<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
    sender_gone: Cell<bool>,
    receiver_gone: Cell<bool>,
}

/// A new channel.
pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: Cell::new(None),
        waker: Cell::new(None),
        sender_gone: Cell::new(false),
        receiver_gone: Cell::new(false),
    });
    (Sender { shared: shared.clone() }, Receiver { shared })
}

impl Oneshot for LocalOneshot {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type ReceiverError = SenderDropped;

    fn channel<T: OptionalSend>() -> (Sender<T>, Receiver<T>) {
        channel()
    }
}

impl<T: OptionalSend> OneshotSender<T> for Sender<T> {
    fn send(self, value: T) -> Result<(), T> {
        if self.shared.receiver_gone.get() {
            return Err(value);
        }
        self.shared.value.set(Some(value));
        Ok(()) // dropping the sender wakes the receiver
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.sender_gone.set(true);
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, SenderDropped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.shared.value.take() {
            return Poll::Ready(Ok(value));
        }
        if self.shared.sender_gone.get() {
            return Poll::Ready(Err(SenderDropped));
        }
        self.shared.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.set(true);
        drop((self.shared.value.take(), self.shared.waker.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_queue::testing::{Woken, poll_once};

    #[test]
    fn value_sent_before_or_after_the_first_poll_arrives_once() {
        let woken = Woken::default();
        let (sender, mut receiver) = channel();
        sender.send(1).unwrap();
        assert_eq!(woken.poll(0, &mut receiver), Poll::Ready(Ok(1)));
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Err(SenderDropped)));

        let (sender, mut receiver) = channel();
        assert!(woken.poll(1, &mut receiver).is_pending());
        assert!(woken.poll(2, &mut receiver).is_pending());
        sender.send(2).unwrap();
        assert_eq!(woken.take(), [2], "the last waker counts, and is woken once");
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Ok(2)));
    }

    #[test]
    fn dropped_sender_wakes_the_receiver_with_an_error() {
        let woken = Woken::default();
        let (sender, mut receiver) = channel::<u8>();
        assert!(woken.poll(0, &mut receiver).is_pending());
        drop(sender);
        assert_eq!(woken.take(), [0]);
        assert_eq!(poll_once(&mut receiver), Poll::Ready(Err(SenderDropped)));
    }

    #[test]
    fn value_for_a_dropped_receiver_comes_back() {
        let (sender, receiver) = channel();
        drop(receiver);
        assert_eq!(sender.send(5), Err(5));
    }

    #[test]
    fn value_that_nobody_took_is_dropped_with_the_receiver() {
        let (value, (sender, receiver)) = (Rc::new(()), channel());
        sender.send(value.clone()).unwrap();
        assert_eq!(Rc::strong_count(&value), 2);
        drop(receiver);
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
