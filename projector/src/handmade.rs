//! Logs made by hand, for tests: a chain over three partitions, as each of them has it.
//!
//! It goes from [`HOME`] through [`MIDST`] to [`LAST`]:
//! ```text
//! id  event                                          at home       in the midst      at the last
//! 1   transfer 30, A (home) to B (midst)             A ─ midst     home ─ B
//! 2   transfer 20, B (midst) to C (last)                           B ─ last          midst ─ C
//! 3   transfer 10, C (last) to A (home)              last ─ A                        C ─ home
//! 4   pending 5, A (home) to B (midst)               A ─ midst     home ─ B
//! 5   void of 7, from A to another account of home   waits
//! 6   guard on C                                                                     is checked
//! ```

use rkyv::rancor;
use walengine_net::entry::{ChainHash, EntryHeader, EntryKind, EntryMeta, EventsBody};
use walengine_net::model::{
    Account, AccountId, Amount, Arrival, Book, ClusterId, Code, EventBytes, EventId, Guard,
    GuardFlags, LedgerId, Mail, Offset, PartitionId, Resolved, Sent, Timestamp, Transfer,
    TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_book;

pub mod postgres;
pub mod stripes;

/// Partitions of the logs.
pub const PARTITIONS: u16 = 3;
/// The first stop of the chain.
pub const HOME: PartitionId = PartitionId(2);
/// The second.
pub const MIDST: PartitionId = PartitionId(0);
/// The last.
pub const LAST: PartitionId = PartitionId(1);
/// Ledger of everything.
pub const LEDGER: LedgerId = LedgerId(840);
/// Code of everything.
const CODE: Code = Code(3);

/// An event with its verdict and what it resolves to.
pub type Decided = (EventBytes, Verdict, Option<Resolved>);

/// The account of this number in a partition.
pub fn account(partition: PartitionId, number: u128) -> AccountId {
    let book = (1..1000).map(Book).find(|book| of_book(*book, PARTITIONS) == partition).unwrap();
    AccountId(u128::from(book.0) << 96 | number)
}

/// The in-transit account for a partition.
pub fn transit(other: PartitionId) -> AccountId {
    AccountId::in_transit(other, LEDGER)
}

/// A linked transfer between accounts 1 of two partitions.
pub fn transfer(id: u128, from: PartitionId, to: PartitionId, amount: u128) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: account(from, 1),
        credit_account_id: account(to, 1),
        amount: Amount(amount),
        ledger: LEDGER,
        code: CODE,
        flags: TransferFlags::LINKED,
        ..Transfer::default()
    }
}

/// The chain as a partition carries it. A void carries what its reservation says.
fn chain() -> [Sent; 6] {
    let flags =
        |transfer: Transfer, more| Transfer { flags: transfer.flags.with(more), ..transfer };
    let pending = flags(transfer(4, HOME, MIDST, 5), TransferFlags::PENDING);
    let void = Transfer {
        pending_id: EventId(900),
        credit_account_id: account(HOME, 2),
        ..flags(transfer(5, HOME, HOME, 7), TransferFlags::VOID_PENDING)
    };
    let guard = Guard {
        id: EventId(6),
        account_id: account(LAST, 1),
        flags: GuardFlags::AVAILABLE_TO_DEBIT,
        available: Amount(1),
        ..Guard::default()
    };
    [
        Sent::Transfer(transfer(1, HOME, MIDST, 30)),
        Sent::Transfer(transfer(2, MIDST, LAST, 20)),
        Sent::Transfer(transfer(3, LAST, HOME, 10)),
        Sent::Transfer(pending),
        Sent::Transfer(void),
        Sent::Guard(guard),
    ]
}

/// Accounts 1 and 2 of a partition are created.
pub fn created(partition: PartitionId) -> Vec<Decided> {
    let one = |number| Account {
        id: account(partition, number),
        ledger: LEDGER,
        code: CODE,
        ..Account::default()
    };
    [1, 2].map(|number| (one(number).to_bytes(), Verdict::Ok, None)).into()
}

/// Home reserves what the chain voids.
pub fn reserved() -> Vec<Decided> {
    let reserved = Transfer {
        credit_account_id: account(HOME, 2),
        flags: TransferFlags::PENDING,
        ..transfer(900, HOME, HOME, 7)
    };
    vec![(reserved.to_bytes(), Verdict::Ok, None)]
}

/// Home has posted 3 of the chain's reservation, which goes to the partition in the midst only.
pub fn posted(place: u64) -> Vec<Decided> {
    let post = Transfer {
        pending_id: EventId(4),
        flags: TransferFlags::POST_PENDING,
        ..transfer(7, HOME, MIDST, 3)
    };
    let mail = Mail { home: HOME, previous: 0, settled_below: place };
    let arrival = Arrival { sent: Sent::Transfer(post), place };
    let resolved = Resolved {
        debit_account_id: transit(HOME),
        credit_account_id: post.credit_account_id,
        amount: Amount(5),
        index: 0,
        ledger: LEDGER,
        code: CODE,
    };
    vec![(mail.to_bytes(), Verdict::Ok, None), (arrival.to_bytes(), Verdict::Ok, Some(resolved))]
}

