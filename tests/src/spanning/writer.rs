//! What clients write to several partitions: half of it spans two of them, and a few chains span more.

use std::collections::{BTreeMap, VecDeque};

use walengine_net::client::Chain;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, Code, EventBytes, EventId, Guard,
    GuardFlags, LedgerId, PartitionId, Transfer, TransferFlags,
};
use walengine_net::{partition, unit};

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

/// Two striped accounts, which can't be overdrawn: what everything happens to, and one that is filled at the beginning
/// ([`fill`]) and emptied by ones, so that whoever is refused was the last.
pub fn striped_accounts() -> [Account; 2] {
    let flags = AccountFlags::STRIPED.with(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
    [1, 2].map(|number| Account {
        id: AccountId::striped(number),
        ledger: LedgerId(1),
        code: Code(1),
        flags,
        ..Account::default()
    })
}

/// Puts something into the second of [`striped_accounts`] at a partition.
pub fn fill(partition: PartitionId, partitions: u16, amount: u128) -> Transfer {
    Transfer {
        id: EventId(1 + u128::from(partition.0)),
        debit_account_id: accounts_of(partition, partitions)[0].id,
        credit_account_id: striped_accounts()[1].id,
        amount: Amount(amount),
        ledger: LedgerId(1),
        code: Code(1),
        ..Transfer::default()
    }
}

/// See the module.
pub struct Writer {
    rng: Rng,
    accounts: Vec<Vec<AccountId>>,
    series: u128,
    pendings: Vec<VecDeque<Transfer>>,
    old: Vec<(usize, Vec<EventBytes>)>,
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
            let (home, unit) = if !self.old.is_empty() && self.rng.percent(8) {
                self.old[self.rng.index(self.old.len())].clone()
            } else if self.rng.percent(15) {
                self.chain()
            } else {
                let (home, event) = self.event();
                (home, vec![event])
            };
            batch.entry(home).or_default().extend_from_slice(&unit);
        }
        batch
    }

    /// A chain of two partitions or more, and its home.
    fn chain(&mut self) -> (usize, Vec<EventBytes>) {
        let stops = self.stops();
        let is_long = stops.len() > 2;
        let guards = self.rng.percent(20);
        // Where reservations may be, and guards: a chain with both must have them at different ends of its path.
        let (home, last) = if is_long { self.ends_of(&stops) } else { (stops[0], stops[1]) };
        let mut chain = Chain::new();
        for transfer in self.naming(&stops) {
            chain = chain.transfer(transfer);
        }
        let mut reserved = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            let from = stops[self.rng.index(stops.len())];
            let to = stops[self.rng.index(stops.len())];
            let mut transfer = self.between(from, to);
            let kind = self.rng.below(10);
            if kind == 0 && guards {
                self.series += 1;
                let accounts = &self.accounts[last];
                chain = chain.guard(Guard {
                    id: EventId(self.series),
                    account_id: accounts[self.rng.index(accounts.len())],
                    available: Amount(u128::from(self.rng.below(20))),
                    flags: GuardFlags::AVAILABLE_TO_DEBIT,
                    ..Guard::default()
                });
                continue;
            }
            if kind == 3 {
                transfer.credit_account_id = striped_accounts()[0].id;
            } else if kind == 4 && to == home {
                transfer.debit_account_id = striped_accounts()[0].id;
            } else if kind == 1 && from == home {
                transfer.flags = TransferFlags::PENDING;
                reserved.push(transfer);
            } else if kind == 2
                && let Some(ended) = self.pendings[home].pop_front()
            {
                transfer = self.end_of(&ended, transfer.id);
                transfer.debit_account_id = ended.debit_account_id;
                transfer.credit_account_id = ended.credit_account_id;
            } else if kind > 6 && is_long && from == to {
                let flags = [TransferFlags::BALANCING_DEBIT, TransferFlags::BALANCING_CREDIT];
                transfer.flags = flags[self.rng.index(2)];
            }
            chain = chain.transfer(transfer);
        }
        self.pendings[home].extend(reserved);
        let events = chain.events();
        let path = unit::path(&events, self.accounts.len() as u16);
        let path = path.expect("it may span").expect("it names accounts");
        assert_eq!(path.stops().count(), stops.len(), "its path has all that it names");
        let unit = (usize::from(path.home.0), events);
        self.old.push(unit.clone());
        unit
    }

    /// The partitions that a chain names: two, and sometimes more.
    fn stops(&mut self) -> Vec<usize> {
        let partitions = self.accounts.len();
        let one = self.rng.index(partitions);
        let other = (one + 1 + self.rng.index(partitions - 1)) % partitions;
        let mut stops = vec![one, other];
        if partitions > 2 && self.rng.percent(33) {
            let mut more: Vec<_> = (0..partitions).filter(|it| !stops.contains(it)).collect();
            self.rng.shuffle(&mut more);
            more.truncate(if self.rng.percent(30) { 2 } else { 1 });
            stops.extend(more);
        }
        stops
    }

    /// Two of a chain's partitions.
    fn ends_of(&mut self, stops: &[usize]) -> (usize, usize) {
        let home = self.rng.index(stops.len());
        let last = (home + 1 + self.rng.index(stops.len() - 1)) % stops.len();
        (stops[home], stops[last])
    }

    /// Transfers that name all of these partitions. The first one goes from the first to the second.
    fn naming(&mut self, stops: &[usize]) -> Vec<Transfer> {
        let mut transfers = vec![self.between(stops[0], stops[1])];
        for (index, new) in stops.iter().enumerate().skip(2) {
            let known = stops[self.rng.index(index)];
            let (from, to) = if self.rng.percent(50) { (known, *new) } else { (*new, known) };
            transfers.push(self.between(from, to));
        }
        transfers
    }

    fn event(&mut self) -> (usize, EventBytes) {
        let partitions = self.accounts.len();
        let home = self.rng.index(partitions);
        let spans = self.rng.percent(50);
        let away = (home + 1 + self.rng.index(partitions - 1)) % partitions;
        let other = if spans { away } else { home };
        if self.rng.percent(3) {
            return (home, self.close(home));
        }
        if self.rng.percent(8) {
            return self.with_stripes(home);
        }
        let mut transfer = self.between(home, other);
        let kind = self.rng.below(10);
        match kind {
            0 => transfer.flags = TransferFlags::BALANCING_DEBIT,
            1 => transfer.flags = TransferFlags::BALANCING_CREDIT,
            2 | 3 => {
                transfer.flags = TransferFlags::PENDING;
                if self.rng.percent(20) {
                    transfer.flags = transfer.flags.with(TransferFlags::BALANCING_CREDIT);
                }
                if self.rng.percent(40) {
                    transfer.timeout_seconds = 1 + self.rng.below(3) as u32;
                }
                self.pendings[home].push_back(transfer);
            }
            4..7 => {
                if let Some(reserved) = self.pendings[home].pop_front() {
                    transfer = self.end_of(&reserved, transfer.id);
                }
            }
            _ => {}
        }
        let event = (home, transfer.to_bytes());
        self.old.push((home, vec![event.1]));
        event
    }

    /// Something with a striped account, and an account of this partition.
    fn with_stripes(&mut self, home: usize) -> (usize, EventBytes) {
        let [fees, pot] = striped_accounts().map(|account| account.id);
        let mut transfer = self.between(home, home);
        let kind = self.rng.below(16);
        match kind {
            0 => {
                let of_all = partition::of_book(fees.book(), self.accounts.len() as u16);
                let reopens = self.rng.percent(70);
                let flags = if reopens { CloseFlags::REOPEN } else { CloseFlags::default() };
                let close = Close { id: transfer.id, account_id: fees, flags };
                return (usize::from(of_all.0), close.to_bytes());
            }
            1..6 => transfer.credit_account_id = fees,
            6..9 => {
                transfer.debit_account_id = fees;
                transfer.amount.0 *= 1 + u128::from(self.rng.below(3));
            }
            9 => {
                transfer.debit_account_id = fees;
                transfer.flags = TransferFlags::BALANCING_DEBIT;
            }
            10 | 11 => {
                transfer.flags = TransferFlags::PENDING;
                let credits = self.rng.percent(50);
                *(if credits {
                    &mut transfer.credit_account_id
                } else {
                    &mut transfer.debit_account_id
                }) = fees;
                self.pendings[home].push_back(transfer);
            }
            _ => {
                transfer.debit_account_id = pot;
                transfer.credit_account_id = self.accounts[home][0];
                transfer.amount = Amount(1);
            }
        }
        let event = (home, transfer.to_bytes());
        self.old.push((home, vec![event.1]));
        event
    }

    /// Closes one of few accounts, or reopens it.
    fn close(&mut self, home: usize) -> EventBytes {
        self.series += 1;
        let account_id = self.accounts[home][1 + self.rng.index(3)];
        let reopens = self.rng.percent(60);
        let flags = if reopens { CloseFlags::REOPEN } else { CloseFlags::default() };
        Close { id: EventId(self.series), account_id, flags }.to_bytes()
    }

    /// Posts a reservation, in whole or in part, or voids it.
    fn end_of(&mut self, reserved: &Transfer, id: EventId) -> Transfer {
        let posts = self.rng.percent(75);
        let flags = if posts { TransferFlags::POST_PENDING } else { TransferFlags::VOID_PENDING };
        let mut end = Transfer { id, pending_id: reserved.id, flags, ..Transfer::default() };
        if self.rng.percent(30) {
            end.debit_account_id = reserved.debit_account_id;
            end.credit_account_id = reserved.credit_account_id;
        }
        let is_balancing = reserved.is_balancing(); // its amount may be less
        if posts && !is_balancing && self.rng.percent(30) {
            end.amount = Amount(reserved.amount.0.div_ceil(2));
        }
        end
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
