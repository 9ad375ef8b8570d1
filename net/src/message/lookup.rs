//! Reads by id: accounts, transfers and other events, verdicts.
//!
//! Every read says how fresh the state must be ([`super::Freshness`]). Every answer says which
//! offset it reflects.

use num_enum::TryFromPrimitive;
use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most};
use crate::frame::Kind;
use crate::limits::{LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX, STATUS_IDS_MAX};
use crate::model::{EventBytes, Offset, ResolvedBytes, Verdict};

/// Asks for accounts by id.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupAccounts<'a> {
    /// Number of the [`super::Freshness`] asked for.
    pub at_least: u64,
    /// The accounts' ids.
    #[rkyv(with = InlineAsBox)]
    pub ids: &'a [u128],
}

/// The accounts that exist.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupAccountsReply<'a> {
    /// The state includes everything below this offset and nothing else.
    pub next_offset: u64,
    /// The place of each account in the request, ascending.
    #[rkyv(with = InlineAsBox)]
    pub found: &'a [u32],
    /// The accounts, each in its 128-byte form.
    #[rkyv(with = InlineAsBox)]
    pub accounts: &'a [EventBytes],
}

/// Asks for a page of all accounts of a partition.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListAccounts {
    /// As in [`LookupAccounts::at_least`].
    pub at_least: u64,
    /// 0 for the first page, then [`ListAccountsReply::next_cursor`].
    pub after: u64,
    /// Accounts wanted.
    pub limit: u32,
}

/// A page of accounts, in order of creation.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListAccountsReply<'a> {
    /// As in [`LookupAccountsReply::next_offset`].
    pub next_offset: u64,
    /// Where the next page starts; 0 on the last page.
    pub next_cursor: u64,
    /// The accounts, each in its 128-byte form.
    #[rkyv(with = InlineAsBox)]
    pub accounts: &'a [EventBytes],
}

/// Asks for transfers, guards and closes by id.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupTransfers<'a> {
    /// As in [`LookupAccounts::at_least`].
    pub at_least: u64,
    /// The events' ids.
    #[rkyv(with = InlineAsBox)]
    pub ids: &'a [u128],
}

/// An event that was decided, as it stands in the log.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct EventState {
    /// Its place in the request.
    pub index: u32,
    /// Number of its [`Verdict`].
    pub verdict: u8,
    /// 1 if `resolved` is set, else 0.
    pub has_resolved: u8,
    /// Offset of its record.
    pub offset: u64,
    /// Log time of its record.
    pub timestamp: u64,
    /// As the client sent it.
    pub event: EventBytes,
    /// Effective accounts and amount; zero if not set.
    pub resolved: ResolvedBytes,
}

/// The events that were decided on this partition, in the order of the request.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupTransfersReply<'a> {
    /// As in [`LookupAccountsReply::next_offset`].
    pub next_offset: u64,
    /// The events.
    #[rkyv(with = InlineAsBox)]
    pub states: &'a [EventState],
}

/// Accounts and events have separate ids: which of them are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromPrimitive)]
#[repr(u8)]
pub enum IdNamespace {
    /// Transfers, guards, closes and opaque records.
    Event = 0,
    /// Accounts.
    Account = 1,
}

impl IdNamespace {
    /// Namespace of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::try_from(number).ok()
    }
}

/// Asks for the verdicts of ids, such as those of a request that was not answered.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Status<'a> {
    /// As in [`LookupAccounts::at_least`].
    pub at_least: u64,
    /// Number of the [`IdNamespace`].
    pub namespace: u8,
    /// The ids.
    #[rkyv(with = InlineAsBox)]
    pub ids: &'a [u128],
}

/// Verdict of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct VerdictState {
    /// 1 if the id was decided and is durable, 0 if this partition does not know it.
    pub known: u8,
    /// Number of its [`Verdict`]; 0 if not known.
    pub verdict: u8,
    /// Offset of its record; 0 if not known.
    pub offset: u64,
}

