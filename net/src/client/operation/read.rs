//! Reads: which nodes answer, how fresh the state is, and what the answers mean.

use std::collections::BTreeMap;

use crate::limits::{
    BODY_BYTES_MAX, LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX, PAGE_BODY_BYTES_MAX, STATUS_IDS_MAX,
};
use crate::message::{
    Entries, Freshness, IdNamespace, ListAccounts, ListAccountsReply, LogPage, LookupAccounts,
    LookupAccountsReply, LookupTransfers, LookupTransfersReply, ReadEntries, ReadLog, Status,
    StatusReply, open,
};
use crate::model::{
    Account, AccountId, Amount, Book, Event, EventId, Offset, PartitionId, Resolved, Timestamp,
    Token, Verdict,
};
use crate::partition;

use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo, ReadFrom};
use super::{Plan, as_many, call, first, known, within};

/// Which nodes answer a read, and how fresh the state must be.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Which nodes answer.
    pub from: ReadFrom,
    /// Writes that the state must include.
    pub tokens: &'a [Token],
}

impl Reading<'_> {
    /// The nodes that the requests are for.
    pub fn route(&self) -> Route {
        match self.from {
            ReadFrom::Any => Route::Any,
            ReadFrom::Leader | ReadFrom::Linearizable => Route::Leader,
        }
    }

    /// `at_least` for a partition: the newest offset that the tokens name.
    pub(super) fn at_least(
        &self,
        info: &ClusterInfo,
        partition: PartitionId,
    ) -> Result<u64, ClientError> {
        if let Some(token) = self.tokens.iter().find(|token| token.cluster != info.cluster) {
            let (expected, found) = (token.cluster.0, info.cluster.0);
            return Err(ClientError::WrongCluster { expected, found });
        }
        let of_partition = self.tokens.iter().filter(|token| token.partition == partition);
        let newest = of_partition.map(|token| token.offset).max();
        let freshness = match self.from {
            // Includes what the tokens name, because that was acknowledged before.
            ReadFrom::Linearizable => Freshness::Linearizable,
            _ => newest.map_or(Freshness::Any, Freshness::AtLeast),
        };
        Ok(freshness.number())
    }
}

/// An event that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDecision {
    /// The partition that decided it.
    pub partition: PartitionId,
    /// The verdict.
    pub verdict: Verdict,
    /// Offset of its record.
    pub offset: Offset,
    /// Log time of its record.
    pub timestamp: Timestamp,
    /// As it was sent.
    pub event: Event,
    /// Effective accounts and amount, if the event does not tell.
    pub resolved: Option<Resolved>,
}

/// What is known about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdVerdict {
    /// The partition that decided it.
    pub partition: PartitionId,
    /// The verdict.
    pub verdict: Verdict,
    /// Offset of its record.
    pub offset: Offset,
}

/// Accounts of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsAt {
    /// In the order of the ids that were asked for.
    pub accounts: Vec<Option<Account>>,
    /// The state includes everything below this offset and nothing else.
    pub next_offset: Offset,
}

/// A page of accounts, in order of creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Where the next page starts; `None` on the last page.
    pub next_cursor: Option<u64>,
    /// The state includes everything below this offset and nothing else.
    pub next_offset: Offset,
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where to continue.
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

    pub(in crate::client) fn from_body(body: &[u8]) -> Result<Self, ClientError> {
        let page = open::<LogPage>(body)?;
        Ok(Self {
            next_offset: Offset(page.next_offset.to_native()),
            durable_offset: Offset(page.durable_offset.to_native()),
            bytes: page.entries.to_vec(),
        })
    }
}

/// Accounts by id, each from its own partition; a striped one has the sums of its stripes, and is there once it is on all
/// partitions. Results are in the order of `ids`.
pub fn lookup_accounts(
    info: &ClusterInfo,
    ids: &[AccountId],
    reading: Reading<'_>,
) -> Result<Plan<Vec<Option<Account>>>, ClientError> {
    let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); usize::from(info.partitions)];
    for (place, &id) in ids.iter().enumerate() {
        if id.is_striped() {
            for places in &mut by_partition {
                places.push(place);
            }
        } else {
            by_partition[usize::from(partition::of_account(id, info.partitions).0)].push(place);
        }
    }
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for (partition, its_places) in info.partitions().zip(&by_partition) {
        let at_least = reading.at_least(info, partition)?;
        for chunk in its_places.chunks(LOOKUP_IDS_MAX) {
            let its_ids: Vec<u128> = chunk.iter().map(|&place| ids[place].0).collect();
            calls.push(call(
                partition,
                reading.route(),
                &LookupAccounts { at_least, ids: &its_ids },
            )?);
            places.push((partition, chunk.to_vec()));
        }
    }
    let (total, partitions) = (ids.len(), usize::from(info.partitions));
    let home = partition::of_book(Book::STRIPED, info.partitions);
    Ok(Plan::new(calls, move |answers| {
        let mut accounts = vec![None; total];
        let mut stripes: BTreeMap<usize, Vec<(PartitionId, Account)>> = BTreeMap::new();
        for ((partition, its_places), answer) in places.iter().zip(&answers) {
            for (index, account) in open::<LookupAccountsReply>(answer)?.accounts() {
                let (place, account) = (place_of(its_places, index)?, Account::from_bytes(account));
                if account.id.is_striped() {
                    stripes.entry(place).or_default().push((*partition, account));
                } else {
                    accounts[place] = Some(account);
                }
            }
        }
        for (place, stripes) in stripes.into_iter().filter(|(_, all)| all.len() == partitions) {
            accounts[place] = Some(sum_of_stripes(&stripes, home)?);
        }
        Ok(accounts)
    }))
}

