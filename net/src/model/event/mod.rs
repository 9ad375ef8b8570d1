//! Events and their 128-byte form, the same on the wire, in the log and in memory.
//!
//! All kinds have `id` at 0, `ledger` at 112, `code` at 116, `flags` at 118 and `timestamp` at 120,
//! little-endian. Bits 12–15 of `flags` are the kind, so that a batch is an array of equal cells.
//! FORMAT.md, section 3, has the tables.

mod bytes;
mod flags;
mod name_text;
mod naming;

use num_enum::TryFromPrimitive;

use super::ids::{AccountId, Amount, Code, EventId, LedgerId, Offset, PartitionId, Timestamp};

pub use bytes::{event_flags, event_id, event_kind};
pub use flags::{AccountFlags, CloseFlags, DescribeFlags, GuardFlags, NameFlags, TransferFlags};
pub use name_text::{NAME_BYTES_MAX, NameError, NameText, SCALE_MAX};

/// Size of every event in bytes.
pub const EVENT_BYTES: usize = 128;
/// An event on the wire and in the log.
pub type EventBytes = [u8; EVENT_BYTES];
/// Size of a [`Resolved`] in bytes.
pub const RESOLVED_BYTES: usize = 64;
/// A [`Resolved`] on the wire and in the log.
pub type ResolvedBytes = [u8; RESOLVED_BYTES];

/// Flag of every kind of event: this event and the next succeed or fail together.
pub const FLAG_LINKED: u16 = 1;

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum EventKind {
    /// Move money, reserve it, or resolve a reservation.
    Transfer = 0,
    /// Create an account.
    Account = 1,
    /// Check a condition on an account, in a linked chain.
    Guard = 2,
    /// End a pending transfer whose time is over. Written by the leader only.
    Expire = 3,
    /// Close or reopen an account.
    Close = 4,
    /// A frame of another partition's transfers; its arrivals follow. Written by the leader only.
    Mail = 5,
    /// A transfer that another partition has prepared. Written by the leader only.
    Arrival = 6,
    /// What another partition has said of a transfer that was prepared here. Written by the leader only.
    Word = 7,
    /// A guard of a chain that another partition has prepared. Written by the leader only.
    GuardArrival = 8,
    /// The outcome of a chain that was prepared here and that another partition has handed on. Written by the leader only.
    WordArrival = 9,
    /// A striped account that another partition has created. Written by the leader only.
    AccountArrival = 10,
    /// A striped account was closed or reopened by another partition. Written by the leader only.
    CloseArrival = 11,
    /// Name an account.
    Name = 12,
    /// Describe a ledger.
    Describe = 13,
}

impl EventKind {
    /// It has come from another partition.
    pub fn arrives(self) -> bool {
        matches!(
            self,
            Self::Arrival
                | Self::GuardArrival
                | Self::WordArrival
                | Self::AccountArrival
                | Self::CloseArrival
        )
    }
}

/// An account: a request to create one (balances, version and timestamp are zero), or its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its id; the upper 32 bits are the book.
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
    /// Number of changes: 0 after creation, one more with each event that changes the account.
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
    /// Its id, which has one verdict for ever.
    pub id: EventId,
    /// Account to debit. Zero when posting or voiding: that of the pending transfer.
    pub debit_account_id: AccountId,
    /// Account to credit. Zero when posting or voiding: that of the pending transfer.
    pub credit_account_id: AccountId,
    /// Minor units. An upper limit when balancing. Zero when posting or voiding: the whole amount.
    pub amount: Amount,
    /// The pending transfer to post or void.
    pub pending_id: EventId,
    /// The user's own.
    pub user_data_128: u128,
    /// The user's own; with [`TransferFlags::BOOKED`] the time of business.
    pub user_data_64: u64,
    /// The user's own.
    pub user_data_32: u32,
    /// How long a pending transfer reserves, in seconds. Zero: until it is resolved.
    pub timeout_seconds: u32,
    /// Asset of both accounts. Zero when posting or voiding: that of the pending transfer.
    pub ledger: LedgerId,
    /// Reason. Zero when posting or voiding: that of the pending transfer.
    pub code: Code,
    /// What kind of transfer.
    pub flags: TransferFlags,
    /// Log time of the decision; zero in a request.
    pub timestamp: Timestamp,
}

