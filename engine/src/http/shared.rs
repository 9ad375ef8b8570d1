//! What all requests share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, Semaphore};
use walengine_net::client::ClusterReport;
use walengine_net::client::tokio::Client;
use walengine_net::identity::Identity;
use walengine_net::tls::Tls;

use super::answers::Answers;
use super::caller::Caller;
use super::cluster::Cluster;
use super::host::Hosts;
use super::problem::{Kind, Problem};
use super::projector::Projector;
use super::room::Room;
use super::scales::KnownScales;
use crate::config::HttpConfig;
use crate::limits::{HTTP_SCANS_MAX, HTTP_STREAMS_MAX};
use crate::node_state::NodeState;
use crate::shares::http_bodies_share;

/// A node that has just started, or that waits for its cluster.
pub const NOT_OPENED: &str = "the node has not opened its partitions yet";

/// Who was told of the cluster, and what. Nobody else is told the same.
pub type Seen = (Option<Arc<Identity>>, ClusterReport);

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
    /// Places for those who look through a log backwards.
    pub scans: Arc<Semaphore>,
    /// The cluster as whoever asked last was told.
    pub seen: Mutex<Option<Seen>>,
    /// Whether the other nodes answer.
    pub answers: Answers,
    /// Who says how far PostgreSQL is.
    pub projector: Projector,
}

impl Shared {
    /// Of a node that takes clients at `clients`, and has not opened its partitions yet.
    pub fn new(config: &HttpConfig, clients: SocketAddr, tls: Option<Arc<Tls>>) -> Self {
        Self {
            node: OnceLock::new(),
            cluster: Cluster::new("walengine http", clients, tls.clone()),
            hosts: Hosts::new(&config.names),
            bodies: Room::new(http_bodies_share()),
            streams: Arc::new(Semaphore::new(HTTP_STREAMS_MAX)),
            scales: KnownScales::default(),
            scans: Arc::new(Semaphore::new(HTTP_SCANS_MAX)),
            seen: Mutex::default(),
            answers: Answers::new(tls),
            projector: Projector::new(config.projector.clone()),
        }
    }

    /// The node.
    ///
    /// # Errors
    /// It does not serve yet.
    pub fn opened(&self) -> Result<&Arc<NodeState>, Problem> {
        self.node.get().ok_or_else(|| Problem::new(Kind::NotReady, NOT_OPENED))
    }

    /// The node, for a caller that may see anything of it.
    ///
    /// # Errors
    /// It has no right here, it proves nothing any more, or the node does not serve yet.
    pub fn may_look(&self, caller: &Caller) -> Result<&Arc<NodeState>, Problem> {
        let node = self.opened()?;
        if let Some(identity) = caller.identity()?
            && !node.policies.rights(&identity).1.any()
        {
            let detail = format!(
                "{identity} has no right here: an [[allow]] of the policy must give it some"
            );
            return Err(Problem::new(Kind::Forbidden, detail));
        }
        Ok(node)
    }

    /// A client that may do what the caller may.
    ///
    /// # Errors
    /// The caller proves nothing any more, or the node does not serve yet.
    pub async fn client(&self, caller: &Caller) -> Result<Client, Problem> {
        self.opened()?;
        self.cluster.client(caller).await
    }
}
