//! What the records of a chain over three partitions are, at each of them.

use walengine_net::model::EventId;

use super::*;
use crate::handmade::stripes::{fees, gives, home, is_created, is_given, is_told, others, pays};
use crate::handmade::{
    Decided, HOME, LAST, LEDGER, MIDST, PARTITIONS, account, arrivals, entry, prepared, stripes,
    transit, words,
};

/// Offset of the chain's first record at home.
const PLACE: u64 = 40;

/// Accounts that something moves or reserves between here.
type Parties = Option<(AccountId, AccountId)>;

fn records<T>(
    partition: PartitionId,
    offset: u64,
    decided: &[Decided],
    each: impl Fn(&Fact<'_>) -> T,
) -> Result<Vec<T>, EntryError> {
    let (header, body) = entry(partition, offset, decided);
    let mut found = Vec::new();
    for_each(&header, &body, PARTITIONS, |record| {
        found.push(each(&record.fact));
        Ok::<_, EntryError>(())
    })?;
    Ok(found)
}

fn ids(parties: Option<(u128, u128)>) -> Parties {
    parties.map(|(debit, credit)| (AccountId(debit), AccountId(credit)))
}

fn as_prepared(fact: &Fact<'_>) -> Option<Prepared> {
    if let Fact::Prepared(prepared) = fact { Some(*prepared) } else { None }
}

fn as_arrived(fact: &Fact<'_>) -> Option<Arrived> {
    if let Fact::Arrived(arrived) = fact { Some(*arrived) } else { None }
}

#[test]
fn home_hands_on_to_the_next_stop_and_is_in_transit_with_the_other_account() {
    let facts = records(HOME, PLACE, &prepared(), as_prepared).unwrap();
    assert_eq!(facts.len(), 6);
    assert_eq!(facts[5], None, "a guard is nothing here");
    let facts: Vec<Prepared> = facts.into_iter().flatten().collect();
    for (one, offset) in facts.iter().zip(PLACE..) {
        assert_eq!((one.across.other, one.across.prepared), (MIDST, Offset(offset)));
        assert_eq!(one.source, None);
    }
    let [mine, other] = [1, 2].map(|number| account(HOME, number));
    let parties: Vec<Parties> = facts.iter().map(|one| ids(one.parties())).collect();
    let expected = [
        Some((mine, transit(MIDST))),
        None,
        Some((transit(LAST), mine)),
        Some((mine, transit(MIDST))),
        Some((mine, other)),
    ];
    assert_eq!(parties, expected);
    let transits: Vec<_> = facts.iter().map(|one| one.in_transit().map(|it| it.id)).collect();
    let expected = [Some(transit(MIDST)), None, Some(transit(LAST)), Some(transit(MIDST)), None];
    assert_eq!(transits, expected);
}

#[test]
fn a_stop_in_the_midst_reserves_its_part_and_hands_on() {
    let decided = arrivals(HOME, PLACE, Verdict::InDoubt, None);
    let facts = records(MIDST, 10, &decided, as_prepared).unwrap();
    assert_eq!((facts.len(), facts[0], facts[6]), (7, None, None), "mail, and a guard");
    let facts: Vec<Prepared> = facts.into_iter().flatten().collect();
    for (one, index) in facts.iter().zip(0..) {
        assert_eq!((one.across.other, one.across.prepared), (LAST, Offset(11 + index)));
        let place = Offset(PLACE + index);
        assert_eq!(one.source, Some(Source { home: HOME, place, origin: None }));
        assert_eq!((one.ledger, one.id().0), (LEDGER, u128::from(index) + 1));
    }
    let mine = account(MIDST, 1);
    let parties: Vec<Parties> = facts.iter().map(|one| ids(one.parties())).collect();
    let from_home = Some((transit(HOME), mine));
    assert_eq!(parties, [from_home, Some((mine, transit(LAST))), None, from_home, None]);
    let amounts: Vec<u128> = facts.iter().map(|one| one.amount.0).collect();
    assert_eq!(amounts, [30, 20, 10, 5, 7]);
}

#[test]
fn a_stop_in_the_midst_reserves_what_it_has_reduced() {
    let mut decided = arrivals(HOME, PLACE, Verdict::InDoubt, None);
    let mine = account(MIDST, 1);
    let resolved = Resolved {
        debit_account_id: mine,
        credit_account_id: mine,
        amount: Amount(12),
        index: 0,
        ledger: LEDGER,
        code: Code(3),
    };
    decided[2].2 = Some(resolved);
    let facts = records(MIDST, 10, &decided, as_prepared).unwrap();
    assert_eq!(facts[2].map(|one| one.amount), Some(Amount(12)));
}

#[test]
fn the_last_stop_knows_the_home_of_the_chain_and_decides() {
    let decided = arrivals(MIDST, 11, Verdict::Ok, None);
    let facts = records(LAST, 70, &decided, as_arrived).unwrap();
    assert_eq!((facts.len(), facts[0], facts[6]), (7, None, None), "mail, and a guard that held");
    let facts: Vec<Arrived> = facts.into_iter().flatten().collect();
    for (one, place) in facts.iter().zip(11..) {
        let place = Offset(place);
        assert_eq!(one.source, Source { home: MIDST, place, origin: Some(HOME) });
        assert_eq!((one.verdict, one.next), (Verdict::Ok, None));
    }
    let mine = account(LAST, 1);
    let parties: Vec<Parties> = facts.iter().map(|one| ids(one.parties())).collect();
    let expected = [None, Some((transit(MIDST), mine)), Some((mine, transit(HOME))), None, None];
    assert_eq!(parties, expected);
}

#[test]
fn a_stop_in_the_midst_that_refuses_has_the_word() {
    let culprit = Some((2, Verdict::ExceedsCredits));
    let decided = arrivals(HOME, PLACE, Verdict::LinkedEventFailed, culprit);
    let facts = records(MIDST, 10, &decided, as_arrived).unwrap();
    let facts: Vec<Arrived> = facts.into_iter().flatten().collect();
    assert_eq!(facts.len(), 5);
    for (one, index) in facts.iter().zip(0..) {
        let verdict = if index == 1 { Verdict::ExceedsCredits } else { Verdict::LinkedEventFailed };
        let place = Offset(PLACE + index);
        assert_eq!((one.verdict, one.amount, one.next), (verdict, Amount(0), None));
        assert_eq!(one.source, Source { home: HOME, place, origin: None });
    }
    let refused = records(MIDST, 10, &decided, |fact| matches!(fact, Fact::Refused(_))).unwrap();
    assert_eq!(refused, [false, false, false, false, false, false, true], "the guard");
}

#[test]
fn only_a_word_on_what_changes_nothing_here_may_be_on_a_guard() {
    let decided = words(MIDST, 11, None);
    let guards = records(MIDST, 30, &decided, |fact| match fact {
        Fact::Ended { may_be_known, .. } => *may_be_known,
        other => panic!("{other:?}"),
    });
    assert_eq!(guards.unwrap(), [false, false, false, false, true, true]);
}

#[test]
fn what_is_in_doubt_where_nobody_is_next_is_no_entry() {
    let decided = arrivals(MIDST, 11, Verdict::InDoubt, None);
    assert_eq!(records(LAST, 70, &decided, |_| ()), Err(EntryError::Body));
    let alone = [decided[0], decided[1]];
    let facts = records(MIDST, 10, &alone, |_| ());
    assert_eq!(facts, Err(EntryError::Body), "a part of a chain");
}

#[test]
fn a_stripe_is_created_by_what_home_tells() {
    let created = |fact: &Fact<'_>| match fact {
        Fact::Created { account, home } => Some((account.id, *home)),
        _ => None,
    };
    for (partition, decided, expected) in [
        (home(), stripes::creates(), vec![Some((fees(), None))]),
        (others()[0], is_created(0), vec![None, Some((fees(), Some(home())))]),
    ] {
        assert_eq!(records(partition, 5, &decided, created).unwrap(), expected);
    }
    let mut other = is_created(0);
    let ordinary = Account { id: account(HOME, 1), ..Account::default() };
    other[1].0 = Arrival { sent: Sent::Account(ordinary), place: 0 }.to_bytes();
    assert_eq!(records(others()[0], 5, &other, |_| ()), Err(EntryError::Body));
    let told = stripes::is_taken(EventId(fees().0), 0);
    let known =
        records(home(), 5, &told, |fact| matches!(fact, Fact::Ended { may_be_known: true, .. }));
    assert_eq!(known.unwrap(), [true, true]);
}

