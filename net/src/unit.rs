//! A unit is an event alone, or a linked chain: what is decided as a whole. Which partitions decide it, the same in
//! every client and server: PROTOCOL.md, section 5.

use std::collections::BTreeSet;

use crate::model::{
    Account, AccountId, Close, Event, EventBytes, FLAG_LINKED, Guard, PartitionId, Transfer,
    TransferFlags, Verdict, event_flags,
};
use crate::partition;

/// The partitions that decide a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it is sent: keeps its ids, and prepares it if it spans.
    pub home: PartitionId,
    /// Has the last word; the same one if the unit does not span.
    pub last: PartitionId,
}

impl Path {
    /// Two partitions decide it.
    pub fn spans(self) -> bool {
        self.home != self.last
    }
}

/// What one event says about the way of its unit.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    /// Partitions of its accounts: the one that counts first, first.
    partitions: [Option<PartitionId>; 2],
    rule: Rule,
}

/// Where an event must be decided, if its chain spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    Anywhere,
    /// At home, which must be its first partition: only that remembers ids.
    AtHome,
    /// By the last one, which must be its partition: what it has seen must hold until the word.
    Last,
    /// Not in such a chain.
    Nowhere,
}

/// Posts or voids a reservation.
pub fn resolves(transfer: &Transfer) -> bool {
    transfer.flags.intersects(TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING))
}

/// Whether the next event belongs to the same chain.
#[inline]
pub fn is_linked(event: &EventBytes) -> bool {
    event_flags(event) & FLAG_LINKED != 0
}

/// Length of the unit at the start of `events`, and whether it is closed: a chain may lack its last event.
#[inline]
pub fn length(events: &[EventBytes]) -> (usize, bool) {
    let linked = events.iter().take_while(|event| is_linked(event)).count();
    if linked < events.len() { (linked + 1, true) } else { (linked, false) }
}

/// The units of a batch.
pub fn units(events: &[EventBytes]) -> impl Iterator<Item = &[EventBytes]> {
    events.chunk_by(|one, _| is_linked(one))
}

/// Another partition than its home may have a part in one of these units.
pub fn may_span_any(events: &[EventBytes], partitions: u16) -> bool {
    partitions > 1 && units(events).any(|unit| may_span(unit, partitions))
}

/// As [`may_span_any`], of one.
pub fn may_span(unit: &[EventBytes], partitions: u16) -> bool {
    let mut known = None;
    partitions > 1
        && unit.iter().any(|event| match parts(event, partitions) {
            Some(parts) => {
                parts.into_iter().flatten().any(|part| *known.get_or_insert(part) != part)
            }
            None => true,
        })
}

/// Adds the partitions that a unit may have parts in.
pub fn add_partitions(unit: &[EventBytes], partitions: u16, found: &mut BTreeSet<PartitionId>) {
    for event in unit {
        match parts(event, partitions) {
            Some(parts) => found.extend(parts.into_iter().flatten()),
            None => found.extend((0..partitions).map(PartitionId)),
        }
    }
}

/// Partitions of the accounts that an event names; `None` if it ends a reservation and does not say whose: all may be.
fn parts(event: &EventBytes, partitions: u16) -> Option<[Option<PartitionId>; 2]> {
    match Event::from_bytes(event) {
        Ok(Event::Transfer(end)) if resolves(&end) => {
            let sides = [end.debit_account_id, end.credit_account_id];
            let of = |id| Some(partition::of_account(id, partitions));
            (!sides.contains(&AccountId(0))).then(|| sides.map(of))
        }
        _ => Some(named(event, partitions).partitions),
    }
}

