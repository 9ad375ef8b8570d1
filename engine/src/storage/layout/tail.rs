//! A point in a log.

use walengine_net::entry::{ChainHash, EntryHeader, RecordsEnd};
use walengine_net::model::{Offset, Timestamp};

use super::{Block, TAIL_AT, array, put, u64_at};

/// The end of a log, or any point in it: what the next entry has to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Raft index of the last entry; 0 before the first.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Offset of the record that comes next.
    pub next_offset: Offset,
    /// Log time of the last record.
    pub timestamp: Timestamp,
    /// Chain hash of the last entry.
    pub chain: ChainHash,
}

impl Tail {
    /// The log's end when `header`'s entry was its last. For entries of this log only: nothing is
    /// checked.
    pub fn of(header: &EntryHeader) -> Self {
        let meta = &header.meta;
        Self {
            index: meta.index,
            term: meta.term,
            next_offset: meta.base_offset.plus(u64::from(meta.records)),
            timestamp: Timestamp(meta.timestamp.0 + u64::from(meta.records).saturating_sub(1)),
            chain: header.chain,
        }
    }

    /// The tail with `header`'s entry behind it. `Err` says what contradicts this tail; the chain
    /// hash is not looked at.
    pub fn with(&self, header: &EntryHeader) -> Result<Self, &'static str> {
        let meta = &header.meta;
        if meta.index.checked_sub(1) != Some(self.index) {
            return Err("the index does not follow the one before");
        }
        if meta.term < self.term {
            return Err("the term is older than the one before");
        }
        if header.durable_index >= meta.index {
            return Err("the entry names itself durable");
        }
        let records = RecordsEnd { next_offset: self.next_offset, timestamp: self.timestamp };
        let RecordsEnd { next_offset, timestamp } =
            records.with(meta.base_offset, meta.timestamp, meta.records)?;
        Ok(Self { index: meta.index, term: meta.term, next_offset, timestamp, chain: header.chain })
    }

    pub(super) fn put(&self, block: &mut Block) {
        put(block, TAIL_AT, &self.index.to_le_bytes());
        put(block, TAIL_AT + 8, &self.term.to_le_bytes());
        put(block, TAIL_AT + 16, &self.next_offset.0.to_le_bytes());
        put(block, TAIL_AT + 24, &self.timestamp.0.to_le_bytes());
        put(block, TAIL_AT + 32, &self.chain.0);
    }

    pub(super) fn get(block: &Block) -> Self {
        Self {
            index: u64_at(block, TAIL_AT),
            term: u64_at(block, TAIL_AT + 8),
            next_offset: Offset(u64_at(block, TAIL_AT + 16)),
            timestamp: Timestamp(u64_at(block, TAIL_AT + 24)),
            chain: ChainHash(array(block, TAIL_AT + 32)),
        }
    }
}
