//! The executor of the code that runs on this thread, for code that can't be handed one.
//!
//! openraft calls its runtime by type, not by value. So its caller enters an executor. Every task
//! that is spawned meanwhile keeps it: the task is polled and dropped with the same executor
//! entered, whatever else runs on the thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::executor::Runtime;

thread_local! {
    /// Innermost last.
    static ENTERED: RefCell<Vec<Rc<dyn Executor>>> = const { RefCell::new(Vec::new()) };
}

/// [`Runtime`] as an object.
pub(super) trait Executor {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>);
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>>;
    fn elapsed(&self) -> Duration;
    fn random_u64(&self) -> u64;
}

impl<R: Runtime> Executor for R {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        Runtime::spawn(self, task);
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        let runtime = self.clone();
        Box::pin(async move { Runtime::sleep(&runtime, duration).await })
    }

    fn elapsed(&self) -> Duration {
        Runtime::elapsed(self)
    }

    fn random_u64(&self) -> u64 {
        Runtime::random_u64(self)
    }
}

/// Makes `runtime` the executor of this thread until the guard is dropped; then the previous one is
/// restored.
///
/// In production a shard enters once, for the life of its thread. Where several runtimes take turns
/// on a thread, their root futures run [`within`] them instead.
#[must_use = "the executor is left when the guard is dropped"]
pub fn enter(runtime: impl Runtime) -> Entered {
    enter_executor(Rc::new(runtime))
}

/// Polls and drops `future` with `runtime` entered.
pub fn within<F: Future>(runtime: impl Runtime, future: F) -> Within<F> {
    Within { executor: Rc::new(runtime), future: Some(Box::pin(future)) }
}

/// The executor entered last.
///
/// # Panics
/// If there is none: openraft was called from outside, which is our own mistake.
#[track_caller]
pub(super) fn current() -> Rc<dyn Executor> {
    let innermost = ENTERED.with_borrow(|entered| entered.last().cloned());
    innermost.expect("no executor is entered on this thread: see replication::runtime::enter")
}

fn enter_executor(executor: Rc<dyn Executor>) -> Entered {
    let depth = ENTERED.with_borrow_mut(|entered| {
        entered.push(executor.clone());
        entered.len()
    });
    Entered { depth, _executor: executor }
}

/// Guard of [`enter`]. Guards are dropped on the thread that entered, innermost first.
pub struct Entered {
    depth: usize,
    _executor: Rc<dyn Executor>, // also keeps the guard on its thread
}

impl Drop for Entered {
    fn drop(&mut self) {
        let (depth, left) = ENTERED.with_borrow_mut(|entered| (entered.len(), entered.pop()));
        // A second panic would abort the process before the first one is reported.
        assert!(
            depth == self.depth || std::thread::panicking(),
            "executors are left in another order than they were entered"
        );
        drop(left); // after the borrow
    }
}

/// Future of [`within`].
pub struct Within<F> {
    executor: Rc<dyn Executor>,
    future: Option<Pin<Box<F>>>, // none once it has ended
}

impl<F> Within<F> {
    /// Runs `future` with the executor of the caller.
    #[track_caller]
    pub(super) fn current(future: F) -> Self {
        Self { executor: current(), future: Some(Box::pin(future)) }
    }

    pub(super) fn executor(&self) -> Rc<dyn Executor> {
        self.executor.clone()
    }

    /// Drops the future before its end.
    pub(super) fn cut(&mut self) {
        let _entered = enter_executor(self.executor.clone());
        self.future = None;
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = enter_executor(self.executor.clone());
        let future = self.future.as_mut().expect("polled again after its end");
        let poll = future.as_mut().poll(context);
        if poll.is_ready() {
            self.future = None;
        }
        poll
    }
}

impl<F> Drop for Within<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.cut();
        }
    }
}
