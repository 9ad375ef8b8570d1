//! The first block of a segment.

use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use super::{
    Block, BlockError, CLUSTER_AT, CREATED_AT, PARTITION_AT, SEGMENT_BYTES_AT, SEGMENT_END,
    SEGMENT_MAGIC, SEQUENCE_AT, Tail, array, check, put, seal, start, u64_at,
};

/// First block of a segment: written together with its first flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Number of the segment, counted from 1; also its name.
    pub sequence: u64,
    /// Wall clock when it was begun.
    pub created: Timestamp,
    /// What the first entry follows.
    pub before: Tail,
    /// Length of the segment in bytes.
    pub segment_bytes: u64,
}

impl SegmentHeader {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SEGMENT_MAGIC, self.partition.0, self.cluster);
        put(&mut block, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut block, CREATED_AT, &self.created.0.to_le_bytes());
        self.before.put(&mut block);
        put(&mut block, SEGMENT_BYTES_AT, &self.segment_bytes.to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SEGMENT_MAGIC, SEGMENT_END)?;
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            sequence: u64_at(block, SEQUENCE_AT),
            created: Timestamp(u64_at(block, CREATED_AT)),
            before: Tail::get(block),
            segment_bytes: u64_at(block, SEGMENT_BYTES_AT),
        })
    }
}
