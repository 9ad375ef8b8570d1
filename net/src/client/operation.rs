//! Every method of the clients, without I/O: which requests to send, and what their answers mean.

use std::time::Duration;

use crate::entry::ANY_OFFSET;
use crate::frame::{Kind, encode_unsealed};
use crate::limits::{
    BODY_BYTES_MAX, EVENTS_MAX, LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX, PAGE_BODY_BYTES_MAX,
    RECORDS_BLOB_BYTES_MAX, RECORDS_MAX, STATUS_IDS_MAX,
};
use crate::message::{
    Append, AppendHead, Entries, IdNamespace, ListAccounts, ListAccountsReply, LogPage,
    LookupAccounts, LookupAccountsReply, LookupTransfers, LookupTransfersReply, Message, NO_OFFSET,
    NO_PARTITION, ReadLog, ServerStatus, ServerStatusReply, Status, StatusReply, Submit,
    SubmitReply, open,
};
use crate::model::{
    Account, AccountId, ClusterId, Event, EventBytes, EventId, Offset, PartitionId, Resolved,
    Timestamp, Token, Verdict,
};
use crate::partition;

use super::batch::{Split, Submitted, ids_by_namespace, split};
use super::{ClientError, ClusterInfo};

/// One request: a frame without request id, deadline and checksum.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose connection it goes over.
    pub partition: PartitionId,
    /// Its kind.
    pub kind: Kind,
    /// From [`encode_unsealed`].
    pub frame: Vec<u8>,
}

/// A request's answer, kept: the kind is the one that the request is answered with.
pub type Answer = Vec<u8>;

/// Requests, and what makes one result of their answers, which are given in the same order.
pub struct Plan<R> {
    /// To be sent at once, in this order.
    pub calls: Vec<Call>,
    finish: Box<dyn FnOnce(Vec<Answer>) -> Result<R, ClientError> + Send>,
}

impl<R> Plan<R> {
    fn new(
        calls: Vec<Call>,
        finish: impl FnOnce(Vec<Answer>) -> Result<R, ClientError> + Send + 'static,
    ) -> Self {
        Self { calls, finish: Box::new(finish) }
    }

    /// Takes the bodies of the answers apart from the calls, once these are sent.
    pub fn into_parts(
        self,
    ) -> (Vec<Call>, impl FnOnce(Vec<Answer>) -> Result<R, ClientError> + Send) {
        (self.calls, self.finish)
    }
}

/// An event that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDecision {
    /// Where.
    pub partition: PartitionId,
    /// The verdict.
    pub verdict: Verdict,
    /// Its record.
    pub offset: Offset,
    /// Log time of its record.
    pub timestamp: Timestamp,
    /// As it was sent.
    pub event: Event,
    /// Effective accounts and amount, where the event does not say.
    pub resolved: Option<Resolved>,
}

/// What is known about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdVerdict {
    /// Where it was decided.
    pub partition: PartitionId,
    /// The verdict.
    pub verdict: Verdict,
    /// Its record.
    pub offset: Offset,
}

/// A page of accounts, in order of creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Where the next page starts; `None` when this was the last.
    pub next_cursor: Option<u64>,
    /// The state includes everything below this offset and nothing else.
    pub next_offset: Offset,
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where to read on.
    pub next_offset: Offset,
    /// Everything below is durable.
    pub durable_offset: Offset,
    /// Whole entries, verbatim.
    pub bytes: Vec<u8>,
}

impl Page {
    /// The entries of this page, each checked when it is reached.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.bytes)
    }

    pub(super) fn from_body(body: &[u8]) -> Result<Self, ClientError> {
        let page = open::<LogPage>(body)?;
        Ok(Self {
            next_offset: Offset(page.next_offset.to_native()),
            durable_offset: Offset(page.durable_offset.to_native()),
            bytes: page.entries.to_vec(),
        })
    }
}

/// The server's account of itself. `None` for the partition: about the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerReport {
    /// Numbers, with their units in their names.
    pub numbers: Vec<(Option<PartitionId>, String, u64)>,
    /// Texts.
    pub texts: Vec<(Option<PartitionId>, String, String)>,
}

fn call<M: Message>(partition: PartitionId, message: &M) -> Result<Call, ClientError> {
    let mut frame = Vec::new();
    encode_unsealed(&mut frame, M::KIND, partition, message)?;
    Ok(Call { partition, kind: M::KIND, frame })
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), ClientError> {
    if found <= limit { Ok(()) } else { Err(ClientError::TooMany { what, found, limit }) }
}

