//! Which accounts an event touches, and whether a caller whose rights have bounds may have it decided or
//! see it. Pure: no I/O.
//!
//! An event touches the accounts that it names; a post or void also those of the reservation that it ends,
//! named or not. The accounts of a reservation that has ended are in the log only: who needs them asks for
//! them first ([`Judged::Unknown`]). They never change, so they are remembered.

use std::collections::HashMap;

use walengine_net::message::EventState;
use walengine_net::model::{
    Account, AccountId, Close, EventBytes, EventId, EventKind, Guard, LedgerId, Name, Resolved,
    Transfer, event_kind,
};
use walengine_net::unit::resolves;

use crate::ledger::{Ledger, OpenPending};
use crate::policy::{Area, Rights};

/// Accounts that an event touches, each with the ledger that it names for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched(Vec<(AccountId, Option<LedgerId>)>);

/// What events that were decided touch, by id; `None` if that can't be told, because they are opaque
/// records, or name nothing that exists.
pub type Known = HashMap<u128, Option<Touched>>;

/// Whether an event may be decided for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Allowed,
    Forbidden,
    /// That depends on what this event touches, which stands in the log.
    Unknown(EventId),
}

fn named(transfer: &Transfer) -> impl Iterator<Item = (AccountId, Option<LedgerId>)> + use<> {
    let ledger = (transfer.ledger != LedgerId(0)).then_some(transfer.ledger);
    let sides = [transfer.debit_account_id, transfer.credit_account_id];
    sides.into_iter().filter(|id| id.0 != 0).map(move |id| (id, ledger))
}

impl Touched {
    /// By an event of the log. `Err` holds the reservation whose accounts it touches, if only the log
    /// says which these are.
    pub fn of(state: &EventState) -> Result<Self, EventId> {
        let bytes = &state.event;
        let touched = match event_kind(bytes) {
            Ok(EventKind::Account) => {
                let account = Account::from_bytes(bytes);
                vec![(account.id, Some(account.ledger))]
            }
            Ok(EventKind::Guard) => vec![(Guard::from_bytes(bytes).account_id, None)],
            Ok(EventKind::Close) => vec![(Close::from_bytes(bytes).account_id, None)],
            Ok(EventKind::Name) => vec![(Name::from_bytes(bytes).account_id, None)],
            Ok(EventKind::Transfer) => {
                let transfer = Transfer::from_bytes(bytes);
                if !resolves(&transfer) {
                    named(&transfer).collect()
                } else if state.has_resolved == 1 {
                    let done = Resolved::from_bytes(&state.resolved);
                    [done.debit_account_id, done.credit_account_id]
                        .map(|id| (id, Some(done.ledger)))
                        .to_vec()
                } else {
                    return Err(transfer.pending_id);
                }
            }
            // Has no id that could be asked for; or touches no account, and is no secret.
            Ok(
                EventKind::Describe
                | EventKind::Expire
                | EventKind::Mail
                | EventKind::Arrival
                | EventKind::GuardArrival
                | EventKind::WordArrival
                | EventKind::AccountArrival
                | EventKind::CloseArrival
                | EventKind::Word,
            )
            | Err(_) => Vec::new(),
        };
        Ok(Self(touched))
    }

    /// By a post or void in the log that was refused: what it names, and what its reservation touches.
    pub fn of_refused(state: &EventState, reservation: &Self) -> Self {
        let named = named(&Transfer::from_bytes(&state.event));
        Self(named.chain(reservation.0.iter().copied()).collect())
    }

    /// By the transfer of an open reservation.
    pub fn of_open(ledger: &Ledger, id: EventId) -> Option<Self> {
        Some(Self::of_reservation(&ledger.pending(id)?))
    }

    /// The same.
    pub fn of_reservation(open: &OpenPending) -> Self {
        let sides = [open.debit_account_id, open.credit_account_id];
        Self(sides.map(|account| (account, Some(open.ledger))).to_vec())
    }

    /// All of it is in this area.
    pub fn is_in(&self, area: &Area, ledger: &Ledger) -> bool {
        self.0.iter().all(|(account, named)| has(area, ledger, *account, *named))
    }
}

/// An account is in an area: its book is, and in that book its own ledger and the one that is named.
fn has(area: &Area, ledger: &Ledger, account: AccountId, named: Option<LedgerId>) -> bool {
    let Some(ledgers) = area.ledgers(account.book()) else { return false };
    // Of an account elsewhere, only the event can tell the ledger: what names none there may be of any.
    let is_told = named.is_some() || ledger.lives_here(account);
    ledgers.is_all()
        || is_told
            && named.is_none_or(|named| ledgers.contains(named.0))
            && ledger.account(account).is_none_or(|found| ledgers.contains(found.ledger.0))
}

