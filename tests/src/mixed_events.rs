//! Random events of every kind that a ledger takes: accounts with limits, transfers, reservations
//! that are posted whole or in part, voided or left to expire, balancing transfers, chains with
//! guards, closings, opaque records, repeats, and many that are refused.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Close, CloseFlags, Code, EventBytes, EventId,
    Guard, GuardFlags, LedgerId, PartitionId, Transfer, TransferFlags,
};
use walengine_net::partition::of_book;

use crate::sim::Rng;

/// Accounts of a partition that exist from the start.
const ACCOUNTS: u64 = 200;
/// Longer than any test takes.
const LASTING_SECONDS: u32 = 86_400;

/// Makes batches for one partition.
#[derive(Debug)]
pub struct Mixed {
    rng: Rng,
    book: u32,
    series: u128,
    pendings: Vec<(EventId, u64)>,
    old: Vec<EventBytes>,
    created: u64,
    timeout_seconds: u32,
}

impl Mixed {
    /// Different seeds give different ids.
    ///
    /// # Panics
    /// If no book leads to the partition.
    pub fn new(seed: u64, partition: PartitionId, partitions: u16) -> Self {
        let leads_there = |book: &u32| of_book(Book(*book), partitions) == partition;
        let book = (1..10_000).find(leads_there).expect("some book leads to each partition");
        let mut rng = Rng::new(seed);
        let series = u128::from(rng.next_u64() | 1) << 64;
        Self {
            rng,
            book,
            series,
            pendings: Vec::new(),
            old: Vec::new(),
            created: 0,
            timeout_seconds: 1,
        }
    }

    /// No reservation expires while a test runs, so that the log ends with what the test has sent.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { timeout_seconds: LASTING_SECONDS, ..self }
    }

    fn account(&self, number: u64) -> AccountId {
        AccountId(u128::from(self.book) << 96 | u128::from(number + 1))
    }

    /// The accounts that exist from the start: every fourth can't be overdrawn.
    pub fn accounts(&self) -> Vec<EventBytes> {
        let account = |number: u64| Account {
            id: self.account(number),
            ledger: LedgerId(1),
            code: Code(7),
            user_data_64: number,
            user_data_128: u128::from(number) << 70,
            flags: match number % 4 {
                3 => AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
                2 if number % 8 == 2 => AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
                _ => AccountFlags::default(),
            },
            ..Account::default()
        };
        (0..ACCOUNTS).map(|number| account(number).to_bytes()).collect()
    }

    fn id(&mut self) -> EventId {
        self.series += 1;
        EventId(self.series)
    }

    fn transfer(&mut self) -> Transfer {
        let debit = self.rng.below(ACCOUNTS);
        let credit = (debit + 1 + self.rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = match self.rng.below(20) {
            0 => u128::from(self.rng.next_u64()) << 32,
            _ => u128::from(self.rng.between(1, 100_000)),
        };
        Transfer {
            id: self.id(),
            debit_account_id: self.account(debit),
            credit_account_id: self.account(credit),
            amount: Amount(amount),
            ledger: LedgerId(1),
            code: Code(1),
            user_data_32: self.rng.below(3) as u32,
            user_data_64: self.rng.below(2) * u64::MAX,
            ..Transfer::default()
        }
    }

    /// A batch of about so many events.
    pub fn batch(&mut self, events: usize) -> Vec<EventBytes> {
        let mut batch = Vec::with_capacity(events + 4);
        while batch.len() < events {
            self.add(&mut batch);
        }
        batch
    }

    fn add(&mut self, batch: &mut Vec<EventBytes>) {
        let mut transfer = self.transfer();
        match self.rng.below(40) {
            0..=5 => {
                transfer.flags = TransferFlags::PENDING;
                let expires = self.rng.percent(30);
                transfer.timeout_seconds = if expires { self.timeout_seconds } else { 0 };
                self.pendings.push((transfer.id, transfer.amount.0 as u64));
            }
            6..=9 if !self.pendings.is_empty() => {
                let place = self.rng.index(self.pendings.len());
                let (pending_id, amount) = self.pendings.swap_remove(place);
                let posts = self.rng.percent(60);
                let flags =
                    if posts { TransferFlags::POST_PENDING } else { TransferFlags::VOID_PENDING };
                let part = if posts && self.rng.percent(50) { amount / 2 } else { 0 };
                let (id, amount) = (transfer.id, Amount(part.into()));
                transfer = Transfer { id, pending_id, flags, amount, ..Transfer::default() };
                // The event names no account; the connection names the partition.
            }
            10 => transfer.flags = TransferFlags::BALANCING_DEBIT,
            11 => {
                transfer.flags = TransferFlags::BALANCING_CREDIT.with(TransferFlags::PENDING);
                self.pendings.push((transfer.id, 1));
            }
            12 => {
                let flags = GuardFlags::LINKED.with(GuardFlags::AVAILABLE_TO_DEBIT);
                let (id, account_id) = (self.id(), transfer.debit_account_id);
                let available = Amount(u128::from(self.rng.below(1_000)));
                batch.push(Guard { id, account_id, available, version: 0, flags }.to_bytes());
                let first = transfer.with_linked();
                batch.push(first.to_bytes());
                transfer = self.transfer();
            }
            13 if self.rng.percent(20) => {
                let number = self.rng.below(ACCOUNTS);
                let account_id = self.account(number);
                let flags = CloseFlags::default();
                batch.push(Close { id: self.id(), account_id, flags }.to_bytes());
                batch.push(self.transfer().to_bytes());
                let flags = CloseFlags::REOPEN;
                batch.push(Close { id: self.id(), account_id, flags }.to_bytes());
            }
            14 => {
                self.created += 1;
                let low = (self.series as u64) ^ self.created << 40;
                let id = AccountId(u128::from(self.book) << 96 | u128::from(low | 1 << 63));
                let (ledger, code) = (LedgerId(1), Code(2));
                batch.push(Account { id, ledger, code, ..Account::default() }.to_bytes());
                transfer.credit_account_id = id;
            }
            15 if !self.old.is_empty() => {
                let place = self.rng.index(self.old.len());
                batch.push(self.old[place]);
                return;
            }
            16 if !self.old.is_empty() => {
                // An id that was used, with another body.
                let place = self.rng.index(self.old.len());
                transfer.id = Transfer::from_bytes(&self.old[place]).id;
            }
            17 => transfer.debit_account_id = self.account(ACCOUNTS + 5),
            _ => {}
        }
        let bytes = transfer.to_bytes();
        if self.old.len() < 4_096 {
            self.old.push(bytes);
        }
        batch.push(bytes);
    }
}

trait WithLinked {
    fn with_linked(self) -> Self;
}

impl WithLinked for Transfer {
    fn with_linked(mut self) -> Self {
        self.flags = self.flags.with(TransferFlags::LINKED);
        self
    }
}
