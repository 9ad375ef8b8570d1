//! Accounts, reservations and what is under way at the end of the log, folded in memory record by
//! record. Shares no code with the fold of batches, so that the audit is independent of it.

use std::collections::{BTreeMap, HashMap};

use walengine_net::model::{
    Account, AccountFlags, CloseFlags, Offset, PartitionId, Timestamp, Transfer, Verdict, Word,
};

use crate::across::{Arrived, Prepared};
use crate::facts::{Fact, Movement, Record};
use crate::movement::MovementKind;
use crate::tables::{AccountState, Reservation, Resolution};

/// An account according to the log.
#[derive(Clone, Copy, Debug)]
pub struct KnownAccount {
    /// Offset of the record that created it.
    pub offset: Offset,
    /// Log time of that record.
    pub time: Timestamp,
    /// The account as it was created.
    pub created: Account,
    /// The partition that has created it, if that is another one.
    pub home: Option<PartitionId>,
    /// Its present state.
    pub state: AccountState,
}

/// All accounts, reservations and transfers without a word of a partition, in order of offset.
#[derive(Debug, Default)]
pub struct LedgerState {
    accounts: Vec<KnownAccount>,
    account_places: HashMap<u128, usize>,
    reservations: Vec<Reservation>,
    reservation_places: HashMap<u128, usize>,
    under_way: BTreeMap<Offset, Prepared>,
    /// What is reserved here of reservations of other partitions, by their homes and ids.
    held: HashMap<(PartitionId, u128), u128>,
}

/// What an event does to the pending and posted balances of the side that it debits, and of the other.
#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    reserved: u128,
    released: u128,
    posted: u128,
}

/// The log moves money of an unknown account or reservation, or below zero. No engine writes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {0}: the log contradicts itself")]
pub struct Contradiction(pub Offset);

impl LedgerState {
    /// Accounts in order of offset.
    pub fn accounts(&self) -> &[KnownAccount] {
        &self.accounts
    }

    /// Reservations in order of offset.
    pub fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    /// Prepared and without a word, in order of offset.
    pub fn under_way(&self) -> impl ExactSizeIterator<Item = &Prepared> {
        self.under_way.values()
    }

    /// What a word that is not applied yet ends.
    pub fn ended_by(&self, word: &Word) -> Option<Prepared> {
        let prepared = self.under_way.get(&Offset(word.place))?;
        (prepared.id() == word.id).then_some(*prepared)
    }

