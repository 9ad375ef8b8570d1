//! What accounts and ledgers are called.

use crate::limits::LOOKUP_NAMES_MAX;
use crate::message::{
    FindNames, FindNamesReply, LedgerRow, ListLedgers, ListLedgersReply, LookupNames,
    LookupNamesReply, open,
};
use crate::model::{AccountId, LedgerId, NAME_BYTES_MAX, NameText, PartitionId};
use crate::partition;

use super::super::{ClientError, ClusterInfo};
use super::read::{Reading, place_of};
use super::{Plan, call, first, known, within};

/// An account that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedAccount {
    /// Its id.
    pub id: AccountId,
    /// What it is called.
    pub name: NameText,
}

/// Some of a partition's accounts that have a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesPage {
    /// In the order of their names, as far as the first 12 bytes tell.
    pub accounts: Vec<NamedAccount>,
    /// Where the next page starts; `None` on the last page. A page may be empty without being the last.
    pub next_cursor: Option<u128>,
}

/// What the amounts of a ledger are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribedLedger {
    /// The ledger.
    pub ledger: LedgerId,
    /// What its asset is called, such as `USD`; it may have none.
    pub name: NameText,
    /// Digits behind the point.
    pub scale: u8,
}

/// Names of accounts by id, each from its own partition, in the order of `ids`.
pub fn lookup_names(
    info: &ClusterInfo,
    ids: &[AccountId],
    reading: Reading<'_>,
) -> Result<Plan<Vec<Option<NameText>>>, ClientError> {
    let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); usize::from(info.partitions)];
    for (place, &id) in ids.iter().enumerate() {
        by_partition[usize::from(partition::of_account(id, info.partitions).0)].push(place);
    }
    let (mut calls, mut places) = (Vec::new(), Vec::new());
    for (partition, its_places) in info.partitions().zip(&by_partition) {
        let at_least = reading.at_least(info, partition)?;
        for chunk in its_places.chunks(LOOKUP_NAMES_MAX) {
            let its_ids: Vec<u128> = chunk.iter().map(|&place| ids[place].0).collect();
            let request = LookupNames { at_least, ids: &its_ids };
            calls.push(call(partition, reading.route(), &request)?);
            places.push(chunk.to_vec());
        }
    }
    let total = ids.len();
    Ok(Plan::new(calls, move |answers| {
        let mut names = vec![None; total];
        for (its_places, answer) in places.iter().zip(&answers) {
            for (index, name) in open::<LookupNamesReply<'_>>(answer)?.names() {
                names[place_of(its_places, index)?] = Some(name);
            }
        }
        Ok(names)
    }))
}

/// A page of a partition's accounts whose names begin so, whatever is in capitals; `after` is `None` for the first page.
pub fn find_names(
    info: &ClusterInfo,
    partition: PartitionId,
    prefix: &str,
    after: Option<u128>,
    limit: usize,
    reading: Reading<'_>,
) -> Result<Plan<NamesPage>, ClientError> {
    known(info, partition)?;
    within("bytes of the beginning of a name", prefix.len(), NAME_BYTES_MAX)?;
    let request = FindNames {
        at_least: reading.at_least(info, partition)?,
        after: after.unwrap_or(0),
        limit: limit.min(LOOKUP_NAMES_MAX) as u32,
        prefix: prefix.as_bytes(),
    };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
        let reply = open::<FindNamesReply<'_>>(first(&answers)?)?;
        let ids = reply.ids.iter().map(|id| AccountId(id.to_native()));
        let names = reply.names.iter().map(|name| NameText::from_bytes(*name));
        let next_cursor = reply.next_cursor.to_native();
        Ok(NamesPage {
            accounts: ids.zip(names).map(|(id, name)| NamedAccount { id, name }).collect(),
            next_cursor: (next_cursor != 0).then_some(next_cursor),
        })
    }))
}

/// The ledgers that were described, ascending.
pub fn ledgers(
    info: &ClusterInfo,
    reading: Reading<'_>,
) -> Result<Plan<Vec<DescribedLedger>>, ClientError> {
    let partition = partition::OF_LEDGERS;
    let request = ListLedgers { at_least: reading.at_least(info, partition)? };
    Ok(Plan::new(vec![call(partition, reading.route(), &request)?], |answers| {
        let reply = open::<ListLedgersReply<'_>>(first(&answers)?)?;
        let described = |row: &<LedgerRow as rkyv::Archive>::Archived| DescribedLedger {
            ledger: LedgerId(row.ledger.to_native()),
            name: NameText::from_bytes(row.name),
            scale: row.scale,
        };
        Ok(reply.ledgers.iter().map(described).collect())
    }))
}
