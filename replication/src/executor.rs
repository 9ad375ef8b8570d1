//! The seam to time, tasks and randomness. Production: glommio; tests: a seeded runtime with a
//! virtual clock.
//!
//! Everything here is single-threaded: a task stays on the thread that spawned it.

use std::future::Future;
use std::time::Duration;

use walengine_net::model::Timestamp;

/// What a shard needs from its executor.
///
/// To ensure correctness, an implementation
/// - runs every task on the calling thread,
/// - starts no task inside `spawn`, only after the caller has yielded,
/// - wakes sleepers in order of their deadline.
pub trait Runtime: Clone + 'static {
    /// Runs `task` to its end in the background.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Lets other tasks run first.
    fn yield_now(&self) -> impl Future<Output = ()>;

    /// Wall clock; may jump in both directions. The ledger derives strictly increasing log time
    /// from it.
    fn now(&self) -> Timestamp;

    /// Monotonic time since a fixed point, for deadlines and measurements.
    fn elapsed(&self) -> Duration;

    /// Uniform random bits, for election timeouts and other jitter; never for secrets.
    /// Unpredictable in production; in a simulation they follow from its seed.
    fn random_u64(&self) -> u64;
}