/// Verdicts, one for each id, in the order of the request.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct StatusReply<'a> {
    /// As in [`LookupAccountsReply::next_offset`].
    pub next_offset: u64,
    /// The verdicts.
    #[rkyv(with = InlineAsBox)]
    pub states: &'a [VerdictState],
}

impl Message for LookupAccounts<'_> {
    const KIND: Kind = Kind::LookupAccounts;
    type View = ArchivedLookupAccounts<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the look-up", view.ids.len(), LOOKUP_IDS_MAX)
    }
}

impl Message for LookupAccountsReply<'_> {
    const KIND: Kind = Kind::LookupAccountsReply;
    type View = ArchivedLookupAccountsReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the answer", view.accounts.len(), LOOKUP_IDS_MAX)?;
        let ascending = view.found.windows(2).all(|pair| pair[0] < pair[1]);
        if view.found.len() == view.accounts.len() && ascending {
            Ok(())
        } else {
            Err(MessageError::Contradiction("the accounts found are not in order"))
        }
    }
}

impl ArchivedLookupAccountsReply<'_> {
    /// The accounts found, each with its place in the request, ascending.
    pub fn accounts(&self) -> impl Iterator<Item = (usize, &EventBytes)> {
        self.found.iter().map(|index| index.to_native() as usize).zip(self.accounts.iter())
    }
}

impl Message for ListAccounts {
    const KIND: Kind = Kind::ListAccounts;
    type View = ArchivedListAccounts;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.limit.to_native() as usize, LIST_ACCOUNTS_MAX)
    }
}

impl Message for ListAccountsReply<'_> {
    const KIND: Kind = Kind::ListAccountsReply;
    type View = ArchivedListAccountsReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.accounts.len(), LIST_ACCOUNTS_MAX)
    }
}

impl Message for LookupTransfers<'_> {
    const KIND: Kind = Kind::LookupTransfers;
    type View = ArchivedLookupTransfers<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the look-up", view.ids.len(), LOOKUP_IDS_MAX)
    }
}

impl Message for LookupTransfersReply<'_> {
    const KIND: Kind = Kind::LookupTransfersReply;
    type View = ArchivedLookupTransfersReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the answer", view.states.len(), LOOKUP_IDS_MAX)?;
        let ascending = view.states.windows(2).all(|pair| pair[0].index < pair[1].index);
        let known = view
            .states
            .iter()
            .all(|state| Verdict::from_number(state.verdict).is_some() && state.has_resolved <= 1);
        if ascending && known {
            Ok(())
        } else {
            Err(MessageError::Contradiction("the events found are out of order or not known"))
        }
    }
}

impl Message for Status<'_> {
    const KIND: Kind = Kind::Status;
    type View = ArchivedStatus<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the question", view.ids.len(), STATUS_IDS_MAX)?;
        match IdNamespace::from_number(view.namespace) {
            Some(_) => Ok(()),
            None => Err(MessageError::Contradiction("no such namespace of ids")),
        }
    }
}

impl Message for StatusReply<'_> {
    const KIND: Kind = Kind::StatusReply;
    type View = ArchivedStatusReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the answer", view.states.len(), STATUS_IDS_MAX)?;
        let known = |state: &ArchivedVerdictState| {
            state.known <= 1 && Verdict::from_number(state.verdict).is_some()
        };
        if view.states.iter().all(known) {
            Ok(())
        } else {
            Err(MessageError::Contradiction("a verdict is not known to this version"))
        }
    }
}

impl ArchivedVerdictState {
    /// Verdict and offset; `None` if the partition does not know the id.
    pub fn decided(&self) -> Option<(Verdict, Offset)> {
        let verdict = Verdict::from_number(self.verdict)?;
        (self.known == 1).then(|| (verdict, Offset(self.offset.to_native())))
    }
}
