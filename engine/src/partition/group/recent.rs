//! The newest entries of a partition's log, as openraft has them: what followers are sent and what
//! is applied is nearly always among them, and the disk is not read for it. Bodies are shared, not
//! copied. Lives on the partition's shard.

use std::collections::VecDeque;

use walengine_replication::types::{Entry, Payload};

use crate::limits::{RECENT_BYTES_MAX, RECENT_ENTRIES_MAX};
use crate::memory;

/// See the module.
///
/// Invariant: the indexes of `entries` are consecutive, and the last is the log's.
pub struct RecentEntries {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for RecentEntries {
    fn default() -> Self {
        let bytes_max = memory::in_proportion(RECENT_BYTES_MAX);
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }
}

impl RecentEntries {
    /// Bytes of bodies that are here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the entry that was appended just now.
    pub fn push(&mut self, entry: Entry) {
        let follows = |last: &Entry| last.log_id.index + 1 == entry.log_id.index;
        if !self.entries.back().is_none_or(follows) {
            self.cut(0);
        }
        self.bytes += body_bytes(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.bytes > self.bytes_max || self.entries.len() > RECENT_ENTRIES_MAX)
        {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, body_bytes);
        }
    }

    /// Forgets entries from index `from` on.
    pub fn cut(&mut self, from: u64) {
        while let Some(entry) = self.entries.pop_back_if(|last| last.log_id.index >= from) {
            self.bytes -= body_bytes(&entry);
        }
    }

    /// Entries with indexes from `from` to below `to`, as many as `bytes_max` bytes of bodies
    /// allow, at least one; `None` if the first of them is not here.
    pub fn range(&self, from: u64, to: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.log_id.index;
        let skip = from.checked_sub(first)? as usize;
        if skip >= self.entries.len() || from >= to {
            return None;
        }
        let mut bytes = 0;
        let within = |entry: &&Entry| {
            let fits = bytes < bytes_max && entry.log_id.index < to;
            bytes += body_bytes(entry);
            fits
        };
        Some(self.entries.iter().skip(skip).take_while(within).cloned().collect())
    }
}

fn body_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Normal(batch) => batch.body.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;
    use openraft::vote::leader_id_std::LeaderId;
    use walengine_replication::types::LogId;

    use super::*;

    fn entry(index: u64) -> Entry {
        let log_id = LogId::new(LeaderId::new(1, 0).to_committed(), index);
        Entry { log_id, payload: Payload::Blank }
    }

    fn indexes(recent: &RecentEntries, from: u64, to: u64) -> Option<Vec<u64>> {
        let entries = recent.range(from, to, usize::MAX)?;
        Some(entries.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn what_was_cut_is_never_given() {
        let mut recent = RecentEntries::default();
        (3..8).for_each(|index| recent.push(entry(index)));
        assert_eq!(indexes(&recent, 4, 6), Some(vec![4, 5]));
        assert_eq!(indexes(&recent, 2, 6), None, "the disk has the first of them");
        recent.cut(5);
        assert_eq!(indexes(&recent, 3, 9), Some(vec![3, 4]));
        assert_eq!(indexes(&recent, 5, 9), None);
        recent.push(entry(5));
        assert_eq!(indexes(&recent, 4, 9), Some(vec![4, 5]));
        recent.push(entry(9));
        assert_eq!(indexes(&recent, 5, 10), None, "there is a gap before 9");
        assert_eq!(indexes(&recent, 9, 10), Some(vec![9]));
    }
}
