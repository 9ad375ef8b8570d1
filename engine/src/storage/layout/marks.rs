//! The file that says where entries stand in a full segment.

use walengine_net::model::{ClusterId, Offset, PartitionId};

use super::super::index::{Mark, Marks};
use super::{
    BLOCK, BLOCK_BYTES, BlockError, CLUSTER_AT, ENTRY_ALIGN_BYTES, MARKS_AT, MARKS_CRC_AT,
    MARKS_MAGIC, PARTITION_AT, SEQUENCE_AT, Tail, array, block_up, check, is_zero, put, seal,
    start, u64_at,
};

const MARKS_END: usize = MARKS_CRC_AT + 4;
const MARK_BYTES: usize = 24;

/// Where entries stand in a full segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct MarksFile {
    pub cluster: ClusterId,
    pub partition: PartitionId,
    /// Number of the segment.
    pub sequence: u64,
    /// The segment's last entry: its chain hash stands for all that is in it.
    pub last: Tail,
    pub marks: Vec<Mark>,
}

impl MarksFile {
    /// Length of the file in bytes, whole blocks.
    pub fn bytes(marks: usize) -> usize {
        BLOCK_BYTES + block_up((marks * MARK_BYTES) as u64) as usize
    }

    /// Encodes into a buffer of [`Self::bytes`].
    pub fn put(&self, buffer: &mut [u8]) {
        let (first, rest) = buffer.split_at_mut(BLOCK_BYTES);
        rest.fill(0);
        for (mark, bytes) in self.marks.iter().zip(rest.chunks_exact_mut(MARK_BYTES)) {
            bytes[..8].copy_from_slice(&mark.index.to_le_bytes());
            bytes[8..16].copy_from_slice(&mark.offset.0.to_le_bytes());
            bytes[16..].copy_from_slice(&mark.position.to_le_bytes());
        }
        let mut block = start(MARKS_MAGIC, self.partition.0, self.cluster);
        put(&mut block, SEQUENCE_AT, &self.sequence.to_le_bytes());
        self.last.put(&mut block);
        put(&mut block, MARKS_AT, &(self.marks.len() as u64).to_le_bytes());
        put(&mut block, MARKS_CRC_AT, &crc32c::crc32c(rest).to_le_bytes());
        first.copy_from_slice(&seal(block));
    }

    /// Decodes a whole file and checks that its marks can be those of a segment of this length.
    pub fn get(bytes: &[u8], segment_bytes: u64) -> Result<Self, BlockError> {
        let Some((block, rest)) = bytes.split_first_chunk::<BLOCK_BYTES>() else {
            return Err(BlockError::Content("it is shorter than its first block"));
        };
        check(block, MARKS_MAGIC, MARKS_END)?;
        let count = u64_at(block, MARKS_AT);
        let fits = usize::try_from(count).is_ok_and(|count| count <= rest.len() / MARK_BYTES);
        if !fits || Self::bytes(count as usize) != bytes.len() {
            return Err(BlockError::Content("its length does not fit the number of marks"));
        }
        let expected = u32::from_le_bytes(array(block, MARKS_CRC_AT));
        let found = crc32c::crc32c(rest);
        if found != expected {
            return Err(BlockError::Crc { expected, found });
        }
        let (entries, padding) = rest.split_at(count as usize * MARK_BYTES);
        let (words, _) = entries.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let marks = (0..count as usize).map(|number| number * 3).map(|at| Mark {
            index: word(at),
            offset: Offset(word(at + 1)),
            position: word(at + 2),
        });
        let marks: Vec<Mark> = marks.collect();
        let last = Tail::get(block);
        let inside = marks.iter().all(|mark| {
            mark.position.is_multiple_of(ENTRY_ALIGN_BYTES)
                && (BLOCK..segment_bytes).contains(&mark.position)
                && mark.index <= last.index
                && mark.offset <= last.next_offset
        });
        if !Marks::are_in_order(&marks) || !inside || !is_zero(padding) {
            return Err(BlockError::Content("its marks are not those of a segment"));
        }
        Ok(Self {
            cluster: ClusterId(u128::from_le_bytes(array(block, CLUSTER_AT))),
            partition: PartitionId(u16::from_le_bytes(array(block, PARTITION_AT))),
            sequence: u64_at(block, SEQUENCE_AT),
            last,
            marks,
        })
    }
}

/// What a whole file of marks says: its header, and each mark with its position in the file, for people.
///
/// # Errors
/// It is not what was written.
pub fn marks_in(bytes: &[u8]) -> Result<(String, Vec<(u64, String)>), BlockError> {
    let MarksFile { cluster, partition, sequence, last, marks } = MarksFile::get(bytes, u64::MAX)?;
    let header = format!(
        "marks of segment {sequence} of partition {partition} of cluster {:032x}, whose last entry is {}: \
         {} marks",
        cluster.0,
        last.index,
        marks.len()
    );
    let places = (BLOCK..).step_by(MARK_BYTES);
    let told = places.zip(marks).map(|(at, mark)| {
        let Mark { index, offset, position } = mark;
        (at, format!("entry {index}, offset {offset}, at {position}"))
    });
    Ok((header, told.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_flipped_bits_are_detected() {
        let mark = |number: u64| Mark {
            index: number,
            offset: Offset(number * 7),
            position: 4096 + number * 65_536,
        };
        for count in [0, 1, 170, 171, 400] {
            let file = MarksFile {
                cluster: ClusterId(1),
                partition: PartitionId(2),
                sequence: 3,
                last: Tail { index: 500, next_offset: Offset(9000), ..Tail::default() },
                marks: (0..count).map(mark).collect(),
            };
            let mut bytes = vec![1; MarksFile::bytes(count as usize)];
            file.put(&mut bytes);
            let segment_bytes = 128 << 20;
            assert_eq!(MarksFile::get(&bytes, segment_bytes), Ok(file));
            let (header, told) = marks_in(&bytes).unwrap();
            assert!(header.contains("marks of segment 3 of partition 2"), "{header}");
            let second =
                (1 < count).then(|| (BLOCK + 24, "entry 1, offset 7, at 69632".to_owned()));
            assert_eq!((told.len(), told.get(1).cloned()), (count as usize, second));
            for bit in (0..bytes.len() * 8).step_by(101) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(MarksFile::get(&bytes, segment_bytes).is_err(), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let short = &bytes[..bytes.len() - BLOCK_BYTES];
            assert!(MarksFile::get(short, segment_bytes).is_err(), "cut short");
            if count > 1 {
                assert!(MarksFile::get(&bytes, 8192).is_err(), "past the segment's end");
            }
        }
    }
}
