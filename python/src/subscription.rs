//! A partition's log as it grows.

use std::sync::Arc;

use pyo3::prelude::*;
use tokio::sync::Mutex;
use walengine_net::client::{Page, tokio as on_tokio};
use walengine_net::model::Offset;

use crate::call::{Call, Host, Value, seconds, value};
use crate::error::Failure;
use crate::log_page;

/// The log of a partition, from an offset on.
#[pyclass(frozen, module = "walengine._native")]
pub struct Subscription {
    host: Arc<Host>,
    state: Arc<Mutex<State>>,
}

struct State {
    inner: on_tokio::Subscription,
    /// The newest page, and where it was asked for. It may not have come to who asked: a wait can be given up
    /// in the moment in which it ends.
    newest: Option<(Offset, Page)>,
}

impl Subscription {
    /// Of a client's subscription.
    pub fn new(host: &Arc<Host>, inner: on_tokio::Subscription) -> Self {
        let state = State { inner, newest: None };
        Self { host: host.clone(), state: Arc::new(Mutex::new(state)) }
    }
}

#[pymethods]
impl Subscription {
    /// Asks for the page at `from`, where the newest page that was taken ends; at most for so many seconds, or
    /// for ever. The answer is `None` if the log did not grow. If it is asked for again, it is answered again.
    fn next_page(&self, from_: u64, within: Option<f64>) -> PyResult<Call> {
        let (from, within) = (Offset(from_), within.map(seconds).transpose()?);
        let state = self.state.clone();
        Ok(Call::new(&self.host, async move {
            let state = &mut *state.lock().await;
            if state.newest.as_ref().is_none_or(|(at, _)| *at != from) {
                let page = match within {
                    None => state.inner.next().await.map(Some),
                    Some(within) => state.inner.next_within(within).await,
                };
                let Some(page) = page.map_err(Failure::of_read)? else {
                    let nothing: Value = Box::new(|py| Ok(py.None().into_bound(py)));
                    return Ok(nothing);
                };
                state.newest = Some((from, page));
            }
            let page = state.newest.as_ref().map(|(_, page)| log_page::fields(page, from));
            Ok(value(page.transpose().map_err(Failure::of_read)?))
        }))
    }
}