    /// Applies a record.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), Contradiction> {
        let applied = match &record.fact {
            Fact::Created { account, home } => {
                self.create(record, account, *home);
                Some(())
            }
            Fact::Moved(movement) => self.movement(record, movement),
            Fact::Prepared(prepared) => self.prepare(record, prepared),
            Fact::Arrived(arrived) => self.arrive(record, arrived),
            Fact::Ended { word, may_be_known: true } if self.ended_by(word).is_none() => Some(()),
            Fact::Ended { word, .. } => self.end(record, word),
            Fact::Closed(close) => self.account(close.account_id.0).map(|account| {
                account.closed = !close.flags.contains(CloseFlags::REOPEN);
                account.version += 1;
            }),
            Fact::Mail
            | Fact::Known
            | Fact::Guarded(_)
            | Fact::Named(_)
            | Fact::Described(_)
            | Fact::Opaque { .. }
            | Fact::Refused(_) => Some(()),
        };
        applied.ok_or(Contradiction(record.offset))
    }

    fn create(&mut self, record: &Record<'_>, account: &Account, home: Option<PartitionId>) {
        self.account_places.insert(account.id.0, self.accounts.len());
        let closed = account.flags.contains(AccountFlags::CLOSED);
        self.accounts.push(KnownAccount {
            offset: record.offset,
            time: record.time,
            created: *account,
            home,
            state: AccountState { closed, ..AccountState::default() },
        });
    }

    /// The first record that needs an in-transit account creates it.
    fn in_transit(&mut self, record: &Record<'_>, account: Option<&Account>) {
        let new = account.filter(|account| !self.account_places.contains_key(&account.id.0));
        if let Some(account) = new {
            self.create(record, account, None);
        }
    }

    fn prepare(&mut self, record: &Record<'_>, prepared: &Prepared) -> Option<()> {
        self.in_transit(record, prepared.in_transit().as_ref());
        self.under_way.insert(record.offset, *prepared);
        let Some((debit, credit)) = prepared.parties().filter(|_| !prepared.ends()) else {
            return Some(()); // its reservation stands, or it is another partition's
        };
        let reserved = prepared.amount.0;
        self.change(debit, credit, Effect { reserved, ..Effect::default() })
    }

    fn arrive(&mut self, record: &Record<'_>, arrived: &Arrived) -> Option<()> {
        if !arrived.verdict.is_ok() {
            return Some(());
        }
        self.in_transit(record, arrived.in_transit().as_ref());
        let Some((debit, credit)) = arrived.parties() else { return Some(()) };
        let Transfer { id, pending_id, .. } = arrived.transfer;
        let amount = arrived.amount.0;
        let effect = match arrived.kind {
            MovementKind::Transfer => Effect { posted: amount, ..Effect::default() },
            MovementKind::Pending => {
                self.held.insert((arrived.sides().elsewhere()?, id.0), amount);
                Effect { reserved: amount, ..Effect::default() }
            }
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                let released = self.held.remove(&(arrived.source.home, pending_id.0))?;
                let posted = if arrived.kind == MovementKind::Post { amount } else { 0 };
                Effect { reserved: 0, released, posted }
            }
        };
        self.change(debit, credit, effect)
    }

    fn end(&mut self, record: &Record<'_>, word: &Word) -> Option<()> {
        let prepared = self.ended_by(word)?;
        self.under_way.remove(&Offset(word.place));
        let posted = match word.verdict {
            Verdict::Ok => word.amount.0,
            _ => 0,
        };
        let moved = Movement::settled(&prepared, word.amount);
        let reserved = prepared.amount.0;
        if prepared.ends() {
            return if word.verdict.is_ok() { self.movement(record, &moved) } else { Some(()) };
        }
        let Some((debit, credit)) = prepared.parties() else { return Some(()) };
        match prepared.kind() {
            _ if prepared.is_gathering() => self.given(debit, credit, reserved, posted),
            MovementKind::Pending => {
                if word.verdict.is_ok() && prepared.source.is_some() {
                    self.held.insert((prepared.across.sides().elsewhere()?, word.id.0), posted);
                } else if word.verdict.is_ok() {
                    self.reservation_places.insert(word.id.0, self.reservations.len());
                    self.reservations.push(Reservation::since(prepared.time, record, &moved));
                }
                let released = reserved.checked_sub(posted)?;
                self.change(debit, credit, Effect { reserved: 0, released, posted: 0 })
            }
            _ => self.change(debit, credit, Effect { reserved: 0, released: reserved, posted }),
        }
    }

    /// What a stripe had reserved for another one is free again, and `given` of it has left the stripe's credits.
    fn given(&mut self, stripe: u128, transit: u128, reserved: u128, given: u128) -> Option<()> {
        let giver = self.account(stripe)?;
        giver.debits_pending = giver.debits_pending.checked_sub(reserved)?;
        giver.credits_posted = giver.credits_posted.checked_sub(given)?;
        giver.version += 1;
        let transit = self.account(transit)?;
        transit.credits_pending = transit.credits_pending.checked_sub(reserved)?;
        transit.credits_posted = transit.credits_posted.checked_add(given)?;
        transit.version += 1;
        Some(())
    }

    fn account(&mut self, id: u128) -> Option<&mut AccountState> {
        let place = *self.account_places.get(&id)?;
        Some(&mut self.accounts[place].state)
    }

    fn movement(&mut self, record: &Record<'_>, movement: &Movement) -> Option<()> {
        let Movement { kind, amount, .. } = *movement;
        let Some((debit, credit)) = movement.parties() else { return Some(()) };
        let mut effect = Effect::default();
        match kind {
            MovementKind::Transfer => effect.posted = amount.0,
            MovementKind::Pending => {
                effect.reserved = amount.0;
                self.reservation_places.insert(movement.transfer.id.0, self.reservations.len());
                self.reservations.push(Reservation::of(record, movement));
            }
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                if kind == MovementKind::Post {
                    effect.posted = amount.0;
                }
                let place = *self.reservation_places.get(&movement.transfer.pending_id.0)?;
                let reservation = &mut self.reservations[place];
                effect.released = reservation.amount.0;
                let Record { offset, time, .. } = *record;
                let posted = effect.posted;
                reservation.resolution = Some(Resolution { kind, offset, time, posted });
            }
        }
        self.change(debit, credit, effect)
    }

    fn change(&mut self, debit: u128, credit: u128, effect: Effect) -> Option<()> {
        let Effect { reserved, released, posted } = effect;
        let change = |pending: &mut u128, moved: &mut u128| {
            *pending = pending.checked_add(reserved)?.checked_sub(released)?;
            *moved = moved.checked_add(posted)?;
            Some(())
        };
        let from = self.account(debit)?;
        change(&mut from.debits_pending, &mut from.debits_posted)?;
        from.version += 1;
        let to = self.account(credit)?;
        change(&mut to.credits_pending, &mut to.credits_posted)?;
        to.version += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::entry::EntryError;

    use super::*;
    use crate::across::UnderWay;
    use crate::batch::{Batch, Builder};
    use crate::copy::Rows;
    use crate::facts;
    use crate::handmade::{
        self, Decided, HOME, LAST, MIDST, PARTITIONS, account, arrivals, created, entry, handed_on,
        known, outcome, posted, prepared, reserved, transit, words,
    };
    use crate::history::Position;
    use crate::tables::{self, ACCOUNTS, RESERVATIONS, UNDER_WAY};

    /// A log, folded by the audit and by the batch that is written.
    fn fold(partition: PartitionId, log: &[Vec<Decided>]) -> (LedgerState, Batch) {
        let mut state = LedgerState::default();
        let mut builder = Builder::new(partition, PARTITIONS, Position::START, UnderWay::default());
        let mut offset = 0;
        for decided in log {
            let (header, body) = entry(partition, offset, decided);
            builder.add(&header, &body).unwrap();
            facts::for_each(&header, &body, PARTITIONS, |record| {
                state.apply(&record).map_err(|_| EntryError::Body)
            })
            .unwrap();
            offset = header.next_offset().0;
        }
        (state, builder.seal().unwrap())
    }

    /// What both say is the same. Returns the balances of an account, and how often it has changed.
    fn agree(
        partition: PartitionId,
        state: &LedgerState,
        batch: &Batch,
    ) -> impl Fn(u128) -> ([u128; 4], u64) {
        let (mut accounts, mut reservations) = (Rows::default(), Rows::default());
        let mut under_way = Rows::default();
        for known in state.accounts() {
            let (offset, time) = (known.offset, known.time);
            let KnownAccount { created, home, state, .. } = known;
            tables::put_account(&mut accounts, partition, offset, time, created, *home, state);
        }
        state.reservations().iter().for_each(|one| one.put(&mut reservations, partition));
        state.under_way().for_each(|one| tables::put_under_way(&mut under_way, partition, one));
        for (table, rows) in
            [(ACCOUNTS, accounts), (RESERVATIONS, reservations), (UNDER_WAY, under_way)]
        {
            let found = batch.copies.iter().find(|(found, _)| *found == table);
            let found = found.map_or(&[][..], |(_, bytes)| bytes);
            assert_eq!(found, rows.bytes(), "{} of partition {partition}", table.name);
        }
        let accounts: HashMap<u128, AccountState> =
            state.accounts().iter().map(|known| (known.created.id.0, known.state)).collect();
        move |id| {
            let AccountState { debits_pending, debits_posted, version, .. } = accounts[&id];
            let AccountState { credits_pending, credits_posted, .. } = accounts[&id];
            ([debits_pending, debits_posted, credits_pending, credits_posted], version)
        }
    }

    /// Tables that a batch has rows for.
    fn tables(batch: &Batch) -> Vec<&'static str> {
        batch.copies.iter().map(|(table, _)| table.name).collect()
    }

    #[test]
    fn in_the_midst_of_a_chain_its_part_is_reserved_until_the_word() {
        let mine = account(MIDST, 1).0;
        let [home, last] = [transit(HOME), transit(LAST)].map(|id| id.0);
        let mut log = vec![created(MIDST), arrivals(HOME, 40, Verdict::InDoubt, None)];
        let (state, batch) = fold(MIDST, &log);
        let of = agree(MIDST, &state, &batch);
        assert_eq!(tables(&batch), ["accounts", "under_way"]);
        assert_eq!((state.under_way().len(), batch.rows), (5, 4 + 5));
        assert_eq!(of(mine), ([20, 0, 35, 0], 3));
        assert_eq!((of(home), of(last)), (([35, 0, 0, 0], 2), ([0, 0, 20, 0], 1)));

        log.push(words(MIDST, 3, None));
        let (state, batch) = fold(MIDST, &log);
        let of = agree(MIDST, &state, &batch);
        assert_eq!(tables(&batch), ["accounts", "arrivals"]);
        assert_eq!((state.under_way().len(), batch.rows), (0, 4 + 5));
        assert_eq!(of(mine), ([0, 20, 5, 30], 6), "the reservation is open");
        assert_eq!((of(home), of(last)), (([5, 30, 0, 0], 4), ([0, 0, 0, 20], 2)));

        log.push(known(9));
        log.push(posted(60));
        let (state, batch) = fold(MIDST, &log);
        let of = agree(MIDST, &state, &batch);
        assert_eq!((of(mine), of(home)), (([0, 20, 0, 33], 7), ([0, 33, 0, 0], 5)));
    }

    #[test]
    fn in_the_midst_of_a_chain_a_refusal_releases_its_part() {
        let refused = words(MIDST, 3, Some(Verdict::GuardBalanceTooLow));
        let log = [created(MIDST), arrivals(HOME, 40, Verdict::InDoubt, None), refused];
        let (state, batch) = fold(MIDST, &log);
        let of = agree(MIDST, &state, &batch);
        assert_eq!(tables(&batch), ["accounts", "arrivals"]);
        assert_eq!(of(account(MIDST, 1).0), ([0; 4], 6));
        assert_eq!(of(transit(HOME).0), ([0; 4], 4));
    }

    #[test]
    fn stripes_give_credits_and_their_sums_are_what_was_paid() {
        use handmade::stripes::{fees, home, log, others};
        let [first, second] = others();
        let paid = |partition: PartitionId| 30 + u128::from(partition.0);
        // Of the stripe and its in-transit account for the other one of what was given.
        let of = |partition: PartitionId, other: PartitionId, entries| {
            let (state, batch) = fold(partition, &log(partition, entries));
            let of = agree(partition, &state, &batch);
            let homes: Vec<_> = state.accounts().iter().filter_map(|known| known.home).collect();
            let has_created = partition == home();
            assert_eq!(homes, if has_created { vec![] } else { vec![home()] });
            let transit = state.accounts().iter().any(|it| it.created.id == transit(other));
            (of(fees().0), if transit { of(handmade::transit(other).0) } else { ([0; 4], 0) })
        };
        let (gives, takes) = (of(first, second, 1), of(second, first, 1));
        assert_eq!(gives, (([25, 0, 0, paid(first)], 2), ([0, 0, 25, 0], 1)), "reserved");
        assert_eq!(takes, (([0, 0, 0, paid(second) + 25], 2), ([0, 25, 0, 0], 1)), "arrived");
        let gives = of(first, second, 2);
        assert_eq!(gives, (([0, 0, 0, paid(first) - 24], 4), ([0, 0, 0, 25], 2)), "settled");
        let refused = of(home(), first, 1);
        assert_eq!(refused, (([5, 0, 0, paid(home())], 2), ([0, 0, 5, 0], 1)));
        let refused = of(home(), first, 2);
        assert_eq!(refused, (([0, 0, 0, paid(home())], 3), ([0; 4], 2)), "released");
        let all = [of(home(), first, 4), of(first, second, 4), of(second, first, 4)];
        let sum = |place: usize| all.iter().map(|(stripe, _)| stripe.0[place]).sum::<u128>();
        assert_eq!([0, 1, 2, 3].map(sum), [0, 20, 0, 30 + 31 + 32 + 1 + 2]);
        let closed = (0..PARTITIONS).map(PartitionId).all(|partition| {
            let (state, _) = fold(partition, &log(partition, 4));
            state.accounts().iter().filter(|it| it.state.closed).count() == 1
        });
        assert!(closed, "the stripe on each partition");
    }

    #[test]
    fn a_gathering_has_no_id_in_tables() {
        use handmade::stripes::{home, log, others};
        let [first, second] = others();
        let of = |partition, entries, table| {
            let (_, batch) = fold(partition, &log(partition, entries));
            let found = batch.copies.into_iter().find(|(found, _)| *found == table);
            found.map(|(_, rows)| rows).unwrap()
        };
        // The number of fields, and the length of the first one: that of null.
        let null = |columns: usize| [vec![0, columns as u8], vec![255; 4]].concat();
        for (partition, entries, table) in [
            (first, 1, UNDER_WAY),
            (home(), 2, tables::REFUSED_EVENTS),
            (second, 1, tables::ARRIVALS),
        ] {
            let rows = of(partition, entries, table);
            assert!(rows.starts_with(&null(table.columns.len())), "{}", table.name);
        }
        let rows = of(first, 2, tables::TRANSFERS);
        let null = null(tables::TRANSFERS.columns.len());
        assert!(!rows.starts_with(&null), "what was paid has one");
        assert_eq!(rows.windows(null.len()).filter(|bytes| *bytes == null).count(), 1);
    }

    #[test]
    fn home_and_the_last_of_a_chain_have_their_parts() {
        let mut log = vec![created(HOME), reserved(), prepared()];
        let [mine, other] = [1, 2].map(|number| account(HOME, number).0);
        let (state, batch) = fold(HOME, &log);
        let of = agree(HOME, &state, &batch);
        assert_eq!((of(mine), of(other)), (([42, 0, 10, 0], 4), ([0, 0, 7, 0], 1)));
        log.push(handed_on(3));
        let (state, batch) = fold(HOME, &log);
        let of = agree(HOME, &state, &batch);
        assert_eq!(state.under_way().len(), 5, "handed on, and still under way");
        assert_eq!((of(mine), of(other)), (([42, 0, 10, 0], 4), ([0, 0, 7, 0], 1)));
        log.push(outcome(10, 3));
        let (state, batch) = fold(HOME, &log);
        let of = agree(HOME, &state, &batch);
        assert_eq!((of(mine), of(other)), (([5, 30, 0, 10], 8), ([0, 0, 0, 0], 2)));
        assert_eq!(
            (of(transit(MIDST).0), of(transit(LAST).0)),
            (([0, 0, 5, 30], 4), ([0, 10, 0, 0], 2))
        );
        assert_eq!(tables(&batch), ["accounts", "transfers", "reservations"]);
        let log = [created(LAST), arrivals(MIDST, 3, Verdict::Ok, None)];
        let (state, batch) = fold(LAST, &log);
        let of = agree(LAST, &state, &batch);
        assert_eq!(of(account(LAST, 1).0), ([0, 10, 0, 20], 2));
        assert_eq!(
            (of(transit(MIDST).0), of(transit(HOME).0)),
            (([0, 20, 0, 0], 1), ([0, 0, 0, 10], 1))
        );
        assert_eq!(tables(&batch), ["accounts", "account_events", "arrivals"]);
    }
}
