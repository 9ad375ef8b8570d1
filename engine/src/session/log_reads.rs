//! Requests that read the log: events by id, and pages. Visible entries only.
//!
//! A look-up reads each entry once, whatever it asks for: its ids are sorted by where they stand. It
//! takes its turn among the reads of the shard for each read, so that a long one delays no short one,
//! and ends with its deadline or its client.

use std::time::Duration;

use futures_lite::future::or;
use walengine_net::entry::{EntryHeader, EntryKind, access_events};
use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{Entries, ErrorCode, EventState, LogPage};
use walengine_net::model::{
    Amount, Decided, EventId, Offset, RESOLVED_BYTES, Resolved, Transfer, TransferFlags, Verdict,
    Word, event_id,
};
use walengine_replication::budget::Held;

use super::disk_reads::DiskReads;
use super::replies::Replies;
use crate::connection::errors::put_read_error;
use crate::ids::key::{Key, Space};
use crate::ledger::Ledger;
use crate::limits::{LOOKUP_PAGE_BYTES, PAGE_BYTES_MAX};
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::refused::Refused;
use crate::runtime::Runtime;
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
    let mut entries = partition.log().read_holding(from, bytes_max.min(PAGE_BYTES_MAX)).await?;
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

/// Answers [`Kind::ReadLog`]. `held` is the memory for the page.
pub async fn log_page<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    head: FrameHead,
    from: Offset,
    bytes_max: u32,
    mut held: Held,
) {
    let Replies { partition, outbox, .. } = replies;
    let turn = disk.turn().await;
    if outbox.has_ended() {
        return;
    }
    let read = read_page(partition, from, bytes_max as usize).await;
    drop(turn);
    match read {
        Ok(page) => {
            held.set(page.entries.capacity());
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

/// Answers [`Kind::ReadEntries`]. `held` is the memory for the page.
pub async fn entries_page<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    head: FrameHead,
    from_index: u64,
    bytes_max: u32,
    mut held: Held,
) {
    let Replies { partition, outbox, .. } = replies;
    let turn = disk.turn().await;
    if outbox.has_ended() {
        return;
    }
    let visible = partition.visible();
    let (mut entries, mut next_offset) = (Vec::new(), visible.next_offset);
    if (1..=visible.index).contains(&from_index) {
        let bytes_max = (bytes_max as usize).min(PAGE_BYTES_MAX);
        entries = match partition.log().read(from_index, bytes_max).await {
            Ok(entries) => entries,
            Err(error) => return put_read_error(outbox, head, &error),
        };
        let mut bytes = 0;
        for entry in Entries::new(&entries) {
            let Ok((header, _)) = entry else { break };
            if header.meta.index > visible.index {
                break;
            }
            bytes += header.entry_bytes();
            next_offset = header.next_offset();
        }
        entries.truncate(bytes);
    }
    drop(turn);
    held.set(entries.capacity());
    let durable_offset = partition.visible_offset().0;
    let reply = LogPage { next_offset: next_offset.0, durable_offset, entries: &entries };
    outbox.put(Kind::EntriesPage, head, &reply);
}

/// What a look-up of events may cost.
#[derive(Clone, Copy, Debug)]
pub struct LookUp {
    /// When its caller waits no more, by the clock of the partition's runtime.
    pub by: Duration,
    /// Bytes of entries that it may read.
    pub read_bytes_max: usize,
}

/// Says why a look-up has no answer.
pub(super) fn put_not_found<C: Commit>(replies: &Replies<C>, head: FrameHead, error: NotFound) {
    let outbox = &replies.outbox;
    match error {
        NotFound::Gone => {}
        NotFound::Late => {
            let message = "the look-up took too long: ask for fewer ids at once";
            outbox.put_error(head, ErrorCode::DeadlineExceeded, message);
        }
        NotFound::TooMuch => {
            let message = "the ids stand too far apart in the log: ask for fewer at once";
            outbox.put_error(head, ErrorCode::TooLarge, message);
        }
        NotFound::Missing => {
            let message = "the log does not hold what it should";
            outbox.put_error(head, ErrorCode::Internal, message);
        }
        NotFound::Refused(refused) => replies.put_refused(head, &refused),
        NotFound::Unreadable(error) => put_read_error(outbox, head, &error),
    }
}

/// Why a look-up has no answer.
pub(super) enum NotFound {
    /// The client is gone.
    Gone,
    /// It has waited for as long as it would.
    Late,
    /// More of the log would have to be read than is allowed.
    TooMuch,
    /// The log has no record where the ledger says that one is.
    Missing,
    Refused(Refused),
    Unreadable(ReadError),
}

/// The events with these ids, in the order of the request, and the offset that the answer reflects.
pub(super) async fn find_events<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    ids: &[u128],
    look_up: LookUp,
) -> Result<(Offset, Vec<EventState>), NotFound> {
    let partition = &replies.partition;
    let next_offset = partition.with_ledger(Ledger::next_offset);
    let visible = in_time(replies, look_up.by, partition.until_visible()).await?;
    visible.map_err(NotFound::Refused)?;
    let keys: Vec<Key> = ids.iter().map(|id| Key::new(*id, Space::Event)).collect();
    let decided = if let Some(decided) = partition.decided_now(&keys) {
        decided
    } else {
        let _turn = in_time(replies, look_up.by, disk.turn()).await?;
        let decided = in_time(replies, look_up.by, partition.decided(&keys)).await?;
        decided.map_err(NotFound::Unreadable)?
    };
    let mut wanted = wanted(&decided, next_offset);
    wanted.sort_unstable();
    let mut states = Vec::with_capacity(wanted.len());
    let mut read_bytes = 0;
    let mut rest = wanted.as_slice();
    while let Some(&(offset, _)) = rest.first() {
        let turn = in_time(replies, look_up.by, disk.turn()).await?;
        if read_bytes > look_up.read_bytes_max {
            return Err(NotFound::TooMuch);
        }
        let read = partition.log().read_holding(offset, LOOKUP_PAGE_BYTES).await;
        let bytes = read.map_err(NotFound::Unreadable)?;
        drop(turn);
        read_bytes += bytes.len();
        let before = rest.len();
        for entry in Entries::new(&bytes) {
            let Ok((header, body)) = entry else { break };
            let inside = rest.partition_point(|(offset, _)| *offset < header.next_offset());
            let (here, behind) = rest.split_at(inside);
            states.extend(events_in(&header, body, here));
            rest = behind;
        }
        if rest.len() == before {
            return Err(NotFound::Missing);
        }
        partition.runtime().yield_now().await;
    }
    states.sort_unstable_by_key(|state| state.index);
    settle(replies, disk, &mut states, &decided, look_up.by).await?;
    Ok((next_offset, states))
}

/// Puts what another partition has said since into the states of what was in doubt when it was logged.
async fn settle<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    states: &mut [EventState],
    decided: &[Option<Decided>],
    by: Duration,
) -> Result<(), NotFound> {
    if !states.iter().any(|state| state.verdict == Verdict::InDoubt.number()) {
        return Ok(());
    }
    let partition = &replies.partition;
    // The words may be newer than all that was waited for.
    let visible = in_time(replies, by, partition.until_visible()).await?;
    visible.map_err(NotFound::Refused)?;
    let mut reduced = Vec::new();
    for (place, state) in states.iter_mut().enumerate() {
        if state.verdict != Verdict::InDoubt.number() {
            continue;
        }
        let Some(decided) = decided[state.index as usize] else { continue };
        state.verdict = decided.verdict.number();
        let (id, transfer) = (EventId(event_id(&state.event)), Transfer::from_bytes(&state.event));
        if !decided.verdict.is_ok() {
            (state.has_resolved, state.resolved) = (0, [0; RESOLVED_BYTES]);
        }
        // Of any other, the amount is what was sent.
        if !decided.verdict.is_ok() || !transfer.is_balancing() {
            continue;
        }
        if transfer.flags.contains(TransferFlags::PENDING) {
            // Once it has ended, there is only what home had reserved at first.
            let open = partition.with_ledger(|ledger| ledger.pending(id));
            if let Some(amount) = open.map(|open| open.amount) {
                reduce(state, amount);
            }
        } else {
            reduced.push((place, id));
        }
    }
    if reduced.is_empty() {
        return Ok(());
    }
    let ids: Vec<EventId> = reduced.iter().map(|(_, id)| *id).collect();
    let _turn = in_time(replies, by, disk.turn()).await?;
    let ended = in_time(replies, by, partition.ended(&ids)).await?;
    let ended = ended.map_err(NotFound::Unreadable)?;
    for ((place, _), ended) in reduced.into_iter().zip(ended) {
        let word = ended.ok_or(NotFound::Missing)?.offset;
        let read = in_time(replies, by, partition.log().read_checked_at(word)).await?;
        let word = read.map_err(NotFound::Unreadable)?.record.into_event();
        let word = word.and_then(|word| Word::from_bytes(&word));
        reduce(&mut states[place], word.ok_or(NotFound::Missing)?.amount);
    }
    Ok(())
}

