//! A unit is an event alone, or a linked chain: what is decided as a whole. Which partitions decide it, the same in
//! every client and server: PROTOCOL.md, section 5.

use std::collections::BTreeSet;

use crate::model::{
    Account, AccountId, Close, Event, EventBytes, EventKind, FLAG_LINKED, Guard, Name, PartitionId,
    Transfer, TransferFlags, Verdict, event_flags, event_kind,
};
use crate::partition;

/// The partitions that decide a unit, in the order in which it is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it is sent: keeps its ids, and prepares it if it spans.
    pub home: PartitionId,
    /// Those behind home that prepare it, in order.
    pub between: Vec<PartitionId>,
    /// Has the last word; the same one as home if the unit does not span.
    pub last: PartitionId,
}

impl Path {
    /// Of what one partition decides alone.
    pub fn alone(home: PartitionId) -> Self {
        Self { home, between: Vec::new(), last: home }
    }

    /// Several partitions decide it.
    pub fn spans(&self) -> bool {
        self.home != self.last
    }

    /// All of them.
    pub fn stops(&self) -> impl Iterator<Item = PartitionId> {
        let last = self.spans().then_some(self.last);
        std::iter::once(self.home).chain(self.between.iter().copied()).chain(last)
    }

    /// The one that a partition hands it on to; `None` if that partition is last, or has no part.
    pub fn after(&self, partition: PartitionId) -> Option<PartitionId> {
        self.stops().skip_while(|stop| *stop != partition).nth(1)
    }

