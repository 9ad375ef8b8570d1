//! Accounts and rows of a sample, and what they are in a ledger.

use walengine_net::model::{
    Account, AccountFlags, Amount, Book, Code, EventId, LedgerId, Transfer, TransferFlags,
};
use walengine_net::names;

/// How much of it there is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Another seed, another bank: other rows with other ids.
    pub seed: u32,
    /// Accounts of customers; each currency that is used has two of the bank's own besides.
    pub accounts: usize,
    /// Rows.
    pub transfers: u64,
}

/// What money is counted in: a ledger each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currency {
    /// Euro, in cents.
    Eur,
    /// US dollar, in cents.
    Usd,
    /// Yen, which has no smaller unit.
    Jpy,
}

/// What a row is for: the code of its transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Money that comes to the bank from elsewhere.
    Deposit = 1,
    /// From employer to employee.
    Salary = 2,
    /// From tenant to landlord.
    Rent = 3,
    /// From customer to bank.
    Fee = 4,
    /// From customer to shop.
    Card = 5,
    /// From shop to customer, of something bought.
    Refund = 6,
    /// The bank's own correction of a payment.
    Reversal = 7,
    /// Between a customer's two accounts.
    Savings = 8,
    /// Between customers.
    Gift = 9,
}

/// An account of the bank.
#[derive(Clone, Debug)]
pub struct Party {
    /// The name that its id is made of.
    pub name: String,
    /// What its money is counted in.
    pub currency: Currency,
    /// 1 for the bank's own, 2 for companies, 3 for people, 4 for savings.
    pub code: u16,
    /// Limits and state at creation. An import creates accounts without.
    pub flags: AccountFlags,
}

/// One row: a transfer between two accounts, which are places in [`Bank::accounts`](super::Bank::accounts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique but for repeats.
    pub id: u64,
    /// Where the money comes from.
    pub debit: usize,
    /// Where it goes.
    pub credit: usize,
    /// In minor units.
    pub amount: u64,
    /// The ledger.
    pub currency: Currency,
    /// The code.
    pub purpose: Purpose,
    /// The hold that a row posts or voids, or 0.
    pub pending: u64,
    /// The payment that a refund or a reversal belongs to, or 0.
    pub about: u64,
    /// When it was booked, in seconds since 1970.
    pub seconds: u64,
    /// How long a hold lasts, or 0.
    pub timeout_seconds: u32,
    /// Whether it is a hold, or posts or voids one.
    pub flags: TransferFlags,
}

impl Currency {
    /// Its letters.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Eur => "EUR",
            Self::Usd => "USD",
            Self::Jpy => "JPY",
        }
    }

    /// Its ledger: the number that ISO 4217 gives it.
    pub const fn ledger(self) -> LedgerId {
        LedgerId(match self {
            Self::Eur => 978,
            Self::Usd => 840,
            Self::Jpy => 392,
        })
    }

    /// About as much as these euro cents, in its minor units.
    pub(super) const fn of_cents(self, cents: u64) -> u64 {
        match self {
            Self::Eur | Self::Usd => cents,
            Self::Jpy => cents * 8 / 5,
        }
    }
}

impl Party {
    /// The account as it is created in a book.
    pub fn account(&self, book: Book) -> Account {
        Account {
            id: names::account_id(book, &self.name),
            ledger: self.currency.ledger(),
            code: Code(self.code),
            flags: self.flags,
            ..Account::default()
        }
    }
}

impl Row {
    /// The transfer between these accounts in a book.
    pub fn transfer(&self, book: Book, accounts: &[Party]) -> Transfer {
        Transfer {
            id: EventId(u128::from(self.id)),
            debit_account_id: names::account_id(book, &accounts[self.debit].name),
            credit_account_id: names::account_id(book, &accounts[self.credit].name),
            amount: Amount(u128::from(self.amount)),
            pending_id: EventId(u128::from(self.pending)),
            user_data_128: u128::from(self.about),
            user_data_64: self.seconds,
            timeout_seconds: self.timeout_seconds,
            ledger: self.currency.ledger(),
            code: Code(self.purpose as u16),
            flags: self.flags,
            ..Transfer::default()
        }
    }
}
