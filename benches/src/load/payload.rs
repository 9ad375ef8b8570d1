//! Requests. A frame is built once; for each request only ids, accounts, amounts and checksum are
//! replaced in it. Lives on one worker's thread.

use walengine_net::entry::ANY_OFFSET;
use walengine_net::frame::{self, FrameHead, HEADER_BYTES, Kind, RequestId};
use walengine_net::message::{Append, AppendHead, Submit, open};
use walengine_net::model::{
    Account, AccountId, Amount, Book, Code, EVENT_BYTES, EventBytes, EventId, LedgerId,
    PartitionId, Transfer, TransferFlags,
};
use walengine_net::partition;

use crate::error::{During, Result, failed};

/// Ledger of every account.
const LEDGER: LedgerId = LedgerId(1);
/// Length of an opaque record in bytes.
pub const RECORD_BYTES: usize = 1024;
/// Amounts are 1 to this plus 1.
const AMOUNT_MASK: u64 = 63;
/// Deadline that each request carries.
const DEADLINE_MILLIS: u32 = 30_000;
/// Length of an archived [`AppendHead`]: id and length.
const HEAD_BYTES: usize = 20;

/// What [`Random`] adds each time.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Places of fields in a transfer; see FORMAT.md, section 3.
const DEBIT_AT: usize = 16;
const CREDIT_AT: usize = 32;
const AMOUNT_AT: usize = 48;

/// Content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A number of transfers between random accounts.
    Transfers(usize),
    /// A number of opaque records of [`RECORD_BYTES`].
    Records(usize),
}

impl RequestKind {
    /// Events or records in a request.
    pub fn events(self) -> usize {
        match self {
            Self::Transfers(events) | Self::Records(events) => events,
        }
    }

    /// Kind of the answer.
    pub fn reply(self) -> Kind {
        match self {
            Self::Transfers(_) => Kind::SubmitReply,
            Self::Records(_) => Kind::AppendReply,
        }
    }
}

/// `SplitMix64` (Steele and others, 2014): fast, and good enough for ids and amounts.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Where `count` numbers more have been taken.
    pub fn skipping(self, count: u64) -> Self {
        Self(self.0.wrapping_add(count.wrapping_mul(STEP)))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The accounts of one partition: numbers 1 and up in one book.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    book: Book,
    count: u32,
    /// Such a share of 2^32 of the transfers goes to this book of another partition.
    spanning: Option<(u32, Book)>,
}

impl Accounts {
    /// `count` accounts in the first book of `partition`.
    pub fn of(partition: PartitionId, partitions: u16, count: u32) -> Self {
        let mut book = Book(0);
        while partition::of_book(book, partitions) != partition {
            book = Book(book.0 + 1);
        }
        Self { book, count, spanning: None }
    }

    /// The same, where so many of 100 transfers go to accounts of another partition.
    pub fn spanning(self, percent: u8, other: Self) -> Self {
        let share = (u64::from(u32::MAX) * u64::from(percent.min(100)) / 100) as u32;
        Self { spanning: (percent > 0).then_some((share, other.book)), ..self }
    }

    /// Book of the credit account of a transfer with this id.
    fn credit_book(self, id: u128) -> Book {
        match self.spanning {
            Some((share, other)) if (id as u32) < share => other,
            _ => self.book,
        }
    }

    /// Number of accounts.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Id of the account with this number, counted from 0.
    pub fn id(self, number: u32) -> AccountId {
        AccountId((u128::from(self.book.0) << 96) | (u128::from(number) + 1))
    }

    /// The event that creates the account with this number.
    pub fn creation(self, number: u32) -> EventBytes {
        Account { id: self.id(number), ledger: LEDGER, code: Code(1), ..Account::default() }
            .to_bytes()
    }

    /// A transfer between two of them, with a fresh id.
    pub fn transfer(self, rng: &mut Random) -> EventBytes {
        let id = (u128::from(rng.next()) << 64) | u128::from(rng.next());
        let (debit, credit) = self.pair(rng.next());
        Transfer {
            id: EventId(id),
            debit_account_id: self.id(debit),
            credit_account_id: self.id(credit),
            amount: Amount(1 + u128::from(rng.next() & AMOUNT_MASK)),
            ledger: LEDGER,
            code: Code(1),
            ..Transfer::default()
        }
        .to_bytes()
    }

