//! Events and their 128-byte form, the same on the wire, in the log and in memory.
//!
//! All kinds share the place of `id` (0), `ledger` (112), `code` (116), `flags` (118) and
//! `timestamp` (120), little-endian. Bits 12–15 of `flags` are the kind, so that a batch is an
//! array of equal cells. FORMAT.md, section 3, has the tables.

use num_enum::TryFromPrimitive;

use super::ids::{AccountId, Amount, Code, EventId, LedgerId, Offset, Timestamp};

/// Size of every event in bytes.
pub const EVENT_BYTES: usize = 128;
/// An event as it travels and as it is stored.
pub type EventBytes = [u8; EVENT_BYTES];
/// Size of a [`Resolved`] in bytes.
pub const RESOLVED_BYTES: usize = 64;
/// A [`Resolved`] as it travels and as it is stored.
pub type ResolvedBytes = [u8; RESOLVED_BYTES];

const KIND_SHIFT: u32 = 12;
const FLAGS_MASK: u16 = (1 << KIND_SHIFT) - 1;
/// Flag of every kind of event: this one and the next succeed or fail together.
pub const FLAG_LINKED: u16 = 1;

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum EventKind {
    /// Move money, reserve it, or resolve a reservation.
    Transfer = 0,
    /// Create an account.
    Account = 1,
    /// Condition on an account, in a linked chain.
    Guard = 2,
    /// A pending transfer's time is over. Written by the leader only.
    Expire = 3,
    /// Close or reopen an account.
    Close = 4,
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u16);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self(1 << $bit);)*
            /// Every flag that this kind of event has.
            pub const ALL: Self = Self($((1 << $bit))|*);
            /// Names of the flags that are set, in order of bit.
            pub fn names(self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.contains(Self::$flag) { names.push(stringify!($flag)); })*
                names
            }
            /// All flags of `other` are set here.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// At least one flag of `other` is set here.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
            /// These flags without those of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }
    };
}

flags! {
    /// Flags of an account.
    AccountFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// `debits_pending + debits_posted <= credits_posted`, as of a customer's deposit.
        DEBITS_MUST_NOT_EXCEED_CREDITS = 1,
        /// `credits_pending + credits_posted <= debits_posted`, as of a cash desk.
        CREDITS_MUST_NOT_EXCEED_DEBITS = 2,
        /// Takes no new transfers; reservations on it can only be voided or expire.
        CLOSED = 3,
    }
}
flags! {
    /// Flags of a transfer.
    TransferFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// Reserves the amount until it is posted, voided, or the timeout is over.
        PENDING = 1,
        /// Posts the pending transfer `pending_id`, whole (amount 0) or in part.
        POST_PENDING = 2,
        /// Voids the pending transfer `pending_id`.
        VOID_PENDING = 3,
        /// The amount is an upper limit: moves at most what the debit account's limit leaves.
        BALANCING_DEBIT = 4,
        /// The amount is an upper limit: moves at most what the credit account's limit leaves.
        BALANCING_CREDIT = 5,
    }
}
flags! {
    /// Conditions of a guard; all that are set must hold.
    GuardFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// `account.version == version`.
        VERSION = 1,
        /// `credits_posted - debits_posted - debits_pending >= available`.
        AVAILABLE_TO_DEBIT = 2,
        /// `debits_posted - credits_posted - credits_pending >= available`.
        AVAILABLE_TO_CREDIT = 3,
    }
}
flags! {
    /// Flags of a close.
    CloseFlags {
        /// Succeeds or fails together with the next event of the batch.
        LINKED = 0,
        /// Reopens the account instead of closing it.
        REOPEN = 1,
    }
}

/// An account: what a creation asks for (balances, version and timestamp zero) and its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Name; the upper 32 bits are the book.
    pub id: AccountId,
    /// Reserved by pending transfers from this account.
    pub debits_pending: Amount,
    /// Moved out of this account.
    pub debits_posted: Amount,
    /// Reserved by pending transfers to this account.
    pub credits_pending: Amount,
    /// Moved into this account.
    pub credits_posted: Amount,
    /// The user's own.
    pub user_data_128: u128,
    /// The user's own.
    pub user_data_64: u64,
    /// Changes so far: 0 after creation, one more with each event that changed the account.
    pub version: u64,
    /// Asset and scale.
    pub ledger: LedgerId,
    /// Kind of account.
    pub code: Code,
    /// Limits and state.
    pub flags: AccountFlags,
    /// Log time of creation.
    pub timestamp: Timestamp,
}

