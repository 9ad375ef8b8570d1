//! openraft's runtime on the [`Runtime`](crate::executor::Runtime) seam: tasks, time, randomness
//! and channels of one thread, the same on glommio and in a seeded simulation.
//!
//! Code that runs openraft [`enter`]s an executor first. Channels and locks are our own, so that
//! waiting tasks are woken in a fixed order: first come, first served. No borrow lives across an
//! await, nor while a waker or a foreign drop runs.

mod current;
mod driver;
mod instant;
mod mpsc;
mod mutex;
mod oneshot;
mod rng;
mod sleep;
mod task;
#[cfg(test)]
mod tests;
mod timeout;
mod watch;

use std::future::ready;
use std::io;
use std::time::Duration;

use openraft::AsyncRuntime;

pub use current::{Entered, Within, enter, within};
pub use driver::{Driven, drive_by};
pub use instant::LocalInstant;
pub use mpsc::LocalMpsc;
pub use mutex::LocalMutex;
pub use oneshot::{LocalOneshot, SenderDropped};
pub use rng::LocalRng;
pub use sleep::Sleep;
pub use task::{JoinError, JoinHandle};
pub use timeout::{TimedOut, Timeout};
pub use watch::LocalWatch;

/// The entered executor, as a type for openraft's configuration. Every call panics if none is
/// entered.
#[derive(Clone, Copy, Debug)]
pub struct LocalRuntime;

impl AsyncRuntime for LocalRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = LocalInstant;
    type TimeoutError = TimedOut;
    type Timeout<R, F: Future<Output = R>> = Timeout<F>;
    type ThreadLocalRng = LocalRng;
    type Mpsc = LocalMpsc;
    type Watch = LocalWatch;
    type Oneshot = LocalOneshot;
    type Mutex<T: 'static> = LocalMutex<T>;

    #[track_caller]
    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        task::spawn(future)
    }

    #[track_caller]
    fn sleep(duration: Duration) -> Sleep {
        Sleep::lasting(duration)
    }

    #[track_caller]
    fn sleep_until(deadline: LocalInstant) -> Sleep {
        Sleep::until(deadline)
    }

    #[track_caller]
    fn timeout<R, F: Future<Output = R>>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::new(future, Sleep::lasting(duration))
    }

    #[track_caller]
    fn timeout_at<R, F: Future<Output = R>>(deadline: LocalInstant, future: F) -> Timeout<F> {
        Timeout::new(future, Sleep::until(deadline))
    }

    fn is_panic(error: &JoinError) -> bool {
        *error == JoinError::Panicked
    }

    fn thread_rng() -> LocalRng {
        LocalRng
    }

    /// The executor is the one that [`drive_by`] starts.
    fn new(_threads: usize) -> Self {
        Self
    }

    #[track_caller]
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        driver::block_on(future)
    }

    /// Refuses: another thread would answer at a time that no seed can replay. openraft itself
    /// never calls it.
    fn spawn_blocking<F, T>(_work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
