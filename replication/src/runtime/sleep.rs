//! Waiting for a point in time.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::rt::Instant as _;

use super::current::{Executor, current};
use super::instant::LocalInstant;

/// A sleep with at most this much left yields until its deadline instead of setting an alarm.
/// glommio's alarm for 1 us rings after 30 us (median of 200 on the development machine), and
/// openraft sleeps for 1 us between two reports of a flush.
const YIELDED_MAX: Duration = Duration::from_micros(5);

/// Completes at its deadline, never earlier, and never at its first poll: a task that sleeps in a
/// loop lets others run even if every deadline has already passed.
pub struct Sleep {
    executor: Rc<dyn Executor>,
    deadline: LocalInstant,
    polled: bool,
    alarm: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Sleep {
    #[track_caller]
    pub(super) fn until(deadline: LocalInstant) -> Self {
        Self { executor: current(), deadline, polled: false, alarm: None }
    }

    #[track_caller]
    pub(super) fn lasting(duration: Duration) -> Self {
        Self::until(LocalInstant::now() + duration)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Drop the old alarm first: an executor may keep one for each poll and each waker.
        self.alarm = None;
        let left = self.deadline - LocalInstant::at(&*self.executor);
        let polled = std::mem::replace(&mut self.polled, true);
        if left.is_zero() && polled {
            return Poll::Ready(());
        }
        if left <= YIELDED_MAX {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut alarm = self.executor.sleep(left);
        if alarm.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref(); // reads the clock again
        }
        self.alarm = Some(alarm);
        Poll::Pending
    }
}