/// A transfer of `amount` from `debit_account_id` to `credit_account_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// Name; one verdict for ever.
    pub id: EventId,
    /// Account that is debited. Zero when posting or voiding: as the pending transfer.
    pub debit_account_id: AccountId,
    /// Account that is credited. Zero when posting or voiding: as the pending transfer.
    pub credit_account_id: AccountId,
    /// Minor units; an upper limit when balancing; zero when posting or voiding: all of it.
    pub amount: Amount,
    /// The pending transfer to post or void.
    pub pending_id: EventId,
    /// The user's own.
    pub user_data_128: u128,
    /// The user's own.
    pub user_data_64: u64,
    /// The user's own.
    pub user_data_32: u32,
    /// How long a pending transfer reserves, in seconds; zero: until it is resolved.
    pub timeout_seconds: u32,
    /// Asset; that of both accounts. Zero when posting or voiding: as the pending transfer.
    pub ledger: LedgerId,
    /// Reason. Zero when posting or voiding: as the pending transfer.
    pub code: Code,
    /// What kind of transfer.
    pub flags: TransferFlags,
    /// Log time of the decision; zero in a request.
    pub timestamp: Timestamp,
}

/// A condition on an account. If it does not hold, its whole chain is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guard {
    /// Name; one verdict for ever.
    pub id: EventId,
    /// The account that is looked at.
    pub account_id: AccountId,
    /// Least available amount, with one of the `AVAILABLE` flags.
    pub available: Amount,
    /// Expected version, with [`GuardFlags::VERSION`].
    pub version: u64,
    /// Which conditions count.
    pub flags: GuardFlags,
}

/// The end of a pending transfer's time. Only the leader writes it; it has no id of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expire {
    /// The pending transfer whose reservation ends.
    pub pending_id: EventId,
}

/// Closes an account, or reopens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Close {
    /// Name; one verdict for ever.
    pub id: EventId,
    /// The account to close or reopen.
    pub account_id: AccountId,
    /// Close or reopen.
    pub flags: CloseFlags,
}

/// One event, decoded. An event of a kind that this version does not know has no decoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Create an account.
    Account(Account),
    /// Move money.
    Transfer(Transfer),
    /// Check a condition.
    Guard(Guard),
    /// End a reservation.
    Expire(Expire),
    /// Close or reopen an account.
    Close(Close),
}

/// What an accepted event came to, where the event alone does not say: the effective accounts and
/// amount of a post, void, expiry or balancing transfer. Stands in the entry beside the events, so
/// that a reader of the log needs no state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// Account whose debits changed.
    pub debit_account_id: AccountId,
    /// Account whose credits changed.
    pub credit_account_id: AccountId,
    /// Amount that was posted, reserved or released.
    pub amount: Amount,
    /// Which record of the entry: counted from 0.
    pub index: u32,
    /// Ledger of the accounts.
    pub ledger: LedgerId,
    /// Code of the pending transfer.
    pub code: Code,
}

/// Id of an event, without decoding the rest.
pub fn event_id(bytes: &EventBytes) -> u128 {
    u128_at(bytes, 0)
}

/// Kind of an event; `Err` holds the unknown number.
pub fn event_kind(bytes: &EventBytes) -> Result<EventKind, u8> {
    let number = (u16_at(bytes, 118) >> KIND_SHIFT) as u8;
    EventKind::try_from(number).map_err(|unknown| unknown.number)
}

/// Flags of an event without its kind.
pub fn event_flags(bytes: &EventBytes) -> u16 {
    u16_at(bytes, 118) & FLAGS_MASK
}

fn flags_of(kind: EventKind, flags: u16) -> u16 {
    (flags & FLAGS_MASK) | (u16::from(kind as u8) << KIND_SHIFT)
}

