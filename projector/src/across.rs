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

    /// Transfer, reservation or posting.
    pub fn kind(&self) -> MovementKind {
        MovementKind::of(&self.transfer())
    }

    /// The account of its home that it is reserved for.
    pub fn in_transit(&self) -> Account {
        Account::in_transit(self.across.other, self.ledger)
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
}

impl Arrived {
    /// The account of this partition that it comes from.
    pub fn in_transit(&self) -> Account {
        Account::in_transit(self.home, self.transfer.ledger)
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
