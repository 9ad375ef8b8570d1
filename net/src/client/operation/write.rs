//! Writes: submitting, and finding out the outcome of an unanswered write.

use std::time::Duration;

use crate::entry::ANY_OFFSET;
use crate::limits::{EVENTS_MAX, RECORDS_BLOB_BYTES_MAX, RECORDS_MAX};
use crate::message::{
    Append, AppendHead, ArchivedOutcomeRun, ErrorCode, IdNamespace, LINEARIZABLE, Status,
    StatusReply, Submit, SubmitReply, SubmitSpanning, SubmitSpanningReply, events_in, open,
};
use crate::model::{
    ClusterId, EventBytes, EventId, Offset, PartitionId, Timestamp, Token, Verdict,
};
use crate::unit;

use super::super::batch::{Split, Submitted, ids_by_namespace, split};
use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo};
use super::{Plan, as_many, call, first, known, within};

fn submitted(
    tokens: impl IntoIterator<Item = Token>,
    events: usize,
    runs: &[ArchivedOutcomeRun],
) -> Result<Submitted, ClientError> {
    let outcomes = events_in(runs);
    if outcomes != events {
        return Err(ClientError::Answer(format!("{outcomes} outcomes for {events} events")));
    }
    let mut result = Submitted::default();
    result.outcomes.extend(runs.iter().map(ArchivedOutcomeRun::to_native));
    tokens.into_iter().for_each(|token| result.add_token(token));
    Ok(result)
}

fn submitted_here(
    cluster: ClusterId,
    partition: PartitionId,
    events: usize,
    body: &[u8],
) -> Result<Submitted, ClientError> {
    let reply = open::<SubmitReply>(body)?;
    let token = reply.token_offset().map(|offset| Token { cluster, partition, offset });
    submitted(token, events, &reply.runs)
}

/// One batch for one partition. If another one may have a part in it, the answer has tokens of both.
pub fn submit(
    info: &ClusterInfo,
    partition: PartitionId,
    events: &[EventBytes],
) -> Result<Plan<Submitted>, ClientError> {
    within("events in a batch", events.len(), EVENTS_MAX)?;
    known(info, partition)?;
    if !unit::may_span_any(events, info.partitions) {
        return submit_here(info, partition, events);
    }
    let (cluster, count) = (info.cluster, events.len());
    let calls = vec![call(partition, Route::Leader, &SubmitSpanning { events })?];
    Ok(Plan::new(calls, move |answers| {
        let reply = open::<SubmitSpanningReply>(first(&answers)?)?;
        let tokens = reply.tokens.iter().map(|reached| Token {
            cluster,
            partition: PartitionId(reached.partition.to_native()),
            offset: Offset(reached.offset.to_native()),
        });
        submitted(tokens, count, &reply.runs)
    }))
}

/// One batch for one partition, as every server knows it; the answer has no token of another one.
pub fn submit_here(
    info: &ClusterInfo,
    partition: PartitionId,
    events: &[EventBytes],
) -> Result<Plan<Submitted>, ClientError> {
    let (cluster, count) = (info.cluster, events.len());
    Ok(Plan::new(vec![call(partition, Route::Leader, &Submit { events })?], move |answers| {
        submitted_here(cluster, partition, count, first(&answers)?)
    }))
}

/// Merges the results of the batches of a [`Split`] in the order of the request.
pub fn merge(split: &Split, results: &[Submitted]) -> Submitted {
    let total = split.places.iter().map(Vec::len).sum();
    let mut in_order = vec![None; total];
    let mut merged = Submitted::default();
    for (places, result) in split.places.iter().zip(results) {
        for (&place, outcome) in places.iter().zip(result.outcomes()) {
            in_order[place] = Some(outcome);
        }
        result.tokens.iter().for_each(|&token| merged.add_token(token));
    }
    for outcome in in_order.into_iter().flatten() {
        let (verdict, offset) = (outcome.verdict, outcome.offset);
        merged.outcomes.push(verdict, offset, outcome.fresh, outcome.timestamp);
    }
    merged
}

/// Splits a request for [`submit`], batch by batch.
pub fn split_by_partition(info: &ClusterInfo, events: &[EventBytes]) -> Result<Split, ClientError> {
    split(events, info.partitions)
}