impl Account {
    /// Encodes as a creation request or as a state. Bytes 0–127 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.debits_pending.0.to_le_bytes());
        put(&mut bytes, 32, &self.debits_posted.0.to_le_bytes());
        put(&mut bytes, 48, &self.credits_pending.0.to_le_bytes());
        put(&mut bytes, 64, &self.credits_posted.0.to_le_bytes());
        put(&mut bytes, 80, &self.user_data_128.to_le_bytes());
        put(&mut bytes, 96, &self.user_data_64.to_le_bytes());
        put(&mut bytes, 104, &self.version.to_le_bytes());
        put_tail(&mut bytes, self.ledger, self.code, EventKind::Account, self.flags.0);
        put(&mut bytes, 120, &self.timestamp.0.to_le_bytes());
        bytes
    }

    /// Decodes; the kind in the flags is not looked at.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: AccountId(u128_at(bytes, 0)),
            debits_pending: Amount(u128_at(bytes, 16)),
            debits_posted: Amount(u128_at(bytes, 32)),
            credits_pending: Amount(u128_at(bytes, 48)),
            credits_posted: Amount(u128_at(bytes, 64)),
            user_data_128: u128_at(bytes, 80),
            user_data_64: u64_at(bytes, 96),
            version: u64_at(bytes, 104),
            ledger: LedgerId(u32_at(bytes, 112)),
            code: Code(u16_at(bytes, 116)),
            flags: AccountFlags(event_flags(bytes)),
            timestamp: Timestamp(u64_at(bytes, 120)),
        }
    }
}

impl Transfer {
    /// Encodes. Bytes 0–127 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.debit_account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.credit_account_id.0.to_le_bytes());
        put(&mut bytes, 48, &self.amount.0.to_le_bytes());
        put(&mut bytes, 64, &self.pending_id.0.to_le_bytes());
        put(&mut bytes, 80, &self.user_data_128.to_le_bytes());
        put(&mut bytes, 96, &self.user_data_64.to_le_bytes());
        put(&mut bytes, 104, &self.user_data_32.to_le_bytes());
        put(&mut bytes, 108, &self.timeout_seconds.to_le_bytes());
        put_tail(&mut bytes, self.ledger, self.code, EventKind::Transfer, self.flags.0);
        put(&mut bytes, 120, &self.timestamp.0.to_le_bytes());
        bytes
    }

    /// Decodes; the kind in the flags is not looked at.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            debit_account_id: AccountId(u128_at(bytes, 16)),
            credit_account_id: AccountId(u128_at(bytes, 32)),
            amount: Amount(u128_at(bytes, 48)),
            pending_id: EventId(u128_at(bytes, 64)),
            user_data_128: u128_at(bytes, 80),
            user_data_64: u64_at(bytes, 96),
            user_data_32: u32_at(bytes, 104),
            timeout_seconds: u32_at(bytes, 108),
            ledger: LedgerId(u32_at(bytes, 112)),
            code: Code(u16_at(bytes, 116)),
            flags: TransferFlags(event_flags(bytes)),
            timestamp: Timestamp(u64_at(bytes, 120)),
        }
    }
}

impl Guard {
    /// Encodes; bytes that a guard does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.available.0.to_le_bytes());
        put(&mut bytes, 48, &self.version.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Guard, self.flags.0);
        bytes
    }

    /// Decodes; bytes that a guard does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            available: Amount(u128_at(bytes, 32)),
            version: u64_at(bytes, 48),
            flags: GuardFlags(event_flags(bytes)),
        }
    }
}

impl Expire {
    /// Encodes; the id is zero, and so is all that an expiry does not use.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 64, &self.pending_id.0.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Expire, 0);
        bytes
    }

    /// Decodes; bytes that an expiry does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self { pending_id: EventId(u128_at(bytes, 64)) }
    }
}

impl Close {
    /// Encodes; bytes that a close does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Close, self.flags.0);
        bytes
    }

    /// Decodes; bytes that a close does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            flags: CloseFlags(event_flags(bytes)),
        }
    }
}

impl Resolved {
    /// Encodes. Bytes 0–63 as in FORMAT.md, section 3.
    pub fn to_bytes(&self) -> ResolvedBytes {
        let mut bytes = [0; RESOLVED_BYTES];
        put(&mut bytes, 0, &self.debit_account_id.0.to_le_bytes());
        put(&mut bytes, 16, &self.credit_account_id.0.to_le_bytes());
        put(&mut bytes, 32, &self.amount.0.to_le_bytes());
        put(&mut bytes, 48, &self.index.to_le_bytes());
        put(&mut bytes, 52, &self.ledger.0.to_le_bytes());
        put(&mut bytes, 56, &self.code.0.to_le_bytes());
        bytes
    }

