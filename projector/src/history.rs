//! Checks that the log continues where the database left off: the same cluster and partition, no
//! gap, an unbroken chain of hashes. Pure.

use walengine_net::entry::{ChainHash, EntryError, EntryHeader};
use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

/// How far a partition is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Offset of the first record that is not projected.
    pub next_offset: Offset,
    /// Index of the newest projected entry that holds records; 0 before the first.
    pub index: u64,
    /// Chain hash of that entry.
    pub chain: ChainHash,
    /// Log time of the newest projected record.
    pub time: Option<Timestamp>,
}

impl Position {
    /// Before the first record.
    pub const START: Self =
        Self { next_offset: Offset(0), index: 0, chain: ChainHash([0; 32]), time: None };
}

/// Why an entry can't be the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The bytes are not an entry.
    #[error("{0}")]
    Entry(#[from] EntryError),
    /// It belongs to another cluster.
    #[error("the entry is of cluster {0:032x}")]
    Cluster(u128),
    /// It belongs to another partition.
    #[error("the entry is of partition {0}")]
    Partition(PartitionId),
    /// A record is missing, or the entry begins before the position and ends after it.
    #[error("the entry begins at offset {found}, expected {expected}")]
    Offset {
        /// Where the log continues.
        expected: Offset,
        /// Where the entry begins.
        found: Offset,
    },
    /// The entry before it is not the one that was projected.
    #[error("entry {index} does not follow the one before it: its chain hash differs")]
    Chain {
        /// Its index.
        index: u64,
    },
    /// A word on a transfer that is not under way.
    #[error("the log ends the transfer of offset {0}, which is not under way")]
    NotUnderWay(Offset),
    /// A balance that no ledger allows.
    #[error("{0}")]
    Overflow(#[from] crate::fold::Overflow),
}

/// Follows the entries of one partition.
#[derive(Clone, Copy, Debug)]
pub struct History {
    cluster: ClusterId,
    partition: PartitionId,
    next_offset: Offset,
    index: u64,
    chain: ChainHash,
}

impl History {
    /// Continues from a position.
    pub fn from(cluster: ClusterId, partition: PartitionId, position: &Position) -> Self {
        let Position { next_offset, index, chain, .. } = *position;
        Self { cluster, partition, next_offset, index, chain }
    }

    /// Offset of the next record.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Checks an entry and advances past it. False if it was projected before.
    ///
    /// Entries without records may be missing, because a subscription starts at a record. Then the
    /// entry after them can't be compared with the one before it, whose hash is not known.
    pub fn take(&mut self, header: &EntryHeader, body: &[u8]) -> Result<bool, HistoryError> {
        let meta = &header.meta;
        if meta.cluster != self.cluster {
            return Err(HistoryError::Cluster(meta.cluster.0));
        }
        if meta.partition != self.partition {
            return Err(HistoryError::Partition(meta.partition));
        }
        if meta.index <= self.index && header.next_offset() <= self.next_offset {
            return Ok(false);
        }
        if meta.base_offset != self.next_offset {
            let (expected, found) = (self.next_offset, meta.base_offset);
            return Err(HistoryError::Offset { expected, found });
        }
        if meta.index <= self.index
            || meta.index == self.index + 1 && !header.follows(self.chain, body)
        {
            return Err(HistoryError::Chain { index: meta.index });
        }
        (self.index, self.chain) = (meta.index, header.chain);
        self.next_offset = header.next_offset();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::entry::{EntryKind, EntryMeta};

    use super::*;

    fn entry(index: u64, base: u64, records: u32, previous: ChainHash) -> EntryHeader {
        let meta = EntryMeta {
            cluster: ClusterId(7),
            partition: PartitionId(1),
            kind: EntryKind::Blank,
            term: 1,
            leader_node: 1,
            index,
            base_offset: Offset(base),
            records,
            timestamp: Timestamp(5),
        };
        meta.encode(&[], 0, previous)
    }

    #[test]
    fn entries_follow_each_other_and_nothing_else() {
        let mut history = History::from(ClusterId(7), PartitionId(1), &Position::START);
        let first = entry(1, 0, 3, ChainHash::default());
        assert_eq!(history.take(&first, &[]), Ok(true));
        assert_eq!(history.take(&first, &[]), Ok(false), "a repeat is skipped");
        let forged = entry(2, 3, 1, ChainHash([1; 32]));
        assert_eq!(history.take(&forged, &[]), Err(HistoryError::Chain { index: 2 }));
        let gap = entry(2, 4, 1, first.chain);
        let (expected, found) = (Offset(3), Offset(4));
        assert_eq!(history.take(&gap, &[]), Err(HistoryError::Offset { expected, found }));
        let blank = entry(2, 3, 0, first.chain);
        assert_eq!(history.take(&blank, &[]), Ok(true));
        let third = entry(3, 3, 1, blank.chain);
        assert_eq!(history.take(&third, &[]), Ok(true));
        assert_eq!(history.next_offset(), Offset(4));
    }

    #[test]
    fn another_history_of_the_same_offsets_is_found() {
        let first = entry(1, 0, 3, ChainHash::default());
        let position = Position {
            next_offset: Offset(3),
            index: 1,
            chain: ChainHash([9; 32]),
            time: Some(Timestamp(7)),
        };
        let mut history = History::from(ClusterId(7), PartitionId(1), &position);
        let second = entry(2, 3, 1, first.chain);
        assert_eq!(history.take(&second, &[]), Err(HistoryError::Chain { index: 2 }));
        let other = History::from(ClusterId(8), PartitionId(1), &position).take(&second, &[]);
        assert_eq!(other, Err(HistoryError::Cluster(7)));
    }
}
