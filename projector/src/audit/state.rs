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
    /// What is reserved here of reservations of other partitions, by those and their ids.
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
            Fact::Created(account) => {
                self.create(record, account);
                Some(())
            }
            Fact::Moved(movement) => self.movement(record, movement),
            Fact::Prepared(prepared) => self.prepare(record, prepared),
            Fact::Arrived(arrived) => self.arrive(record, arrived),
            Fact::Ended(word) => self.end(record, word),
            Fact::Closed(close) => self.account(close.account_id.0).map(|account| {
                account.closed = !close.flags.contains(CloseFlags::REOPEN);
                account.version += 1;
            }),
            Fact::Mail
            | Fact::Known
            | Fact::Guarded(_)
            | Fact::Opaque { .. }
            | Fact::Refused(_) => Some(()),
        };
        applied.ok_or(Contradiction(record.offset))
    }

    fn create(&mut self, record: &Record<'_>, account: &Account) {
        self.account_places.insert(account.id.0, self.accounts.len());
        let closed = account.flags.contains(AccountFlags::CLOSED);
        self.accounts.push(KnownAccount {
            offset: record.offset,
            time: record.time,
            created: *account,
            state: AccountState { closed, ..AccountState::default() },
        });
    }

    /// The first record that needs an in-transit account creates it.
    fn in_transit(&mut self, record: &Record<'_>, account: Option<&Account>) {
        let new = account.filter(|account| !self.account_places.contains_key(&account.id.0));
        if let Some(account) = new {
            self.create(record, account);
        }
    }

    fn prepare(&mut self, record: &Record<'_>, prepared: &Prepared) -> Option<()> {
        self.in_transit(record, prepared.in_transit().as_ref());
        self.under_way.insert(record.offset, *prepared);
        let Some((debit, credit)) = prepared.parties().filter(|_| !prepared.ends()) else {
            return Some(()); // its reservation stands, or it is the other partition's
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
                self.held.insert((arrived.home, id.0), amount);
                Effect { reserved: amount, ..Effect::default() }
            }
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                let released = self.held.remove(&(arrived.home, pending_id.0))?;
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
            MovementKind::Pending => {
                if word.verdict.is_ok() {
                    self.reservation_places.insert(word.id.0, self.reservations.len());
                    self.reservations.push(Reservation::since(prepared.time, record, &moved));
                }
                let released = reserved.checked_sub(posted)?;
                self.change(debit, credit, Effect { reserved: 0, released, posted: 0 })
            }
            _ => self.change(debit, credit, Effect { reserved: 0, released: reserved, posted }),
        }
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