/// One batch of opaque records. With `expected`, the first must get that offset, the second the
/// next, and so on.
pub fn append_records(
    info: &ClusterInfo,
    partition: PartitionId,
    records: &[(EventId, &[u8])],
    expected: Option<Offset>,
) -> Result<Plan<Submitted>, ClientError> {
    within("records in a batch", records.len(), RECORDS_MAX)?;
    known(info, partition)?;
    let blob_bytes = records.iter().map(|(_, record)| record.len()).sum();
    within("bytes of the records", blob_bytes, RECORDS_BLOB_BYTES_MAX)?;
    let head =
        |(id, record): &(EventId, &[u8])| AppendHead { id: id.0, bytes: record.len() as u32 };
    let heads: Vec<_> = records.iter().map(head).collect();
    let blob = records.iter().map(|&(_, record)| record).collect::<Vec<_>>().concat();
    let expected_offset = expected.map_or(ANY_OFFSET, |offset| offset.0);
    let append = Append { expected_offset, heads: &heads, blob: &blob };
    let (cluster, count) = (info.cluster, records.len());
    Ok(Plan::new(vec![call(partition, Route::Leader, &append)?], move |answers| {
        submitted_here(cluster, partition, count, first(&answers)?)
    }))
}

/// Ids of a write, whose verdicts are asked for if it is not answered.
#[derive(Clone, Debug)]
pub struct WriteIds {
    partition: PartitionId,
    ids: [Vec<(usize, u128)>; 2],
    /// What has become of a record may stand behind it.
    may_span: bool,
}

impl WriteIds {
    /// Of a batch of events.
    pub fn of_events(partition: PartitionId, events: &[EventBytes], info: &ClusterInfo) -> Self {
        let may_span = unit::may_span_any(events, info.partitions);
        Self { partition, ids: ids_by_namespace(events), may_span }
    }

    /// Of a batch of opaque records.
    pub fn of_records(partition: PartitionId, records: &[(EventId, &[u8])]) -> Self {
        let ids = records.iter().enumerate().map(|(place, (id, _))| (place, id.0)).collect();
        Self { partition, ids: [ids, Vec::new()], may_span: false }
    }
}

/// The outcome of an unanswered write, from the leader: another node may not have it yet. `None` if
/// not all of its ids are known, because it may still be in flight. If an id was used for another
/// event, this is that event's verdict: only sending the same bytes again tells `id_reused`.
pub fn resolve(
    info: &ClusterInfo,
    write: &WriteIds,
) -> Result<Plan<Option<Submitted>>, ClientError> {
    let (cluster, partition, may_span) = (info.cluster, write.partition, write.may_span);
    let mut calls = Vec::new();
    let mut places = Vec::new();
    for (namespace, ids) in [IdNamespace::Event, IdNamespace::Account].into_iter().zip(&write.ids) {
        if ids.is_empty() {
            continue;
        }
        let (its_places, its_ids): (Vec<usize>, Vec<u128>) = ids.iter().copied().unzip();
        let namespace = namespace as u8;
        let question = Status { at_least: LINEARIZABLE, namespace, ids: &its_ids };
        calls.push(call(partition, Route::Leader, &question)?);
        places.push(its_places);
    }
    Ok(Plan::new(calls, move |answers| {
        let mut decided = vec![None; places.iter().map(Vec::len).sum()];
        let mut newest = None;
        for (its_places, answer) in places.iter().zip(&answers) {
            let reply = open::<StatusReply>(answer)?;
            as_many(reply.states.len(), its_places.len())?;
            newest = newest.max(reply.next_offset.to_native().checked_sub(1));
            for (&place, state) in its_places.iter().zip(reply.states.iter()) {
                // What another partition has the last word on is not decided before that is here.
                decided[place] =
                    state.decided().filter(|(verdict, _)| *verdict != Verdict::InDoubt);
            }
        }
        let Some(decided) = decided.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut result = Submitted::default();
        for (verdict, offset) in decided {
            result.outcomes.push(verdict, Some(offset), false, Timestamp(0));
            result.add_token(Token { cluster, partition, offset });
        }
        if let (true, Some(offset)) = (may_span, newest.map(Offset)) {
            result.add_token(Token { cluster, partition, offset });
        }
        Ok(Some(result))
    }))
}

/// How long a write waits before its ids' verdicts are asked for: four fifths of the deadline.
pub fn write_share(deadline: Duration) -> Duration {
    deadline / 5 * 4
}

/// Whether the server is of a release that does not know such a request.
pub fn is_unknown_kind(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code: Some(ErrorCode::UnknownKind), .. })
}

/// Whether an error leaves open if a write took effect, so that its ids' verdicts must be asked
/// for.
pub fn is_open(error: &ClientError) -> bool {
    match error {
        ClientError::OutcomeUnknown { .. } => true,
        ClientError::Refused { code, .. } => {
            matches!(code, Some(ErrorCode::DeadlineExceeded | ErrorCode::LeadershipLost))
        }
        _ => false,
    }
}
