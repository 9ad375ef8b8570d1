//! Reading the log: a page from an offset, or a subscription that follows the log as it grows.

use rkyv::with::InlineAsBox;

use super::{Message, MessageError, at_most};
use crate::entry::{EntryError, EntryHeader, HEADER_BYTES, decode_entry};
use crate::frame::Kind;
use crate::limits::{CREDIT_BYTES_MAX, PAGE_BODY_BYTES_MAX};

/// Asks for the entries from an offset on.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ReadLog {
    /// As in [`super::LookupAccounts::at_least`].
    pub at_least: u64,
    /// The first record wanted. The first entry contains it and may start before it.
    pub from: u64,
    /// Bytes of entries wanted. One entry is sent even if it is larger.
    pub bytes_max: u32,
}

/// Asks for the entries from an index on, those without records included: all that the chain of hashes
/// goes through. Answered by [`Kind::EntriesPage`].
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ReadEntries {
    /// As in [`super::LookupAccounts::at_least`].
    pub at_least: u64,
    /// The first entry wanted; they are counted from 1.
    pub from_index: u64,
    /// Bytes of entries wanted. One entry is sent even if it is larger.
    pub bytes_max: u32,
}

/// Asks for the entries from an offset on, those to come included. Answered by any number of
/// frames of [`Kind::Feed`] with this request's id.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Subscribe {
    /// The first record wanted, as in [`ReadLog::from`].
    pub from: u64,
    /// Bytes of entries that the server may send before it waits for [`Credit`]. A page is sent
    /// while any credit is left.
    pub credit_bytes: u64,
}

/// Gives a subscription more credit. Carries the subscription's request id and has no answer.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Credit {
    /// Bytes added.
    pub bytes: u64,
}

/// Ends a subscription. Carries the subscription's request id; its answer is the last with that id.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize)]
pub struct Unsubscribe {
    /// 0.
    pub reserved: u32,
}

/// The subscription has ended.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct UnsubscribeReply {
    /// First record that was not sent: where to continue.
    pub next_offset: u64,
}

/// Entries of the log, verbatim.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct LogPage<'a> {
    /// Where to continue: the offset after the last entry; `from` if there is none.
    pub next_offset: u64,
    /// Everything below this offset is durable. Only durable entries are sent.
    pub durable_offset: u64,
    /// Whole entries, concatenated without padding: [`crate::entry`].
    #[rkyv(with = InlineAsBox)]
    pub entries: &'a [u8],
}

macro_rules! any_content {
    ($($message:ident $kind:ident,)*) => {
        $(impl Message for $message {
            const KIND: Kind = Kind::$kind;
            type View = rkyv::Archived<$message>;

            fn check(_: &Self::View) -> Result<(), MessageError> {
                Ok(())
            }
        })*
    };
}
any_content!(ReadLog ReadLog, ReadEntries ReadEntries, Unsubscribe Unsubscribe, UnsubscribeReply UnsubscribeReply,);

fn credit_is_bounded(bytes: u64) -> Result<(), MessageError> {
    at_most("the credit", bytes as usize, CREDIT_BYTES_MAX as usize)
}

impl Message for Subscribe {
    const KIND: Kind = Kind::Subscribe;
    type View = ArchivedSubscribe;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        credit_is_bounded(view.credit_bytes.to_native())
    }
}

impl Message for Credit {
    const KIND: Kind = Kind::Credit;
    type View = ArchivedCredit;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        credit_is_bounded(view.bytes.to_native())
    }
}

impl Message for LogPage<'_> {
    const KIND: Kind = Kind::LogPage;
    type View = ArchivedLogPage<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the page", view.entries.len(), PAGE_BODY_BYTES_MAX)
    }
}

impl ArchivedLogPage<'_> {
    /// The entries of this page. Each one's checksum is verified when it is reached.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.entries)
    }
}

/// Concatenated entries. Ends after the first bad one.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// Over the bytes of a page.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(EntryHeader, &'a [u8]), EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let decoded = decode_entry(self.rest);
        self.rest = match &decoded {
            Ok((_, body)) => self.rest.get(HEADER_BYTES + body.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(decoded)
    }
}