    /// The numbers of two different accounts.
    fn pair(self, random: u64) -> (u32, u32) {
        let scale = |half: u64, below: u32| ((half * u64::from(below)) >> 32) as u32;
        let debit = scale(random >> 32, self.count);
        let step = 1 + scale(random & 0xffff_ffff, self.count - 1);
        let credit = debit + step;
        (debit, if credit >= self.count { credit - self.count } else { credit })
    }
}

/// A whole frame, and the place of the parts that change.
#[derive(Clone, Debug)]
pub struct Template {
    /// The frame, without request id and checksum.
    pub frame: Vec<u8>,
    kind: RequestKind,
    cells_at: usize,
}

impl Template {
    /// A request of this kind to `partition`.
    pub fn new(kind: RequestKind, partition: PartitionId, accounts: Accounts) -> Result<Self> {
        let mut frame = Vec::new();
        let cells_at = match kind {
            RequestKind::Transfers(events) => {
                let transfer = Transfer {
                    id: EventId(1),
                    debit_account_id: accounts.id(0),
                    credit_account_id: accounts.id(1),
                    amount: Amount(1),
                    ledger: LEDGER,
                    code: Code(1),
                    flags: TransferFlags(0),
                    ..Transfer::default()
                };
                let events = vec![transfer.to_bytes(); events];
                let submit = Submit { events: &events };
                frame::encode_unsealed(&mut frame, Kind::Submit, partition, &submit)
                    .during("building the request")?;
                let view = open::<Submit>(&frame[HEADER_BYTES..]).during("building the request")?;
                view.events.as_ptr().addr() - frame.as_ptr().addr()
            }
            RequestKind::Records(records) => {
                let heads = vec![AppendHead { id: 1, bytes: RECORD_BYTES as u32 }; records];
                let mut random = Random::new(1);
                let mut blob = vec![0; records * RECORD_BYTES];
                for word in blob.chunks_exact_mut(8) {
                    word.copy_from_slice(&random.next().to_le_bytes());
                }
                let append = Append { expected_offset: ANY_OFFSET, heads: &heads, blob: &blob };
                frame::encode_unsealed(&mut frame, Kind::Append, partition, &append)
                    .during("building the request")?;
                let view = open::<Append>(&frame[HEADER_BYTES..]).during("building the request")?;
                view.heads.as_ptr().addr() - frame.as_ptr().addr()
            }
        };
        let cell_bytes = match kind {
            RequestKind::Transfers(_) => EVENT_BYTES,
            RequestKind::Records(_) => HEAD_BYTES,
        };
        if cells_at + kind.events() * cell_bytes > frame.len() {
            return failed("the request is not laid out as expected");
        }
        Ok(Self { frame, kind, cells_at })
    }

    /// Turns a copy of the template into the next request: fresh ids, accounts and amounts.
    pub fn fill(&self, frame: &mut [u8], request: RequestId, accounts: Accounts, rng: &mut Random) {
        self.fill_each(frame, request, |_, cell| match self.kind {
            RequestKind::Transfers(_) => {
                let id = random_id(rng);
                put_transfer(cell, id, rng.next(), accounts);
            }
            RequestKind::Records(_) => put_id(cell, random_id(rng)),
        });
    }

    /// The same with what `fill` puts into each event or record, which it is given with its place.
    pub fn fill_each(
        &self,
        frame: &mut [u8],
        request: RequestId,
        mut fill: impl FnMut(usize, &mut [u8]),
    ) {
        let cell_bytes = match self.kind {
            RequestKind::Transfers(_) => EVENT_BYTES,
            RequestKind::Records(_) => HEAD_BYTES,
        };
        let cells = frame[self.cells_at..].chunks_exact_mut(cell_bytes).take(self.kind.events());
        cells.enumerate().for_each(|(place, cell)| fill(place, cell));
        frame::seal(frame, request, DEADLINE_MILLIS);
    }
}

