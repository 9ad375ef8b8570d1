//! A question to a cluster that has not been asked yet, and the two ways to wait for its answer. Lives where
//! Python has it; its future runs on the runtime of its client.
//!
//! Nobody waits with Python's lock. A thread looks at signals while it waits, so Ctrl-C ends the wait. A
//! loop is told by `call_soon_threadsafe`, from a thread of its own: one that moves bytes never waits for
//! Python.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::error::Failure;
use crate::limits::{DEADLINE_SECONDS_MAX, ENDING_WITHIN, SIGNALS_EVERY};

/// An answer, which becomes an object once Python's lock is held.
pub type Value = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;
/// What a call runs.
pub type Asking = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;

/// So many seconds.
///
/// # Errors
/// Not from 0 to the longest deadline.
pub fn seconds(of: f64) -> PyResult<Duration> {
    if (0.0..=DEADLINE_SECONDS_MAX).contains(&of) {
        return Ok(Duration::try_from_secs_f64(of)?);
    }
    Err(PyValueError::new_err(format!("not from 0 to {DEADLINE_SECONDS_MAX} seconds: {of}")))
}

/// An answer that is an object of Python as it stands.
pub fn value<T>(of: T) -> Value
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Box::new(move |py| of.into_bound_py_any(py))
}

/// The interpreter is about to end. A thread that is inside of it then is ended by it, wherever it is, and
/// that aborts the process. So our own threads hold this while they are inside, and do not enter any more.
static IS_ENDING: RwLock<bool> = RwLock::new(false);

/// Runs it with Python's lock; `None` if the interpreter is about to end: then there is nobody to tell.
fn attached<R>(inside: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let is_ending = IS_ENDING.read().unwrap_or_else(PoisonError::into_inner);
    if *is_ending { None } else { Python::try_attach(inside) }
}

/// Waits until no thread of ours is inside the interpreter, and lets none in any more. Python calls it before it
/// ends. After a fork it waits in vain for threads that only the parent has, and so not for ever.
#[pyfunction]
pub fn end(py: Python<'_>) {
    py.detach(|| {
        let by = Instant::now() + ENDING_WITHIN;
        while Instant::now() < by {
            match IS_ENDING.try_write() {
                Ok(mut is_ending) => {
                    *is_ending = true;
                    return;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    });
}

/// The runtime of one client, and the process that it belongs to.
#[derive(Debug)]
pub struct Host {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    process: u32,
}

impl Host {
    /// For a client whose calls are waited for by threads, which then move the bytes themselves; or, if it
    /// `serves_loops`, with a thread that moves them and one that tells loops.
    pub fn new(serves_loops: bool) -> PyResult<Arc<Self>> {
        let mut builder =
            if serves_loops { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        let runtime = builder
            .worker_threads(1)
            .max_blocking_threads(if serves_loops { 2 } else { 1 })
            .thread_name("walengine")
            .enable_all()
            .build()?;
        Ok(Arc::new(Self { runtime: Some(runtime), process: std::process::id() }))
    }

    /// The runtime.
    ///
    /// # Errors
    /// The process has forked: threads and connections are the parent's.
    fn runtime(&self) -> PyResult<&Runtime> {
        let is_ours = self.process == std::process::id();
        self.runtime.as_ref().filter(|_| is_ours).ok_or_else(|| {
            PyRuntimeError::new_err(
                "this client was made before the process forked: connect again in the new process",
            )
        })
    }

    /// Runs it on this thread, which does not hold Python's lock.
    ///
    /// # Errors
    /// A signal's handler has raised an exception, such as `KeyboardInterrupt`.
    fn block_on(&self, mut asking: Asking) -> PyResult<Result<Value, Failure>> {
        self.runtime()?.block_on(async {
            let mut signals = interval_at(Instant::now() + SIGNALS_EVERY, SIGNALS_EVERY);
            signals.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut asking => return Ok(answer),
                    _ = signals.tick() => attached(|py| py.check_signals()).unwrap_or(Ok(()))?,
                }
            }
        })
    }
}

impl Drop for Host {
    /// Waits for nobody: this may be a thread of the runtime itself. After a fork there are no threads to end.
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.process == std::process::id() {
            runtime.shutdown_background();
        } else {
            std::mem::forget(runtime);
        }
    }
}

/// A question that can be asked once.
#[pyclass(frozen, module = "walengine._native")]
pub struct Call {
    host: Arc<Host>,
    asking: Mutex<Option<Asking>>,
}

impl Call {
    /// One that `asking` answers.
    pub fn new(
        host: &Arc<Host>,
        asking: impl Future<Output = Result<Value, Failure>> + Send + 'static,
    ) -> Self {
        Self { host: host.clone(), asking: Mutex::new(Some(Box::pin(asking))) }
    }

    fn take(&self) -> PyResult<Asking> {
        let asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner).take();
        asking.ok_or_else(|| PyRuntimeError::new_err("a call is made once"))
    }
}

#[pymethods]
impl Call {
    /// Asks, and waits for the answer on this thread. Other threads of Python run meanwhile.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let asking = self.take()?;
        let answer = py.detach(|| self.host.block_on(asking))?;
        match answer {
            Ok(value) => value(py).map(Bound::unbind),
            Err(failure) => Err(failure.into_exception(py)),
        }
    }

    /// Asks, and has `event_loop` call `deliver(waiter, answer, exception)` once there is an answer.
    fn start(
        &self,
        event_loop: Py<PyAny>,
        deliver: Py<PyAny>,
        waiter: Py<PyAny>,
    ) -> PyResult<Task> {
        let asking = self.take()?;
        let task = self.host.runtime()?.spawn(async move {
            let answer = asking.await;
            let telling = move || {
                attached(|py| {
                    let told = match answer {
                        Ok(value) => value(py).map(Bound::unbind),
                        Err(failure) => Err(failure.into_exception(py)),
                    };
                    let (answer, exception) = match told {
                        Ok(answer) => (answer, py.None()),
                        Err(error) => (py.None(), error.into_value(py).into_any()),
                    };
                    let told = (deliver, waiter, answer, exception);
                    // Fails if the loop is closed, and then nobody waits.
                    drop(event_loop.call_method1(py, "call_soon_threadsafe", told));
                });
            };
            drop(tokio::task::spawn_blocking(telling).await);
        });
        Ok(Task(task.abort_handle()))
    }
}

/// A call under way for a loop.
#[pyclass(frozen, module = "walengine._native")]
pub struct Task(AbortHandle);

#[pymethods]
impl Task {
    /// Nobody waits for its answer any more. A write may have been sent all the same.
    fn abandon(&self) {
        self.0.abort();
    }
}
