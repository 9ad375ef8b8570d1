//! Answers to writes.

use std::time::Duration;

use walengine_net::frame::{Frame, FrameHead, Kind};
use walengine_net::message::{
    MessageError, OutcomeRuns, Reached, Submit, SubmitReply, SubmitSpanning, SubmitSpanningReply,
    offset_number, open_frame,
};
use walengine_net::model::{EventBytes, Offset, PartitionId, Verdict};

use super::reads::patience;
use super::replies::Replies;
use crate::ledger::Outcomes;
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
    /// When it came, by the runtime's clock.
    since: Duration,
}

impl Asked {
    /// By this frame, which came at `since`.
    ///
    /// # Panics
    /// If it is of a kind that has no answer.
    pub fn by(frame: &Frame<'_>, head: FrameHead, since: Duration) -> Self {
        let kind = frame.kind.reply().expect("a write is answered");
        Self { kind, head, within: patience(frame.head.deadline_millis), since }
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
    let names_others = asked.kind == Kind::SubmitSpanningReply;
    // What has become of an older record is said behind it.
    let word =
        if names_others && runs.have_repeats() { replies.partition.newest_word() } else { None };
    answer(replies, asked, runs, newest, Tokens { own: newest.max(word), others: &[] }, false);
}

/// Answers when nothing is in doubt any more.
pub fn put_settled<C: Commit>(
    replies: &Replies<C>,
    asked: Asked,
    doubts: Doubts,
    mut outcomes: Outcomes,
    taken: Taken,
) {
    let others = replies.partition.with_ledger(|ledger| doubts.others(ledger));
    let may_be_at_once = replies.partition.commit().answers_at_word() && others.len() == 1;
    let at_once = may_be_at_once && ends_in_doubt(&outcomes);
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
        let at_once = at_once
            && partition.has_logged_outcomes()
            && newest.is_some_and(|newest| newest < partition.visible_offset());
        // Words that are not committed may be lost, and those that come again have other places.
        let word = if at_once { None } else { partition.newest_word() };
        let tokens = Tokens { own: newest.max(word), others: &others };
        answer(replies, asked, runs, newest, tokens, at_once);
    });
}

/// What is in doubt stands behind everything else that has a record, so all of that is visible with it.
fn ends_in_doubt(outcomes: &Outcomes) -> bool {
    let newest = outcomes.iter().max_by_key(|outcome| outcome.offset);
    let is_hidden = outcomes.iter().any(|outcome| outcome.verdict == Verdict::IdReused);
    !is_hidden && newest.is_some_and(|newest| newest.verdict == Verdict::InDoubt)
}

/// Offsets that readers must have seen.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    own: Option<Offset>,
    others: &'a [Reached],
}

/// `newest` is that of the runs.
fn answer<C: Commit>(
    replies: &Replies<C>,
    Asked { kind, head, since, .. }: Asked,
    runs: &OutcomeRuns,
    newest: Option<Offset>,
    tokens: Tokens<'_>,
    at_once: bool,
) {
    let runs = runs.as_slice();
    replies.partition.note_verdicts(runs);
    if kind == Kind::SubmitSpanningReply {
        let partition = replies.partition.id().partition.0;
        let own = tokens.own.filter(|_| newest.is_some());
        let own = own.map(|Offset(offset)| Reached { partition, offset });
        let tokens: Vec<Reached> = own.into_iter().chain(tokens.others.iter().copied()).collect();
        let reply = SubmitSpanningReply { tokens: &tokens, runs };
        return replies.put_decided(kind, head, &reply, at_once, since);
    }
    let reply = SubmitReply { token_offset: offset_number(newest), runs };
    replies.put_decided(kind, head, &reply, at_once, since);
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
