//! The block of the file that remembers how far other members had the log.

use std::collections::BTreeMap;

use walengine_net::model::{ClusterId, PartitionId};

use super::super::limits::REACHED_NODES_MAX;
use super::{
    BLOCK_BYTES, Block, BlockError, CLUSTER_AT, PARTITION_AT, REACHED_AT, REACHED_COUNT_AT,
    REACHED_MAGIC, array, check, put, seal, start, u64_at,
};

const PAIR_BYTES: usize = 16;

const _: () = assert!(REACHED_AT + REACHED_NODES_MAX * PAIR_BYTES <= BLOCK_BYTES);

/// Which members had so many committed entries on their disks, by node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachedBlock {
    /// The cluster.
    pub cluster: ClusterId,
    /// The partition.
    pub partition: PartitionId,
    /// By node.
    pub entries: BTreeMap<u64, u64>,
}

impl ReachedBlock {
    /// Encodes the first [`REACHED_NODES_MAX`] nodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(REACHED_MAGIC, self.partition.0, self.cluster);
        let pairs = self.entries.iter().take(REACHED_NODES_MAX);
        put(&mut block, REACHED_COUNT_AT, &(pairs.len() as u64).to_le_bytes());
        for (at, (node, entries)) in pairs.enumerate() {
            let at = REACHED_AT + at * PAIR_BYTES;
            put(&mut block, at, &node.to_le_bytes());
            put(&mut block, at + 8, &entries.to_le_bytes());
        }
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, REACHED_MAGIC, BLOCK_BYTES)?;
        let count = u64_at(block, REACHED_COUNT_AT);
        if count > REACHED_NODES_MAX as u64 {
            return Err(BlockError::Content("more nodes than there is room for"));
        }
        let pairs = (0..count as usize).map(|at| REACHED_AT + at * PAIR_BYTES);
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            entries: pairs.map(|at| (u64_at(block, at), u64_at(block, at + 8))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_flipped_bits_are_detected() {
        let entries = (1..=300).map(|node| (node, node * 7)).collect();
        let all = ReachedBlock { cluster: ClusterId(1), partition: PartitionId(2), entries };
        let mut block = all.to_block();
        let back = ReachedBlock::from_block(&block).unwrap();
        assert_eq!(back.entries.len(), REACHED_NODES_MAX);
        assert!(back.entries.iter().all(|(node, entries)| *entries == node * 7));
        for bit in (0..BLOCK_BYTES * 8).step_by(7) {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(ReachedBlock::from_block(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
