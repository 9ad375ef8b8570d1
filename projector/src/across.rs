//! Transfers between partitions: what a partition has prepared, as their home or as a stop of their chain, and what has
//! arrived from others. ACROSS.md in `engine/src/across` has the argument. Pure.

use std::collections::{BTreeMap, HashSet};

use walengine_net::model::{
    Account, AccountId, Amount, Code, EventBytes, EventId, LedgerId, Offset, PartitionId,
    Timestamp, Transfer, TransferFlags, Verdict, Word,
};
use walengine_net::partition::of_sides;

use crate::movement::MovementKind;

/// That a transfer was prepared and handed on to another partition, which gave the word; or that the end of a reservation
/// was sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Across {
    /// The other partition.
    pub other: PartitionId,
    /// Offset of the record that prepared it: its place in what goes to the other partition.
    pub prepared: Offset,
    /// Which of its accounts live here, if it is of a chain over several partitions. Else the debit account does.
    pub sides: Option<Sides>,
}

/// Whether a stripe of an account gives credits to another one by it. Nobody has sent it, and nothing moves for people.
pub fn is_gathering(transfer: &Transfer) -> bool {
    transfer.flags.contains(TransferFlags::GATHERING)
}

/// Which accounts of a transfer live in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// None. It changes nothing here.
    Neither,
    /// The debit account. The credit account lives in this partition.
    Debit(PartitionId),
    /// The credit account. The debit account lives in this partition.
    Credit(PartitionId),
    /// All.
    Both,
}

impl Sides {
    /// Of a transfer that names both accounts, seen from one of so many `partitions`.
    pub fn of(transfer: &Transfer, here: PartitionId, partitions: u16) -> Self {
        let [debit, credit] = of_sides(transfer, partitions);
        match (debit == here, credit == here) {
            (false, false) => Self::Neither,
            (true, false) => Self::Debit(credit),
            (false, true) => Self::Credit(debit),
            (true, true) => Self::Both,
        }
    }

    /// As column `sides` has them.
    pub fn number(self) -> i16 {
        match self {
            Self::Neither => 0,
            Self::Debit(_) => 1,
            Self::Credit(_) => 2,
            Self::Both => 3,
        }
    }

    /// `None` if there are none of this number. The account that lives elsewhere, if only one does, lives in `other`.
    pub fn from_number(number: i16, other: PartitionId) -> Option<Self> {
        let all = [Self::Neither, Self::Debit(other), Self::Credit(other), Self::Both];
        all.into_iter().find(|sides| sides.number() == number)
    }

    /// The partition of the account that lives elsewhere, if only one does.
    pub fn elsewhere(self) -> Option<PartitionId> {
        match self {
            Self::Debit(other) | Self::Credit(other) => Some(other),
            Self::Neither | Self::Both => None,
        }
    }

    /// The debited and the credited account here, given those of the transfer: instead of one that lives elsewhere that
    /// of what is under way there. `None` if both live elsewhere.
    fn parties(self, debit: u128, credit: u128, ledger: LedgerId) -> Option<(u128, u128)> {
        let in_transit = |other| AccountId::in_transit(other, ledger).0;
        match self {
            Self::Neither => None,
            Self::Debit(other) => Some((debit, in_transit(other))),
            Self::Credit(other) => Some((in_transit(other), credit)),
            Self::Both => Some((debit, credit)),
        }
    }

    /// What is under way from or to the account that lives elsewhere.
    fn in_transit(self, ledger: LedgerId) -> Option<Account> {
        self.elsewhere().map(|other| Account::in_transit(other, ledger))
    }
}

impl Across {
    /// Which accounts live here.
    pub fn sides(&self) -> Sides {
        self.sides.unwrap_or(Sides::Debit(self.other))
    }

    /// The accounts here between which a transfer moves or reserves, given those that it names.
    pub fn parties(&self, debit: u128, credit: u128, ledger: LedgerId) -> Option<(u128, u128)> {
        self.sides().parties(debit, credit, ledger)
    }
}