fn named(event: &EventBytes, partitions: u16) -> Named {
    let of = |id: AccountId| (id.0 != 0).then(|| partition::of_account(id, partitions));
    let one = |id, rule| Named { partitions: [of(id), None], rule };
    match Event::from_bytes(event) {
        Ok(Event::Account(Account { id, .. })) => one(id, Rule::Nowhere),
        Ok(Event::Close(Close { account_id, .. })) => one(account_id, Rule::Nowhere),
        Ok(Event::Guard(Guard { account_id, .. })) => one(account_id, Rule::Last),
        Ok(Event::Transfer(transfer)) => {
            let sides = [of(transfer.debit_account_id), of(transfer.credit_account_id)];
            if resolves(&transfer) {
                // It lives where its reservation does.
                return Named { partitions: [sides[0].or(sides[1]), None], rule: Rule::AtHome };
            }
            let rule = if transfer.is_balancing() && sides[0] != sides[1] {
                Rule::Nowhere
            } else if transfer.flags.contains(TransferFlags::PENDING) {
                Rule::AtHome
            } else {
                Rule::Anywhere
            };
            Named { partitions: sides, rule }
        }
        // Malformed: any partition refuses it.
        Ok(Event::Expire(_) | Event::Mail(_) | Event::Arrival(_) | Event::Word(_)) | Err(_) => {
            Named { partitions: [Some(PartitionId(0)), None], rule: Rule::Anywhere }
        }
    }
}

/// The partitions of a unit; `None` if it names no account.
///
/// # Errors
/// A chain can't be decided as a whole: which of its events is in the way, and the verdict on that.
pub fn path(unit: &[EventBytes], partitions: u16) -> Result<Option<Path>, (usize, Verdict)> {
    if partitions == 1 {
        return Ok(Some(Path { home: PartitionId(0), last: PartitionId(0) }));
    }
    let mut both: [Option<PartitionId>; 2] = [None; 2];
    for (index, event) in unit.iter().enumerate() {
        for found in named(event, partitions).partitions.into_iter().flatten() {
            let known = both.iter_mut().find(|one| one.is_none_or(|one| one == found));
            *known.ok_or((index, Verdict::TooManyPartitions))? = Some(found);
        }
    }
    let [Some(first), Some(second)] = both else {
        return Ok(both[0].map(|only| Path { home: only, last: only }));
    };
    let mut path = Path { home: first, last: second };
    if unit.len() == 1 {
        return Ok(Some(path));
    }
    let mut is_set = false;
    for (index, event) in unit.iter().enumerate() {
        let Named { partitions: [Some(one), _], rule } = named(event, partitions) else { continue };
        let other = if one == first { second } else { first };
        let (asked, verdict) = match rule {
            Rule::Anywhere => continue,
            Rule::AtHome => (Path { home: one, last: other }, Verdict::CannotSpan),
            Rule::Last => (Path { home: other, last: one }, Verdict::GuardElsewhere),
            Rule::Nowhere => return Err((index, Verdict::CannotSpan)),
        };
        if std::mem::replace(&mut is_set, true) && path != asked {
            return Err((index, verdict));
        }
        path = asked;
    }
    Ok(Some(path))
}

