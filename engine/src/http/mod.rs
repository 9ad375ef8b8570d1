//! HTTP: health, metrics and the API in JSON, on a thread and a runtime of its own.
//!
//! It is a client of the cluster like any other: what it reads and writes goes through the client library
//! to the nodes that lead. Nothing of it runs on a shard, and it looks at nothing of a shard's but what the
//! shard has shown to the whole node.

mod answers;
mod api;
mod body;
pub(crate) mod caller;
pub(crate) mod cluster;
mod console;
mod fresh;
mod health;
mod host;
pub(crate) mod json;
pub(crate) mod problem;
mod projector;
mod room;
mod router;
pub(crate) mod scales;
mod serve;
mod shared;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use walengine_net::tls::Tls;

use self::shared::Shared;
use crate::config::HttpConfig;
use crate::fatal::{Fatal, Reason};
use crate::node_state::NodeState;

/// Handle to the thread.
pub struct Http {
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Http {
    /// Listens and answers from now on; until [`Self::serves`] that nothing is ready. `clients` is where the node
    /// takes clients. `None` if HTTP is off, or nobody asked for it and its port is taken.
    pub fn start(
        config: &HttpConfig,
        clients: SocketAddr,
        tls: Option<Arc<Tls>>,
    ) -> Result<Option<Self>, Fatal> {
        let Some(address) = config.address else { return Ok(None) };
        let listener = match TcpListener::bind(address) {
            Ok(listener) => listener,
            Err(error) if config.is_asked_for => {
                let message =
                    format!("cannot listen on {address}: {error}; name another with --http");
                return Err(Fatal::new(Reason::Listen, message));
            }
            Err(error) => {
                tracing::warn!(
                    "no HTTP, and so no metrics: cannot listen on {address}: {error}; name another address with \
                     --http, or say `--http off`"
                );
                return Ok(None);
            }
        };
        let failed = |error: std::io::Error| {
            Fatal::new(Reason::Listen, format!("HTTP cannot start: {error}"))
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!("HTTP on {scheme}://{bound}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let shared = Arc::new(Shared::new(config, clients, tls.clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(serve::until(listener, tls, served, stopped));
                // A name that is being looked up must not hold up the stop.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Some(Self { shared, stop: Some(stop), thread: Some(thread) }))
    }

    /// The node has its partitions: tell of them.
    pub fn serves(&self, node: &Arc<NodeState>) {
        // Once in a process: a second node would be another process.
        let _ = self.shared.node.set(node.clone());
    }
}

impl Drop for Http {
    /// Takes no more requests, and answers those that are under way, if that takes no more than a moment.
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // it may have ended by itself
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
