//! The first block of a snapshot, and what stands before each of its chunks.

use walengine_net::model::{ClusterId, PartitionId, Timestamp};

use super::{
    Block, BlockError, CLUSTER_AT, CREATED_AT, PARTITION_AT, SEGMENT_BYTES_AT,
    SNAPSHOT_CHUNK_MAGIC, SNAPSHOT_FRAME_BYTES, SNAPSHOT_MAGIC, SNAPSHOT_TRAILER_MAGIC, Tail,
    array, check, put, seal, start, u64_at,
};

/// First block of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The cluster that wrote it.
    pub cluster: ClusterId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Wall clock when it was taken.
    pub created: Timestamp,
    /// The state is that after the entry at this point.
    pub applied: Tail,
}

impl SnapshotMeta {
    /// Encodes.
    pub fn to_block(&self) -> Block {
        let mut block = start(SNAPSHOT_MAGIC, self.partition.0, self.cluster);
        put(&mut block, CREATED_AT, &self.created.0.to_le_bytes());
        self.applied.put(&mut block);
        seal(block)
    }

    /// Decodes and checks.
    pub fn from_block(block: &Block) -> Result<Self, BlockError> {
        check(block, SNAPSHOT_MAGIC, SEGMENT_BYTES_AT)?;
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            created: Timestamp(u64_at(block, CREATED_AT)),
            applied: Tail::get(block),
        })
    }
}

/// In front of a chunk's or the trailer's data in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFrame {
    /// It is the trailer: the data is the whole length (u64) and checksum (u32, then 4 zeros).
    pub trailer: bool,
    /// Length of the data in bytes.
    pub bytes: u32,
    /// Number of the chunk, counted from 0; in the trailer the number of chunks.
    pub number: u32,
}

impl SnapshotFrame {
    /// Encodes; the checksum covers kind, length, number and data.
    pub fn to_bytes(self, data: &[u8]) -> [u8; SNAPSHOT_FRAME_BYTES] {
        let mut bytes = [0; SNAPSHOT_FRAME_BYTES];
        let magic = if self.trailer { SNAPSHOT_TRAILER_MAGIC } else { SNAPSHOT_CHUNK_MAGIC };
        bytes[0..4].copy_from_slice(&magic.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        let crc = frame_crc(&bytes, data);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the frame at the start of `bytes` and gives its data. `None` if anything is wrong.
    pub fn open(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<SNAPSHOT_FRAME_BYTES>()?;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&head[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let trailer = match word(0) {
            SNAPSHOT_CHUNK_MAGIC => false,
            SNAPSHOT_TRAILER_MAGIC => true,
            _ => return None,
        };
        let frame = Self { trailer, bytes: word(8), number: word(12) };
        let data = rest.get(..frame.bytes as usize)?;
        (frame_crc(head, data) == word(4)).then_some((frame, data))
    }
}

fn frame_crc(head: &[u8; SNAPSHOT_FRAME_BYTES], data: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..4]), &head[8..]);
    crc32c::crc32c_append(crc, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_frame_detects_every_flipped_bit() {
        let data = [7; 40];
        let frame = SnapshotFrame { trailer: false, bytes: 40, number: 9 };
        let mut bytes = frame.to_bytes(&data).to_vec();
        bytes.extend_from_slice(&data);
        assert_eq!(SnapshotFrame::open(&bytes), Some((frame, data.as_slice())));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SnapshotFrame::open(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
