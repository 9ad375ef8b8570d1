//! Whether an entry follows those that are in a backup. Pure.

use walengine_net::entry::EntryHeader;

use crate::storage::ids::Ids;
use crate::storage::layout::Tail;

/// The end of the log with `header`'s entry behind `tail`; `None` if it is in it already.
///
/// Entries without records may have been left out on the way: a subscription begins at a record. The
/// chain can't be checked across such a gap; each entry's checksum can, and that no record is missing.
///
/// # Errors
/// Why it does not follow.
pub fn follow(
    ids: Ids,
    tail: &Tail,
    header: &EntryHeader,
    body: &[u8],
) -> Result<Option<Tail>, String> {
    let meta = &header.meta;
    if !ids.wrote(header) {
        return Err(format!(
            "it is of cluster {:032x}, partition {}",
            meta.cluster.0, meta.partition
        ));
    }
    let end = meta.base_offset.0.saturating_add(meta.records.into());
    if meta.index <= tail.index && end <= tail.next_offset.0 {
        return Ok(None);
    }
    if meta.index <= tail.index {
        return Err(format!("its index {} was there before", meta.index));
    }
    let is_next = meta.index == tail.index + 1;
    let before = Tail { index: meta.index - 1, ..*tail };
    let next = before.with(header)?;
    if is_next && !header.follows(tail.chain, body) {
        return Err("the chain hash does not follow the one before".to_owned());
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use walengine_net::entry::{ChainHash, EntryKind, EntryMeta};
    use walengine_net::model::{ClusterId, Offset, PartitionId, Timestamp};

    use super::*;

    const IDS: Ids = Ids { cluster: ClusterId(7), partition: PartitionId(1) };

    fn entry(index: u64, base: u64, records: u32, previous: ChainHash) -> EntryHeader {
        let meta = EntryMeta {
            cluster: IDS.cluster,
            partition: IDS.partition,
            kind: EntryKind::Blank,
            term: 1,
            leader_node: 1,
            index,
            base_offset: Offset(base),
            records,
            timestamp: Timestamp(base.saturating_add(10)),
        };
        meta.encode(&[], 0, previous)
    }

    #[test]
    fn entries_follow_without_a_gap_in_their_records() {
        let first = entry(1, 0, 3, ChainHash::default());
        let tail = follow(IDS, &Tail::default(), &first, &[]).unwrap().unwrap();
        assert_eq!((tail.index, tail.next_offset), (1, Offset(3)));
        assert_eq!(follow(IDS, &tail, &first, &[]), Ok(None), "a repeat is passed over");
        let second = entry(2, 3, 2, first.chain);
        assert!(follow(IDS, &tail, &second, &[]).unwrap().is_some());
        // A blank entry was left out between them.
        let later = entry(4, 3, 2, ChainHash([9; 32]));
        assert!(follow(IDS, &tail, &later, &[]).unwrap().is_some());
        for (what, wrong) in [
            ("another chain", entry(2, 3, 2, ChainHash([9; 32]))),
            ("a missing record", entry(3, 4, 2, first.chain)),
            ("an older index", entry(1, 3, 2, first.chain)),
            ("the last offset there is", entry(2, u64::MAX, 2, first.chain)),
        ] {
            assert!(follow(IDS, &tail, &wrong, &[]).is_err(), "{what}");
        }
        let other = Ids { cluster: ClusterId(8), ..IDS };
        assert!(follow(other, &tail, &second, &[]).is_err());
    }
}