/// Home prepares the chain.
pub fn prepared() -> Vec<Decided> {
    let one = |sent: Sent| {
        let resolved = |void: Transfer| Resolved {
            debit_account_id: void.debit_account_id,
            credit_account_id: void.credit_account_id,
            amount: void.amount,
            index: 0,
            ledger: LEDGER,
            code: CODE,
        };
        let void = match sent {
            Sent::Transfer(transfer) if transfer.pending_id.0 != 0 => Some(transfer),
            _ => None,
        };
        (sent.to_bytes(), Verdict::InDoubt, void.map(resolved))
    };
    chain().map(one).into()
}

/// A partition hands it on: its records begin at `place`. Each gets this verdict, or another one by its id.
pub fn arrivals(
    from: PartitionId,
    place: u64,
    verdict: Verdict,
    other: Option<(u128, Verdict)>,
) -> Vec<Decided> {
    let mail = Mail { home: from, previous: 0, settled_below: place };
    let mut events = vec![(mail.to_bytes(), Verdict::Ok, None)];
    for (sent, place) in chain().into_iter().zip(place..) {
        let other = other.filter(|(id, _)| *id == sent.id().0).map(|(_, verdict)| verdict);
        let arrival = Arrival { sent, place };
        events.push((arrival.to_bytes(), other.unwrap_or(verdict), None));
    }
    events
}

/// Home is told that the next partition has handed it on, of records that begin at `place`.
pub fn handed_on(place: u64) -> Vec<Decided> {
    let mut events = words(HOME, place, Some(Verdict::InDoubt));
    for (_, _, resolved) in &mut events {
        *resolved = resolved.map(|it| Resolved { amount: Amount(0), ..it });
    }
    events
}

/// Home is told the outcome: by records that begin at `from` there, of records that begin at `place`.
pub fn outcome(from: u64, place: u64) -> Vec<Decided> {
    let mail = Mail { home: MIDST, previous: 0, settled_below: from };
    let mut events = vec![(mail.to_bytes(), Verdict::Ok, None)];
    for ((event, verdict, resolved), place) in words(HOME, place, None).into_iter().zip(from..) {
        let word = Word::from_bytes(&event).expect("a word");
        let arrival = Arrival { sent: Sent::Word(word), place };
        events.push((arrival.to_bytes(), verdict, resolved));
    }
    events
}

/// The partition in the midst is told that home knows the outcome, of records that begin at `place`.
pub fn known(place: u64) -> Vec<Decided> {
    let mut events = words(MIDST, place, None);
    for (event, _, resolved) in &mut events {
        let word = Word::from_bytes(event).expect("a word");
        let (amount, pending_id) = (Amount(0), EventId(0));
        *event = Word { amount, pending_id, ..word }.to_bytes();
        let credit_account_id = AccountId::in_transit(HOME, LedgerId(0));
        *resolved = Some(Resolved { credit_account_id, ..Resolved::default() });
    }
    events
}

/// What a partition is told by the next one, of records that begin at `place`. Without a verdict, all of it was accepted.
pub fn words(partition: PartitionId, place: u64, refused: Option<Verdict>) -> Vec<Decided> {
    let (mine, none) = (account(partition, 1), AccountId(0));
    // The accounts that its parts debit here.
    let (debits, from) = if partition == HOME {
        ([mine, none, transit(LAST), mine, mine, none], MIDST)
    } else {
        ([transit(HOME), mine, none, transit(HOME), none, none], LAST)
    };
    let mut events = Vec::new();
    for ((sent, place), debit) in chain().into_iter().zip(place..).zip(debits) {
        let (asked, pending_id) = match sent {
            Sent::Transfer(transfer) if transfer.pending_id.0 != 0 => {
                (Amount(0), transfer.pending_id)
            }
            Sent::Transfer(transfer) => (transfer.amount, EventId(0)),
            Sent::Guard(_) | Sent::Word(_) | Sent::Account(_) | Sent::Close(_) => {
                (Amount(0), EventId(0))
            }
        };
        let word = Word {
            id: sent.id(),
            place,
            verdict: refused.unwrap_or(Verdict::Ok),
            amount: if refused.is_none() { asked } else { Amount(0) },
            pending_id,
            is_linked: !matches!(sent, Sent::Guard(_)),
        };
        let resolved = Resolved {
            debit_account_id: debit,
            credit_account_id: transit(from),
            amount: asked,
            index: 0,
            ledger: LEDGER,
            code: CODE,
        };
        events.push((word.to_bytes(), Verdict::Ok, Some(resolved)));
    }
    events
}

/// An entry of a partition at an offset. Its log time is the offset, in microseconds.
pub fn entry(partition: PartitionId, offset: u64, decided: &[Decided]) -> (EntryHeader, Vec<u8>) {
    let mut body = EventsBody::default();
    for ((event, verdict, resolved), index) in decided.iter().zip(0u32..) {
        body.events.push(*event);
        body.verdicts.push(verdict.number());
        body.resolved.extend(resolved.map(|it| Resolved { index, ..it }.to_bytes()));
    }
    let body = rkyv::to_bytes::<rancor::Error>(&body).unwrap().to_vec();
    let meta = EntryMeta {
        cluster: ClusterId(7),
        partition,
        kind: EntryKind::Events,
        term: 1,
        leader_node: 1,
        index: offset + 1,
        base_offset: Offset(offset),
        records: u32::try_from(decided.len()).unwrap(),
        timestamp: Timestamp(offset * 1000),
    };
    (meta.encode(&body, 0, ChainHash::default()), body)
}