/// Says what a balancing transfer came to in the end.
fn reduce(state: &mut EventState, amount: Amount) {
    let transfer = Transfer::from_bytes(&state.event);
    let Transfer { debit_account_id, credit_account_id, ledger, code, .. } = transfer;
    let index = 0; // of no entry: two had a part in it
    let resolved = Resolved { debit_account_id, credit_account_id, amount, index, ledger, code };
    state.resolved = resolved.to_bytes();
    state.has_resolved = 1;
}

/// Waits, but not for longer than the caller does.
pub(super) async fn in_time<C: Commit, T>(
    replies: &Replies<C>,
    by: Duration,
    waiting: impl Future<Output = T>,
) -> Result<T, NotFound> {
    let runtime = replies.partition.runtime();
    let left = by.saturating_sub(runtime.elapsed());
    if replies.outbox.has_ended() {
        return Err(NotFound::Gone);
    } else if left.is_zero() {
        return Err(NotFound::Late);
    }
    let late = async {
        runtime.sleep(left).await;
        Err(NotFound::Late)
    };
    let gone = async {
        replies.outbox.ended().await;
        Err(NotFound::Gone)
    };
    or(async { Ok(waiting.await) }, or(late, gone)).await
}

/// Where the decided ones stand, each with its place in the request.
fn wanted(decided: &[Option<Decided>], below: Offset) -> Vec<(Offset, u32)> {
    let places = decided.iter().zip(0..).filter_map(|(decided, place)| {
        let offset = (*decided)?.offset?;
        (offset < below).then_some((offset, place))
    });
    places.collect()
}

