//! The server's status: named numbers and texts, so that it can grow without a new version.

use super::{Message, MessageError, at_most, label};
use crate::frame::Kind;
use crate::limits::STATUS_ROWS_MAX;
use rkyv::with::InlineAsBox;

/// What the names of texts begin with that a person should look at.
pub const TROUBLE: &str = "trouble_";

/// Partition of a row about the whole node.
pub const NO_PARTITION: u16 = u16::MAX;

/// Asks the server for its status.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize)]
pub struct ServerStatus {
    /// 0.
    pub reserved: u32,
}

/// A number with its unit in its name, such as `free_bytes`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct NumberRow<'a> {
    /// Partition that it is about, or [`NO_PARTITION`].
    pub partition: u16,
    /// The number.
    pub value: u64,
    /// Name, the unit last.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
}

/// A text, such as `version`.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct TextRow<'a> {
    /// Partition that it is about, or [`NO_PARTITION`].
    pub partition: u16,
    /// Name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// The text.
    #[rkyv(with = InlineAsBox)]
    pub text: &'a str,
}

/// Status of the server. A client also shows names that it does not know.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct ServerStatusReply<'a> {
    /// Numbers.
    #[rkyv(with = InlineAsBox)]
    pub numbers: &'a [NumberRow<'a>],
    /// Texts.
    #[rkyv(with = InlineAsBox)]
    pub texts: &'a [TextRow<'a>],
}

impl Message for ServerStatus {
    const KIND: Kind = Kind::ServerStatus;
    type View = ArchivedServerStatus;

    fn check(_: &Self::View) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for ServerStatusReply<'_> {
    const KIND: Kind = Kind::ServerStatusReply;
    type View = ArchivedServerStatusReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the status", view.numbers.len() + view.texts.len(), STATUS_ROWS_MAX)?;
        for row in view.numbers.iter() {
            label("a name", &row.name)?;
        }
        for row in view.texts.iter() {
            label("a name", &row.name)?;
            label("a text", &row.text)?;
        }
        Ok(())
    }
}
