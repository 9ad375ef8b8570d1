//! Reservations, and what is in doubt, as the model has them.

use walengine_net::model::{
    AccountId, Amount, LedgerId, PartitionId, Resolved, Transfer, TransferFlags,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Open,
    Posted,
    Voided,
    Expired,
}

#[derive(Clone, Debug)]
pub struct Reservation {
    pub transfer: Transfer,
    pub amount: u128,
    pub expires_at: Option<u64>,
    pub offset: u64,
    pub fate: Fate,
    /// Where its credit account lives, if elsewhere.
    pub other: Option<PartitionId>,
    /// It is not known yet whether it is one, or whether it is posted.
    pub in_doubt: bool,
}

/// Something on which another partition has the last word.
#[derive(Clone)]
pub struct Doubt {
    pub transfer: Transfer,
    pub amount: u128,
    pub offset: u64,
    pub other: PartitionId,
    pub expires_at: Option<u64>,
    /// The accounts here between which it reserves, if it does.
    pub sides: Option<(AccountId, AccountId)>,
    /// Offset of the first event of its chain.
    pub chain: Option<u64>,
}

pub fn in_transit(other: PartitionId, ledger: LedgerId) -> AccountId {
    AccountId(u128::from(u32::MAX) << 96 | u128::from(other.0) << 32 | u128::from(ledger.0))
}

impl Reservation {
    /// The account here that it reserves for.
    pub fn credit_side(&self) -> AccountId {
        let Transfer { credit_account_id, ledger, .. } = self.transfer;
        self.other.map_or(credit_account_id, |other| in_transit(other, ledger))
    }
}

impl Doubt {
    pub fn is_reservation(&self) -> bool {
        self.transfer.flags.contains(TransferFlags::PENDING)
    }

    pub fn into_reservation(self, in_doubt: bool) -> Reservation {
        let Self { transfer, amount, offset, expires_at, sides, .. } = self;
        let transit = sides.filter(|(_, credit)| *credit != transfer.credit_account_id);
        let other = transit.map(|(_, credit)| PartitionId((credit.0 >> 32) as u16));
        let fate = Fate::Open;
        Reservation { transfer, amount, expires_at, offset, fate, other, in_doubt }
    }
}

pub fn resolution(transfer: &Transfer, credit: AccountId, amount: u128, index: u32) -> Resolved {
    Resolved {
        debit_account_id: transfer.debit_account_id,
        credit_account_id: credit,
        amount: Amount(amount),
        index,
        ledger: transfer.ledger,
        code: transfer.code,
    }
}

pub fn expires_at(transfer: &Transfer, timestamp: u64) -> Option<u64> {
    let timeout = u64::from(transfer.timeout_seconds) * 1_000_000_000;
    (timeout != 0).then(|| timestamp + timeout)
}