/// The events at these offsets, all in one entry; none of an entry of opaque records, whose bytes are
/// in the log and not here.
fn events_in(header: &EntryHeader, body: &[u8], wanted: &[(Offset, u32)]) -> Vec<EventState> {
    if wanted.is_empty() || header.meta.kind != EntryKind::Events {
        return Vec::new();
    }
    let Ok(body) = access_events(body) else { return Vec::new() };
    // In the order of the records, as those that are wanted: one pass over both.
    let mut resolutions = body.resolved.iter().map(|one| (Resolved::from_bytes(one).index, one));
    let mut next = resolutions.next();
    let found = wanted.iter().filter_map(|&(offset, place)| {
        let record = offset.0.checked_sub(header.meta.base_offset.0)?;
        let (event, verdict) =
            (body.events.get(record as usize)?, body.verdicts.get(record as usize)?);
        while next.is_some_and(|(index, _)| u64::from(index) < record) {
            next = resolutions.next();
        }
        let resolved = next.filter(|(index, _)| u64::from(*index) == record).map(|(_, one)| one);
        Some(EventState {
            index: place,
            verdict: *verdict,
            has_resolved: u8::from(resolved.is_some()),
            offset: offset.0,
            timestamp: header.meta.timestamp.0.saturating_add(record),
            event: *event,
            resolved: resolved.copied().unwrap_or([0; RESOLVED_BYTES]),
        })
    });
    found.collect()
}
