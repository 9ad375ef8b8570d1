//! What all connections share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use walengine_net::client::tokio::Client;
use walengine_net::identity::Identity;
use walengine_net::model::{Offset, PartitionId};
use walengine_net::tls::Tls;

use super::codes::{
    GROUP_AUTHORIZATION_FAILED, INVALID_GROUP_ID, TOPIC_AUTHORIZATION_FAILED, of_client, of_group,
    of_problem,
};
use super::groups::Groups;
use super::tail::Tails;
use crate::addresses::HostPort;
use crate::fatal::Fatal;
use crate::http::caller::Caller;
use crate::http::cluster::Cluster;
use crate::http::scales::KnownScales;
use crate::limits::KAFKA_PAGES_MAX;
use crate::metrics::kafka::KafkaCounts;
use crate::node_state::NodeState;

/// See the module.
pub struct Shared {
    /// Whom TLS believes; `None` without it.
    pub tls: Option<Arc<Tls>>,
    /// The groups; `None` in a cluster, where no node could keep them alone.
    pub groups: Option<Groups>,
    /// Pages that are in use, by partition: one that has no leader holds up nobody who reads another.
    pages: Mutex<BTreeMap<PartitionId, Arc<Semaphore>>>,
    /// What the amounts of ledgers are.
    pub scales: KnownScales,
    /// What is counted.
    pub counts: Arc<KafkaCounts>,
    /// Who waits for new records.
    pub tails: Tails,
    /// What readers call the cluster.
    pub cluster_id: String,
    advertised: Option<HostPort>,
    cluster: Cluster,
}

impl Shared {
    /// Of a node that takes clients at `clients`.
    ///
    /// # Errors
    /// What groups have committed can't be read.
    pub fn open(state: &NodeState, clients: SocketAddr) -> Result<Self, Fatal> {
        let cluster = state.superblock.cluster;
        let groups = match state.config.cluster {
            Some(_) => None,
            None => Some(Groups::open(&state.config.data, cluster.0, state.kafka.clone())?),
        };
        Ok(Self {
            tls: state.tls.clone(),
            groups,
            counts: state.kafka.clone(),
            tails: Tails::default(),
            scales: KnownScales::default(),
            pages: Mutex::default(),
            cluster_id: format!("{:032x}", cluster.0),
            advertised: state.config.kafka.advertise.clone(),
            cluster: Cluster::new("walengine kafka", clients, state.tls.clone()),
        })
    }

    /// Of a node that does not answer.
    #[cfg(test)]
    pub fn of_nobody(data: &std::path::Path) -> Self {
        Self {
            tls: None,
            groups: Some(Groups::open(data, 1, Arc::default()).unwrap()),
            pages: Mutex::default(),
            counts: Arc::default(),
            tails: Tails::default(),
            scales: KnownScales::default(),
            cluster_id: String::new(),
            advertised: None,
            cluster: Cluster::new("test", SocketAddr::from(([127, 0, 0, 1], 1)), None),
        }
    }

    /// A client that may do what the caller may.
    ///
    /// # Errors
    /// The number of the error.
    pub async fn client(&self, caller: &Caller) -> Result<Client, i16> {
        self.cluster.client(caller).await.map_err(|problem| of_problem(&problem))
    }

    /// Room for pages of a partition that there is.
    pub fn pages(&self, partition: PartitionId) -> Arc<Semaphore> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(KAFKA_PAGES_MAX));
        pages.entry(partition).or_insert_with(new).clone()
    }

    /// Where readers reach this node: as they are told to, or where they came in.
    pub fn address(&self, came_in: SocketAddr) -> (String, i32) {
        let advertised = self.advertised.as_ref();
        let host = advertised.map(|one| one.host.clone());
        let port = advertised.and_then(|one| one.port).unwrap_or_else(|| came_in.port());
        (host.unwrap_or_else(|| came_in.ip().to_canonical().to_string()), port.into())
    }

    /// As [`Self::group`], of one that a member speaks of: it was looked at when it joined.
    ///
    /// # Errors
    /// There are none in a cluster; the number of the error.
    pub fn member_group(&self, caller: &Caller, name: &str) -> Result<(&Groups, String), i16> {
        let groups = self.groups.as_ref().ok_or(GROUP_AUTHORIZATION_FAILED)?;
        if name.is_empty() {
            return Err(INVALID_GROUP_ID);
        }
        let identity = caller.identity().map_err(|_| GROUP_AUTHORIZATION_FAILED)?;
        Ok((groups, full_name(identity.as_deref(), name)))
    }

    /// The groups, and what a caller's group is called in them: with TLS, each identity has its own.
    ///
    /// # Errors
    /// There are none in a cluster, or the caller may not read the log; the number of the error.
    pub async fn group(&self, caller: &Caller, name: &str) -> Result<(&Groups, String), i16> {
        let found = self.member_group(caller, name)?;
        let client = self.client(caller).await.map_err(of_group)?;
        let looked = client.read_log(PartitionId(0), Offset(u64::MAX), 0, &[]).await;
        if let Err(error) = looked
            && of_client(&error) == TOPIC_AUTHORIZATION_FAILED
        {
            return Err(GROUP_AUTHORIZATION_FAILED);
        }
        Ok(found)
    }
}

fn full_name(identity: Option<&Identity>, name: &str) -> String {
    match identity {
        Some(identity) => format!("{identity} {name}"),
        None => name.to_owned(),
    }
}
