//! The latest value of something, for any number of tasks of one thread.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use openraft::rt::watch::SendError;
use openraft::rt::{OptionalSend, OptionalSync, RecvError, Watch, WatchReceiver, WatchSender};

use crate::local::Notify;

/// Names the channel to openraft.
#[derive(Debug)]
pub struct LocalWatch;

/// Sets the value.
pub struct Sender<T> {
    shared: Rc<Shared<T>>,
}

/// Sees the latest value; earlier ones may be missed.
pub struct Receiver<T> {
    shared: Rc<Shared<T>>,
    seen: u64,
}

struct Shared<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    changed: Notify,
}

fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        value: RefCell::new(value),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        changed: Notify::new(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, seen: 0 })
}

impl Watch for LocalWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(value: T) -> (Sender<T>, Receiver<T>) {
        channel(value)
    }
}

impl<T> Shared<T> {
    fn announce(&self) {
        self.version.set(self.version.get() + 1);
        self.changed.notify_all();
    }
}

/// # Panics
/// When sending while a [`Ref`] is alive: somebody holds it across an await.
impl<T: OptionalSend + OptionalSync> WatchSender<LocalWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.shared.receivers.get() == 0 {
            return Err(SendError(value));
        }
        let former = self.shared.value.replace(value);
        self.shared.announce();
        drop(former); // after the borrow
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = modify(&mut *self.shared.value.borrow_mut());
        if modified {
            self.shared.announce();
        }
        modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        let shared = self.shared.clone();
        shared.receivers.set(shared.receivers.get() + 1);
        Receiver { seen: shared.version.get(), shared }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<LocalWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let version = self.shared.version.get();
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.senders.get() == 0 {
                return Err(RecvError(()));
            }
            self.shared.changed.changed().await;
        }
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.shared.value.borrow()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.shared.version.get();
        self.shared.value.borrow()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.set(self.shared.senders.get() + 1);
        Self { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.senders.set(self.shared.senders.get() - 1);
        if self.shared.senders.get() == 0 {
            self.shared.changed.notify_all();
        }
    }
}

impl<T> Clone for Receiver<T> {
    /// The clone has seen what the original has seen.
    fn clone(&self) -> Self {
        self.shared.receivers.set(self.shared.receivers.get() + 1);
        Self { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.set(self.shared.receivers.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::wait_queue::testing::{Woken, poll_once};

    fn poll_changed<T>(receiver: &mut Receiver<T>) -> Poll<Result<(), RecvError>> {
        poll_once(&mut pin!(receiver.changed()))
    }

    #[test]
    fn value_sent_before_or_while_waiting_is_seen_once() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(0));
        assert!(poll_changed(&mut receiver).is_pending(), "the first value counts as seen");
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(poll_changed(&mut receiver), Poll::Ready(Ok(())));
        assert!(poll_changed(&mut receiver).is_pending());
        {
            let mut changed = pin!(receiver.changed());
            assert!(woken.poll(7, &mut changed).is_pending());
            sender.send(3).unwrap();
            assert_eq!(woken.take(), [7]);
            assert_eq!(poll_once(&mut changed), Poll::Ready(Ok(())));
        }
        assert_eq!(*receiver.borrow_watched(), 3);
        sender.send(4).unwrap();
        assert_eq!(*receiver.borrow_and_update(), 4);
        assert!(poll_changed(&mut receiver).is_pending(), "it was looked at as an update");
    }

    #[test]
    fn receivers_wake_in_the_order_in_which_they_began_to_wait() {
        let (woken, (sender, receiver)) = (Woken::default(), channel(0));
        let mut receivers = [receiver.clone(), sender.subscribe(), receiver];
        let mut waiting: Vec<_> = receivers.iter_mut().map(|one| Box::pin(one.changed())).collect();
        for number in [2, 0, 1] {
            assert!(woken.poll(number, &mut waiting[number]).is_pending());
        }
        sender.send(1).unwrap();
        assert_eq!(woken.take(), [2, 0, 1]);
    }

    #[test]
    fn last_value_is_seen_before_the_end_of_the_last_sender() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(0));
        let other = sender.clone();
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!(poll_changed(&mut receiver), Poll::Ready(Ok(())));
        let mut changed = pin!(receiver.changed());
        assert!(woken.poll(0, &mut changed).is_pending());
        drop(other);
        assert_eq!(woken.take(), [0]);
        assert_eq!(poll_once(&mut changed), Poll::Ready(Err(RecvError(()))));
    }

    #[test]
    fn value_without_receivers_comes_back_and_is_not_set() {
        let (sender, receiver) = channel(0);
        let second = receiver.clone();
        drop(receiver);
        sender.send(1).unwrap();
        drop(second);
        assert_eq!(sender.send(2), Err(SendError(2)));
        assert_eq!(*sender.borrow_watched(), 1);
        assert!(sender.send_if_modified(|value| std::mem::replace(value, 3) == 1));
        assert_eq!(*sender.subscribe().borrow_and_update(), 3);
    }

    #[test]
    fn silent_modification_wakes_nobody() {
        let (woken, (sender, mut receiver)) = (Woken::default(), channel(0));
        let mut other = receiver.clone();
        let mut changed = pin!(receiver.changed());
        assert!(woken.poll(0, &mut changed).is_pending());
        assert!(!sender.send_if_modified(|value| std::mem::replace(value, 3) == 9));
        assert_eq!(woken.take(), [0_usize; 0]);
        assert!(poll_once(&mut changed).is_pending());
        assert_eq!(*other.borrow_and_update(), 3);
    }
}
