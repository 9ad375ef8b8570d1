//! What all connections of one client share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::model::PartitionId;

use super::directory::{Directory, Lane, Route};
use super::{ClientError, ClusterInfo, Config, jitter_seed};

/// Shared by the links of a client.
#[derive(Debug)]
pub struct Shared {
    /// The caller's settings.
    pub config: Config,
    /// What the cluster is; set by the first greeting.
    pub info: OnceLock<ClusterInfo>,
    seed: u64,
    directory: Mutex<Directory>,
    /// A server does not know requests for tokens of several partitions: none is sent any more.
    pub is_old: AtomicBool,
    /// What is wrong with each connection that is not open.
    troubles: Mutex<BTreeMap<(PartitionId, Lane), ClientError>>,
}

impl Shared {
    /// For a new client.
    pub fn new(config: Config) -> Self {
        Self::seeded(config, jitter_seed())
    }

    /// The same with a given seed of turns and pauses.
    pub fn seeded(config: Config, seed: u64) -> Self {
        let directory = Mutex::new(Directory::new(&config.addresses, seed));
        let (info, is_old) = (OnceLock::new(), AtomicBool::new(false));
        Self { config, info, seed, directory, is_old, troubles: Mutex::default() }
    }

    /// The connection that a request goes over.
    pub fn lane(&self, partition: PartitionId, route: Route, now: Duration) -> Lane {
        self.directory().lane(partition, route, now)
    }

    /// What is wrong with a connection; `None` while it is open.
    pub fn trouble(&self, partition: PartitionId, lane: Lane) -> Option<ClientError> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get(&(partition, lane)).cloned()
    }

    pub(super) fn set_trouble(
        &self,
        partition: PartitionId,
        lane: Lane,
        trouble: Option<ClientError>,
    ) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => drop(troubles.insert((partition, lane), trouble)),
            None => drop(troubles.remove(&(partition, lane))),
        }
    }

    /// The lock must not be held across a wait.
    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seed of one connection.
    pub(super) fn seed(&self, partition: PartitionId, lane: Lane) -> u64 {
        let lane = match lane {
            Lane::Leader => 0,
            Lane::Home => 1,
            Lane::Reader(reader) => 2 + u64::from(reader),
            Lane::Named(place) => 1_000 + u64::from(place),
            Lane::Node(id) => 10_000 + (id & 0xfff),
        };
        self.seed ^ u64::from(partition.0) << 16 ^ lane << 40
    }
}
