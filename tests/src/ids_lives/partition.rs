//! The partition that lives.

use std::time::Duration;

use walengine::partition::Partition;

use crate::lone_partition::LoneCommit;
use crate::sim::SimDisk;

/// The longest that something may take whose disk is well: a look-up that failed is tried again after a
/// second, a run that could not be written after ten.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

pub(super) type SimPartition = Partition<LoneCommit<SimDisk>>;