/// Turns the copy of a transfer into another one: two accounts by `random`, an amount by the id.
pub fn put_transfer(cell: &mut [u8], id: u128, random: u64, accounts: Accounts) {
    put_id(cell, id);
    let amount_bits = (id >> 64) as u64 ^ id as u64;
    let (debit, credit) = accounts.pair(random);
    // Only the lower 32 bits of an account's id differ from those in the template, and the book of what spans.
    cell[DEBIT_AT..DEBIT_AT + 4].copy_from_slice(&(debit + 1).to_le_bytes());
    cell[CREDIT_AT..CREDIT_AT + 4].copy_from_slice(&(credit + 1).to_le_bytes());
    let book = accounts.credit_book(id).0.to_le_bytes();
    cell[CREDIT_AT + 12..CREDIT_AT + 16].copy_from_slice(&book);
    cell[AMOUNT_AT] = (1 + (amount_bits & AMOUNT_MASK)) as u8;
}

fn put_id(cell: &mut [u8], id: u128) {
    cell[..16].copy_from_slice(&id.to_le_bytes());
}

/// An id of random bits.
pub fn random_id(rng: &mut Random) -> u128 {
    let (low, high) = (rng.next(), rng.next());
    (u128::from(high) << 64) | u128::from(low)
}

/// The frame that opens a connection for `partition`.
pub fn hello(partition: PartitionId) -> Result<Vec<u8>> {
    let hello =
        walengine_net::message::Hello { partition: partition.0, client_name: "walengine-bench" };
    let head = FrameHead { partition, request: RequestId(1), deadline_millis: DEADLINE_MILLIS };
    let mut frame = Vec::new();
    frame::encode(&mut frame, head, &hello).during("building the greeting")?;
    Ok(frame)
}

/// A frame that creates the accounts with these numbers.
pub fn creations(
    accounts: Accounts,
    numbers: std::ops::Range<u32>,
    partition: PartitionId,
    request: RequestId,
) -> Result<Vec<u8>> {
    let events: Vec<EventBytes> = numbers.map(|number| accounts.creation(number)).collect();
    let head = FrameHead { partition, request, deadline_millis: DEADLINE_MILLIS };
    let mut frame = Vec::new();
    frame::encode(&mut frame, head, &Submit { events: &events }).during("building accounts")?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_frame_holds_fresh_valid_transfers() {
        let accounts = Accounts::of(PartitionId(1), 2, 10_000);
        let template = Template::new(RequestKind::Transfers(64), PartitionId(1), accounts).unwrap();
        let mut rng = Random::new(7);
        let mut frame = template.frame.clone();
        template.fill(&mut frame, RequestId(9), accounts, &mut rng);
        let parsed = frame::peek(&frame).unwrap().unwrap();
        assert_eq!(parsed.head.request, RequestId(9));
        let view = open::<Submit>(parsed.body).unwrap();
        let mut ids = std::collections::HashSet::new();
        for event in view.events.iter() {
            let transfer = Transfer::from_bytes(event);
            assert!(ids.insert(transfer.id) && (1..=64).contains(&transfer.amount.0));
            assert_ne!(transfer.debit_account_id, transfer.credit_account_id);
            for account in [transfer.debit_account_id, transfer.credit_account_id] {
                assert_eq!(partition::of_account(account, 2), PartitionId(1));
                assert!((1..=10_000).contains(&(account.0 as u32)));
            }
        }
        assert_eq!(ids.len(), 64);
    }

    #[test]
    fn a_filled_frame_holds_fresh_records() {
        let accounts = Accounts::of(PartitionId(0), 1, 2);
        let template = Template::new(RequestKind::Records(3), PartitionId(0), accounts).unwrap();
        let mut frame = template.frame.clone();
        template.fill(&mut frame, RequestId(2), accounts, &mut Random::new(1));
        let parsed = frame::peek(&frame).unwrap().unwrap();
        let view = open::<Append>(parsed.body).unwrap();
        let ids: Vec<u128> = view.heads.iter().map(|head| head.id.to_native()).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != 1);
        assert_eq!(view.records().map(|(_, record)| record.len()).sum::<usize>(), 3 * 1024);
    }
}