/// The partition exists, so that no connection is opened in vain.
fn known(info: &ClusterInfo, partition: PartitionId) -> Result<(), ClientError> {
    within("the partition's number plus one", usize::from(partition.0) + 1, info.partitions.into())
}

/// Newest offset that the tokens name for a partition.
fn at_least(
    info: &ClusterInfo,
    tokens: &[Token],
    partition: PartitionId,
) -> Result<u64, ClientError> {
    if let Some(token) = tokens.iter().find(|token| token.cluster != info.cluster) {
        let (expected, found) = (token.cluster.0, info.cluster.0);
        return Err(ClientError::WrongCluster { expected, found });
    }
    let of_partition = tokens.iter().filter(|token| token.partition == partition);
    Ok(of_partition.map(|token| token.offset.0).max().unwrap_or(NO_OFFSET))
}

fn submitted(
    cluster: ClusterId,
    partition: PartitionId,
    events: usize,
    body: &[u8],
) -> Result<Submitted, ClientError> {
    let reply = open::<SubmitReply>(body)?;
    if reply.events() != events {
        return Err(ClientError::Answer(format!(
            "{} outcomes for {events} events",
            reply.events()
        )));
    }
    let mut result = Submitted::default();
    result.outcomes.extend(reply.runs.iter().map(crate::message::ArchivedOutcomeRun::to_native));
    if let Some(offset) = reply.token_offset() {
        result.add_token(Token { cluster, partition, offset });
    }
    Ok(result)
}

/// One batch for one partition.
pub fn submit(
    info: &ClusterInfo,
    partition: PartitionId,
    events: &[EventBytes],
) -> Result<Plan<Submitted>, ClientError> {
    within("events in a batch", events.len(), EVENTS_MAX)?;
    known(info, partition)?;
    let (cluster, count) = (info.cluster, events.len());
    Ok(Plan::new(vec![call(partition, &Submit { events })?], move |answers| {
        submitted(cluster, partition, count, first(&answers)?)
    }))
}

/// Merges what came of the batches of a [`Split`] into the order of the request.
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

/// One batch of opaque records. With `expected`, the first must get that offset, and so on.
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
    Ok(Plan::new(vec![call(partition, &append)?], move |answers| {
        submitted(cluster, partition, count, first(&answers)?)
    }))
}

/// Ids of a write, to be asked for when it was not answered.
#[derive(Clone, Debug)]
pub struct WriteIds {
    partition: PartitionId,
    ids: [Vec<(usize, u128)>; 2],
}

impl WriteIds {
    /// Of a batch of events.
    pub fn of_events(partition: PartitionId, events: &[EventBytes]) -> Self {
        Self { partition, ids: ids_by_namespace(events) }
    }

    /// Of a batch of opaque records.
    pub fn of_records(partition: PartitionId, records: &[(EventId, &[u8])]) -> Self {
        let ids = records.iter().enumerate().map(|(place, (id, _))| (place, id.0)).collect();
        Self { partition, ids: [ids, Vec::new()] }
    }
}

/// What became of a write that was not answered. `None` if not all of its ids are known, because
/// it may still be on its way. An id that had been used for another event shows that event's
/// verdict: only sending the same bytes again tells `id_reused`.
pub fn resolve(
    info: &ClusterInfo,
    write: &WriteIds,
) -> Result<Plan<Option<Submitted>>, ClientError> {
    let (cluster, partition) = (info.cluster, write.partition);
    let mut calls = Vec::new();
    let mut places = Vec::new();
    for (namespace, ids) in [IdNamespace::Event, IdNamespace::Account].into_iter().zip(&write.ids) {
        if ids.is_empty() {
            continue;
        }
        let (its_places, its_ids): (Vec<usize>, Vec<u128>) = ids.iter().copied().unzip();
        let namespace = namespace as u8;
        calls.push(call(partition, &Status { at_least: NO_OFFSET, namespace, ids: &its_ids })?);
        places.push(its_places);
    }
    Ok(Plan::new(calls, move |answers| {
        let mut decided = vec![None; places.iter().map(Vec::len).sum()];
        for (its_places, answer) in places.iter().zip(&answers) {
            let reply = open::<StatusReply>(answer)?;
            as_many(reply.states.len(), its_places.len())?;
            for (&place, state) in its_places.iter().zip(reply.states.iter()) {
                decided[place] = state.decided();
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
        Ok(Some(result))
    }))
}

/// Accounts by id; each is asked of its own partition. Results in the order of `ids`.
pub fn lookup_accounts(
    info: &ClusterInfo,
    ids: &[AccountId],
    tokens: &[Token],
) -> Result<Plan<Vec<Option<Account>>>, ClientError> {
    let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); usize::from(info.partitions)];
    for (place, &id) in ids.iter().enumerate() {
        by_partition[usize::from(partition::of_account(id, info.partitions).0)].push(place);
    }
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for (partition, its_places) in info.partitions().zip(&by_partition) {
        let at_least = at_least(info, tokens, partition)?;
        for chunk in its_places.chunks(LOOKUP_IDS_MAX) {
            let its_ids: Vec<u128> = chunk.iter().map(|&place| ids[place].0).collect();
            calls.push(call(partition, &LookupAccounts { at_least, ids: &its_ids })?);
            places.push(chunk.to_vec());
        }
    }
    let total = ids.len();
    Ok(Plan::new(calls, move |answers| {
        let mut accounts = vec![None; total];
        for (its_places, answer) in places.iter().zip(&answers) {
            for (index, account) in open::<LookupAccountsReply>(answer)?.accounts() {
                accounts[place_of(its_places, index)?] = Some(Account::from_bytes(account));
            }
        }
        Ok(accounts)
    }))
}

