//! Whose log it is. Every block and every entry names it, and nothing of another is believed.

use walengine_net::entry::EntryHeader;
use walengine_net::model::{ClusterId, PartitionId};

use super::layout::{HardStateSlot, SegmentHeader};

/// A partition of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The cluster.
    pub cluster: ClusterId,
    /// The partition.
    pub partition: PartitionId,
}

impl Ids {
    /// The entry is of this partition.
    pub fn wrote(self, header: &EntryHeader) -> bool {
        header.meta.cluster == self.cluster && header.meta.partition == self.partition
    }

    /// The segment is of this partition.
    pub fn began(self, header: &SegmentHeader) -> bool {
        header.cluster == self.cluster && header.partition == self.partition
    }

    /// The hard state is of this partition.
    pub fn saved(self, slot: &HardStateSlot) -> bool {
        slot.cluster == self.cluster && slot.partition == self.partition
    }
}