    /// The one that a partition has it from; `None` if that partition is home, or has no part.
    pub fn before(&self, partition: PartitionId) -> Option<PartitionId> {
        self.stops().zip(self.stops().skip(1)).find(|(_, stop)| *stop == partition).map(|it| it.0)
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

/// Partitions of the accounts that an event names; `None` if all may be: it ends a reservation and does not say whose, or
/// speaks of a striped account.
fn parts(event: &EventBytes, partitions: u16) -> Option<[Option<PartitionId>; 2]> {
    match Event::from_bytes(event) {
        Ok(Event::Transfer(end)) if resolves(&end) => {
            let sides = [end.debit_account_id, end.credit_account_id];
            let are_named = !sides.contains(&AccountId(0));
            are_named.then(|| partition::of_sides(&end, partitions).map(Some))
        }
        Ok(
            Event::Account(Account { id: account, .. })
            | Event::Close(Close { account_id: account, .. }),
        ) if account.is_striped() => None,
        _ => Some(named(event, partitions).partitions),
    }
}

fn named(event: &EventBytes, partitions: u16) -> Named {
    let of = |id: AccountId| (id.0 != 0).then(|| partition::of_account(id, partitions));
    let one = |id, rule| Named { partitions: [of(id), None], rule };
    match Event::from_bytes(event) {
        Ok(Event::Account(Account { id, .. })) => one(id, Rule::Nowhere),
        Ok(Event::Close(Close { account_id, .. }) | Event::Name(Name { account_id, .. })) => {
            one(account_id, Rule::Nowhere)
        }
        Ok(Event::Guard(Guard { account_id, .. })) => one(account_id, Rule::Last),
        Ok(Event::Describe(_)) => {
            Named { partitions: [Some(partition::OF_LEDGERS), None], rule: Rule::Nowhere }
        }
        Ok(Event::Transfer(transfer)) => {
            let sides = sides(&transfer, partitions);
            if resolves(&transfer) {
                // It lives where its reservation does.
                return Named { partitions: [sides[0].or(sides[1]), None], rule: Rule::AtHome };
            }
            // Only home may have to gather what a striped account lacks.
            let is_kept_at_home = transfer.flags.contains(TransferFlags::PENDING)
                || transfer.debit_account_id.is_striped();
            let rule = if transfer.is_balancing() && sides[0] != sides[1] {
                Rule::Nowhere
            } else if is_kept_at_home {
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

/// Partitions of the accounts that a transfer names; of a striped one alone that says nothing.
fn sides(transfer: &Transfer, partitions: u16) -> [Option<PartitionId>; 2] {
    let named = [transfer.debit_account_id, transfer.credit_account_id];
    if named.contains(&AccountId(0)) {
        return named.map(|id| {
            let is_told = id.0 != 0 && !id.is_striped();
            is_told.then(|| partition::of_account(id, partitions))
        });
    }
    partition::of_sides(transfer, partitions).map(Some)
}

/// The partitions of a unit; `None` if it names no account.
///
/// # Errors
/// A chain can't be decided as a whole: which of its events is in the way, and the verdict on that.
pub fn path(unit: &[EventBytes], partitions: u16) -> Result<Option<Path>, (usize, Verdict)> {
    if partitions == 1 {
        return Ok(Some(Path::alone(PartitionId(0))));
    }
    let mut both: [Option<PartitionId>; 2] = [None; 2];
    let mut more = Vec::new();
    for (index, event) in unit.iter().enumerate() {
        if is_guard_of_all(event) {
            return Err((index, Verdict::GuardElsewhere));
        }
        for found in named(event, partitions).partitions.into_iter().flatten() {
            match both.iter_mut().find(|one| one.is_none_or(|one| one == found)) {
                Some(known) => *known = Some(found),
                None if more.contains(&found) => {}
                None => more.push(found),
            }
        }
    }
    let [Some(first), Some(second)] = both else {
        return Ok(both[0].map(Path::alone));
    };
    if unit.len() == 1 {
        return Ok(Some(Path { home: first, between: Vec::new(), last: second }));
    }
    let (mut home, mut last) = (None, None);
    for (index, event) in unit.iter().enumerate() {
        let Named { partitions: [Some(one), _], rule } = named(event, partitions) else { continue };
        let (end, other, verdict) = match rule {
            Rule::Anywhere => continue,
            Rule::AtHome => (&mut home, last, Verdict::CannotSpan),
            Rule::Last => (&mut last, home, Verdict::GuardElsewhere),
            Rule::Nowhere => return Err((index, Verdict::CannotSpan)),
        };
        if end.is_some_and(|set| set != one) || other == Some(one) {
            return Err((index, verdict));
        }
        *end = Some(one);
    }
    let home = home.unwrap_or(if last == Some(first) { second } else { first });
    let mut newest_first = more.iter().rev().copied().chain([second, first]);
    let last = last.or_else(|| newest_first.find(|stop| *stop != home)).unwrap_or(second);
    let mut between = Vec::new();
    if !more.is_empty() {
        let stops = [first, second].into_iter().chain(more);
        between.extend(stops.filter(|stop| *stop != home && *stop != last));
    }
    Ok(Some(Path { home, between, last }))
}

/// What it asks of an account is never known in one place.
fn is_guard_of_all(event: &EventBytes) -> bool {
    event_kind(event) == Ok(EventKind::Guard) && Guard::from_bytes(event).account_id.is_striped()
}

/// Of a chain at the start of `events` that was decided as one over several partitions, or has arrived from one: its
/// length, and its path. `None` if it is none.
pub fn spanning_chain(events: &[EventBytes], partitions: u16) -> Option<(usize, Path)> {
    let (length, is_closed) = length(events);
    let sent = |event: &EventBytes| match Event::from_bytes(event) {
        Ok(Event::Arrival(arrival)) => arrival.sent.to_bytes(),
        _ => *event,
    };
    let unit: Vec<EventBytes> = events[..length].iter().map(sent).collect();
    let path = path(&unit, partitions).ok().flatten();
    path.filter(|path| length > 1 && is_closed && path.spans()).map(|path| (length, path))
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
        let ends = |path: Path| {
            assert_eq!(path.between, [], "two partitions at most");
            (path.home.0, path.last.0)
        };
        path(unit, 3).map(|path| path.map(ends))
    }

    fn stops(unit: &[EventBytes]) -> Result<Vec<u16>, (usize, Verdict)> {
        path(unit, 3).map(|path| path.unwrap().stops().map(|stop| stop.0).collect())
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
        assert_eq!(path(&[transfer(1, 0, plain)], 1).unwrap().map(|it| it.spans()), Some(false));
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
    fn a_striped_account_goes_along_and_is_debited_at_home() {
        let fees = AccountId(0xffff_fffe << 96 | 1);
        let between = |debit_account_id, credit_account_id, flags| {
            let (id, amount) = (EventId(1), Amount(1));
            Transfer { id, debit_account_id, credit_account_id, amount, flags, ..none() }.to_bytes()
        };
        let (plain, pending) = (TransferFlags::default(), TransferFlags::PENDING);
        for at in 0..3 {
            let there = account(at, 1);
            assert_eq!(way(&[between(there, fees, plain)]), Ok(Some((at, at))));
            assert_eq!(way(&[between(fees, there, pending)]), Ok(Some((at, at))));
        }
        let with_fee = [transfer(1, 0, plain), between(account(1, 1), fees, plain)];
        assert_eq!(way(&with_fee), Ok(Some((1, 0))));
        let fee_there = [transfer(1, 0, plain), between(account(0, 1), fees, plain)];
        assert_eq!(way(&fee_there), Ok(Some((1, 0))));
        let paid = [between(fees, account(0, 1), plain), transfer(1, 0, plain)];
        assert_eq!(way(&paid), Ok(Some((0, 1))), "it is home that gathers");
        let to_two = [between(fees, account(0, 1), plain), between(fees, account(1, 1), plain)];
        assert_eq!(way(&to_two), Err((1, Verdict::CannotSpan)));
        let guards = Guard { account_id: fees, ..Guard::default() }.to_bytes();
        assert_eq!(way(&[transfer(1, 1, plain), guards]), Err((1, Verdict::GuardElsewhere)));
        let end = |debit, credit| Transfer {
            debit_account_id: debit,
            credit_account_id: credit,
            flags: TransferFlags::POST_PENDING,
            ..none()
        };
        assert_eq!(way(&[end(fees, account(2, 1)).to_bytes()]), Ok(Some((2, 2))));
        assert_eq!(way(&[end(fees, AccountId(0)).to_bytes()]), Ok(None), "where is not told");
        let made = Account { id: fees, ..Account::default() }.to_bytes();
        let closed = Close { account_id: fees, ..Close::default() }.to_bytes();
        let home = partition::of_account(fees, 3).0;
        for event in [made, closed] {
            assert_eq!(way(&[event]), Ok(Some((home, home))));
            assert!(may_span(&[event], 3), "all of them take it");
        }
    }

    fn none() -> Transfer {
        Transfer::default()
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
    fn a_chain_goes_through_all_its_partitions_and_is_handed_on_in_the_order_in_which_it_names_them()
     {
        let (plain, pending) = (TransferFlags::default(), TransferFlags::PENDING);
        let three = [transfer(2, 1, plain), transfer(1, 0, plain), transfer(0, 2, plain)];
        assert_eq!(stops(&three), Ok(vec![2, 1, 0]));
        assert_eq!(stops(&[transfer(2, 1, plain), transfer(0, 1, pending)]), Ok(vec![0, 2, 1]));
        assert_eq!(
            stops(&[guard(2), transfer(2, 1, plain), transfer(1, 0, plain)]),
            Ok(vec![1, 0, 2])
        );
        let held = [transfer(2, 1, plain), transfer(0, 1, pending), guard(2)];
        assert_eq!(stops(&held), Ok(vec![0, 1, 2]));
        let home_is_newest =
            [transfer(2, 1, plain), transfer(0, 1, pending), transfer(2, 0, plain)];
        assert_eq!(stops(&home_is_newest), Ok(vec![0, 2, 1]));
        let two = [transfer(2, 1, plain), guard(0), guard(1)];
        assert_eq!(way(&two), Err((2, Verdict::GuardElsewhere)));
        let path = path(&three, 3).unwrap().unwrap();
        let [first, second, third] = [2, 1, 0].map(PartitionId);
        assert_eq!(
            [first, second, third].map(|it| path.after(it)),
            [Some(second), Some(third), None]
        );
        assert_eq!(
            [first, second, third].map(|it| path.before(it)),
            [None, Some(first), Some(second)]
        );
    }

    #[test]
    fn what_cannot_be_in_a_chain_over_partitions_is_named() {
        let plain = TransferFlags::default();
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