/// Transfers, guards and closes by id. An id does not tell its partition, so all are asked; the
/// decision with an accepted verdict wins over a refusal elsewhere.
pub fn lookup_transfers(
    info: &ClusterInfo,
    ids: &[EventId],
    tokens: &[Token],
) -> Result<Plan<Vec<Option<EventDecision>>>, ClientError> {
    let (mut calls, mut starts) = (Vec::new(), Vec::new());
    for partition in info.partitions() {
        let at_least = at_least(info, tokens, partition)?;
        for (chunk_index, chunk) in ids.chunks(LOOKUP_IDS_MAX).enumerate() {
            let its_ids: Vec<u128> = chunk.iter().map(|id| id.0).collect();
            calls.push(call(partition, &LookupTransfers { at_least, ids: &its_ids })?);
            starts.push((partition, chunk_index * LOOKUP_IDS_MAX));
        }
    }
    let total = ids.len();
    Ok(Plan::new(calls, move |answers| {
        let mut decisions: Vec<Option<EventDecision>> = vec![None; total];
        for (&(partition, start), answer) in starts.iter().zip(&answers) {
            for state in open::<LookupTransfersReply>(answer)?.states.iter() {
                let decision = event_decision(partition, state)?;
                let slot = decisions.get_mut(start + state.index.to_native() as usize);
                let slot = slot.ok_or_else(|| ClientError::Answer("a place too many".into()))?;
                if slot.as_ref().is_none_or(|known| !known.verdict.is_ok()) {
                    *slot = Some(decision);
                }
            }
        }
        Ok(decisions)
    }))
}

fn event_decision(
    partition: PartitionId,
    state: &crate::message::ArchivedEventState,
) -> Result<EventDecision, ClientError> {
    let unknown = |what: &str| ClientError::Answer(format!("a {what} not known to this version"));
    Ok(EventDecision {
        partition,
        verdict: Verdict::from_number(state.verdict).ok_or_else(|| unknown("verdict"))?,
        offset: Offset(state.offset.to_native()),
        timestamp: Timestamp(state.timestamp.to_native()),
        event: Event::from_bytes(&state.event).map_err(|_| unknown("kind of event"))?,
        resolved: (state.has_resolved == 1).then(|| Resolved::from_bytes(&state.resolved)),
    })
}

/// Verdicts of ids. Accounts are asked of their own partition, events of all.
pub fn status(
    info: &ClusterInfo,
    namespace: IdNamespace,
    ids: &[u128],
    tokens: &[Token],
) -> Result<Plan<Vec<Option<IdVerdict>>>, ClientError> {
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for partition in info.partitions() {
        let at_least = at_least(info, tokens, partition)?;
        let here = |id: u128| match namespace {
            IdNamespace::Event => true,
            IdNamespace::Account => {
                partition::of_account(AccountId(id), info.partitions) == partition
            }
        };
        let wanted: Vec<usize> = (0..ids.len()).filter(|&place| here(ids[place])).collect();
        for chunk in wanted.chunks(STATUS_IDS_MAX) {
            let its_ids: Vec<u128> = chunk.iter().map(|&place| ids[place]).collect();
            let namespace = namespace as u8;
            calls.push(call(partition, &Status { at_least, namespace, ids: &its_ids })?);
            places.push((partition, chunk.to_vec()));
        }
    }
    let total = ids.len();
    Ok(Plan::new(calls, move |answers| {
        let mut verdicts: Vec<Option<IdVerdict>> = vec![None; total];
        for ((partition, its_places), answer) in places.iter().zip(&answers) {
            let reply = open::<StatusReply>(answer)?;
            as_many(reply.states.len(), its_places.len())?;
            for (&place, state) in its_places.iter().zip(reply.states.iter()) {
                let Some((verdict, offset)) = state.decided() else { continue };
                if verdicts[place].is_none_or(|known| !known.verdict.is_ok()) {
                    verdicts[place] = Some(IdVerdict { partition: *partition, verdict, offset });
                }
            }
        }
        Ok(verdicts)
    }))
}

