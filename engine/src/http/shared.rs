//! What all requests share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use walengine_net::client::tokio::Client;
use walengine_net::tls::Tls;

use super::caller::Caller;
use super::cluster::Cluster;
use super::host::Hosts;
use super::problem::{Kind, Problem};
use super::room::Room;
use super::scales::KnownScales;
use crate::config::HttpConfig;
use crate::limits::HTTP_STREAMS_MAX;
use crate::node_state::NodeState;
use crate::shares::http_bodies_share;

/// A node that has just started, or that waits for its cluster.
pub const NOT_OPENED: &str = "the node has not opened its partitions yet";

/// See the module.
pub struct Shared {
    /// The node, once it has its partitions.
    pub node: OnceLock<Arc<NodeState>>,
    /// The cluster that requests go to.
    cluster: Cluster,
    /// Whom requests may be addressed to.
    pub hosts: Hosts,
    /// Room for bodies.
    pub bodies: Room,
    /// Places for readers that follow the log.
    pub streams: Arc<Semaphore>,
    /// What the amounts of ledgers are.
    pub scales: KnownScales,
}

impl Shared {
    /// Of a node that takes clients at `clients`, and has not opened its partitions yet.
    pub fn new(config: &HttpConfig, clients: SocketAddr, tls: Option<Arc<Tls>>) -> Self {
        Self {
            node: OnceLock::new(),
            cluster: Cluster::new(clients, tls),
            hosts: Hosts::new(&config.names),
            bodies: Room::new(http_bodies_share()),
            streams: Arc::new(Semaphore::new(HTTP_STREAMS_MAX)),
            scales: KnownScales::default(),
        }
    }

    /// A client that may do what the caller may.
    ///
    /// # Errors
    /// The caller proves nothing any more, or the node does not serve yet.
    pub async fn client(&self, caller: &Caller) -> Result<Client, Problem> {
        if self.node.get().is_none() {
            return Err(Problem::new(Kind::NotReady, NOT_OPENED));
        }
        self.cluster.client(caller).await
    }
}
