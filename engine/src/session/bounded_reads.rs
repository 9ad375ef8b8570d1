//! Look-ups for callers whose rights have bounds: what stands in the log decides what they are told.
//! What lies outside is answered as what is not there.

use std::collections::HashMap;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{
    ErrorCode, EventState, LookupTransfersReply, StatusReply, VerdictState,
};
use walengine_net::model::EventId;

use super::bounded::{Known, Touched};
use super::disk_reads::DiskReads;
use super::log_reads::{LookUp, NotFound, find_events, put_not_found};
use super::replies::Replies;
use crate::partition::commit::Commit;
use crate::policy::{Permit, Rights};

/// What events of the log touch, in their order. `None`: they name nothing that exists.
async fn touched_by<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    states: &[EventState],
    look_up: LookUp,
) -> Result<Vec<Option<Touched>>, NotFound> {
    let touched: Vec<_> = states.iter().map(Touched::of).collect();
    let mut ended: Vec<_> =
        touched.iter().filter_map(|touched| touched.as_ref().err()).map(|id| id.0).collect();
    ended.sort_unstable();
    ended.dedup();
    let mut reservations: HashMap<u128, Touched> = replies.partition.with_ledger(|ledger| {
        let open =
            ended.iter().filter_map(|id| Some((*id, Touched::of_open(ledger, EventId(*id))?)));
        open.collect()
    });
    ended.retain(|id| !reservations.contains_key(id));
    if !ended.is_empty() {
        let (_, found) = find_events(replies, disk, &ended, look_up).await?;
        for state in found {
            if let Ok(touched) = Touched::of(&state) {
                reservations.insert(ended[state.index as usize], touched);
            }
        }
    }
    let of = |(state, touched): (&EventState, Result<Touched, EventId>)| match touched {
        Ok(touched) => Some(touched),
        Err(id) => reservations.get(&id.0).map(|found| Touched::of_refused(state, found)),
    };
    Ok(states.iter().zip(touched).map(of).collect())
}

/// What the decided ones of these ids touch.
pub(super) async fn touched<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    ids: &[u128],
    look_up: LookUp,
) -> Result<Known, NotFound> {
    let (next_offset, states) = find_events(replies, disk, ids, look_up).await?;
    let touched = touched_by(replies, disk, &states, look_up).await?;
    // Those that are decided and no events are opaque records.
    let is_decided = |id: &u128| {
        let decided = replies.partition.with_ledger(|ledger| ledger.decided(EventId(*id)));
        decided.and_then(|decided| decided.offset).is_some_and(|offset| offset < next_offset)
    };
    let mut known: Known = ids.iter().copied().filter(is_decided).map(|id| (id, None)).collect();
    known.extend(states.iter().zip(touched).map(|(state, one)| (ids[state.index as usize], one)));
    Ok(known)
}

/// Those of the events that a caller may see.
async fn seen<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    ids: &[u128],
    look_up: LookUp,
    rights: &Rights,
) -> Result<(u64, Vec<EventState>), NotFound> {
    let (next_offset, states) = find_events(replies, disk, ids, look_up).await?;
    let touched = touched_by(replies, disk, &states, look_up).await?;
    let may = |touched: &Option<Touched>| {
        replies.partition.with_ledger(|ledger| {
            touched.as_ref().is_some_and(|touched| touched.is_in(&rights.read, ledger))
        })
    };
    let states = states.into_iter().zip(touched).filter(|(_, touched)| may(touched));
    Ok((next_offset.0, states.map(|(state, _)| state).collect()))
}

/// Answers [`Kind::LookupTransfers`].
pub(super) async fn lookup_events<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    head: FrameHead,
    ids: &[u128],
    look_up: LookUp,
    rights: &Rights,
) {
    match seen(replies, disk, ids, look_up, rights).await {
        Ok((next_offset, states)) => {
            let reply = LookupTransfersReply { next_offset, states: &states };
            replies.outbox.put(Kind::LookupTransfersReply, head, &reply);
        }
        Err(error) => put_not_found(replies, head, error),
    }
}

/// Answers [`Kind::Status`] of events.
pub(super) async fn status_of<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    head: FrameHead,
    ids: &[u128],
    look_up: LookUp,
    rights: &Rights,
) {
    match seen(replies, disk, ids, look_up, rights).await {
        Ok((next_offset, found)) => {
            let mut states = vec![VerdictState { known: 0, verdict: 0, offset: 0 }; ids.len()];
            for EventState { index, verdict, offset, .. } in found {
                states[index as usize] = VerdictState { known: 1, verdict, offset };
            }
            let reply = StatusReply { next_offset, states: &states };
            replies.outbox.put(Kind::StatusReply, head, &reply);
        }
        Err(error) => put_not_found(replies, head, error),
    }
}

/// Answers that the caller lacks a right for something that the request names.
pub(super) fn put_forbidden<C: Commit>(
    replies: &Replies<C>,
    head: FrameHead,
    permit: &Permit,
    lacks: String,
) {
    if let Some(forbidden) = permit.forbidden(lacks) {
        replies.outbox.put_error(head, ErrorCode::Forbidden, &forbidden.to_string());
    }
}
