//! [`Runtime`] on glommio's executor. A value is only used on the executor that made it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::timer::Timer;
use rand::Rng as _;
use walengine_net::model::Timestamp;

use crate::executor::Runtime;

/// The executor of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct GlommioRuntime {
    /// What the steady clock showed.
    start: Duration,
}

impl GlommioRuntime {
    /// The executor of the calling thread; monotonic time counts from here.
    pub fn new() -> Self {
        Self { start: steady() }
    }
}

/// Time since the machine was booted, in which it slept included: what nobody can set, and what a wall
/// clock is held against. Asked of the kernel itself, and not of a library that can be replaced.
fn steady() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Completes at its deadline. A task that waits for several things polls it for each of them. At
/// each poll, glommio's timer registers itself again, and each registration stays until the
/// deadline: one second of frames on a connection with an idle timeout of a minute left thousands,
/// and every turn of the executor looks at all of them. So each poll drops the old timer and makes
/// a new one.
struct Alarm {
    deadline: Instant,
    timer: Option<Timer>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer = None;
        let mut timer = Timer::new(self.deadline.saturating_duration_since(Instant::now()));
        let rings = Pin::new(&mut timer).poll(context);
        self.timer = Some(timer);
        rings.map(|_| ())
    }
}

impl Default for GlommioRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for GlommioRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // glommio would run it at once, inside its spawner, which may have borrowed what it needs.
        let later = async {
            futures_lite::future::yield_now().await;
            task.await;
        };
        // Detached on purpose: dropping a glommio task would cancel it.
        drop(glommio::spawn_local(later).detach());
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        Alarm { deadline: Instant::now() + duration, timer: None }
    }

    async fn yield_now(&self) {
        glommio::executor().yield_now().await;
    }

    fn now(&self) -> Timestamp {
        // Before 1970 is 0, and past 2554 the greatest: log time only needs some clock.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        steady().saturating_sub(self.start)
    }

    fn random_u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use super::*;

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    /// The fault: a task that needed no wait ran inside its spawner, and both borrowed the same. That ended a
    /// server at the beginning of an import whose line in the audit trail was written at once.
    #[test]
    fn what_is_spawned_begins_after_its_spawner_has_gone_on() {
        let executor = glommio::LocalExecutor::default();
        executor.run(async {
            let (runtime, order) = (GlommioRuntime::new(), Rc::new(RefCell::new(Vec::new())));
            {
                let mut borrowed = order.borrow_mut();
                for number in 0..3 {
                    let order = order.clone();
                    runtime.spawn(async move { order.borrow_mut().push(number) });
                }
                borrowed.push(99);
            }
            runtime.sleep(Duration::from_millis(1)).await;
            assert_eq!(*order.borrow(), [99, 0, 1, 2]);
        });
    }

    /// A sleep that was polled at every frame of its connection left a timer in the reactor for
    /// each, which cost a third of a follower's time.
    #[test]
    fn a_sleep_that_is_polled_often_has_one_timer() {
        let executor = glommio::LocalExecutor::default();
        executor.run(async {
            let counted = Arc::new(Counted);
            let waker = Waker::from(counted.clone());
            let mut context = Context::from_waker(&waker);
            let runtime = GlommioRuntime::new();
            let mut sleep = Box::pin(runtime.sleep(Duration::from_mins(1)));
            for _ in 0..1000 {
                assert!(sleep.as_mut().poll(&mut context).is_pending());
            }
            assert!(Arc::strong_count(&counted) <= 3, "each timer holds a waker");
            drop(sleep);
            assert_eq!(Arc::strong_count(&counted), 2, "nothing is left behind");
        });
    }
}
