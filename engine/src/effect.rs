//! What one record of a partition's log has done to the posted sums of one account there. Pure.
//!
//! A record tells that by itself, with one exception: the word on a transfer that was prepared for another
//! partition does not repeat it, so the record that prepared it is asked for.

use walengine_net::model::{
    AccountId, Amount, Arrival, Event, EventBytes, PartitionId, Resolved, Sent, Transfer,
    TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_sides;

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its event.
    pub event: EventBytes,
    /// Its verdict.
    pub verdict: Verdict,
    /// Effective accounts and amount, if the event does not tell.
    pub resolved: Option<Resolved>,
}

/// Whose statement it is, and where.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The account.
    pub account: AccountId,
    /// The partition of the log, one of so many.
    pub here: PartitionId,
    /// See above.
    pub partitions: u16,
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// In one word.
    pub kind: &'static str,
    /// Id of the transfer; 0 if it has none.
    pub id: u128,
    /// The account on the other side.
    pub other: AccountId,
    /// Added to what was debited.
    pub debit: Amount,
    /// Added to what was credited.
    pub credit: Amount,
    /// Taken off what was credited: a stripe gives it to another one.
    pub given: Amount,
    /// Time of business, if its sender has given one: see [`Transfer::booked_micros`].
    pub booked: Option<i64>,
}

impl Moved {
    /// What stripes of one account give each other: no transfer of anybody's.
    pub fn is_between_stripes(&self) -> bool {
        self.kind == BETWEEN_STRIPES
    }
}

const BETWEEN_STRIPES: &str = "between stripes";

/// The offset of the record that [`effect`] asks for; `None` if it needs no other one.
pub fn prepared_at(record: &Record) -> Option<u64> {
    match Event::from_bytes(&record.event).ok()? {
        Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. })
            if record.verdict.is_ok() && word.verdict.is_ok() && word.amount.0 > 0 =>
        {
            Some(word.place)
        }
        _ => None,
    }
}

/// What a record has moved; `None` if it has not changed the account's posted sums. `prepared` gives the
/// record at an offset of the same log.
///
/// # Errors
/// That of `prepared`.
pub fn effect<E>(
    whose: &Whose,
    record: &Record,
    prepared: impl FnOnce(u64) -> Result<Option<Record>, E>,
) -> Result<Option<Moved>, E> {
    // An event of a kind that is not known to this version moves nothing that it knows of.
    let Ok(event) = Event::from_bytes(&record.event) else { return Ok(None) };
    Ok(match (event, record.verdict) {
        (Event::Transfer(transfer), Verdict::Ok) => moved(whose, &transfer, record.resolved, None),
        (Event::Arrival(Arrival { sent: Sent::Transfer(transfer), .. }), Verdict::Ok) => {
            // Beside the end of a reservation stands what that held, and its own amount is what was posted.
            let ends = transfer.flags.contains(TransferFlags::POST_PENDING);
            let resolved = record.resolved.filter(|_| !ends);
            let amount = resolved.map_or(transfer.amount, |resolved| resolved.amount);
            moved(whose, &transfer, None, Some(amount))
        }
        (
            Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. }),
            Verdict::Ok,
        ) if word.verdict.is_ok() && word.amount.0 > 0 => {
            prepared(word.place)?.and_then(|prepared| settled(whose, &word, &prepared))
        }
        _ => None,
    })
}

/// What a word has made of what was prepared here.
fn settled(whose: &Whose, word: &Word, prepared: &Record) -> Option<Moved> {
    match Event::from_bytes(&prepared.event).ok()? {
        Event::Transfer(transfer) => moved(whose, &transfer, prepared.resolved, Some(word.amount)),
        // In the midst of a chain. The ends of reservations are at its home.
        Event::Arrival(Arrival { sent: Sent::Transfer(transfer), .. })
            if !transfer.flags.contains(TransferFlags::POST_PENDING) =>
        {
            moved(whose, &transfer, None, Some(word.amount))
        }
        _ => None,
    }
}

