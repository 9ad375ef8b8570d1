//! A client that writes until its connection breaks, and notes everything that it was told.

use std::collections::VecDeque;
use std::net::SocketAddr;

use walengine_net::frame::RequestId;
use walengine_net::message::{EventOutcome, Submit, SubmitReply};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Code, EventBytes, EventId, LedgerId,
    PartitionId, Transfer, TransferFlags,
};
use walengine_net::partition::of_book;

use crate::sim::Rng;
use crate::wire::Wire;

/// Accounts of each partition.
const ACCOUNTS: u64 = 16;
/// Batches that a client leaves unanswered.
const INFLIGHT: usize = 4;
const BATCH_EVENTS_MAX: u64 = 64;

/// What a client sent and was told.
#[derive(Debug, Default)]
pub struct Told {
    /// Partition that it wrote to.
    pub partition: PartitionId,
    /// Batches that were answered, in order.
    pub answered: Vec<(Vec<EventBytes>, Vec<EventOutcome>)>,
    /// Batches that were sent and never answered, or whose answer left their fate open, in order.
    pub unanswered: Vec<Vec<EventBytes>>,
    /// Batches that were refused: nothing of them was taken.
    pub refused: Vec<Vec<EventBytes>>,
}

/// Accounts of a partition; the first has no limit, every third can't be overdrawn.
///
/// # Panics
/// If no book leads to the partition.
pub fn accounts_of(partition: PartitionId, partitions: u16) -> Vec<Account> {
    let leads_there = |book: &u32| of_book(Book(*book), partitions) == partition;
    let book = (1..10_000).find(leads_there).expect("some book leads to each partition");
    let account = |number: u64| Account {
        id: AccountId(u128::from(book) << 96 | u128::from(number)),
        ledger: LedgerId(1),
        code: Code(1),
        flags: if number.is_multiple_of(3) {
            AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        } else {
            AccountFlags::default()
        },
        ..Account::default()
    };
    (1..=ACCOUNTS).map(account).collect()
}

/// Writes of one client: transfers, reservations with their ends, and repeats.
#[derive(Debug)]
pub struct Writer {
    rng: Rng,
    accounts: Vec<AccountId>,
    series: u128,
    pendings: VecDeque<EventId>,
    old: Vec<EventBytes>,
}

impl Writer {
    /// A writer between `accounts`; different seeds give different ids.
    pub fn new(seed: u64, accounts: &[Account]) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            series: u128::from(rng.next_u64() | 1) << 64,
            rng,
            accounts: accounts.iter().map(|account| account.id).collect(),
            pendings: VecDeque::new(),
            old: Vec::new(),
        }
    }

    /// The next batch.
    pub fn batch(&mut self) -> Vec<EventBytes> {
        let events = if self.rng.percent(30) { 1 } else { self.rng.between(1, BATCH_EVENTS_MAX) };
        (0..events).map(|_| self.event()).collect()
    }

    /// A transfer under a new id.
    pub fn transfer(&mut self) -> Transfer {
        self.series += 1;
        let debit = self.rng.index(self.accounts.len());
        let credit = (debit + 1 + self.rng.index(self.accounts.len() - 1)) % self.accounts.len();
        Transfer {
            id: EventId(self.series),
            debit_account_id: self.accounts[debit],
            credit_account_id: self.accounts[credit],
            amount: Amount(u128::from(self.rng.between(1, 100))),
            ledger: LedgerId(1),
            code: Code(1),
            ..Transfer::default()
        }
    }

    fn event(&mut self) -> EventBytes {
        let mut transfer = self.transfer();
        match self.rng.below(10) {
            0 | 1 => {
                transfer.flags = TransferFlags::PENDING;
                self.pendings.push_back(transfer.id);
            }
            2 => {
                if let Some(pending_id) = self.pendings.pop_front() {
                    let flags = if self.rng.percent(50) {
                        TransferFlags::POST_PENDING
                    } else {
                        TransferFlags::VOID_PENDING
                    };
                    let id = transfer.id;
                    transfer = Transfer { id, pending_id, flags, ..Transfer::default() };
                }
            }
            3 if !self.old.is_empty() => return self.old[self.rng.index(self.old.len())],
            _ => {}
        }
        let bytes = transfer.to_bytes();
        self.old.push(bytes);
        bytes
    }
}

/// Writes until the connection breaks, a batch is refused, or `goes_on` is false; then waits for
/// what is in flight.
///
/// # Panics
/// If an answer does not fit its request.
pub fn write_until_broken(
    address: SocketAddr,
    partition: PartitionId,
    mut writer: Writer,
    goes_on: impl Fn() -> bool,
) -> Told {
    let told = Told { partition, ..Told::default() };
    let Ok(mut wire) = Wire::greeted(address, partition.0) else { return told };
    let mut flying: VecDeque<Flight> = VecDeque::new();
    let mut landed: Vec<(Flight, Landing)> = Vec::new();
    let mut ends = false;
    loop {
        while !ends && flying.len() < INFLIGHT && goes_on() {
            let events = writer.batch();
            let sent = wire.send(&Submit { events: &events });
            // A batch that could not be sent whole may have arrived all the same.
            ends = sent.is_err();
            let request = sent.unwrap_or(RequestId(u64::MAX));
            flying.push_back(Flight { request, events });
        }
        let reply = if flying.is_empty() { None } else { wire.receive().ok() };
        let Some(reply) = reply else {
            landed.extend(flying.into_iter().map(|flight| (flight, Landing::Unknown)));
            return told.with(landed);
        };
        // Answers come in any order: a refusal waits for no disk.
        let place = flying.iter().position(|flight| flight.request == reply.request);
        let place = place.expect("an answer belongs to a request in flight");
        let flight = flying.remove(place).expect("it was found there");
        let landing = match reply.error() {
            Some(code) if code.may_have_changed() => Landing::Unknown,
            Some(_) => Landing::Refused,
            None => Landing::Answered(reply.open::<SubmitReply<'_>>().outcomes().collect()),
        };
        ends |= !matches!(landing, Landing::Answered(_));
        landed.push((flight, landing));
    }
}

/// A batch that was sent.
struct Flight {
    request: RequestId,
    events: Vec<EventBytes>,
}

/// What came of it.
enum Landing {
    Answered(Vec<EventOutcome>),
    Refused,
    Unknown,
}

impl Told {
    /// In the order in which the batches were sent.
    fn with(mut self, mut landed: Vec<(Flight, Landing)>) -> Self {
        landed.sort_by_key(|(flight, _)| flight.request);
        for (Flight { events, .. }, landing) in landed {
            match landing {
                Landing::Answered(outcomes) => {
                    assert_eq!(outcomes.len(), events.len(), "one outcome for each event");
                    self.answered.push((events, outcomes));
                }
                Landing::Refused => self.refused.push(events),
                Landing::Unknown => self.unanswered.push(events),
            }
        }
        self
    }
}
