//! Accounts and reservations at the end of the log, folded in memory record by record. Shares no
//! code with the fold of batches, so that the audit is independent of it.

use std::collections::HashMap;

use walengine_net::model::{Account, AccountFlags, CloseFlags, Offset, Timestamp};

use crate::facts::{Fact, Movement, MovementKind, Record};
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

/// All accounts and reservations of a partition, in order of offset.
#[derive(Debug, Default)]
pub struct LedgerState {
    accounts: Vec<KnownAccount>,
    account_places: HashMap<u128, usize>,
    reservations: Vec<Reservation>,
    reservation_places: HashMap<u128, usize>,
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

    /// Applies a record.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), Contradiction> {
        let applied = match &record.fact {
            Fact::Created(account) => {
                self.account_places.insert(account.id.0, self.accounts.len());
                let closed = account.flags.contains(AccountFlags::CLOSED);
                self.accounts.push(KnownAccount {
                    offset: record.offset,
                    time: record.time,
                    created: *account,
                    state: AccountState { closed, ..AccountState::default() },
                });
                Some(())
            }
            Fact::Moved(movement) => self.movement(record, movement),
            Fact::Closed(close) => self.account(close.account_id.0).map(|account| {
                account.closed = !close.flags.contains(CloseFlags::REOPEN);
                account.version += 1;
            }),
            Fact::Guarded(_) | Fact::Opaque { .. } | Fact::Refused(_) => Some(()),
        };
        applied.ok_or(Contradiction(record.offset))
    }

    fn account(&mut self, id: u128) -> Option<&mut AccountState> {
        let place = *self.account_places.get(&id)?;
        Some(&mut self.accounts[place].state)
    }

    fn movement(&mut self, record: &Record<'_>, movement: &Movement) -> Option<()> {
        let Movement { kind, debit, credit, amount, .. } = *movement;
        let (mut reserve, mut release, mut posted) = (0, 0, 0);
        match kind {
            MovementKind::Transfer => posted = amount.0,
            MovementKind::Pending => {
                reserve = amount.0;
                self.reservation_places.insert(movement.transfer.id.0, self.reservations.len());
                self.reservations.push(Reservation::of(record, movement));
            }
            MovementKind::Post | MovementKind::Void | MovementKind::Expire => {
                if kind == MovementKind::Post {
                    posted = amount.0;
                }
                let place = *self.reservation_places.get(&movement.transfer.pending_id.0)?;
                let reservation = &mut self.reservations[place];
                release = reservation.amount.0;
                let Record { offset, time, .. } = *record;
                reservation.resolution = Some(Resolution { kind, offset, time, posted });
            }
        }
        let change = |pending: &mut u128, moved: &mut u128| {
            *pending = pending.checked_add(reserve)?.checked_sub(release)?;
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