fn moved(
    whose: &Whose,
    transfer: &Transfer,
    resolved: Option<Resolved>,
    amount: Option<Amount>,
) -> Option<Moved> {
    let only_reserves = TransferFlags::PENDING.with(TransferFlags::VOID_PENDING);
    if transfer.flags.intersects(only_reserves) {
        return None;
    }
    let own = (transfer.debit_account_id, transfer.credit_account_id, transfer.amount);
    let (debit, credit, effective) = resolved.map_or(own, |resolved| {
        (resolved.debit_account_id, resolved.credit_account_id, resolved.amount)
    });
    let amount = amount.unwrap_or(effective);
    let named = Transfer { debit_account_id: debit, credit_account_id: credit, ..*transfer };
    let sides = of_sides(&named, whose.partitions);
    let is_here = [(debit, sides[0]), (credit, sides[1])]
        .map(|(account, partition)| account == whose.account && partition == whose.here);
    let when = |is_so: bool| if is_so { amount } else { Amount(0) };
    let gathers = transfer.flags.contains(TransferFlags::GATHERING);
    let kind = match () {
        () if gathers => BETWEEN_STRIPES,
        () if transfer.flags.contains(TransferFlags::POST_PENDING) => "post",
        () => "transfer",
    };
    let [is_debited, is_credited] = is_here;
    (is_debited || is_credited).then_some(Moved {
        kind,
        id: if gathers { 0 } else { transfer.id.0 },
        other: if is_debited { credit } else { debit },
        debit: when(is_debited && !gathers),
        credit: when(is_credited),
        given: when(is_debited && gathers),
        booked: transfer.booked_micros(),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use walengine_net::model::{Code, EventId, LedgerId};

    use super::*;

    const PARTITIONS: u16 = 2;

    /// Two accounts that live on different partitions, and these.
    fn accounts() -> ([AccountId; 2], [PartitionId; 2]) {
        let home = |book: u128| {
            let account = AccountId(book << 96 | 7);
            (account, walengine_net::partition::of_account(account, PARTITIONS))
        };
        let one = home(1);
        let other = (2..100).map(home).find(|other| other.1 != one.1).unwrap();
        ([one.0, other.0], [one.1, other.1])
    }

    fn transfer(flags: TransferFlags) -> Transfer {
        let ([one, other], _) = accounts();
        Transfer {
            id: EventId(5),
            debit_account_id: one,
            credit_account_id: other,
            amount: Amount(100),
            ledger: LedgerId(1),
            code: Code(1),
            flags,
            ..Transfer::default()
        }
    }

    fn of(side: usize, event: Event, verdict: Verdict, prepared: Option<Event>) -> Option<Moved> {
        let (accounts, homes) = accounts();
        let whose = Whose { account: accounts[side], here: homes[side], partitions: PARTITIONS };
        let record =
            |event: Event, verdict| Record { event: event.to_bytes(), verdict, resolved: None };
        let before = |_| Ok::<_, Infallible>(prepared.map(|one| record(one, Verdict::InDoubt)));
        effect(&whose, &record(event, verdict), before).unwrap()
    }

    fn word(verdict: Verdict, amount: u128) -> Event {
        let pending_id = EventId(0);
        let (id, place, amount) = (EventId(5), 3, Amount(amount));
        Event::Word(Word { id, place, verdict, amount, pending_id, is_linked: false })
    }

    fn arrival(transfer: Transfer) -> Event {
        Event::Arrival(Arrival { sent: Sent::Transfer(transfer), place: 3 })
    }

    #[test]
    fn money_from_another_partition_is_there_when_it_arrives_and_has_left_with_the_word() {
        let sent = transfer(TransferFlags::default());
        assert_eq!(of(0, Event::Transfer(sent), Verdict::InDoubt, None), None, "only reserved");
        let left = of(0, word(Verdict::Ok, 100), Verdict::Ok, Some(Event::Transfer(sent))).unwrap();
        assert_eq!((left.debit, left.credit, left.id), (Amount(100), Amount(0), 5));
        let refused = word(Verdict::CreditAccountNotFound, 0);
        assert_eq!(of(0, refused, Verdict::Ok, Some(Event::Transfer(sent))), None);
        let there = of(1, arrival(sent), Verdict::Ok, None).unwrap();
        assert_eq!((there.debit, there.credit), (Amount(0), Amount(100)));
        assert_eq!(of(1, arrival(sent), Verdict::CreditAccountNotFound, None), None);
    }

    #[test]
    fn a_reservation_moves_nothing_before_it_is_posted() {
        let pending = transfer(TransferFlags::PENDING);
        assert_eq!(
            of(0, word(Verdict::Ok, 100), Verdict::Ok, Some(Event::Transfer(pending))),
            None
        );
        assert_eq!(of(1, arrival(pending), Verdict::Ok, None), None);
        let post = Transfer { amount: Amount(60), ..transfer(TransferFlags::POST_PENDING) };
        let posted = of(1, arrival(post), Verdict::Ok, None).unwrap();
        assert_eq!((posted.kind, posted.credit), ("post", Amount(60)));
        let left = of(0, word(Verdict::Ok, 60), Verdict::Ok, Some(Event::Transfer(post))).unwrap();
        assert_eq!(left.debit, Amount(60));
        let void = transfer(TransferFlags::VOID_PENDING);
        assert_eq!(of(1, arrival(void), Verdict::Ok, None), None);
    }

    #[test]
    fn what_was_effective_counts() {
        let ([one, other], homes) = accounts();
        let whose = Whose { account: one, here: homes[0], partitions: PARTITIONS };
        let balancing = Transfer {
            credit_account_id: AccountId(one.0 + 1),
            ..transfer(TransferFlags::BALANCING_DEBIT)
        };
        let resolved = Resolved {
            debit_account_id: one,
            credit_account_id: AccountId(one.0 + 1),
            amount: Amount(7),
            ..Resolved::default()
        };
        let record = Record {
            event: Event::Transfer(balancing).to_bytes(),
            verdict: Verdict::Ok,
            resolved: Some(resolved),
        };
        let none = |_| Ok::<_, Infallible>(None);
        let moved = effect(&whose, &record, none).unwrap().unwrap();
        assert_eq!((moved.debit, moved.other), (Amount(7), AccountId(one.0 + 1)));
        let elsewhere = Whose { account: other, ..whose };
        assert_eq!(effect(&elsewhere, &record, none).unwrap(), None);
    }

    #[test]
    fn a_stripe_that_gives_has_less_credits_and_no_debit() {
        let fees = AccountId::striped(9);
        let gathering = Transfer {
            debit_account_id: fees,
            credit_account_id: fees,
            user_data_32: 1,
            flags: TransferFlags::GATHERING,
            ..transfer(TransferFlags::GATHERING)
        };
        let at = |here| Whose { account: fees, here: PartitionId(here), partitions: PARTITIONS };
        let record =
            |event: Event| Record { event: event.to_bytes(), verdict: Verdict::Ok, resolved: None };
        let prepared = |_| Ok::<_, Infallible>(Some(record(Event::Transfer(gathering))));
        let giver = effect(&at(0), &record(word(Verdict::Ok, 40)), prepared).unwrap().unwrap();
        assert_eq!((giver.given, giver.credit, giver.debit), (Amount(40), Amount(0), Amount(0)));
        let taker = effect(&at(1), &record(arrival(gathering)), prepared).unwrap().unwrap();
        assert_eq!((taker.given, taker.credit, taker.debit), (Amount(0), Amount(100), Amount(0)));
        // A payment to it is where the payer lives.
        let ([payer, _], homes) = accounts();
        let fee = Transfer {
            debit_account_id: payer,
            credit_account_id: fees,
            ..transfer(TransferFlags::default())
        };
        for here in [0, 1] {
            let moved = effect(&at(here), &record(Event::Transfer(fee)), prepared).unwrap();
            assert_eq!(moved.is_some(), PartitionId(here) == homes[0]);
        }
    }
}
