//! Executors for short tasks of the main thread.

use crate::fatal::{Fatal, Reason};
use crate::limits::IO_MEMORY_BYTES;

/// Runs a task to its end on an executor of the calling thread.
///
/// # Errors
/// `Preflight` if no executor can be made.
pub fn on_executor<T>(task: impl Future<Output = T>) -> Result<T, Fatal> {
    let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(|error| {
            Fatal::new(Reason::Preflight, format!("cannot start an io_uring executor: {error}"))
        })?;
    Ok(executor.run(task))
}
