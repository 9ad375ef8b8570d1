//! Executors of this process, and what each of them may use of the machine.

use crate::fatal::{Fatal, Reason};

/// Memory that an executor registers with the kernel, in bytes; counts against memlock.
pub const IO_MEMORY_BYTES: usize = 256 << 10;

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