    /// Decodes; the last six bytes are ignored.
    pub fn from_bytes(bytes: &ResolvedBytes) -> Self {
        Self {
            debit_account_id: AccountId(u128_at(bytes, 0)),
            credit_account_id: AccountId(u128_at(bytes, 16)),
            amount: Amount(u128_at(bytes, 32)),
            index: u32_at(bytes, 48),
            ledger: LedgerId(u32_at(bytes, 52)),
            code: Code(u16_at(bytes, 56)),
        }
    }
}

impl Event {
    /// Encodes any kind of event.
    pub fn to_bytes(&self) -> EventBytes {
        match self {
            Self::Account(event) => event.to_bytes(),
            Self::Transfer(event) => event.to_bytes(),
            Self::Guard(event) => event.to_bytes(),
            Self::Expire(event) => event.to_bytes(),
            Self::Close(event) => event.to_bytes(),
        }
    }

    /// Decodes; `Err` holds the number of an unknown kind.
    pub fn from_bytes(bytes: &EventBytes) -> Result<Self, u8> {
        Ok(match event_kind(bytes)? {
            EventKind::Account => Self::Account(Account::from_bytes(bytes)),
            EventKind::Transfer => Self::Transfer(Transfer::from_bytes(bytes)),
            EventKind::Guard => Self::Guard(Guard::from_bytes(bytes)),
            EventKind::Expire => Self::Expire(Expire::from_bytes(bytes)),
            EventKind::Close => Self::Close(Close::from_bytes(bytes)),
        })
    }
}

/// Where an event's record stands, with what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The verdict.
    pub verdict: super::Verdict,
    /// Its record; `None` when malformed, which is not logged.
    pub offset: Option<Offset>,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn put_tail(bytes: &mut EventBytes, ledger: LedgerId, code: Code, kind: EventKind, flags: u16) {
    put(bytes, 112, &ledger.0.to_le_bytes());
    put(bytes, 116, &code.0.to_le_bytes());
    put(bytes, 118, &flags_of(kind, flags).to_le_bytes());
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_bytes() {
        let account = Account {
            id: AccountId(1),
            debits_pending: Amount(2),
            debits_posted: Amount(3),
            credits_pending: Amount(4),
            credits_posted: Amount(5),
            user_data_128: 6,
            user_data_64: 7,
            version: 8,
            ledger: LedgerId(9),
            code: Code(10),
            flags: AccountFlags::CLOSED,
            timestamp: Timestamp(11),
        };
        let transfer = Transfer {
            id: EventId(u128::MAX),
            debit_account_id: AccountId(2),
            credit_account_id: AccountId(3),
            amount: Amount(4),
            pending_id: EventId(5),
            user_data_128: 6,
            user_data_64: 7,
            user_data_32: 8,
            timeout_seconds: 9,
            ledger: LedgerId(10),
            code: Code(11),
            flags: TransferFlags::ALL,
            timestamp: Timestamp(12),
        };
        let guard = Guard {
            id: EventId(1),
            account_id: AccountId(2),
            available: Amount(3),
            version: 4,
            flags: GuardFlags::ALL,
        };
        let close = Close { id: EventId(1), account_id: AccountId(2), flags: CloseFlags::REOPEN };
        for event in [
            Event::Account(account),
            Event::Transfer(transfer),
            Event::Guard(guard),
            Event::Expire(Expire { pending_id: EventId(7) }),
            Event::Close(close),
        ] {
            assert_eq!(Event::from_bytes(&event.to_bytes()), Ok(event));
        }
        let resolved = Resolved {
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(3),
            index: 4,
            ledger: LedgerId(5),
            code: Code(6),
        };
        assert_eq!(Resolved::from_bytes(&resolved.to_bytes()), resolved);
    }

    #[test]
    fn unknown_kind_is_told() {
        let mut bytes = Transfer::default().to_bytes();
        bytes[119] = 0xf0;
        assert_eq!(Event::from_bytes(&bytes), Err(15));
    }
}
