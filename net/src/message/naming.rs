//! Names of accounts and descriptions of ledgers.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most};
use crate::frame::Kind;
use crate::limits::{LEDGERS_MAX, LOOKUP_NAMES_MAX};
use crate::model::{NAME_BYTES_MAX, NameText, SCALE_MAX};

/// Asks what accounts are called.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupNames<'a> {
    /// Number of the [`super::Freshness`] asked for.
    pub at_least: u64,
    /// The accounts' ids.
    #[rkyv(with = InlineAsBox)]
    pub ids: &'a [u128],
}

/// Names of those that have one.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LookupNamesReply<'a> {
    /// The state includes everything below this offset and nothing else.
    pub next_offset: u64,
    /// The place of each account in the request, ascending.
    #[rkyv(with = InlineAsBox)]
    pub found: &'a [u32],
    /// Their names, as they stand in events.
    #[rkyv(with = InlineAsBox)]
    pub names: &'a [[u8; NAME_BYTES_MAX]],
}

/// Asks which accounts have a name that begins so, whatever is in capitals.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct FindNames<'a> {
    /// As in [`LookupNames::at_least`].
    pub at_least: u64,
    /// 0 for the first page, then [`FindNamesReply::next_cursor`].
    pub after: u128,
    /// Names wanted.
    pub limit: u32,
    /// The beginning; empty: all names.
    #[rkyv(with = InlineAsBox)]
    pub prefix: &'a [u8],
}

/// A page of names, in the order of their letters, as far as their first 12 bytes tell.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct FindNamesReply<'a> {
    /// As in [`LookupNamesReply::next_offset`].
    pub next_offset: u64,
    /// Where the next page starts; 0 on the last page. A page may have few names, or none, and not be the last.
    pub next_cursor: u128,
    /// The accounts' ids.
    #[rkyv(with = InlineAsBox)]
    pub ids: &'a [u128],
    /// Their names, as they stand in events.
    #[rkyv(with = InlineAsBox)]
    pub names: &'a [[u8; NAME_BYTES_MAX]],
}

/// Asks partition 0 what ledgers are called.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListLedgers {
    /// As in [`LookupNames::at_least`].
    pub at_least: u64,
}

/// A described ledger.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LedgerRow {
    /// Its number.
    pub ledger: u32,
    /// Digits behind the point.
    pub scale: u8,
    /// What its asset is called.
    pub name: [u8; NAME_BYTES_MAX],
}

/// The ledgers that were described, ascending.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ListLedgersReply<'a> {
    /// As in [`LookupNamesReply::next_offset`].
    pub next_offset: u64,
    /// The ledgers.
    #[rkyv(with = InlineAsBox)]
    pub ledgers: &'a [LedgerRow],
}

impl Message for LookupNames<'_> {
    const KIND: Kind = Kind::LookupNames;
    type View = ArchivedLookupNames<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the look-up", view.ids.len(), LOOKUP_NAMES_MAX)
    }
}

impl Message for LookupNamesReply<'_> {
    const KIND: Kind = Kind::LookupNamesReply;
    type View = ArchivedLookupNamesReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the answer", view.names.len(), LOOKUP_NAMES_MAX)?;
        let ascending = view.found.windows(2).all(|pair| pair[0] < pair[1]);
        if view.found.len() == view.names.len() && ascending {
            Ok(())
        } else {
            Err(MessageError::Contradiction("the names found are not in order"))
        }
    }
}

impl ArchivedLookupNamesReply<'_> {
    /// The names found, each with its place in the request, ascending.
    pub fn names(&self) -> impl Iterator<Item = (usize, NameText)> {
        let names = self.names.iter().map(|name| NameText::from_bytes(*name));
        self.found.iter().map(|index| index.to_native() as usize).zip(names)
    }
}

impl Message for FindNames<'_> {
    const KIND: Kind = Kind::FindNames;
    type View = ArchivedFindNames<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.limit.to_native() as usize, LOOKUP_NAMES_MAX)?;
        at_most("the beginning of a name", view.prefix.len(), NAME_BYTES_MAX)?;
        if std::str::from_utf8(&view.prefix).is_ok() {
            Ok(())
        } else {
            Err(MessageError::Contradiction("the beginning of a name is not UTF-8"))
        }
    }
}

impl Message for FindNamesReply<'_> {
    const KIND: Kind = Kind::FindNamesReply;
    type View = ArchivedFindNamesReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.names.len(), LOOKUP_NAMES_MAX)?;
        if view.ids.len() == view.names.len() {
            Ok(())
        } else {
            Err(MessageError::Contradiction("not as many names as accounts"))
        }
    }
}

impl Message for ListLedgers {
    const KIND: Kind = Kind::ListLedgers;
    type View = ArchivedListLedgers;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for ListLedgersReply<'_> {
    const KIND: Kind = Kind::ListLedgersReply;
    type View = ArchivedListLedgersReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the answer", view.ledgers.len(), LEDGERS_MAX)?;
        let ascending = view.ledgers.windows(2).all(|pair| pair[0].ledger < pair[1].ledger);
        if ascending && view.ledgers.iter().all(|row| row.scale <= SCALE_MAX) {
            Ok(())
        } else {
            Err(MessageError::Contradiction("ledgers are out of order, or have no such scale"))
        }
    }
}
