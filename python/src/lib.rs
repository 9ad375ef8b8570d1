//! The module `walengine._native`: the Rust client as Python sees it. No Python code of users meets it.
//! The package `walengine` puts names and types before it.
//!
//! [`connection`] asks; each question is a [`call::Call`], which can be waited for in two ways: by a thread
//! without Python's lock, and by an asyncio loop. What comes back is plain (numbers, texts, bytes);
//! the package makes its types of it.

mod call;
mod connection;
mod error;
mod events;
mod limits;
mod log_page;
mod subscription;
mod tables;
mod token;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// A submission takes a few buffers of a MiB each. The system's allocator hands their memory back to the
/// kernel each time, and to get it again took two fifths of the processor time of a submission.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The module.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("ADDRESS_DEFAULT", walengine_net::client::ADDRESS_DEFAULT)?;
    module.add("EVENT_BYTES", walengine_net::model::EVENT_BYTES)?;
    module.add("EVENTS_MAX", walengine_net::limits::EVENTS_MAX)?;
    module.add_class::<call::Call>()?;
    module.add_class::<call::Task>()?;
    module.add_class::<connection::Connection>()?;
    module.add_class::<subscription::Subscription>()?;
    module.add_class::<token::Token>()?;
    module.add_function(wrap_pyfunction!(connection::connect, module)?)?;
    let end = wrap_pyfunction!(call::end, module)?;
    module.py().import("atexit")?.call_method1("register", (end,))?;
    events::register(module)?;
    tables::register(module)
}
