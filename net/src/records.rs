//! The records of an entry one by one, with their places, times and verdicts. No I/O.

use crate::entry::{
    ANY_OFFSET, ArchivedRecordHead, EntryError, EntryHeader, EntryKind, EntryMeta, access_events,
    access_records,
};
use crate::model::{EventBytes, Offset, Resolved, ResolvedBytes, Timestamp, Verdict};

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// Its log time: a nanosecond after that of the record before it in the entry.
    pub timestamp: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// What it was about.
    pub content: Content<'a>,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// An event.
    Event {
        /// As it was sent.
        event: &'a EventBytes,
        /// Effective accounts and amount, if the event does not tell: a [`Resolved`].
        resolved: Option<&'a ResolvedBytes>,
    },
    /// Bytes of the log's other uses.
    Opaque {
        /// Its id.
        id: u128,
        /// The offset that it had to get.
        expected_offset: Option<Offset>,
        /// The bytes.
        data: &'a [u8],
    },
}

/// See [`records`].
#[derive(Clone)]
pub struct Records<'a> {
    meta: EntryMeta,
    /// Place of the next record in the entry.
    at: u32,
    verdicts: &'a [u8],
    left: Left<'a>,
}

/// What was not given out yet.
#[derive(Clone, Copy)]
enum Left<'a> {
    Events { events: &'a [EventBytes], resolved: &'a [ResolvedBytes] },
    Opaque { heads: &'a [ArchivedRecordHead], blob: &'a [u8] },
}

/// The records of an entry in order; none of one that has none by its kind.
///
/// # Errors
/// The body is not what the header says.
pub fn records<'a>(header: &EntryHeader, body: &'a [u8]) -> Result<Records<'a>, EntryError> {
    let (verdicts, left): (&[u8], _) = match header.meta.kind {
        EntryKind::Events => {
            let body = access_events(body)?;
            (&body.verdicts, Left::Events { events: &body.events, resolved: &body.resolved })
        }
        EntryKind::Records => {
            let body = access_records(body)?;
            (&body.verdicts, Left::Opaque { heads: &body.heads, blob: &body.blob })
        }
        EntryKind::Blank | EntryKind::Membership => {
            (&[], Left::Events { events: &[], resolved: &[] })
        }
    };
    Ok(Records { meta: header.meta, at: 0, verdicts, left })
}

impl<'a> Iterator for Records<'a> {
    type Item = LogRecord<'a>;

    fn next(&mut self) -> Option<LogRecord<'a>> {
        let at = self.at;
        let content = match &mut self.left {
            Left::Events { events, resolved } => {
                let event = events.split_off_first()?;
                let is_its = |first: &ResolvedBytes| Resolved::from_bytes(first).index == at;
                let resolved = match resolved.first() {
                    Some(first) if is_its(first) => resolved.split_off_first(),
                    _ => None,
                };
                Content::Event { event, resolved }
            }
            Left::Opaque { heads, blob } => {
                let head = heads.split_off_first()?;
                // The lengths add up to the blob's: the body was opened.
                let data = blob.split_off(..head.bytes.to_native() as usize)?;
                let expected = head.expected_offset.to_native();
                let expected_offset = (expected != ANY_OFFSET).then_some(Offset(expected));
                Content::Opaque { id: head.id.to_native(), expected_offset, data }
            }
        };
        self.at += 1;
        // Unknown numbers were refused when the body was opened.
        let verdict = Verdict::from_number(*self.verdicts.split_off_first()?)?;
        let offset = self.meta.base_offset.plus(u64::from(at));
        let timestamp = Timestamp(self.meta.timestamp.0.saturating_add(u64::from(at)));
        Some(LogRecord { offset, timestamp, verdict, content })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.verdicts.len(), Some(self.verdicts.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ChainHash, EventsBody, RecordHead, RecordsBody};
    use crate::model::{AccountId, ClusterId, PartitionId, Transfer};

    fn entry(kind: EntryKind, records: u32, body: &[u8]) -> EntryHeader {
        let meta = EntryMeta {
            cluster: ClusterId(1),
            partition: PartitionId(0),
            kind,
            term: 1,
            leader_node: 1,
            index: 1,
            base_offset: Offset(40),
            records,
            timestamp: Timestamp(1000),
        };
        meta.encode(body, 0, ChainHash::default())
    }

    #[test]
    fn each_event_has_its_place_verdict_and_resolution() {
        let resolved = |index| {
            let debit_account_id = AccountId(u128::from(index) + 7);
            Resolved { debit_account_id, index, ..Resolved::default() }.to_bytes()
        };
        let body = EventsBody {
            events: vec![Transfer::default().to_bytes(); 4],
            verdicts: [Verdict::Ok, Verdict::IdReused, Verdict::Ok, Verdict::Ok]
                .map(Verdict::number)
                .to_vec(),
            resolved: vec![resolved(0), resolved(3)],
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        let header = entry(EntryKind::Events, 4, &body);
        let found: Vec<_> = records(&header, &body).unwrap().collect();
        let places: Vec<_> = found.iter().map(|one| (one.offset.0, one.timestamp.0)).collect();
        assert_eq!(places, [(40, 1000), (41, 1001), (42, 1002), (43, 1003)]);
        assert_eq!(found[1].verdict, Verdict::IdReused);
        let accounts: Vec<_> = found
            .iter()
            .map(|one| match one.content {
                Content::Event { resolved, .. } => {
                    resolved.map(|bytes| Resolved::from_bytes(bytes).debit_account_id.0)
                }
                Content::Opaque { .. } => panic!("an event"),
            })
            .collect();
        assert_eq!(accounts, [Some(7), None, None, Some(10)]);
    }

    #[test]
    fn opaque_records_have_their_bytes_and_other_entries_have_none() {
        let head = |id, expected_offset, bytes| RecordHead { id, expected_offset, bytes };
        let body = RecordsBody {
            heads: vec![head(5, ANY_OFFSET, 3), head(6, 41, 0), head(7, 42, 2)],
            verdicts: vec![0; 3],
            blob: b"onetw".to_vec(),
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&body).unwrap();
        let header = entry(EntryKind::Records, 3, &body);
        let contents = records(&header, &body).unwrap().map(|one| match one.content {
            Content::Opaque { id, expected_offset, data } => (id, expected_offset, data),
            Content::Event { .. } => panic!("bytes"),
        });
        let expected: [(u128, Option<Offset>, &[u8]); 3] =
            [(5, None, b"one"), (6, Some(Offset(41)), b""), (7, Some(Offset(42)), b"tw")];
        assert_eq!(contents.collect::<Vec<_>>(), expected);
        assert_eq!(records(&entry(EntryKind::Blank, 0, &[]), &[]).unwrap().count(), 0);
        assert!(records(&entry(EntryKind::Events, 1, &[1, 2]), &[1, 2]).is_err());
    }
}