/// A condition on an account. If it does not hold, the whole chain is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guard {
    /// Its id, which has one verdict for ever.
    pub id: EventId,
    /// The account to check.
    pub account_id: AccountId,
    /// Smallest available amount, with one of the `AVAILABLE` flags.
    pub available: Amount,
    /// Expected version, with [`GuardFlags::VERSION`].
    pub version: u64,
    /// Which conditions are checked.
    pub flags: GuardFlags,
}

/// The expiry of a pending transfer. Only the leader writes it. It has no id of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Expire {
    /// The pending transfer whose reservation ends.
    pub pending_id: EventId,
}

/// Closes an account, or reopens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Close {
    /// Its id, which has one verdict for ever.
    pub id: EventId,
    /// The account to close or reopen.
    pub account_id: AccountId,
    /// Close or reopen.
    pub flags: CloseFlags,
}

/// Names an account, for people; [`NameText::NONE`] takes its name away. Two accounts may have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Name {
    /// Its id, which has one verdict for ever.
    pub id: EventId,
    /// The account.
    pub account_id: AccountId,
    /// What it is called from now on.
    pub name: NameText,
    /// Whether it is in a chain.
    pub flags: NameFlags,
}

/// Says what the amounts of a ledger are. Partition 0 decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Describe {
    /// Its id, which has one verdict for ever.
    pub id: EventId,
    /// The ledger.
    pub ledger: LedgerId,
    /// What its asset is called, such as `USD`.
    pub name: NameText,
    /// Digits behind the point: an amount of 1234 is shown as 12.34 at scale 2. At most [`SCALE_MAX`].
    pub scale: u8,
    /// Whether the scale may change.
    pub flags: DescribeFlags,
}

/// The beginning of what one frame has brought from another partition. Only the leader writes it. It has no id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mail {
    /// Where it comes from.
    pub home: PartitionId,
    /// Place of the last arrival before this frame; 0 before the first.
    pub previous: u64,
    /// Everything below this place has its word, which may be that it was handed on.
    pub settled_below: u64,
}

/// What another partition has prepared or, of what was prepared here, has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// What was sent there.
    pub sent: Sent,
    /// Its place in the stream: the offset of its record at the sender.
    pub place: u64,
}

/// What one partition sends to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// A transfer as its client has sent it, but for the amount, which home may have reduced; or the end of a reservation
    /// that spans, with the reservation's accounts, ledger and code, and as amount what is posted or, with
    /// [`TransferFlags::VOID_PENDING`], released. An expiry is a voiding without an id. Its timestamp is zero.
    Transfer(Transfer),
    /// A guard of a linked chain.
    Guard(Guard),
    /// The outcome of what has arrived from the partition that it goes to, and that was handed on.
    Word(Word),
    /// A striped account as its home has created it.
    Account(Account),
    /// The closing or reopening of a striped account.
    Close(Close),
}

/// What was said of a transfer in doubt. Only the leader writes it. It has no id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// The transfer.
    pub id: EventId,
    /// Its place: the offset of its record here.
    pub place: u64,
    /// What was decided: [`super::Verdict::Ok`] or a refusal; or [`super::Verdict::InDoubt`] if it was prepared there, too,
    /// and handed on.
    pub verdict: super::Verdict,
    /// What was moved or reserved; zero if it was refused, or only released.
    pub amount: Amount,
    /// The reservation that was ended; zero for any other transfer.
    pub pending_id: EventId,
    /// The next word is on the next event of the same chain.
    pub is_linked: bool,
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
    /// Begin what another partition has sent.
    Mail(Mail),
    /// Take another partition's transfer, guard or outcome.
    Arrival(Arrival),
    /// Settle what was in doubt.
    Word(Word),
    /// Name an account.
    Name(Name),
    /// Describe a ledger.
    Describe(Describe),
}

/// Effective accounts and amount of an accepted post, void, expiry or balancing transfer, which the
/// event alone does not tell. Stored in the entry beside the events, so that a reader of the log
/// needs no state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// Account whose debits changed.
    pub debit_account_id: AccountId,
    /// Account whose credits changed.
    pub credit_account_id: AccountId,
    /// Amount that was posted, reserved or released.
    pub amount: Amount,
    /// Place of the record in the entry, from 0.
    pub index: u32,
    /// Ledger of the accounts.
    pub ledger: LedgerId,
    /// Code of the pending transfer.
    pub code: Code,
}

/// Verdict on an event, and where its record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The verdict.
    pub verdict: super::Verdict,
    /// Offset of its record; `None` for a malformed event, which is not logged.
    pub offset: Option<Offset>,
}
