//! HTTP: health, metrics and the API in JSON, on a thread and a runtime of its own.
//!
//! It is a client of the cluster like any other: what it reads and writes goes through the client library
//! to the nodes that lead. Nothing of it runs on a shard, and it looks at nothing of a shard's but what the
//! shard has shown to the whole node.

mod api;
mod body;
mod caller;
mod cluster;
mod fresh;
mod health;
mod host;
mod json;
mod problem;
mod router;
mod serve;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use walengine_net::client::tokio::Client;
use walengine_net::tls::Tls;

use self::body::Room;
use self::caller::Caller;
use self::cluster::Cluster;
use self::problem::{Kind, Problem};
use crate::config::HttpConfig;
use crate::fatal::{Fatal, Reason};
use crate::limits::HTTP_STREAMS_MAX;
use crate::node_state::NodeState;
use crate::shares::http_bodies_share;

/// What all requests share.
pub struct Shared {
    /// The node, once it has its partitions.
    node: OnceLock<Arc<NodeState>>,
    /// The cluster that requests go to.
    cluster: Cluster,
    /// Whom requests may be addressed to.
    hosts: host::Hosts,
    /// Room for bodies.
    bodies: Room,
    /// Places for readers that follow the log.
    streams: Arc<Semaphore>,
}

impl Shared {
    /// A client that may do what the caller may.
    ///
    /// # Errors
    /// The caller proves nothing any more, or the node does not serve yet.
    async fn client(&self, caller: &Caller) -> Result<Client, Problem> {
        if self.node.get().is_none() {
            return Err(Problem::new(Kind::NotReady, health::NOT_OPENED));
        }
        self.cluster.client(caller).await
    }
}

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
        let shared = Arc::new(Shared {
            node: OnceLock::new(),
            cluster: Cluster::new(clients, tls.clone()),
            hosts: host::Hosts::new(&config.names),
            bodies: Room::new(http_bodies_share()),
            streams: Arc::new(Semaphore::new(HTTP_STREAMS_MAX)),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || runtime.block_on(serve::until(listener, tls, served, stopped)))
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
    /// Takes no more requests and cuts off those that are under way: what they asked for is decided all the same.
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // it may have ended by itself
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
