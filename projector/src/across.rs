//! Transfers between partitions: what their home has prepared, and what has arrived from other homes.
//! ACROSS.md in `engine/src/across` has the argument. Pure.

use std::collections::{BTreeMap, HashSet};

use walengine_net::model::{
    Account, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset, PartitionId,
    Timestamp, Transfer, Verdict,
};

use crate::movement::MovementKind;

/// That a transfer was prepared for an account of another partition, which had the last word; or that the end of a
/// reservation was sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Across {
    /// The other partition.
    pub other: PartitionId,
    /// Offset of the record that prepared it: its place in what goes to the other partition.
    pub prepared: Offset,
    /// Which of its accounts live here, if it is of a chain over two partitions. Else the debit account does.
    pub sides: Option<Sides>,
}

/// Which accounts of a transfer in a chain over two partitions live at one of them. The others are at the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The debit account.
    pub debit: bool,
    /// The credit account.
    pub credit: bool,
}

impl Sides {
    /// As column `sides` has them.
    pub fn number(self) -> i16 {
        i16::from(self.debit) + 2 * i16::from(self.credit)
    }

    /// `None` if there are none of this number.
    pub fn from_number(number: i16) -> Option<Self> {
        let all = [false, true].map(|credit| [false, true].map(|debit| Self { debit, credit }));
        all.as_flattened().iter().find(|sides| sides.number() == number).copied()
    }
}

/// The debited and the credited account of a partition, given those of a transfer: instead of one that lives elsewhere
/// that of what is under way there. `None` if both live elsewhere.
fn parties(debit: u128, credit: u128, sides: Sides, in_transit: u128) -> Option<(u128, u128)> {
    let Sides { debit: has_debit, credit: has_credit } = sides;
    let here = |is_here, id| if is_here { id } else { in_transit };
    (has_debit || has_credit).then(|| (here(has_debit, debit), here(has_credit, credit)))
}

impl Across {
    /// The accounts here between which a transfer moves or reserves, given those that it names.
    pub fn parties(&self, debit: u128, credit: u128, ledger: LedgerId) -> Option<(u128, u128)> {
        let sides = self.sides.unwrap_or(Sides { debit: true, credit: false });
        parties(debit, credit, sides, AccountId::in_transit(self.other, ledger).0)
    }
}

/// A transfer, a reservation or the posting of one that is prepared at home: the partition of the credit account has
/// the last word. All but a posting reserve the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where it is prepared, and for whom.
    pub across: Across,
    /// Log time of that record. Of a row of a table: cut to microseconds.
    pub time: Timestamp,
    /// The amount that is reserved, or to be posted.
    pub amount: Amount,
    /// Account of its home. That and what follows may not stand in the event.
    pub debit: AccountId,
    /// Account of the other partition.
    pub credit: AccountId,
    /// Ledger of both.
    pub ledger: LedgerId,
    /// The user's code.
    pub code: Code,
    /// The event as it was sent.
    pub body: EventBytes,
}

impl Prepared {
    /// The transfer as it was sent.
    pub fn transfer(&self) -> Transfer {
        Transfer::from_bytes(&self.body)
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.transfer().id
    }

    /// Transfer, reservation or end of one.
    pub fn kind(&self) -> MovementKind {
        MovementKind::of(&self.transfer())
    }

    /// The accounts of its home between which it moves or reserves.
    pub fn parties(&self) -> Option<(u128, u128)> {
        self.across.parties(self.debit.0, self.credit.0, self.ledger)
    }

    /// What its home has under way to the other partition, if it touches that.
    pub fn in_transit(&self) -> Option<Account> {
        let transit = Account::in_transit(self.across.other, self.ledger);
        let (debit, credit) = self.parties()?;
        [debit, credit].contains(&transit.id.0).then_some(transit)
    }

    /// The end of a reservation: it reserves nothing itself.
    pub fn ends(&self) -> bool {
        matches!(self.kind(), MovementKind::Post | MovementKind::Void)
    }
}

/// What another partition has prepared, and what was decided here, which is its word; or the end of a reservation,
/// voided or expired, without an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The partition that has prepared it.
    pub home: PartitionId,
    /// Offset of its record there.
    pub place: Offset,
    /// Its kind; an expiry is a voiding.
    pub kind: MovementKind,
    /// As it was sent, but for the amount, which home may have reduced.
    pub transfer: Transfer,
    /// Accepted or refused.
    pub verdict: Verdict,
    /// What was moved, reserved or, by a voiding, released; 0 if it was refused.
    pub amount: Amount,
    /// What the reservation held that it has ended; else 0.
    pub released: Amount,
    /// Which of its accounts live here, if it is of a chain. Else the credit account does.
    pub sides: Option<Sides>,
}

impl Arrived {
    /// The accounts of this partition between which it moves or reserves.
    pub fn parties(&self) -> Option<(u128, u128)> {
        let Transfer { debit_account_id: debit, credit_account_id: credit, .. } = self.transfer;
        let sides = self.sides.unwrap_or(Sides { debit: false, credit: true });
        parties(debit.0, credit.0, sides, self.transit().id.0)
    }

    fn transit(&self) -> Account {
        Account::in_transit(self.home, self.transfer.ledger)
    }

    /// What this partition has under way from its home, if it touches that.
    pub fn in_transit(&self) -> Option<Account> {
        let transit = self.transit();
        let (debit, credit) = self.parties()?;
        [debit, credit].contains(&transit.id.0).then_some(transit)
    }
}

/// What records of a partition need of earlier ones.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    /// Prepared here and without a word, by offset. The engine bounds their number.
    pub prepared: BTreeMap<Offset, Prepared>,
    /// The in-transit accounts that exist. No record of their own creates them.
    pub accounts: HashSet<u128>,
}
