//! Answers to writes.

use std::collections::BTreeSet;
use std::time::Duration;

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::message::{
    MessageError, OutcomeRuns, Reached, Submit, SubmitReply, SubmitSpanning, SubmitSpanningReply,
    offset_number, open_frame,
};
use walengine_net::model::{EventBytes, Offset, PartitionId, Verdict};

use super::reads::patience;
use super::replies::Replies;
use crate::ledger::{Ledger, Outcomes};
use crate::partition::commit::Commit;
use crate::partition::spanning::Doubts;
use crate::partition::taken::Taken;

/// A write that is to be answered.
#[derive(Clone, Copy)]
pub struct Asked {
    /// Kind of the answer.
    kind: Kind,
    /// Of the answer.
    head: FrameHead,
    /// How long its sender waits.
    within: Duration,
}

impl Asked {
    /// By this frame.
    ///
    /// # Panics
    /// If it is of a kind that has no answer.
    pub fn by(frame: &Frame<'_>, head: FrameHead) -> Self {
        let kind = frame.kind.reply().expect("a write is answered");
        Self { kind, head, within: patience(frame.head.deadline_millis) }
    }
}

/// The events of a batch.
///
/// # Errors
/// The body is not what its kind promises.
pub fn events_of<'a>(frame: &Frame<'a>) -> Result<&'a [EventBytes], MessageError> {
    Ok(match frame.kind {
        Kind::SubmitSpanning => &open_frame::<SubmitSpanning<'_>>(frame)?.events,
        _ => &open_frame::<Submit<'_>>(frame)?.events,
    })
}

/// Answers when everything that was decided is visible.
pub fn put<C: Commit>(
    replies: &Replies<C>,
    asked: Asked,
    outcomes: &Outcomes,
    taken: &Taken,
    runs: &mut OutcomeRuns,
) {
    let newest = fill(runs, outcomes, taken);
    let tail = replies.partition.with_ledger(Ledger::next_offset);
    // What has become of an older record may be said by a newer one.
    let token = newest.and_then(|_| tail.0.checked_sub(1)).map(Offset);
    answer(replies, asked, runs, (newest, token), &[], false);
}

/// Answers when nothing is in doubt any more.
pub fn put_settled<C: Commit>(
    replies: &Replies<C>,
    asked: Asked,
    doubts: Doubts,
    mut outcomes: Outcomes,
    taken: Taken,
) {
    let names_others = asked.kind == Kind::SubmitSpanningReply;
    let others = replies.partition.with_ledger(|ledger| {
        if names_others { doubts.others(ledger) } else { BTreeSet::default() }
    });
    let replies_then = replies.clone();
    replies.spawn(async move {
        let (replies, partition) = (&replies_then, &replies_then.partition);
        if let Err(refused) = partition.settled(&doubts, &mut outcomes, asked.within).await {
            return replies.put_refused(asked.head, &refused);
        }
        let runs = &mut OutcomeRuns::default();
        let newest = fill(runs, &outcomes, &taken);
        let reached = |other: PartitionId| {
            let newest = partition.newest_heard_of(other)?;
            Some(Reached { partition: other.0, offset: newest.0 })
        };
        let others: Vec<Reached> = others.into_iter().filter_map(reached).collect();
        let is_visible = newest.is_some_and(|newest| newest < partition.visible_offset());
        let at_once = is_visible && partition.commit().answers_at_word();
        let tail = partition.with_ledger(Ledger::next_offset).0;
        let token = if at_once { newest } else { tail.checked_sub(1).map(Offset) };
        answer(replies, asked, runs, (newest, token), &others, at_once);
    });
}

/// `newest` is that of the runs; `token` includes the ends of what is in them.
fn answer<C: Commit>(
    replies: &Replies<C>,
    Asked { kind, head, .. }: Asked,
    runs: &OutcomeRuns,
    (newest, token): (Option<Offset>, Option<Offset>),
    others: &[Reached],
    at_once: bool,
) {
    let runs = runs.as_slice();
    if kind == Kind::SubmitSpanningReply {
        let partition = replies.partition.id().partition.0;
        let own = token.map(|Offset(offset)| Reached { partition, offset });
        let tokens: Vec<Reached> = own.into_iter().chain(others.iter().copied()).collect();
        let reply = SubmitSpanningReply { tokens: &tokens, runs };
        return replies.put_decided(kind, head, &reply, at_once);
    }
    let reply = SubmitReply { token_offset: offset_number(newest), runs };
    replies.put_decided(kind, head, &reply, at_once);
}

/// The newest record of them.
fn fill(runs: &mut OutcomeRuns, outcomes: &Outcomes, taken: &Taken) -> Option<Offset> {
    runs.clear();
    // Fresh records have growing offsets; a repeat points at or below one already seen.
    let mut fresh_from = taken.fresh_from;
    let mut newest = None;
    for outcome in outcomes {
        let fresh = match outcome.offset {
            Some(offset) => offset >= fresh_from,
            None => outcome.verdict != Verdict::IdReused, // the first's offset is hidden
        };
        let timestamp = outcome.offset.map_or_else(Default::default, |at| taken.time_of(at));
        runs.push(outcome.verdict, outcome.offset, fresh, timestamp);
        newest = newest.max(outcome.offset);
        if let (true, Some(offset)) = (fresh, outcome.offset) {
            fresh_from = offset.plus(1);
        }
    }
    newest
}