/// Where an arrival has come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The partition that has prepared it and handed it on.
    pub home: PartitionId,
    /// Offset of its record there.
    pub place: Offset,
    /// The home of its chain, if that is yet another partition.
    pub origin: Option<PartitionId>,
}

/// A transfer, a reservation or the end of one that is prepared, at home or at a stop in the midst of a chain: another
/// partition gives the word. All but ends reserve the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where it is prepared, and for whom.
    pub across: Across,
    /// Where it has come from; `None` at its home.
    pub source: Option<Source>,
    /// Log time of that record. Of a row of a table: cut to microseconds.
    pub time: Timestamp,
    /// The amount that is reserved, or to be posted.
    pub amount: Amount,
    /// Account that it comes from. That and what follows may not stand in the event.
    pub debit: AccountId,
    /// Account that it is meant for.
    pub credit: AccountId,
    /// Ledger of both.
    pub ledger: LedgerId,
    /// The user's code.
    pub code: Code,
    /// The event as it was sent, or as it has arrived.
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

    /// The accounts here between which it moves or reserves.
    pub fn parties(&self) -> Option<(u128, u128)> {
        self.across.parties(self.debit.0, self.credit.0, self.ledger)
    }

    /// What this partition has under way to or from another one, if it touches that.
    pub fn in_transit(&self) -> Option<Account> {
        self.across.sides().in_transit(self.ledger)
    }

    /// The amount that an accepting word has moved, reserved or released: that on a voiding has none.
    pub fn settled(&self, word: Amount) -> Amount {
        if self.kind() == MovementKind::Void { self.amount } else { word }
    }

    /// What its word has made of it, if it has come from another partition.
    pub fn decided(&self, word: &Word) -> Option<Arrived> {
        let source = self.source?;
        let Across { other, prepared, sides } = self.across;
        let amount = if word.verdict.is_ok() { self.settled(word.amount) } else { Amount(0) };
        let Word { verdict, .. } = *word;
        let (kind, transfer, next) = (self.kind(), self.transfer(), Some((other, prepared)));
        let released = Amount(0);
        Some(Arrived { source, kind, transfer, verdict, amount, released, sides, next })
    }

    /// A stripe gives credits to another one.
    pub fn is_gathering(&self) -> bool {
        is_gathering(&self.transfer())
    }

    /// The end of a reservation: it reserves nothing itself.
    pub fn ends(&self) -> bool {
        matches!(self.kind(), MovementKind::Post | MovementKind::Void)
    }
}

/// What another partition has prepared, and what was decided here or, in the midst of a chain, behind it, which is its
/// word; or the end of a reservation, voided or expired, without an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where it has come from.
    pub source: Source,
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
    /// The partition that it was handed on to, which gave the word, and the offset of its arrival here; `None` if it was
    /// decided here.
    pub next: Option<(PartitionId, Offset)>,
}

impl Arrived {
    /// Which accounts live here.
    pub fn sides(&self) -> Sides {
        self.sides.unwrap_or(Sides::Credit(self.source.home))
    }

    /// The accounts of this partition between which it moves or reserves.
    pub fn parties(&self) -> Option<(u128, u128)> {
        let Transfer { debit_account_id: debit, credit_account_id: credit, ledger, .. } =
            self.transfer;
        self.sides().parties(debit.0, credit.0, ledger)
    }

    /// What this partition has under way to or from another one, if it touches that.
    pub fn in_transit(&self) -> Option<Account> {
        self.sides().in_transit(self.transfer.ledger)
    }
}

/// What records of a partition need of earlier ones.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    /// Prepared here and without a word, by offset. The engine bounds the number of each home's.
    pub prepared: BTreeMap<Offset, Prepared>,
    /// The in-transit accounts that exist. No record of their own creates them.
    pub accounts: HashSet<u128>,
}
