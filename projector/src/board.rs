//! The partitions that are known so far, for those who show their numbers. It is there from the start of
//! the process: before any server has answered, it has what the database knows of earlier runs, or
//! nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use walengine_net::model::PartitionId;

use crate::audited::Audits;
use crate::metrics::PartitionMetrics;

/// Shared by all who know something and all who show it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    partitions: RwLock<Vec<Arc<PartitionMetrics>>>,
    has_postgres: AtomicBool,
    audits: RwLock<Audits>,
}

impl Board {
    /// All that are known, by number.
    pub fn partitions(&self) -> Vec<Arc<PartitionMetrics>> {
        self.0.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The numbers of a partition, which is known from now on.
    pub fn of(&self, partition: PartitionId) -> Arc<PartitionMetrics> {
        let mut all = self.0.partitions.write().unwrap_or_else(PoisonError::into_inner);
        match all.binary_search_by_key(&partition.0, |metrics| metrics.partition.0) {
            Ok(at) => all[at].clone(),
            Err(at) => {
                let metrics = Arc::new(PartitionMetrics::new(partition));
                metrics.has_postgres(self.knows_postgres());
                all.insert(at, metrics.clone());
                metrics
            }
        }
    }

    /// Notes for all partitions that no server of walengine answers.
    pub fn engine_is_gone(&self) {
        self.partitions().iter().for_each(|metrics| metrics.engine_is_gone());
    }

    /// Notes whether PostgreSQL answers, before any writer has a connection.
    pub fn has_postgres(&self, has: bool) {
        self.0.has_postgres.store(has, Ordering::Relaxed);
        self.partitions().iter().for_each(|metrics| metrics.has_postgres(has));
    }

    /// Notes what the database says of audits.
    pub fn audited(&self, audits: Audits) {
        *self.0.audits.write().unwrap_or_else(PoisonError::into_inner) = audits;
    }

    /// What it said of audits when that was noted last.
    pub fn audits(&self) -> Audits {
        self.0.audits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it did when that was noted last.
    pub fn knows_postgres(&self) -> bool {
        self.0.has_postgres.load(Ordering::Relaxed)
    }
}
