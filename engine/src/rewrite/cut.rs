//! The first records of an entry, as an entry of their own. Pure.

use walengine_net::entry::{
    EntryError, EntryHeader, EntryKind, EventsBody, IMPORT_MARK, RecordHead, RecordsBody,
    access_events, access_records, is_amid_import,
};
use walengine_net::model::Resolved;
use walengine_net::unit;

/// How many of the entry's records are wanted if all below `offset` are, and none later than `time`. A
/// chain takes effect whole or not at all, so its first members are not wanted without its last.
///
/// # Errors
/// The body can't be read.
pub fn wanted(
    header: &EntryHeader,
    body: &[u8],
    offset: u64,
    time: u64,
) -> Result<u32, EntryError> {
    let meta = &header.meta;
    let by_offset = offset.saturating_sub(meta.base_offset.0);
    let by_time = time.checked_sub(meta.timestamp.0).map_or(0, |later| later.saturating_add(1));
    let mut records = by_offset.min(by_time).min(meta.records.into()) as u32;
    if meta.kind == EntryKind::Events && records < meta.records {
        let events = &access_events(body)?.events;
        while records > 0 && events.get(records as usize - 1).is_some_and(unit::is_linked) {
            records -= 1;
        }
    }
    Ok(records)
}

/// The body with its first `records` records.
///
/// # Errors
/// It can't be read.
pub fn first_records(kind: EntryKind, body: &[u8], records: u32) -> Result<Vec<u8>, EntryError> {
    let count = records as usize;
    let encoded = match kind {
        EntryKind::Events => {
            let body = access_events(body)?;
            let events: Vec<_> = body.events.iter().take(count).copied().collect();
            let verdicts = body.verdicts.iter().take(count).copied().collect();
            let resolved = body.resolved.iter().copied();
            let resolved = resolved
                .filter(|resolved| Resolved::from_bytes(resolved).index < records)
                .collect();
            rkyv::to_bytes::<rkyv::rancor::Failure>(&EventsBody { events, verdicts, resolved })
        }
        EntryKind::Records => {
            let body = access_records(body)?;
            let head = |head: &walengine_net::entry::ArchivedRecordHead| RecordHead {
                id: head.id.to_native(),
                expected_offset: head.expected_offset.to_native(),
                bytes: head.bytes.to_native(),
            };
            let heads: Vec<_> = body.heads.iter().take(count).map(head).collect();
            let verdicts = body.verdicts.iter().take(count).copied().collect();
            let bytes = heads.iter().map(|head| head.bytes as usize).sum();
            let blob = body.blob.iter().take(bytes).copied().collect();
            rkyv::to_bytes::<rkyv::rancor::Failure>(&RecordsBody { heads, verdicts, blob })
        }
        EntryKind::Blank | EntryKind::Membership => return Ok(body.to_vec()),
    };
    let encoded = encoded.map_err(|_| EntryError::Body)?;
    let mark = if is_amid_import(body) { &IMPORT_MARK[..] } else { &[] };
    Ok([mark, &encoded].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_records_keep_their_verdicts_and_the_mark_of_an_import() {
        let whole = RecordsBody {
            heads: [3, 4, 5].map(|bytes| RecordHead { id: 7, expected_offset: 9, bytes }).to_vec(),
            verdicts: vec![0; 3],
            blob: (0..12).collect(),
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&whole).unwrap();
        let first = first_records(EntryKind::Records, &body, 2).unwrap();
        let found = access_records(&first).unwrap();
        assert_eq!((found.heads.len(), found.blob.as_slice()), (2, &whole.blob[..7]));
        assert!(!is_amid_import(&first));
        let marked = [&IMPORT_MARK[..], &body].concat();
        let first = first_records(EntryKind::Records, &marked, 1).unwrap();
        assert!(is_amid_import(&first) && access_records(&first).unwrap().blob.len() == 3);
        assert!(first_records(EntryKind::Events, &body[1..], 1).is_err());
    }
}