/// Accounts by id as one partition has them, at most [`LOOKUP_IDS_MAX`].
pub fn accounts_of_partition(
    info: &ClusterInfo,
    partition: PartitionId,
    ids: &[AccountId],
    reading: Reading<'_>,
) -> Result<Plan<AccountsAt>, ClientError> {
    known(info, partition)?;
    within("accounts in one look-up", ids.len(), LOOKUP_IDS_MAX)?;
    let at_least = reading.at_least(info, partition)?;
    let numbers: Vec<u128> = ids.iter().map(|id| id.0).collect();
    let request = LookupAccounts { at_least, ids: &numbers };
    let mut accounts = vec![None; ids.len()];
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], move |answers| {
        let reply = open::<LookupAccountsReply>(first(&answers)?)?;
        for (index, account) in reply.accounts() {
            let place = accounts.get_mut(index);
            let place = place.ok_or_else(|| ClientError::Answer("a place too many".into()))?;
            *place = Some(Account::from_bytes(account));
        }
        Ok(AccountsAt { accounts, next_offset: Offset(reply.next_offset.to_native()) })
    }))
}

/// The account that these are the stripes of, one of each partition. All but the sums is as at `home`. A sum past 2^128 - 1,
/// which no single balance may pass, is shown as that.
fn sum_of_stripes(
    stripes: &[(PartitionId, Account)],
    home: PartitionId,
) -> Result<Account, ClientError> {
    let answer = |what: &str| ClientError::Answer(what.to_owned());
    let at_home = stripes.iter().find(|(partition, _)| *partition == home);
    let (_, at_home) = at_home.ok_or_else(|| answer("two answers of a partition"))?;
    let sum = |of: fn(&Account) -> Amount| {
        Amount(stripes.iter().fold(0, |sum, (_, stripe)| sum.saturating_add(of(stripe).0)))
    };
    Ok(Account {
        debits_pending: sum(|stripe| stripe.debits_pending),
        debits_posted: sum(|stripe| stripe.debits_posted),
        credits_pending: sum(|stripe| stripe.credits_pending),
        credits_posted: sum(|stripe| stripe.credits_posted),
        version: stripes.iter().map(|(_, stripe)| stripe.version).fold(0, u64::saturating_add),
        ..*at_home
    })
}

/// Transfers, guards and closes by id. An id does not tell its partition, so all are asked. An
/// accepted verdict wins over a refusal by another partition.
pub fn lookup_transfers(
    info: &ClusterInfo,
    ids: &[EventId],
    reading: Reading<'_>,
) -> Result<Plan<Vec<Option<EventDecision>>>, ClientError> {
    let (mut calls, mut starts) = (Vec::new(), Vec::new());
    for partition in info.partitions() {
        let at_least = reading.at_least(info, partition)?;
        for (chunk_index, chunk) in ids.chunks(LOOKUP_IDS_MAX).enumerate() {
            let its_ids: Vec<u128> = chunk.iter().map(|id| id.0).collect();
            calls.push(call(
                partition,
                reading.route(),
                &LookupTransfers { at_least, ids: &its_ids },
            )?);
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

/// Verdicts of ids: of accounts from their own partition, of events from all.
pub fn status(
    info: &ClusterInfo,
    namespace: IdNamespace,
    ids: &[u128],
    reading: Reading<'_>,
) -> Result<Plan<Vec<Option<IdVerdict>>>, ClientError> {
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for partition in info.partitions() {
        let at_least = reading.at_least(info, partition)?;
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
            calls.push(call(
                partition,
                reading.route(),
                &Status { at_least, namespace, ids: &its_ids },
            )?);
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
    reading: Reading<'_>,
) -> Result<Plan<AccountsPage>, ClientError> {
    known(info, partition)?;
    let at_least = reading.at_least(info, partition)?;
    let limit = limit.min(LIST_ACCOUNTS_MAX) as u32;
    let request = ListAccounts { at_least, after: after.unwrap_or(0), limit };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
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
    reading: Reading<'_>,
) -> Result<Plan<Page>, ClientError> {
    const _: () = assert!(BODY_BYTES_MAX < PAGE_BODY_BYTES_MAX);
    known(info, partition)?;
    let at_least = reading.at_least(info, partition)?;
    let bytes_max = bytes_max.min(BODY_BYTES_MAX) as u32;
    let request = ReadLog { at_least, from: from.0, bytes_max };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
        Page::from_body(first(&answers)?)
    }))
}

/// A page of a partition's log by index.
pub fn read_entries(
    info: &ClusterInfo,
    partition: PartitionId,
    from_index: u64,
    bytes_max: usize,
    reading: Reading<'_>,
) -> Result<Plan<Page>, ClientError> {
    known(info, partition)?;
    let at_least = reading.at_least(info, partition)?;
    let bytes_max = bytes_max.min(BODY_BYTES_MAX) as u32;
    let request = ReadEntries { at_least, from_index, bytes_max };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
        Page::from_body(first(&answers)?)
    }))
}

pub(super) fn place_of(places: &[usize], index: usize) -> Result<usize, ClientError> {
    places.get(index).copied().ok_or_else(|| ClientError::Answer("a place too many".into()))
}