/// Of a chain at the start of `events` that was decided as one over two partitions: its length, and which of them has
/// the last word. `None` if it is none.
pub fn spanning_chain(events: &[EventBytes], partitions: u16) -> Option<(usize, PartitionId)> {
    let (length, is_closed) = length(events);
    let path = path(&events[..length], partitions).ok().flatten();
    path.filter(|path| length > 1 && is_closed && path.spans()).map(|path| (length, path.last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Amount, EventId, GuardFlags};

    /// An account of a partition of three.
    fn account(partition: u16, number: u128) -> AccountId {
        let lives_there = |id: &AccountId| partition::of_account(*id, 3).0 == partition;
        (1u128..100).map(|book| AccountId(book << 96 | number)).find(lives_there).unwrap()
    }

    fn transfer(debit: u16, credit: u16, flags: TransferFlags) -> EventBytes {
        Transfer {
            id: EventId(1),
            debit_account_id: account(debit, 1),
            credit_account_id: account(credit, 2),
            amount: Amount(1),
            flags,
            ..Transfer::default()
        }
        .to_bytes()
    }

    fn guard(partition: u16) -> EventBytes {
        let account_id = account(partition, 1);
        Guard { id: EventId(2), account_id, flags: GuardFlags::VERSION, ..Guard::default() }
            .to_bytes()
    }

    fn post(partition: Option<u16>) -> EventBytes {
        let debit_account_id = partition.map_or(AccountId(0), |one| account(one, 1));
        let flags = TransferFlags::POST_PENDING;
        Transfer { id: EventId(3), debit_account_id, flags, ..Transfer::default() }.to_bytes()
    }

    fn way(unit: &[EventBytes]) -> Result<Option<(u16, u16)>, (usize, Verdict)> {
        path(unit, 3).map(|path| path.map(|Path { home, last }| (home.0, last.0)))
    }

    #[test]
    fn a_unit_goes_to_its_first_partition_and_the_other_has_the_last_word() {
        let plain = TransferFlags::default();
        assert_eq!(way(&[transfer(1, 1, plain)]), Ok(Some((1, 1))));
        assert_eq!(way(&[transfer(1, 0, plain)]), Ok(Some((1, 0))));
        assert_eq!(way(&[post(Some(2))]), Ok(Some((2, 2))));
        assert_eq!(way(&[post(None)]), Ok(None));
        assert_eq!(way(&[post(None), transfer(2, 2, plain)]), Ok(Some((2, 2))));
        assert_eq!(way(&[transfer(1, 1, plain), transfer(0, 0, plain)]), Ok(Some((1, 0))));
        assert_eq!(path(&[transfer(1, 0, plain)], 1).unwrap().map(Path::spans), Some(false));
    }

    #[test]
    fn what_may_have_parts_elsewhere_is_told_by_its_accounts() {
        let plain = TransferFlags::default();
        let end = |debit, credit| Transfer {
            id: EventId(3),
            debit_account_id: debit,
            credit_account_id: credit,
            flags: TransferFlags::VOID_PENDING,
            ..Transfer::default()
        };
        let named = end(account(1, 1), account(1, 2)).to_bytes();
        let half = end(account(1, 1), AccountId(0)).to_bytes();
        for (unit, spans) in [
            (vec![transfer(1, 1, plain)], false),
            (vec![transfer(1, 0, plain)], true),
            (vec![transfer(1, 1, plain), transfer(0, 0, plain)], true),
            (vec![named], false),
            (vec![half], true),
            (vec![post(None)], true),
            (vec![end(account(1, 1), account(2, 2)).to_bytes()], true),
        ] {
            assert_eq!(may_span(&unit, 3), spans, "{unit:?}");
            assert!(!may_span_any(&unit, 1));
        }
        let mut found = BTreeSet::new();
        add_partitions(&[named, transfer(0, 1, plain)], 3, &mut found);
        assert_eq!(found, BTreeSet::from([PartitionId(0), PartitionId(1)]));
        add_partitions(&[half], 3, &mut found);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn reservations_and_their_ends_are_at_home_and_guards_last() {
        let (plain, pending) = (TransferFlags::default(), TransferFlags::PENDING);
        assert_eq!(way(&[transfer(1, 1, plain), transfer(0, 1, pending)]), Ok(Some((0, 1))));
        assert_eq!(way(&[transfer(1, 0, plain), post(Some(0))]), Ok(Some((0, 1))));
        assert_eq!(way(&[guard(1), transfer(1, 0, plain), guard(1)]), Ok(Some((0, 1))));
        let both = [guard(1), transfer(1, 0, plain), guard(0)];
        assert_eq!(way(&both), Err((2, Verdict::GuardElsewhere)));
        let held = [transfer(1, 0, pending), guard(1)];
        assert_eq!(way(&held), Err((1, Verdict::GuardElsewhere)));
        let two = [transfer(1, 0, pending), post(Some(0))];
        assert_eq!(way(&two), Err((1, Verdict::CannotSpan)));
    }

    #[test]
    fn what_cannot_be_in_a_chain_over_partitions_is_named() {
        let plain = TransferFlags::default();
        let three = [transfer(0, 1, plain), transfer(1, 2, plain)];
        assert_eq!(way(&three), Err((1, Verdict::TooManyPartitions)));
        let balancing = TransferFlags::BALANCING_DEBIT;
        assert_eq!(way(&[transfer(0, 1, balancing)]), Ok(Some((0, 1))));
        let sweeps = [transfer(0, 1, plain), transfer(0, 1, balancing)];
        assert_eq!(way(&sweeps), Err((1, Verdict::CannotSpan)));
        assert_eq!(way(&[transfer(0, 1, plain), transfer(0, 0, balancing)]), Ok(Some((0, 1))));
        let new = Account { id: account(0, 9), ..Account::default() }.to_bytes();
        assert_eq!(way(&[new, transfer(0, 1, plain)]), Err((0, Verdict::CannotSpan)));
        assert_eq!(way(&[new, transfer(0, 0, plain)]), Ok(Some((0, 0))));
    }
}