/// The caller may see this account.
pub fn may_see(bounded: Option<&Rights>, account: &Account) -> bool {
    bounded.is_none_or(|rights| rights.read.has(account.id.book(), account.ledger))
}

/// What the caller lacks to look up these accounts, in words; `None` if it may read in the books of all of them.
pub fn lacks_to_read(
    bounded: Option<&Rights>,
    mut ids: impl Iterator<Item = AccountId>,
) -> Option<String> {
    let rights = bounded?;
    let unreadable = ids.find(|id| rights.read.ledgers(id.book()).is_none())?;
    Some(format!("lacks the right `read` in book {}", unreadable.book().0))
}

/// What a caller may have decided, against the state at the tail.
pub struct Judge<'a> {
    /// What the caller may do.
    pub rights: &'a Rights,
    /// The state at the tail.
    pub ledger: &'a Ledger,
    /// What events in the log touch, as far as that was asked for.
    pub known: &'a Known,
}

impl Judge<'_> {
    /// Whether an event may be decided. What is malformed in any state is for the ledger to say.
    pub fn judge(&self, bytes: &EventBytes) -> Judged {
        let Rights { write, read, .. } = self.rights;
        let in_area = |area, account, named| has(area, self.ledger, account, named);
        let may = match event_kind(bytes) {
            Ok(EventKind::Account) => {
                let account = Account::from_bytes(bytes);
                write.has(account.id.book(), account.ledger)
            }
            Ok(EventKind::Transfer) => {
                let transfer = Transfer::from_bytes(bytes);
                let may = named(&transfer).all(|(id, ledger)| in_area(write, id, ledger));
                if may && resolves(&transfer) {
                    return self.judge_reservation(transfer.pending_id);
                }
                may
            }
            Ok(EventKind::Guard) => {
                let account = Guard::from_bytes(bytes).account_id;
                in_area(write, account, None) || in_area(read, account, None)
            }
            Ok(EventKind::Close) => in_area(write, Close::from_bytes(bytes).account_id, None),
            Ok(EventKind::Name) => in_area(write, Name::from_bytes(bytes).account_id, None),
            Ok(EventKind::Describe) => write.is_everything(),
            // Malformed.
            Ok(
                EventKind::Expire
                | EventKind::Mail
                | EventKind::Arrival
                | EventKind::GuardArrival
                | EventKind::WordArrival
                | EventKind::AccountArrival
                | EventKind::CloseArrival
                | EventKind::Word,
            )
            | Err(_) => true,
        };
        if may { Judged::Allowed } else { Judged::Forbidden }
    }

    /// Whether a reservation may be ended. One that nobody has made touches nothing.
    fn judge_reservation(&self, id: EventId) -> Judged {
        let write = &self.rights.write;
        let open = Touched::of_open(self.ledger, id);
        let touched = match (&open, self.known.get(&id.0)) {
            (Some(open), _) => Some(open),
            // Of what is in doubt, the id may be in no memory: the log tells.
            (None, _) if !self.ledger.is_in_doubt(id) && self.ledger.decided(id).is_none() => {
                return Judged::Allowed;
            }
            (None, Some(known)) => known.as_ref(),
            (None, None) => return Judged::Unknown(id),
        };
        let may = touched.map_or(write.is_everything(), |all| all.is_in(write, self.ledger));
        if may { Judged::Allowed } else { Judged::Forbidden }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{Amount, GuardFlags, PartitionId};
    use walengine_net::partition;

    use super::*;
    use crate::policy::Ranges;

    /// A guard names no ledger, and of one elsewhere nothing is known here.
    #[test]
    fn an_account_elsewhere_is_guarded_by_who_may_see_all_ledgers_of_its_book() {
        let ledger = Ledger::new(PartitionId(0), 2);
        let book_of = |wanted| {
            let lives_there = |id: &AccountId| partition::of_account(*id, 2).0 == wanted;
            (1u128..100).map(|book| AccountId(book << 96 | 7)).find(lives_there).unwrap()
        };
        let guard = |account_id| {
            let flags = GuardFlags::AVAILABLE_TO_DEBIT;
            Guard { id: EventId(1), account_id, available: Amount(9), version: 0, flags }.to_bytes()
        };
        let judge = |ledgers: &Ranges, account| {
            let area = Area::of([(&Ranges::all(), ledgers)].into_iter());
            let rights = Rights { write: area, ..Rights::default() };
            let known = Known::default();
            Judge { rights: &rights, ledger: &ledger, known: &known }.judge(&guard(account))
        };
        let some = Ranges::of(vec![(978, 978)]);
        assert_eq!(judge(&some, book_of(0)), Judged::Allowed, "there is no such account");
        assert_eq!(judge(&some, book_of(1)), Judged::Forbidden);
        assert_eq!(judge(&Ranges::all(), book_of(1)), Judged::Allowed);
    }
}
