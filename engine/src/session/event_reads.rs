//! Look-ups of events by their ids. To a caller whose rights have bounds, what stands in the log decides
//! what it is told: what lies outside is answered as what is not there.

use std::collections::HashMap;

use walengine_net::frame::{FrameHead, Kind};
use walengine_net::message::{EventState, LookupTransfersReply, StatusReply, VerdictState};
use walengine_net::model::{Decided, EventId};

use super::bounded::{Known, Touched};
use super::disk_reads::DiskReads;
use super::log_reads::{LookUp, NotFound, find_events, in_time, put_not_found};
use super::replies::Replies;
use crate::ids::key::{Key, Space};
use crate::partition::commit::Commit;
use crate::policy::Rights;

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
    let keys: Vec<Key> = ids.iter().map(|id| Key::new(*id, Space::Event)).collect();
    let decided = in_time(replies, look_up.by, replies.partition.decided(&keys)).await?;
    let decided = decided.map_err(NotFound::Unreadable)?;
    let is_there = |decided: &Option<Decided>| {
        decided.and_then(|decided| decided.offset).is_some_and(|offset| offset < next_offset)
    };
    let there = ids.iter().zip(&decided).filter(|(_, decided)| is_there(decided));
    let mut known: Known = there.map(|(id, _)| (*id, None)).collect();
    known.extend(states.iter().zip(touched).map(|(state, one)| (ids[state.index as usize], one)));
    Ok(known)
}

/// Those of the events that a caller may see: all, if its rights have no bounds.
async fn seen<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    ids: &[u128],
    look_up: LookUp,
    rights: Option<&Rights>,
) -> Result<(u64, Vec<EventState>), NotFound> {
    let (next_offset, states) = find_events(replies, disk, ids, look_up).await?;
    let Some(rights) = rights else { return Ok((next_offset.0, states)) };
    let touched = touched_by(replies, disk, &states, look_up).await?;
    let may = |touched: &Option<Touched>| {
        replies.partition.with_ledger(|ledger| {
            touched.as_ref().is_some_and(|touched| touched.is_in(&rights.read, ledger))
        })
    };
    let states = states.into_iter().zip(touched).filter(|(_, touched)| may(touched));
    Ok((next_offset.0, states.map(|(state, _)| state).collect()))
}

/// Answers [`Kind::LookupTransfers`], or [`Kind::Status`] of events, by a reply of this kind. It ends with its
/// caller's patience and with its connection, whatever it waits for then.
pub async fn answer<C: Commit>(
    replies: &Replies<C>,
    disk: &DiskReads,
    kind: Kind,
    head: FrameHead,
    ids: &[u128],
    look_up: LookUp,
    rights: Option<&Rights>,
) {
    let (next_offset, states) = match seen(replies, disk, ids, look_up, rights).await {
        Ok(seen) => seen,
        Err(error) => return put_not_found(replies, head, error),
    };
    if kind == Kind::LookupTransfersReply {
        let reply = LookupTransfersReply { next_offset, states: &states };
        return replies.outbox.put(kind, head, &reply);
    }
    let mut verdicts = vec![VerdictState { known: 0, verdict: 0, offset: 0 }; ids.len()];
    for EventState { index, verdict, offset, .. } in states {
        verdicts[index as usize] = VerdictState { known: 1, verdict, offset };
    }
    replies.outbox.put(kind, head, &StatusReply { next_offset, states: &verdicts });
}
