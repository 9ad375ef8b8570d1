//! Taking over another cluster's log: its entries with their verdicts and log times, and a digest
//! of the state to compare afterwards.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most};
use crate::entry::{ArchivedRecordHead, BODY_BYTES_MAX, EntryKind, RecordHead};
use crate::frame::Kind;
use crate::limits::{ERROR_TEXT_BYTES_MAX, IMPORT_ENTRIES_MAX, PAGE_BODY_BYTES_MAX};
use crate::model::{EVENT_BYTES, EventBytes, RESOLVED_BYTES, ResolvedBytes, Verdict};

/// Asks for a digest of the partition's state at the end of its log. A leader answers with a state
/// that includes everything acknowledged before.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize)]
pub struct StateDigest {
    /// For so long after that moment the partition takes nothing from others and sends them nothing: states that
    /// are asked for together then fit each other. At most
    /// [`crate::limits::HOLD_MILLIS_MAX`].
    pub hold_millis: u32,
}

/// The digest of a state. Equal states have equal digests, on every node and in every cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct StateDigestReply {
    /// The state includes everything below this offset and nothing else.
    pub next_offset: u64,
    /// Log time of the newest record; 0 before the first.
    pub last_timestamp: u64,
    /// Accounts in it.
    pub accounts: u64,
    /// Open reservations in it.
    pub pendings: u64,
    /// Ids that it remembers, of accounts and events together.
    pub ids: u64,
    /// 1 while the partition takes an import and nothing else, so that its log is a part of one.
    pub is_importing: u8,
    /// The digest.
    pub digest: [u8; 32],
}

/// Some entries of another cluster's log for the leader of the connection's partition. Each is
/// decided again at its own log time, and taken only if every verdict and every resolution comes out
/// as it stands here.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ImportLog<'a> {
    /// Offset of the first record, which must be the log's next.
    pub base_offset: u64,
    /// 1 if the last entry is the import's last: the partition then serves as usual again.
    pub is_last: u8,
    /// The entries in order; each takes its records from the lists below.
    #[rkyv(with = InlineAsBox)]
    pub entries: &'a [ImportedEntry],
    /// Events, as they were sent.
    #[rkyv(with = InlineAsBox)]
    pub events: &'a [EventBytes],
    /// Effective accounts and amounts, in order; places are counted in their entry.
    #[rkyv(with = InlineAsBox)]
    pub resolved: &'a [ResolvedBytes],
    /// Heads of opaque records.
    #[rkyv(with = InlineAsBox)]
    pub heads: &'a [RecordHead],
    /// The opaque records' bytes, concatenated.
    #[rkyv(with = InlineAsBox)]
    pub blob: &'a [u8],
    /// The verdict of each record, of whichever kind, in order.
    #[rkyv(with = InlineAsBox)]
    pub verdicts: &'a [u8],
}

/// An entry of an [`ImportLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct ImportedEntry {
    /// Log time of its first record; record `i` has this plus `i`.
    pub timestamp: u64,
    /// Number of its records, at least 1.
    pub records: u32,
    /// Number of its resolutions; 0 for opaque records.
    pub resolved: u32,
    /// 1 events, 2 opaque records, as in an entry's header.
    pub kind: u8,
}

/// Size of an opaque record's head.
const RECORD_HEAD_BYTES: usize = 28;
/// What a body has besides its lists: its root, and the mark of an import.
const ENTRY_REST_BYTES: usize = 32;

/// What became of an [`ImportLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum ImportState {
    /// Entries below `next_offset` are in the log, durably. If that is not the end of the request,
    /// there was no room for the rest yet: send it again.
    Taken = 0,
    /// The log goes on at `next_offset` and not where the request begins. Nothing was taken.
    OtherOffset = 1,
    /// The entry at `next_offset` has a log time that is not past the log's last one, or is still to
    /// come by the leader's clock. It and those behind it were not taken.
    OtherTime = 2,
    /// The entry at `next_offset` would be decided in another way; the message says where and how.
    /// It and those behind it were not taken.
    Differs = 3,
}

/// Answer to [`ImportLog`].
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ImportLogReply<'a> {
    /// The log's next offset.
    pub next_offset: u64,
    /// The leader's clock in nanoseconds.
    pub now: u64,
    /// Number of the [`ImportState`].
    pub state: u8,
    /// Details for people; may be empty.
    #[rkyv(with = InlineAsBox)]
    pub message: &'a str,
}

/// One entry of an [`ImportLog`] with its records.
#[derive(Clone, Copy)]
pub struct EntryToImport<'a> {
    /// Log time of its first record.
    pub timestamp: u64,
    /// One for each record.
    pub verdicts: &'a [u8],
    /// What it holds.
    pub content: ContentToImport<'a>,
}

/// What an entry holds.
#[derive(Clone, Copy)]
pub enum ContentToImport<'a> {
    /// Events and their resolutions.
    Events(&'a [EventBytes], &'a [ResolvedBytes]),
    /// Opaque records and their bytes.
    Records(&'a [ArchivedRecordHead], &'a [u8]),
}

