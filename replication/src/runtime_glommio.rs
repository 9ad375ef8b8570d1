//! [`Runtime`] on glommio's executor. A value is only used on the executor that made it.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use walengine_net::model::Timestamp;

use crate::executor::Runtime;

/// The executor of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct GlommioRuntime {
    start: Instant,
}

impl GlommioRuntime {
    /// The executor of the calling thread; monotonic time counts from here.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for GlommioRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime for GlommioRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Detached on purpose: dropping a glommio task would cancel it.
        drop(glommio::spawn_local(task).detach());
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
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
        self.start.elapsed()
    }

    fn random_u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}
