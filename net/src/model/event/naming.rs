//! Names of accounts and descriptions of ledgers: events that people read, and that move nothing.

use std::fmt;

use super::bytes::{array_at, put, put_tail, u32_at, u128_at};
use super::{DescribeFlags, EVENT_BYTES, EventBytes, EventKind, NameFlags, event_flags};
use crate::model::{AccountId, Code, EventId, LedgerId};

/// Longest name in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 80;
/// Largest scale: 10^38 is the largest power of ten that an amount can hold.
pub const SCALE_MAX: u8 = 38;

const TEXT_AT: usize = 32;
const SCALE_AT: usize = 16;

/// A name in its place in an event: UTF-8, and zero bytes behind it. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameText([u8; NAME_BYTES_MAX]);

/// Why a text can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Something that is not seen, or that changes how what is beside it is seen.
    #[error(
        "a name has no control characters, no marks that turn text around, and no space at either end"
    )]
    Unseen,
}

impl NameText {
    /// The name of what has none.
    pub const NONE: Self = Self([0; NAME_BYTES_MAX]);

    /// Of a text; an empty one is [`Self::NONE`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if !is_plain(text) {
            return Err(NameError::Unseen);
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        put(&mut bytes, 0, text.as_bytes());
        Ok(Self(bytes))
    }

    /// As they stand in an event; they may be no name.
    pub fn from_bytes(bytes: [u8; NAME_BYTES_MAX]) -> Self {
        Self(bytes)
    }

    /// As they stand in an event.
    pub fn to_bytes(self) -> [u8; NAME_BYTES_MAX] {
        self.0
    }

    /// The text; `None` if these bytes are no name. Those of the log are.
    pub fn text(&self) -> Option<&str> {
        let end = self.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        std::str::from_utf8(&self.0[..end]).ok().filter(|text| is_plain(text))
    }

    /// There is no name.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Nothing in it hides, or turns around what is beside it.
fn is_plain(text: &str) -> bool {
    let hides = |one: char| {
        one.is_control()
            || matches!(one, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.trim() == text && !text.contains(hides)
}

impl Default for NameText {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for NameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().unwrap_or_default())
    }
}

impl fmt::Debug for NameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
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

impl Name {
    /// Encodes. Bytes that a name does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        put(&mut bytes, 16, &self.account_id.0.to_le_bytes());
        put(&mut bytes, TEXT_AT, &self.name.0);
        put_tail(&mut bytes, LedgerId(0), Code(0), EventKind::Name, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a name does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            account_id: AccountId(u128_at(bytes, 16)),
            name: NameText(array_at(bytes, TEXT_AT)),
            flags: NameFlags(event_flags(bytes)),
        }
    }
}

impl Describe {
    /// Encodes. Bytes that a description does not use are zero.
    pub fn to_bytes(&self) -> EventBytes {
        let mut bytes = [0; EVENT_BYTES];
        put(&mut bytes, 0, &self.id.0.to_le_bytes());
        bytes[SCALE_AT] = self.scale;
        put(&mut bytes, TEXT_AT, &self.name.0);
        put_tail(&mut bytes, self.ledger, Code(0), EventKind::Describe, self.flags.0);
        bytes
    }

    /// Decodes. Bytes that a description does not use are ignored.
    pub fn from_bytes(bytes: &EventBytes) -> Self {
        Self {
            id: EventId(u128_at(bytes, 0)),
            ledger: LedgerId(u32_at(bytes, 112)),
            name: NameText(array_at(bytes, TEXT_AT)),
            scale: bytes[SCALE_AT],
            flags: DescribeFlags(event_flags(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_no_name() {
        for good in ["", "Anna Novák", "ΩΜΕΓΑ", "日本", "a", &"x".repeat(NAME_BYTES_MAX)] {
            let name = NameText::new(good).unwrap();
            assert_eq!(name.text(), Some(good));
            assert_eq!(NameText::from_bytes(name.to_bytes()), name);
            assert_eq!(name.is_none(), good.is_empty());
        }
        for bad in ["a\0b", "a\n", " a", "a ", "a\u{202e}b", "\u{feff}a", "a\u{7f}"] {
            assert_eq!(NameText::new(bad), Err(NameError::Unseen), "{bad:?}");
        }
        assert_eq!(NameText::new(&"é".repeat(41)), Err(NameError::TooLong(82)));
        let mut bytes = NameText::new("ab").unwrap().to_bytes();
        bytes[10] = b'c'; // behind a gap
        assert_eq!(NameText::from_bytes(bytes).text(), None);
        assert_eq!(NameText::from_bytes([0xff; NAME_BYTES_MAX]).text(), None);
    }
}