#[test]
fn a_striped_account_takes_part_where_the_other_one_lives() {
    for partition in (0..PARTITIONS).map(PartitionId) {
        for decided in [pays(1, partition, 3), stripes::is_paid(1, partition, 3)] {
            let across = |fact: &Fact<'_>| match fact {
                Fact::Moved(moved) => moved.across,
                other => panic!("{other:?}"),
            };
            assert_eq!(records(partition, 5, &decided, across).unwrap(), [None]);
        }
    }
}

#[test]
fn a_gathering_is_between_the_stripes_that_it_names() {
    let [from, to] = others();
    let decided = gives(from, to, 9, 25);
    let found = records(from, 9, &decided, as_prepared).unwrap();
    let found = found[0].expect("prepared");
    let across = Across { other: to, prepared: Offset(9), sides: None };
    assert_eq!((found.across, found.amount), (across, Amount(25)));
    assert_eq!(ids(found.parties()), Some((fees(), transit(to))));
    for elsewhere in [home(), to] {
        assert_eq!(records(elsewhere, 9, &decided, |_| ()), Err(EntryError::Body), "not its own");
    }
    let arrives = is_given(from, to, 9, 25, Verdict::Ok);
    let found = records(to, 4, &arrives, as_arrived).unwrap()[1].expect("arrived");
    assert_eq!(found.source, Source { home: from, place: Offset(9), origin: None });
    assert_eq!(ids(found.parties()), Some((transit(from), fees())));
    let word = is_told(from, to, 9, 25, Verdict::Ok);
    let ended = records(from, 12, &word, |fact| match fact {
        Fact::Ended { word, may_be_known } => (word.amount, *may_be_known),
        other => panic!("{other:?}"),
    });
    assert_eq!(ended.unwrap(), [(Amount(25), false)]);
}
