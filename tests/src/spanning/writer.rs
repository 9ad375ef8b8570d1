//! What clients write to several partitions: half of it spans two of them.

use std::collections::{BTreeMap, VecDeque};

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Code, EventBytes, EventId, LedgerId, PartitionId,
    Transfer, TransferFlags,
};

use crate::noted_writes;
use crate::sim::Rng;

/// Events in what is written at once.
const EVENTS_MAX: u64 = 24;

/// Accounts of a partition. The first has no limit; others can't be overdrawn; some take no more than they have
/// given.
pub fn accounts_of(partition: PartitionId, partitions: u16) -> Vec<Account> {
    let mut accounts = noted_writes::accounts_of(partition, partitions);
    for account in accounts.iter_mut().skip(4).step_by(3) {
        account.flags = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS;
    }
    accounts
}

/// See the module.
pub struct Writer {
    rng: Rng,
    accounts: Vec<Vec<AccountId>>,
    series: u128,
    pendings: Vec<VecDeque<EventId>>,
    old: Vec<(usize, EventBytes)>,
}

impl Writer {
    /// To so many partitions; different seeds give different ids.
    pub fn new(mut rng: Rng, partitions: u16) -> Self {
        let ids = |partition| {
            let accounts = accounts_of(PartitionId(partition), partitions);
            accounts.iter().map(|account| account.id).collect()
        };
        Self {
            series: u128::from(rng.next_u64() | 1) << 64,
            rng,
            accounts: (0..partitions).map(ids).collect(),
            pendings: (0..partitions).map(|_| VecDeque::new()).collect(),
            old: Vec::new(),
        }
    }

    /// The next events, by the partition that they go to.
    pub fn batch(&mut self) -> BTreeMap<usize, Vec<EventBytes>> {
        let events = if self.rng.percent(30) { 1 } else { self.rng.between(1, EVENTS_MAX) };
        let mut batch: BTreeMap<usize, Vec<EventBytes>> = BTreeMap::new();
        for _ in 0..events {
            let (home, event) = self.event();
            batch.entry(home).or_default().push(event);
        }
        batch
    }

    fn event(&mut self) -> (usize, EventBytes) {
        if !self.old.is_empty() && self.rng.percent(8) {
            return self.old[self.rng.index(self.old.len())];
        }
        let partitions = self.accounts.len();
        let home = self.rng.index(partitions);
        let spans = self.rng.percent(50);
        let away = (home + 1 + self.rng.index(partitions - 1)) % partitions;
        let other = if spans { away } else { home };
        let mut transfer = self.between(home, other);
        let kind = self.rng.below(10);
        match kind {
            0 => transfer.flags = TransferFlags::BALANCING_DEBIT,
            1 => transfer.flags = TransferFlags::BALANCING_CREDIT,
            2 | 3 if !spans => {
                transfer.flags = TransferFlags::PENDING;
                self.pendings[home].push_back(transfer.id);
            }
            4 if !spans => {
                if let Some(pending_id) = self.pendings[home].pop_front() {
                    let posts = self.rng.percent(50);
                    let flags = if posts {
                        TransferFlags::POST_PENDING
                    } else {
                        TransferFlags::VOID_PENDING
                    };
                    let id = transfer.id;
                    transfer = Transfer { id, pending_id, flags, ..Transfer::default() };
                }
            }
            _ => {}
        }
        let event = (home, transfer.to_bytes());
        self.old.push(event);
        event
    }

    fn between(&mut self, home: usize, other: usize) -> Transfer {
        self.series += 1;
        let (debits, credits) = (&self.accounts[home], &self.accounts[other]);
        let debit = self.rng.index(debits.len());
        let mut credit = self.rng.index(credits.len());
        if home == other && credit == debit {
            credit = (credit + 1) % credits.len();
        }
        Transfer {
            id: EventId(self.series),
            debit_account_id: debits[debit],
            credit_account_id: credits[credit],
            amount: Amount(u128::from(self.rng.between(1, 100))),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        }
    }
}
