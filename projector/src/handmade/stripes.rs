//! A striped account, as each of three partitions has it. Its home tells the others, each of which has a stripe then. A
//! stripe gives credits to another one: a gathering.

use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Book, Close, EventId, LedgerId, Mail,
    PartitionId, Resolved, Sent, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_book;

use super::{CODE, Decided, LEDGER, PARTITIONS, transit};

/// Id of the closing of the account.
pub const CLOSING: EventId = EventId(70);

/// The account.
pub fn fees() -> AccountId {
    AccountId::striped(1)
}

/// The partition that creates it.
pub fn home() -> PartitionId {
    of_book(Book::STRIPED, PARTITIONS)
}

/// The other partitions.
pub fn others() -> [PartitionId; 2] {
    let others: Vec<_> = (0..PARTITIONS).map(PartitionId).filter(|it| *it != home()).collect();
    others.try_into().expect("there are three")
}

fn created() -> Account {
    Account {
        id: fees(),
        ledger: LEDGER,
        code: CODE,
        flags: AccountFlags::STRIPED.with(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
        user_data_64: 9,
        ..Account::default()
    }
}

fn closed() -> Close {
    Close { id: CLOSING, account_id: fees(), ..Close::default() }
}

/// Home creates the account.
pub fn creates() -> Vec<Decided> {
    vec![(created().to_bytes(), Verdict::Ok, None)]
}

/// Home closes it.
pub fn closes() -> Vec<Decided> {
    vec![(closed().to_bytes(), Verdict::Ok, None)]
}

/// Another partition is told that home has created it, by the record at `place` there.
pub fn is_created(place: u64) -> Vec<Decided> {
    arrives(home(), Arrival { sent: Sent::Account(created()), place }, Verdict::Ok)
}

/// Another partition is told that home has closed it, by the record at `place` there.
pub fn is_closed(place: u64) -> Vec<Decided> {
    arrives(home(), Arrival { sent: Sent::Close(closed()), place }, Verdict::Ok)
}

fn arrives(from: PartitionId, arrival: Arrival, verdict: Verdict) -> Vec<Decided> {
    let mail = Mail { home: from, previous: 0, settled_below: arrival.place };
    vec![(mail.to_bytes(), Verdict::Ok, None), (arrival.to_bytes(), verdict, None)]
}

/// Home is told that all others have taken what it has told by the record at `place`.
pub fn is_taken(id: EventId, place: u64) -> Vec<Decided> {
    let word = |other: PartitionId| {
        let (verdict, pending_id) = (Verdict::Ok, EventId(u128::from(other.0) + 1));
        let (amount, is_linked) = (Amount(0), false);
        let word = Word { id, place, verdict, amount, pending_id, is_linked };
        let credit_account_id = AccountId::in_transit(other, LedgerId(0));
        let resolved = Resolved { credit_account_id, ..Resolved::default() };
        (word.to_bytes(), Verdict::Ok, Some(resolved))
    };
    others().map(word).into()
}

/// Account 1 of a partition pays the striped one.
pub fn is_paid(id: u128, partition: PartitionId, amount: u128) -> Vec<Decided> {
    accepted(Transfer { credit_account_id: fees(), ..plain(id, partition, amount) })
}

/// The striped account pays account 1 of a partition.
pub fn pays(id: u128, partition: PartitionId, amount: u128) -> Vec<Decided> {
    accepted(Transfer { debit_account_id: fees(), ..plain(id, partition, amount) })
}

fn plain(id: u128, partition: PartitionId, amount: u128) -> Transfer {
    let flags = TransferFlags::default();
    Transfer { flags, ..super::transfer(id, partition, partition, amount) }
}

fn accepted(transfer: Transfer) -> Vec<Decided> {
    vec![(transfer.to_bytes(), Verdict::Ok, None)]
}

/// The gathering of a record at `place` of `from`.
fn gathering(from: PartitionId, to: PartitionId, place: u64, amount: u128) -> Transfer {
    let book = u128::from(Book::STRIPED.0) << 96;
    Transfer {
        id: EventId(book | u128::from(from.0) << 64 | u128::from(place)),
        debit_account_id: fees(),
        credit_account_id: fees(),
        amount: Amount(amount),
        user_data_32: u32::from(from.0) << 16 | u32::from(to.0),
        ledger: LEDGER,
        code: CODE,
        flags: TransferFlags::GATHERING,
        ..Transfer::default()
    }
}

/// The stripe of `from` gives to that of `to`, by a record at `place`.
pub fn gives(from: PartitionId, to: PartitionId, place: u64, amount: u128) -> Vec<Decided> {
    vec![(gathering(from, to, place, amount).to_bytes(), Verdict::InDoubt, None)]
}

/// What was given arrives.
pub fn is_given(
    from: PartitionId,
    to: PartitionId,
    place: u64,
    amount: u128,
    verdict: Verdict,
) -> Vec<Decided> {
    let sent = Sent::Transfer(gathering(from, to, place, amount));
    arrives(from, Arrival { sent, place }, verdict)
}

/// The stripe that has given is told what became of it.
pub fn is_told(
    from: PartitionId,
    to: PartitionId,
    place: u64,
    amount: u128,
    verdict: Verdict,
) -> Vec<Decided> {
    let id = gathering(from, to, place, amount).id;
    let moved = if verdict.is_ok() { amount } else { 0 };
    let (pending_id, is_linked) = (EventId(0), false);
    let word = Word { id, place, verdict, amount: Amount(moved), pending_id, is_linked };
    let resolved = Resolved {
        debit_account_id: fees(),
        credit_account_id: transit(to),
        amount: Amount(amount),
        index: 0,
        ledger: LEDGER,
        code: CODE,
    };
    vec![(word.to_bytes(), Verdict::Ok, Some(resolved))]
}

/// The log of a partition. Account 1 of each pays the striped account; then the first other partition gives 25 of it to
/// the second one, which pays 20 of it; 5 that home gives to the first one are refused; and home closes it. Somebody pays
/// 1 by the id that the first gathering has, and somebody else pays 2. The log ends at so many entries, of 4, behind the
/// first payment.
pub fn log(partition: PartitionId, entries: usize) -> Vec<Vec<Decided>> {
    let [first, second] = others();
    let refused = Verdict::CreditAccountClosed;
    let (mut log, more) = if partition == home() {
        let log = vec![creates(), super::created(partition), is_taken(EventId(fees().0), 0)];
        let told = is_told(home(), first, 6, 5, refused);
        (log, [gives(home(), first, 6, 5), told, closes(), is_taken(CLOSING, 8)])
    } else if partition == first {
        let mut told = is_told(first, second, 5, 25, Verdict::Ok);
        told.extend(is_paid(gathering(first, second, 5, 25).id.0, first, 1));
        let refuses = is_given(home(), first, 6, 5, refused);
        let log = vec![is_created(0), super::created(partition)];
        (log, [gives(first, second, 5, 25), told, refuses, is_closed(8)])
    } else {
        let given = is_given(first, second, 5, 25, Verdict::Ok);
        let log = vec![is_created(0), super::created(partition)];
        (log, [given, pays(90, second, 20), is_paid(91, second, 2), is_closed(8)])
    };
    let paid = 30 + u128::from(partition.0);
    log.push(is_paid(100 + u128::from(partition.0), partition, paid));
    log.extend(more.into_iter().take(entries));
    log
}
