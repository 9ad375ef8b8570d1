//! Kafka's protocol, for readers: the log as a topic, on a thread and a runtime of its own.
//!
//! It is a client of the cluster like HTTP: what it reads goes through the client library, and nothing of it
//! runs on a shard. It takes no records. What is supported and what is not: KAFKA.md.

mod answer;
mod batch;
mod codes;
mod group;
mod groups;
mod offsets;
mod serve;
mod shared;
mod tail;
mod time;
mod topic;
mod wire;

#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use self::shared::Shared;
use crate::config::Config;
use crate::fatal::{Fatal, Reason};
use crate::node_state::NodeState;

/// Handle to the thread.
pub struct Kafka {
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Kafka {
    /// Listens. `None` if nobody asked for it.
    ///
    /// # Errors
    /// The address is taken.
    pub fn listen(config: &Config) -> Result<Option<TcpListener>, Fatal> {
        let Some(address) = config.kafka.address else { return Ok(None) };
        let failed = |error: std::io::Error| {
            let message = format!("cannot listen on {address}: {error}; name another with --kafka");
            Fatal::new(Reason::Listen, message)
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!("Kafka consumers on {bound}");
        Ok(Some(listener))
    }

    /// Opens what groups have committed; nobody is answered before [`Self::serve`]. `clients` is where the node takes clients.
    ///
    /// # Errors
    /// The file of the groups' offsets is damaged.
    pub fn open(
        state: &NodeState,
        clients: SocketAddr,
        listener: TcpListener,
    ) -> Result<Self, Fatal> {
        let shared = Arc::new(Shared::open(state, clients)?);
        Ok(Self { shared, listener: Some(listener), stop: None, thread: None })
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn serve(&mut self) -> Result<(), Fatal> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let failed = |error: std::io::Error| {
            Fatal::new(Reason::Listen, format!("the Kafka face cannot start: {error}"))
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
            runtime.block_on(serve::until(listener, shared, stopped));
            // Offsets that are on their way to the disk were not answered yet.
            runtime.shutdown_background();
        });
        (self.stop, self.thread) = (Some(stop), Some(thread.map_err(failed)?));
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // it may have ended by itself
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
