//! The block that says what a data directory is.

use walengine_net::model::{ClusterId, Timestamp};

use super::{
    BLOCK, Block, BlockError, CLUSTER_AT, FLAG_LOGS_CREATED, FLAG_REPLICATED, FLAGS_AT, NODE_AT,
    PARTITION_AT, SUPERBLOCK_CREATED_AT, SUPERBLOCK_END, SUPERBLOCK_MAGIC,
    SUPERBLOCK_SEGMENT_BYTES_AT, array, check, put, seal, start, u64_at,
};

/// What a data directory is: fixed when it is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node that it belongs to.
    pub node: u64,
    /// Number of partitions of the cluster.
    pub partitions: u16,
    /// Length of every segment in bytes.
    pub segment_bytes: u64,
    /// Wall clock at format.
    pub created: Timestamp,
    /// Its partitions are kept by Raft groups; otherwise by this node alone.
    pub replicated: bool,
    /// The logs of its partitions were created before it was written. Not said of a cluster's node,
    /// for which it is so in any case.
    pub logs_created: bool,
}

impl Superblock {
    /// The log of every partition must be there. Otherwise the first start creates them.
    pub fn promises_logs(&self) -> bool {
        self.replicated || self.logs_created
    }

    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SUPERBLOCK_MAGIC, self.partitions, self.cluster);
        put(&mut block, NODE_AT, &self.node.to_le_bytes());
        put(&mut block, SUPERBLOCK_SEGMENT_BYTES_AT, &self.segment_bytes.to_le_bytes());
        put(&mut block, SUPERBLOCK_CREATED_AT, &self.created.0.to_le_bytes());
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags =
            flag(self.replicated, FLAG_REPLICATED) | flag(self.logs_created, FLAG_LOGS_CREATED);
        put(&mut block, FLAGS_AT, &flags.to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SUPERBLOCK_MAGIC, SUPERBLOCK_END)?;
        let flags = u32::from_le_bytes(array(block, FLAGS_AT));
        let superblock = Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            node: u64_at(block, NODE_AT),
            partitions: u16::from_le_bytes(array(block, PARTITION_AT)),
            segment_bytes: u64_at(block, SUPERBLOCK_SEGMENT_BYTES_AT),
            created: Timestamp(u64_at(block, SUPERBLOCK_CREATED_AT)),
            replicated: flags & FLAG_REPLICATED != 0,
            logs_created: flags & FLAG_LOGS_CREATED != 0,
        };
        if flags & !(FLAG_REPLICATED | FLAG_LOGS_CREATED) != 0 {
            return Err(BlockError::Content("unknown flags"));
        }
        if superblock.partitions == 0 || !superblock.segment_bytes.is_multiple_of(BLOCK) {
            return Err(BlockError::Content("partition count or segment size make no sense"));
        }
        Ok(superblock)
    }
}