impl Message for StateDigest {
    const KIND: Kind = Kind::StateDigest;
    type View = ArchivedStateDigest;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for StateDigestReply {
    const KIND: Kind = Kind::StateDigestReply;
    type View = ArchivedStateDigestReply;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for ImportLog<'_> {
    const KIND: Kind = Kind::ImportLog;
    type View = ArchivedImportLog<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the import", view.entries.len(), IMPORT_ENTRIES_MAX)?;
        let [mut events, mut records, mut resolved] = [0u64; 3];
        for entry in view.entries.iter() {
            let count = u64::from(entry.records.to_native());
            let kind = EntryKind::try_from(u16::from(entry.kind));
            match (count, kind) {
                (1.., Ok(EntryKind::Events)) => events += count,
                (1.., Ok(EntryKind::Records)) if entry.resolved == 0 => records += count,
                _ => return Err(MessageError::Contradiction("no such entry can be imported")),
            }
            resolved += u64::from(entry.resolved.to_native());
        }
        let blob: u64 = view.heads.iter().map(|head| u64::from(head.bytes.to_native())).sum();
        let counted = [events, records, resolved, blob, events + records];
        let found = [
            view.events.len(),
            view.heads.len(),
            view.resolved.len(),
            view.blob.len(),
            view.verdicts.len(),
        ];
        if counted != found.map(|length| length as u64) || view.is_last > 1 {
            return Err(MessageError::Contradiction("the entries' records do not add up"));
        }
        // One entry alone may be as large as that, and all of them together are not larger.
        let bytes = view.events.len() * EVENT_BYTES
            + view.resolved.len() * RESOLVED_BYTES
            + view.heads.len() * RECORD_HEAD_BYTES
            + view.blob.len()
            + view.verdicts.len();
        at_most("the import's bytes", bytes, BODY_BYTES_MAX - ENTRY_REST_BYTES)?;
        if view.verdicts.iter().any(|&number| Verdict::from_number(number).is_none()) {
            return Err(MessageError::Contradiction("a verdict is not known to this version"));
        }
        Ok(())
    }
}

impl ArchivedImportLog<'_> {
    /// The entries with their records. The numbers have been checked by [`super::open`].
    pub fn each(&self) -> impl Iterator<Item = EntryToImport<'_>> {
        let (mut events, mut resolved) = (&self.events[..], &self.resolved[..]);
        let (mut heads, mut blob) = (&self.heads[..], &self.blob[..]);
        let mut verdicts = &self.verdicts[..];
        self.entries.iter().map_while(move |entry| {
            let records = entry.records.to_native() as usize;
            let content = if u16::from(entry.kind) == EntryKind::Events as u16 {
                let of_entry = entry.resolved.to_native() as usize;
                let events = take(&mut events, records)?;
                ContentToImport::Events(events, take(&mut resolved, of_entry)?)
            } else {
                let heads = take(&mut heads, records)?;
                let bytes = heads.iter().map(|head| head.bytes.to_native() as usize).sum();
                ContentToImport::Records(heads, take(&mut blob, bytes)?)
            };
            let verdicts = take(&mut verdicts, records)?;
            Some(EntryToImport { timestamp: entry.timestamp.to_native(), verdicts, content })
        })
    }
}

/// Takes the first `count` elements; `None` if there are fewer.
fn take<'a, T>(rest: &mut &'a [T], count: usize) -> Option<&'a [T]> {
    let (taken, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    Some(taken)
}

impl Message for ImportLogReply<'_> {
    const KIND: Kind = Kind::ImportLogReply;
    type View = ArchivedImportLogReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the message", view.message.len(), ERROR_TEXT_BYTES_MAX)?;
        match ImportState::try_from(view.state) {
            Ok(_) => Ok(()),
            Err(_) => Err(MessageError::Contradiction("an answer in no such state")),
        }
    }
}

const _: () = assert!(
    BODY_BYTES_MAX + 128 <= PAGE_BODY_BYTES_MAX,
    "an entry with the largest body fits in a request of its own"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::ANY_OFFSET;
    use crate::frame::{CONNECTION, FrameHead, HEADER_BYTES, encode};
    use crate::message::open;
    use crate::model::PartitionId;

    fn opened(message: &ImportLog<'_>) -> Result<(), MessageError> {
        let mut frame = Vec::new();
        encode(&mut frame, FrameHead::reply(PartitionId(0), CONNECTION), message).unwrap();
        open::<ImportLog<'_>>(&frame[HEADER_BYTES..]).map(|view| {
            let each: Vec<_> = view.each().collect();
            assert_eq!(each.len(), message.entries.len(), "as many as it says");
        })
    }

    #[test]
    fn numbers_that_do_not_add_up_are_refused() {
        let entry =
            |kind, records, resolved| ImportedEntry { timestamp: 5, records, resolved, kind };
        let head = RecordHead { id: 7, expected_offset: ANY_OFFSET, bytes: 3 };
        let whole = ImportLog {
            base_offset: 0,
            is_last: 0,
            entries: &[entry(1, 2, 1), entry(2, 1, 0)],
            events: &[[1; 128], [2; 128]],
            resolved: &[[3; 64]],
            heads: &[head],
            blob: b"abc",
            verdicts: &[0, 50, 0],
        };
        assert_eq!(opened(&whole), Ok(()));
        let wrong = [
            ImportLog { entries: &[entry(1, 2, 1)], ..whole },
            ImportLog { entries: &[entry(1, 2, 1), entry(3, 1, 0)], ..whole },
            ImportLog { entries: &[entry(1, 2, 0), entry(2, 1, 1)], ..whole },
            ImportLog { entries: &[entry(1, 2, 1), entry(2, 1, 0), entry(2, 0, 0)], ..whole },
            ImportLog { blob: b"abcd", ..whole },
            ImportLog { verdicts: &[0, 50], ..whole },
            ImportLog { verdicts: &[0, 50, 39], ..whole },
            ImportLog { resolved: &[], ..whole },
            ImportLog { is_last: 2, ..whole },
        ];
        for (place, wrong) in wrong.iter().enumerate() {
            assert!(opened(wrong).is_err(), "{place}");
        }
    }
}
