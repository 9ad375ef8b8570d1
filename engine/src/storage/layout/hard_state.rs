//! One slot of the hard-state file.

use walengine_net::model::{ClusterId, PartitionId};

use super::{
    Block, BlockError, CLUSTER_AT, COMMIT_AT, CUT_AFTER_AT, DURABLE_AT, FLAG_CUT,
    FLAG_VOTE_COMMITTED, FLAG_VOTED, FLAGS_AT, HARD_STATE_END, HARD_STATE_MAGIC, PARTITION_AT,
    SEQUENCE_AT, TERM_AT, VOTED_FOR_AT, array, check, put, seal, start, u64_at,
};

/// Vote and positions of a partition: all that is changed in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Newest term that this node has seen.
    pub term: u64,
    /// Node that it voted for in this term.
    pub voted_for: Option<u64>,
    /// The vote is known to have won.
    pub vote_committed: bool,
    /// Newest index known to be committed when this was written.
    pub commit_index: u64,
    /// Newest index known to be durable on this disk when this was written.
    pub durable_index: u64,
}

impl HardState {
    /// Newest index that must be in the log: it was durable here, or committed.
    pub fn promised_index(&self) -> u64 {
        self.durable_index.max(self.commit_index)
    }
}

/// A slot of the hard-state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardStateSlot {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Counts saves; the slot of the greatest counts.
    pub sequence: u64,
    /// What was saved.
    pub state: HardState,
    /// A truncation is under way: every entry behind this index is to be removed.
    pub cut_after: Option<u64>,
}

impl HardStateSlot {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(HARD_STATE_MAGIC, self.partition.0, self.cluster);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.state.voted_for.is_some(), FLAG_VOTED)
            | flag(self.state.vote_committed, FLAG_VOTE_COMMITTED)
            | flag(self.cut_after.is_some(), FLAG_CUT);
        put(&mut block, FLAGS_AT, &flags.to_le_bytes());
        put(&mut block, SEQUENCE_AT, &self.sequence.to_le_bytes());
        put(&mut block, TERM_AT, &self.state.term.to_le_bytes());
        put(&mut block, VOTED_FOR_AT, &self.state.voted_for.unwrap_or(0).to_le_bytes());
        put(&mut block, COMMIT_AT, &self.state.commit_index.to_le_bytes());
        put(&mut block, DURABLE_AT, &self.state.durable_index.to_le_bytes());
        put(&mut block, CUT_AFTER_AT, &self.cut_after.unwrap_or(0).to_le_bytes());
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, HARD_STATE_MAGIC, HARD_STATE_END)?;
        let flags = u32::from_le_bytes(array(block, FLAGS_AT));
        let given = |flag: u32, at: usize| (flags & flag != 0).then(|| u64_at(block, at));
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            sequence: u64_at(block, SEQUENCE_AT),
            state: HardState {
                term: u64_at(block, TERM_AT),
                voted_for: given(FLAG_VOTED, VOTED_FOR_AT),
                vote_committed: flags & FLAG_VOTE_COMMITTED != 0,
                commit_index: u64_at(block, COMMIT_AT),
                durable_index: u64_at(block, DURABLE_AT),
            },
            cut_after: given(FLAG_CUT, CUT_AFTER_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BLOCK_BYTES, VERSION_AT};
    use super::*;

    fn slot() -> HardStateSlot {
        HardStateSlot {
            cluster: ClusterId(1),
            partition: PartitionId(2),
            sequence: 3,
            state: HardState {
                term: 4,
                voted_for: Some(5),
                vote_committed: true,
                commit_index: 6,
                durable_index: 7,
            },
            cut_after: Some(8),
        }
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_detected() {
        let mut block = slot().to_block();
        assert_eq!(HardStateSlot::from_block(&block), Ok(slot()));
        for bit in 0..BLOCK_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(HardStateSlot::from_block(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn another_version_is_told_by_number() {
        let mut block = slot().to_block();
        put(&mut block, VERSION_AT, &2u16.to_le_bytes());
        let block = seal(block);
        let error = HardStateSlot::from_block(&block).unwrap_err();
        assert_eq!(error, BlockError::Version { found: 2 });
        assert_eq!(error.to_string(), "format version 2; this program reads version 1");
        assert_eq!(HardStateSlot::from_block(&[0; BLOCK_BYTES]), Err(BlockError::Blank));
    }
}
