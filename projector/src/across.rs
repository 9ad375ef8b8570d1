//! Transfers between partitions: what their home has prepared, and what has arrived from other homes.
//! ACROSS.md in `engine/src/across` has the argument. Pure.

use std::collections::{BTreeMap, HashSet};

use walengine_net::model::{
    Account, Amount, EventBytes, EventId, Offset, PartitionId, Timestamp, Transfer, Verdict,
};

/// That a transfer was prepared for an account of another partition, which had the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Across {
    /// The other partition.
    pub other: PartitionId,
    /// Offset of the record that prepared it.
    pub prepared: Offset,
}

/// A transfer that is prepared at home: reserved, until the partition of its credit account has the
/// last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where it is prepared, and for whom.
    pub across: Across,
    /// Log time of that record. Of a row of a table: cut to microseconds.
    pub time: Timestamp,
    /// The reserved amount.
    pub amount: Amount,
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

    /// The account of its home that it is reserved for.
    pub fn in_transit(&self) -> Account {
        Account::in_transit(self.across.other, self.transfer().ledger)
    }
}

/// A transfer that another partition has prepared, and what was decided here, which is its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The partition that has prepared it.
    pub home: PartitionId,
    /// Offset of its record there.
    pub place: Offset,
    /// As it was sent, but for the amount, which home may have reduced.
    pub transfer: Transfer,
    /// Accepted or refused.
    pub verdict: Verdict,
    /// What was moved; 0 if it was refused.
    pub amount: Amount,
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
