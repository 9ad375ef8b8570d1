//! Requests that read the log: events by id, and pages. Visible entries only.

use walengine_net::entry::{EntryKind, access_events};
use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{Entries, EventState, LogPage, LookupTransfersReply};
use walengine_net::model::{EventId, Offset, RESOLVED_BYTES, Resolved};

use super::replies::Replies;
use crate::connection::errors::put_read_error;
use crate::ledger::Ledger;
use crate::limits::PAGE_BYTES_MAX;
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::storage::error::ReadError;

/// Entries from the log, whole and visible, with the offset behind the last.
pub struct Page {
    /// One behind the other, without padding.
    pub entries: Vec<u8>,
    /// Where to read on.
    pub next_offset: Offset,
}

/// Reads visible entries from the one that holds `from`; none if `from` is not visible yet.
pub async fn read_page<C: Commit>(
    partition: &Partition<C>,
    from: Offset,
    bytes_max: usize,
) -> Result<Page, ReadError> {
    let visible = partition.visible_offset();
    if from >= visible {
        return Ok(Page { entries: Vec::new(), next_offset: from });
    }
    let index = partition.log().find_offset(from).await?;
    let mut entries = partition.log().read(index, bytes_max.min(PAGE_BYTES_MAX)).await?;
    let mut next_offset = from;
    let mut bytes = 0;
    for entry in Entries::new(&entries) {
        // What was just read has been checked; a bad entry here would end the page before it.
        let Ok((header, _)) = entry else { break };
        if header.next_offset() > visible {
            break;
        }
        bytes += header.entry_bytes();
        next_offset = next_offset.max(header.next_offset());
    }
    entries.truncate(bytes);
    Ok(Page { entries, next_offset })
}

/// Answers [`Kind::ReadLog`].
pub async fn log_page<C: Commit>(
    replies: &Replies<C>,
    head: FrameHead,
    from: Offset,
    bytes_max: u32,
) {
    let Replies { partition, outbox, .. } = replies;
    match read_page(partition, from, bytes_max as usize).await {
        Ok(page) => {
            let reply = LogPage {
                next_offset: page.next_offset.0,
                durable_offset: partition.visible_offset().0,
                entries: &page.entries,
            };
            outbox.put(Kind::LogPage, head, &reply);
        }
        Err(error) => put_read_error(outbox, head, &error),
    }
}

/// Answers [`Kind::LookupTransfers`].
pub async fn lookup_events<C: Commit>(replies: &Replies<C>, head: FrameHead, ids: &[u128]) {
    let Replies { partition, outbox, .. } = replies;
    let next_offset = partition.with_ledger(Ledger::next_offset);
    if let Err(refused) = partition.until_visible().await {
        return replies.put_refused(head, &refused);
    }
    let mut states = Vec::new();
    for (&id, place) in ids.iter().zip(0..) {
        let Some(decided) = partition.with_ledger(|ledger| ledger.decided(EventId(id))) else {
            continue;
        };
        let Some(offset) = decided.offset.filter(|offset| *offset < next_offset) else { continue };
        match event_at(partition, offset, place).await {
            Ok(Some(state)) => states.push(state),
            Ok(None) => {} // an opaque record: its bytes are in the log, not here
            Err(error) => return put_read_error(outbox, head, &error),
        }
    }
    let reply = LookupTransfersReply { next_offset: next_offset.0, states: &states };
    outbox.put(Kind::LookupTransfersReply, head, &reply);
}

async fn event_at<C: Commit>(
    partition: &Partition<C>,
    offset: Offset,
    place: u32,
) -> Result<Option<EventState>, ReadError> {
    let index = partition.log().find_offset(offset).await?;
    let bytes = partition.log().read(index, 1).await?;
    let Some(Ok((header, body))) = Entries::new(&bytes).next() else { return Ok(None) };
    if header.meta.kind != EntryKind::Events {
        return Ok(None);
    }
    let Ok(body) = access_events(body) else { return Ok(None) };
    let record = offset.0.saturating_sub(header.meta.base_offset.0);
    let at = record as usize;
    let (Some(event), Some(verdict)) = (body.events.get(at), body.verdicts.get(at)) else {
        return Ok(None);
    };
    let resolved = body
        .resolved
        .iter()
        .find(|resolved| u64::from(Resolved::from_bytes(resolved).index) == record);
    Ok(Some(EventState {
        index: place,
        verdict: *verdict,
        has_resolved: u8::from(resolved.is_some()),
        offset: offset.0,
        timestamp: header.meta.timestamp.0.saturating_add(record),
        event: *event,
        resolved: resolved.copied().unwrap_or([0; RESOLVED_BYTES]),
    }))
}