/// A page of a partition's accounts; `after` is `None` for the first page.
pub fn list_accounts(
    info: &ClusterInfo,
    partition: PartitionId,
    after: Option<u64>,
    limit: usize,
    tokens: &[Token],
) -> Result<Plan<AccountsPage>, ClientError> {
    known(info, partition)?;
    let at_least = at_least(info, tokens, partition)?;
    let limit = limit.min(LIST_ACCOUNTS_MAX) as u32;
    let request = ListAccounts { at_least, after: after.unwrap_or(0), limit };
    Ok(Plan::new(vec![call(partition, &request)?], |answers| {
        let reply = open::<ListAccountsReply>(first(&answers)?)?;
        let next_cursor = reply.next_cursor.to_native();
        Ok(AccountsPage {
            accounts: reply.accounts.iter().map(Account::from_bytes).collect(),
            next_cursor: (next_cursor != 0).then_some(next_cursor),
            next_offset: Offset(reply.next_offset.to_native()),
        })
    }))
}

/// A page of a partition's log.
pub fn read_log(
    info: &ClusterInfo,
    partition: PartitionId,
    from: Offset,
    bytes_max: usize,
    tokens: &[Token],
) -> Result<Plan<Page>, ClientError> {
    const _: () = assert!(BODY_BYTES_MAX < PAGE_BODY_BYTES_MAX);
    known(info, partition)?;
    let at_least = at_least(info, tokens, partition)?;
    let bytes_max = bytes_max.min(BODY_BYTES_MAX) as u32;
    let request = ReadLog { at_least, from: from.0, bytes_max };
    Ok(Plan::new(vec![call(partition, &request)?], |answers| Page::from_body(first(&answers)?)))
}

/// The server's account of itself, by the shard that serves `partition`.
pub fn server_status(partition: PartitionId) -> Result<Plan<ServerReport>, ClientError> {
    let request = call(partition, &ServerStatus::default())?;
    Ok(Plan::new(vec![request], |answers| {
        let reply = open::<ServerStatusReply>(first(&answers)?)?;
        let about = |number: u16| (number != NO_PARTITION).then_some(PartitionId(number));
        let mut report = ServerReport::default();
        for row in reply.numbers.iter() {
            let partition = about(row.partition.to_native());
            report.numbers.push((partition, row.name.to_string(), row.value.to_native()));
        }
        for row in reply.texts.iter() {
            let partition = about(row.partition.to_native());
            report.texts.push((partition, row.name.to_string(), row.text.to_string()));
        }
        Ok(report)
    }))
}

fn first(answers: &[Answer]) -> Result<&[u8], ClientError> {
    answers.first().map(Vec::as_slice).ok_or(ClientError::Closed)
}

fn as_many(found: usize, expected: usize) -> Result<(), ClientError> {
    if found == expected {
        Ok(())
    } else {
        Err(ClientError::Answer(format!("{found} answers to {expected} questions")))
    }
}

fn place_of(places: &[usize], index: usize) -> Result<usize, ClientError> {
    places.get(index).copied().ok_or_else(|| ClientError::Answer("a place too many".into()))
}

/// How long a write waits before its ids are asked for: four fifths of the caller's deadline.
pub fn write_share(deadline: Duration) -> Duration {
    deadline / 5 * 4
}

/// A write's error leaves open whether it took effect: ask for its ids.
pub fn is_open(error: &ClientError) -> bool {
    use crate::message::ErrorCode;
    match error {
        ClientError::OutcomeUnknown { .. } => true,
        ClientError::Refused { code, .. } => *code == Some(ErrorCode::DeadlineExceeded),
        _ => false,
    }
}
